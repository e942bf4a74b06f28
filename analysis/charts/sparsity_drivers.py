"""Charts of what drives sparsity: importance with intervals, and differences between pairs."""

import altair as alt
import pandas as pd

from analysis.charts.style import ACTIVE, INACTIVE, PALETTE, styled
from analysis.design_points import SEEDS

__all__ = ["importance_chart", "paired_effects_chart"]

ROW_HEIGHT = 22
MOST_EFFECTS = 40
ABOVE, WITHIN = "interval above the noise", "not told apart from noise"
UNKNOWN = "one seed: how much is noise is not known"
COLOURS = {ABOVE: PALETTE[0], WITHIN: INACTIVE, UNKNOWN: INACTIVE}
SHOWN, OPEN = "interval without zero", "no difference shown"


def importance_chart(importance: pd.DataFrame, target: str = "active units") -> alt.LayerChart:
    """Draw each hyperparameter's share of the target's variance, the largest on top.

    Bars are the shares, rules their 95% intervals. The dashed line is the largest share of a seed:
    bars that do not exceed it show noise; those whose whole interval does are dark. With one seed
    there is no such line, and no bar is dark.

    Args:
        importance: As `hyperparameter_importance` returns it.
        target: What was explained, in words.
    """
    known = importance.dropna(subset=["importance"])
    seeds = known["hyperparameter"].isin(SEEDS)
    told = (known["verdict"] == "above the noise").map({True: ABOVE, False: WITHIN})
    known = known.assign(above=told if seeds.any() else UNKNOWN)
    kinds = [kind for kind in COLOURS if (known["above"] == kind).any()] or [WITHIN]
    order = list(known["hyperparameter"])
    share = alt.X(
        "importance:Q", title=f"share of the variance of {target} that it explains by itself"
    )
    place = alt.Y("hyperparameter:N", title=None, sort=order)
    tooltip = [
        alt.Tooltip("hyperparameter:N"),
        alt.Tooltip("importance:Q", format=".3f"),
        alt.Tooltip("low:Q", title="95% interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("values:Q", title="values tried"),
        alt.Tooltip("trials:Q", title="trials used"),
        alt.Tooltip("of:Q", title="of"),
        alt.Tooltip("verdict:N"),
    ]
    base = alt.Chart(known)
    bars = base.mark_bar(height={"band": 0.6}).encode(
        share.scale(domainMin=0).axis(format=".0%"),
        place,
        alt.Color("above:N", title=None)
        .scale(domain=kinds, range=[COLOURS[kind] for kind in kinds])
        .legend(orient="bottom", labelLimit=0),
        tooltip=tooltip,
    )
    intervals = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q"), alt.X2("high:Q"), place, tooltip=tooltip
    )
    floor = known[seeds].nlargest(1, "importance")
    at_floor = alt.Chart(floor).encode(alt.X("importance:Q"))
    line = at_floor.mark_rule(strokeDash=[4, 3], color=ACTIVE, strokeWidth=1.5)
    name = at_floor.mark_text(align="left", dx=4, baseline="bottom", color=ACTIVE, y=-3)
    name = name.encode(text=alt.value("noise: the seed's share"))
    layers = alt.LayerChart(layer=[bars, intervals, *([line, name] if len(floor) else [])])
    return styled(layers.properties(width=420, height=alt.Step(ROW_HEIGHT)))


def paired_effects_chart(effects: pd.DataFrame) -> alt.LayerChart:
    """Draw the difference in active units between the two values of each comparison.

    Dots are mean differences, rules their 95% intervals; a difference whose interval holds zero is
    hollow. Comparisons of one hyperparameter are together, in the table's order. Of more than
    `MOST_EFFECTS` comparisons, those with the largest differences are drawn.

    Args:
        effects: As `paired_effects` returns it.
    """
    known = effects[effects["pairs"] > 0]
    largest = known["difference"].abs().nlargest(MOST_EFFECTS).index
    known = known[known.index.isin(largest)]
    values = known["value"].astype("str") + " against " + known["reference"].astype("str")
    known = known.assign(
        comparison=known["hyperparameter"].astype("str") + ": " + values,
        shown=known["verdict"].isin(["more units", "fewer units"]).map({True: SHOWN, False: OPEN}),
    )
    first = {name: place for place, name in enumerate(known["hyperparameter"].unique())}
    together = known.sort_values("hyperparameter", key=lambda x: x.map(first), kind="stable")
    place = alt.Y("comparison:N", title=None, sort=list(together["comparison"]))
    place = place.axis(labelLimit=400)
    difference = (
        alt.X("difference:Q", title="difference in active units: mean over the pairs, 95% interval")
        .scale(nice=False, padding=12)
        .axis(tickCount=8)
    )
    tooltip = [
        alt.Tooltip("comparison:N"),
        alt.Tooltip("difference:Q", format="+.2f"),
        alt.Tooltip("low:Q", title="95% interval from", format="+.2f"),
        alt.Tooltip("high:Q", title="to", format="+.2f"),
        alt.Tooltip("pairs:Q"),
        alt.Tooltip("verdict:N"),
    ]
    base = alt.Chart(known)
    layers = [
        base.mark_rule(color="#666666", strokeDash=[4, 3]).encode(x=alt.datum(0)),
        base.mark_rule(strokeWidth=2, color=PALETTE[0]).encode(
            alt.X("low:Q"), alt.X2("high:Q"), place
        ),
        base.mark_point(size=70, opacity=1, color=PALETTE[0], strokeWidth=2).encode(
            difference,
            place,
            alt.Fill("shown:N", title=None)
            .scale(domain=[SHOWN, OPEN], range=[PALETTE[0], "white"])
            .legend(orient="bottom", symbolStrokeColor=PALETTE[0]),
            tooltip=tooltip,
        ),
    ]
    chart = alt.LayerChart(layer=layers, width=420, height=alt.Step(ROW_HEIGHT))
    return styled(chart)
