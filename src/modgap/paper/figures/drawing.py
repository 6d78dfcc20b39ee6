"""Parts that charts of several figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.figures.record import Rows

__all__ = [
    "curves",
    "darkened",
    "fixed",
    "grid",
    "level_lines",
    "linked_clouds",
    "marked_lines",
    "point_rows",
    "scatter",
]

#: The two clouds of a simulation or construction.
_SIDES = ("x", "y")
_SIDE_COLORS = (theme.GALLERY, theme.QUERIES)


#: The house's inks, and what stands for each on a dark page: the same hues, as far from the ground.
_DARK = {
    "white": "#14191e",
    theme.INK: "#e6eaee",
    theme.MUTED: "#a5b1bc",
    theme.GRID: "#3b4650",
    "#ddd": "#3b4650",
    theme.QUERIES: "#4da6e0",
    theme.GALLERY: "#f2884b",
    theme.GREEN: "#3cc79b",
    theme.CYCLE[6]: "#c79a75",
}


def darkened(svg: str) -> str:
    """Return a drawing for a dark page: inks and ground are changed, scales that carry numbers kept."""
    for light, dark in _DARK.items():
        for part in ("fill", "stroke"):
            svg = svg.replace(f'{part}="{light}"', f'{part}="{dark}"')
    return svg


def fixed(low: float, high: float) -> Any:
    """Return a scale that ends where it is told to, so that panels can be compared."""
    domain = [round(float(low), 4), round(float(high), 4)]
    return theme.altair().Scale(domain=domain, nice=False, zero=False)


def grid(panels: Sequence[Any], columns: int, **resolve: str) -> Any:
    """Return panels in rows of `columns`; `resolve` as altair's resolve_scale."""
    alt = theme.altair()
    rows = [alt.hconcat(*panels[i : i + columns]) for i in range(0, len(panels), columns)]
    if resolve:
        rows = [row.resolve_scale(**resolve) for row in rows]
    whole = alt.vconcat(*rows) if len(rows) > 1 else rows[0]
    return whole.resolve_scale(**resolve) if resolve else whole


def marked_lines(base: Any, value: str, *, size: int = 50, **axis: Any) -> list[Any]:
    """Return a line with its points, and bars of one standard error from fields "low", "high".

    `axis` goes to alt.Y: its scale and title are the same for all three marks.
    """
    alt = theme.altair()
    low, shown = alt.Y("low:Q", **axis), alt.Y(f"{value}:Q", **axis)
    return [
        base.mark_bar(size=1.4).encode(y=low, y2="high:Q"),  # a rule would take on the shapes
        base.mark_line(strokeWidth=2).encode(y=shown),
        base.mark_point(filled=True, size=size, opacity=1).encode(y=shown),
    ]


def level_lines(
    rows: Rows, value: str, *, band: Any = None, line: Any = None, **axis: Any
) -> list[Any]:
    """Return levels over the whole width with their errors, from fields "low", "high".

    `band` and `line` are more encodings of either; `axis` goes to alt.Y.
    """
    alt = theme.altair()
    chart = alt.Chart(theme.table(rows))
    errors = chart.mark_rect(opacity=0.15).encode(
        y=alt.Y("low:Q", **axis), y2="high:Q", **(band or {})
    )
    rules = chart.mark_rule(strokeWidth=1.7).encode(y=alt.Y(f"{value}:Q", **axis), **(line or {}))
    return [errors, rules]


def point_rows(x: np.ndarray, y: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    """Return both clouds (n, 2) as rows a, b, side, pair."""
    return [
        {**more, "pair": i, "side": side, "a": float(row[0]), "b": float(row[1])}
        for side, cloud in zip(_SIDES, (x, y), strict=True)
        for i, row in enumerate(cloud)
    ]


def scatter(rows: Rows, x: Any, y: Any, *, size: int = 22, opacity: float = 0.85) -> Any:
    """Return both clouds as points, told apart by colour and shape."""
    marks = (
        theme.altair().Chart(theme.table(rows)).mark_point(filled=True, size=size, opacity=opacity)
    )
    return marks.encode(x=x, y=y, **theme.keyed("side", _SIDES, colors=_SIDE_COLORS))


def linked_clouds(rows: Rows, x: Any, y: Any, *, size: int = 22, width: float = 0.6) -> Any:
    """Return both clouds as points, a line between the partners of every pair."""
    alt = theme.altair()
    links = alt.Chart(theme.table(rows)).mark_line(
        color=theme.MUTED, strokeWidth=width, opacity=0.55
    )
    return alt.layer(links.encode(x=x, y=y, detail="pair:N"), scatter(rows, x, y, size=size))


def curves(rows: Rows, order: Iterable[str], *, steps: str = "linear", scale: Any = None) -> Any:
    """Return curves over steps, values on a logarithmic scale; `steps` is the scale of the steps."""
    alt = theme.altair()
    names = list(order)
    title = "step" if steps == "linear" else "step (square-root scale)"
    return (
        alt.Chart(theme.table(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("step:Q", title=title, scale=alt.Scale(type=steps), axis=alt.Axis(tickCount=4)),
            y=alt.Y(
                "value:Q",
                title=None,
                scale=alt.Scale(type="log") if scale is None else scale,
                axis=alt.Axis(format="~e", tickCount=5),
            ),
            **theme.keyed("what", names, by="strokeDash", columns=1),
        )
    )
