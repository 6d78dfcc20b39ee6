"""Clips of sound as mono samples at one rate."""

from __future__ import annotations

import io
import os
import wave
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from modgap.errors import DataError
from modgap.io._guard import one_line

__all__ = ["as_samples"]

_KINDS = {2: "<i2", 4: "<i4"}


def as_samples(item: Any, rate: int) -> np.ndarray:
    """Return float32 samples (n,) in [-1, 1] at `rate` a second.

    Parameters
    ----------
    item : ndarray (n,), path or bytes of a WAV file
        An array is taken to have the rate already; files are averaged over channels and resampled.

    Raises
    ------
    DataError
        No samples, no WAV file, or one of a kind without plain integers.
    """
    if isinstance(item, np.ndarray):
        if item.ndim != 1 or item.dtype.kind != "f" or not item.size:
            raise DataError(f"a clip must be floats of shape (n,); got {item.dtype} {item.shape}")
        if not np.isfinite(item).all():
            raise DataError("a clip holds NaN or infinity")
        return item.astype(np.float32)
    try:
        if isinstance(item, bytes | bytearray):
            source: Any = io.BytesIO(item)
        elif isinstance(item, str | os.PathLike):
            source = str(Path(item))
        else:
            raise DataError(f"no clip: a {type(item).__name__}")
        with wave.open(source, "rb") as clip:
            own, channels, width = clip.getframerate(), clip.getnchannels(), clip.getsampwidth()
            raw = clip.readframes(clip.getnframes())
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such file") from None
    except Exception as error:
        raise DataError(f"no WAV file ({one_line(error)})") from None
    if width not in _KINDS or not raw or not own:
        raise DataError(f"a WAV file of {8 * width} bits a sample; save it with 16 or 32")
    values = np.frombuffer(raw, dtype=np.dtype(_KINDS[width])).reshape(-1, channels)
    samples = values.mean(axis=1) / 2 ** (8 * width - 1)
    if own != rate:
        common = gcd(own, rate)
        samples = resample_poly(samples, rate // common, own // common)
    return np.asarray(samples, dtype=np.float32)
