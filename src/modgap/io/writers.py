"""Writing arrays, whole or block by block, into files that appear whole or not at all."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np

from modgap._core.arrays import Array, is_array, to_numpy
from modgap._core.extras import require
from modgap.errors import DataError, FormatError, ShapeError
from modgap.io._guard import one_line, shown
from modgap.io.atomic import atomic_path
from modgap.io.remote import AnyPath, RemotePath
from modgap.io.safetensors_file import NAMES

#: Suffixes that modgap writes.
WRITABLE = (".npy", ".safetensors", ".parquet")
#: Name of the array in formats that have names.
DEFAULT_KEY = "embedding"

Write = Callable[[np.ndarray], None]


class Digest(Protocol):
    """What hashes bytes as they come, as `hashlib` has it."""

    def update(self, data: Any, /) -> None:
        """Take more bytes."""


def write_array(path: str | Path, array: Array, *, key: str = DEFAULT_KEY) -> Path:
    """Write an array as .npy, .safetensors or .parquet, whichever the name says; return the path.

    Parameters
    ----------
    path : str or Path
        A file of that name is replaced in one step, once the new one is whole.
    array : array (n,), (n, d) or (t, n, d)
        Real numbers, of any library. Parquet takes no three axes.
    key : str
        Name of the tensor or column in .safetensors and .parquet.

    Raises
    ------
    DataError
        The array holds no real numbers.
    FormatError
        Another suffix, or the file cannot be written.
    ShapeError
        Another number of axes, or no rows.
    """
    target = Path(path)
    check_writable(target)
    values = host_array(array)
    check_values(values.shape, values.dtype, target)
    flat = np.ascontiguousarray(values).reshape(-1, *values.shape[1:][-1:])
    with (
        atomic_path(target) as temporary,
        array_writer(temporary, values.shape, values.dtype, key=key) as write,
    ):
        write(flat)
    return target


def host_array(values: Any) -> np.ndarray:
    """Return an array of any library, or nested lists, as a NumPy array."""
    return to_numpy(values) if is_array(values) else np.asarray(values)


def check_writable(target: Path) -> None:
    """Raise a FormatError unless modgap writes files with this suffix."""
    if target.suffix.lower() not in WRITABLE:
        raise FormatError(
            f"cannot write `{shown(target)}`: its suffix is `{shown(target.suffix)}`; "
            f"modgap writes {', '.join(WRITABLE)}"
        )


def check_values(shape: tuple[int, ...], dtype: np.dtype, target: Path) -> None:
    """Raise an error unless an array like this can be written there and read again."""
    if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype.itemsize > 8):
        raise DataError(f"`{shown(target)}` can hold real numbers up to 64 bits; got {dtype}")
    if not 1 <= len(shape) <= 3 or 0 in shape:
        raise ShapeError(
            f"`{shown(target)}` must have shape (n,), (n, d) or (t, n, d) with data in it; "
            f"got {shape}"
        )
    if len(shape) == 3 and target.suffix.lower() == ".parquet":
        raise ShapeError(
            f"`{shown(target)}` cannot hold three axes, got {shape}; write .npy or .safetensors"
        )


@contextmanager
def array_writer(
    path: AnyPath,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    key: str = DEFAULT_KEY,
    digest: Digest | None = None,
) -> Iterator[Write]:
    """Yield a function that appends blocks of rows to an empty file that exists, or is to be in a store.

    Blocks have shape (b, d), or (b,) for one axis; three axes are written template by template. A
    `digest` is given all bytes of the file.

    Raises
    ------
    FormatError
        The format's own library fails. OSError passes, for `atomic_path` to name the target.
    ShapeError
        The blocks have fewer or more rows than `shape` says.
    """
    native = dtype.newbyteorder("=")
    make = _parquet_writer if path.suffix.lower() == ".parquet" else _plain_writer
    expected = shape[0] if len(shape) == 1 else math.prod(shape[:-1])
    done = 0
    with _opened(path, digest) as handle, make(handle, path, shape, native, key) as append:

        def write(block: np.ndarray) -> None:
            nonlocal done
            done += len(block)
            append(np.ascontiguousarray(block, dtype=native))

        yield write
    if done != expected:
        raise ShapeError(f"`{shown(path.name)}` was to have {expected} rows; it was given {done}")


class _HashedFile(io.RawIOBase):
    """A file that is written from its beginning to its end, and hashed by a thread meanwhile."""

    def __init__(self, handle: IO[bytes], digest: Digest, pool: ThreadPoolExecutor) -> None:
        self._handle, self._digest, self._pool = handle, digest, pool

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash all of `data`, whose memory is free again afterwards."""
        hashed = self._pool.submit(self._digest.update, data)
        try:
            return self._handle.write(data)
        finally:
            hashed.result()

    def tell(self) -> int:
        """Return how much is written."""
        return self._handle.tell()

    def flush(self) -> None:
        """Hand over to the system what is written."""
        self._handle.flush()


@contextmanager
def _opened(path: AnyPath, digest: Digest | None) -> Iterator[IO[bytes]]:
    """Yield the empty file, ready to be written from its beginning to its end."""
    # "r+b": ext4 answers a truncation with a flush at the close.
    with path.open("wb" if isinstance(path, RemotePath) else "r+b") as handle:
        if digest is None:
            yield handle
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            yield cast(IO[bytes], _HashedFile(handle, digest, pool))


@contextmanager
def _plain_writer(
    handle: IO[bytes], path: AnyPath, shape: tuple[int, ...], dtype: np.dtype, key: str
) -> Iterator[Write]:
    """Write a header and then the bytes of the rows, one after the other."""
    little = dtype.newbyteorder("<")
    if path.suffix.lower() == ".npy":
        header = {"descr": little.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
    else:
        handle.write(_safetensors_header(shape, little, key))

    def append(block: np.ndarray) -> None:
        values = block.astype(little, copy=False)
        handle.write(values.reshape(-1).view(np.uint8).data)

    yield append


def _safetensors_header(shape: tuple[int, ...], dtype: np.dtype, key: str) -> bytes:
    """Return the length and the JSON header of a file with one tensor, padded to 8 bytes."""
    size = math.prod(shape) * dtype.itemsize
    info = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({key: info}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


@contextmanager
def _parquet_writer(
    handle: IO[bytes], path: AnyPath, shape: tuple[int, ...], dtype: np.dtype, key: str
) -> Iterator[Write]:
    """Write each block as one row group, uncompressed: embeddings are noise to a compressor."""
    arrow = require("pyarrow", "data")
    parquet = require("pyarrow.parquet", "data")
    value = arrow.from_numpy_dtype(dtype)
    kind = value if len(shape) == 1 else arrow.list_(value, shape[1])
    options: dict[str, Any] = {"compression": "NONE", "use_dictionary": False}
    options |= {"write_statistics": False, "write_page_checksum": True}
    try:
        with parquet.ParquetWriter(handle, arrow.schema([(key, kind)]), **options) as writer:

            def append(block: np.ndarray) -> None:
                column = arrow.array(block.reshape(-1), type=value)
                if len(shape) > 1:
                    column = arrow.FixedSizeListArray.from_arrays(column, shape[1])
                writer.write_table(arrow.table({key: column}), row_group_size=len(block))

            yield append
    except arrow.ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise FormatError(f"cannot write `{shown(path.name)}`: {one_line(error)}") from None
