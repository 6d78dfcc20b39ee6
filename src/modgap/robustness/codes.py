"""Codes that vector stores keep rows in: evenly spaced levels, bits, signs, leading coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    block_slices,
    cache_elements,
    namespace,
    stack_rows,
    working_float,
)
from modgap._core.checks import check_count
from modgap.errors import ArgumentError
from modgap.robustness.kinds import Code, Range, check_range
from modgap.robustness.ranges import clipped_range, to_cells, to_levels, value_range
from modgap.robustness.rotation import rotated_rows

__all__ = ["Bins", "Bits", "Dims", "Sign", "block_by_block"]


@dataclass(frozen=True, repr=False)
class Bins(Code):
    """Uniform quantization: every value to the nearest of n evenly spaced levels, ends included.

    Attributes
    ----------
    bins : int
        n >= 2; the paper uses 32, 64, 128 and 256.
    range : {"global", "dimension"} or (low, high)
        Smallest and largest value of the whole cloud, of each coordinate, or given; values outside
        a given range go to the nearest end.
    rotated : bool
        Whether rows are turned by the random rotation of `seed` first, and back when they are read.
    seed : int
    side : {"gallery", "queries", "both"}

    Examples
    --------
    >>> import numpy as np
    >>> Bins(3, (0.0, 1.0)).apply(np.array([[0.2, 0.4, 7.0]])).tolist()
    [[0.0, 0.5, 1.0]]
    """

    word = "bins"

    bins: int
    range: Range = "global"
    _: KW_ONLY
    rotated: bool = False
    seed: int = 0
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_count(self.bins, "bins", low=2, high=2**31)
        object.__setattr__(self, "range", check_range(self.range))
        check_count(self.seed, "seed", low=0)
        self._check_side()

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage; the range is taken from the cloud."""
        return block_by_block(cloud, self._learn, self.seed if self.rotated else None)

    def _learn(self, rows: Array) -> Callable[[Array], Array]:
        ends = value_range(rows, self.range)
        return lambda block: to_levels(block, ends, self.bins)


@dataclass(frozen=True, repr=False)
class Bits(Code):
    """A scalar code of b bits a value: 2^b equal cells over a range, each value the middle of its cell.

    Attributes
    ----------
    bits : int
        b, from 1 to 16.
    range : {"global", "dimension"} or (low, high)
        Smallest and largest value of the whole cloud, of each coordinate (as FAISS' scalar
        quantizers do), or given.
    clipped : bool
        Whether the range is narrowed to where the squared error is least: what few bits want.
    rotated : bool
        Whether rows are turned by the random rotation of `seed` first, and back when they are read.
    lengths : bool
        Whether each row is coded at unit length, and one number of it kept that gives the row read
        back the product |x|^2 with the row x: what extended RaBitQ (Gao et al. 2024) does. Worth its
        bytes where lengths differ, since the longest rows are those that are found.
    seed : int
    side : {"gallery", "queries", "both"}

    Examples
    --------
    >>> import numpy as np
    >>> Bits(1, (0.0, 1.0)).apply(np.array([[0.2, 0.4, 7.0]])).tolist()
    [[0.25, 0.25, 0.75]]
    """

    word = "bits"

    bits: int
    range: Range = "global"
    _: KW_ONLY
    clipped: bool = False
    rotated: bool = False
    lengths: bool = False
    seed: int = 0
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_count(self.bits, "bits", high=16)
        object.__setattr__(self, "range", check_range(self.range))
        check_count(self.seed, "seed", low=0)
        self._check_side()
        if self.clipped and not isinstance(self.range, str):
            raise ArgumentError("`range` is given by its ends, so `clipped` has nothing to choose")

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage; the range is taken from the cloud."""
        return block_by_block(cloud, self._learn, self.seed if self.rotated else None)

    def _learn(self, rows: Array) -> Callable[[Array], Array]:
        levels = 2**self.bits
        coded = _directions(rows) if self.lengths else rows
        full = value_range(coded, self.range)
        ends = clipped_range(coded, full, levels) if self.clipped else full
        if not self.lengths:
            return lambda block: to_cells(block, ends, levels)
        return lambda block: _with_product(to_cells(_directions(block), ends, levels), block)


@dataclass(frozen=True, repr=False)
class Sign(Code):
    """One bit a coordinate, its sign; zero counts as negative.

    Attributes
    ----------
    rotated : bool
        Whether rows are turned by the random rotation of `seed` first, and back when they are read.
        It spreads a row over all its bits; rows that are not centred turn nearly all alike.
    lengths : bool
        Whether one number a row is kept too. The signs s of a row x then come back as
        s |x|^2 / (s.x), the multiple of s whose product with x is |x|^2: what RaBitQ (Gao and Long
        2024) estimates products with. Without it they come back as -1 and 1.
    seed : int
    side : {"gallery", "queries", "both"}
    """

    word = "sign"

    _: KW_ONLY
    rotated: bool = False
    lengths: bool = False
    seed: int = 0
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_count(self.seed, "seed", low=0)
        self._check_side()

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage."""
        return block_by_block(cloud, lambda rows: self._signs, self.seed if self.rotated else None)

    def _signs(self, block: Array) -> Array:
        xp = namespace(block)
        one = xp.ones_like(block)
        signs = xp.where(block > 0, one, -one)
        return _with_product(as_float64(signs), block) if self.lengths else signs


