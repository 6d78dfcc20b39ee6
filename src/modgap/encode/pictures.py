"""Pictures of any kind as RGB, or one line that says why not."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.errors import DataError
from modgap.io._guard import one_line

__all__ = ["as_rgb", "thumbnail"]

#: Pixels of the largest picture that is opened; a file can hold any number in a few bytes.
MOST_PIXELS = 178_956_970


def as_rgb(item: Any) -> Any:
    """Return a picture as a PIL image in RGB, upright.

    Parameters
    ----------
    item : path, bytes of a file, PIL image, or ndarray (h, w, 3) or (h, w) of uint8
        Of an animation the first frame; 16-bit greys are scaled to 8 bits, palettes, CMYK and
        transparency are converted, and a camera's orientation is applied.

    Raises
    ------
    DataError
        No picture, cut off, larger than 179 million pixels, or of a mode that has no colours.
    """
    image_of = require("PIL.Image", "images")
    with _readable():
        if isinstance(item, str | os.PathLike):
            with image_of.open(Path(item)) as image:
                return _converted(image)
        if isinstance(item, bytes | bytearray | memoryview):
            with image_of.open(io.BytesIO(item)) as image:
                return _converted(image)
        if isinstance(item, np.ndarray):
            if item.dtype != np.uint8 or item.ndim not in (2, 3):
                raise DataError(
                    f"an array of pixels must be uint8 of shape (h, w, 3); got {item.dtype} {item.shape}"
                )
            item = image_of.fromarray(item)
        if not isinstance(item, image_of.Image):
            raise DataError(f"no picture: a {type(item).__name__}")
        return _converted(item)


def thumbnail(image: Any, side: int = 96) -> bytes:
    """Return a picture as a JPEG of at most `side` pixels a side, for pages that show it."""
    small = image.copy()
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.convert("RGB").save(out, format="JPEG", quality=80)
    return out.getvalue()


def _converted(image: Any) -> Any:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{width:,} x {height:,} pixels are too many; scale it down")
    image.seek(0)
    image.load()
    if image.mode == "RGB" and not image.info.get("exif"):
        return image
    image = require("PIL.ImageOps", "images").exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bits(image: Any) -> Any:
    """Return a grey picture of more than 8 bits in 8; PIL would cut it off at 255."""
    values = np.asarray(image).astype(np.float64)
    most = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1e-12)
    if image.mode.startswith("I") and values.max() > most:
        most = float(values.max())
    scaled = np.clip(np.round(values * (255.0 / most)), 0, 255).astype(np.uint8)
    return require("PIL.Image", "images").fromarray(scaled)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn whatever a decoder says into one line."""
    unidentified = require("PIL", "images").UnidentifiedImageError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a decoder's remarks on metadata are no news here
            yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such file") from None
    except unidentified:
        raise DataError("not a picture of a known format") from None
    except Exception as error:
        raise DataError(one_line(error)) from None
