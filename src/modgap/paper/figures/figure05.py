"""Figure 5: softmax mass falls with the distance; an isotropic start shrinks along the gap first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from modgap.charts import theme
from modgap.paper.dynamics import Simulation, initial_clouds, simulate
from modgap.paper.figures.figure04 import lines
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import Sources
from modgap.paper.theory import softmax_sums

__all__ = ["figure"]

CLAIM = (
    "the mass S_i that a point gets falls with its distance to the other modality, so training, even "
    "from isotropic clouds, first removes the variance along the gap"
)
#: The plane of the upper pictures, and the run below.
PLANE = Simulation(n=150, dimension=2, start="clusters", spread=0.15, start_gap=1.6, seed=1)
#: A rate below temperature^2 / (2 ||g||^2); above it descent overshoots along the gap at first.
RUN = Simulation(start="isotropic", rate=0.0005, steps=4000, record_every=2, seed=0)
_CORRELATION, _HALF, _SHRUNK, _GAP = -0.8, 0.5, 0.1, 0.1


def figure(sources: Sources, *, plane: Simulation = PLANE, run: Simulation = RUN) -> Figure:
    """Return the figure. It is a simulation, and needs no data."""
    masses = [_masses(replace(plane, temperature=t)) for t in (1.0, 0.3)]
    path = _path(run)
    falls = [m["correlation"] < _CORRELATION for m in masses]
    first = path["shrunk_at"] is not None and (
        path["aligned_at"] is None or path["shrunk_at"] < path["aligned_at"]
    )
    stays = path["end_gap"] > _GAP
    when = {
        key: "never" if path[key] is None else f"at step {path[key]:,}"
        for key in ("halved_at", "shrunk_at", "aligned_at")
    }
    verdict = (
        "Rank correlation of S_i with the distance to the other modality's mean: "
        + ", ".join(f"{m['correlation']:.2f} (temperature {m['temperature']:g})" for m in masses)
        + f". From isotropic clouds (ratio {path['records'][0]['variance_ratio']:.2f}) the variance along "
        f"the gap falls below half of the average {when['halved_at']} and below a tenth "
        f"{when['shrunk_at']}, 99% of partners are nearest {when['aligned_at']}; "
        f"the gap goes from {path['start_gap']:.2f} to {path['end_gap']:.2f} and stays."
    )
    made = tuple(
        f"a simulation: {s.n} pairs in {s.dimension} dimensions, seed {s.seed}"
        for s in (plane, run)
    )
    return Figure(
        5, "Mass falls with distance, variance along the gap goes first", CLAIM,
        judge([*falls, first, stays]), verdict,
        {"masses": masses, "path": path}, _chart(masses, path), made,
    )  # fmt: skip


def _masses(settings: Simulation) -> dict[str, Any]:
    """Return the start's clouds, S_i of y, and its correlation with the distance to mean(x)."""
    x, y = initial_clouds(settings)
    sums = np.asarray(softmax_sums(x, y, temperature=settings.temperature).y)
    distance = np.linalg.norm(y - x.mean(axis=0), axis=1)
    return {
        "temperature": settings.temperature,
        "x": np.round(x, 4),
        "y": np.round(y, 4),
        "mass": sums,
        "correlation": float(spearmanr(distance, sums).statistic),
    }


def _path(settings: Simulation) -> dict[str, Any]:
    run = simulate(settings)
    ratio = np.maximum(run.variance_ratio_x, run.variance_ratio_y)
    aligned = np.minimum(run.alignment_x, run.alignment_y)
    return {
        "records": [
            {"step": int(s), "loss": float(a), "gap": float(g), "variance_ratio": float(r),
             "aligned": float(n)}
            for s, a, g, r, n in zip(run.step, run.loss, run.gap, ratio, aligned, strict=True)
        ],
        "halved_at": _first(run.step, ratio < _HALF),
        "shrunk_at": _first(run.step, ratio < _SHRUNK),
        "aligned_at": _first(run.step, aligned >= 0.99),
        "start_gap": float(run.gap[0]),
        "end_gap": float(run.gap[-1]),
        "end_loss": float(run.loss[-1]),
    }  # fmt: skip


def _first(steps: np.ndarray, reached: np.ndarray) -> int | None:
    return int(steps[np.argmax(reached)]) if reached.any() else None


def _chart(masses: list[dict[str, Any]], path: dict[str, Any]) -> Any:
    alt = theme.altair()
    upper = []
    for found in masses:
        points = [
            {"a": float(p[0]), "b": float(p[1]), "mass": float(m)}
            for p, m in zip(found["y"], found["mass"], strict=True)
        ]
        others = [{"a": float(p[0]), "b": float(p[1])} for p in found["x"]]
        x, y = alt.X("a:Q", title=None), alt.Y("b:Q", title=None)
        grey = alt.Chart(theme.table(others)).mark_point(
            shape="triangle", filled=True, size=26, color=theme.MUTED, opacity=0.6
        )
        dots = alt.Chart(theme.table(points)).mark_point(filled=True, size=34, opacity=0.95)
        color = alt.Color("mass:Q", title="S_i of y", scale=alt.Scale(scheme="viridis"))
        title = f"y by S_i, x grey; temperature {found['temperature']:g}"
        panel = alt.layer(grey.encode(x=x, y=y), dots.encode(x=x, y=y, color=color))
        upper.append(panel.properties(width=300, height=240, title=title))
    names = {"loss": "loss", "gap": "gap", "variance_ratio": "variance along the gap / average"}
    rows = [
        {"step": r["step"], "value": max(r[key], 1e-8), "what": label}
        for r in path["records"]
        for key, label in names.items()
    ]
    below = lines(rows, list(names.values()), steps="sqrt").properties(
        width=660, height=200, title="Descent from isotropic clouds"
    )
    both = alt.vconcat(alt.hconcat(*upper).resolve_scale(color="independent"), below)
    return both.resolve_scale(color="independent", strokeDash="independent")
