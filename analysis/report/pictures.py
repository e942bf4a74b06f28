"""Charts for papers and slides: one figure of a report as a PNG or an SVG file."""

import vl_convert

from analysis.report.content import Figure
from analysis.report.vega import chart_spec, vega_lite_version

__all__ = ["picture"]

SCALE = 2.0  # pixels of a PNG per pixel on the page: sharp in print


def picture(figure: Figure, format_: str) -> bytes:
    """Draw a figure.

    Args:
        figure: A figure of a report.
        format_: png or svg.

    Raises:
        ValueError: Another format.
    """
    spec, version = chart_spec(figure.chart), vega_lite_version()
    if format_ == "png":
        return vl_convert.vegalite_to_png(spec, vl_version=version, scale=SCALE)
    if format_ == "svg":
        return vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
    raise ValueError(f"{format_!r} is neither png nor svg")
