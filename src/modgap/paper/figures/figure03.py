"""Figure 3: three points a modality in the plane; little loss and little pull in spite of a gap."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.figures.record import Figure, judge, listed
from modgap.paper.figures.sources import Sources
from modgap.paper.theory import contrastive_gradient

__all__ = ["figure"]

CLAIM = (
    "as long as every point's true partner is its nearest neighbour, loss and gradient are close to "
    "zero, however large the gap"
)
TEMPERATURE = 0.1
#: Little: a loss under 0.05, and a gradient under a twentieth of that with partners swapped.
_LITTLE_LOSS, _LITTLE_SHARE, _MUCH = 0.05, 0.05, 1.0
_THIN = np.array([[0.0, -1.0], [0.03, 0.0], [-0.03, 1.0]])
_WIDE = np.array([[0.0, -1.0], [0.3, 0.0], [-0.1, 1.0]])
#: Name, one modality, shift of the other, its order.
SETTINGS = (
    ("no gap", _THIN, 0.0, (0, 1, 2)),
    ("a gap", _THIN, 1.2, (0, 1, 2)),
    ("a larger gap", _THIN, 2.4, (0, 1, 2)),
    ("partners nearest, by little", _WIDE, 1.4, (0, 1, 2)),
    ("a gap, two partners swapped", _THIN, 1.2, (0, 2, 1)),
)


def figure(sources: Sources) -> Figure:
    """Return the figure. It is a construction, and needs no data."""
    scenes = [_scene(*setting) for setting in SETTINGS]
    aligned = [s for s in scenes if s["aligned"]]
    crossed = [s for s in scenes if not s["aligned"]]
    little = _LITTLE_SHARE * min(s["gradient"] for s in crossed)
    parts = [s["loss"] < _LITTLE_LOSS and s["gradient"] < little for s in aligned]
    parts += [s["loss"] > _MUCH for s in crossed]
    margins = [s["margin"] / TEMPERATURE for s in aligned]
    verdict = (
        f"With every partner nearest, gaps of {listed((s['gap'] for s in aligned), '.2g')} have losses "
        f"of {listed((s['loss'] for s in aligned), '.1e')} and gradients of length "
        f"{listed((s['gradient'] for s in aligned), '.1e')}; with two partners swapped the loss is "
        f"{crossed[0]['loss']:.1f} and the gradient {crossed[0]['gradient']:.1f}. Being nearest is enough "
        f"only by some margin: squared distances ahead by {listed(margins, '.2g')} temperatures."
    )
    return Figure(
        3, "A gap that the loss does not see", CLAIM, judge(parts), verdict,
        {"temperature": TEMPERATURE, "scenes": scenes}, _chart(scenes),
        ("a construction: three points a modality, temperature 0.1",),
    )  # fmt: skip


def _scene(name: str, x: np.ndarray, shift: float, order: tuple[int, ...]) -> dict[str, Any]:
    """Return one scene: x, its copy y moved by `shift`, and what the loss sees of them."""
    y = x[list(order)] + np.array([shift, 0.0])
    found = contrastive_gradient(x, y, temperature=TEMPERATURE)
    squared = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    own = np.arange(3)
    strangers = squared + 1e9 * np.eye(3)
    nearest = np.minimum(strangers.min(axis=0), strangers.min(axis=1))
    aligned = (squared.argmin(axis=0) == own).all() and (squared.argmin(axis=1) == own).all()
    return {
        "name": name,
        "x": x,
        "y": y,
        "gap": float(np.linalg.norm(y.mean(axis=0) - x.mean(axis=0))),
        "loss": found.loss,
        "gradient": float(np.sqrt((found.x**2).sum() + (found.y**2).sum())),
        "margin": float((nearest - np.diagonal(squared)).min()),
        "aligned": bool(aligned),
    }


def _chart(scenes: list[dict[str, Any]]) -> Any:
    alt = theme.altair()
    charts = []
    for scene in scenes:
        points = [
            {"a": float(p[0]), "b": float(p[1]), "side": side}
            for side in ("x", "y")
            for p in scene[side]
        ]
        links = [
            {"a": float(p[0]), "b": float(p[1]), "a2": float(q[0]), "b2": float(q[1])}
            for p, q in zip(scene["x"], scene["y"], strict=True)
        ]
        x = alt.X("a:Q", title=None, scale=alt.Scale(domain=[-0.6, 2.9]))
        y = alt.Y("b:Q", title=None, scale=alt.Scale(domain=[-1.4, 1.4]))
        lines = alt.Chart(theme.table(links)).mark_rule(color=theme.MUTED, strokeWidth=1.5)
        marks = alt.Chart(theme.table(points)).mark_point(filled=True, size=110, opacity=0.95)
        chart = alt.layer(
            lines.encode(x=x, y=y, x2="a2:Q", y2="b2:Q"),
            marks.encode(
                x=x, y=y,
                **theme.keyed("side", ["x", "y"], colors=(theme.GALLERY, theme.QUERIES)),
            ),
        )  # fmt: skip
        sizes = f"loss {scene['loss']:.1e}, gradient {scene['gradient']:.1e}"
        title = alt.TitleParams(scene["name"], subtitle=sizes)
        charts.append(chart.properties(width=215, height=170, title=title))
    return alt.vconcat(alt.hconcat(*charts[:3]), alt.hconcat(*charts[3:]))
