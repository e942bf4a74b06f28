"""The charts hold the tables they are given, and draw empty ones."""

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest

from analysis.charts.sparsity_drivers import (
    MOST_EFFECTS,
    importance_chart,
    paired_effects_chart,
)
from analysis.importance import hyperparameter_importance
from analysis.paired_effects import paired_effects
from study.tables import TRIALS
from tests.analysis.tables import trials_of

EMPTY = TRIALS.empty_table().to_pandas()


def study(widths: int = 2) -> pd.DataFrame:
    return trials_of(
        [
            {"latent_dim": dim, "beta": beta, "architecture": f"dense-{width}", "seed": seed}
            | {
                "active_units": min(dim, 8) - (beta == 2) + seed * (dim > 4),
                "test_elbo": -90 - seed,
            }
            | {"test_kl": 9.0 + dim, "test_reconstruction": 80.0, "variance_law_mean": 1 + beta / 9}
            for dim in (4, 8, 16)
            for beta in (1.0, 2.0)
            for width in range(10, 10 + widths)
            for seed in (0, 1)
        ]
    )


def content(chart: alt.TopLevelMixin) -> dict[str, Any]:
    made: dict[str, Any] = chart.to_dict()  # validates against the Vega-Lite schema
    return made


def rows_of(chart: alt.TopLevelMixin) -> list[dict[str, Any]]:
    return [row for rows in content(chart)["datasets"].values() for row in rows]


def marks(chart: alt.TopLevelMixin, part: dict[str, Any]) -> list[str]:
    return [layer["mark"]["type"] for layer in part["layer"]]


def test_importance_is_drawn_as_it_is() -> None:
    importance = hyperparameter_importance(study())
    chart = importance_chart(importance)
    made = content(chart)
    assert marks(chart, made) == ["bar", "rule", "rule", "text"]
    bars, intervals, floor, _ = made["layer"]
    shown = pd.DataFrame(made["datasets"][bars["data"]["name"]])
    pd.testing.assert_frame_equal(shown[list(importance)], importance, check_dtype=False)
    assert list(shown["above"] == "interval above the noise") == list(
        importance["verdict"] == "above the noise"
    )
    assert bars["encoding"]["y"]["sort"] == list(importance["hyperparameter"])
    assert bars["encoding"]["x"]["field"] == "importance"
    assert (intervals["encoding"]["x"]["field"], intervals["encoding"]["x2"]["field"]) == (
        "low",
        "high",
    )
    (noise,) = made["datasets"][floor["data"]["name"]]
    assert noise["hyperparameter"] == "seed"
    assert floor["mark"]["strokeDash"]


def test_the_largest_seed_is_the_floor() -> None:
    importance = hyperparameter_importance(study())
    more = importance[importance["hyperparameter"] == "seed"].assign(
        hyperparameter="data_seed", importance=0.9
    )
    made = content(importance_chart(pd.concat([importance, more])))
    (noise,) = made["datasets"][made["layer"][2]["data"]["name"]]
    assert noise["hyperparameter"] == "data_seed"


def test_without_a_varied_seed_there_is_no_floor() -> None:
    trials = study()
    importance = hyperparameter_importance(trials[trials["seed"] == 0])
    chart = importance_chart(importance)
    made = content(chart)
    assert marks(chart, made) == ["bar", "rule"]
    legend = made["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert legend == ["one seed: how much is noise is not known"]
    assert {row["above"] for row in rows_of(chart)} == set(legend)


def test_the_legend_names_what_is_drawn() -> None:
    importance = hyperparameter_importance(study())
    made = content(importance_chart(importance))
    scale = made["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["interval above the noise", "not told apart from noise"]
    assert len(scale["range"]) == len(set(scale["range"])) == 2


def test_effects_are_drawn_as_they_are() -> None:
    effects = paired_effects(study())
    chart = paired_effects_chart(effects)
    made = content(chart)
    shown = pd.DataFrame(rows_of(chart))
    pd.testing.assert_frame_equal(shown[list(effects)], effects, check_dtype=False)
    assert marks(chart, made) == ["rule", "rule", "point"]
    told = effects["verdict"].isin(["more units", "fewer units"])
    assert list(shown["shown"] == "interval without zero") == list(told)
    assert told.any()
    assert not told.all()
    first = effects.iloc[0]
    assert shown["comparison"].iloc[0] == (
        f"{first['hyperparameter']}: {first['value']} against {first['reference']}"
    )
    _, interval, dot = made["layer"]
    order = dot["encoding"]["y"]["sort"]
    assert sorted(order) == sorted(shown["comparison"])
    named = [comparison.split(":")[0] for comparison in order]
    assert named == sorted(named, key=named.index), "those of a hyperparameter are together"
    assert (interval["encoding"]["x"]["field"], interval["encoding"]["x2"]["field"]) == (
        "low",
        "high",
    )
    assert dot["encoding"]["x"]["field"] == "difference"


def test_only_the_largest_effects_are_drawn() -> None:
    rows = [
        {"hyperparameter": "architecture", "reference": "a", "value": f"b{place}"}
        | {"difference": place - 50.0, "low": -60.0, "high": 60.0, "pairs": 3, "verdict": "x"}
        for place in range(100)
    ]
    shown = pd.DataFrame(rows_of(paired_effects_chart(pd.DataFrame(rows))))
    assert len(shown) == MOST_EFFECTS
    assert shown["difference"].abs().min() == 30  # of -50 to 49: 20 on each side, and no more


def test_hyperparameters_without_pairs_are_not_drawn() -> None:
    trials = study()
    confounded = trials.assign(
        initialisation=(trials["beta"] == 2).map({True: "torch", False: "x"})
    )
    shown = pd.DataFrame(rows_of(paired_effects_chart(paired_effects(confounded))))
    assert set(shown["hyperparameter"]) == {"latent_dim", "architecture"}


@pytest.mark.parametrize(
    "trials",
    [EMPTY, study().assign(status="failed"), study().head(1), study().assign(active_units=3)],
    ids=["empty", "all failed", "one", "constant"],
)
def test_little_to_draw(trials: pd.DataFrame, tmp_path: Path) -> None:
    charts = {
        "importance": importance_chart(hyperparameter_importance(trials)),
        "effects": paired_effects_chart(paired_effects(trials)),
    }
    for name, chart in charts.items():
        content(chart)
        chart.save(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
