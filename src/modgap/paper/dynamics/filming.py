"""A run as a film: both clouds at some steps, in one plane, and the figures of these steps."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from modgap._core.arrays import to_numpy
from modgap._core.checks import check_count
from modgap._core.json import plain
from modgap.errors import ArgumentError
from modgap.paper.dynamics.trajectory import Trajectory

__all__ = ["FRAMES", "film", "film_steps"]

#: Frames of a film, the start among them.
FRAMES = 91
#: Decimals of a coordinate: a thousandth of what can be seen at any size.
_DECIMALS = 5


def film_steps(steps: int, frames: int = FRAMES) -> tuple[int, ...]:
    """Return the steps to keep: close at first, where most happens, then further and further apart.

    Parameters
    ----------
    steps : int
        Updates of the run.
    frames : int
        How many to keep at most; fewer where a run has fewer steps.

    Returns
    -------
    tuple of int
        Increasing, from 0 to `steps`, evenly spaced on the scale of the cube root.

    Examples
    --------
    >>> film_steps(640, 5)
    (0, 10, 80, 270, 640)
    """
    check_count(steps, "steps")
    check_count(frames, "frames", low=2)
    shares = np.linspace(0.0, 1.0, frames) ** 3
    return tuple(sorted({round(steps * float(share)) for share in shares}))


def film(run: Trajectory, *, max_points: int = 300, seed: int = 0) -> dict[str, Any]:
    """Return the run's snapshots in one plane, with their figures, as plain lists for JSON.

    The plane stands still. Its first axis is the direction of the gap where the gap is largest; its
    second the first principal component of what remains of both clouds, each about its own mean, at
    the last snapshot. How far the gap of each snapshot has turned from the first axis is given.

    Parameters
    ----------
    run : Trajectory
        With at least two snapshots.
    max_points : int
        Most pairs to keep; beyond, that many are drawn, without replacement.
    seed : int
        Of this draw.

    Returns
    -------
    dict
        "settings"; "pairs" and "shown", how many there are and are kept; "frames", each with "step",
        "x" and "y" (lists of [along the gap, across it], from the middle of both means at the first
        snapshot); "records", a list per figure with an entry per frame: "loss", "gap",
        "variance_ratio" (of the larger side), "aligned" (of the worse side), "turned" (degrees), and
        "temperature" and "stability" where they change or are recorded. Figures that are not defined
        are None.

    Raises
    ------
    ArgumentError
        The run has fewer than two snapshots, or `max_points` is below 1.

    Examples
    --------
    >>> from modgap.paper.dynamics import Simulation, simulate
    >>> run = simulate(Simulation(n=20, dimension=4, steps=100), snapshots=film_steps(100, 6))
    >>> made = film(run)
    >>> [frame["step"] for frame in made["frames"]]
    [0, 1, 6, 22, 51, 100]
    >>> made["records"]["loss"][-1] == float(run.loss[-1])
    True
    """
    check_count(max_points, "max_points")
    if len(run.snapshots) < 2:
        raise ArgumentError(
            f"`run` must hold at least two snapshots; got {len(run.snapshots)}; pass "
            "snapshots=film_steps(steps) to `simulate`"
        )
    clouds = [(to_numpy(kept.x), to_numpy(kept.y)) for kept in run.snapshots]
    pairs = clouds[0][0].shape[0]
    rows = np.arange(pairs)
    if pairs > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(pairs, max_points, replace=False))
    gaps = np.stack([y.mean(axis=0) - x.mean(axis=0) for x, y in clouds])
    middle = 0.5 * (clouds[0][0].mean(axis=0) + clouds[0][1].mean(axis=0))
    axes = _axes(gaps, clouds[-1])
    frames = [
        {
            "step": kept.step,
            "x": np.round((x[rows] - middle) @ axes.T, _DECIMALS).tolist(),
            "y": np.round((y[rows] - middle) @ axes.T, _DECIMALS).tolist(),
        }
        for kept, (x, y) in zip(run.snapshots, clouds, strict=True)
    ]
    return {
        "settings": asdict(run.settings),
        "pairs": pairs,
        "shown": len(rows),
        "frames": frames,
        "records": {**_records(run), "turned": plain(_turned(gaps, axes[0]))},
    }


def _axes(gaps: np.ndarray, last: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the two axes (2, d); the second is zero where there is one dimension alone."""
    lengths = np.linalg.norm(gaps, axis=1)
    largest = int(np.argmax(lengths))
    rest = np.concatenate([cloud - cloud.mean(axis=0) for cloud in last])
    components = np.linalg.svd(rest, full_matrices=False)[2]
    along = gaps[largest] / lengths[largest] if lengths[largest] > 0 else components[0]
    rest = rest - np.outer(rest @ along, along)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    across = across - (across @ along) * along
    across = across * np.sign(
        across[np.argmax(np.abs(across))]
    )  # one of two signs, always the same
    length = float(np.linalg.norm(across))
    return np.stack([along, across / length if length > 0.5 else 0.0 * along])


def _turned(gaps: np.ndarray, along: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(gaps, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.where(lengths > 0, gaps @ along / lengths, np.nan)
    degrees: np.ndarray = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return degrees


def _records(run: Trajectory) -> dict[str, list[Any]]:
    at = np.searchsorted(run.step, [kept.step for kept in run.snapshots])
    found = {
        "loss": run.loss,
        "gap": run.gap,
        "variance_ratio": np.maximum(run.variance_ratio_x, run.variance_ratio_y),
        "aligned": np.minimum(run.alignment_x, run.alignment_y),
    }
    if run.settings.learn_temperature:
        found["temperature"] = run.temperature
    if run.stability is not None:
        found["stability"] = run.stability
    return {name: plain(values[at]) for name, values in found.items()}
