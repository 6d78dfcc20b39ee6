"""From PATH or PATH:KEY to a source of rows, whatever the format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import ArgumentError, DataError, FormatError, ShapeError
from modgap.io._entries import Want, named
from modgap.io._guard import check_expansion, check_file, file_status, looks_like, shown
from modgap.io._shard import Shard
from modgap.io.npy import open_npy
from modgap.io.npz import open_npz
from modgap.io.parquet import open_columns
from modgap.io.remote import LOCAL, AnyPath, RemotePath, is_url
from modgap.io.safetensors_file import open_safetensors
from modgap.io.shards import FORMATS, find_shards
from modgap.io.torch_file import open_torch

_OPENERS: dict[str, Callable[[Any, str | None, Want], Shard]] = {
    "npy": open_npy,
    "npz": open_npz,
    "safetensors": open_safetensors,
    "parquet": open_columns,
    "arrow": open_columns,
    "pt": open_torch,
}
#: Formats that are read where they lie, byte range by byte range.
_REMOTE = ("npy", "safetensors", "parquet")
#: Headers of remote files that are read at a time: each is a wait for an answer.
_REQUESTS = 16
_PORT = re.compile(r"[^:]*:[0-9]+(?=:|$)")
_TEXT = (".txt", ".csv", ".json")


@dataclass(frozen=True)
class Source:
    """One array, in a file or in a folder of shards, that has not been read.

    Attributes
    ----------
    path : Path or RemotePath
        The file or folder.
    key : str or None
        What was chosen in it.
    shards : tuple of Shard
        The files in order; each has a `name`, `path`, `rows`, `width`, `shape`, `dtype`, and the
        methods `read` and `blocks`. A single file is one shard.
    shape : tuple of int
        (rows,) for labels, (rows, d), or (t, rows, d) for a gallery per caption template.
    dtype : numpy.dtype
        What `read` and `blocks` return; the common one where shards differ.
    """

    path: AnyPath
    key: str | None
    shards: tuple[Shard, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def format(self) -> str:
        """Name of the file format: npy, npz, safetensors, parquet, arrow or pt."""
        return self.shards[0].format

    @property
    def rows(self) -> int:
        """Number of rows, over all shards and templates."""
        return sum(shard.rows for shard in self.shards)

    @property
    def width(self) -> int:
        """Embedding dimension d; 1 for labels."""
        return self.shards[0].width

    def read(self) -> np.ndarray:
        """Return the whole array; mapped from the file and read-only where its bytes allow it.

        Raises
        ------
        DataError, FormatError, ShapeError
            A file turns out to be damaged, or a row to have another length or a null.
        """
        if len(self.shards) == 1:
            return self.shards[0].read()
        out = np.empty(self.shape, dtype=self.dtype)
        done = 0
        for block in self.blocks():
            out[done : done + len(block)] = block
            done += len(block)
        return out

    def blocks(self, rows: int = 65536) -> Iterator[np.ndarray]:
        """Yield the rows in order, at most `rows` at a time, never more than one block in memory.

        Parameters
        ----------
        rows : int
            Rows per block. Blocks end where shards and templates end, so they may be shorter.

        Yields
        ------
        ndarray (b, d), or (b,) for labels
            May be read-only.

        Raises
        ------
        DataError, FormatError, ShapeError
            As `read`.
        """
        if rows < 1:
            raise ArgumentError(f"`rows` must be at least 1; got {rows}")
        for shard in self.shards:
            for block in shard.blocks(rows):
                yield block.astype(self.dtype, copy=False)

    def describe(self) -> dict[str, Any]:
        """Return path, format, key, shape, dtype and the number of shards, ready for JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "key": self.key,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "shards": len(self.shards),
        }


def parse_spec(spec: str | os.PathLike[str], key: str | None = None) -> tuple[AnyPath, str | None]:
    """Return path and key of an input that is written PATH or PATH:KEY.

    A path may be a URL for fsspec (``s3://...``). One that exists as it stands is never split, nor is a
    Windows drive letter from its path. Of several colons, the last one that leaves an existing path
    separates.

    Raises
    ------
    ArgumentError
        The input is no path.
    FormatError
        The path or the key is empty.

    Examples
    --------
    >>> path, key = parse_spec("folder/embeddings.npz:images")
    >>> path.name, key
    ('embeddings.npz', 'images')
    """
    if isinstance(spec, RemotePath):
        return spec, key
    if not isinstance(spec, str | os.PathLike):
        raise ArgumentError(f"an input must be a path; got {type(spec).__name__}")
    text = os.fspath(spec)
    if not isinstance(text, str):
        raise ArgumentError(f"an input must be a path of text; got {type(text).__name__}")
    if not text:
        raise FormatError("an input must be PATH or PATH:KEY; got an empty one")
    if text.startswith(LOCAL) and "::" not in text:
        text = text.removeprefix(LOCAL)
    if is_url(text) and not os.path.lexists(text):
        return _parse_url(text, key)
    if key is not None or os.path.lexists(text):
        return Path(text), key
    cuts = [i for i, c in enumerate(text) if c == ":" and i > 0 and not _is_drive(text, i)]
    existing = [cut for cut in cuts if os.path.lexists(text[:cut])]
    named_like_files = [
        cut for cut in cuts if Path(text[:cut]).suffix.lower() in (*FORMATS, *_TEXT)
    ]
    cut = max(existing, default=max(named_like_files, default=None))
    if cut is None:
        return Path(text), None
    if cut == len(text) - 1:
        raise FormatError(f"`{shown(text)}` ends in an empty key; write PATH or PATH:KEY")
    return Path(text[:cut]), text[cut + 1 :]


