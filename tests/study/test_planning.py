from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import BadInput, DatasetSpec, load_spec, plan_trials, trial_id
from study import planning
from study.planning import PlannedTrial, check_trials, plan_study
from trainables.datasets import ImageData, dataset_fingerprint
from trainables.pack import NUMERICS_VERSION

AXES = {"architecture": "linear", "latent_dim": [2, 3]}
GAUSSIAN = AXES | {"decoder": "gaussian"}


def spec_of(axes: dict[str, Any] = AXES, **fields: Any) -> Any:
    return load_spec({"study": "test", "dataset": "tiles", "axes": axes} | fields)


def images(shape: tuple[int, ...], *values: float, train: int = 20) -> ImageData:
    pixels = np.resize(np.array(values, np.float32), (train, int(np.prod(shape))))
    return ImageData("tiles", shape, pixels, pixels[:5], None, None, "f" * 16)


def planned(axes: dict[str, Any] = AXES, **fields: Any) -> list[PlannedTrial]:
    return plan_study(spec_of(axes, **fields))


def test_ids_are_those_of_the_points_and_their_data() -> None:
    spec = spec_of(GAUSSIAN, dataset=["tiles", {"name": "manifold", "true_dimension": 2}])
    found = plan_study(spec)
    assert [p.trial for p in found] == plan_trials(spec)
    fingerprints = {dataset.label: dataset_fingerprint(dataset) for dataset in spec.dataset}
    assert len(set(fingerprints.values())) == 2
    for p in found:
        assert p.dataset_fingerprint == fingerprints[p.trial.dataset.label]
        assert p.trial_id == trial_id(p.trial, p.dataset_fingerprint, NUMERICS_VERSION)
    assert len({p.trial_id for p in found}) == len(found) == 4


def test_the_name_of_the_study_does_not_enter_the_ids() -> None:
    one, other = (plan_study(spec_of(study=name, description=name)) for name in ("a", "b"))
    assert one == other


def test_a_user_s_array_is_the_same_data_under_another_name(tmp_path: Path) -> None:
    values = np.arange(400, dtype=np.uint8).reshape(40, 10)
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", values)
    ids = [
        [p.trial_id for p in plan_study(spec_of(dataset={"path": str(tmp_path / f"{name}.npy")}))]
        for name in ("one", "two")
    ]
    assert ids[0] == ids[1]
    np.save(tmp_path / "two.npy", values + 1)
    changed = plan_study(spec_of(dataset={"path": str(tmp_path / "two.npy")}))
    assert not {p.trial_id for p in changed} & set(ids[0])


def test_the_same_images_under_two_labels_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((20, 8, 8), np.uint8))
    datasets = [{"path": str(tmp_path / f"{name}.npy")} for name in ("a", "b")]
    with pytest.raises(BadInput, match=r"^dataset: 'a' and 'b' hold the same images"):
        plan_study(spec_of(dataset=datasets))


