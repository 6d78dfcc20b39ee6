"""Parquet: a column of pictures, and columns of captions and labels beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap._core.extras import require
from modgap.datasets._digest import Digest
from modgap.datasets._files import below, check_text, is_whole
from modgap.datasets._shards import shards_of
from modgap.datasets.collection import Item, check_range
from modgap.errors import ArgumentError, DataError, FormatError
from modgap.io._guard import check_expansion, check_file, reading, shown

__all__ = ["ParquetTable"]

#: Names of columns in published tables, the first that is there.
IMAGES = ("image", "img", "jpg", "png", "picture", "image_bytes", "bytes")
TEXTS = ("captions", "caption", "texts", "text", "sentences", "caption_0", "TEXT")
LABELS = ("label", "labels", "fine_label", "cls", "class", "target")
#: Rows that are decoded at once; a row holds a picture.
_ROWS = 32
#: Bytes of a column that are read ahead.
_BUFFER = 2**20


@dataclass(frozen=True)
class _File:
    path: Path
    groups: tuple[int, ...]

    @property
    def count(self) -> int:
        return sum(self.groups)


class ParquetTable:
    """Rows of one Parquet file, or of a folder of numbered ones.

    Parameters
    ----------
    path : path
    image, text, label : str, optional
        Columns: of bytes, or of a struct with `bytes` and `path` as the datasets library writes them; of
        strings or lists of strings; of integers. By default those with a usual name that are there.
    split : str, optional
        What stands before the numbers, where a folder holds several kinds.

    Attributes
    ----------
    classes : tuple of str or None
        Names in the metadata that the datasets library writes (`ClassLabel`).

    Raises
    ------
    ArgumentError, DataError, FormatError
        A column is missing or of another type, or a file is damaged.
    MissingExtraError
        pyarrow is not installed.

    Notes
    -----
    Keys are the numbers of the rows. A label of -1, which published test splits have, is none.
    """

    kind = "parquet"
    choices = False

    def __init__(
        self,
        path: str | Path,
        *,
        image: str | None = None,
        text: str | None = None,
        label: str | None = None,
        split: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._library = require("pyarrow.parquet", "data")
        files = shards_of(self.path, ".parquet", split)
        self._files, schemas = [], []
        for file in files:
            opened, schema = self._opened(file)
            self._files.append(opened)
            schemas.append(schema)
        self._columns = _chosen(self.path, schemas[0], image, text, label)
        for file, schema in zip(files[1:], schemas[1:], strict=True):
            for name in self._columns.values():
                if (
                    name not in schema.names
                    or schema.field(name).type != schemas[0].field(name).type
                ):
                    raise FormatError(
                        f"`{shown(file)}` has no column `{shown(name)}` like that of "
                        f"`{shown(files[0].name)}`; take shards of one table"
                    )
        self.classes = _class_names(schemas[0], self._columns.get("label"))
        if not len(self):
            raise DataError(f"`{shown(self.path)}` has no rows; check the file")

    def _opened(self, path: Path) -> tuple[_File, Any]:
        check_file(path)
        with reading(path, "parquet"), self._library.ParquetFile(path) as handle:
            meta = handle.metadata
            groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
            check_expansion(path, sum(group.total_byte_size for group in groups))
            return _File(path, tuple(group.num_rows for group in groups)), handle.schema_arrow

    def __len__(self) -> int:
        return sum(file.count for file in self._files)

    def __repr__(self) -> str:
        columns = ", ".join(shown(name) for name in self._columns.values())
        return f"ParquetTable({len(self)} items, columns {columns}, {shown(self.path)})"

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in order; what lies before start in its row group is read past."""
        wanted = check_range(start, stop, len(self))
        first = 0
        for file in self._files:
            low, high = max(wanted.start - first, 0), min(wanted.stop - first, file.count)
            if low < high:
                for row, values in self._rows(file, low, high):
                    yield self._item(file, first + row, values)
            first += file.count

    def _rows(self, file: _File, low: int, high: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield rows of a file with their numbers: a row group at a time and buffered, lest all be held."""
        columns, end = list(self._columns.values()), 0
        with (
            reading(file.path, "parquet"),
            self._library.ParquetFile(file.path, buffer_size=_BUFFER, pre_buffer=False) as handle,
        ):
            for group, count in enumerate(file.groups):
                row, end = end, end + count
                if end <= low or row >= high:
                    continue
                for batch in handle.iter_batches(_ROWS, [group], columns, use_threads=False):
                    first, last = max(low - row, 0), min(high - row, len(batch))
                    if first < last:
                        values = batch.slice(first, last - first).to_pylist()
                        yield from enumerate(values, row + first)
                    row += len(batch)
                if row < min(end, high):
                    raise EOFError(f"it has {row} of {file.count} rows")

    def _item(self, file: _File, row: int, values: dict[str, Any]) -> Item:
        where = f"`{shown(file.path)}` row {row}"
        image = _picture(values[self._columns["image"]], file.path, where)
        texts = _texts(values[self._columns["text"]], where) if "text" in self._columns else ()
        label = None
        if "label" in self._columns:
            label = _label(values[self._columns["label"]], self.classes, where)
        return Item(str(row), image, texts, label)

    def digest(self) -> str:
        """Return a digest of the files and of the columns chosen."""
        found = Digest(self.kind)
        found.add(*itertools.chain(*self._columns.items()), None)
        for file in self._files:
            found.add(file.path.name)
            found.add_file(file.path)
        return found.hexdigest()


def _chosen(
    path: Path, schema: Any, image: str | None, text: str | None, label: str | None
) -> dict[str, str]:
    """Return the columns by what they hold."""
    found: dict[str, str] = {}
    for role, asked, usual, fits in (
        ("image", image, IMAGES, _is_picture),
        ("text", text, TEXTS, _is_text),
        ("label", label, LABELS, _is_label),
    ):
        fitting = [f.name for f in schema if schema.names.count(f.name) == 1 and fits(f.type)]
        if asked is not None and asked not in fitting:
            held = (
                f"is of type {schema.field(asked).type}"
                if asked in schema.names
                else "is not there"
            )
            raise ArgumentError(
                f"`{role}` {shown(asked)!r} of `{shown(path)}` {held}; columns that can be it: "
                f"{', '.join(shown(name) for name in fitting) or 'none'}"
            )
        name = asked or next((name for name in usual if name in fitting), None)
        if name is None and role == "image" and len(fitting) == 1:
            name = fitting[0]
        if name is not None:
            found[role] = name
    if "image" not in found:
        columns = ", ".join(f"{shown(field.name)} ({field.type})" for field in schema)
        raise FormatError(
            f"`{shown(path)}` has no column of pictures that is known by its name; choose one with "
            f"`image`: {columns[:300]}"
        )
    return found


def _is_bytes(kind: Any) -> bool:
    types = require("pyarrow", "data").types
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_picture(kind: Any) -> bool:
    types = require("pyarrow", "data").types
    if not types.is_struct(kind):
        return _is_bytes(kind)
    names = [kind.field(i).name for i in range(kind.num_fields)]
    return "bytes" in names and _is_bytes(kind.field(names.index("bytes")).type)


def _is_text(kind: Any) -> bool:
    types = require("pyarrow", "data").types
    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_label(kind: Any) -> bool:
    return bool(require("pyarrow", "data").types.is_integer(kind))


def _class_names(schema: Any, column: str | None) -> tuple[str, ...] | None:
    """Return the names of a column's classes from the metadata of the datasets library."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None or column is None:
        return None
    try:
        names = json.loads(raw)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = (
        isinstance(names, list) and names and all(isinstance(n, str) and is_whole(n) for n in names)
    )
    return tuple(names) if whole else None


def _picture(value: Any, path: Path, where: str) -> Path | bytes:
    """Return a picture; one that is not there is empty bytes, which no decoder takes."""
    if isinstance(value, dict):
        name = value.get("path")
        if value["bytes"] is None and isinstance(name, str):
            return below(path.parent, name, path)
        value = value["bytes"]
    if value is not None and not isinstance(value, bytes):
        raise DataError(f"{where} holds a {type(value).__name__} in the place of a picture")
    return b"" if value is None else value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    return tuple(check_text(text, f"{where}: its text") for text in several)


def _label(value: Any, classes: tuple[str, ...] | None, where: str) -> int | None:
    if value is None or value == -1:
        return None
    if value < 0 or (classes is not None and value >= len(classes)):
        raise DataError(f"{where} has the label {value}, which is no class's number")
    return int(value)
