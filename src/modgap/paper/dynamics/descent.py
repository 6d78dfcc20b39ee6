"""Gradient descent on the embeddings themselves, on mini-batches or all pairs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    asarray_like,
    device,
    namespace,
    normalize_rows,
    to_numpy,
    working_float,
)
from modgap._core.checks import check_paired
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, SimulationWarning
from modgap.paper.dynamics.settings import Simulation, checked
from modgap.paper.dynamics.starts import initial_clouds
from modgap.paper.dynamics.trajectory import RECORDED, Snapshot, Trajectory, geometry
from modgap.paper.theory._scores import Pair, prepare, theory_metric
from modgap.paper.theory.contrastive import (
    ContrastiveGradient,
    contrastive_gradient_of,
    softmax_sums_of,
)
from modgap.paper.theory.sigmoid import SigmoidGradient, sigmoid_gradient_of
from modgap.paper.theory.training import mode_rates

#: Called with (steps done, steps in all) whenever a record is taken.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _State:
    """Where a descent stands: both clouds cut into the batches of an epoch, and the scalars.

    Rows are shuffled together with their partners, which no recorded figure minds; `order` says
    which original row stands where.
    """

    x: tuple[Array, ...]
    y: tuple[Array, ...]
    order: np.ndarray
    log_temperature: float
    bias: float

    def clouds(self) -> tuple[Array, Array]:
        """Return both clouds whole."""
        return _whole(self.x), _whole(self.y)

    def snapshot(self, step: int) -> Snapshot:
        """Return both clouds in the order in which they were given."""
        x, y = self.clouds()
        back = asarray_like(np.argsort(self.order), x)
        xp = namespace(x)
        return Snapshot(step, xp.take(x, back, axis=0), xp.take(y, back, axis=0))


@dataclass
class _Log:
    """What a descent leaves on its way."""

    records: list[dict[str, float]]
    snapshots: list[Snapshot]


def simulate(
    settings: Simulation | None = None,
    progress: Progress | None = None,
    *,
    snapshots: Collection[int] = (),
) -> Trajectory:
    """Return the trajectory of gradient descent from the settings' own start.

    Parameters
    ----------
    settings : Simulation, optional
        The defaults if not given.
    progress : callable, optional
        Called with (steps done, steps in all) at every record.
    snapshots : collection of int
        Steps after which to keep both clouds; they are recorded too.

    Raises
    ------
    ArgumentError
        A setting is outside its range, or the descent diverges: the message says at which step.

    Warns
    -----
    SimulationWarning
        The rate is so large that tight clusters overshoot along the gap: see `mode_rates`.

    Notes
    -----
    Cost per step: 4 n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> run = simulate(Simulation(n=20, dimension=4, steps=200, record_every=100))
    >>> run.step.tolist(), bool(run.loss[-1] < run.loss[0])
    ([0, 100, 200], True)
    """
    settings = Simulation() if settings is None else settings
    return descend(*initial_clouds(settings), settings, progress, snapshots=snapshots)


def descend(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    settings: Simulation | None = None,
    progress: Progress | None = None,
    *,
    snapshots: Collection[int] = (),
) -> Trajectory:
    """Return the trajectory of gradient descent from given clouds, on their device, in their dtype.

    Half floats descend in float32.

    The settings of the start (n, dimension, start, spread, start_gap, rank) have no effect.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together. Not changed.
    settings : Simulation, optional
    progress : callable, optional
        Called with (steps done, steps in all) at every record.
    snapshots : collection of int
        Steps after which to keep both clouds; they are recorded too.

    Raises
    ------
    ShapeError, DataError
        The clouds do not pair row by row, are not finite, or have a row of zeros on the sphere.
    ArgumentError
        A setting is outside its range, or the descent diverges.

    Warns
    -----
    SimulationWarning
        As in `simulate`.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(2, 30, 5))
    >>> run = descend(x, y, Simulation(steps=50, temperature=1.0))
    >>> run.final_x.shape, round(float(run.alignment_y[-1]), 2)
    ((30, 5), 0.1)
    """
    settings = checked(Simulation() if settings is None else settings)
    x, y = check_paired(x, y, names=("x", "y"), min_rows=2, zero_rows=not settings.sphere)
    x, y = working_float(x), working_float(y)
    if settings.sphere:
        x, y = normalize_rows(x), normalize_rows(y)
    _warn_of_long_steps(x, y, settings)
    order = np.arange(x.shape[0])
    state = _State((x,), (y,), order, math.log(settings.temperature), settings.bias)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging loss is an error of its own
        return _descend(state, settings, progress, frozenset(snapshots))


def _warn_of_long_steps(x: Array, y: Array, settings: Simulation) -> None:
    """Warn where the first steps overshoot along the gap; the theory covers distances alone."""
    if settings.loss != "softmax" or not (
        settings.sphere or theory_metric(settings.metric).is_distance
    ):
        return
    # on the sphere inner products at t are squared distances at 2 t
    temperature = settings.temperature * (
        1.0 if theory_metric(settings.metric).is_distance else 2.0
    )
    xp = namespace(x)
    gap = float(xp.linalg.vector_norm(xp.mean(y, axis=0) - xp.mean(x, axis=0)))
    largest = mode_rates(gap, temperature=temperature, n=1).largest_step
    if settings.rate > largest:
        warnings.warn(
            f"`rate` {settings.rate:g} is above {largest:.2g}, beyond which tight clusters with a gap "
            f"of {gap:.3g} overshoot along it at temperature {settings.temperature:g}; lower it, or "
            "raise `temperature`",
            SimulationWarning,
            stacklevel=3,
        )


def _descend(
    state: _State, settings: Simulation, progress: Progress | None, kept: frozenset[int]
) -> Trajectory:
    log = _Log([], [])
    rng = np.random.default_rng((settings.seed, 1))
    rows = state.order.shape[0]
    batches = 1 if settings.batch is None else math.ceil(rows / settings.batch)
    for step in range(settings.steps + 1):
        batch = step % batches
        if batches > 1 and batch == 0:
            state = _shuffled(state, batches, rng)
        gradient = _gradient(state.x[batch], state.y[batch], state, settings)
        if not math.isfinite(gradient.loss):
            raise ArgumentError(
                f"`rate` {settings.rate:g} is too large: the loss is no longer finite at step "
                f"{step}; lower it"
            )
        if step % settings.record_every == 0 or step == settings.steps or step in kept:
            log.records.append({"step": step, **_record(state, gradient, settings)})
            if progress is not None:
                progress(step, settings.steps)
        if step in kept:
            log.snapshots.append(state.snapshot(step))
        if step < settings.steps:
            state = _updated(state, batch, gradient, settings)
    return _trajectory(settings, log, state.snapshot(settings.steps))


def _gradient(
    x: Array, y: Array, state: _State, settings: Simulation
) -> ContrastiveGradient | SigmoidGradient:
    pair = _pair(x, y, state, settings)
    if settings.loss == "softmax":
        return contrastive_gradient_of(pair)
    return sigmoid_gradient_of(pair, state.bias)


def _pair(x: Array, y: Array, state: _State, settings: Simulation) -> Pair:
    temperature = math.exp(state.log_temperature)
    metric = theory_metric(settings.metric)
    return prepare(x, y, temperature=temperature, metric=metric, sphere=settings.sphere)


def _updated(
    state: _State,
    batch: int,
    gradient: ContrastiveGradient | SigmoidGradient,
    settings: Simulation,
) -> _State:
    """Return the state after one step of descent on one batch."""
    step = settings.rate * state.x[batch].shape[0]
    moved = []
    for blocks, slope in ((state.x, gradient.x), (state.y, gradient.y)):
        block = blocks[batch] - step * slope
        block = normalize_rows(block) if settings.sphere else block
        moved.append((*blocks[:batch], block, *blocks[batch + 1 :]))
    log_temperature, bias = state.log_temperature, state.bias
    if settings.learn_temperature:
        log_temperature -= settings.scalar_rate * gradient.log_temperature
        log_temperature = max(log_temperature, math.log(settings.min_temperature))
    if settings.learn_bias and isinstance(gradient, SigmoidGradient):
        bias -= settings.scalar_rate * gradient.bias
    return _State(moved[0], moved[1], state.order, log_temperature, bias)


def _shuffled(state: _State, batches: int, rng: np.random.Generator) -> _State:
    """Return the state with its pairs in a new order, cut into batches of nearly equal length."""
    x, y = state.clouds()
    xp = namespace(x)
    shuffle = rng.permutation(state.order.shape[0])
    index = asarray_like(shuffle, x)
    x, y = xp.take(x, index, axis=0), xp.take(y, index, axis=0)
    edges = np.linspace(0, shuffle.shape[0], batches + 1).round().astype(int).tolist()
    cuts = [slice(first, stop) for first, stop in pairwise(edges)]
    return replace(
        state,
        x=tuple(x[rows, :] for rows in cuts),
        y=tuple(y[rows, :] for rows in cuts),
        order=state.order[shuffle],
    )


def _whole(blocks: tuple[Array, ...]) -> Array:
    return blocks[0] if len(blocks) == 1 else namespace(blocks[0]).concat(blocks)


def _record(
    state: _State, gradient: ContrastiveGradient | SigmoidGradient, settings: Simulation
) -> dict[str, float]:
    """Return every figure of one record; reuses the step's gradient where it saw all pairs."""
    x, y = state.clouds()
    xp = namespace(x)
    if len(state.x) > 1:
        gradient = _gradient(x, y, state, settings)
    if isinstance(gradient, ContrastiveGradient):
        sums = gradient.sums
    else:
        sums = softmax_sums_of(_pair(x, y, state, settings))
    masses = (sums.x, sums.y)
    found = {
        "loss": gradient.loss,
        "mass_min": min(float(xp.min(mass)) for mass in masses),
        "mass_mean": 0.5 * sum(float(xp.mean(mass)) for mass in masses),
        "mass_max": max(float(xp.max(mass)) for mass in masses),
        "deviation": sums.deviation,
        "temperature": math.exp(state.log_temperature),
        "bias": state.bias,
    }
    found.update(geometry(x, y))
    own = xp.arange(x.shape[0], device=device(x))
    decided = nearest(y, x, metric=settings.metric).indices[:, 0]
    back = nearest(x, y, metric=settings.metric).indices[:, 0]
    found["alignment_y"] = float(np.mean(to_numpy(decided == own)))
    found["alignment_x"] = float(np.mean(to_numpy(back == own)))
    if settings.sigma is not None:
        from modgap.robustness.integral import win_probability

        kept = win_probability(y, x, decided, [settings.sigma], metric=settings.metric)
        found["stability"] = float(xp.mean(kept))
    return found


def _trajectory(settings: Simulation, log: _Log, last: Snapshot) -> Trajectory:
    records = log.records
    columns: dict[str, Any] = {
        name: np.asarray([record[name] for record in records]) if name in records[0] else None
        for name in RECORDED
    }
    return Trajectory(
        settings=settings,
        final_x=last.x,
        final_y=last.y,
        snapshots=tuple(log.snapshots),
        **columns,
    )
