"""Simulations that figures share: each is made once, however many figures show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from modgap.paper.dynamics import PAPER_RUN, Simulation, Trajectory, simulate
from modgap.paper.figures.record import Rows

__all__ = [
    "PAPER_STAGES",
    "aligned",
    "described",
    "figures_of",
    "larger",
    "logged",
    "named",
    "paper_run",
    "run",
]

#: Steps after which the paper's run is shown; its own are not known.
PAPER_STAGES = (0, 10, 20, 50, 200, 1000, 6000)
#: Figures of a run that are drawn, with what they are called; the variance is that of the larger side.
_DRAWN = {
    "loss": "loss",
    "gap": "gap",
    "variance_ratio": "variance along the gap / average",
    "deviation": "deviation of the sums from one",
}
_LEAST = 1e-8


@lru_cache(maxsize=8)
def run(settings: Simulation, stages: tuple[int, ...]) -> Trajectory:
    """Return a run with snapshots at the stages; the last of them is its end."""
    return simulate(replace(settings, steps=stages[-1]), snapshots=stages)


def paper_run(
    stages: Sequence[int], *, sphere: bool = False, pairs: int | None = None
) -> Trajectory:
    """Return the run of figures 4 and 6 up to the last stage, or one of fewer pairs."""
    settings = replace(PAPER_RUN, sphere=sphere, n=pairs or PAPER_RUN.n, record_every=10)
    # the stages of both figures, so that the run is made once
    return run(settings, tuple(sorted({*stages, *(s for s in PAPER_STAGES if s < stages[-1])})))


def larger(found: Trajectory, name: str) -> np.ndarray:
    """Return the larger of both sides' figures at every record."""
    values: np.ndarray = np.maximum(getattr(found, f"{name}_x"), getattr(found, f"{name}_y"))
    return values


def aligned(found: Trajectory) -> np.ndarray:
    """Return the share of partners that are nearest, on the worse side."""
    values: np.ndarray = np.minimum(found.alignment_x, found.alignment_y)
    return values


def figures_of(found: Trajectory, at: int = -1) -> dict[str, float]:
    """Return one record."""
    return {
        "step": int(found.step[at]),
        "loss": float(found.loss[at]),
        "gap": float(found.gap[at]),
        "variance_ratio": float(larger(found, "variance_ratio")[at]),
        "aligned": float(aligned(found)[at]),
        "deviation": float(found.deviation[at]),
    }


def logged(found: Trajectory, *names: str, **more: Any) -> Rows:
    """Return the records as rows step, value, what, for a logarithmic scale."""
    columns = {
        name: larger(found, name) if name == "variance_ratio" else getattr(found, name)
        for name in names
    }
    return [
        {**more, "step": int(step), "value": max(float(value), _LEAST), "what": _DRAWN[name]}
        for name, values in columns.items()
        for step, value in zip(found.step, values, strict=True)
    ]


def named(*names: str) -> list[str]:
    """Return what drawn figures are called."""
    return [_DRAWN[name] for name in names]


def described(settings: Simulation) -> str:
    """Return the settings in a line."""
    return (
        f"a simulation: {settings.n} pairs in {settings.dimension} dimensions, temperature "
        f"{settings.temperature:g}, step {settings.rate:g} n, seed {settings.seed}"
    )
