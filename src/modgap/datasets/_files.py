"""Files below a folder, and texts from files: in one order on every machine, each fault one line."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from modgap.errors import DataError, FormatError
from modgap.io._guard import check_file, file_status, one_line, reading, shown

__all__ = [
    "below",
    "check_text",
    "is_file",
    "is_folder",
    "is_regular",
    "is_whole",
    "listing",
    "read_json",
    "read_text",
    "walk",
]

#: Bytes of the largest file of texts that is read whole; COCO's captions of 2014 have 67 million.
MOST_BYTES = 2**31
#: Characters of the longest text of a picture.
MOST_CHARACTERS = 100_000
#: Folders that programs leave in folders of pictures.
_LITTER = frozenset({"__MACOSX", "@eaDir", "__pycache__", "lost+found"})


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, hidden things left out, sorted by name.

    Raises
    ------
    FormatError
        It cannot be listed, or a name is no UTF-8.
    """
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name not in _LITTER]
    except OSError as error:
        reason = (error.strerror or one_line(error)).lower()
        raise FormatError(
            f"`{shown(folder)}` cannot be listed: {reason}; check the path and its mode"
        ) from None
    for entry in entries:
        if not is_whole(entry.name):
            raise FormatError(
                f"`{shown(folder)}` holds `{shown(entry.name)}`, a name that is no UTF-8; rename it"
            )
    return sorted(entries, key=lambda entry: entry.name)


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the path below the folder, with slashes, and the path of every file, folder by folder.

    Links are followed. One that leads nowhere counts as a file, which then cannot be read: nothing
    disappears without a word.

    Raises
    ------
    FormatError
        A link leads back to a folder that holds it; a pipe or a device lies there; a name is no UTF-8.
    """
    waiting: list[tuple[str, Path, tuple[tuple[int, int], ...]]] = [("", folder, (_id(folder),))]
    while waiting:
        prefix, here, above = waiting.pop()
        folders = []
        for entry in listing(here):
            path, name = here / entry.name, prefix + entry.name
            if is_folder(entry):
                own = _id(path)
                if own in above:
                    raise FormatError(
                        f"`{shown(path)}` is a link to a folder that holds it; remove it"
                    )
                folders.append((f"{name}/", path, (*above, own)))
            elif is_file(entry) or entry.is_symlink():
                yield name, path
            else:
                raise FormatError(
                    f"`{shown(path)}` is no regular file (a pipe or a device); move it away"
                )
        waiting += reversed(folders)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, links followed; one that links to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file, links followed."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _id(folder: Path) -> tuple[int, int]:
    found = file_status(folder)
    return found.st_dev, found.st_ino


def below(folder: Path, name: str, source: Path) -> Path:
    """Return the path of a file that `source` names, which must lie below the folder.

    Raises
    ------
    DataError
        The name is absolute or leads out of the folder.
    """
    inner = PurePosixPath(name.replace("\\", "/"))
    wrong = not name or "\0" in name or ":" in name or not is_whole(name)
    if wrong or inner.is_absolute() or ".." in inner.parts:
        raise DataError(
            f"`{shown(source)}` names the picture `{shown(name)}`, which is no path below a folder"
        )
    return folder / inner


def read_text(path: Path) -> str:
    """Return a text file, UTF-8 with or without a mark.

    Raises
    ------
    FormatError
        It is missing, empty, over 2 GiB, or no UTF-8.
    """
    if check_file(path) > MOST_BYTES:
        raise FormatError(f"`{shown(path)}` has over {MOST_BYTES:,} bytes, too many for a text")
    with reading(path, path.suffix[1:].lower() or "txt"):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"`{shown(path)}` is no UTF-8 text: byte {raw[error.start]:#04x} at position "
            f"{error.start}; save it as UTF-8"
        ) from None


def read_json(path: Path) -> Any:
    """Return what a .json file holds.

    Raises
    ------
    FormatError
        It is missing, damaged or nested too deep.
    """
    text = read_text(path)
    with reading(path, "json"):
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep") from None


def check_text(text: Any, where: str) -> str:
    """Return one text of a picture, blanks around it taken off.

    Raises
    ------
    DataError
        It is no string, blank, or longer than any caption.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where} must be a text; got {shown(repr(text))[:80]}")
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"{where} has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read"
        )
    if not is_whole(text):
        raise DataError(f"{where} holds half a character (a lone surrogate); correct it")
    return text.strip()


def is_whole(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can hold half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_regular(path: Path) -> bool:
    """Whether a regular file lies there, links followed."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
