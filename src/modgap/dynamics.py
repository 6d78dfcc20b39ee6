"""Gradient descent on free embeddings, recorded: how a modality gap forms, freezes, or does not.

No network stands between the loss and the embeddings: every row of both clouds is a parameter. That
is the setting of the theorems in `modgap.theory`, and of figures 3 to 6 of Chowers et al. (2026).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap._arrays import (
    Array,
    asarray_like,
    device,
    namespace,
    normalize_rows,
    row_norms,
    to_numpy,
    working_float,
)
from modgap._validate import check_choice, check_count, check_number, check_paired
from modgap.errors import ArgumentError
from modgap.neighbors import nearest
from modgap.theory._scores import METRICS, Pair, prepare
from modgap.theory.losses import (
    ContrastiveGradient,
    SigmoidGradient,
    contrastive_gradient_of,
    sigmoid_gradient_of,
    softmax_sums_of,
)

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["PAPER_RUN", "Simulation", "Trajectory", "descend", "initial_clouds", "simulate"]

STARTS = ("clusters", "isotropic", "cone", "collapsed")
LOSSES = ("softmax", "sigmoid")

#: Called with (steps done, steps in all) whenever a record is taken.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Simulation:
    """Settings of one simulation. The defaults are a run on two tight clusters in ten dimensions.

    Attributes
    ----------
    n, dimension : int
        Number of pairs, and d. Used by `initial_clouds` alone.
    start : {"clusters", "isotropic", "cone", "collapsed"}
        clusters: tight Gaussian clouds about two unit vectors. isotropic: wide ones. cone: the rows
        of wide ones scaled to unit length. collapsed: Gaussian in `rank` dimensions orthogonal to
        both unit vectors, exactly constant in all others.
    spread : float, optional
        Standard deviation per coordinate at the start. If not given: 0.05 for clusters,
        0.6 / sqrt(d) for isotropic, which is about half of a random gap, 0.5 / sqrt(d) for cone,
        1 / sqrt(rank) for collapsed.
    start_gap : float, optional
        Distance of the two unit vectors, in [0, 2]; two random ones if not given.
    rank : int, optional
        Dimensions of the collapsed start; half of d if not given.
    loss : {"softmax", "sigmoid"}
    metric : {"euclidean", "ip"}
    sphere : bool
        Rows stay on the unit sphere.
    temperature : float
    learn_temperature : bool
        Descend on log(temperature) too, down to `min_temperature`.
    min_temperature : float
        CLIP stops at 0.01 for inner products, which is 0.02 for squared distances.
    bias : float
        Of the sigmoid loss.
    learn_bias : bool
    scalar_rate : float
        Step size for the temperature and the bias.
    steps : int
        Updates; with mini-batches one update per batch.
    rate : float
        The step size is `rate` times the rows in the batch, so that how far a point moves does not
        depend on n: the loss is a mean, and its gradient at one point falls as 1 / n. Along a gap g
        descent is stable for rates below temperature^2 / (2 ||g||^2) only.
    batch : int, optional
        Rows per mini-batch, drawn anew each epoch; all rows if not given.
    record_every : int
        Steps between records; the start and the end are always recorded.
    sigma : float, optional
        Gallery noise at which to record the stability of y searching x; not recorded if not given.
    seed : int
        Of the start and of the batches.
    """

    n: int = 100
    dimension: int = 10
    start: str = "clusters"
    spread: float | None = None
    start_gap: float | None = None
    rank: int | None = None
    loss: str = "softmax"
    metric: str = "euclidean"
    sphere: bool = False
    temperature: float = 0.1
    learn_temperature: bool = False
    min_temperature: float = 0.01
    bias: float = 0.0
    learn_bias: bool = False
    scalar_rate: float = 0.01
    steps: int = 6000
    rate: float = 0.002
    batch: int | None = None
    record_every: int = 20
    sigma: float | None = None
    seed: int = 0


#: Two tight clusters in ten dimensions, 6,000 steps, after figure 4 of Chowers et al. (2026). The
#: two random unit vectors set the gap: this seed gives 1.24 at the start, others 1.04 to 1.78.
PAPER_RUN = Simulation(seed=5)


@dataclass(frozen=True)
class Trajectory:
    """A simulation's records, one entry per record step, and the embeddings that it ended with.

    Attributes
    ----------
    settings : Simulation
    step : array (k,), integers
        Updates done before each record.
    loss : array (k,)
        Over all pairs, also with mini-batches.
    gap : array (k,)
        ||mean(y) - mean(x)||.
    variance_ratio_x, variance_ratio_y : array (k,)
        Variance along the gap over the average variance per direction; 1 for an isotropic cloud.
    orthogonality_x, orthogonality_y : array (k,)
        Root mean square cosine between the gap and the rows about their mean; 0 is orthogonal,
        1 / sqrt(d) a random direction.
    mass_min, mass_mean, mass_max : array (k,)
        Of the softmax sums S of both sides, at the temperature of the moment. The mean is one by
        construction.
    deviation : array (k,)
        Mean |S - 1| of both sides: 0 where both softmax matrices are doubly stochastic.
    alignment_x, alignment_y : array (k,)
        Share of x (of y) whose nearest row of the other cloud is its partner.
    temperature, bias : array (k,)
    stability : array (k,), optional
        Mean probability that the nearest x of a y stays under Gaussian noise `sigma` on all x.
    final_x, final_y : array (n, d)
    """

    settings: Simulation
    step: np.ndarray
    loss: np.ndarray
    gap: np.ndarray
    variance_ratio_x: np.ndarray
    variance_ratio_y: np.ndarray
    orthogonality_x: np.ndarray
    orthogonality_y: np.ndarray
    mass_min: np.ndarray
    mass_mean: np.ndarray
    mass_max: np.ndarray
    deviation: np.ndarray
    alignment_x: np.ndarray
    alignment_y: np.ndarray
    temperature: np.ndarray
    bias: np.ndarray
    stability: np.ndarray | None
    final_x: Array
    final_y: Array

    def to_dict(self, *, embeddings: bool = False) -> dict[str, Any]:
        """Return settings and records as plain lists for JSON; figures that are NaN are None.

        Parameters
        ----------
        embeddings : bool
            Also put the final embeddings in, under "final_x" and "final_y".
        """
        document: dict[str, Any] = {"settings": asdict(self.settings)}
        for name in _RECORDED:
            values = getattr(self, name)
            document[name] = None if values is None else [_plain(v) for v in values.tolist()]
        if embeddings:
            for name in ("final_x", "final_y"):
                document[name] = to_numpy(getattr(self, name)).tolist()
        return document


#: Fields of a trajectory that hold one figure per record.
_RECORDED = tuple(
    f.name for f in fields(Trajectory) if f.name not in ("settings", "final_x", "final_y")
)


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


def simulate(settings: Simulation | None = None, /, progress: Progress | None = None) -> Trajectory:
    """Return the trajectory of gradient descent from the settings' own start.

    Parameters
    ----------
    settings : Simulation, optional
        The defaults if not given.
    progress : callable, optional
        Called with (steps done, steps in all) at every record.

    Raises
    ------
    ArgumentError
        A setting is outside its range, or the descent diverges: the message says at which step.

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
    return descend(*initial_clouds(settings), settings, progress)


