"""NumPy's .npy: one array, mapped."""

from __future__ import annotations

import warnings
from typing import IO

import numpy as np

from modgap.errors import FormatError
from modgap.io._entries import Entry, Want, check_entry
from modgap.io._guard import reading, shown
from modgap.io._shard import MappedShard
from modgap.io.remote import AnyPath


def read_header(handle: IO[bytes]) -> tuple[Entry, str]:
    """Return the shape and dtype at the start of an .npy stream, and its order ("C" or "F").

    Raises
    ------
    ValueError
        The header is damaged. NumPy's parser may raise other errors too.
    """
    with warnings.catch_warnings():
        # Files from Python 2, and literals that the compiler finds odd, are fine or fail below.
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        elif version in ((2, 0), (3, 0)):  # 3.0 differs in the names of fields alone
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(handle)
        else:
            raise ValueError(f"unknown .npy version {version[0]}.{version[1]}")
    if any(n < 0 for n in shape):
        raise ValueError(f"the header claims shape {shape}")
    return Entry(tuple(int(n) for n in shape), dtype), "F" if fortran else "C"


def open_npy(path: AnyPath, key: str | None, want: Want) -> MappedShard:
    """Return the array of an .npy file, its header read and its length checked.

    Raises
    ------
    DataError, FormatError, ShapeError
        The file is damaged, holds Python objects or no numbers, or is given a key.
    """
    if key is not None:
        raise FormatError(f"`{shown(path)}` is one array without keys; drop `:{shown(key)}`")
    with reading(path, "npy"), path.open("rb") as handle:
        entry, order = read_header(handle)
        offset = handle.tell()
    dtype = check_entry(entry, path, None)
    assert entry.dtype is not None  # `check_entry` refuses the rest
    shard = MappedShard(path, "npy", None, entry.shape, dtype, offset, entry.dtype, order)
    shard.check_extent()
    return shard
