"""From a word such as `coco:annotations/captions_val2017.json` to its collection."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from modgap.datasets._files import is_file, is_folder, listing
from modgap.datasets.aokvqa import open_aokvqa
from modgap.datasets.captions import open_coco, open_flickr, open_karpathy
from modgap.datasets.cifar import Cifar, is_pickled
from modgap.datasets.collection import Collection
from modgap.datasets.folder import ImageFolder, is_companion
from modgap.datasets.imagenet import ANSWERS, SYNSET, open_imagenet
from modgap.datasets.parquet import ParquetTable
from modgap.datasets.webdataset import WebDataset
from modgap.errors import ArgumentError, FormatError
from modgap.io._guard import check_file, file_status, shown

__all__ = ["KINDS", "open_collection"]

#: Every layout by its name, and what opens it.
KINDS: dict[str, Callable[..., Collection]] = {
    "folder": ImageFolder,
    "imagenet": open_imagenet,
    "webdataset": WebDataset,
    "parquet": ParquetTable,
    "cifar10": functools.partial(Cifar, "cifar10"),
    "cifar100": functools.partial(Cifar, "cifar100"),
    "coco": open_coco,
    "karpathy": open_karpathy,
    "flickr": open_flickr,
    "aokvqa": open_aokvqa,
}
_PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")


def open_collection(spec: str | os.PathLike[str], **options: Any) -> Collection:
    """Return the collection of pictures that a word or path stands for.

    Parameters
    ----------
    spec : str or path
        `KIND:PATH`, or a path whose layout is told by what lies there. Options may follow a question mark:
        `cifar10:FOLDER?split=train`, `parquet:FILE?text=caption`.
    **options
        Those of the layout's reader: `images` (folder of the pictures; coco, karpathy, flickr, aokvqa),
        `split` (cifar10, cifar100, karpathy, parquet, webdataset), `image`, `text`, `label` (parquet),
        `label` (cifar100), `names`, `answers` (imagenet), `only` (flickr), `wording` (aokvqa).

    Raises
    ------
    ArgumentError
        No such kind or option.
    DataError, FormatError
        The files are missing or damaged, or of no layout that is known.
    """
    kind, path, more = _parsed(os.fspath(spec))
    options = {**more, **options}
    kind = kind or told_kind(Path(path))
    reader = KINDS[kind]
    taken = [p for p in inspect.signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in {p.name for p in taken}]
    if unknown:
        listed = ", ".join(p.name for p in taken) or "none"
        raise ArgumentError(f"{kind} takes no option `{shown(unknown[0])}`; its options: {listed}")
    return reader(path, **options)


def _parsed(spec: str) -> tuple[str | None, str, dict[str, str]]:
    """Return kind, path and options of a word; what exists as a path is one."""
    if not spec.strip() or "\0" in spec:
        raise ArgumentError(f"`spec` must name a path; got {spec!r}")
    if os.path.exists(spec):
        return None, spec, {}
    head, colon, rest = spec.partition(":")
    known = colon and head in KINDS
    if colon and not known and _WORD.fullmatch(head):
        raise ArgumentError(
            f"`spec` must be a path, or KIND:PATH with one of {', '.join(KINDS)}; got {shown(spec)!r}"
        )
    path, options = rest if known else spec, {}
    if "?" in path and not os.path.exists(path):
        path, _, words = path.rpartition("?")
        options = dict(parse_qsl(words, keep_blank_values=True))
    if not path:
        raise ArgumentError(f"`spec` {shown(spec)!r} names no path after the colon")
    return (head if known else None), path, options


def told_kind(path: Path) -> str:
    """Return the layout of what lies at a path.

    Raises
    ------
    FormatError
        Nothing lies there, or nothing that is known.
    """
    file_status(path)
    found = _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)
    if found is None:
        raise FormatError(
            f"`{shown(path)}` is of no layout that can be told; say which with KIND:PATH, one of "
            f"{', '.join(KINDS)}"
        )
    return found


def _kind_of_file(path: Path) -> str | None:
    check_file(path)
    suffix, name = path.suffix.lower(), path.name
    if suffix in _PACKED:
        raise FormatError(
            f"`{shown(path)}` is an archive that is packed; unpack it, and name the folder"
        )
    if suffix in (".tar", ".parquet"):
        return {".tar": "webdataset", ".parquet": "parquet"}[suffix]
    if suffix == ".bin":
        return "cifar100" if name in ("train.bin", "test.bin") else "cifar10"
    if suffix == ".json":
        return _kind_of_json(path)
    if suffix in (".txt", ".csv", ".token"):
        return "flickr"
    return None


def _kind_of_json(path: Path) -> str | None:
    """Return the layout by the first of a file's words: whole files are read by their readers."""
    with path.open("rb") as handle:
        start = handle.read(2**16).decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if start.startswith("["):
        return "aokvqa" if '"choices"' in start or '"question"' in start else None
    if re.search(r'"(sentids|sentences|imgid)"', start):
        return "karpathy"
    try:
        keys = {"images", "annotations"} <= set(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError, MemoryError):
        keys = False
    return "coco" if keys else None


def _kind_of_folder(path: Path) -> str | None:
    entries = listing(path)
    names = {entry.name for entry in entries}
    if {"test_batch.bin", "data_batch_1.bin"} & names:
        return "cifar10"
    if "fine_label_names.txt" in names and {"train.bin", "test.bin"} & names:
        return "cifar100"
    if is_pickled(path) and not any(name.lower().endswith((".jpg", ".png")) for name in names):
        return "cifar100" if "meta" in names else "cifar10"
    loose = any(is_file(entry) and not is_companion(entry.name) for entry in entries)
    suffixes = {Path(name).suffix.lower() for name in names}
    if ".tar" in suffixes and not loose:
        return "webdataset"
    if ".parquet" in suffixes and not loose:
        return "parquet"
    folders = [entry.name for entry in entries if is_folder(entry)]
    if not loose and folders == ["data"] and _has(path / "data", ".parquet"):
        return "parquet"
    if ANSWERS in names or (folders and all(SYNSET.fullmatch(name) for name in folders)):
        return "imagenet"
    return "folder"


def _has(folder: Path, suffix: str) -> bool:
    return any(entry.name.lower().endswith(suffix) for entry in listing(folder))
