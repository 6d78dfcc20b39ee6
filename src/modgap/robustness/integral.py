"""The exact probability that a decision survives Gaussian noise on the gallery: no sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    Int,
    as_float64,
    asarray_like,
    bincount,
    block_slices,
    cache_elements,
    gather_rows,
    is_array,
    namespace,
    row_norms,
    to_numpy,
)
from modgap._core.checks import check_clouds, check_indices, check_number
from modgap.decisions.metric import Metric, as_metric
from modgap.decisions.neighbors import check_candidates, nearest, nearest_candidates
from modgap.errors import ArgumentError, ShapeError
from modgap.robustness import tables as _survival

__all__ = ["candidate_win_probability", "win_probability"]

#: Scores per matrix product: more than a cache holds, for a product's threads wait for each other.
_PRODUCT_ELEMENTS = 1024 * 1024


def win_probability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    targets: Int[Array, "m k"],
    sigmas: Sequence[float],
    *,
    metric: str,
) -> Float[Array, "s m k"]:
    """Return P(the target item is the nearest of its query) under gallery noise, shape (s, m, k).

    Every coordinate of every gallery item gets independent noise N(0, sigma^2). The integral is
    evaluated, not sampled; it differs from the truth by less than 1e-5. With the noise-free
    decisions as targets, this is the stability of each query.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    targets : array (m, k) or (m,), integers
        k gallery rows per query, which share one pass; -1 stands for none and gets probability 0.
        Targets of shape (m,) give a result of shape (s, m).
    sigmas : sequence of s floats >= 0
        Standard deviations per coordinate. All share one pass over queries x gallery.
    metric : {"euclidean", "ip"}

    Raises
    ------
    ArgumentError
        A negative or non-finite sigma; a metric without a closed form (cosine: use Monte Carlo).
    DataError, ShapeError
        Clouds or targets do not fit.

    Notes
    -----
    Cost: m n d for the scores once, 4 m n for the bins, then a few hundred thousand multiplications
    per query and sigma, in matrix products. See `modgap.robustness.tables` for the method.

    Examples
    --------
    Two items, one dimension: the gap between the scores is normal, so p = Phi(1 / (0.5 sqrt(2))).

    >>> import numpy as np
    >>> y, x = np.array([[1.0]]), np.array([[1.0], [0.0]])
    >>> win_probability(y, x, np.array([0]), [0.5], metric="ip").round(6).tolist()
    [[0.92135]]
    """
    metric = _with_closed_form(metric)
    queries, gallery = check_clouds(queries, gallery)
    sigmas = check_sigmas(sigmas)
    chosen = _check_targets(targets, queries.shape[0], gallery.shape[0])
    leaders = nearest(queries, gallery, metric=metric).indices[:, 0]
    xp = namespace(queries)
    queries, items = _about_mean(queries, gallery, metric)

    def own_items(rows: slice, columns: Array) -> Array:
        return gather_rows(items, columns)

    form = _loss_form(items, metric)

    def blocks(rows: slice, y: Array, elements: int) -> Iterator[Array]:
        y = _query_form(y, metric)
        width = max(1, min(items.shape[0], elements // max(1, y.shape[0])))
        for part in block_slices(items.shape[0], 1, elements=width):
            yield xp.matmul(y, form[part, :].T)

    largest = _largest(items)
    problem = _Problem(
        queries, items.shape[0], metric, leaders, own_items, blocks, largest, shared=True
    )
    probability = _solve(problem, asarray_like(chosen, queries), sigmas)
    return probability if np.ndim(targets) == 2 else probability[:, :, 0]


def candidate_win_probability(
    queries: Float[Array, "m d"],
    candidates: Float[Array, "m c d"],
    targets: Int[Array, "m k"],
    sigmas: Sequence[float],
    *,
    metric: str,
) -> Float[Array, "s m k"]:
    """Return what `win_probability` does, where each query has its own c candidates."""
    metric = _with_closed_form(metric)
    queries, candidates = check_candidates(queries, candidates)
    sigmas = check_sigmas(sigmas)
    chosen = _check_targets(targets, queries.shape[0], candidates.shape[1])
    leaders = nearest_candidates(queries, candidates, metric=metric).indices[:, 0]
    xp = namespace(queries)
    queries, items = _about_mean(queries, candidates, metric)

    def own_items(rows: slice, columns: Array) -> Array:
        block = items[rows, :, :]
        place = xp.broadcast_to(xp.expand_dims(columns, axis=-1), (*columns.shape, block.shape[2]))
        return xp.take_along_axis(block, place, axis=1)

    def blocks(rows: slice, y: Array, elements: int) -> Iterator[Array]:
        own = items[rows, :, :]
        if not metric.is_distance:
            yield -xp.sum(own * xp.expand_dims(y, axis=1), axis=-1)
        else:
            step = own - xp.expand_dims(y, axis=1)
            yield xp.sum(step * step, axis=-1)

    largest = _largest(items)
    problem = _Problem(
        queries, items.shape[1], metric, leaders, own_items, blocks, largest, shared=False
    )
    probability = _solve(problem, asarray_like(chosen, queries), sigmas)
    return probability if np.ndim(targets) == 2 else probability[:, :, 0]


def _with_closed_form(metric: str) -> Metric:
    found = as_metric(metric)
    if found.needs_directions:
        raise ArgumentError(
            f"`metric` {found} has no closed form under noise; sample it (robustness.stability), or "
            "normalise the rows and use ip"
        )
    return found


def check_sigmas(sigmas: Sequence[float]) -> list[float]:
    """Return the noise levels as floats >= 0; an empty list is refused."""
    values = [check_number(sigma, "sigmas", low=0.0) for sigma in np.atleast_1d(sigmas)]
    if not values:
        raise ArgumentError("`sigmas` must hold at least one noise level; got none")
    return values


def _about_mean(queries: Array, items: Array, metric: Metric) -> tuple[Array, Array]:
    """Return both in float64; for distances about the items' mean, where squares keep their digits."""
    queries, items = as_float64(queries), as_float64(items)
    if not metric.is_distance:
        return queries, items
    xp = namespace(items)
    pivot = xp.mean(items, axis=tuple(range(items.ndim - 1)))
    return queries - pivot, items - pivot


