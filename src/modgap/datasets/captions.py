"""Captions as COCO and Flickr publish them, and the splits of both that retrieval is measured on."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modgap.datasets._files import check_text, read_json, read_text
from modgap.datasets._listed import Listed
from modgap.errors import ArgumentError, DataError, FormatError
from modgap.io._guard import reading, shown

__all__ = ["open_coco", "open_flickr", "open_karpathy", "picture_folder"]

_TOKEN = re.compile(r"([^\t]+)#([0-9]+)\t(.*)")
#: Folders of pictures in the published archives.
_FLICKR_FOLDERS = (
    "Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images",
    "flickr30k_images", "flickr30k_images/flickr30k_images",
)  # fmt: skip


def open_coco(annotations: str | Path, *, images: str | Path | None = None) -> Listed:
    """Return the pictures and captions of COCO: `captions_val2017.json` and its folder of pictures.

    Parameters
    ----------
    annotations : path
        The .json with `images` and `annotations`.
    images : path, optional
        Folder of the pictures; by default one called as the annotations are (`val2017`), or `images`,
        beside them or beside their folder.

    Returns
    -------
    Listed
        Pictures in the order of the file, each with all its captions; keys are the pictures' numbers.

    Raises
    ------
    DataError, FormatError
        The file is damaged, a caption belongs to no picture, or no picture is there.
    """
    path = Path(annotations)
    loaded = _mapping(read_json(path), path)
    texts: dict[int, list[str]] = {}
    order: dict[int, str] = {}
    for i, entry in enumerate(_entries(loaded, "images", path)):
        number, name = _field(entry, "id", int, path, i), _field(entry, "file_name", str, path, i)
        if number in order:
            raise DataError(f"`{shown(path)}` has two pictures with the number {number}")
        order[number] = name
    for i, entry in enumerate(_entries(loaded, "annotations", path)):
        number = _field(entry, "image_id", int, path, i)
        if number not in order:
            raise DataError(
                f"`{shown(path)}` annotation {i} belongs to the picture {number}, which is not listed"
            )
        caption = _field(entry, "caption", str, path, i)
        texts.setdefault(number, []).append(check_text(caption, f"`{shown(path)}` annotation {i}"))
    if not texts:
        raise DataError(
            f"`{shown(path)}` has no captions; take captions_*.json, not instances_*.json"
        )
    split = path.stem.rpartition("_")[2]
    folder = picture_folder(path, images, (split, f"images/{split}", "images"))
    found = Listed("coco", path, folder)
    for number, name in order.items():
        found.append(str(number), name, texts.get(number, []))
    found.check()
    return found


def open_karpathy(
    annotations: str | Path, *, images: str | Path | None = None, split: str = "test"
) -> Listed:
    """Return one split of Karpathy's files (`dataset_coco.json`, `dataset_flickr30k.json`).

    These are the splits on which retrieval is published: 5,000 pictures of COCO, 1,000 of Flickr.

    Parameters
    ----------
    annotations : path
    images : path, optional
        Folder of the pictures; the files of COCO name a folder below it (`val2014`).
    split : str
        "train", "val", "test", or "restval" of COCO.

    Raises
    ------
    ArgumentError, DataError, FormatError
        No such split, or a damaged file.
    """
    path = Path(annotations)
    loaded = _mapping(read_json(path), path)
    chosen, splits = [], set()
    for i, entry in enumerate(_entries(loaded, "images", path)):
        splits.add(_field(entry, "split", str, path, i))
        if entry["split"] == split:
            chosen.append((i, entry))
    if not chosen:
        raise ArgumentError(
            f"`split` must be one of those of `{shown(path)}`, "
            f"{', '.join(shown(name) for name in sorted(splits)) or 'none'}; got {split!r}"
        )
    folder = picture_folder(path, images, (*_FLICKR_FOLDERS, "."))
    found = Listed("karpathy", path, folder)
    for i, entry in chosen:
        name = _field(entry, "filename", str, path, i)
        inner = entry.get("filepath")
        name = f"{inner}/{name}" if isinstance(inner, str) and inner else name
        texts = []
        for sentence in _entries(entry, "sentences", path):
            raw = _field(sentence, "raw", str, path, i)
            if raw.strip():  # two sentences of the published files are blank
                texts.append(check_text(raw, f"`{shown(path)}` picture {i}"))
        found.append(name, name, texts)
    found.check()
    return found


def open_flickr(
    captions: str | Path, *, images: str | Path | None = None, only: str | Path | None = None
) -> Listed:
    """Return the pictures and captions of Flickr8k or Flickr30k.

    Parameters
    ----------
    captions : path
        `Flickr8k.token.txt` or `results_20130124.token` (`NAME.jpg#0`, a tab, a caption), or a table
        `image,caption` or `image_name| comment_number| comment`.
    images : path, optional
        Folder of the pictures; by default looked for beside the captions.
    only : path, optional
        Names of the pictures to take, one a line: `Flickr_8k.testImages.txt`.

    Raises
    ------
    DataError, FormatError
        A line is of another form, a name in `only` has no captions, or no picture is there.
    """
    path = Path(captions)
    texts: dict[str, list[str]] = {}
    for number, name, caption in _lines(path):
        if caption.strip():  # one row of the published table of Flickr30k ends early
            text = check_text(caption, f"`{shown(path)}` line {number}")
            texts.setdefault(name.strip(), []).append(text)
    chosen = list(texts)
    if only is not None:
        chosen = [line.strip() for line in read_text(Path(only)).splitlines() if line.strip()]
        missing = next((name for name in chosen if name not in texts), None)
        if missing is not None:
            raise DataError(
                f"`{shown(only)}` names `{shown(missing)}`, of which `{shown(path)}` has no caption"
            )
    folder = picture_folder(path, images, (*_FLICKR_FOLDERS, "."))
    found = Listed("flickr", path, folder)
    for name in chosen:
        found.append(name, name, texts[name])
    found.check()
    return found


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, picture and caption of every line, in whichever of the published forms."""
    rows = read_text(path).split("\n")
    first = rows[0].strip()
    if _TOKEN.fullmatch(first):
        for number, line in enumerate(rows, 1):
            match = _TOKEN.fullmatch(line.rstrip("\r"))
            if match is None and line.strip():
                raise FormatError(
                    f"`{shown(path)}` line {number} is no `NAME#NUMBER`, a tab and a caption: "
                    f"`{shown(line)[:60]}`"
                )
            if match is not None:
                yield number, match[1], match[3]
        return
    header = [cell.strip() for cell in first.split("|")]
    if header == ["image_name", "comment_number", "comment"]:
        for number, line in enumerate(rows[1:], 2):
            cells = line.rstrip("\r").split("|", 2)
            if line.strip():
                yield number, cells[0], cells[-1] if len(cells) == 3 else ""
        return
    if [cell.lower() for cell in first.split(",")[:2]] != ["image", "caption"]:
        raise FormatError(
            f"`{shown(path)}` begins with `{shown(first)[:60]}`, and must with `NAME.jpg#0`, a tab and a "
            "caption, or with the header `image,caption` or `image_name| comment_number| comment`"
        )
    with reading(path, "csv"):
        table = list(csv.reader(rows[1:]))
    for number, row in enumerate(table, 2):
        if len(row) < 2 and row:
            raise FormatError(f"`{shown(path)}` row {number} has {len(row)} cells and must have 2")
        if row:
            yield number, row[0], ",".join(row[1:])


