"""What stands beside embeddings in the folders that clip-retrieval and `modgap embed` write."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modgap._core.extras import require
from modgap.io._guard import reading, shown
from modgap.io.source import parse_spec

__all__ = ["Metadata", "read_metadata"]

#: Folders of embeddings, and the columns of `metadata/` that name their rows, the first one there.
_NAMED_BY = {"img_emb": ("image_path", "key", "url", "caption"), "text_emb": ("caption",)}
_PICTURES = "thumbnail"
#: Where `modgap embed` writes what it did.
_RECORD = "embed.json"
#: Characters of a name.
_LONGEST = 160


@dataclass(frozen=True)
class Metadata:
    """Names and small pictures of the rows of a folder of embeddings; None where it has none.

    Attributes
    ----------
    names : sequence of str, or None
    pictures : sequence of (bytes or None), or None
        JPEGs.
    model : str or None
        What made the embeddings.
    """

    names: Sequence[str] | None = None
    pictures: Sequence[bytes | None] | None = None
    model: str | None = None


def read_metadata(spec: str | os.PathLike[str], rows: int) -> Metadata:
    """Return what `metadata/` beside a folder of embeddings says of its rows.

    Empty where there is no such folder, where it is of another number of rows, and where the extra that
    reads it is not installed: names are a courtesy, never a condition.

    Parameters
    ----------
    spec : str or path
        `.../img_emb` or `.../text_emb`, or a file within.
    rows : int
        How many embeddings there are.

    Raises
    ------
    FormatError
        A file of the metadata is damaged.
    """
    path = Path(parse_spec(spec)[0])
    folder = path if path.name in _NAMED_BY else path.parent
    if folder.name not in _NAMED_BY:
        return Metadata()
    model = _model(folder.parent / _RECORD)
    if importlib.util.find_spec("pyarrow") is None:
        return Metadata(model=model)
    files = sorted((folder.parent / "metadata").glob("*.parquet"), key=_number)
    if folder != path:  # one shard: its own metadata
        files = [file for file in files if _number(file) == _number(path)]
    columns: dict[str, list[object]] = {}
    for file in files:
        for name, values in _columns(file).items():
            columns.setdefault(name, []).extend(values)
    if folder.name == "text_emb" and "captions" in columns:
        lists = [values for values in columns["captions"] if isinstance(values, list)]
        columns["caption"] = [text for values in lists for text in values]
    names: list[str] | None = None
    for column in _NAMED_BY[folder.name]:
        if len(columns.get(column, ())) == rows:
            names = [_name(value, column) for value in columns[column]]
            break
    pictures = columns.get(_PICTURES, []) if folder.name == "img_emb" else []
    fitting = [data if isinstance(data, bytes) else None for data in pictures]
    return Metadata(names, fitting if len(fitting) == rows and any(fitting) else None, model)


def _model(record: Path) -> str | None:
    """Return what `embed.json` says that the embeddings were made with."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))["settings"]["model"]["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shown(found) if isinstance(found, str) else None


def _columns(file: Path) -> dict[str, list[object]]:
    parquet = require("pyarrow.parquet", "data")
    wanted = {"captions", _PICTURES, *(name for names in _NAMED_BY.values() for name in names)}
    with reading(file, "parquet"):
        there = [name for name in parquet.read_schema(file).names if name in wanted]
        found: dict[str, list[object]] = parquet.read_table(file, columns=there).to_pydict()
    return found


def _name(value: object, column: str) -> str:
    """Return a cell as a row's name: of a path its last part."""
    text = str(value) if value is not None else ""
    if column == "image_path":
        text = PurePosixPath(text).name or text
    text = shown(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _number(file: Path) -> tuple[int, str]:
    """Return the last number in a file's name, by which shards are in order."""
    found = re.findall(r"\d+", file.stem)
    return (int(found[-1]) if found else -1, "" if found else file.stem)
