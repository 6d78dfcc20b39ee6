"""Blocks of logits of two paired clouds, and the way back from logit weights to embeddings.

Unchecked: the public functions of `losses` check the input, `dynamics` calls this once per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from modgap._core.arrays import Array, block_slices, namespace, row_norms, working_float

__all__ = [
    "METRICS",
    "Accumulated",
    "BlockSource",
    "Pair",
    "accumulate",
    "log_normalizers",
    "logit_blocks",
    "prepare",
    "replayed",
    "true_logits",
]

#: Makes the blocks of logits anew for every pass: (rows of x, their logits against all of y).
BlockSource: TypeAlias = Callable[[], Iterator[tuple[slice, Array]]]

#: How the two clouds may be compared; cosine is the inner product on the sphere.
METRICS = ("euclidean", "ip")


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
    metric : {"euclidean", "ip"}
    temperature : float
    """

    x: Array
    y: Array
    x_norms: Array | None
    y_norms: Array | None
    metric: str
    temperature: float

    @property
    def rows(self) -> int:
        """Number of pairs n."""
        return int(self.x.shape[0])


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


def prepare(x: Array, y: Array, *, temperature: float, metric: str, sphere: bool) -> Pair:
    """Return the pair of clouds in one floating dtype, scaled or moved as the metric allows."""
    xp = namespace(x, y)
    x, y = working_float(x), working_float(y)
    dtype = xp.result_type(x.dtype, y.dtype)
    x, y = xp.astype(x, dtype, copy=False), xp.astype(y, dtype, copy=False)
    if sphere:
        x_norms, y_norms = (xp.expand_dims(row_norms(rows), axis=-1) for rows in (x, y))
        return Pair(x / x_norms, y / y_norms, x_norms, y_norms, metric, temperature)
    if metric == "euclidean":
        pivot = xp.mean(x, axis=0)
        x, y = x - pivot, y - pivot
    return Pair(x, y, None, None, metric, temperature)


def true_logits(pair: Pair) -> Array:
    """Return the logits of the true pairs, shape (n,), without the matrix."""
    xp = namespace(pair.x)
    if pair.metric == "ip":
        return xp.sum(pair.x * pair.y, axis=-1) / pair.temperature
    return -xp.sum((pair.x - pair.y) ** 2, axis=-1) / pair.temperature


def logit_blocks(pair: Pair) -> Iterator[tuple[slice, Array]]:
    """Yield (rows of x, logits against all of y), O(block) memory. Cost: n^2 d in all."""
    xp = namespace(pair.x)
    scale = (2.0 if pair.metric == "euclidean" else 1.0) / pair.temperature
    right = (pair.y * scale).T
    if pair.metric == "euclidean":
        x_squares = xp.sum(pair.x**2, axis=-1)[:, None] / pair.temperature
        y_squares = xp.sum(pair.y**2, axis=-1)[None, :] / pair.temperature
    for rows in block_slices(pair.rows, pair.rows):
        logits = xp.matmul(pair.x[rows, :], right)
        if pair.metric == "euclidean":
            logits = logits - x_squares[rows, :] - y_squares
        yield rows, logits


def replayed(pair: Pair) -> BlockSource:
    """Return a source of the blocks for several passes: kept if there is one, else made anew."""
    blocks = block_slices(pair.rows, pair.rows)
    next(blocks)
    if next(blocks, None) is None:
        kept = list(logit_blocks(pair))
        return lambda: iter(kept)
    return lambda: logit_blocks(pair)


def logsumexp(values: Array, axis: int) -> Array:
    """Return log(sum(exp(values))) along an axis, safe from overflow."""
    xp = namespace(values)
    top = xp.max(values, axis=axis, keepdims=True)
    total = xp.log(xp.sum(xp.exp(values - top), axis=axis, keepdims=True)) + top
    return xp.squeeze(total, axis=axis)


def log_normalizers(source: BlockSource) -> tuple[Array, Array]:
    """Return the logs of the softmaxes' sums: of each x over all y, of each y over all x."""
    over_y, over_x = [], None
    for _, logits in source():
        xp = namespace(logits)
        over_y.append(logsumexp(logits, 1))
        part = logsumexp(logits, 0)
        over_x = part if over_x is None else xp.logaddexp(over_x, part)
    return (over_y[0] if len(over_y) == 1 else xp.concat(over_y)), over_x


def accumulate(
    pair: Pair,
    source: BlockSource,
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
    for rows, logits in source():
        weights = weigh(rows, logits)
        x_parts.append(xp.matmul(weights, pair.y))
        x_sums.append(xp.sum(weights, axis=1))
        y_part = y_part + xp.matmul(weights.T, pair.x[rows, :])
        y_sums = y_sums + xp.sum(weights, axis=0)
        logits_total += float(xp.sum(weights * logits))
    row_sums = x_sums[0] if len(x_sums) == 1 else xp.concat(x_sums)
    x_part = x_parts[0] if len(x_parts) == 1 else xp.concat(x_parts)
    return Accumulated(
        x=_pull_back(pair, x_part, row_sums, pair.x, pair.y, pair.x_norms, diagonal),
        y=_pull_back(pair, y_part, y_sums, pair.y, pair.x, pair.y_norms, diagonal),
        x_sums=row_sums,
        y_sums=y_sums,
        logits=logits_total - diagonal * float(xp.sum(true_logits(pair))),
    )


def _pull_back(
    pair: Pair,
    weighted: Array,
    sums: Array,
    own: Array,
    other: Array,
    norms: Array | None,
    diagonal: float,
) -> Array:
    """Turn weighted sums of the other cloud into the gradient of one's own rows."""
    xp = namespace(own)
    gradient = weighted - diagonal * other
    if pair.metric == "euclidean":
        gradient = 2.0 * (gradient - (sums - diagonal)[:, None] * own)
    gradient = gradient / (pair.rows * pair.temperature)
    if norms is None:
        return gradient
    radial = xp.sum(gradient * own, axis=-1, keepdims=True)
    return (gradient - radial * own) / norms