def picture_folder(source: Path, images: str | Path | None, usual: tuple[str, ...]) -> Path:
    """Return the folder of the pictures: the one given, or the first usual one beside the list or above it.

    Raises
    ------
    FormatError
        There is none.
    """
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise FormatError(f"`images` {shown(folder)} is no folder; name that of the pictures")
        return folder
    here = source.absolute().parent
    for base in (here, here.parent):
        for name in usual:
            if name != "." and (base / name).is_dir():
                return base / name
    if "." in usual:
        return here
    raise FormatError(
        f"the pictures of `{shown(source)}` are in none of the folders {', '.join(usual)} beside it or "
        "above it; name their folder with `images`"
    )


def _mapping(loaded: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(loaded, dict):
        raise DataError(f"`{shown(path)}` must hold an object; got {type(loaded).__name__}")
    return loaded


def _entries(loaded: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    """Return a field that must be a list of objects."""
    found = loaded.get(name)
    if not isinstance(found, list):
        raise DataError(f"`{shown(path)}` must have a list `{name}`; got {type(found).__name__}")
    for i, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise DataError(
                f"`{shown(path)}` {name} {i} must be an object; got {type(entry).__name__}"
            )
    return found


def _field(entry: Mapping[str, Any], name: str, kind: type, path: Path, i: int) -> Any:
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        what = {int: "a number", str: "a text", list: "a list"}[kind]
        raise DataError(
            f"`{shown(path)}` entry {i}: `{name}` must be {what}; got {shown(repr(value))[:60]}"
        )
    return value
