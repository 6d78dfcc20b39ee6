"""The report's charts: parts of its dictionary in, SVG text out."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from modgap.charts import bits, theme
from modgap.report.words import said

__all__ = [
    "bits_panels",
    "fresh_ids",
    "moves_chart",
    "noise_chart",
    "survival_chart",
    "survival_words",
    "template_chart",
]

_WIDTH = 300
_numbers = count(1)


def noise_chart(noises: list[dict[str, Any]], closed: str, *, recall: bool = False) -> str | None:
    """Return what survives each noise: as it is, compared by inner product, and closed.

    With `recall` what codes find of the exact ten nearest.
    """
    kinds = {"before": "as it is", "compared": "compared by inner product", "after": closed}
    title = "share of answers that survive"
    if recall:
        kinds = {f"recall_{key}": word for key, word in kinds.items()}
        title = "share of the exact ten nearest that are found"
    rows = [
        {"noise": said(entry["noise"]), "value": entry[key], "kind": kind}
        for entry in noises
        for key, kind in kinds.items()
        if entry[key] is not None
    ]
    if not rows:
        return None
    alt = theme.altair()
    names = list(dict.fromkeys(row["noise"] for row in rows))
    shown = [kind for kind in kinds.values() if any(row["kind"] == kind for row in rows)]
    scale = {"as it is": theme.MUTED, "compared by inner product": theme.QUERIES}
    placed = {"title": title, "scale": _domain(rows)}
    base = alt.Chart(theme.table(rows)).encode(
        x=alt.X("value:Q", axis=alt.Axis(tickCount=5), **placed),
        y=alt.Y("noise:N", title=None, sort=names, axis=None),
    )
    span = base.mark_rule(strokeWidth=1.5, color=theme.MUTED, opacity=0.6).encode(
        x=alt.X("min(value):Q", **placed), x2="max(value):Q"
    )
    marks = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("kind:N", title=None, legend=alt.Legend(columns=1),
                        scale=alt.Scale(domain=shown, range=[scale.get(k, theme.GALLERY) for k in shown])),
        shape=alt.Shape("kind:N", title=None,
                        scale=alt.Scale(domain=shown, range=_SHAPES[: len(shown)])),
    )  # fmt: skip
    return _svg(alt.layer(span, marks, _names(names)).properties(width=_WIDTH, height=alt.Step(44)))


_SHAPES = ["circle", "square", "diamond"]


def _names(names: list[str]) -> Any:
    """Return the category names above their rows: beside them they would take a phone's width."""
    alt = theme.altair()
    return (
        alt.Chart(theme.table([{"noise": name} for name in names]))
        .mark_text(align="left", dy=-14, fontSize=11, color=theme.INK, limit=_WIDTH)
        .encode(x=alt.value(0), y=alt.Y("noise:N", sort=names), text="noise:N")
    )


def _domain(rows: list[dict[str, Any]]) -> Any:
    values = [row["value"] for row in rows]
    pad = 0.06 * (max(values) - min(values)) or 0.01
    return theme.altair().Scale(
        domain=[max(0.0, min(values) - pad), min(1.0, max(values) + pad)], nice=False
    )


