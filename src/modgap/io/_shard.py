"""One file's array, not read yet: what it is, and its rows block by block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import cast

import numpy as np

from modgap.errors import FormatError
from modgap.io._guard import check_file, reading, shown
from modgap.io.remote import AnyPath, RemotePath

#: Blocks up to this many bytes are read into fresh memory, which the allocator reuses; larger ones
#: are mapped, because fresh memory of their size costs more than the copy.
_READ_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Shard(ABC):
    """The array in one file; the subclasses know how to get at it.

    Attributes
    ----------
    path : Path or RemotePath
    format : str
        Name of the file format.
    key : str or None
        Name of the array in the file, where the format has names.
    shape : tuple of int
        (rows,), (rows, d) or (t, rows, d).
    dtype : numpy.dtype
        What `read` and `blocks` return, in native byte order.
    """

    path: AnyPath
    format: str
    key: str | None
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def name(self) -> str:
        """File name without the folder."""
        return self.path.name

    @property
    def rows(self) -> int:
        """Number of rows, over all templates where there are three axes."""
        return self.shape[0] if len(self.shape) == 1 else math.prod(self.shape[:-1])

    @property
    def width(self) -> int:
        """Embedding dimension d; 1 for labels."""
        return 1 if len(self.shape) == 1 else self.shape[-1]

    @abstractmethod
    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows in order, `rows` at most at a time and never across templates.

        Each block has shape (b, d), or (b,) for labels.
        """

    def read(self) -> np.ndarray:
        """Return the whole array."""
        with reading(self.path, self.format):
            out = np.empty(self.shape, dtype=self.dtype)
        flat = out.reshape(self.rows, *self.shape[1:][-1:])
        done = 0
        for block in self.blocks(65536):
            flat[done : done + len(block)] = block
            done += len(block)
        return out


def row_windows(shape: tuple[int, ...], rows: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) over the rows laid end to end, never across templates."""
    per_template = shape[0] if len(shape) == 1 else shape[-2]
    templates = shape[0] if len(shape) == 3 else 1
    step = max(1, rows)
    for template in range(templates):
        base = template * per_template
        for start in range(0, per_template, step):
            yield base + start, base + min(start + step, per_template)


def decode(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return stored values as `dtype`, in native byte order; uint16 for a float means bfloat16.

    bfloat16 is the upper half of a float32, so widening it is exact.
    """
    if stored.dtype.kind == "u" and dtype.kind == "f":
        wide = stored.astype(np.uint32)
        wide <<= np.uint32(16)
        return wide.view(np.float32)
    return stored if stored.dtype == dtype else stored.astype(dtype)


@dataclass(frozen=True)
class MappedShard(Shard):
    """An array that lies in its file as plain bytes from `offset` on.

    Attributes
    ----------
    offset : int
        Where the first value begins.
    stored : numpy.dtype
        What lies in the file: `dtype`, perhaps in the other byte order, or uint16 for bfloat16.
    order : {"C", "F"}
        Whether rows or columns lie together.
    """

    offset: int
    stored: np.dtype
    order: str = "C"

    def check_extent(self) -> None:
        """Raise a FormatError if the file ends before the array does."""
        size = check_file(self.path)
        needed = self.offset + math.prod(self.shape) * self.stored.itemsize
        if size < needed:
            raise FormatError(
                f"`{shown(self.path)}` is cut short: shape {self.shape} of {self.stored} needs "
                f"{needed} bytes, the file has {size}; write or download it again"
            )

    def read(self) -> np.ndarray:
        """Return the whole array, read-only and mapped from the file where its bytes allow it."""
        if isinstance(self.path, RemotePath):
            return super().read()
        self.check_extent()
        return decode(self._map(0, self.shape), self.dtype)

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows in order; each block is read or mapped when its turn comes."""
        self.check_extent()
        if self.order == "F":
            yield from self._column_blocks(rows)
            return
        row_bytes = self.width * self.stored.itemsize
        with reading(self.path, self.format), self.path.open("rb", buffering=0) as handle:
            for start, stop in row_windows(self.shape, rows):
                shape = (stop - start, *self.shape[1:][-1:])
                offset = self.offset + start * row_bytes
                if (stop - start) * row_bytes <= _READ_BYTES or isinstance(self.path, RemotePath):
                    block = np.empty(shape, dtype=self.stored)
                    handle.seek(offset)
                    _fill(block, cast(RawIOBase, handle).readinto)
                else:
                    block = self._map(offset - self.offset, shape)
                yield decode(block, self.dtype)

    def _column_blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Columns lie together: gather the rows from a map of the whole file."""
        if isinstance(self.path, RemotePath):
            raise FormatError(
                f"`{shown(self.path)}` is stored column by column (Fortran order), which is read from "
                "local disks only; copy it here, or save np.ascontiguousarray(array)"
            )
        mapped = self._map(0, self.shape)
        per_template = self.shape[-2] if len(self.shape) > 1 else self.shape[0]
        for start, stop in row_windows(self.shape, rows):
            template, first = divmod(start, per_template)
            table = mapped[template] if len(self.shape) == 3 else mapped
            block = np.ascontiguousarray(table[first : first + stop - start])
            yield decode(block, self.dtype)

    def _map(self, skip: int, shape: tuple[int, ...]) -> np.ndarray:
        with reading(self.path, self.format):
            mapped = np.memmap(
                self.path,
                dtype=self.stored,
                mode="r",
                offset=self.offset + skip,
                shape=shape,
                order="F" if self.order == "F" else "C",
            )
            # A plain read-only ndarray; torch wants the values aligned, which no format promises.
            return np.require(np.asarray(mapped), requirements="A")


def _fill(block: np.ndarray, readinto: Callable[[memoryview], int | None]) -> None:
    """Fill a block from a raw file, which may hand out less than was asked for."""
    view = block.reshape(-1).view(np.uint8).data
    while len(view):
        count = readinto(view)
        if not count:
            raise EOFError(f"the file ends {len(view)} bytes early")
        view = view[count:]
