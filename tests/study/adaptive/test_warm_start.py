"""What a search takes from earlier studies."""

from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from search_spaces import BadInput, Part, load_spec
from study.adaptive.warm_start import WARM_START, earlier_points
from study.loading import load_study
from study.storage import Folder
from tests.analysis.simulated_study import FINGERPRINT, simulated_spec, write_simulated_study

AXES: dict[str, Any] = {
    "architecture": ["dense-256-32-24", "dense-64"],
    "latent_dim": {"range": [4, 20]},
    "beta": {"log_range": [0.1, 1.0]},
    "seed": [7],
}
DATA: Any = {"mnist": SimpleNamespace(fingerprint=FINGERPRINT)}


def part(*names: str, epochs: int = 20, **axes: Any) -> Part:
    spec = {
        "study": "search",
        "dataset": "mnist",
        "axes": AXES | axes,
        "training": {"epochs": epochs},
        "strategy": {
            "name": "optuna",
            "points": 3,
            "objectives": {"maximise": "test_elbo"},
            "constraints": ["active_units <= 8"],
            "warm_start": list(names),
        },
    }
    return load_spec(spec).all_parts[""]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder.at(tmp_path_factory.mktemp("studies"))
    write_simulated_study(folder.child("grid"), spec=simulated_spec(120, "grid"), pack_size=7)
    return folder


def test_points_of_the_space_are_taken_with_the_means_of_their_seeds(storage: Folder) -> None:
    points = earlier_points(storage, part("grid"), DATA)
    rows = load_study(storage.child("grid")).trials
    fitting = rows[
        (rows["architecture"] == "dense-256-32-24")
        & rows["latent_dim"].between(4, 20)
        & (rows["beta"] <= 1)
        & (rows["initialisation"] == "glorot")
    ]
    expected = {
        (latent_dim, beta): own
        for (latent_dim, beta), own in fitting.groupby(["latent_dim", "beta"])
        if set(own["status"]) == {"completed"}
    }
    assert len(points) == len(expected) > 1
    for point in points:
        own = expected[point.params["latent_dim"], point.params["beta"]]
        assert point.params["architecture"] == "dense-256-32-24"
        assert point.state == TrialState.COMPLETE
        assert point.value == pytest.approx(own["test_elbo"].mean())
        assert point.constraints["active_units <= 8"] == own["active_units"].mean() - 8
        assert point.user_attrs[WARM_START] == "grid"
        assert point.user_attrs["seeds"] == [0, 1, 2]
        assert max(point.intermediate_values) == 20


def test_the_label_of_the_data_does_not_matter_but_the_data_does(storage: Folder) -> None:
    (mnist,) = part("grid").dataset
    renamed = part("grid").model_copy(
        update={"dataset": (mnist.model_copy(update={"label": "digits"}),)}
    )
    own: Any = {"digits": SimpleNamespace(fingerprint=FINGERPRINT)}
    taken = earlier_points(storage, renamed, own)
    assert len(taken) == len(earlier_points(storage, part("grid"), DATA))
    other: Any = {"mnist": SimpleNamespace(fingerprint="0" * 16)}
    with pytest.raises(BadInput, match=r"none of the 120 trials of 'grid' is .* \(other data\)"):
        earlier_points(storage, part("grid"), other)


def test_what_optuna_knows_is_not_read_again(storage: Folder) -> None:
    assert earlier_points(storage, part("grid"), DATA, known={"grid"}) == []
    assert earlier_points(storage, part("gone"), DATA, known={"gone"}) == []
    assert earlier_points(storage, part(), DATA) == []


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"epochs": 19}, "epochs"),
        ({"latent_dim": 5}, "latent_dim"),
        ({"beta": {"log_range": [0.01, 0.1]}}, "beta"),
        ({"architecture": ["dense-64", "dense-32"]}, "architecture"),
        ({"epochs": 19, "latent_dim": 5}, "latent_dim and epochs"),
    ],
)
def test_nothing_that_fits_is_an_error_that_says_why(
    storage: Folder, changed: dict[str, Any], differs: str
) -> None:
    with pytest.raises(BadInput, match=r"^strategy.warm_start.0: none of the 120") as error:
        earlier_points(storage, part("grid", **changed), DATA)
    assert f"(the nearest differ in {differs})" in str(error.value)


def test_no_such_study_is_an_error_that_names_the_nearest(storage: Folder) -> None:
    with pytest.raises(BadInput, match=r"strategy.warm_start.1: .*did you mean 'grid'"):
        earlier_points(storage, part("grid", "grd"), DATA)
