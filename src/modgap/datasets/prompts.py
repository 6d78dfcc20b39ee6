"""Words for classes: published templates and class names, files of one's own, paraphrases."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from modgap.datasets._files import check_text, read_json, read_text
from modgap.errors import ArgumentError, DataError, FormatError
from modgap.io._guard import reading, shown
from modgap.io.labels import read_strings

__all__ = [
    "class_texts",
    "paraphrase_galleries",
    "published_classes",
    "published_templates",
    "read_classes",
    "read_paraphrases",
    "read_templates",
]

#: Where the class goes in a template.
SLOT = "{}"


def published_templates() -> dict[str, tuple[str, ...]]:
    """Return the published sets of caption templates by name.

    `imagenet` (80) and `imagenet-7`, the seven of them that do about as well, and `cifar` (18) are those of
    CLIP (Radford et al. 2021); `photo` is "a photo of a {}." alone, `name` the class name alone.

    Examples
    --------
    >>> {name: len(templates) for name, templates in published_templates().items()}
    {'imagenet': 80, 'imagenet-7': 7, 'cifar': 18, 'photo': 1, 'name': 1}
    """
    return {name: tuple(entry["templates"]) for name, entry in _published("templates").items()}


def published_classes() -> dict[str, tuple[str, ...]]:
    """Return published lists of class names: `imagenet`, CLIP's words for the 1,000 synsets in order."""
    return {name: tuple(entry["classes"]) for name, entry in _published("classes").items()}


@functools.cache
def _published(kind: str) -> dict[str, Any]:
    raw = files("modgap.datasets").joinpath("published", f"{kind}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(raw)
    return found


def read_templates(name_or_file: str | os.PathLike[str]) -> list[str]:
    """Return caption templates: a published set by name, or a .txt with one a line, or a .json list.

    Raises
    ------
    ArgumentError
        Neither a published set nor a file.
    DataError
        A template has no `{}` where the class goes, or stands there twice.
    FormatError
        The file is damaged.
    """
    found = _named_or_read(name_or_file, published_templates(), "templates")
    for i, template in enumerate(found):
        if SLOT not in template:
            raise DataError(
                f"template {i} of `{shown(name_or_file)}` has no {SLOT} where the class goes: "
                f"{shown(repr(template))[:60]}"
            )
        if template in found[:i]:
            raise DataError(
                f"template {shown(repr(template))[:60]} stands in `{shown(name_or_file)}` twice"
            )
    return found


def read_classes(name_or_file: str | os.PathLike[str]) -> list[str]:
    """Return class names: a published list by name, or a .txt with one a line, or a .json list.

    Raises
    ------
    ArgumentError, DataError, FormatError
        As `read_templates`.
    """
    return _named_or_read(name_or_file, published_classes(), "classes")


def _named_or_read(
    name_or_file: str | os.PathLike[str], published: Mapping[str, Sequence[str]], what: str
) -> list[str]:
    word = os.fspath(name_or_file)
    if word in published and not Path(word).exists():
        return list(published[word])
    if not Path(word).suffix:
        raise ArgumentError(
            f"`{what}` must be one of {', '.join(published)}, or a .txt or .json file; got {shown(word)!r}"
        )
    return read_strings(word)


def class_texts(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every class in every template, t c texts: all classes in the first template, then the next.

    Raises
    ------
    ArgumentError
        None of one of them, or a template without `{}`.

    Examples
    --------
    >>> class_texts(["cat", "dog"], ["a photo of a {}.", "the {}"])
    ['a photo of a cat.', 'a photo of a dog.', 'the cat', 'the dog']
    """
    for name, words in (("classes", classes), ("templates", templates)):
        if isinstance(words, str) or not len(words):
            raise ArgumentError(f"`{name}` must hold at least one text; got {words!r}")
    for template in templates:
        if SLOT not in template:
            raise ArgumentError(
                f"template {shown(repr(template))[:60]} has no {SLOT} where the class goes"
            )
    return [template.replace(SLOT, name) for template in templates for name in classes]


def read_paraphrases(
    path: str | os.PathLike[str], *, classes: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return several texts for each class, or several wordings of each caption.

    Parameters
    ----------
    path : path
        A .json object `{"cat": ["a cat", "a small feline"], ...}`, or a .csv with two columns, the class
        and a text, with or without the header `class,text`.
    classes : sequence of str, optional
        What must be there, and in which order it comes back; by default what is there, as it stands.

    Raises
    ------
    DataError
        A class has no text, is missing, or is none of `classes`.
    FormatError
        The file is damaged, or neither .json nor .csv.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise FormatError(
            f"`{shown(path)}` must be a .json object of lists or a .csv of two columns; its suffix is "
            f"`{shown(suffix)}`"
        )
    found = _json_paraphrases(path) if suffix == ".json" else _csv_paraphrases(path)
    if not found:
        raise DataError(f"`{shown(path)}` holds no text; check the file")
    if classes is None:
        return found
    missing = next((name for name in classes if name not in found), None)
    strange = next((name for name in found if name not in set(classes)), None)
    if missing is not None or strange is not None:
        what = "has no text for" if strange is None else "has texts for an unknown class,"
        raise DataError(f"`{shown(path)}` {what} `{shown(strange or missing)}`")
    return {name: found[name] for name in classes}


def _json_paraphrases(path: Path) -> dict[str, tuple[str, ...]]:
    loaded = read_json(path)
    if not isinstance(loaded, dict):
        raise DataError(f"`{shown(path)}` must hold an object; got {type(loaded).__name__}")
    found = {}
    for name, texts in loaded.items():
        if not isinstance(texts, list) or not texts:
            raise DataError(f"`{shown(path)}`: `{shown(name)}` must have a list of texts")
        check_text(name, f"`{shown(path)}`: the name of a class")
        found[name] = tuple(check_text(text, f"`{shown(path)}`: `{shown(name)}`") for text in texts)
    return found


def _csv_paraphrases(path: Path) -> dict[str, tuple[str, ...]]:
    with reading(path, "csv"):
        rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
    found: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not row[0].strip():
            raise FormatError(
                f"`{shown(path)}` row {number} must hold a class and a text; it has {len(row)} cells"
            )
        if number == 1 and row[0].strip().lower() in ("class", "classes", "key", "name"):
            continue
        text = check_text(row[1], f"`{shown(path)}` row {number}")
        found.setdefault(row[0].strip(), []).append(text)
    return {name: tuple(texts) for name, texts in found.items()}


def paraphrase_galleries(paraphrases: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return paraphrases as galleries: the first text of every class, then the second, and so on.

    Raises
    ------
    ArgumentError
        Classes have different numbers of texts, so that some gallery would lack a class; make an ensemble
        of them instead (`encode.encode_ensemble`).

    Examples
    --------
    >>> paraphrase_galleries({"cat": ["cat", "feline"], "dog": ["dog", "hound"]})
    [['cat', 'dog'], ['feline', 'hound']]
    """
    counts = {name: len(texts) for name, texts in paraphrases.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        few, most = min(counts, key=counts.__getitem__, default=""), max(counts.values(), default=0)
        raise ArgumentError(
            f"every class must have as many texts as the others to make galleries; `{shown(few)}` has "
            f"{counts.get(few, 0)}, another {most}: make an ensemble of them instead"
        )
    return [list(texts) for texts in zip(*paraphrases.values(), strict=True)]