def descend(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    settings: Simulation | None = None,
    /,
    progress: Progress | None = None,
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

    Raises
    ------
    ShapeError, DataError
        The clouds do not pair row by row, are not finite, or have a row of zeros on the sphere.
    ArgumentError
        A setting is outside its range, or the descent diverges.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(2, 30, 5))
    >>> run = descend(x, y, Simulation(steps=50, temperature=1.0))
    >>> run.final_x.shape, round(float(run.alignment_y[-1]), 2)
    ((30, 5), 0.4)
    """
    settings = _checked(Simulation() if settings is None else settings)
    x, y = check_paired(x, y, names=("x", "y"), min_rows=2, zero_rows=not settings.sphere)
    x, y = working_float(x), working_float(y)
    if settings.sphere:
        x, y = normalize_rows(x), normalize_rows(y)
    order = np.arange(x.shape[0])
    state = _State((x,), (y,), order, math.log(settings.temperature), settings.bias)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging loss is an error of its own
        return _descend(state, settings, progress)


def _descend(state: _State, settings: Simulation, progress: Progress | None) -> Trajectory:
    records: list[dict[str, float]] = []
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
        if step % settings.record_every == 0 or step == settings.steps:
            records.append({"step": step, **_record(state, gradient, settings)})
            if progress is not None:
                progress(step, settings.steps)
        if step < settings.steps:
            state = _updated(state, batch, gradient, settings)
    return _trajectory(settings, records, state)


def initial_clouds(settings: Simulation, /) -> tuple[np.ndarray, np.ndarray]:
    """Return the two clouds that a simulation starts from, each (n, d), float64.

    Raises
    ------
    ArgumentError
        A setting is outside its range.

    Examples
    --------
    >>> x, y = initial_clouds(Simulation(start_gap=1.0, spread=0.0))
    >>> round(float(np.linalg.norm(y.mean(0) - x.mean(0))), 12)
    1.0
    """
    settings = _checked(settings)
    rng = np.random.default_rng(settings.seed)
    n, d = settings.n, settings.dimension
    center_x, center_y = _centers(settings, rng)
    noise = rng.standard_normal((2, n, d))
    spread = settings.spread
    if settings.start == "collapsed":
        rank = d // 2 if settings.rank is None else settings.rank
        basis, _ = np.linalg.qr(
            np.column_stack([center_x, center_y, rng.standard_normal((d, rank))])
        )
        noise = noise[:, :, :rank] @ basis[:, 2:].T
        spread = 1.0 / math.sqrt(rank) if spread is None else spread
    elif spread is None:
        spread = {"clusters": 0.05, "isotropic": 0.6 / math.sqrt(d), "cone": 0.5 / math.sqrt(d)}[
            settings.start
        ]
    x, y = center_x + spread * noise[0], center_y + spread * noise[1]
    if settings.start == "cone" or settings.sphere:
        x, y = normalize_rows(x), normalize_rows(y)
    return x, y


def _centers(settings: Simulation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two unit vectors: random ones, or a random pair at the distance asked for."""
    first, second = normalize_rows(rng.standard_normal((2, settings.dimension)))
    if settings.start_gap is None:
        return first, second
    if settings.dimension == 1:
        return first, first if settings.start_gap < 1.0 else -first
    across = second - (second @ first) * first
    across /= np.linalg.norm(across)
    cosine = 1.0 - settings.start_gap**2 / 2.0
    return first, cosine * first + math.sqrt(max(1.0 - cosine**2, 0.0)) * across


