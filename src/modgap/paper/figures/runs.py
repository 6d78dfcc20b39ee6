"""Simulations that figures share: each is made once, however many figures show it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from modgap.errors import SimulationWarning
from modgap.paper.dynamics import PAPER_RUN, Simulation, Trajectory, simulate
from modgap.paper.figures.record import Rows
from modgap.paper.theory import mode_rates

__all__ = [
    "TUNED",
    "UNTUNED",
    "Tuning",
    "aligned",
    "described",
    "figures_of",
    "larger",
    "logged",
    "longest_rate",
    "named",
    "paper_run",
    "run",
]

#: Steps of the paper's run that are recorded one by one: most happens there.
_EARLY = range(40)
#: Figures that are simulated, by what of them can be set.
TUNED = {"temperature": (3, 4, 5, 6), "rate": (4, 5, 6), "seed": (4, 5, 6)}
#: Figures of a run that are drawn, with what they are called; the variance is that of the larger side.
_DRAWN = {
    "loss": "loss",
    "gap": "gap",
    "variance_ratio": "variance along the gap / average",
    "deviation": "deviation of the sums from one",
}
_LEAST = 1e-8


@dataclass(frozen=True)
class Tuning:
    """What a caller sets of the simulated figures; None leaves the figure's own.

    Attributes
    ----------
    temperature : float, optional
        Of figures 3 to 6.
    rate, seed : float, int, optional
        Of figures 4 to 6; figure 5 takes its other starts from the seeds after this one.
    """

    temperature: float | None = None
    rate: float | None = None
    seed: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is set."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def of(self, settings: Simulation) -> Simulation:
        """Return the settings of a simulation as tuned."""
        return replace(settings, **self.given)


UNTUNED = Tuning()


def run(settings: Simulation, stages: tuple[int, ...]) -> Trajectory:
    """Return a run with snapshots at the stages; the last of them is its end.

    It is kept, and warns each time of what it warned of when it was made.
    """
    found, told = _made(settings, stages)
    for message in told:
        warnings.warn(message, SimulationWarning, stacklevel=2)
    return found


@lru_cache(maxsize=16)
def _made(settings: Simulation, stages: tuple[int, ...]) -> tuple[Trajectory, tuple[str, ...]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SimulationWarning)
        found = simulate(replace(settings, steps=stages[-1]), snapshots=stages)
    return found, tuple(str(w.message) for w in caught if w.category is SimulationWarning)


def paper_run(
    stages: Sequence[int], tuning: Tuning, *, sphere: bool = False, pairs: int | None = None
) -> Trajectory:
    """Return the run of figures 4 and 6 up to the last stage, or one of fewer pairs."""
    settings = replace(PAPER_RUN, sphere=sphere, n=pairs or PAPER_RUN.n, record_every=10)
    # the early steps of both figures, so that the run is made once
    kept = {*stages, *(step for step in _EARLY if step < stages[-1])}
    return run(tuning.of(settings), tuple(sorted(kept)))


def longest_rate(found: Trajectory) -> float:
    """Return the rate above which the start of a run overshoots along its gap."""
    start, settings = float(found.gap[0]), found.settings
    return mode_rates(start, temperature=settings.temperature, n=1).largest_step


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
