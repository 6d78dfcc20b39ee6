"""Files with several arrays: which one is meant, and whether it can be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modgap.errors import DataError, FormatError, ShapeError
from modgap.io._guard import shown
from modgap.io.remote import AnyPath

#: What a caller looks for, which decides between several arrays where no key does.
Want = Literal["embeddings", "labels"]

_LISTED = 12


@dataclass(frozen=True)
class Entry:
    """One array of a file, known from its header.

    Attributes
    ----------
    shape : tuple of int
        -1 stands for a length that only the data tell.
    dtype : numpy.dtype, optional
        None where the entry holds no numbers.
    note : str
        What it holds instead.
    """

    shape: tuple[int, ...] = ()
    dtype: np.dtype | None = None
    note: str = ""

    def __str__(self) -> str:
        """Return the shape and type as a message shows them."""
        axes = ", ".join("?" if n < 0 else str(n) for n in self.shape)
        comma = "," if len(self.shape) == 1 else ""
        what = self.note or str(self.dtype)
        return f"({axes}{comma}) {what}" if self.shape or self.dtype is not None else what


def named(path: AnyPath, key: str | None) -> str:
    """Return `PATH:KEY` (or `PATH`) in backticks, for messages."""
    return f"`{shown(path)}`" if key is None else f"`{shown(path)}:{shown(key)}`"


def pick(entries: Mapping[str, Entry], key: str | None, path: AnyPath, want: Want) -> str:
    """Return the key of the one array that is meant.

    Without a key: the only array there is, else the only one that fits what is wanted (embeddings:
    floats with 2 or 3 axes; labels: integers with 1 axis).

    Raises
    ------
    FormatError
        There is no such key, no array at all, or a choice that only the caller can make.
    """
    if not entries:
        raise FormatError(f"`{shown(path)}` holds no array; write it again")
    if key is not None:
        if key in entries:
            return key
        raise FormatError(f"`{shown(path)}` has no key `{shown(key)}`; it holds {_listed(entries)}")
    if len(entries) == 1:
        return next(iter(entries))
    fitting = [name for name, entry in entries.items() if _fits(entry, want)]
    if len(fitting) == 1:
        return fitting[0]
    raise FormatError(
        f"`{shown(path)}` holds {len(entries)} arrays; choose one with `{shown(path)}:KEY`: "
        f"{_listed(entries)}"
    )


def _fits(entry: Entry, want: Want) -> bool:
    if entry.dtype is None:
        return False
    if want == "labels":
        return entry.dtype.kind in "iu" and len(entry.shape) == 1
    return entry.dtype.kind == "f" and len(entry.shape) in (2, 3)


def _listed(entries: Mapping[str, Entry]) -> str:
    parts = [f"`{shown(name)}` {entry}" for name, entry in list(entries.items())[:_LISTED]]
    more = len(entries) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def check_entry(entry: Entry, path: AnyPath, key: str | None) -> np.dtype:
    """Return the native dtype of an array that modgap can use.

    Raises
    ------
    DataError
        It holds no real numbers of at most 64 bits.
    FormatError
        It holds Python objects, which are never unpickled.
    ShapeError
        It has no rows or columns, or a number of axes other than 1, 2 or 3.
    """
    where = named(path, key)
    if entry.dtype is None:
        raise DataError(f"{where} holds {entry.note}, no array of numbers; choose a numeric one")
    if entry.dtype.hasobject:
        raise FormatError(
            f"{where} holds Python objects, which modgap never unpickles; save plain numbers with "
            "np.save(path, np.stack(array).astype(np.float32))"
        )
    _check_numbers(entry.dtype, where)
    _check_shape(entry.shape, where)
    return entry.dtype.newbyteorder("=")


def _check_numbers(dtype: np.dtype, where: str) -> None:
    if dtype.kind in "US":
        raise DataError(
            f"{where} holds text ({dtype}), no embeddings; class names and templates are read from "
            ".txt or .json"
        )
    if dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2:
        raise DataError(
            f"{where} holds raw bytes ({dtype}), as NumPy saves bfloat16; save it as float32"
        )
    if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype.itemsize > 8):
        raise DataError(f"{where} holds {dtype}; save it as float16, float32 or float64")


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    axes = "(rows,), (rows, d) or (t, rows, d)"
    if not 1 <= len(shape) <= 3:
        scalar = "a single number" if not shape else f"an array of {len(shape)} axes"
        raise ShapeError(f"{where} is {scalar}, shape {shape}; it must have shape {axes}")
    if 0 in shape:
        what = "columns" if shape[-1] == 0 and len(shape) > 1 else "rows"
        raise ShapeError(
            f"{where} has no {what}: its shape is {shape}; write it again with data in it"
        )
    if min(shape[:1]) < 0 or math.prod(abs(n) for n in shape) > 2**62:
        raise ShapeError(f"{where} claims the impossible shape {shape}; it is damaged")
