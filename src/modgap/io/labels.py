"""Labels, class names and templates: integers from any format, strings from text files."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from modgap.errors import DataError, FormatError, ShapeError
from modgap.io._entries import named
from modgap.io._guard import check_file, file_status, reading, shown
from modgap.io.remote import AnyPath
from modgap.io.source import open_wanted, parse_spec

_TEXT = (".txt", ".csv", ".json")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
#: First cells of a CSV column that are taken for its name.
_HEADERS = ("label", "labels", "class", "classes", "class_name", "name", "target", "y")


class Labels(NamedTuple):
    """Labels of rows and, where the file holds names, the classes that they count.

    Attributes
    ----------
    labels : ndarray (n,), int64
    classes : tuple of str, or None
        ``classes[labels[i]]`` is the name of row i; None where the file holds integers.
    """

    labels: np.ndarray
    classes: tuple[str, ...] | None


def read_labels(
    spec: str | os.PathLike[str], *, key: str | None = None, classes: Sequence[str] | None = None
) -> Labels:
    """Return the labels in a file, one integer per row.

    Parameters
    ----------
    spec : str or path
        Any input of `open_source`, or a .txt (one a line), .csv or .json file of integers or of
        class names. After a colon: the array, the column of the CSV, or the field of the JSON.
    key : str, optional
        The same as after the colon.
    classes : sequence of str, optional
        Class names in the order of the gallery, to look names up in. By default names are numbered
        in sorted order.

    Raises
    ------
    DataError
        A label is no integer, or a name is not in `classes`.
    FormatError
        The file is missing or damaged, or the key is missing or ambiguous.
    ShapeError
        The labels have more than one axis.
    """
    path, inner = parse_spec(spec, key)
    if path.suffix.lower() not in _TEXT or path.is_dir():
        return Labels(_integers(spec, key), None)
    where = named(path, inner)
    values = _read_text(path, inner)
    if all(isinstance(value, int) for value in values):
        return Labels(np.asarray(values, dtype=np.int64), None)
    if not all(isinstance(value, str) for value in values):
        odd = next(i for i, value in enumerate(values) if type(value) is not type(values[0]))
        raise DataError(
            f"{where} mixes integers and names: entry 0 is {shown(repr(values[0]))}, entry {odd} "
            f"is {shown(repr(values[odd]))}; names that look like numbers go into a JSON list of "
            "strings"
        )
    return _number([str(value) for value in values], classes, where)


def read_strings(spec: str | os.PathLike[str], *, key: str | None = None) -> list[str]:
    """Return class names or templates: a JSON list of strings, or the lines of a .txt file.

    Raises
    ------
    DataError
        There are none, or an entry is no string.
    FormatError
        The file is missing, damaged, no UTF-8, or neither .json nor .txt.
    """
    path, inner = parse_spec(spec, key)
    file_status(path)
    if path.suffix.lower() not in (".json", ".txt"):
        raise FormatError(
            f"`{shown(path)}` must be a .json list of strings or a .txt file with one a line; "
            f"its suffix is `{shown(path.suffix)}`"
        )
    text = _text(path)
    values = _json_list(path, text, inner) if path.suffix.lower() == ".json" else _lines(path, text)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{named(path, inner)} entry {i} is {shown(repr(value))}, no string")
    return [str(value) for value in values]


def _integers(spec: str | os.PathLike[str], key: str | None) -> np.ndarray:
    """Return labels from an array file as int64."""
    source = open_wanted(spec, key, "labels")
    where = named(source.path, source.key)
    if len(source.shape) != 1:
        raise ShapeError(f"labels must have shape (rows,); {where} has shape {source.shape}")
    values = source.read()
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**63)
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(f"labels must be integers; {where} row {row} is {values[row]}")
    elif values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"labels must fit 64 bits; {where} holds {values.max()}")
    return values.astype(np.int64)


def _number(names: list[str], classes: Sequence[str] | None, where: str) -> Labels:
    order = tuple(sorted(set(names))) if classes is None else tuple(classes)
    numbers = {name: i for i, name in enumerate(order)}
    for i, name in enumerate(names):
        if name not in numbers:
            raise DataError(
                f"{where} entry {i} is `{shown(name)}`, which is none of the {len(order)} classes "
                f"(`{shown(order[0]) if order else ''}`, ...); correct it or the class list"
            )
    return Labels(np.asarray([numbers[name] for name in names], dtype=np.int64), order)


def _read_text(path: AnyPath, key: str | None) -> list[int] | list[str] | list[int | str]:
    """Return the entries of a text file: integers where they are written as such, else strings."""
    file_status(path)
    text = _text(path)
    if path.suffix.lower() == ".json":
        values = _json_list(path, text, key)
        for i, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise DataError(
                    f"{named(path, key)} entry {i} is {shown(repr(value))}, neither an integer nor "
                    "a class name"
                )
            if isinstance(value, int) and abs(value) >= 2**63:
                raise DataError(
                    f"{named(path, key)} entry {i} is {value}, which needs over 64 bits"
                )
        return values
    if path.suffix.lower() == ".csv":
        cells = _csv_column(path, text, key)
    elif key is not None:
        raise FormatError(f"`{shown(path)}` is one list without keys; drop `:{shown(key)}`")
    else:
        cells = _lines(path, text)
    return [int(cell) if _INTEGER.fullmatch(cell) else cell for cell in cells]


def _text(path: AnyPath) -> str:
    check_file(path)
    with reading(path, path.suffix[1:].lower()):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"`{shown(path)}` is no UTF-8 text: byte {raw[error.start]:#04x} at position "
            f"{error.start}; save it as UTF-8"
        ) from None


def _lines(path: AnyPath, text: str) -> list[str]:
    """Return the lines without the blanks around them; blank lines at the end do not count."""
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise DataError(f"`{shown(path)}` holds only blanks; write one entry a line")
    if "" in lines:
        raise DataError(f"`{shown(path)}` line {lines.index('') + 1} is blank; remove it")
    return lines


def _json_list(path: AnyPath, text: str, key: str | None) -> list[Any]:
    with reading(path, "json"):
        loaded = json.loads(text)
    if isinstance(loaded, dict):
        keys = ", ".join(f"`{shown(name)}`" for name in list(loaded)[:12])
        if key is None or key not in loaded:
            asked = "several fields" if key is None else f"no field `{shown(key)}`"
            raise FormatError(
                f"`{shown(path)}` has {asked}; choose one with `{shown(path)}:FIELD` of "
                f"{keys or 'none'}"
            )
        loaded = loaded[key]
    elif key is not None:
        raise FormatError(f"`{shown(path)}` is one list without keys; drop `:{shown(key)}`")
    if not isinstance(loaded, list):
        raise DataError(f"{named(path, key)} must be a JSON list; got {type(loaded).__name__}")
    if not loaded:
        raise DataError(f"{named(path, key)} is an empty list; write one entry per row")
    return loaded


def _csv_column(path: AnyPath, text: str, key: str | None) -> list[str]:
    """Return one column; the first row names columns if there are several or it looks so."""
    with reading(path, "csv"):
        table = [row for row in csv.reader(text.splitlines()) if row]
    if not table:
        raise DataError(f"`{shown(path)}` holds only blanks; write one row per label")
    header = [cell.strip() for cell in table[0]]
    column = 0
    if key is not None or len(header) > 1:
        column = _csv_index(path, header, key)
        table = table[1:]
    elif header[0].lower() in _HEADERS:
        table = table[1:]
    for i, row in enumerate(table):
        if len(row) != len(header) or not row[column].strip():
            raise DataError(
                f"`{shown(path)}` row {i} has {len(row)} cells or a blank one; it must have "
                f"{len(header)}"
            )
    if not table:
        raise DataError(f"`{shown(path)}` has a header and no rows; write one row per label")
    return [row[column].strip() for row in table]


def _csv_index(path: AnyPath, header: list[str], key: str | None) -> int:
    wanted = [key] if key is not None else [name for name in header if name.lower() in _HEADERS]
    if len(wanted) == 1 and header.count(str(wanted[0])) == 1:
        return header.index(str(wanted[0]))
    listed = ", ".join(f"`{shown(name)}`" for name in header[:12])
    asked = "several columns" if key is None else f"no single column `{shown(key)}`"
    raise FormatError(
        f"`{shown(path)}` has {asked}; choose one with `{shown(path)}:COLUMN` of {listed}"
    )