def moves_chart(moves: list[dict[str, Any]]) -> str | None:
    """Return per noise how many queries become steadier, stay, and become less steady."""
    kinds = {"steadier": "steadier", "same": "as before", "less": "less steady"}
    rows = [
        {"noise": said(entry["noise"]), "value": entry[key], "kind": kind, "order": place}
        for entry in moves
        for place, (key, kind) in enumerate(kinds.items())
    ]
    if not rows:
        return None
    alt = theme.altair()
    names = [said(entry["noise"]) for entry in moves]
    colors = [theme.GREEN, theme.GRID, theme.GALLERY]
    bars = (
        alt.Chart(theme.table(rows))
        .mark_bar(height=14, stroke=theme.MUTED, strokeWidth=0.5)
        .encode(
            x=alt.X("value:Q", title="share of queries", axis=alt.Axis(format="%", tickCount=5),
                    scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("noise:N", title=None, sort=names, axis=None),
            color=alt.Color("kind:N", title=None, legend=alt.Legend(columns=3),
                            scale=alt.Scale(domain=list(kinds.values()), range=colors)),
            order="order:Q",
        )
    )  # fmt: skip
    return _svg(alt.layer(bars, _names(names)).properties(width=_WIDTH, height=alt.Step(44)))


def survival_chart(rows: list[dict[str, Any]], noise: str) -> str | None:
    """Return what survives one noise in several studies, before and after closing, as pairs of points."""
    own = [row for row in rows if noise in row["noises"]]
    kinds = {"before": "as it is", "after": "closed"}
    several = len({row["problem"] for row in own}) > 1
    points = [
        {
            "noise": f"{row['name']}, {row['problem']}" if several else row["name"],
            "value": row["noises"][noise][key],
            "kind": kind,
        }
        for row in own
        for key, kind in kinds.items()
        if row["noises"][noise][key] is not None
    ]
    if not points:
        return None
    alt = theme.altair()
    names = list(dict.fromkeys(point["noise"] for point in points))
    placed = {"title": "share of answers that survive", "scale": _domain(_survivals(rows))}
    base = alt.Chart(theme.table(points), title=said(noise)).encode(
        x=alt.X("value:Q", axis=alt.Axis(tickCount=5), **placed),
        y=alt.Y("noise:N", title=None, sort=names, axis=None),
    )
    span = base.mark_rule(strokeWidth=1.5, color=theme.MUTED, opacity=0.6).encode(
        x=alt.X("min(value):Q", **placed), x2="max(value):Q"
    )
    keyed = theme.keyed("kind", list(kinds.values()), colors=[theme.MUTED, theme.GALLERY])
    marks = base.mark_point(filled=True, size=90, opacity=1).encode(**keyed)
    return _svg(alt.layer(span, marks, _names(names)).properties(width=_WIDTH, height=alt.Step(44)))


def _survivals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every share of every noise: panels of one page have one scale."""
    return [
        {"value": cell[key]}
        for row in rows
        for cell in row["noises"].values()
        for key in ("before", "after")
        if cell[key] is not None
    ]


def survival_words(rows: list[dict[str, Any]], noise: str) -> str:
    """Return in words how many problems survive a noise better closed, and how many worse."""
    pairs = [
        (row["noises"][noise]["before"], row["noises"][noise]["after"])
        for row in rows
        if noise in row["noises"]
    ]
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
    better, worse = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
    return f"closed, {better} of {len(pairs)} survive it better, {worse} worse."


def template_chart(templates: dict[str, Any], label: str) -> str:
    """Return the flips of every caption template as dots."""
    alt = theme.altair()
    kinds = {"flips": "as they are", "flips_closed": f"with the reference's closure ({label})"}
    rows = [
        {"template": row["template"], "value": row[key], "kind": kind}
        for row in templates["rows"]
        for key, kind in kinds.items()
        if not row["reference"]
    ]
    names = [row["template"] for row in templates["rows"] if not row["reference"]]
    return _svg(
        alt.Chart(theme.table(rows))
        .mark_point(filled=True, size=60)
        .encode(
            x=alt.X("value:Q", title="share of answers that change", axis=alt.Axis(tickCount=5)),
            y=alt.Y("template:N", title=None, sort=names, axis=alt.Axis(labelLimit=170, grid=True)),
            **theme.keyed("kind", list(kinds.values()), columns=1),
        )
        .properties(width=_WIDTH - 80, height=alt.Step(20))
    )


def bits_panels(found: dict[str, Any]) -> dict[str, str]:
    """Return what the scores are made of, and what codes do to them."""
    return {"spectrum": _svg(bits.spectrum_chart(found, width=_WIDTH)),
            "codes": _svg(bits.codes_chart(found, width=_WIDTH))}  # fmt: skip


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
