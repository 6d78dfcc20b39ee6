"""Offsets of competitors behind the leader, binned: what a query is to the exact integral.

How far an item lies behind the leader, in units of the noise, is all that enters the integral, and log S_j
and log f are smooth in that offset. A grid cuts it into bins, fine near zero and growing with the offset,
and within a bin both are cubics. A query is then its bin counts and the first three powers of the places
within the bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, asarray_like, bincount, namespace

__all__ = ["POWERS", "REACH", "OffsetGrid", "binned", "grid_for", "place_in", "shortened"]

#: A competitor this many noise units behind never wins: it would take a 1e-10 event on both sides.
REACH = 12.5
#: Powers of the position within a bin: a cubic.
POWERS = 4

_LOG_STEP = 0.05


@dataclass(frozen=True)
class OffsetGrid:
    """Bins of offsets x >= 0: ``bin = floor(log1p(x / fine) / 0.05)``.

    Attributes
    ----------
    fine : float
        Offset up to which the bins are about evenly wide, in the unit of x.
    bins : int
    """

    fine: float
    bins: int

    @property
    def step(self) -> float:
        """Width of a bin in log1p(x / fine)."""
        return _LOG_STEP

    @property
    def stop(self) -> float:
        """Offset at which the last bin ends."""
        return self.fine * math.expm1(self.bins * _LOG_STEP)

    def offsets(self, within: np.ndarray) -> np.ndarray:
        """Return the offsets at positions `within` (p,) in [-1/2, 1/2] of every bin, (bins, p)."""
        steps = np.arange(self.bins)[:, None] + 0.5 + within[None, :]
        offsets: np.ndarray = self.fine * np.expm1(steps * _LOG_STEP)
        return offsets


def shortened(grid: OffsetGrid, reach: float) -> OffsetGrid:
    """Return the first bins of a grid, up to offset `reach`."""
    bins = math.ceil(math.log1p(reach / grid.fine) / _LOG_STEP) + 1
    rounded = 4 * math.ceil(bins / 4)  # few lengths, cached tables
    return OffsetGrid(fine=grid.fine, bins=min(rounded, grid.bins))


def grid_for(reach: float, finest: float) -> OffsetGrid:
    """Return the grid up to offset `reach` where the smallest noise has standard deviation `finest`."""
    fine = 2.0 * 2.0 ** math.floor(math.log2(finest))  # powers of two: few grids, cached tables
    bins = math.ceil(math.log1p(reach / fine) / _LOG_STEP) + 1
    return OffsetGrid(fine=fine, bins=4 * math.ceil(bins / 4))


def binned(offset: Array, grid: OffsetGrid) -> Array:
    """Return the features (q, POWERS, bins) of offsets (q, width); negative ones count as 0."""
    xp = namespace(offset)
    q, length = offset.shape[0], grid.bins
    first = asarray_like(np.arange(q) * length, offset)
    first = xp.reshape(xp.broadcast_to(xp.expand_dims(first, axis=1), offset.shape), (-1,))
    offset = xp.reshape(xp.where(offset > 0, offset, xp.zeros_like(offset[:1, :1])), (-1,))
    (inside,) = xp.nonzero(offset < grid.stop)
    if inside.shape[0] < offset.shape[0]:
        offset, first = xp.take(offset, inside), xp.take(first, inside)
    index, place = place_in(offset, grid)
    index = index + first
    sums, power = [], None
    for _ in range(POWERS):
        part = xp.astype(bincount(index, power, q * length), xp.float64)
        sums.append(xp.reshape(part, (q, length)))
        power = place if power is None else power * place
    return xp.stack(sums, axis=1)


def place_in(offset: Array, grid: OffsetGrid) -> tuple[Array, Array]:
    """Return the bin of each offset and the place within it, in [-1/2, 1/2]."""
    xp = namespace(offset)
    place = xp.log1p(offset * (1.0 / grid.fine)) * (1.0 / grid.step)
    index = xp.astype(place, xp.int64)
    return index, place - (xp.astype(index, xp.float64) + 0.5)
