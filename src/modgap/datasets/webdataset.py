"""WebDataset: tar files whose members of one name are one item, found by offsets, never unpacked."""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from modgap.datasets._digest import Digest
from modgap.datasets._files import MOST_CHARACTERS, check_text, is_whole
from modgap.datasets._names import Names
from modgap.datasets._shards import shards_of
from modgap.datasets.collection import Item, check_range
from modgap.errors import DataError, FormatError
from modgap.io._guard import check_file, reading, shown

__all__ = ["WebDataset"]

#: What a member is, by the part of its name after the first dot; others are passed over.
_PARTS = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "img"), 0),
    **dict.fromkeys(("txt", "caption", "text"), 1),
    "json": 2,
    "cls": 3,
}
_IMAGE, _TEXT, _JSON, _CLASS = range(4)
#: Bytes of the largest member that is read whole: of a picture, and of what is said of it.
_MOST = (2**30, 4 * MOST_CHARACTERS, 2**24, 64)
#: Fields of a .json member that hold captions, and the label, the first that is there.
_CAPTIONS = ("caption", "captions", "text", "texts", "TEXT")
_LABELS = ("label", "cls")
_BLOCK = 512
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class _Index:
    """Where the parts of each item lie in one file: offset and size of each, -1 where it has none."""

    path: Path
    parts: np.ndarray
    keys: Names


class WebDataset:
    """Items of one tar file, or of a folder of numbered ones.

    Members are one item where their names agree up to the first dot of the last part: `0001.jpg`,
    `0001.txt`, `0001.json`, `0001.cls`. A .txt holds a caption, a .json one or several under `caption`,
    `captions` or `text` and a label under `label`, a .cls the number of a class.

    Parameters
    ----------
    path : path
        A plain .tar, or a folder of them.
    split : str, optional
        What stands before the numbers, where a folder holds several kinds.

    Raises
    ------
    DataError
        A name comes twice, leads out of the archive, or belongs to a link; there is no picture.
    FormatError
        A file is cut short, compressed, or no tar.

    Notes
    -----
    One pass over the headers finds the offsets, 64 bytes an item beside its key; pictures are read where
    they lie.
    Nothing is unpacked, so no name in an archive is ever a path on the machine.
    """

    kind = "webdataset"
    classes: tuple[str, ...] | None = None
    choices = False

    def __init__(self, path: str | Path, *, split: str | None = None) -> None:
        self.path = Path(path)
        files = shards_of(self.path, ".tar", split)
        self._shards = [_indexed(file) for file in files]
        self._prefix = len(files) > 1
        if not any(
            len(shard.parts) and (shard.parts[:, _IMAGE, 1] >= 0).any() for shard in self._shards
        ):
            raise DataError(f"`{shown(self.path)}` holds no picture (.jpg, .png, .webp); check it")

    def __len__(self) -> int:
        return sum(len(shard.parts) for shard in self._shards)

    def __repr__(self) -> str:
        return f"WebDataset({len(self)} items, {len(self._shards)} files, {shown(self.path)})"

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in the order of the files; of several, keys name theirs."""
        wanted = check_range(start, stop, len(self))
        first = 0
        for shard in self._shards:
            count = len(shard.parts)
            mine = range(max(wanted.start - first, 0), min(wanted.stop - first, count))
            if mine:
                prefix = f"{shard.path.stem}/" if self._prefix else ""
                with shard.path.open("rb") as handle:
                    for i in mine:
                        yield _item(shard, handle, i, prefix)
            first += count

    def digest(self) -> str:
        """Return a digest of the files."""
        found = Digest(self.kind)
        for shard in self._shards:
            found.add(shard.path.name)
            found.add_file(shard.path)
        return found.hexdigest()


def _indexed(path: Path) -> _Index:
    """Return where the parts of each item lie: one pass over the headers."""
    size, end, current = check_file(path), 0, None
    rows, keys = array("q"), Names()
    with reading(path, "tar"), path.open("rb") as handle:
        _check_start(path, handle)
        with tarfile.open(fileobj=handle, mode="r:") as archive:
            for member in _members(archive):
                end = _end_of(path, member, size)
                key, part = ("", None) if member.isdir() else _key_and_part(path, member)
                if part is None:
                    continue
                if key != current:
                    current = key
                    keys.append(key)
                    rows.extend([-1] * (2 * len(_MOST)))
                place = len(rows) - 2 * len(_MOST) + 2 * part
                if rows[place + 1] >= 0:
                    raise DataError(
                        f"`{shown(path)}` has two members for one part of `{shown(key)}`, the second "
                        f"`{shown(member.name)}`; rename one"
                    )
                rows[place], rows[place + 1] = member.offset_data, member.size
        handle.seek(end)
        if handle.read(_BLOCK) != bytes(_BLOCK):
            raise FormatError(
                f"`{shown(path)}` has no end mark after byte {end:,}: it is cut short; download it again"
            )
        parts = np.array(rows, dtype=np.int64).reshape(-1, len(_MOST), 2)
        _check_once(path, keys)
    return _Index(path, parts, keys)


def _end_of(path: Path, member: tarfile.TarInfo, size: int) -> int:
    """Return where a member ends, with what fills its last block."""
    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
    if end > size:
        raise FormatError(
            f"`{shown(path)}` is cut short: `{shown(member.name)}` ends at byte {end:,} of {size:,}; "
            "download it again"
        )
    return end


def _check_start(path: Path, handle: BinaryIO) -> None:
    start = handle.read(6)
    handle.seek(0)
    packed = {
        b"\x1f\x8b": "gzip",
        b"BZh": "bzip2",
        b"\xfd7zXZ\x00": "xz",
        b"\x28\xb5\x2f\xfd": "zstd",
    }
    for mark, name in packed.items():
        if start.startswith(mark):
            raise FormatError(
                f"`{shown(path)}` is compressed ({name}), and its items cannot be reached one by one; "
                "unpack it to a plain .tar first"
            )


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in their order, none of them kept."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member


def _key_and_part(path: Path, member: tarfile.TarInfo) -> tuple[str, int | None]:
    """Return the key of a member's item and which part it is, None for one that does not count."""
    name = member.name.removeprefix("./")
    inner = PurePosixPath(name)
    if inner.name.startswith("."):  # what programs leave: ._x, .DS_Store
        return "", None
    if not is_whole(name):
        raise DataError(f"`{shown(path)}` has a member `{shown(name)}`, a name that is no UTF-8")
    if inner.is_absolute() or ".." in inner.parts or "\0" in name:
        raise DataError(
            f"`{shown(path)}` has a member `{shown(name)}`, whose name leads out of the archive"
        )
    if not member.isreg() or member.issparse():
        raise DataError(
            f"`{shown(path)}` has a member `{shown(name)}` that is a link or no plain file; write it anew"
        )
    head, _, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    part = _PARTS.get(suffix.lower())
    if part is not None and member.size > _MOST[part]:
        raise DataError(
            f"`{shown(path)}` has a member `{shown(name)}` of {member.size:,} bytes; at most "
            f"{_MOST[part]:,} are read"
        )
    return (f"{head}/{stem}" if head else stem), part


