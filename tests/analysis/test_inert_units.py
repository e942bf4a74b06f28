import numpy as np
import pandas as pd
import pytest

from analysis.inert_units import INERT, inert_units, sample_differences
from tests.analysis.law_tables import at_law, tables
from tests.analysis.sampled_tables import samples_of


def differences(**largest: float) -> pd.DataFrame:
    """Of generated images of trials, by their ids."""
    return pd.DataFrame(
        {
            "trial_id": list(largest),
            "kind": "generated",
            "shape": "1x2x2",
            "images": 10,
            "changed": 3,
            "largest_difference": list(largest.values()),
        }
    )


def test_the_largest_difference_against_numpy() -> None:
    generator = np.random.default_rng(0)
    parts, expected = [], {}
    for trial_id, kind, shape in [
        ("a", "generated", (5, 3, 3)),
        ("a", "reconstruction", (2, 3, 3)),
        ("b", "generated", (4, 12)),
    ]:
        images, without = generator.random(shape), generator.random(shape)
        without[::2] = images[::2] + generator.uniform(-INERT, INERT, without[::2].shape)
        originals = images if kind == "reconstruction" else None
        parts.append(samples_of(trial_id, kind, images, without, originals))
        differ = np.abs(images - without).reshape(shape[0], -1).max(axis=1)
        expected[trial_id, kind] = (shape[0], (differ > INERT).sum(), differ.max())
    samples = pd.concat(parts).sample(frac=1, random_state=1)
    found = sample_differences(samples)
    assert {
        (trial_id, kind): (images, changed, largest)
        for trial_id, kind, _, images, changed, largest in found.to_numpy().tolist()
    } == expected
    assert found["shape"].tolist() == ["1x3x3", "1x3x3", "12"]
    by_trial = [sample_differences(rows) for _, rows in samples.groupby("trial_id")]
    pd.testing.assert_frame_equal(pd.concat(by_trial, ignore_index=True), found)


def test_an_image_that_is_no_number_is_not_passed_over() -> None:
    rows = samples_of("a", "generated", np.zeros((3, 2, 2)))
    rows.loc[1, "largest_difference"] = None
    assert sample_differences(rows)["largest_difference"].isna().tolist() == [True]
    assert len(sample_differences(rows.head(0))) == 0


def test_one_row_per_trial_that_inactive_means_something_in() -> None:
    rows = [
        {"active_units": 1},
        {"active_units": 2},  # none is inactive
        {"active_units": 1, "objective": "quadratic_penalty"},
        {"active_units": 1, "status": "diverged"},
        {"active_units": 1},  # without images
        {"active_units": 0},
        {"active_units": 1},  # no numbers
        {"active_units": 1, "beta": 0.0},
    ]
    ids = list("abcdefgh")
    rows = [row | {"trial_id": trial_id} for row, trial_id in zip(rows, ids, strict=True)]
    trials, units = tables([at_law(0.01, -0.5)] + [at_law(0.01, 0.02)] * 7, rows)
    images = differences(a=INERT, b=0.0, c=0.1, d=0.1, f=INERT + 1e-9, g=np.nan, h=0.1)
    other = differences(e=0.5).assign(kind="reconstruction")
    found = inert_units(trials, units, pd.concat([images, other])).set_index("trial_id")
    assert found.index.tolist() == ["a", "b", "f"]
    assert found["inactive"].tolist() == [1, 0, 2]
    assert found["inert"].tolist() == [True, True, False]
    assert found["verdict"].tolist() == ["train longer", "converged", "converged"]
    assert found["worst_residual"].tolist() == pytest.approx([0.5, 0.02, 0.02])
    assert found["images"].tolist() == [10, 10, 10]


def test_a_trial_counts_once() -> None:
    trials, units = tables([at_law(0.0)], [{"trial_id": "a", "active_units": 0}])
    twice = pd.concat([trials, trials], ignore_index=True)
    assert len(inert_units(twice, units, differences(a=0.01))) == 1
