"""A report as one HTML file that needs no network: charts, tables and libraries inlined."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
import vl_convert

from analysis.charts.trial_units import trial_units_chart
from analysis.report.content import Report, TrialBrowser, heading
from analysis.report.vega import chart_spec, vega_lite_version

__all__ = ["to_html"]

_UNIT_COLUMNS = [
    "unit",
    "mean",
    "mean_variance",
    "posterior_variance",
    "second_moment",
    "kl",
    "reconstruction_gain",
]
_USED = "window.vegaEmbed = vegaEmbed;"  # what the page uses of the bundle
_DIGITS = 5  # significant digits of numbers that only charts and tables show


def to_html(report: Report) -> str:
    """Render a report; the page draws its charts with Vega-Lite when it is opened."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["heading"] = heading
    here = files("analysis.report")
    template = environment.from_string((here / "report.html.jinja").read_text(encoding="utf-8"))
    figures = {name: chart_spec(figure.chart) for name, figure in report.figures().items()}
    return template.render(
        report=report,
        css=(here / "report.css").read_text(encoding="utf-8"),
        javascript=(here / "report.js").read_text(encoding="utf-8"),
        vega=_libraries(),
        figures=_json(figures),
        trials=_json(_browser(report)),
    )


@cache
def _libraries() -> str:
    """Return Vega-Lite and what it needs as a script; to bundle them takes a second."""
    return _in_script(vl_convert.javascript_bundle(_USED, vega_lite_version()))


def _browser(report: Report) -> dict[str, Any] | None:
    blocks = [block for section in report.sections for block in section.blocks]
    found = [block for block in blocks if isinstance(block, TrialBrowser)]
    if not found:
        return None
    trials, units = found[0].trials, found[0].units
    columns = [{"name": name, "values": _values(trials[name])} for name in trials.columns]
    numbers = [_values(units[name]) for name in _UNIT_COLUMNS]
    rows: dict[str, list[Any]] = {}
    for trial_id, row in zip(units["trial_id"], zip(*numbers, strict=True), strict=True):
        rows.setdefault(str(trial_id), []).append(row)
    return {
        "columns": columns,
        "units": {"names": _UNIT_COLUMNS, "rows": rows},
        "unit_chart": chart_spec(trial_units_chart("units")),
    }


def _values(column: "pd.Series[Any]") -> list[Any]:
    """Values that JSON can hold: null for what is missing, floats to a few digits."""
    if pd.api.types.is_float_dtype(column):
        return [None if pd.isna(x) else float(f"{x:.{_DIGITS}g}") for x in column]
    return [None if pd.isna(x) else x for x in column.astype(object)]


def _json(content: Any) -> str:
    """JSON that may stand in a script element of any content, `</script>` included."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _in_script(code: str) -> str:
    return code.replace("</script", "<\\/script")