@dataclass(frozen=True, repr=False)
class Dims(Code):
    """The first k coordinates alone; the others are stored as zero, which ranks as if they were gone.

    Meant for maps that put what counts first. With the gallery so stored, the queries' other
    coordinates add nothing to a product, and the same to the distance of every item.

    Attributes
    ----------
    dims : int
        k, from 1 to the rows' width.
    side : {"gallery", "queries", "both"}
    """

    word = "dims"

    dims: int
    _: KW_ONLY
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_count(self.dims, "dims")
        self._check_side()

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud with zeros after the first k coordinates.

        Raises
        ------
        ArgumentError
            The cloud has fewer than k coordinates.
        """
        xp = namespace(cloud)
        if self.dims > cloud.shape[-1]:
            raise ArgumentError(
                f"`dims` must be at most the rows' width; got {self.dims} for width {cloud.shape[-1]}"
            )
        kept = cloud[..., : self.dims]
        return xp.concat([kept, xp.zeros_like(cloud[..., self.dims :])], axis=-1)


def _directions(rows: Array) -> Array:
    """Return rows of unit length, zero rows as they are."""
    xp = namespace(rows)
    wide = as_float64(rows)
    length = xp.sqrt(xp.sum(wide * wide, axis=1, keepdims=True))
    return wide / xp.where(length > 0, length, xp.ones_like(length))


def _with_product(read: Array, rows: Array) -> Array:
    """Return each row of `read` times the number that makes its product with its row |x|^2.

    Where the two point away from each other no positive number does, and it stays as it is.
    """
    xp = namespace(rows)
    wide = as_float64(rows)
    squared = xp.sum(wide * wide, axis=1, keepdims=True)
    product = xp.sum(read * wide, axis=1, keepdims=True)
    fits = product > 0
    kept = xp.astype(squared > 0, product.dtype)  # 1, and 0 for a row of zeros
    return read * xp.where(fits, squared / xp.where(fits, product, xp.ones_like(product)), kept)


def block_by_block(
    cloud: Array, learn: Callable[[Array], Callable[[Array], Array]], seed: int | None = None
) -> Array:
    """Return the cloud through a code: `learn` sees all rows and returns what is done to a block of them.

    With a seed the code sees the rows rotated, and what comes back is rotated back. Temporaries stay
    small: beyond the result only the rotated rows are held whole.
    """
    xp = namespace(cloud)
    width = cloud.shape[-1]
    rows = xp.reshape(cloud, (-1, width))
    if seed is not None:
        rows = rotated_rows(working_float(rows), seed)
    code = learn(rows)

    def stored() -> Iterator[Array]:
        for part in block_slices(*rows.shape, elements=cache_elements(rows)):
            block = code(rows[part, :])
            if seed is not None:
                block = rotated_rows(xp.astype(block, rows.dtype, copy=False), seed, back=True)
            yield xp.astype(block, cloud.dtype, copy=False)

    return xp.reshape(stack_rows(stored(), rows.shape[0]), cloud.shape)
