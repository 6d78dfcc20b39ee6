"""What a benchmark covers: models, data sets, and the noises they are measured under."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from modgap.errors import ArgumentError, FormatError
from modgap.io._guard import check_file, reading, shown

__all__ = ["NOISES", "SUITES", "DataSet", "Suite", "read_suite"]

#: Suites that come with modgap.
SUITES = ("paper",)
#: The paper's noises (three levels of Gaussian noise, four of quantization), and codes of few bits.
NOISES = (
    "gaussian:0.005", "gaussian:0.022", "gaussian:0.04", "bins:32", "bins:64", "bins:128", "bins:256",
    "sign:lengths", "bits:2:dimension:clipped",
)  # fmt: skip
_KEYS = {"name", "path", "classes", "templates"}


@dataclass(frozen=True)
class DataSet:
    """One data set of a suite.

    Attributes
    ----------
    name : str
        In tables and file names.
    path : str
        As `datasets.open_collection` takes it: `KIND:PATH`, or a path.
    classes, templates : str or None
        File or published set of class names (`own` for the data set's) and of caption templates.
    """

    name: str
    path: str
    classes: str | None = None
    templates: str | None = None


@dataclass(frozen=True)
class Suite:
    """Models, data sets and noises."""

    models: Sequence[str]
    datasets: Sequence[DataSet]
    noises: Sequence[str] = field(default=NOISES)


def read_suite(name_or_file: str, *, data: str | None = None) -> Suite:
    """Return a suite that comes with modgap, or one in a TOML file.

    Parameters
    ----------
    name_or_file : str
        `paper`, or a file with `models`, `[[datasets]]` (name, path, classes, templates), and `noises`.
    data : str, optional
        Folder that relative paths of data sets start from; the working folder by default.

    Raises
    ------
    FormatError
        No such file, no TOML, or a key that a suite does not have.
    """
    if name_or_file in SUITES:
        text = (files("modgap.bench") / "suites" / f"{name_or_file}.toml").read_text("utf-8")
        return _suite(tomllib.loads(text), name_or_file, data)
    path = Path(name_or_file)
    if path.suffix.lower() != ".toml":
        raise ArgumentError(
            f"a suite is one of {', '.join(SUITES)}, or a .toml file; got {shown(name_or_file)!r}"
        )
    check_file(path)
    with reading(path, "toml"):
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    return _suite(found, shown(path), data)


def _suite(found: Mapping[str, Any], where: str, data: str | None) -> Suite:
    unknown = set(found) - {"models", "datasets", "noises"}
    if unknown:
        raise FormatError(
            f"`{where}` has `{shown(sorted(unknown)[0])}`, and a suite has models, datasets and noises"
        )
    models, noises = found.get("models", []), found.get("noises", list(NOISES))
    for name, words in (("models", models), ("noises", noises)):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise FormatError(f"`{name}` of `{where}` must be a list of strings")
    entries = found.get("datasets", [])
    if not isinstance(entries, list):
        raise FormatError(f"`datasets` of `{where}` must be tables, [[datasets]]")
    return Suite(models, [_data_set(entry, where, data) for entry in entries], noises)


def _data_set(entry: Any, where: str, data: str | None) -> DataSet:
    if not isinstance(entry, dict) or not {"name", "path"} <= set(entry) <= _KEYS:
        raise FormatError(
            f"each of the datasets of `{where}` has a name and a path, and may have classes and templates"
        )
    if not all(isinstance(value, str) for value in entry.values()):
        raise FormatError(f"the datasets of `{where}` are described by strings")
    found = DataSet(**entry)
    if data is None:
        return found
    kind, colon, path = found.path.rpartition(":")
    below = Path(path) if Path(path).is_absolute() else Path(data) / path
    return DataSet(found.name, f"{kind}{colon}{below}", found.classes, found.templates)
