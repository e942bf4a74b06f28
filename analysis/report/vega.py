"""Charts as Vega-Lite specifications, and the version of Vega-Lite they are written for."""

from typing import Any

import altair as alt

__all__ = ["chart_spec", "vega_lite_version"]


def chart_spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart's specification, data included however many rows they are."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = chart.to_dict()
    return spec


def vega_lite_version() -> str:
    """Altair's Vega-Lite, "v6.1.0", as vl-convert names it: "6.1"."""
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return f"{major}.{minor}"