def _largest(items: Array) -> float:
    xp = namespace(items)
    return float(xp.max(row_norms(items))) ** 2


def _check_targets(targets: Any, rows: int, items: int) -> np.ndarray:
    values = to_numpy(targets) if is_array(targets) else np.asarray(targets)
    if values.ndim not in (1, 2) or values.shape[0] != rows:
        raise ShapeError(
            f"`targets` must have shape (m,) or (m, k) for {rows} queries; got {values.shape}"
        )
    if values.ndim == 2 and values.shape[1] == 0:
        raise ShapeError(f"`targets` must have at least one column; got {values.shape}")
    columns = values.reshape(rows, -1)
    flat = check_indices(columns.reshape(-1), "targets", rows=columns.size, below=items, low=-1)
    return flat.reshape(columns.shape)


@dataclass(frozen=True)
class _Problem:
    """Queries, their leaders, and ways to get at the items.

    `blocks` yields losses (q, width) of a block of queries to all items, part by part: negative inner
    products, or squared distances (less |y|^2 where the items are shared). `own_items` returns the
    items (q, k, d) at columns (q, k). `largest` is the largest squared length of an item.
    """

    queries: Array
    items: int
    metric: Metric
    leaders: Array
    own_items: Callable[[slice, Array], Array]
    blocks: Callable[[slice, Array, int], Iterator[Array]]
    largest: float
    shared: bool

    @property
    def width(self) -> int:
        return int(self.queries.shape[1])

    def own_loss(self, rows: slice, y: Array, columns: Array) -> Array:
        """Return the exact loss (q, k) of single items."""
        scores = self.metric.pair_scores(y, self.own_items(rows, columns))
        return scores * scores if self.metric.is_distance else -scores


def _loss_form(items: Array, metric: Metric) -> Array:
    """Return items whose products with `_query_form` are losses: -y.x, or |x|^2 - 2 y.x."""
    if not metric.is_distance:
        return items
    xp = namespace(items)
    return xp.concat([items, xp.sum(items * items, axis=1, keepdims=True)], axis=1)


def _query_form(y: Array, metric: Metric) -> Array:
    if not metric.is_distance:
        return -y
    xp = namespace(y)
    return xp.concat([-2.0 * y, xp.ones_like(y[:, :1])], axis=1)