def _check_once(path: Path, keys: Names) -> None:
    """Raise a DataError where a key comes twice, not one after the other."""
    seen: set[str] = set()
    for i in range(len(keys)):
        key = keys[i]
        if key in seen:
            raise DataError(
                f"`{shown(path)}` has the item `{shown(key)}` twice, not one after the other; write it "
                "with the members of an item together"
            )
        seen.add(key)


def _item(shard: _Index, handle: BinaryIO, i: int, prefix: str) -> Item:
    with reading(shard.path, "tar"):
        raw = [_bytes(shard, handle, i, part) for part in range(len(_MOST))]
    key = shard.keys[i]
    where = f"`{shown(shard.path)}` item `{shown(key)}`"
    texts, label = _described(raw, where)
    image = raw[_IMAGE]
    # An item without a picture is one whose picture cannot be read: it is counted, not passed over.
    return Item(prefix + key, b"" if image is None else image, texts, label)


def _bytes(shard: _Index, handle: BinaryIO, i: int, part: int) -> bytes | None:
    offset, size = (int(value) for value in shard.parts[i, part])
    if offset < 0:
        return None
    handle.seek(offset)
    found = handle.read(size)
    if len(found) < size:
        raise EOFError(f"it ends {size - len(found)} bytes early")
    return found


def _described(raw: list[bytes | None], where: str) -> tuple[tuple[str, ...], int | None]:
    """Return captions and label of an item."""
    known: dict[str, object] = {}
    if raw[_JSON] is not None:
        try:
            loaded = json.loads(raw[_JSON] or b"")
        except (ValueError, RecursionError):
            raise DataError(f"{where} has a .json that cannot be read; write it again") from None
        known = loaded if isinstance(loaded, dict) else {}
    found: object = None
    if raw[_TEXT] is not None:
        try:
            found = (raw[_TEXT] or b"").decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{where} has a text that is no UTF-8; save it as UTF-8") from None
    else:
        found = next((known[name] for name in _CAPTIONS if known.get(name)), None)
    several = found if isinstance(found, list) else [] if found is None or found == "" else [found]
    texts = tuple(check_text(text, f"{where}: its caption") for text in several)
    label: object = next((known[name] for name in _LABELS if name in known), None)
    if raw[_CLASS] is not None:
        word = (raw[_CLASS] or b"").decode("ascii", "replace").strip()
        label = int(word) if _INTEGER.fullmatch(word) else word
    if label is None:
        return texts, None
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < 2**31:
        raise DataError(
            f"{where} has the label {shown(repr(label))[:60]}; it must be a class's number"
        )
    return texts, label