def _parse_url(text: str, key: str | None) -> tuple[RemotePath, str | None]:
    """Return URL and key: what follows a single colon in the last part of the path is a key."""
    start = text.rfind("/") + 1
    start = max(start, text.rfind("::") + 2) if "::" in text else start
    if text[:start].endswith("://"):  # of a host without a path, digits are its port
        port = _PORT.match(text, start)
        start = port.end() if port else start
    cut = text.find(":", start)
    if key is not None or cut < 0:
        return RemotePath(text), key
    if cut == len(text) - 1:
        raise FormatError(f"`{shown(text)}` ends in an empty key; write URL or URL:KEY")
    return RemotePath(text[:cut]), text[cut + 1 :]


def _is_drive(text: str, colon: int) -> bool:
    return colon == 1 and text[0].isalpha() and (os.name == "nt" or text[2:3] in ("\\", "/"))


def open_source(spec: str | os.PathLike[str], *, key: str | None = None) -> Source:
    """Return the array behind PATH or PATH:KEY, known from its headers and not read yet.

    Parameters
    ----------
    spec : str or path
        A .npy, .npz, .safetensors, .parquet, .arrow (or .feather) or .pt file, or a folder of numbered
        shards; on this machine, or as a URL of fsspec (.npy, .safetensors, .parquet). After a colon: the
        array's name or column, or the kind of shards.
    key : str, optional
        The same as after the colon; the path is then taken as it stands.

    Raises
    ------
    DataError
        The array holds no real numbers.
    FormatError
        A file is missing, damaged or of another kind than its name says; the key is missing or
        ambiguous; a shard is missing.
    MissingExtraError
        The format needs a package that is not installed.
    ShapeError
        The array has no rows, or a number of axes other than 1, 2 or 3, or shards differ in width.

    Notes
    -----
    Nothing is ever unpickled. bfloat16 comes back as float32; every other type as it is stored.
    """
    return open_wanted(spec, key, "embeddings")


def open_wanted(spec: str | os.PathLike[str], key: str | None, want: Want) -> Source:
    """Return the source behind a spec, where `want` decides between arrays that have no key."""
    path, key = parse_spec(spec, key)
    file_status(path)
    if not path.is_dir():
        shard = _open_file(path, key, want)
        return Source(path, shard.key, (shard,), shard.shape, shard.dtype)
    files, inner = find_shards(path, key)
    shards = tuple(_open_files(files, inner, want))
    shape = _common_shape(shards)
    return Source(path, key, shards, shape, _common_dtype(shards))


def read_array(spec: str | os.PathLike[str], *, key: str | None = None) -> np.ndarray:
    """Return the whole array behind PATH or PATH:KEY; see `open_source` for inputs and errors."""
    return open_source(spec, key=key).read()


def _open_files(files: list[AnyPath], key: str | None, want: Want) -> list[Shard]:
    """Return the shards, their headers read; remote ones several at a time."""
    if not isinstance(files[0], RemotePath):
        return [_open_file(file, key, want) for file in files]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(lambda file: _open_file(file, key, want), files))


def _open_file(path: AnyPath, key: str | None, want: Want) -> Shard:
    kind = FORMATS.get(path.suffix.lower())
    check_file(path)
    if kind is None:
        raise FormatError(
            f"`{shown(path)}` has the unknown suffix `{shown(path.suffix)}`; modgap reads "
            f"{', '.join(FORMATS)} and folders of shards{looks_like(path)}"
        )
    if isinstance(path, RemotePath) and kind not in _REMOTE:
        raise FormatError(
            f"`{shown(path)}` is a {path.suffix} file, which is read from local disks only; copy it here, "
            "or write .npy, .safetensors or .parquet"
        )
    shard = _OPENERS[kind](path, key, want)
    check_expansion(path, shard.rows * shard.width * shard.dtype.itemsize)
    return shard


def _common_shape(shards: tuple[Shard, ...]) -> tuple[int, ...]:
    """Return the shape of the shards laid end to end."""
    first = shards[0]
    for shard in shards:
        if len(shard.shape) == 3 and len(shards) > 1:
            raise ShapeError(
                f"{named(shard.path, shard.key)} has shape {shard.shape}; shards must have shape "
                "(rows, d), write one folder per template"
            )
        if len(shard.shape) != len(first.shape) or shard.width != first.width:
            raise ShapeError(
                f"all shards must have the same width; `{shown(first.name)}` has width "
                f"{first.width} (shape {first.shape}), `{shown(shard.name)}` has width "
                f"{shard.width} (shape {shard.shape})"
            )
    if len(shards) == 1:
        return first.shape
    return (sum(shard.shape[0] for shard in shards), *first.shape[1:])


def _common_dtype(shards: tuple[Shard, ...]) -> np.dtype:
    """Return the type that holds the values of all shards; floats and integers do not mix."""
    first = shards[0]
    for shard in shards:
        if (shard.dtype.kind == "f") != (first.dtype.kind == "f"):
            raise DataError(
                f"shards must all hold floats or all integers; `{shown(first.name)}` holds "
                f"{first.dtype}, `{shown(shard.name)}` holds {shard.dtype}; convert one kind"
            )
    return np.result_type(*{shard.dtype for shard in shards})
