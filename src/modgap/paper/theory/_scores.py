"""Blocks of logits of two paired clouds, and the way back from logit weights to embeddings.

`checked_scores` is for public functions; the rest is unchecked, `dynamics` calls it once per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modgap._core.arrays import Array, block_slices, namespace, row_norms, working_float
from modgap._core.checks import check_number, check_paired
from modgap.decisions.metric import EUCLIDEAN, INNER_PRODUCT, Metric, as_metric
from modgap.errors import ArgumentError
from modgap.measures.softmax import TileSource

__all__ = [
    "Accumulated",
    "Pair",
    "accumulate",
    "checked_scores",
    "logit_blocks",
    "prepare",
    "replayed",
    "theory_metric",
    "true_logits",
]


def theory_metric(name: str) -> Metric:
    """Return the metric of a name; cosine is the inner product on the sphere, and asked for so."""
    metric = as_metric(name)
    if metric.needs_directions:
        raise ArgumentError(
            f"`metric` must be one of {EUCLIDEAN}, {INNER_PRODUCT}; got {name!r}: scale the rows to "
            "unit length (sphere=True for losses) and compare them by inner product"
        )
    return metric


@dataclass(frozen=True)
class Side:
    """One cloud of a pair, the other one, and the lengths of its rows before they were scaled."""

    own: Array
    other: Array
    norms: Array | None


@dataclass(frozen=True)
class Pair:
    """Two paired clouds as a loss sees them.

    Attributes
    ----------
    x, y : array (n, d)
        Compared rows: on the sphere of unit length, otherwise moved so that they lie around zero
        where the metric does not mind (squared distances then lose no digits to an offset).
    x_norms, y_norms : array (n, 1), optional
        Lengths of the rows before they were scaled; there on the sphere alone.
    metric : Metric
    temperature : float
    """

    x: Array
    y: Array
    x_norms: Array | None
    y_norms: Array | None
    metric: Metric
    temperature: float

    @property
    def rows(self) -> int:
        """Number of pairs n."""
        return int(self.x.shape[0])

    @property
    def sides(self) -> tuple[Side, Side]:
        """The two clouds, x first."""
        return Side(self.x, self.y, self.x_norms), Side(self.y, self.x, self.y_norms)


@dataclass(frozen=True)
class Accumulated:
    """What one pass over the blocks of weights leaves: gradients, sums, and the mean logit.

    With W the derivative of n times the loss by the logits, `x_sums` and `y_sums` are the row and
    column sums of W before the diagonal is taken off, `logits` is the sum of W times the logits.
    """

    x: Array
    y: Array
    x_sums: Array
    y_sums: Array
    logits: float


def checked_scores(x: Array, y: Array, *, temperature: float, metric: str, sphere: bool) -> Pair:
    """Return the pair of two clouds of the caller's."""
    x, y = check_paired(x, y, names=("x", "y"), zero_rows=not sphere)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    return prepare(x, y, temperature=temperature, metric=theory_metric(metric), sphere=bool(sphere))


def prepare(x: Array, y: Array, *, temperature: float, metric: Metric, sphere: bool) -> Pair:
    """Return the pair of clouds in one floating dtype, scaled or moved as the metric allows."""
    xp = namespace(x, y)
    x, y = working_float(x), working_float(y)
    dtype = xp.result_type(x.dtype, y.dtype)
    x, y = xp.astype(x, dtype, copy=False), xp.astype(y, dtype, copy=False)
    if sphere:
        x_norms, y_norms = (xp.expand_dims(row_norms(rows), axis=-1) for rows in (x, y))
        return Pair(x / x_norms, y / y_norms, x_norms, y_norms, metric, temperature)
    if metric.is_distance:
        pivot = xp.mean(x, axis=0)
        x, y = x - pivot, y - pivot
    return Pair(x, y, None, None, metric, temperature)


def true_logits(pair: Pair) -> Array:
    """Return the logits of the true pairs, shape (n,), without the matrix."""
    xp = namespace(pair.x)
    if pair.metric.is_distance:
        return -xp.sum((pair.x - pair.y) ** 2, axis=-1) / pair.temperature
    return xp.sum(pair.x * pair.y, axis=-1) / pair.temperature


def logit_blocks(pair: Pair) -> Iterator[tuple[slice, slice, Array]]:
    """Yield (rows of x, all of y, their logits), O(block) memory. Cost: n^2 d in all."""
    xp = namespace(pair.x)
    every = slice(0, pair.rows)
    scale = (2.0 if pair.metric.is_distance else 1.0) / pair.temperature
    right = (pair.y * scale).T
    if pair.metric.is_distance:
        x_squares = xp.sum(pair.x**2, axis=-1)[:, None] / pair.temperature
        y_squares = xp.sum(pair.y**2, axis=-1)[None, :] / pair.temperature
    for rows in block_slices(pair.rows, pair.rows):
        logits = xp.matmul(pair.x[rows, :], right)
        if pair.metric.is_distance:
            logits = logits - x_squares[rows, :] - y_squares
        yield rows, every, logits


def replayed(pair: Pair) -> TileSource:
    """Return a source of the blocks for several passes: kept if there is one, else made anew."""
    blocks = block_slices(pair.rows, pair.rows)
    next(blocks)
    if next(blocks, None) is None:
        kept = list(logit_blocks(pair))
        return lambda: iter(kept)
    return lambda: logit_blocks(pair)


def accumulate(
    pair: Pair,
    source: TileSource,
    weigh: Callable[[slice, Array], Array],
    diagonal: float,
) -> Accumulated:
    """Return the gradients for weights W - diagonal I on the logits.

    W is the derivative of n times the loss by the logits without its part on the true pairs. With
    logits s/tau, ds/dx = y for inner products and 2 (y - x) for -||x - y||^2, so
    dL/dx_k = (1/(n tau)) sum_i (W - diagonal I)(k, i) ds/dx.
    """
    xp = namespace(pair.x)
    x_parts, x_sums, y_part, y_sums, logits_total = [], [], 0.0, 0.0, 0.0
    for rows, _, logits in source():
        weights = weigh(rows, logits)
        x_parts.append(xp.matmul(weights, pair.y))
        x_sums.append(xp.sum(weights, axis=1))
        y_part = y_part + xp.matmul(weights.T, pair.x[rows, :])
        y_sums = y_sums + xp.sum(weights, axis=0)
        logits_total += float(xp.sum(weights * logits))
    row_sums = x_sums[0] if len(x_sums) == 1 else xp.concat(x_sums)
    x_part = x_parts[0] if len(x_parts) == 1 else xp.concat(x_parts)
    left, right = pair.sides
    return Accumulated(
        x=_pull_back(pair, left, x_part, row_sums, diagonal),
        y=_pull_back(pair, right, y_part, y_sums, diagonal),
        x_sums=row_sums,
        y_sums=y_sums,
        logits=logits_total - diagonal * float(xp.sum(true_logits(pair))),
    )


def _pull_back(pair: Pair, side: Side, weighted: Array, sums: Array, diagonal: float) -> Array:
    """Turn weighted sums of the other cloud into the gradient of one's own rows."""
    own, xp = side.own, namespace(side.own)
    gradient = weighted - diagonal * side.other
    if pair.metric.is_distance:
        gradient = 2.0 * (gradient - (sums - diagonal)[:, None] * own)
    gradient = gradient / (pair.rows * pair.temperature)
    if side.norms is None:
        return gradient
    radial = xp.sum(gradient * own, axis=-1, keepdims=True)
    return (gradient - radial * own) / side.norms
