"""Half floats of NumPy made float32 by moving their bits, several times as fast as its own conversion."""

from __future__ import annotations

import numpy as np

__all__ = ["BEYOND_HALVES", "move_bits", "widen_halves"]

#: NaN and infinity become numbers from here on, and nothing else does, where bits are moved alone.
BEYOND_HALVES = np.float32(2.0**16)
#: Values that are gone over while they lie in a core's cache.
_PIECE = 256 * 1024
#: Of the bits of a half float that were moved by 13 all but the copies of its sign.
_NOT_SIGN_COPIES = np.int32(-0x70002000)
_SCALE = np.float32(2.0**112)


def widen_halves(x: np.ndarray) -> np.ndarray:
    """Return half floats as float32, as `astype` does."""
    stored = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(x.size, np.float32)
    for start in range(0, x.size, _PIECE):
        values = move_bits(stored[start : start + _PIECE], out[start : start + _PIECE])
        if not -BEYOND_HALVES < values.min() <= values.max() < BEYOND_HALVES:
            return x.astype(np.float32)  # NaN and infinity have bits of their own
    return out.reshape(x.shape)


def move_bits(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write finite half floats into float32 of the same shape; NaN and infinity pass all of them by.

    The bits of a half float, moved to where float32 has its own, are the same number times 2^-112.
    """
    bits = out.view(np.int32)
    np.copyto(bits, x.view(np.int16))  # the sign goes along
    bits <<= 13
    bits &= _NOT_SIGN_COPIES
    out *= _SCALE
    return out
