"""One look for every chart of the report and of the figures: colours, fonts, sizes, SVG, PNG, PDF.

The colours are those of Okabe and Ito (2008), which stay apart in the common forms of colour
blindness; no chart tells two things apart by colour alone where a shape or a dash can help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modgap._core.extras import require
from modgap.charts.drawing import draw

__all__ = [
    "CYCLE", "GALLERY", "INK", "MUTED", "QUERIES", "altair", "keyed", "pdf", "png", "styled", "svg",
    "table",
]  # fmt: skip

QUERIES = "#0072B2"  # blue
GALLERY = "#D55E00"  # vermilion
GREEN, PURPLE, ORANGE, SKY = "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, MUTED, GRID = "#1f2933", "#66737f", "#d9dee3"
CYCLE = (QUERIES, GALLERY, GREEN, PURPLE, ORANGE, SKY, "#7f5539", MUTED)
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
WIDTH, HEIGHT = 360, 260
_PNG_SCALE = 2.0


def altair() -> Any:
    """Return the altair module.

    Raises
    ------
    MissingExtraError
        The extra `report` is not installed.
    """
    return require("altair", "report")


def table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as inline chart data.

    A tuple: altair copies every list anew, row by row, each time that charts are put together.
    """
    return altair().Data(values=tuple(dict(row) for row in rows))


def keyed(
    field: str,
    names: Sequence[str],
    *,
    by: str = "shape",
    colors: Sequence[str] = CYCLE,
    columns: int | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Return two encodings of one name, colour and `by` (shape or strokeDash), with one legend."""
    alt = altair()
    legend = {"legend": alt.Legend(columns=columns)} if columns else {}
    second = {"shape": alt.Shape, "strokeDash": alt.StrokeDash}[by]
    palette = [colors[i % len(colors)] for i in range(len(names))]
    color = alt.Scale(domain=list(names), range=palette)
    return {
        "color": alt.Color(f"{field}:N", title=title, scale=color, **legend),
        by: second(f"{field}:N", title=title, scale=alt.Scale(domain=list(names)), **legend),
    }


def styled(chart: Any) -> Any:
    """Return the chart with the house's fonts, colours and sizes."""
    axis = {
        "labelColor": INK, "titleColor": INK, "domainColor": MUTED, "tickColor": MUTED,
        "gridColor": GRID, "gridOpacity": 0.8, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "titlePadding": 8, "labelFont": FONT, "titleFont": FONT,
        "labelFlush": False,
    }  # fmt: skip
    legend = {
        "labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "labelFont": FONT, "titleFont": FONT, "labelLimit": 320,
        "orient": "bottom", "symbolStrokeWidth": 2,
    }  # fmt: skip
    title = {
        "color": INK, "subtitleColor": MUTED, "font": FONT, "subtitleFont": FONT, "fontSize": 14,
        "subtitleFontSize": 12, "fontWeight": 600, "anchor": "start", "offset": 10,
    }  # fmt: skip
    return (
        chart.configure(font=FONT, background="white")
        .configure_axis(**axis)
        .configure_legend(**legend)
        .configure_title(**title)
        .configure_header(labelColor=INK, titleColor=INK, labelFontSize=12, titleFontSize=12)
        .configure_view(stroke=None)
        .configure_range(category=list(CYCLE))
        .configure_concat(spacing=28)
    )


def svg(chart: Any) -> str:
    """Return a chart as SVG text; no network is used."""
    return _drawn(chart, "svg").decode()


def png(chart: Any) -> bytes:
    """Return a chart as PNG bytes at twice its nominal size; no network is used."""
    return _drawn(chart, "png")


def pdf(chart: Any) -> bytes:
    """Return a chart as PDF bytes, for LaTeX; no network is used."""
    return _drawn(chart, "pdf")


def _drawn(chart: Any, form: str) -> bytes:
    alt = altair()
    with alt.data_transformers.disable_max_rows():
        spec = styled(chart).to_dict()
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return draw(spec, form=form, version=version, scale=_PNG_SCALE)
