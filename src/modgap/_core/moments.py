"""Count, mean and scatter of a cloud: all that a closer needs, in one mergeable record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    RowBlock,
    as_float64,
    block_slices,
    cache_elements,
    device,
    dtype_eps,
    float64,
    is_numpy_array,
    namespace,
    to_numpy,
    working_float,
)
from modgap._core.checks import (
    check_choice,
    check_cloud,
    check_components,
    check_finite,
    check_paired,
    check_scale,
)
from modgap._core.memory import halving
from modgap.errors import ArgumentError, ShapeError

__all__ = ["Moments", "PrincipalAxes", "RunningMoments", "cross_scatter", "principal_axes"]

#: Rows a block of products spans: long enough for full matrix-product speed, short enough that
#: float32 sums of products keep seven digits before they are added up in float64.
_BLOCK_ROWS = 4096
_PIVOT_ROWS = 256
_FEW_ROWS = 8


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Principal axes of a cloud.

    Attributes
    ----------
    variances : array (r,), float64
        Scatter along each axis (the sum of squares, not divided by n), largest first.
    axes : array (d, r), float64
        Orthonormal columns.
    rank : int
        Numerical rank of the centred cloud; r <= rank when fewer were asked for.
    """

    variances: Array
    axes: Array
    rank: int


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and centred scatter of the rows of a cloud, in float64.

    Attributes
    ----------
    count : int
        Rows seen, n.
    mean : array (d,), float64
    scatter : array (d, d), float64
        Sum over rows of (x - mean)(x - mean)^T.
    eps : float
        Rounding unit of the rows' own dtype.
    product_eps : float
        Rounding unit of the arithmetic that made the products in `scatter`.
    shortest, longest : float
        Euclidean lengths of the shortest and the longest row.
    radius : float
        No row is further than this from `mean`; after merging a bound, before it tight.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    >>> halves = Moments.from_rows(x[:2]).merge(Moments.from_rows(x[2:]))
    >>> halves.count, halves.mean.tolist()
    (3, [2.0, 2.0])
    >>> halves.scatter.tolist()
    [[8.0, 6.0], [6.0, 6.0]]
    """

    count: int
    mean: Array
    scatter: Array
    eps: float
    product_eps: float
    shortest: float
    longest: float
    radius: float

    @classmethod
    def from_rows(cls, x: Float[Array, "n d"], *, precision: str = "input") -> Moments:
        """Return the moments of the rows of `x`, in one pass. Cost: n d^2 multiplications.

        Parameters
        ----------
        x : array (n, d), floating
            Any library, any float; n >= 1.
        precision : {"input", "float64"}
            Arithmetic of the products inside a block of rows. "input" uses the dtype of `x` (float32
            for half floats) and adds the blocks up in float64: fast, about 1e-8 of the largest
            variance off for float32. "float64" is what a numerical rank needs.

        Raises
        ------
        DataError, ShapeError
            `x` is not a finite (n, d) array of floats.
        """
        check_choice(precision, "precision", ("input", "float64"))
        x = check_cloud(x, "x", finite=False)
        return _moments_of_rows(x, precision)

    @classmethod
    def from_blocks(
        cls, blocks: Iterable[Float[Array, "_ d"]], *, precision: str = "input"
    ) -> Moments:
        """Return the moments of all rows of a stream of blocks, holding one block at a time.

        Raises
        ------
        ShapeError
            The stream is empty, or two blocks have different widths.
        """
        total: Moments | None = None
        for block in blocks:
            part = cls.from_rows(block, precision=precision)
            total = part if total is None else total.merge(part)
        if total is None:
            raise ShapeError("`blocks` must hold at least one block of rows; got none")
        return total

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both clouds together (Chan, Golub & LeVeque, 1983)."""
        if self.width != other.width:
            raise ShapeError(
                f"moments of widths {self.width} and {other.width} cannot be merged; "
                "all shards must have one embedding dimension"
            )
        count = self.count + other.count
        xp = namespace(self.mean, other.mean)
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter = scatter + (self.count * other.count / count) * _outer(xp, step)
        apart = math.sqrt(float(xp.sum(step * step)))
        return Moments(
            count=count,
            mean=self.mean + step * (other.count / count),
            scatter=scatter,
            eps=max(self.eps, other.eps),
            product_eps=max(self.product_eps, other.product_eps),
            shortest=min(self.shortest, other.shortest),
            longest=max(self.longest, other.longest),
            radius=max(
                self.radius + apart * (other.count / count),
                other.radius + apart * (self.count / count),
            ),
        )

    @property
    def width(self) -> int:
        """Embedding dimension d."""
        return int(self.mean.shape[0])

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Population covariance, scatter / n."""
        return self.scatter / self.count

    @cached_property
    def total_variance(self) -> float:
        """Mean squared distance of the rows to their mean: the trace of the covariance."""
        xp = namespace(self.scatter)
        return float(xp.sum(xp.linalg.diagonal(self.scatter))) / self.count

    @cached_property
    def power(self) -> Float[Array, " d"]:
        """Mean square of each coordinate, shape (d,)."""
        xp = namespace(self.scatter)
        return xp.linalg.diagonal(self.scatter) / self.count + self.mean**2

    @cached_property
    def full_axes(self) -> PrincipalAxes:
        """All d principal axes, and the numerical rank; computed once."""
        xp = namespace(self.scatter)
        values, vectors = xp.linalg.eigh(self.scatter)
        values, vectors = xp.flip(values), xp.flip(vectors, axis=1)
        real = np.flatnonzero(to_numpy(values) > self._rounding_along(values, vectors))
        rank = int(real[-1]) + 1 if real.size else 0
        return PrincipalAxes(values, vectors, min(rank, self.count - 1))

    def _rounding_along(self, values: Array, vectors: Array) -> np.ndarray:
        """Return the scatter below which each axis may hold rounding and nothing else, shape (d,).

        Two noises set it. A coordinate of root mean square s, rounded to the rows' dtype, is off by
        at most eps s / sqrt(12) in the mean square, and n such rows add a random matrix whose largest
        singular value along a direction is about that times sqrt(n) + sqrt(d); half as much again here.
        So an offset that one coordinate has in common hides no direction that lies in the others. And
        the products are exact to `product_eps` of the largest scatter only.
        """
        xp = namespace(self.scatter)
        spread = to_numpy(xp.matmul(vectors.T**2, self.power))
        entries = 0.43 * self.eps * (math.sqrt(self.count) + math.sqrt(self.width))
        return np.maximum(entries**2 * spread, self.product_rounding(float(values[0])))

    def product_rounding(self, largest: float) -> float:
        """Return what rounding may add to any eigenvalue of `scatter`, given the largest."""
        return 4 * math.sqrt(self.width) * self.product_eps * max(largest, 0.0)


def principal_axes(moments: Moments, n_components: int | float | str = "all") -> PrincipalAxes:
    """Return the leading principal axes of a cloud.

    Parameters
    ----------
    moments : Moments
    n_components : int, float in (0, 1], or "all"
        How many axes; a fraction asks for the fewest that explain this share of the variance;
        "all" for the numerical rank.

    Raises
    ------
    ArgumentError
        More components are asked for than the cloud has dimensions to give.
    """
    n_components = check_components(n_components)
    full = moments.full_axes
    if n_components == "all":
        keep = full.rank
    elif isinstance(n_components, float):
        host = np.maximum(to_numpy(full.variances)[: full.rank], 0.0)
        share = np.cumsum(host) / max(host.sum(), np.finfo(float).tiny)
        keep = min(int(np.searchsorted(share, n_components - 1e-12)) + 1, full.rank)
    else:
        keep = int(n_components)
        if keep > full.rank:
            raise ArgumentError(
                f"`n_components` is {keep}, but the cloud of {moments.count} rows has only "
                f'{full.rank} directions; ask for at most {full.rank}, or "all"'
            )
    return PrincipalAxes(full.variances[:keep], full.axes[:, :keep], full.rank)


@halving
def cross_scatter(a: Float[Array, "n d"], b: Float[Array, "n e"]) -> Float[Array, "d e"]:
    """Return sum_i (a_i - mean(a))(b_i - mean(b))^T over paired rows, float64. Cost: n d e."""
    a, b = check_paired(a, b)
    xp = namespace(a, b)
    mean_a, mean_b = _float64_mean(a), _float64_mean(b)
    total = xp.zeros((a.shape[1], b.shape[1]), dtype=float64(xp), device=device(a))
    for rows in block_slices(a.shape[0], 1, elements=_BLOCK_ROWS):
        left = as_float64(a[rows, :]) - mean_a
        total = total + xp.matmul(left.T, as_float64(b[rows, :]) - mean_b)
    return total


@halving
def _moments_of_rows(x: Array, precision: str) -> Moments:
    xp = namespace(x)
    running = RunningMoments(x, precision, x.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite shows in the sums
        for part in running.parts(x):
            running.add(part)
        running.close()
    if not bool(xp.all(xp.isfinite(running.total)) and xp.all(xp.isfinite(running.scatter))):
        check_scale(check_finite(x, "x"), x, "x")
    return running.moments(dtype_eps(x))


class RunningMoments:
    """Moments of rows that come part by part: each is gone over once, while it lies in a core's cache.

    Blocks of rows are multiplied beside that, in NumPy by a thread of its own.

    Parameters
    ----------
    first : array (n, d)
        The first rows that will be added, or more of them. Their mean is the pivot: products about a
        point near the mean are small, so no digits go to the offset of the cloud.
    precision : {"input", "float64"}
        See `Moments.from_rows`.
    block_rows : int
        Rows that wait for their products together, where fewer than usual will come or many clouds are
        under way at a time.

    Attributes
    ----------
    count : int
        Rows added.
    total : array (d,), float64
        Their sum about the pivot.
    scatter : array (d, d), float64
        Their products about the pivot; all of them after `close`, not before.
    """

    def __init__(
        self, first: Float[Array, "n d"], precision: str, block_rows: int = _BLOCK_ROWS
    ) -> None:
        xp = namespace(first)
        d = first.shape[1]
        self._cast = as_float64 if precision == "float64" else working_float
        self._pivot = self._cast(
            xp.mean(working_float(first[: min(_PIVOT_ROWS, first.shape[0]), :]), axis=0)
        )
        self._origin = as_float64(self._pivot)
        self._block = RowBlock(min(block_rows, _BLOCK_ROWS))
        self._spare: RowBlock | None = None
        self._multiplier: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None
        self._extremes: list[tuple[Array, Array, Array]] = []
        self.count = 0
        self.total = xp.zeros((d,), dtype=float64(xp), device=device(first))
        self.scatter = xp.zeros((d, d), dtype=float64(xp), device=device(first))

    @staticmethod
    def parts(x: Float[Array, "n d"]) -> Iterator[Array]:
        """Yield the rows in parts of the size that `add` is fast with."""
        elements = cache_elements(x)
        if is_numpy_array(x):
            elements = min(elements, _BLOCK_ROWS * x.shape[1])
        for rows in block_slices(*x.shape, elements=elements):
            yield x[rows, :]

    def add(self, rows: Float[Array, "n d"]) -> None:
        """Add rows, best in `parts`."""
        xp = namespace(rows)
        if not self._block.has_room_for(rows.shape[0]):
            self._multiply()
        rows = self._cast(rows)
        near = self._block.append_difference(rows, self._pivot)
        self.total += _column_sums(near)
        squares = xp.vecdot(rows, rows)
        self._extremes.append((xp.min(squares), xp.max(squares), xp.max(xp.vecdot(near, near))))
        self.count += rows.shape[0]

    def close(self) -> None:
        """Add the products of the rows that wait for their block to be full."""
        if self._multiplier is not None and self._under_way is not None:
            self._under_way.result()
            self._multiplier.shutdown()
            self._multiplier = self._under_way = None
        if self._block.rows:
            self._add_product(self._block.take())

    def _multiply(self) -> None:
        """Add the products of a full block: NumPy's in a thread, while another block is filled.

        There is one thread, so blocks are added up in their order.
        """
        full = self._block.take()
        if not is_numpy_array(full):
            self._add_product(full)
            return
        self._multiplier = self._multiplier or ThreadPoolExecutor(1)
        before, self._under_way = (
            self._under_way,
            self._multiplier.submit(self._add_product, full),
        )
        if before is not None:
            before.result()  # its block is free again
        self._block, self._spare = self._spare or RowBlock(self._block.capacity), self._block

    def _add_product(self, block: Array) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite shows in the sums
            self.scatter += _products(block)

    def moments(self, eps: float) -> Moments:
        """Return the moments of all rows added, which were stored to `eps`."""
        self.close()
        xp = namespace(self.total)
        shift = self.total / self.count
        lengths = xp.stack([xp.stack(extremes) for extremes in self._extremes])
        radius = math.sqrt(float(xp.max(lengths[:, 2])))
        return Moments(
            count=self.count,
            mean=self._origin + shift,
            scatter=self.scatter - self.count * _outer(xp, shift),
            eps=eps,
            product_eps=dtype_eps(self._pivot),
            shortest=math.sqrt(float(xp.min(lengths[:, 0]))),
            longest=math.sqrt(float(xp.max(lengths[:, 1]))),
            radius=radius + math.sqrt(float(xp.sum(shift * shift))),
        )


def _products(block: Array) -> Array:
    """Return block^T block in float64; of float32 over so many rows at a time as keep seven digits."""
    xp, (count, d) = namespace(block), block.shape
    whole = count - count % _BLOCK_ROWS
    if count <= _BLOCK_ROWS or block.dtype == float64(xp):
        return as_float64(xp.matmul(block.T, block))
    parts = xp.reshape(block[:whole, :], (-1, _BLOCK_ROWS, d))
    products = xp.matmul(xp.permute_dims(parts, (0, 2, 1)), parts)
    total = xp.sum(products, axis=0, dtype=float64(xp))
    if whole == count:
        return total
    rest = block[whole:, :]
    return total + as_float64(xp.matmul(rest.T, rest))


def _column_sums(x: Array) -> Array:
    """Return the sum of each column in float64, of float32 in NumPy without widening every value.

    A few rows are added up in float32 first, which loses 1e-8 of a column's spread. No matrix product
    does it: one may be under way.
    """
    xp = namespace(x)
    rest = x.shape[0] % _FEW_ROWS
    if not is_numpy_array(x) or x.dtype == np.float64 or rest == x.shape[0]:
        return xp.sum(x, axis=0, dtype=float64(xp))
    few = np.sum(x[rest:].reshape(-1, _FEW_ROWS, x.shape[1]), axis=1)
    return np.sum(few, axis=0, dtype=np.float64) + np.sum(x[:rest], axis=0, dtype=np.float64)


def _float64_mean(x: Array) -> Array:
    xp = namespace(x)
    total = xp.zeros((x.shape[1],), dtype=float64(xp), device=device(x))
    for rows in block_slices(x.shape[0], x.shape[1]):
        total = total + xp.sum(as_float64(x[rows, :]), axis=0)
    return total / x.shape[0]


def _outer(xp: object, v: Array) -> Array:
    return v[:, None] * v[None, :]
