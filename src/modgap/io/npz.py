"""NumPy's .npz: a zip archive of .npy members, streamed from the archive."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from modgap.errors import FormatError
from modgap.io._entries import Entry, Want, check_entry, named, pick
from modgap.io._guard import reading
from modgap.io._shard import Shard, decode, row_windows
from modgap.io.npy import read_header


@dataclass(frozen=True)
class NpzShard(Shard):
    """One array of an .npz archive.

    Attributes
    ----------
    member : str
        Name of the archive's member.
    """

    member: str

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows in order, unpacked as they come; a column-ordered array is read whole."""
        with (
            reading(self.path, "npz"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as stream,
        ):
            entry, order = read_header(stream)
            if entry.shape != self.shape or entry.dtype is None:
                raise ValueError("the file changed while it was read")
            if order == "F":
                yield from self._column_blocks(stream, entry, rows)
                return
            for start, stop in row_windows(self.shape, rows):
                shape = (stop - start, *self.shape[1:][-1:])
                yield decode(_take(stream, shape, entry.dtype), self.dtype)

    def _column_blocks(self, stream: IO[bytes], entry: Entry, rows: int) -> Iterator[np.ndarray]:
        assert entry.dtype is not None  # checked by `blocks`
        whole = _take(stream, self.shape[::-1], entry.dtype).T
        flat = np.ascontiguousarray(whole).reshape(self.rows, *self.shape[1:][-1:])
        for start, stop in row_windows(self.shape, rows):
            yield decode(flat[start:stop], self.dtype)


def open_npz(path: Path, key: str | None, want: Want) -> NpzShard:
    """Return one array of an .npz archive, known from its header.

    Raises
    ------
    DataError, FormatError, ShapeError
        The archive is damaged, the key missing or ambiguous, or the array unusable.
    """
    with reading(path, "npz"), zipfile.ZipFile(path) as archive:
        members = {_key(name): name for name in archive.namelist() if not name.endswith("/")}
        entries = {name: _entry(archive, member) for name, member in members.items()}
        chosen = pick(entries, key, path, want)
        entry = entries[chosen]
        dtype = check_entry(entry, path, chosen)
        size = archive.getinfo(members[chosen]).file_size
    assert entry.dtype is not None  # `check_entry` refuses the rest
    needed = math.prod(entry.shape) * entry.dtype.itemsize
    if size < needed:
        raise FormatError(
            f"{named(path, chosen)} is cut short: shape {entry.shape} of {entry.dtype} needs "
            f"{needed} bytes, the archive has {size}; write or download it again"
        )
    return NpzShard(path, "npz", chosen, entry.shape, dtype, members[chosen])


def _key(member: str) -> str:
    return member.removesuffix(".npy")


def _entry(archive: zipfile.ZipFile, member: str) -> Entry:
    """Return what the header of one member says; members that are no arrays are named as such."""
    if not member.endswith(".npy"):
        return Entry(note="something else than an array")
    with archive.open(member) as stream:
        return read_header(stream)[0]


def _take(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return the next values of the stream, owned by the caller."""
    block = np.empty(shape, dtype=dtype)
    view = block.reshape(-1).view(np.uint8).data
    while len(view):
        piece = stream.read(min(len(view), 1 << 20))
        if not piece:
            raise EOFError(f"the archive ends {len(view)} bytes early")
        view[: len(piece)] = piece
        view = view[len(piece) :]
    return block
