"""A cell is one model on one data set: encoded once, measured once, kept as one JSON file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap import datasets, encode, report
from modgap._core.json import plain, stamp
from modgap.bench.suite import DataSet, Suite
from modgap.datasets.collection import Collection
from modgap.encode.encoder import Encoder
from modgap.errors import ArgumentError, ModgapError
from modgap.evaluation import tasks
from modgap.evaluation.tasks import Task
from modgap.io import read_array
from modgap.io.atomic import atomic_path
from modgap.io.manifest import combine, make_folder
from modgap.robustness.noise import parse

__all__ = ["Cell", "run"]

#: What the paper closes the gap with, and what users do to it; the candidates of the advice come beside.
METHODS = ("orthogonal", "mean-shift", "center", "standardize")
_TEMPLATES = ["a photo of a {}."]


@dataclass(frozen=True, eq=False)
class Cell:
    """What became of one model on one data set.

    Attributes
    ----------
    model, dataset : str
    path : Path
        The file of the cell.
    document : dict or None
        Its content: `model` (the card), `dataset`, and `report`, as `summarize` returns it.
    kept : bool
        Whether an earlier run had made it.
    error : str or None
        Why there is none: one line.
    """

    model: str
    dataset: str
    path: Path
    document: dict[str, Any] | None = None
    kept: bool = False
    error: str | None = None


def run(
    suite: Suite,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    offline: bool = False,
    seed: int = 0,
    progress: Callable[[str, int | None], Callable[[int], None]] | None = None,
) -> Iterator[Cell]:
    """Yield the cells of a suite as they are finished, model by model.

    Embeddings are kept by content (`embed_cached`), and a cell that lies in the folder already, of the same
    model, data and settings, is not made again. What cannot be loaded or measured is a cell with an error,
    not the end.

    Parameters
    ----------
    suite : Suite
    out : path
        Folder of the cells, made if need be.
    device, dtype, offline
        As `encode.load`.
    seed : int
        Of samples, folds and sampled noise.
    progress : callable, optional
        Called with the name of a stage and its total, if known; what it returns is called with work done.

    Raises
    ------
    ArgumentError
        No models or no data sets.
    """
    if not suite.models or not suite.datasets:
        raise ArgumentError("a benchmark needs at least one model and one data set")
    folder = Path(out)
    make_folder(folder)
    told = progress or (lambda stage, total: lambda done: None)
    for model in suite.models:
        yield from _model(suite, model, folder, device, dtype, offline, seed, told)


def _model(
    suite: Suite,
    model: str,
    folder: Path,
    device: str,
    dtype: str,
    offline: bool,
    seed: int,
    told: Any,
) -> Iterator[Cell]:
    """Yield the cells of one model, which is loaded once."""
    encoder: Encoder | None = None
    error: str | None = None
    try:
        encoder = encode.load(model, device=device, dtype=dtype, offline=offline)
    except ModgapError as caught:
        error = str(caught)
    for entry in suite.datasets:
        path = folder / f"{_slug(model)}--{_slug(entry.name)}.json"
        if encoder is None:
            yield Cell(model, entry.name, path, error=error)
            continue
        try:
            yield _cell(suite, encoder, model, entry, path, seed, told)
        except ModgapError as caught:
            yield Cell(model, entry.name, path, error=str(caught))


def _cell(
    suite: Suite, encoder: Encoder, model: str, entry: DataSet, path: Path, seed: int, told: Any
) -> Cell:
    collection = datasets.open_collection(entry.path)
    classes = _classes(entry, collection)
    templates = _TEMPLATES if entry.templates is None else datasets.read_templates(entry.templates)
    digest = collection.digest()  # reads every picture: once for both keys
    key = combine(
        encoder.card.fingerprint,
        digest,
        *(classes or ()),
        *templates,
        *suite.noises,
        seed,
    )
    before = _kept(path, key)
    if before is not None:
        return Cell(model, entry.name, path, before, kept=True)
    files = encode.embed_cached(
        encoder, collection, classes=classes, templates=templates, digest=digest,
        progress=told(f"{entry.name}: encoding", len(collection)),
    )  # fmt: skip
    task = _task(files, collection)
    found = report.summarize(
        task,
        title=f"{encoder.card.model}, {entry.name}",
        names=("image", "text"),
        model=encoder.card.model,
        methods=METHODS,
        noises=[parse(word) for word in suite.noises],
        seed=seed,
        progress=told(f"{entry.name}: measuring", None),
    )
    document: dict[str, Any] = plain(
        {
            **stamp(),
            "key": key,
            "model": encoder.card.to_dict(),
            "dataset": {"name": entry.name, "kind": collection.kind, "items": len(collection)},
            "report": found,
        }
    )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    return Cell(model, entry.name, path, document)


def _classes(entry: DataSet, collection: Collection) -> list[str] | None:
    if entry.classes not in (None, "own"):
        return datasets.read_classes(str(entry.classes))
    return None if collection.classes is None else list(collection.classes)


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    """Return the cell in a file, if it was made of the same things in the same way."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


def _task(files: Mapping[str, str], collection: Collection) -> Task:
    """Return the task that a data set is: classes, choices, or captions."""
    images = read_array(files["img_emb"])
    if "class_texts" in files:
        labels = read_array(files["labels"]) if "labels" in files else None
        return tasks.ZeroShot(images, read_array(files["class_texts"]), labels, template=0)
    if "text_emb" not in files:
        raise ArgumentError("the data set has neither classes nor captions; name its classes")
    texts, owners = read_array(files["text_emb"]), read_array(files["owners"])
    if collection.choices:
        ends = np.cumsum(np.bincount(owners, minlength=len(images)))[:-1]
        return tasks.MultipleChoice(images, np.split(texts, ends), read_array(files["labels"]))
    return tasks.PairedRetrieval(images, texts, owners=owners, names=("image", "text"))


def _slug(name: str) -> str:
    """Return a name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_")[:80] or "x"
