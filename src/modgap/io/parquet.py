"""Parquet and Arrow IPC: a column of lists is a cloud, a column of numbers is labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.errors import DataError, FormatError, ShapeError
from modgap.io._entries import Entry, Want, check_entry, named, pick
from modgap.io._guard import reading, shown
from modgap.io._shard import Shard
from modgap.io.remote import AnyPath, RemotePath


@dataclass(frozen=True)
class ColumnShard(Shard):
    """One column of a Parquet or Arrow file; rows of other lengths show when they are read."""

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows in order, one batch of the file at a time."""
        done = 0
        with reading(self.path, self.format):
            for column in _columns(self.path, self.format, str(self.key), rows):
                for start in range(0, len(column), max(1, rows)):
                    part = column.slice(start, rows)
                    yield self._to_numpy(part, done)
                    done += len(part)
            if done != self.shape[0]:
                raise ValueError(f"it has {done} of {self.shape[0]} rows")

    def _to_numpy(self, column: Any, first: int) -> np.ndarray:
        """Return one piece of the column, whose first row is row `first` of the file."""
        where = named(self.path, self.key)
        if hasattr(column, "storage"):
            column = column.storage
        if column.null_count:
            row = first + int(np.argmax(_nulls(column)))
            raise DataError(f"{where} row {row} is null; drop or fill such rows")
        if len(self.shape) == 1:
            return np.asarray(column.to_numpy(zero_copy_only=False), dtype=self.dtype)
        width = self.shape[1]
        _check_lengths(column, width, first, where)
        values = column.flatten()
        if values.null_count:
            row = first + int(np.argmax(_nulls(values))) // width
            raise DataError(f"{where} row {row} holds a null; drop or fill such rows")
        flat = np.asarray(values.to_numpy(zero_copy_only=False), dtype=self.dtype)
        return flat.reshape(-1, width)


def open_columns(path: AnyPath, key: str | None, want: Want) -> ColumnShard:
    """Return one column of a .parquet, .arrow or .feather file.

    Raises
    ------
    DataError, FormatError, ShapeError
        The file is damaged, the column missing or ambiguous, empty, or no column of numbers.
    MissingExtraError
        pyarrow is not installed.
    """
    kind = "parquet" if path.suffix.lower() == ".parquet" else "arrow"
    require("pyarrow", "data")
    with reading(path, kind):
        schema, rows = _schema(path, kind)
        names = [field.name for field in schema]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FormatError(
                f"`{shown(path)}` has several columns named `{shown(twice[0])}`; rename them"
            )
        entries = {field.name: _entry(field.type, rows) for field in schema}
    chosen = pick(entries, key, path, want)
    entry = entries[chosen]
    if entry.dtype is not None and rows and entry.shape[-1] < 0:
        entry = Entry((rows, _first_width(path, kind, chosen)), entry.dtype)
    dtype = check_entry(entry, path, chosen)
    return ColumnShard(path, kind, chosen, entry.shape, dtype)


def _schema(path: AnyPath, kind: str) -> tuple[Any, int]:
    """Return the schema and the number of rows."""
    if kind == "parquet":
        with _parquet_file(path, ahead=False) as handle:
            return handle.schema_arrow, int(handle.metadata.num_rows)
    schema, batches = _open_ipc(path)
    return schema, sum(batch.num_rows for batch in batches)


def _entry(kind: Any, rows: int) -> Entry:
    """Return what a column of this Arrow type is as an array."""
    types = require("pyarrow", "data").types
    shape: tuple[int, ...] = (rows,)
    value, note = getattr(kind, "storage_type", kind), str(kind)
    if types.is_fixed_size_list(value):
        shape, value = (rows, int(value.list_size)), value.value_type
    elif types.is_list(value) or types.is_large_list(value):
        shape, value = (rows, -1), value.value_type
    if types.is_floating(value) or types.is_integer(value) or types.is_boolean(value):
        return Entry(shape, np.dtype(value.to_pandas_dtype()))
    return Entry(shape, None, f"a column of {shown(note)[:60]}")


def _first_width(path: AnyPath, kind: str, key: str) -> int:
    """Return the length of the column's first list, which all others must share."""
    with reading(path, kind):
        for column in _columns(path, kind, key, 1):
            if len(column):
                if column.null_count:
                    raise DataError(f"{named(path, key)} row 0 is null; drop or fill such rows")
                return len(column[0])
        raise ValueError("it has no batch with rows")


def _columns(path: AnyPath, kind: str, key: str, rows: int) -> Iterator[Any]:
    """Yield the column in pieces as they lie in the file."""
    if kind == "parquet":
        with _parquet_file(path, ahead=True) as handle:
            for batch in handle.iter_batches(batch_size=max(1, rows), columns=[key]):
                yield batch.column(batch.schema.get_field_index(key))
        return
    for batch in _open_ipc(path)[1]:
        column = batch.column(batch.schema.get_field_index(key))
        column.validate(full=True)  # IPC files are mapped as they are: wrong offsets would crash
        yield column


@contextmanager
def _parquet_file(path: AnyPath, *, ahead: bool) -> Iterator[Any]:
    """Yield the open file; `ahead` where more of it than its end will be read."""
    make = require("pyarrow.parquet", "data").ParquetFile
    if isinstance(path, RemotePath):
        with path.open(buffering=0 if ahead else -1) as source, make(source) as handle:
            yield handle
    else:
        with make(path) as handle:
            yield handle


def _open_ipc(path: AnyPath) -> tuple[Any, Iterator[Any]]:
    """Return the schema and the batches of an IPC file or, as Hugging Face writes it, stream."""
    arrow = require("pyarrow", "data")
    source = arrow.memory_map(str(path), "r")
    with path.open("rb") as handle:
        start = handle.read(6)
    if start.startswith(b"FEA1"):
        raise FormatError(
            f"`{shown(path)}` is a Feather file of version 1, which is deprecated; write it again "
            "with pyarrow.feather.write_feather"
        )
    if start == b"ARROW1":
        reader = arrow.ipc.open_file(source)
        return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
    stream = arrow.ipc.open_stream(source)
    return stream.schema, iter(stream)


def _nulls(column: Any) -> np.ndarray:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _check_lengths(column: Any, width: int, first: int, where: str) -> None:
    """Raise a ShapeError that names the first row whose length differs from `width`."""
    if not hasattr(column, "offsets"):  # lists of a fixed size
        return
    lengths = np.diff(column.offsets.to_numpy(zero_copy_only=False))
    wrong = lengths != width
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ShapeError(
            f"{where} row {first + row} has {int(lengths[row])} values, the first row has {width}; "
            "all rows must have the same embedding dimension"
        )
