"""Count, mean and scatter of a cloud: all that a closer needs, in one mergeable record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    block_slices,
    cache_elements,
    device,
    dtype_eps,
    float64,
    namespace,
    stack_rows,
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
from modgap.errors import ArgumentError, ShapeError

__all__ = ["Moments", "PrincipalAxes", "cross_scatter", "principal_axes"]

#: Rows a block of products spans: long enough for full matrix-product speed, short enough that
#: float32 sums of products keep seven digits before they are added up in float64.
_BLOCK_ROWS = 8192


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


def _moments_of_rows(x: Array, precision: str) -> Moments:
    xp = namespace(x)
    d = x.shape[1]
    cast = as_float64 if precision == "float64" else working_float
    total = xp.zeros((d,), dtype=float64(xp), device=device(x))
    scatter = xp.zeros((d, d), dtype=float64(xp), device=device(x))
    product_eps = 0.0
    squares: list[tuple[Array, Array, Array]] = []
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite shows in the total
        # A pivot near the mean keeps the products small: no digits go to the offset of the cloud.
        pivot = cast(xp.mean(working_float(x[: min(256, x.shape[0]), :]), axis=0))
        for rows in block_slices(x.shape[0], 1, elements=_BLOCK_ROWS):
            sums: list[Array] = []
            parts = _about_pivot(x[rows, :], pivot, cast, sums, squares)
            block = stack_rows(parts, rows.stop - rows.start)
            total += sum(sums)
            product_eps = dtype_eps(block)
            scatter += as_float64(xp.matmul(block.T, block))
    if not bool(xp.all(xp.isfinite(total)) and xp.all(xp.isfinite(scatter))):
        check_scale(check_finite(x, "x"), x, "x")
    shift = total / x.shape[0]
    mean = as_float64(pivot) + shift
    lengths = xp.stack([xp.stack(extremes) for extremes in squares])
    return Moments(
        count=int(x.shape[0]),
        mean=mean,
        scatter=scatter - x.shape[0] * _outer(xp, shift),
        eps=dtype_eps(x),
        product_eps=product_eps,
        shortest=math.sqrt(float(xp.min(lengths[:, 0]))),
        longest=math.sqrt(float(xp.max(lengths[:, 1]))),
        radius=math.sqrt(float(xp.max(lengths[:, 2]))) + math.sqrt(float(xp.sum(shift * shift))),
    )


def _about_pivot(
    x: Array,
    pivot: Array,
    cast: Callable[[Array], Array],
    sums: list[Array],
    squares: list[tuple[Array, Array, Array]],
) -> Iterator[Array]:
    """Yield the rows about the pivot; leave their float64 sums and extreme squared lengths behind.

    All in one pass over memory. Far from the origin sums of what is left keep digits that sums of
    rows would lose.
    """
    xp = namespace(x)
    origin = as_float64(pivot)
    for part in block_slices(*x.shape, elements=cache_elements(x)):
        rows = x[part, :]
        whole, rows = rows, cast(rows)
        near = rows - pivot
        if near.dtype == origin.dtype:
            sums.append(xp.sum(near, axis=0))
        else:  # the rows themselves are exact, what is left of them in float32 is not
            sums.append(xp.sum(as_float64(whole), axis=0) - rows.shape[0] * origin)
        lengths = xp.vecdot(rows, rows)
        squares.append((xp.min(lengths), xp.max(lengths), xp.max(xp.vecdot(near, near))))
        yield near


def _float64_mean(x: Array) -> Array:
    xp = namespace(x)
    total = xp.zeros((x.shape[1],), dtype=float64(xp), device=device(x))
    for rows in block_slices(x.shape[0], x.shape[1]):
        total = total + xp.sum(as_float64(x[rows, :]), axis=0)
    return total / x.shape[0]


def _outer(xp: object, v: Array) -> Array:
    return v[:, None] * v[None, :]
