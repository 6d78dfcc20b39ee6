"""The report's charts: parts of its dictionary in, SVG text out."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from modgap.charts import theme
from modgap.report.headline import said

__all__ = ["cloud_panels", "fresh_ids", "sweep_chart", "template_chart"]

_SIDES = ("queries", "gallery")
_numbers = count(1)


def cloud_panels(clouds: dict[str, Any]) -> list[dict[str, str]]:
    """Return one panel before closing and one after, on the same scales."""
    pictures = [("before", "Before closing"), ("after", f"After closing ({clouds.get('method')})")]
    pictures = [(key, title) for key, title in pictures if clouds[key] is not None]
    spans = [_span([p for key, _ in pictures for side in _SIDES for p in clouds[key][side]], axis)
             for axis in (0, 1)]  # fmt: skip
    return [
        {"svg": _svg(_cloud(clouds[key], title, spans)), "title": title} for key, title in pictures
    ]


def _cloud(points: dict[str, list[list[float]]], title: str, spans: list[list[float]]) -> Any:
    alt = theme.altair()
    veil = 1.0 if len(points["gallery"]) < 100 else 0.45
    looks = {"queries": {"size": 16, "opacity": 0.45}, "gallery": {"size": 60, "opacity": veil}}
    rows = [
        {"x": x, "y": y, "side": side, **looks[side]} for side in _SIDES for x, y in points[side]
    ]
    colors = alt.Scale(domain=list(_SIDES), range=[theme.QUERIES, theme.GALLERY])
    shapes = alt.Scale(domain=list(_SIDES), range=["circle", "diamond"])
    return (
        alt.Chart(theme.table(rows), title=title)
        .mark_point(filled=True, strokeWidth=0.6)
        .encode(
            x=alt.X("x:Q", title="along the gap", scale=alt.Scale(domain=spans[0], nice=False)),
            y=alt.Y("y:Q", title="first principal axis", scale=alt.Scale(domain=spans[1])),
            color=alt.Color("side:N", title=None, scale=colors),
            shape=alt.Shape("side:N", title=None, scale=shapes),
            # Of fields of their own: without a legend on `side` they would take away the others'.
            size=alt.Size("size:Q", scale=None, legend=None),
            opacity=alt.Opacity("opacity:Q", scale=None, legend=None),
        )
        .properties(width=theme.WIDTH, height=theme.WIDTH * 0.8)
    )


def _span(points: list[list[float]], axis: int) -> list[float]:
    values = [point[axis] for point in points]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.1
    return [low - pad, high + pad]


def sweep_chart(sweep: dict[str, Any]) -> str | None:
    """Return stability and clean accuracy against alpha, after the paper's figure 8."""
    if not sweep["lines"]:
        return None
    alt = theme.altair()
    steady = "clean accuracy" if sweep["clean_accuracy"][0] is not None else "agreement"
    values = sweep["clean_accuracy"] if steady == "clean accuracy" else sweep["agreement"]
    rows = [
        {"alpha": a, "value": v, "line": f"stability, {said(line['noise'])}"}
        for line in sweep["lines"]
        for a, v in zip(sweep["alphas"], line["stability"], strict=True)
    ]
    names = list(dict.fromkeys(row["line"] for row in rows))
    rows += [{"alpha": a, "value": v, "line": steady}
             for a, v in zip(sweep["alphas"], values, strict=True)]  # fmt: skip
    names.append(steady)
    colors = [*_cycle(len(names) - 1), theme.MUTED]
    scale = alt.Scale(domain=names, range=colors)
    drawn = alt.Chart(theme.table(rows)).encode(
        x=alt.X(
            "alpha:Q",
            title="alpha, the share of the gap that is closed",
            axis=alt.Axis(values=sorted(sweep["alphas"]), format=".4~g"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(
            "value:Q",
            title="share of queries",
            scale=alt.Scale(domain=_shares(rows, sweep["lines"])),
        ),
        color=alt.Color("line:N", title=None, scale=scale, legend=alt.Legend(columns=2)),
        shape=alt.Shape("line:N", title=None, scale=alt.Scale(domain=names)),
    )
    layers = [drawn.mark_line(strokeWidth=2), drawn.mark_point(filled=True, size=55)]
    layers += _levels(sweep["lines"], scale)
    return _svg(alt.layer(*layers).properties(width=620, height=300))


def _levels(lines: list[dict[str, Any]], scale: Any) -> list[Any]:
    """Return the level of `affine` under each noise, as dashed rules with their name."""
    alt = theme.altair()
    rows = [
        {"value": line["affine"], "line": f"stability, {said(line['noise'])}", "text": "affine"}
        for line in lines
        if line["affine"] is not None
    ]
    if not rows:
        return []
    color = alt.Color("line:N", scale=scale, title=None)
    base = alt.Chart(theme.table(rows)).encode(y="value:Q", color=color)
    names = base.mark_text(align="left", dx=4, dy=-6, fontSize=11)
    return [
        base.mark_rule(strokeDash=[5, 4], strokeWidth=1.5),
        names.encode(x=alt.value(0), text="text:N"),
    ]


def _shares(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> list[float]:
    """Return the range of all shares on the chart, a little wider, at most 0 to 1."""
    values = [row["value"] for row in rows]
    values += [line["affine"] for line in lines if line["affine"] is not None]
    pad = 0.05 * (max(values) - min(values)) or 0.01
    return [max(0.0, min(values) - pad), min(1.0, max(values) + pad)]


def _cycle(length: int) -> list[str]:
    return [theme.CYCLE[i % (len(theme.CYCLE) - 1)] for i in range(length)]


def template_chart(templates: dict[str, Any]) -> str:
    """Return the flips of every caption template as dots."""
    alt = theme.altair()
    names = [row["template"] for row in templates["rows"]]
    kinds = {"flips": "as they are", "flips_closed": "with the reference's affine closure"}
    rows = [
        {"template": row["template"], "value": row[key], "kind": kind}
        for row in templates["rows"]
        for key, kind in kinds.items()
        if not row["reference"]
    ]
    scale = alt.Scale(domain=list(kinds.values()), range=[theme.QUERIES, theme.GALLERY])
    shapes = alt.Scale(domain=list(kinds.values()), range=["circle", "diamond"])
    return _svg(
        alt.Chart(theme.table(rows))
        .mark_point(filled=True, size=60)
        .encode(
            x=alt.X(
                "value:Q",
                title="share of answers that differ from the reference template's",
                axis=alt.Axis(tickCount=5),
            ),
            y=alt.Y("template:N", title=None, sort=names, axis=alt.Axis(labelLimit=260, grid=True)),
            color=alt.Color("kind:N", title=None, scale=scale),
            shape=alt.Shape("kind:N", title=None, scale=shapes),
        )
        .properties(width=380, height=alt.Step(20))
    )


def _svg(chart: Any) -> str:
    return fresh_ids(theme.svg(chart))


def fresh_ids(text: str) -> str:
    """Return SVG text whose ids are unique in the page, hidden from screen readers.

    Each chart has its words in the figure's caption, and its numbers in a table.
    """
    prefix = f"c{next(_numbers)}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