def test_data_and_architectures_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each trial: a fingerprint may take reading a file."""
    asked: list[str] = []

    def fingerprint(dataset: DatasetSpec, _: Path | None) -> str:
        asked.append(dataset.label)
        return "f" * 16

    monkeypatch.setattr(planning, "dataset_fingerprint", fingerprint)
    monkeypatch.setattr(planning, "check_shape", lambda net, _: asked.append(net.name))
    axes = {"architecture": ["linear", "dense-8"], "latent_dim": 2, "seed": {"range": [1, 500]}}
    trials = planned(axes)
    check_trials(trials, {"tiles": images((1, 8, 8), 0, 1)})
    assert len(trials) == 1000
    assert sorted(asked) == ["dense-8", "linear", "tiles"]


def test_fitting_trials_pass() -> None:
    axes = AXES | {"architecture": ["linear", {"family": "conv", "channels": [4, 4, 4]}]}
    check_trials(planned(axes), {"tiles": images((1, 8, 8), 0, 0.5, 1)})


@pytest.mark.parametrize("values", [(-0.01, 0.5), (0.5, 1.01), (0, 255)])
def test_bernoulli_needs_the_unit_interval(values: tuple[float, ...]) -> None:
    data = {"tiles": images((10,), *values)}
    with pytest.raises(BadInput, match=r"^axes\.decoder: 'bernoulli' needs values in \[0, 1\]"):
        check_trials(planned(), data)
    check_trials(planned(AXES | {"decoder": ["gaussian", "gaussian_learned"]}), data)
    with pytest.raises(BadInput, match="bernoulli"):
        check_trials(planned(AXES | {"decoder": ["gaussian", "bernoulli"]}), data)


def test_values_of_the_test_images_count_too() -> None:
    data = images((10,), 0, 1)
    outside = ImageData("tiles", (10,), data.train, data.test - 1, None, None, "f" * 16)
    with pytest.raises(BadInput, match="from -1 to 1"):
        check_trials(planned(), {"tiles": outside})


@pytest.mark.parametrize(
    ("shape", "architecture"),
    [
        ((64,), {"family": "conv", "channels": [4]}),
        ((1, 8, 8), {"family": "conv", "channels": [4, 4, 4, 4]}),
        ((1, 8, 8), "paper-conv"),
        ((1, 1, 9), {"family": "conv", "channels": [4]}),
    ],
)
def test_architectures_that_cannot_take_the_images(
    shape: tuple[int, ...], architecture: Any
) -> None:
    trials = planned(AXES | {"architecture": ["linear", architecture]})
    with pytest.raises(BadInput, match=r"^axes\.architecture: .*\(dataset 'tiles'\)$"):
        check_trials(trials, {"tiles": images(shape, 0, 1)})


def test_batch_normalisation_needs_two_images() -> None:
    axes = AXES | {"architecture": {"family": "conv", "channels": [4]}}
    data = images((1, 8, 8), 0, 1)
    with pytest.raises(BadInput, match=r"^training\.batch_size: 1 image per step"):
        check_trials(planned(axes, training={"batch_size": 1}), {"tiles": data})
    with pytest.raises(BadInput, match=r"^training\.batch_size: 1 image per step"):
        check_trials(planned(axes), {"tiles": images((1, 8, 8), 0, 1, train=1)})
    check_trials(planned(axes, training={"batch_size": 2}), {"tiles": data})
    check_trials(planned(training={"batch_size": 1}), {"tiles": data})


def test_each_dataset_is_checked_with_its_own_trials() -> None:
    trials = planned(dataset=["tiles", {"name": "mnist"}])
    data = {"tiles": images((10,), 0, 1), "mnist": images((10,), -3, 3)}
    with pytest.raises(BadInput, match="'mnist' has values from -3 to 3"):
        check_trials(trials, data)
    check_trials([p for p in trials if p.trial.dataset.label == "tiles"], data)


def test_each_trial_says_its_part_and_what_is_recorded_of_it() -> None:
    parts = {
        "one": {"axes": AXES | {"latent_dim": [2, 3]}},
        "two": {"axes": AXES | {"latent_dim": [4]}, "dataset": "mnist", "record": {"every": 3}},
        "again": {"axes": AXES | {"latent_dim": [3]}},
    }
    spec = load_spec({"study": "test", "dataset": "tiles", "parts": parts})
    found = plan_study(spec)
    assert [(p.part, p.trial.latent_dim, p.trial.dataset.label, p.record.every) for p in found] == [
        ("one", 2, "tiles", 0),
        ("one", 3, "tiles", 0),
        ("two", 4, "mnist", 3),
    ]
    plain = planned(AXES | {"latent_dim": [2, 3]})
    assert [p.trial_id for p in plain] == [p.trial_id for p in found[:2]]
    assert [p.part for p in plain] == ["", ""]


def test_what_does_not_fit_the_data_names_its_part() -> None:
    conv = AXES | {"architecture": {"family": "conv", "channels": [4, 4, 4, 4]}}
    parts = {"good": {"axes": AXES}, "bad": {"axes": conv}}
    trials = plan_study(load_spec({"study": "test", "dataset": "tiles", "parts": parts}))
    with pytest.raises(BadInput, match=r"^parts\.bad\.axes\.architecture: .*dataset 'tiles'"):
        check_trials(trials, {"tiles": images((1, 8, 8), 0, 1)})
    with pytest.raises(BadInput, match=r"^parts\.good\.axes\.decoder: 'bernoulli' needs"):
        check_trials(trials, {"tiles": images((1, 28, 28), 0, 9)})
    with pytest.raises(BadInput, match=r"^parts\.bad\.training\.batch_size: 1 image per step"):
        check_trials(trials, {"tiles": images((1, 28, 28), 0, 1, train=1)})