def _solve(problem: _Problem, targets: Array, sigmas: list[float]) -> Array:
    """Return the probabilities (s, m, k)."""
    xp = namespace(problem.queries)
    m = problem.queries.shape[0]
    led = targets == xp.expand_dims(problem.leaders, axis=1)
    noise_free = xp.astype(led, xp.float64)
    sigmas = _within_reach(problem, sigmas)
    positive = sorted({sigma for sigma in sigmas if sigma > 0})
    if not positive or problem.items == 1:
        return xp.stack([noise_free] * len(sigmas))
    elements = max(cache_elements(problem.queries), _PRODUCT_ELEMENTS)
    per_query = problem.items if problem.shared else problem.items * problem.width
    step = max(16, min(elements // per_query, 4096))
    parts = list(block_slices(m, 1, elements=step))
    leader_loss = xp.concat([_leader_loss(problem, rows) for rows in parts])
    sweep = _sweep(problem, positive, to_numpy(leader_loss))
    found = [
        _solve_block(problem, sweep, rows, leader_loss[rows], targets[rows, :], elements)
        for rows in parts
    ]
    solved = xp.concat(found, axis=1)
    return xp.stack(
        [solved[positive.index(sigma), :, :] if sigma > 0 else noise_free for sigma in sigmas]
    )


def _within_reach(problem: _Problem, sigmas: list[float]) -> list[float]:
    """Return the levels, those beyond all sense moved to where their limits are reached.

    Far below the rounding of the scores noise decides ties alone, far above them every item is as
    likely as any other; the squares of such levels underflow and overflow.
    """
    longest = float(namespace(problem.queries).max(row_norms(as_float64(problem.queries))))
    size = max(longest, problem.largest**0.5) or 1.0
    return [min(max(sigma, 1e-10 * size), 1e12 * size) if sigma > 0 else sigma for sigma in sigmas]


def _leader_loss(problem: _Problem, rows: slice) -> Array:
    xp = namespace(problem.queries)
    y = as_float64(problem.queries[rows, :])
    return problem.own_loss(rows, y, xp.expand_dims(problem.leaders[rows], axis=1))[:, 0]


@dataclass(frozen=True)
class _Sweep:
    """The noise levels of one pass, ascending, and their grids, each the start of the last one."""

    sigmas: list[float]
    grids: list[_survival.OffsetGrid]

    @property
    def top(self) -> float:
        return self.sigmas[-1]

    @property
    def grid(self) -> _survival.OffsetGrid:
        return self.grids[-1]


def _sweep(problem: _Problem, sigmas: list[float], squared: np.ndarray) -> _Sweep:
    top = sigmas[-1]
    if not problem.metric.is_distance:
        reaches = [_survival.REACH * sigma / top for sigma in sigmas]
        finest = sigmas[0] / top
    else:
        d = problem.width
        reaches = [_survival.euclidean_reach(squared, d, sigma, top) for sigma in sigmas]
        finest = _survival.euclidean_finest(squared, d, sigmas[0], top)
    whole = _survival.grid_for(max(reaches), finest)
    grids = [_survival.shortened(whole, reach) for reach in reaches[:-1]]
    return _Sweep(sigmas, [*grids, whole])


def _solve_block(
    problem: _Problem,
    sweep: _Sweep,
    rows: slice,
    leader_loss: Array,
    targets: Array,
    elements: int,
) -> Array:
    """Return the probabilities of one block of queries, shape (s, q, k)."""
    xp = namespace(problem.queries)
    y = as_float64(problem.queries[rows, :])
    if not problem.metric.is_distance:
        unit = sweep.top * row_norms(y)
        unit = xp.where(
            unit > 0, unit, xp.ones_like(unit)
        )  # a zero query: all tie, all at offset 0
    else:
        unit = 2 * sweep.top * xp.sqrt(leader_loss + problem.width * sweep.top**2 / 2)
    scale = xp.expand_dims(1.0 / unit, axis=1)
    squared = xp.sum(y * y, axis=1)
    # What rounding can make of a tie counts as one: the leader itself and its duplicates are at 0.
    start = leader_loss + 1e-15 * math.sqrt(problem.width) * (squared + problem.largest)
    origin = start - squared if problem.shared and problem.metric.is_distance else start
    features = _features(
        problem, rows, y, xp.expand_dims(origin, axis=1), scale, sweep.grid, elements
    )
    known = xp.clip(targets, min=0)
    own = (problem.own_loss(rows, y, known) - xp.expand_dims(start, axis=1)) * scale
    own = xp.clip(own, min=0.0)
    parameter = to_numpy(leader_loss)
    zero = xp.zeros_like(own)
    out = []
    for sigma, grid in zip(sweep.sigmas, sweep.grids, strict=True):
        possible = (targets >= 0) & (own < grid.stop)
        bins, place = _place(xp.where(possible, own, zero), grid)
        start = xp.reshape(features[:, :, : grid.bins], (y.shape[0], -1))
        p = _integrate(problem, sweep.top, sigma, grid, start, parameter, bins, place)
        out.append(xp.where(possible, xp.clip(p, 0.0, 1.0), zero))
    return xp.stack(out)


def _features(
    problem: _Problem,
    rows: slice,
    y: Array,
    origin: Array,
    scale: Array,
    grid: _survival.OffsetGrid,
    elements: int,
) -> Array:
    """Return, per query, count and powers 1 to 3 of all items' places per bin, (q, POWERS, bins)."""
    xp = namespace(y)
    total: Any = None
    for loss in problem.blocks(rows, y, elements):
        parts = [
            _binned((loss[some, :] - origin[some, :]) * scale[some, :], grid)
            for some in block_slices(*loss.shape, elements=cache_elements(loss))
        ]
        found = xp.concat(parts, axis=0)
        total = found if total is None else total + found
    return total


def _binned(offset: Array, grid: _survival.OffsetGrid) -> Array:
    """Return the features (q, POWERS, bins) of offsets (q, width); negative ones count as 0."""
    xp = namespace(offset)
    q, length = offset.shape[0], grid.bins
    first = asarray_like(np.arange(q) * length, offset)
    first = xp.reshape(xp.broadcast_to(xp.expand_dims(first, axis=1), offset.shape), (-1,))
    offset = xp.reshape(xp.where(offset > 0, offset, xp.zeros_like(offset[:1, :1])), (-1,))
    (inside,) = xp.nonzero(offset < grid.stop)
    if inside.shape[0] < offset.shape[0]:
        offset, first = xp.take(offset, inside), xp.take(first, inside)
    index, place = _place(offset, grid)
    index = index + first
    sums, power = [], None
    for _ in range(_survival.POWERS):
        part = xp.astype(bincount(index, power, q * length), xp.float64)
        sums.append(xp.reshape(part, (q, length)))
        power = place if power is None else power * place
    return xp.stack(sums, axis=1)


def _place(offset: Array, grid: _survival.OffsetGrid) -> tuple[Array, Array]:
    """Return the bin of each offset and the place within it, in [-1/2, 1/2]."""
    xp = namespace(offset)
    place = xp.log1p(offset * (1.0 / grid.fine)) * (1.0 / grid.step)
    index = xp.astype(place, xp.int64)
    return index, place - (xp.astype(index, xp.float64) + 0.5)


def _integrate(
    problem: _Problem,
    top: float,
    sigma: float,
    grid: _survival.OffsetGrid,
    features: Array,
    leader_loss: np.ndarray,
    bins: Array,
    place: Array,
) -> Array:
    """Return the integral for every target of a block at one sigma, shape (q, k)."""
    xp = namespace(features)
    if not problem.metric.is_distance:
        table = _survival.inner_product_table(sigma / top, grid)
        return _apply_table(table, np.zeros(leader_loss.size), features, bins, place)
    v = np.sqrt(leader_loss / sigma**2 + problem.width / 2)
    panels = _survival.panel_of(v)
    chosen, found = [], []
    for panel in np.unique(panels):
        some = np.flatnonzero(panels == panel)
        table = _survival.euclidean_table(problem.width, sigma, top, int(panel), grid)
        here = asarray_like(some, features)
        parts = [features, bins, place]
        if some.size < v.size:
            parts = [xp.take(part, here, axis=0) for part in parts]
        chosen.append(some)
        found.append(_apply_table(table, v[some], *parts))
    order = np.argsort(np.concatenate(chosen))
    return xp.take(xp.concat(found, axis=0), asarray_like(order, features), axis=0)


def _apply_table(
    table: _survival.Table, parameter: np.ndarray, features: Array, bins: Array, place: Array
) -> Array:
    """Return sum_t exp(log product of survivals + the target's gain), shape (q, k)."""
    xp = namespace(features)
    b, rows, t = table.log_survival.shape
    q, k = bins.shape
    weights = asarray_like(table.interpolation(parameter), features)
    survival = asarray_like(table.survival_columns, features)
    gain = asarray_like(table.gain_columns, features)
    length = rows // _survival.POWERS

    def at_parameter(values: Array) -> Array:
        """Interpolate between the nodes: (q, b * t) to (q, t)."""
        if b == 1:
            return values
        return xp.sum(xp.reshape(values, (q, b, t)) * xp.expand_dims(weights, axis=2), axis=1)

    shared = at_parameter(xp.matmul(features, survival))
    out = []
    for target in range(k):
        x = xp.expand_dims(place[:, target], axis=1)
        own = xp.zeros_like(x)
        for p in reversed(range(_survival.POWERS)):  # Horner
            own = own * x + xp.take(gain, bins[:, target] + p * length, axis=0)
        out.append(xp.sum(xp.exp(shared + at_parameter(own)), axis=1))
    return xp.stack(out, axis=1)