def _gradient(
    x: Array, y: Array, state: _State, settings: Simulation
) -> ContrastiveGradient | SigmoidGradient:
    pair = _pair(x, y, state, settings)
    if settings.loss == "softmax":
        return contrastive_gradient_of(pair)
    return sigmoid_gradient_of(pair, state.bias)


def _pair(x: Array, y: Array, state: _State, settings: Simulation) -> Pair:
    temperature = math.exp(state.log_temperature)
    return prepare(x, y, temperature=temperature, metric=settings.metric, sphere=settings.sphere)


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
    x, y = _whole(state.x), _whole(state.y)
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
    x, y = _whole(state.x), _whole(state.y)
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
    found.update(_geometry(x, y))
    own = xp.arange(x.shape[0], device=device(x))
    decided = nearest(y, x, metric=settings.metric).indices[:, 0]
    back = nearest(x, y, metric=settings.metric).indices[:, 0]
    found["alignment_y"] = float(np.mean(to_numpy(decided == own)))
    found["alignment_x"] = float(np.mean(to_numpy(back == own)))
    if settings.sigma is not None:
        from modgap.gaussian import win_probability

        kept = win_probability(y, x, decided, [settings.sigma], metric=settings.metric)
        found["stability"] = float(xp.mean(kept))
    return found


def _geometry(x: Array, y: Array) -> dict[str, float]:
    """Return the gap, and how each cloud lies to it."""
    xp = namespace(x)
    means = [xp.mean(cloud, axis=0) for cloud in (x, y)]
    gap = means[1] - means[0]
    length = float(xp.linalg.vector_norm(gap))
    found = {"gap": length}
    for name, cloud, mean in (("x", x, means[0]), ("y", y, means[1])):
        rows = cloud - mean
        along = xp.matmul(rows, gap) / length if length > 0 else math.nan * rows[:, 0]
        norms = row_norms(rows)
        total = float(xp.mean(norms**2))
        ratio = x.shape[1] * float(xp.mean(along**2)) / total if total > 0 else math.nan
        cosines = along / xp.where(norms > 0, norms, xp.ones_like(norms))
        found[f"variance_ratio_{name}"] = ratio
        found[f"orthogonality_{name}"] = math.sqrt(float(xp.mean(cosines**2)))
    return found


def _trajectory(settings: Simulation, records: list[dict[str, float]], state: _State) -> Trajectory:
    columns: dict[str, Any] = {
        name: np.asarray([record[name] for record in records]) if name in records[0] else None
        for name in _RECORDED
    }
    x, y = _whole(state.x), _whole(state.y)
    back = asarray_like(np.argsort(state.order), x)
    xp = namespace(x)
    return Trajectory(
        settings=settings,
        final_x=xp.take(x, back, axis=0),
        final_y=xp.take(y, back, axis=0),
        **columns,
    )


def _checked(settings: Simulation) -> Simulation:
    """Return the settings with every number in range."""
    for name, choices in (("start", STARTS), ("loss", LOSSES), ("metric", METRICS)):
        check_choice(getattr(settings, name), name, choices)
    for name, low in (("n", 2), ("dimension", 1), ("steps", 1), ("record_every", 1), ("seed", 0)):
        check_count(getattr(settings, name), name, low=low)
    for name in ("temperature", "min_temperature", "rate", "scalar_rate"):
        check_number(getattr(settings, name), name, low=0.0, open_low=True)
    check_number(settings.bias, "bias")
    if settings.start == "collapsed":
        if settings.dimension < 3:
            raise ArgumentError(
                '`dimension` must be at least 3 for start="collapsed", which keeps two directions '
                f"for the means; got {settings.dimension}"
            )
        if settings.rank is not None:
            check_count(settings.rank, "rank", high=settings.dimension - 2)
    if settings.learn_temperature and settings.min_temperature > settings.temperature:
        raise ArgumentError(
            f"`min_temperature` must not be above `temperature`; got {settings.min_temperature:g} "
            f"and {settings.temperature:g}"
        )
    if settings.spread is not None:
        check_number(settings.spread, "spread", low=0.0)
    if settings.start_gap is not None:
        check_number(settings.start_gap, "start_gap", low=0.0, high=2.0)
    if settings.batch is not None:
        check_count(settings.batch, "batch", low=2)
    if settings.sigma is not None:
        check_number(settings.sigma, "sigma", low=0.0, open_low=True)
    return settings


def _plain(value: float) -> float | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
