"""What indexes find: recall against bytes a vector, and against the work of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modgap.charts import theme

__all__ = ["bytes_chart", "work_charts"]

#: Usual maps have colours of their own on every page; others take the next free ones.
_COLOURS = {"none": theme.MUTED, "recenter": "#D55E00", "balanced": "#0072B2"}
_OWN = "{map}, asked with its own kind"


def bytes_chart(
    rows: Sequence[Mapping[str, Any]], *, depth: str = "10", width: int = 620, height: int = 340
) -> Any:
    """Return recall against bytes a vector, a mark a codec and map; the codecs' names at the best of them.

    Parameters
    ----------
    rows : sequence of dict
        From `IndexStudy.to_dict`, those that have figures.
    depth : str
        Of the recall.
    width, height : int
    """
    alt = theme.altair()
    maps = list(dict.fromkeys(row["map"] for row in rows))
    points = [
        {
            "codec": _label(row),
            "map": row["map"],
            "bytes": row["bytes_per_vector"],
            "recall": row["recall"][depth],
            "low": row["recall"][depth] - 2 * (row["recall_stderr"][depth] or 0),
            "high": row["recall"][depth] + 2 * (row["recall_stderr"][depth] or 0),
        }
        for row in rows
    ]
    x = alt.X(
        "bytes:Q", title="bytes a vector", scale=alt.Scale(type="log", nice=False, padding=40)
    )
    base = alt.Chart(theme.table(points)).encode(x=x, detail="codec:N")
    scale = _recall_scale([point["low"] for point in points])
    # One line a codec from map to map: how far closing carries it.
    links = base.mark_rule(color=theme.GRID, strokeWidth=4).encode(
        y=alt.Y("min(recall):Q", scale=scale), y2="max(recall):Q"
    )
    bars = base.mark_rule(opacity=0.7).encode(
        y=alt.Y("low:Q", scale=scale), y2="high:Q", color=_colour(maps)
    )
    marks = base.mark_point(filled=True, size=75, opacity=1).encode(
        y=alt.Y("recall:Q", title=f"recall of the exact {depth} nearest", scale=scale),
        color=_colour(maps),
        shape=alt.Shape("map:N", title=None, scale=alt.Scale(domain=maps)),
    )
    best: dict[str, dict[str, Any]] = {}
    for point in points:
        if point["recall"] >= best.get(point["codec"], point)["recall"]:
            best[point["codec"]] = point
    names = (
        alt.Chart(theme.table(_spread(list(best.values()))))
        .mark_text(align="left", dx=8, fontSize=11, color=theme.INK)
        .encode(x=x, y=alt.Y("place:Q", scale=scale), text="codec:N")
    )
    return alt.layer(links, bars, marks, names).properties(width=width, height=height)


def work_charts(
    rows: Sequence[Mapping[str, Any]], *, width: int = 300, height: int = 230
) -> list[tuple[str, Any]]:
    """Return for each graph or list index its title and recall of ten against the work of a query.

    Parameters
    ----------
    rows : sequence of dict
        From `IndexStudy.to_dict`, those that have figures.
    width, height : int
    """
    alt = theme.altair()
    charts = []
    for codec in dict.fromkeys(_label(row) for row in rows if row["efforts"]):
        own = [row for row in rows if _label(row) == codec]
        counted = all(row["work"]["counted"] for row in own)
        points = [
            {
                "line": name,
                "map": row["map"],
                "work": one["computations"] if counted else 1e6 * one["seconds"],
                "recall": one["recall"],
            }
            for row in own
            for name, efforts in (
                (row["map"], row["efforts"]),
                (_OWN.format(map=row["map"]), row["own_kind_efforts"]),
            )
            for one in efforts
        ]
        names = list(dict.fromkeys(point["line"] for point in points))
        title = (
            "distance computations a query" if counted else "microseconds a query, as timed here"
        )
        drawn = alt.Chart(theme.table(points)).encode(
            x=alt.X("work:Q", title=title, scale=alt.Scale(type="log", nice=False),
                    axis=alt.Axis(tickCount=5)),
            y=alt.Y("recall:Q", title="recall of the exact 10 nearest",
                    scale=_recall_scale([point["recall"] for point in points])),
            color=_colour(names),
            strokeDash=alt.StrokeDash("line:N", title=None, legend=alt.Legend(columns=1), scale=alt.Scale(
                domain=names, range=[[4, 3] if "," in name else [1, 0] for name in names])),
        )  # fmt: skip
        layers = [drawn.mark_line(strokeWidth=2), drawn.mark_point(filled=True, size=28)]
        charts.append((codec, alt.layer(*layers).properties(width=width, height=height)))
    return charts


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['engine']}:{row['codec']}"


def _colour(names: Sequence[str]) -> Any:
    """Return the colour of each line or mark: that of its map."""
    alt = theme.altair()
    field = "line:N" if any("," in name for name in names) else None
    maps = [name.split(",")[0] for name in names]
    free = iter([c for c in theme.CYCLE if c not in _COLOURS.values()] * (1 + len(maps)))
    own = {name: _COLOURS.get(name) or next(free) for name in dict.fromkeys(maps)}
    scale = alt.Scale(domain=list(names), range=[own[name] for name in maps])
    return alt.Color(
        field or "map:N", title=None, scale=scale, legend=alt.Legend(columns=1 if field else 4)
    )


def _recall_scale(values: Sequence[float]) -> Any:
    low = max(0.0, min(values, default=0.0) - 0.05)
    return theme.altair().Scale(domain=[low, 1.03], nice=False)


def _spread(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the names' places, moved apart where they would lie on each other."""
    placed: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda one: -one["recall"]):
        place = point["recall"]
        for other in placed:
            near = 0.4 < point["bytes"] / other["bytes"] < 2.5
            if near and abs(other["place"] - place) < 0.035:
                place = other["place"] - 0.035
        placed.append({**point, "place": max(place, 0.0)})
    return placed
