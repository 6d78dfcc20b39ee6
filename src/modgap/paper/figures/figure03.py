"""Figure 3: three points a modality in the plane; little loss and little pull in spite of a gap."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.figures.drawing import fixed, grid, linked_clouds, point_rows
from modgap.paper.figures.record import Case, Figure, Finding, Rows, findings, listed
from modgap.paper.figures.runs import UNTUNED, Tuning
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
#: Ahead by this many temperatures, a partner takes all but exp(-5) of the softmax.
_CLEARLY = 5.0
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


def figure(sources: Sources, *, tuning: Tuning = UNTUNED) -> Figure:
    """Return the figure. It is a construction, and needs no data."""
    temperature = tuning.temperature or TEMPERATURE
    scenes = [_scene(*setting, temperature) for setting in SETTINGS]
    points = [row for s in scenes for row in point_rows(s["x"], s["y"], scene=s["name"])]
    losses = [{k: v for k, v in s.items() if k not in ("x", "y")} for s in scenes]
    return Figure(
        3, "A gap that the loss does not see", CLAIM, _told(scenes, temperature),
        {"temperature": temperature, "scenes": scenes}, {"points": points, "losses": losses},
        _chart(scenes, points), (f"a construction: three points a modality, temperature {temperature:g}",),
    )  # fmt: skip


def _told(scenes: list[dict[str, Any]], temperature: float) -> tuple[Finding, ...]:
    clear = [s for s in scenes if s["aligned"] and s["margin"] > _CLEARLY * temperature]
    barely = [s for s in scenes if s["aligned"] and s["margin"] <= _CLEARLY * temperature]
    crossed = [s for s in scenes if not s["aligned"]]
    little = _LITTLE_SHARE * min(s["gradient"] for s in crossed)

    def seen(some: list[dict[str, Any]]) -> str:
        ahead, gaps = (
            listed(values, ".2g")
            for values in ([s["margin"] / temperature for s in some], [s["gap"] for s in some])
        )
        losses, pulls = (listed((s[key] for s in some), ".1e") for key in ("loss", "gradient"))
        return (
            f"gap {gaps}: loss {losses}, gradient {pulls}, partners ahead by {ahead} temperatures"
        )  # fmt: skip

    def small(some: list[dict[str, Any]]) -> bool:
        return all(s["loss"] < _LITTLE_LOSS and s["gradient"] < little for s in some)

    def cases(some: list[dict[str, Any]]) -> list[Case]:
        return [Case("", small(some), seen(some))] if some else []

    none = f"no scene has its partners so far ahead at temperature {temperature:g}"
    return (
        *findings(
            "with partners nearest by a clear margin, loss and gradient are close to zero at every gap",
            cases(clear), none,
        ),
        *findings("being nearest is enough, by however little", cases(barely), none),
        *findings(
            "with two partners swapped, the same gap has a loss and a gradient",
            [Case("", all(s["loss"] > _MUCH for s in crossed),
                  f"loss {crossed[0]['loss']:.1f}, gradient {crossed[0]['gradient']:.1f}")],
        ),
    )  # fmt: skip


def _scene(
    name: str, x: np.ndarray, shift: float, order: tuple[int, ...], temperature: float
) -> dict[str, Any]:
    """Return one scene: x, its copy y moved by `shift`, and what the loss sees of them."""
    y = x[list(order)] + np.array([shift, 0.0])
    found = contrastive_gradient(x, y, temperature=temperature)
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


def _chart(scenes: list[dict[str, Any]], points: Rows) -> Any:
    alt = theme.altair()
    charts = []
    for scene in scenes:
        own = [row for row in points if row["scene"] == scene["name"]]
        x = alt.X("a:Q", title=None, scale=fixed(-0.6, 2.9))
        y = alt.Y("b:Q", title=None, scale=fixed(-1.4, 1.4))
        sizes = f"loss {scene['loss']:.1e}, gradient {scene['gradient']:.1e}"
        title = alt.TitleParams(scene["name"], subtitle=sizes)
        chart = linked_clouds(own, x, y, size=110, width=1.5)
        charts.append(chart.properties(width=225, height=180, title=title))
    return grid(charts, 3)
