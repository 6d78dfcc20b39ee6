"""Ranges of codes: where the levels of a uniform code lie, one range for all values or one a dimension.

A range is a pair of float64 arrays, low and high, of shape () or (d,).
"""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import Array, as_float64, namespace
from modgap.robustness.kinds import Range

__all__ = ["clipped_range", "to_cells", "to_codes", "to_levels", "value_range"]

#: Rows that a clipped range is chosen on.
_SAMPLE = 2048
#: Half widths tried for it, in standard deviations, and then around the best of them. For a normal
#: distribution the best is 1.6 at one bit, 2.7 at four and 3.9 at eight (Hui and Neuhoff 2001); to be 3 %
#: off costs about 1 % of the error.
_HALF_WIDTHS = np.geomspace(1.0, 8.0, 8).tolist()
_AROUND = np.geomspace(0.87, 1.15, 6).tolist()


def value_range(rows: Array, rule: Range) -> tuple[Array, Array]:
    """Return the smallest and largest value of the rows, of each coordinate, or the given ends."""
    xp = namespace(rows)
    if not isinstance(rule, str):
        like = as_float64(rows[:1, 0])
        return xp.full_like(like, rule[0])[0], xp.full_like(like, rule[1])[0]
    axis = None if rule == "global" else 0
    return as_float64(xp.min(rows, axis=axis)), as_float64(xp.max(rows, axis=axis))


def clipped_range(rows: Array, full: tuple[Array, Array], levels: int) -> tuple[Array, Array]:
    """Return the range about the mean with the least squared error of `to_cells`, or the full one.

    Values beyond it go to its ends: a few large ones then cost less than wide cells cost all others.
    """
    xp = namespace(rows)
    stride = -(-rows.shape[0] // _SAMPLE)
    sample = as_float64(rows[::stride, :])
    axis = 0 if full[0].ndim else None
    mean, spread = xp.mean(sample, axis=axis), xp.std(sample, axis=axis)
    best, least = full, _squared_error(sample, full, levels, axis)
    width = xp.zeros_like(least)
    for half_width in _HALF_WIDTHS:
        found = _tried(sample, (mean, spread), half_width, full, levels, axis)
        width = xp.where(found[2] < least, xp.full_like(width, half_width), width)
        best, least = _least(best, least, found)
    for factor in _AROUND:
        found = _tried(sample, (mean, spread), factor * width, full, levels, axis)
        best, least = _least(best, least, found)
    return best


def to_levels(values: Array, ends: tuple[Array, Array], levels: int) -> Array:
    """Return every value at the nearest of `levels` levels from low to high, both included."""
    xp = namespace(values)
    low, high = ends
    step = (high - low) / (levels - 1)
    safe = xp.where(step > 0, step, xp.ones_like(step))
    level = xp.clip(xp.round((as_float64(values) - low) / safe), min=0.0, max=float(levels - 1))
    return low + level * step


def to_cells(values: Array, ends: tuple[Array, Array], levels: int) -> Array:
    """Return every value at the middle of its cell, of `levels` equal cells from low to high."""
    xp = namespace(values)
    low, high = ends
    step = (high - low) / levels
    safe = xp.where(step > 0, step, xp.ones_like(step))
    cell = xp.clip(xp.floor((as_float64(values) - low) / safe), min=0.0, max=float(levels - 1))
    return low + (cell + 0.5) * step


def to_codes(values: Array, ends: tuple[Array, Array]) -> Array:
    """Return every value at the middle of its code of one byte, as FAISS' QT_8bit decodes it.

    The range is 255 codes wide and the code is rounded down, so the largest value comes back half a
    code too high.
    """
    xp = namespace(values)
    low, high = ends
    width = high - low
    safe = xp.where(width > 0, width, xp.ones_like(width))
    wide = as_float64(values)
    code = xp.clip(xp.floor(255 * ((wide - low) / safe)), min=0.0, max=255.0)
    code = xp.where(wide >= high, xp.full_like(code, 255.0), code)  # whatever the rounding
    return xp.where(width > 0, low + (code + 0.5) / 255 * width, low + xp.zeros_like(code))


def _tried(
    sample: Array,
    about: tuple[Array, Array],
    half_width: Array | float,
    full: tuple[Array, Array],
    levels: int,
    axis: int | None,
) -> tuple[Array, Array, Array]:
    """Return a range about the mean, within the full one, and its squared error."""
    xp = namespace(sample)
    mean, spread = about
    low = xp.maximum(mean - half_width * spread, full[0])
    high = xp.minimum(mean + half_width * spread, full[1])
    return low, high, _squared_error(sample, (low, high), levels, axis)


def _squared_error(
    sample: Array, ends: tuple[Array, Array], levels: int, axis: int | None
) -> Array:
    xp = namespace(sample)
    step = to_cells(sample, ends, levels) - sample
    return xp.mean(step * step, axis=axis)


def _least(
    best: tuple[Array, Array], least: Array, found: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], Array]:
    """Return the better of two ranges, one by one where each dimension has its own."""
    xp = namespace(least)
    better = found[2] < least
    ends = xp.where(better, found[0], best[0]), xp.where(better, found[1], best[1])
    return ends, xp.where(better, found[2], least)
