"""Figure 7: two labels; noise turns the decision boundary, and far queries flip first."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.figures.drawing import fixed, grid, level_lines, marked_lines
from modgap.paper.figures.record import Case, Estimate, Figure, Finding, Rows, findings, listed
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
#: Squared distance below which two unit rows are one text, embedded twice in half precision.
_SAME = 1e-6


def figure(sources: Sources) -> Figure:
    """Return the figure: a plane with two labels, and two labels of the data at hand."""
    flips = _plane_flips()
    pairs = [(data, _nearest_pair(data)) for data in sources.labelled]
    real = [_real(data, pair) for data, pair in pairs if pair is not None]
    tables: dict[str, Rows] = {
        "queries": [
            {"distance": d, "height": HEIGHT, "flip": float(f)}
            for d, f in zip(DISTANCES, flips, strict=True)
        ],
        "boundaries": _boundaries(),
        "real": [row for found in real for row in found["rows"]],
    }
    numbers = {
        "sigma": SIGMA, "labels": _LABELS, "flips": flips, "real_sigma": _REAL_SIGMA,
        "real": [{k: v for k, v in found.items() if k != "rows"} for found in real],
    }  # fmt: skip
    return Figure(
        7, "Far queries flip first", CLAIM, _told(flips, real), numbers, tables, _chart(tables, real),
        (f"a construction: two labels in a plane, noise {SIGMA:g}", *(d.name for d in sources.labelled)),
    )  # fmt: skip


def _plane_flips() -> np.ndarray:
    """Return the chance that noise on the labels changes the decision, for each distance."""
    queries = np.array([[distance, HEIGHT] for distance in DISTANCES])
    targets = np.zeros(len(queries), dtype=int)
    kept = win_probability(queries, _LABELS, targets, [SIGMA], metric="euclidean")
    return 1 - np.asarray(kept).ravel()


def _told(flips: np.ndarray, real: list[dict[str, Any]]) -> tuple[Finding, ...]:
    plane = (
        f"at height {HEIGHT:g} and distances {listed(DISTANCES, 'g')} the chance to flip is "
        f"{listed(flips)} (exact to 1e-5)"
    )
    cases = [
        Case(
            f"{r['dataset']} ({' or '.join(r['classes'])})",
            r["agreement"] >= 0.999,
            f"in {r['agreement']:.1%} of the steps of {r['queries']} queries; on average "
            f"{r['start']:.3f} to {r['end']:.3f} ({r['gain']:+.3f})",
        )
        for r in real
    ]
    return (
        *findings(
            "in a plane, of queries at one height above the boundary the further one flips more often",
            [Case("", bool((np.diff(flips) > 0).all()), plane)],
        ),
        *findings(
            f"on two labels of real data (noise {_REAL_SIGMA:g}), every step towards them raises a "
            "query's stability or keeps it", cases, "no set with labels is at hand",
        ),
    )  # fmt: skip


def _boundaries() -> Rows:
    """Return two points of the boundary between the labels, for some draws of the noise."""
    rng = np.random.default_rng(0)
    rows = []
    for i, noise in enumerate(rng.normal(scale=SIGMA, size=(_LINES, 2, 2))):
        first, second = _LABELS + noise
        middle, across = (first + second) / 2, first - second
        slope = -across[0] / across[1]
        rows += [
            {"line": i, "a": a, "b": float(middle[1] + slope * (a - middle[0]))} for a in _REACH
        ]
    return rows


def _nearest_pair(data: Labelled) -> list[int] | None:
    """Return the two classes that are hardest to tell apart, but not those of one text."""
    texts = data.texts[data.plain_template()].astype(np.float64)
    squared = ((texts[:, None] - texts[None]) ** 2).sum(axis=2)
    squared[squared < _SAME] = np.inf
    if not np.isfinite(squared).any():
        return None
    return sorted(int(i) for i in np.unravel_index(np.argmin(squared), squared.shape))


def _real(data: Labelled, pair: list[int]) -> dict[str, Any]:
    """Return stability against alpha for two classes."""
    texts = data.texts[data.plain_template()].astype(np.float64)
    queries = data.images[np.isin(data.labels, pair)].astype(np.float64)
    if len(queries) < 2:  # classes without images: take all
        queries = data.images.astype(np.float64)
    found = stability_by_distance(queries, texts[pair], _REAL_SIGMA)
    stability = np.asarray(found.stability)
    scores = queries @ texts[pair].T
    products = win_probability(
        queries, texts[pair], np.argmax(scores, axis=1), [_REAL_SIGMA], metric="ip"
    )
    means = [Estimate.of(row) for row in stability]
    return {
        "dataset": data.name,
        "classes": [data.classes[i] for i in pair],
        "queries": len(queries),
        "start": means[0],
        "end": means[-1],
        "gain": Estimate.of(stability[-1] - stability[0]),
        "agreement": found.agreement,
        "inner_product": Estimate.of(np.asarray(products)[0]),
        "rows": [
            {
                "dataset": data.name,
                "alpha": a,
                "stability": e.value,
                "low": e.value - e.stderr,
                "high": e.value + e.stderr,
            }
            for a, e in zip(found.alphas, means, strict=True)
        ],
    }


def _chart(tables: dict[str, Rows], real: list[dict[str, Any]]) -> Any:
    plane = _plane(tables)
    if not real:
        return plane
    alt = theme.altair()
    panels = grid([_real_panel(tables["real"], found) for found in real], 3)
    title = alt.TitleParams(
        f"Two labels of real data, noise {_REAL_SIGMA:g}, one standard error over queries",
        subtitle="dashed: nothing closed, compared by inner product (the same decisions)",
    )
    both = alt.vconcat(plane, panels.properties(title=title))
    return both.resolve_scale(color="independent", shape="independent")


def _plane(tables: dict[str, Rows]) -> Any:
    """Return the boundaries under noise, and the queries with their chance to flip over them."""
    alt = theme.altair()
    x = alt.X("a:Q", title="distance from the labels", axis=alt.Axis(values=[0, 1, 2, 3, 4]),
              scale=fixed(*_REACH))  # fmt: skip
    y = alt.Y("b:Q", title="height above the boundary", scale=fixed(-1.1, 1.1))
    turned = alt.Chart(theme.table(tables["boundaries"])).encode(detail="line:N")
    calm = alt.Chart(theme.table([{"a": a, "b": 0.0} for a in _REACH]))
    labels = alt.Chart(theme.table([{"a": float(p[0]), "b": float(p[1])} for p in _LABELS]))
    points = [
        {"a": r["distance"], "b": r["height"], "flip": r["flip"], "text": f"{r['flip']:.2f}"}
        for r in tables["queries"]
    ]
    dots = alt.Chart(theme.table(points)).encode(x=x, y=y)
    shades = alt.Scale(scheme="viridis", domain=[0, 0.5])
    circles = dots.mark_point(filled=True, size=120, opacity=1, stroke=theme.INK)
    marks = (
        turned.mark_line(color=theme.MUTED, opacity=0.45, strokeWidth=1, clip=True),
        calm.mark_line(color=theme.INK, strokeWidth=2),
        labels.mark_point(filled=True, size=160, shape="diamond", color=theme.GALLERY, opacity=1),
    )
    return alt.layer(
        *(mark.encode(x=x, y=y) for mark in marks),
        circles.encode(color=alt.Color("flip:Q", title="chance to flip", scale=shades)),
        dots.mark_text(dy=-14, fontSize=12, fontWeight=600, color=theme.INK).encode(text="text:N"),
    ).properties(
        width=860,
        height=250,
        title="Boundary under noise (grey), labels (diamonds), chance to flip",
    )


def _real_panel(rows: Rows, found: dict[str, Any]) -> Any:
    alt = theme.altair()
    own = [row for row in rows if row["dataset"] == found["dataset"]]
    axis = {"title": "mean stability (by chance 0.5)", "scale": fixed(0.5, 1)}
    base = alt.Chart(theme.table(own)).encode(
        x=alt.X("alpha:Q", title="alpha, queries moved towards the labels", scale=fixed(0, 1)),
        color=alt.value(theme.QUERIES),
    )
    seen = found["inner_product"]
    level = {
        "stability": seen.value,
        "low": seen.value - seen.stderr,
        "high": seen.value + seen.stderr,
    }
    ink = {"color": alt.value(theme.INK)}
    dashed = {**ink, "strokeDash": alt.value([5, 4])}
    levels = level_lines([level], "stability", band=ink, line=dashed, **axis)
    title = alt.TitleParams(found["dataset"], subtitle=" or ".join(found["classes"]), limit=280)
    return alt.layer(*levels, *marked_lines(base, "stability", **axis)).properties(
        width=240, height=170, title=title
    )
