"""From pictures and a model to the inputs of a task: encoded once, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modgap.cli._task import TaskInputs
    from modgap.datasets.collection import Collection

#: What a class is put into where nothing else is asked for.
TEMPLATE = "a photo of a {}."


def sides(
    queries: str | None,
    gallery: str | None,
    images: str | None,
    model: str | None,
    inputs: TaskInputs,
    *,
    device: str,
    offline: bool,
    shown: bool,
) -> tuple[str | None, str | None, TaskInputs]:
    """Return queries, gallery and inputs as they were given, or of pictures that are encoded first.

    Raises
    ------
    ArgumentError
        Pictures beside queries or a gallery, or a model without pictures.
    """
    from modgap.errors import ArgumentError

    if images is None and model is None:
        return queries, gallery, inputs
    if images is None or queries is not None or gallery is not None:
        raise ArgumentError(
            "`--images` and `--model` go together, in the place of queries and gallery"
        )
    return _encoded(images, model, inputs, device=device, offline=offline, shown=shown)


def _encoded(
    images: str,
    model: str | None,
    inputs: TaskInputs,
    *,
    device: str,
    offline: bool,
    shown: bool,
) -> tuple[str, str, TaskInputs]:
    """Return queries, gallery and inputs of a task about pictures, which are encoded if need be.

    With classes, of `--classes` or the data set's own, pictures search class texts. Without, pictures and
    their captions search one another.

    Raises
    ------
    ArgumentError
        No model, or neither classes nor captions.
    """
    from modgap import datasets, encode
    from modgap.cli._console import progress
    from modgap.errors import ArgumentError

    if model is None:
        raise ArgumentError("`--images` needs `--model`, which encodes them")
    collection = datasets.open_collection(images)
    classes = class_names(inputs.classes, collection)
    templates = class_templates(inputs.templates)
    encoder = encode.load(model, device=device, offline=offline)
    with progress("encoding", total=len(collection), unit="items", shown=shown) as advance:
        files = encode.embed_cached(
            encoder, collection, classes=classes, templates=templates, progress=advance
        )
    if "class_texts" in files:
        names = Path(files["class_texts"]).parent
        labels = inputs.labels or files.get("labels")
        found = replace(
            inputs,
            labels=labels,
            classes=str(names / "classes.json"),
            templates=str(names / "templates.json"),
        )
        return files["img_emb"], files["class_texts"], found
    if "text_emb" not in files:
        raise ArgumentError(
            f"`{images}` has neither classes nor captions; name classes with --classes FILE"
        )
    # One owner a caption: captions stand on the gallery's side, and search in the other direction too.
    found = replace(inputs, owners=files["owners"], templates=None)
    return files["img_emb"], files["text_emb"], found


def class_names(spec: str | None, collection: Collection | None) -> list[str] | None:
    """Return class names from a file, or a data set's own: by default, or for `own`."""
    from modgap import datasets
    from modgap.errors import ArgumentError

    own = None if collection is None else collection.classes
    if spec not in (None, "own"):
        return datasets.read_classes(str(spec))
    if spec == "own" and own is None:
        raise ArgumentError("`--classes own`: the data set has no class names; give a file")
    return None if own is None else list(own)


def class_templates(spec: str | None) -> list[str]:
    """Return caption templates from a file or a published set; by default one."""
    from modgap import datasets

    return [TEMPLATE] if spec is None else datasets.read_templates(spec)
