"""Figure 7: two labels; noise turns the decision boundary, and far queries flip first."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.decisions.neighbors import nearest
from modgap.paper.figures.record import Figure, judge, listed
from modgap.paper.figures.sources import Labelled, Sources
from modgap.paper.theory import stability_by_distance
from modgap.robustness.integral import win_probability

__all__ = ["figure"]

CLAIM = (
    "noise on two labels turns the boundary between them, so of two queries at the same height above "
    "it the one further from the labels flips first"
)
SIGMA = 0.12
HEIGHT = 0.15
DISTANCES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
_LABELS = np.array([[0.0, 0.5], [0.0, -0.5]])
_LINES = 25
_REACH = (-0.6, 4.4)
_REAL_SIGMA = 0.022


def figure(sources: Sources) -> Figure:
    """Return the figure: a plane with two labels, and two labels of the data at hand."""
    queries = np.array([[distance, HEIGHT] for distance in DISTANCES])
    kept = win_probability(
        queries, _LABELS, np.zeros(len(queries), dtype=int), [SIGMA], metric="euclidean"
    )
    flips = 1 - np.asarray(kept).ravel()
    real = [_real(data) for data in sources.labelled]
    rising = bool((np.diff(flips) > 0).all())
    verdict = (
        f"In the plane, at height {HEIGHT:g} and distances {listed(DISTANCES, 'g')} the chance to flip is "
        f"{listed(flips)}. On two labels of real data, moving every query towards them raises or keeps "
        "its stability in "
        + ", ".join(f"{r['agreement']:.1%} of steps ({r['dataset']})" for r in real)
        + "; mean stability goes "
        + ", ".join(f"from {r['stability'][0]:.3f} to {r['stability'][-1]:.3f}" for r in real)
        + "."
    )
    numbers = {
        "sigma": SIGMA, "queries": queries, "flips": flips, "labels": _LABELS,
        "boundaries": _boundaries(), "real": real,
    }  # fmt: skip
    return Figure(
        7, "Far queries flip first", CLAIM, judge([rising, *(r["agreement"] >= 0.999 for r in real)]),
        verdict, numbers, _chart(numbers),
        (f"a construction: two labels in a plane, noise {SIGMA:g}", *(d.name for d in sources.labelled)),
    )  # fmt: skip


def _boundaries() -> list[dict[str, float]]:
    """Return the boundary between the two labels for some draws of the noise: a point and a slope."""
    rng = np.random.default_rng(0)
    found = []
    for noise in rng.normal(scale=SIGMA, size=(_LINES, 2, 2)):
        first, second = _LABELS + noise
        middle, across = (first + second) / 2, first - second
        slope = -across[0] / across[1]
        found.append({"height": float(middle[1] - slope * middle[0]), "slope": float(slope)})
    return found


def _real(data: Labelled) -> dict[str, Any]:
    """Return stability against alpha for the two classes that are hardest to tell apart."""
    texts = data.texts[0].astype(np.float64)
    squared = ((texts[:, None] - texts[None]) ** 2).sum(axis=2) + 1e9 * np.eye(len(texts))
    pair = sorted(int(i) for i in np.unravel_index(np.argmin(squared), squared.shape))
    queries = data.images[np.isin(data.labels, pair)].astype(np.float64)
    if len(queries) < 2:  # classes without images: take all
        queries = data.images.astype(np.float64)
    found = stability_by_distance(queries, texts[pair], _REAL_SIGMA)
    decided = nearest(queries, texts[pair], metric="euclidean").indices[:, 0]
    return {
        "dataset": data.name,
        "classes": [data.classes[i] for i in pair],
        "queries": len(queries),
        "first_label": float((np.asarray(decided) == 0).mean()),
        "alphas": list(found.alphas),
        "stability": np.asarray(found.stability).mean(axis=1),
        "agreement": found.agreement,
    }


def _chart(numbers: dict[str, Any]) -> Any:
    both = theme.altair().vconcat(_plane(numbers), _real_chart(numbers["real"]))
    return both.resolve_scale(color="independent", shape="independent")


def _plane(numbers: dict[str, Any]) -> Any:
    """Return the boundaries under noise, and the queries with their chance to flip over them."""
    alt = theme.altair()
    x = alt.X(
        "a:Q",
        title="distance from the labels",
        axis=alt.Axis(values=[0, 1, 2, 3, 4]),
        scale=alt.Scale(domain=list(_REACH), nice=False),
    )
    y = alt.Y("b:Q", title=None, scale=alt.Scale(domain=[-1.1, 1.1]))
    points = [
        {"a": float(q[0]), "b": float(q[1]), "flip": float(f), "text": f"{f:.2f}"}
        for q, f in zip(numbers["queries"], numbers["flips"], strict=True)
    ]
    dots = alt.Chart(theme.table(points)).encode(x=x, y=y)
    shades = alt.Scale(scheme="viridis", domain=[0, 0.5])
    circles = dots.mark_point(filled=True, size=120, opacity=1, stroke=theme.INK)
    layers = alt.layer(
        *(chart.encode(x=x, y=y) for chart in _lines(numbers)),
        circles.encode(color=alt.Color("flip:Q", title="chance to flip", scale=shades)),
        dots.mark_text(dy=-14, fontSize=12, fontWeight=600).encode(text="text:N"),
    )
    title = "Boundary under noise (grey), labels (diamonds), and chance to flip"
    return layers.properties(width=640, height=230, title=title)


def _lines(numbers: dict[str, Any]) -> list[Any]:
    """Return the turned boundaries, the boundary at rest, and the two labels."""
    alt = theme.altair()
    turned = [
        {"line": i, "a": a, "b": line["height"] + line["slope"] * a}
        for i, line in enumerate(numbers["boundaries"])
        for a in _REACH
    ]
    rules = alt.Chart(theme.table(turned)).encode(detail="line:N")
    calm = alt.Chart(theme.table([{"a": a, "b": 0.0} for a in _REACH]))
    labels = [{"a": float(p[0]), "b": float(p[1])} for p in numbers["labels"]]
    marks = alt.Chart(theme.table(labels))
    return [
        rules.mark_line(color=theme.MUTED, opacity=0.45, strokeWidth=1, clip=True),
        calm.mark_line(color=theme.INK, strokeWidth=2),
        marks.mark_point(filled=True, size=160, shape="diamond", color=theme.GALLERY, opacity=1),
    ]


def _real_chart(real: list[dict[str, Any]]) -> Any:
    alt = theme.altair()
    rows = [
        {"alpha": a, "stability": float(s), "line": f"{r['dataset']}: {' or '.join(r['classes'])}"}
        for r in real
        for a, s in zip(r["alphas"], r["stability"], strict=True)
    ]
    base = alt.Chart(
        theme.table(rows), title=f"Two labels of real data, noise {_REAL_SIGMA:g}"
    ).encode(
        x=alt.X("alpha:Q", title="alpha, queries moved towards the labels"),
        y=alt.Y("stability:Q", title="mean stability", scale=alt.Scale(zero=False)),
        **theme.keyed("line", list(dict.fromkeys(str(r["line"]) for r in rows)), columns=1),
    )
    layers = alt.layer(base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=55))
    return layers.properties(width=640, height=180)
