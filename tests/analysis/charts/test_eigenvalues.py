import numpy as np
import pandas as pd
import pytest

from analysis.charts.eigenvalues import MOST_THRESHOLDS, eigenvalue_spectrum
from study.tables import DATASETS


def datasets_of(spectrum: np.ndarray, fingerprint: str = "f", name: str = "mine") -> pd.DataFrame:
    rows = [
        dict.fromkeys(DATASETS.names)
        | {"dataset_fingerprint": fingerprint, "dataset": name, "quantity": "eigenvalue"}
        | {"component": place, "value": value, "total_variance": spectrum.sum()}
        for place, value in enumerate(spectrum, start=1)
    ]
    dimension = rows[0] | {"quantity": "dimension", "component": 0, "value": 1e6}
    return pd.DataFrame([dimension, *rows[::-1]])


def answers_of(*pairs: tuple[float, float | None]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["beta", "threshold"])


def drawn(datasets: pd.DataFrame, answers: pd.DataFrame | None = None) -> list[pd.DataFrame]:
    """The rules and the points of the chart."""
    content = eigenvalue_spectrum(datasets, answers).to_dict()
    frames = {name: pd.DataFrame(rows) for name, rows in content["datasets"].items()}
    layers = [layer.get("data", content.get("data"))["name"] for layer in content["layer"]]
    if len(layers) == 1:
        return [pd.DataFrame(), frames[layers[0]]]
    assert layers[0] == layers[1]
    return [frames[layers[0]], frames[layers[2]]]


def test_points_are_the_eigenvalues_from_the_largest() -> None:
    spectrum = np.array([4.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    _, points = drawn(datasets_of(spectrum))
    assert points["component"].tolist() == [1, 2, 3, 4]
    assert points["eigenvalue"].tolist() == [4, 3, 2, 1]
    assert points["share"].tolist() == [0.4, 0.7, 0.9, 1.0]


def test_eigenvalues_below_a_millionth_of_the_largest_are_left_out() -> None:
    _, points = drawn(datasets_of(np.array([1.0, 1.0, 1.0, 1.5e-6, 0.5e-6])))
    assert points["eigenvalue"].tolist() == [1, 1, 1, 1.5e-6]


def test_long_spectra_are_thinned_where_points_would_overlap() -> None:
    _, points = drawn(datasets_of(np.linspace(1, 0.1, 20_000)))
    assert len(points) < 250
    assert points["component"].tolist()[:50] == list(range(1, 51))
    gaps = np.diff(np.log10(points["component"][50:]))
    assert gaps.max() < 0.04
    shown = points.set_index("component")["share"]
    exact = np.cumsum(np.linspace(1, 0.1, 20_000)) / np.linspace(1, 0.1, 20_000).sum()
    assert shown.to_numpy() == pytest.approx(exact[shown.index - 1])


def test_two_datasets_and_one_twice() -> None:
    one = datasets_of(np.array([3.0, 2.0]))
    two = datasets_of(np.array([5.0, 1.0]), "g", "other")
    _, points = drawn(pd.concat([one, two, one]))
    assert points["share"].tolist() == pytest.approx([3 / 5, 1, 5 / 6, 1])
    assert points.groupby("dataset")["eigenvalue"].apply(list).to_dict() == {
        "mine": [3.0, 2.0],
        "other": [5.0, 1.0],
    }


def test_rules_at_the_thresholds() -> None:
    answers = answers_of((2.0, 1.0), (1.0, 1.0 + 1e-12), (1.0, 0.1), (4.0, None), (1.0, 0.1))
    rules, _ = drawn(datasets_of(np.array([3.0, 2.0])), answers)
    assert rules["threshold"].tolist() == [0.1, 1.0]
    assert rules["rule"].tolist() == ["β = 1, s = 0.1", "β = 2, s = 0.5; β = 1, s = 1"]
    assert rules["label"].tolist() == ["β·s = 0.1", "β·s = 1"]


def test_many_thresholds_are_spread_and_their_labels_apart() -> None:
    answers = answers_of(*[(1.0, 1.1**power) for power in range(40)])
    rules, _ = drawn(datasets_of(np.array([3.0, 2.0])), answers)
    assert len(rules) == MOST_THRESHOLDS
    assert rules["threshold"].iloc[0] == 1.0
    assert rules["threshold"].iloc[-1] == pytest.approx(1.1**39, rel=1e-5)
    labelled = rules.loc[rules["label"] != "", "threshold"]
    assert 1 < len(labelled) < len(rules)
    assert (labelled.to_numpy()[1:] / labelled.to_numpy()[:-1] > 1.7).all()


def test_it_draws_also_what_is_empty() -> None:
    full, none = datasets_of(np.array([3.0, 2.0])), datasets_of(np.array([1.0])).iloc[:0]
    for datasets in (full, none):
        for answers in (None, answers_of(), answers_of((1.0, None)), answers_of((1.0, 2.5))):
            eigenvalue_spectrum(datasets, answers).to_dict()
    encoding = eigenvalue_spectrum(full).to_dict()["layer"][-1]["encoding"]
    assert encoding["y"]["scale"]["type"] == "log"
    assert encoding["color"]["field"] == encoding["shape"]["field"] == "dataset"
