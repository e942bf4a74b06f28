"""The page on latent space, of hand-made tables: what it says, and what it leaves out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.report.compose import compose_report
from analysis.report.content import Figure, Report, Section, Statement, TableBlock
from analysis.report.html import to_html
from analysis.report.latent_section import latent_section
from analysis.report.markdown import to_markdown
from analysis.report.pictures import picture
from analysis.study_tables import StudyTables
from tests.analysis.latent_tables import (
    codes_of,
    gaussian_codes,
    grid_of,
    star_codes,
    study_of,
    trials_with_and_without,
)
from tests.analysis.report.reported import assert_recomputed, evaluate
from tests.analysis.tables import trials_of


def section_of(tables: StudyTables) -> Section:
    section = latent_section(tables)
    assert section is not None
    return section


def said(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Statement)]


def figures(section: Section) -> dict[str, str]:
    return {block.name: block.caption for block in section.blocks if isinstance(block, Figure)}


def recomputed(tables: StudyTables) -> int:
    """Recompute this section alone: the trials here lack what others are about."""
    page = Report("test", "", (), (section_of(tables),), preamble="", spec="", versions={})
    return assert_recomputed(page, tables)


def of_both_objectives(latent_dim: int = 3, **changes: object) -> StudyTables:
    """Gaussian codes with sampling, a star without; grids of the first seed."""
    trials = trials_with_and_without(latent_dim=latent_dim).assign(**changes)
    codes = [
        codes_of(name, (star_codes if "out" in name else gaussian_codes)(latent_dim, 200, seed))
        for seed, name in enumerate(trials["trial_id"])
    ]
    units = min(latent_dim, 3)
    grids = [grid_of(name, 3, units, latent_dim) for name in ("with-0", "without-0")]
    return study_of(trials, codes, grids)


def in_two_dimensions(labels: bool = True) -> StudyTables:
    trials = trials_of(
        [
            {
                "trial_id": "plane",
                "latent_dim": 2,
                "epochs_trained": 10,
                "dataset_fingerprint": "f" * 16,
            }
        ]
    )
    ways = [
        codes_of(
            "plane",
            gaussian_codes(2, 20, seed=step) * step / 60,
            [1.2, 4.8, 0.6, 0.08][step // 20],
            split="train",
            step=step,
            labels=labels,
        )
        for step in (0, 20, 40, 60)
    ]
    return study_of(trials, [*ways, codes_of("plane", gaussian_codes(2), labels=labels)])


def test_the_claim_of_figure_3() -> None:
    tables = of_both_objectives()
    section = section_of(tables)
    claim, group = said(section)
    assert "Of 3 pairs" in claim
    assert "more Gaussian in shape in 3, " in claim
    assert "more of the prior in 3" in claim
    assert group.startswith("dense-16 on tiles, latent_dim 3, β = 1: with sampling and without")
    assert "over 3 pairs" in group
    assert list(figures(section)) == ["latent-codes", "latent-slices"]
    assert "figure 3" in figures(section)["latent-codes"]
    assert recomputed(tables) >= 2


@pytest.mark.parametrize(
    ("sampled", "verdict", "warns"),
    [
        ("gaussian", "It holds throughout for Gaussian shape, equal axes and filling", False),
        ("stretched", "for Gaussian shape and filling the prior, but not for equal axes.", True),
        ("star", "It holds throughout for none.", True),
    ],
)
def test_verdicts(sampled: str, verdict: str, warns: bool) -> None:
    makers = {
        "gaussian": (gaussian_codes, star_codes, [1.0, 1.0, 1.0]),
        "stretched": (gaussian_codes, star_codes, [1.0, 1.0, 3.0]),
        "star": (star_codes, gaussian_codes, [1.0, 1.2, 1.4]),
    }
    with_sampling, without, widths = makers[sampled]
    trials = trials_with_and_without()
    codes = [
        codes_of(name, without(3, 400, seed) * [1.0, 1.0, 1.4])
        if "out" in name
        else codes_of(name, with_sampling(3, 400, seed) * widths)
        for seed, name in enumerate(trials["trial_id"])
    ]
    claim = next(
        block
        for block in section_of(study_of(trials, codes)).blocks
        if isinstance(block, Statement)
    )
    assert verdict in claim.text
    assert claim.warns is warns


def test_no_other_study_has_the_page() -> None:
    tables = of_both_objectives()
    assert latent_section(study_of(tables.trials, [])) is None
    bare = replace(tables, **dict.fromkeys(("encodings", "grids", "code_statistics"), EMPTY))
    assert latent_section(bare) is None
    assert "latent-space" not in [section.anchor for section in compose_report(bare).sections]
    nothing = replace(bare, trials=tables.trials.head(0))
    assert latent_section(nothing) is None


EMPTY = pd.DataFrame()


def test_a_plane_and_the_ways_there() -> None:
    tables = in_two_dimensions()
    section = section_of(tables)
    shown = figures(section)
    assert list(shown) == ["latent-trajectories", "latent-positions", "latent-codes"]
    assert "10 training images (the first image of each label)" in shown["latent-trajectories"]
    assert "from step 0 to step 60" in shown["latent-trajectories"]
    assert "60 test images, the first 6 of each label, after 10 epochs" in shown["latent-positions"]
    assert "figure 3" not in shown["latent-codes"]
    median, ways = said(section)
    assert "Codes of 1 trial of the objective elbo" in median
    assert ways.endswith(
        "mean σ² is 1.20 at step 0, rises to 4.80 by step 20, is first below 0.1 at step 60, and "
        "0.080 at the last recorded step, 60."
    )
    recomputed(tables)


def test_without_labels() -> None:
    shown = figures(section_of(in_two_dimensions(labels=False)))
    assert "10 training images (the first images)" in shown["latent-trajectories"]
    assert "60 test images, the first, after" in shown["latent-positions"]


def test_sixteen_units_are_shown_by_the_widest_three() -> None:
    tables = of_both_objectives(latent_dim=16)
    shown = figures(section_of(tables))
    assert "Shown are the 3 units of greatest Var μ" in shown["latent-codes"]
    assert "all other units are at zero" in shown["latent-slices"]
    recomputed(tables)


def test_a_single_unit_has_numbers_and_a_line_of_images() -> None:
    tables = of_both_objectives(latent_dim=1)
    section = section_of(tables)
    assert said(section) == []
    assert list(figures(section)) == ["latent-slices"]
    assert (
        "under the prior (the paper's figure 3); unit 0 runs from left to right."
        in figures(section)["latent-slices"]
    )
    (table,) = [block for block in section.blocks if isinstance(block, TableBlock)]
    assert table.frame["henze_zirkler"].notna().all()


def test_grids_alone_and_codes_alone() -> None:
    tables = of_both_objectives()
    none = tables.encodings.head(0)
    grids = replace(tables, encodings=none, code_statistics=tables.code_statistics.head(0))
    assert list(figures(section_of(grids))) == ["latent-slices"]
    assert said(section_of(grids)) == []
    codes = replace(tables, grids=EMPTY)
    assert list(figures(section_of(codes))) == ["latent-codes"]
    vectors = replace(tables, grids=tables.grids.assign(shape="9"))
    assert list(figures(section_of(vectors))) == ["latent-codes"]


def test_codes_that_are_not_numbers_are_told() -> None:
    tables = of_both_objectives()
    broken = tables.encodings.copy()
    images = (broken["trial_id"] == "with-1") & (broken["image"] < 4)
    broken.loc[images, "mean"] = np.nan
    tables = study_of(tables.trials, [broken])
    (line,) = [text for text in said(section_of(tables)) if "not numbers" in text]
    assert line.startswith("4 images of 1 trial ")
    assert "Of 2 pairs" in said(section_of(tables))[0]  # the third has fewer images on one side
    recomputed(tables)


def test_variances_that_are_not_numbers_are_no_circles() -> None:
    tables = in_two_dimensions()
    codes = tables.encodings.copy()
    codes.loc[(codes["image"] == 0) & (codes["split"] == "test"), "variance"] = np.inf
    codes.loc[(codes["image"] == 1) & (codes["step"] == 20), "variance"] = np.nan
    section = section_of(study_of(tables.trials, [codes]))
    assert "60 test images" in figures(section)["latent-positions"]
    for name, size in (("latent-positions", 60), ("latent-trajectories", 39)):
        (figure,) = [b for b in section.blocks if isinstance(b, Figure) and b.name == name]
        sized = [rows for rows in figure.chart.to_dict()["datasets"].values() if "size" in rows[0]]
        assert [len(rows) for rows in sized] == [size]
        assert all(np.isfinite(row["size"]) for row in sized[0])
    (points,) = [b for b in section.blocks if isinstance(b, Figure) and b.name == "latent-codes"]
    assert max(map(len, points.chart.to_dict()["datasets"].values())) == 200


def test_trials_that_failed_change_nothing() -> None:
    tables = in_two_dimensions()
    failed = trials_of([{"trial_id": "failed", "status": "failed", "epochs_trained": None}])
    both = replace(tables, trials=pd.concat([tables.trials, failed], ignore_index=True))
    assert figures(section_of(both)) == figures(section_of(tables))


def test_trials_of_a_random_search_are_shown_under_what_they_share() -> None:
    tables = of_both_objectives()
    beta = tables.trials["beta"].where(tables.trials["objective"] == "elbo", 0.7)
    section = section_of(replace(tables, trials=tables.trials.assign(beta=beta)))
    assert figures(section)["latent-slices"].startswith(
        "dense-16 on tiles, latent_dim 3, seed 0: images"
    )
    assert [line[:22] for line in said(section)] == ["Codes of 3 trials of t"] * 2


def test_too_few_images_to_tell() -> None:
    trials = trials_with_and_without()
    tables = study_of(trials, [codes_of(name, gaussian_codes(3, 2)) for name in trials["trial_id"]])
    section = section_of(tables)
    assert said(section) == []
    assert list(figures(section)) == ["latent-codes"]
    (table,) = [block for block in section.blocks if isinstance(block, TableBlock)]
    assert table.cells()[0].count("") == len(table.frame.columns) - 3


def test_one_seed_has_no_spread() -> None:
    tables = of_both_objectives()
    first = tables.trials["seed"] == 0
    codes = tables.encodings[tables.encodings["trial_id"].isin(["with-0", "without-0"])]
    tables = study_of(tables.trials[first], [codes])
    assert "±" not in said(section_of(tables))[1]
    recomputed(tables)


def test_groups_are_told_apart_and_only_some_are_put_into_words() -> None:
    trials = trials_with_and_without(seeds=2)
    many, codes = [], []
    for number, rate in enumerate((0.1, 0.2, 0.3, 0.4)):
        renamed = trials["trial_id"] + f" {number}"
        many.append(trials.assign(trial_id=renamed, learning_rate=rate, decoder_variance=None))
        codes += [
            codes_of(name, (star_codes if "out" in name else gaussian_codes)(3, 100, seed))
            for seed, name in enumerate(renamed)
        ]
    tables = study_of(pd.concat(many, ignore_index=True), codes)
    claim, *groups = said(section_of(tables))
    assert "Of 8 pairs" in claim
    assert len(groups) == 3
    assert "learning_rate 0.1, β = 1:" in groups[0]
    recomputed(tables)


def test_the_table_can_be_recomputed() -> None:
    tables = of_both_objectives()
    (table,) = [block for block in section_of(tables).blocks if isinstance(block, TableBlock)]
    pd.testing.assert_frame_equal(evaluate(table.recipe, tables), table.frame)


def test_it_is_a_page_and_markdown_and_pictures() -> None:
    tables = of_both_objectives()
    both = study_of(
        pd.concat([tables.trials, in_two_dimensions().trials], ignore_index=True),
        [tables.encodings, in_two_dimensions().encodings],
        [tables.grids, grid_of("plane", 4, 2, 2)],
    )
    report = compose_report(both)
    names = [name for name in report.figures() if name.startswith("latent")]
    assert names == [
        "latent-trajectories",
        "latent-positions",
        "latent-codes",
        "latent-codes-2",
        "latent-slices",
        "latent-slices-2",
    ]
    page, text = to_html(report), to_markdown(report, "figures")
    for name in names:
        assert f'id="figure-{name}"' in page
        assert f"(figures/{name}.png)" in text
        assert picture(report.figures()[name], "png").startswith(b"\x89PNG")
    assert 'href="#latent-space"' in page
    assert "Trials shown, here and below" in figures(section_of(both))["latent-trajectories"]
    assert "Trials shown" not in figures(section_of(both))["latent-positions"]


def test_many_images_are_thinned_evenly() -> None:
    trials = trials_with_and_without(seeds=1)
    codes = [codes_of(name, gaussian_codes(3, 4_000, 1)) for name in trials["trial_id"]]
    section = section_of(study_of(trials, codes))
    (figure,) = [block for block in section.blocks if isinstance(block, Figure)]
    assert "(1,334 of 4,000, evenly spread)" in figure.caption
    points = max(figure.chart.to_dict()["datasets"].values(), key=len)
    assert len(points) == 1_334
