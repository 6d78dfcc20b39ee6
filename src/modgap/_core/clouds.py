"""Clouds: rows checked once, and their statistics, each made when first asked for and then kept.

Everything runs over blocks of rows in float64; a second copy of a cloud is made only where it is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from modgap._core.arrays import (
    BLOCK_ELEMENTS,
    Array,
    as_float64,
    asarray_like,
    block_slices,
    device,
    dtype_eps,
    float64,
    namespace,
    normalize_rows,
)
from modgap._core.checks import (
    check_count,
)
from modgap._core.moments import Moments
from modgap.errors import DataError

__all__ = [
    "Center",
    "Cloud",
    "Pairing",
    "Tile",
]

_Made = TypeVar("_Made")

#: Rows along each side of a tile of pairs: 1 Mi float64 values, 8 MiB.
_TILE_ROWS = 1024


@dataclass(frozen=True)
class Center:
    """What the centroid measures need of a cloud: no (d, d) scatter, one pass.

    Attributes
    ----------
    count : int
        Rows, n.
    mean : array (d,), float64
    variance : float
        Mean squared distance of the rows to their mean, >= 0.
    eps : float
        Rounding unit of the rows' own dtype.
    """

    count: int
    mean: Array
    variance: float
    eps: float

    @cached_property
    def power(self) -> float:
        """Mean squared length of the rows."""
        return self.variance + squared_length(self.mean)

    @property
    def has_spread(self) -> bool:
        """Whether the rows differ by more than the rounding of their dtype."""
        return self.variance > 4 * self.eps**2 * self.power


@dataclass(frozen=True)
class Pairing:
    """What one pass over true pairs leaves, row i of one cloud with row i of the other.

    Attributes
    ----------
    squares : array (n,), float64
        Squared distances of the rows as they are measured.
    cosines : array (n,), float64
        0 beside a row of zeros, which has none.
    """

    squares: Array
    cosines: Array


@dataclass(frozen=True)
class Tile:
    """Two blocks of rows whose pairs are looked at together.

    Attributes
    ----------
    left, right : array (p, d) and (q, d), float64
    is_diagonal : bool
        Both blocks are the same rows, so the tile's diagonal pairs each row with itself.
    weight : int
        How often each entry counts among the ordered pairs: 2 off the diagonal, where the mirrored
        tile is left out.
    """

    left: Array
    right: Array
    is_diagonal: bool
    weight: int


@dataclass(frozen=True, eq=False)
class Cloud:
    """Rows that were checked, or their moments alone, with all that measures ask of them.

    Made by `open_cloud`. Every function of `modgap.measures` takes one in the place of an array and
    then neither checks nor decomposes again.

    Attributes
    ----------
    rows : array (n, d) or None
        As they are stored; None where only moments are known.
    normalize : bool
        Whether they are measured as rows of unit length.
    lengths : array (n,), float64, or None
        Euclidean lengths of the rows as they are stored.
    known : Moments, optional
        Of the rows as they are measured, where somebody had them already.
    whole : bool
        Whether moments will be asked for anyway, so that the centre comes from them.
    """

    rows: Array
    normalize: bool
    lengths: Array
    known: Moments | None = None
    whole: bool = False
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Rows, n."""
        return self.center.count if self.rows is None else int(self.rows.shape[0])

    @property
    def width(self) -> int:
        """Embedding dimension d."""
        return int(self.center.mean.shape[0] if self.rows is None else self.rows.shape[1])

    @cached_property
    def moments(self) -> Moments:
        """Moments of the rows as measured: products in float64, rounding unit that of the input."""
        if self.known is not None:
            return self.known
        rows = self.need_rows()
        moments = Moments.from_blocks(self.blocks(), precision="float64")
        return replace(moments, eps=max(moments.eps, dtype_eps(rows)))

    @cached_property
    def center(self) -> Center:
        """Count, mean and variance: from the moments where they are there or will be."""
        if not self.has_moments:
            return _center(self)
        found = self.moments
        return Center(found.count, found.mean, found.total_variance, found.eps)

    @property
    def has_moments(self) -> bool:
        """Whether moments are there, or will be asked for anyway."""
        return self.known is not None or self.whole or "moments" in vars(self)

    @cached_property
    def unit_center(self) -> Center:
        """The centre of the rows scaled to unit length, which cosines need.

        Raises
        ------
        DataError
            A row has no direction, or only moments of other rows are known.
        """
        if self.normalize:
            return self.center
        rows = self.need_directions().rows
        return Cloud(rows, True, self.lengths).center

    @cached_property
    def _prepared(self) -> Array:
        return self._prepare(slice(None))

    def _prepare(self, rows: slice) -> Array:
        block = as_float64(self.rows[rows, :])
        return block / self._divisors[rows, :] if self.normalize else block

    @cached_property
    def _divisors(self) -> Array:
        xp = namespace(self.lengths)
        return xp.where(self.lengths > 0, self.lengths, xp.ones_like(self.lengths))[:, None]

    def block(self, rows: slice) -> Array:
        """Return some rows in float64 as they are measured; those of a small cloud are kept."""
        self.need_rows()
        if self.count * self.width <= BLOCK_ELEMENTS:
            return self._prepared[rows, :]
        return self._prepare(rows)

    def blocks(self) -> Iterator[Array]:
        """Yield all rows in float64 blocks as they are measured."""
        for rows in block_slices(self.count, self.width):
            yield self.block(rows)

    def variance_along(self, unit: Array) -> float:
        """Return the variance along a direction of unit length, >= 0."""
        xp = namespace(unit)
        if self.has_moments:
            scatter = self.moments.scatter
            return max(dot(xp.matmul(scatter, unit), unit) / self.count, 0.0)
        about = (xp.matmul(block - self.center.mean, unit) for block in self.blocks())
        return sum(squared_length(part) for part in about) / self.count

    def tiles(self) -> Iterator[Tile]:
        """Yield tiles that cover every pair of rows, all about the mean of the cloud."""
        slices = tile_slices(self.count)
        center = self.center.mean
        for i, rows in enumerate(slices):
            left = self.block(rows) - center
            yield Tile(left, left, is_diagonal=True, weight=1)
            for columns in slices[i + 1 :]:
                yield Tile(left, self.block(columns) - center, is_diagonal=False, weight=2)

    def sample(self, limit: int | None, seed: int) -> Cloud:
        """Return `limit` rows drawn without replacement, in their order; itself where there are fewer.

        The draw depends on the row count, `limit` and `seed` alone, so paired clouds stay paired.
        """
        check_count(seed, "seed", low=0)
        rows = self.need_rows()
        if limit is None or self.count <= check_count(limit, "sample", low=2):
            return self

        def draw() -> Cloud:
            chosen = np.random.default_rng(seed).choice(self.count, size=limit, replace=False)
            index = asarray_like(np.sort(chosen), rows)
            xp = namespace(rows)
            return Cloud(
                xp.take(rows, index, axis=0), self.normalize, xp.take(self.lengths, index, axis=0)
            )

        return self.remember(("sample", limit, seed), draw)

    def paired_with(self, other: Cloud) -> Pairing:
        """Return the pairs' distances and cosines; one pass for one partner, whoever asks."""
        return self.remember(("pairs", other), lambda: _pairing(self, other))

    def remember(self, key: Any, make: Callable[[], _Made]) -> _Made:
        """Return what `make` gave when this key was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        found: _Made = self._made[key]
        return found

    def need_rows(self) -> Array:
        """Return the rows, or say that moments do not suffice."""
        if self.rows is None:
            raise DataError("this figure needs the rows themselves; moments do not determine it")
        return self.rows

    def need_directions(self) -> Cloud:
        """Return the cloud if each row has a direction."""
        self.need_rows()
        xp = namespace(self.lengths)
        if not self.normalize and not bool(xp.all(self.lengths > 0)):
            raise DataError("a row is all zeros and has no direction; drop it")
        return self


def tile_slices(rows: int) -> list[slice]:
    """Return the slices that cut a cloud into the sides of tiles."""
    return list(block_slices(rows, 1, elements=_TILE_ROWS))


def squared_distances(left: Array, right: Array) -> Array:
    """Return |a - b|^2 of every pair, shape (p, q); one matrix product, not below zero.

    Its rounding error is that of |a|^2 + |b|^2: take a common offset off the rows first.
    """
    xp = namespace(left, right)
    lengths = xp.sum(left * left, axis=1)[:, None] + xp.sum(right * right, axis=1)[None, :]
    return xp.clip(lengths - 2.0 * xp.matmul(left, right.T), min=0.0)


def diagonal_mask(tile: Tile) -> Array:
    """Return a (p, p) array of booleans that are true where a row meets itself."""
    xp = namespace(tile.left)
    size = tile.left.shape[0]
    return xp.eye(size, dtype=tile.left.dtype, device=device(tile.left)) > 0


def squared_length(v: Array) -> float:
    """Return |v|^2 of one vector as a float."""
    return float(namespace(v).sum(v * v))


def length(v: Array) -> float:
    """Return |v| of one vector as a float."""
    return math.sqrt(squared_length(v))


def dot(v: Array, w: Array) -> float:
    """Return the inner product of two vectors as a float."""
    xp: Any = namespace(v, w)
    return float(xp.sum(v * w))


def _center(cloud: Cloud) -> Center:
    """Return count, mean and variance of the rows, in one pass.

    Summed about the mean of a few rows: the variance keeps its digits far from the origin.
    """
    rows = cloud.need_rows()
    xp = namespace(rows)
    n = cloud.count
    pivot = xp.mean(cloud.block(slice(0, min(256, n))), axis=0)
    total = xp.zeros((cloud.width,), dtype=float64(xp), device=device(rows))
    squares = 0.0
    for block in cloud.blocks():
        block = block - pivot
        total = total + xp.sum(block, axis=0)
        squares += float(xp.sum(block * block))
    step = total / n
    variance = max(squares / n - squared_length(step), 0.0)
    return Center(n, pivot + step, variance, dtype_eps(rows))


def _pairing(first: Cloud, second: Cloud) -> Pairing:
    xp = namespace(first.need_rows(), second.need_rows())
    squares, cosines = [], []
    for left, right in zip(first.blocks(), second.blocks(), strict=True):
        step = left - right
        squares.append(xp.sum(step * step, axis=1))
        if not first.normalize:
            left, right = normalize_rows(left), normalize_rows(right)
        cosines.append(xp.sum(left * right, axis=1))
    return Pairing(xp.concat(squares), xp.concat(cosines))
