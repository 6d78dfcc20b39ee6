"""ImageNet: folders named by synsets, or one flat folder with a table of answers, and their class names."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from modgap.datasets._files import check_text, is_folder, listing, read_json, read_text
from modgap.datasets._listed import Listed
from modgap.datasets.collection import Collection
from modgap.datasets.folder import ImageFolder, is_companion
from modgap.errors import DataError, FormatError
from modgap.io._guard import file_status, reading, shown

__all__ = ["open_imagenet"]

#: Files that say what synsets are called, as they are published.
NAMES = (
    "LOC_synset_mapping.txt",
    "synset_words.txt",
    "words.txt",
    "imagenet_class_index.json",
    "Labels.json",
)
ANSWERS = "LOC_val_solution.csv"
SYNSET = re.compile(r"n[0-9]{8}")
_LINE = re.compile(r"(n[0-9]{8})[ \t]+(.*)")
#: Folders above the pictures in which those files are looked for: ILSVRC/Data/CLS-LOC/val is four deep.
_ABOVE = 4


def open_imagenet(
    folder: str | Path, *, names: str | Path | None = None, answers: str | Path | None = None
) -> Collection:
    """Return the pictures of one split of ImageNet; classes are the synsets in sorted order.

    Parameters
    ----------
    folder : path
        Holds one folder a synset (`n01440764`), or all pictures of the validation split.
    names : path, optional
        What the synsets are called: `LOC_synset_mapping.txt`, `synset_words.txt`, `words.txt` or
        `imagenet_class_index.json`; by default looked for in the folder and above it. Of several words
        for a synset the first counts. Without any, classes are called by their synsets.
    answers : path, optional
        `LOC_val_solution.csv`, of a flat folder; looked for likewise.

    Raises
    ------
    DataError, FormatError
        A file is missing or damaged, or says nothing of a synset or picture at hand.
    """
    root = Path(folder)
    file_status(root)
    where = _beside(root, NAMES) if names is None else Path(names)
    known = None if where is None else _read_names(where)
    first = [entry.name for entry in listing(root) if is_folder(entry)] if root.is_dir() else []
    if not first and root.is_dir():
        return _flat(root, where, known, answers)
    found = ImageFolder(root)
    synsets = found.classes or tuple(first)
    strange = [name for name in synsets if not SYNSET.fullmatch(name)]
    if strange or found.classes is None:
        raise FormatError(
            f"`{shown(root)}` is no split of ImageNet: `{shown((strange or first)[0])}` among its "
            "folders; they must be called by synsets, such as n01440764"
        )
    if known is not None:
        found.classes = tuple(_name_of(synset, known, where) for synset in synsets)
    found.kind = "imagenet"
    return found


def _flat(
    root: Path, where: Path | None, known: dict[str, str] | None, answers: str | Path | None
) -> Collection:
    table = _beside(root, (ANSWERS,)) if answers is None else Path(answers)
    if table is None:
        raise FormatError(
            f"`{shown(root)}` holds pictures without folders, and no {ANSWERS} lies beside or above it; "
            "name it with `answers`"
        )
    right = dict(_read_answers(table))
    synsets = sorted(set(right.values()) if known is None else known)
    numbers = {synset: i for i, synset in enumerate(synsets)}
    names = synsets if known is None else [known[synset] for synset in synsets]
    found = Listed("imagenet", table, root, classes=names)
    for entry in listing(root):
        if is_companion(entry.name):
            continue
        synset = right.get(Path(entry.name).stem)
        if synset not in numbers:
            raise DataError(
                f"`{shown(table)}` says nothing that `{shown(where or table)}` knows of the picture "
                f"`{shown(entry.name)}`; take the files of one release"
            )
        found.append(entry.name, entry.name, (), numbers[synset])
    found.check()
    return found


def _beside(root: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of some files in a folder or above it."""
    here = root.absolute()
    for folder in (here, *here.parents[:_ABOVE]):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def _read_names(path: Path) -> dict[str, str]:
    """Return what each synset is called: the first of its words."""
    if path.suffix.lower() == ".json":
        found = dict(_json_names(path))
    else:
        found = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            match = _LINE.fullmatch(line.strip())
            if match is None and line.strip():
                raise FormatError(
                    f"`{shown(path)}` line {number} is no synset with its words, such as "
                    f"`n01440764 tench, Tinca tinca`; got `{shown(line)[:60]}`"
                )
            if match is not None:
                found[match[1]] = match[2]
    if not found:
        raise DataError(f"`{shown(path)}` names no synset; check the file")
    return {synset: words.split(",")[0].strip() for synset, words in found.items()}


def _json_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield synsets and words of `{"0": ["n01440764", "tench"]}` or `{"n01440764": "tench, ..."}`."""
    loaded = read_json(path)
    for key, value in loaded.items() if isinstance(loaded, dict) else ():
        pair = value if isinstance(value, list) else [key, value]
        if len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise DataError(f"`{shown(path)}` entry `{shown(key)}` is no synset with its words")
        yield (
            pair[0],
            check_text(pair[1], f"`{shown(path)}` entry `{shown(key)}`").replace("_", " "),
        )


def _read_answers(path: Path) -> Iterator[tuple[str, str]]:
    """Yield pictures and synsets of a table `ImageId,PredictionString`."""
    with reading(path, "csv"):
        rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
    for number, row in enumerate(rows, 1):
        words = row[1].split() if len(row) > 1 else []
        if words and SYNSET.fullmatch(words[0]):
            yield row[0], words[0]
        elif number > 1:
            raise FormatError(f"`{shown(path)}` row {number} has no synset in its second column")


def _name_of(synset: str, known: dict[str, str], where: Path | None) -> str:
    if synset not in known:
        raise DataError(f"`{shown(where)}` has no name for the synset {synset}; take a full list")
    return known[synset]
