"""A folder of pictures: its subfolders are classes, texts beside the pictures their captions."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from modgap.datasets._digest import Digest
from modgap.datasets._files import check_text, read_text, walk
from modgap.datasets._names import Names
from modgap.datasets.collection import Item, check_range
from modgap.errors import DataError, FormatError
from modgap.io._guard import file_status, shown

__all__ = ["ImageFolder"]

#: What lies beside pictures and is known by its suffix not to be one. Every other file counts as a
#: picture, whatever its name, so that one that is none is reported and not passed over.
COMPANIONS = frozenset(
    f".{suffix}"
    for suffix in (
        "txt", "json", "jsonl", "ndjson", "csv", "tsv", "md", "rst", "xml", "html", "htm", "yaml", "yml",
        "toml", "ini", "log", "pdf", "bib", "py", "ipynb", "sh", "npy", "npz", "pt", "pth", "safetensors",
        "pkl", "parquet", "arrow", "feather", "h5", "hdf5", "db", "mat", "tar", "gz", "tgz", "zip", "7z",
        "rar", "zst", "xz", "bz2", "idx", "lock", "sha256", "md5",
    )
)  # fmt: skip
_LITTER = frozenset({"thumbs.db", "desktop.ini", "readme", "license", "checksums", "md5sums"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})


class ImageFolder:
    """The pictures in a folder and in all folders below it.

    Parameters
    ----------
    folder : path
        Where every picture lies in one of two or more subfolders, these are its classes, in sorted
        order. Where a text file of a picture's name lies beside it (`a.jpg`, `a.txt`), each of its lines is
        a caption, and there are no classes.

    Attributes
    ----------
    classes : tuple of str or None
    skipped : dict of str to int
        Files that are known not to be pictures, by suffix: texts, tables, archives. Any other file counts
        as a picture; whether it is one, its bytes say.

    Raises
    ------
    DataError
        There is no picture.
    FormatError
        The folder cannot be read, its only subfolders are splits such as train and test, a link leads in
        a circle, or a name is no UTF-8.
    """

    kind = "folder"
    choices = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        file_status(self.folder)
        if not self.folder.is_dir():
            raise FormatError(f"`{shown(self.folder)}` is no folder; name the folder of pictures")
        self._names, self._captioned = Names(), array("b")
        skipped: Counter[str] = Counter()
        for _, files in itertools.groupby(walk(self.folder), key=lambda one: one[1].parent):
            names = [name for name, _ in files]
            stems = {name[:-4] for name in names if name.endswith(".txt")}
            for name in names:
                if is_companion(name):
                    skipped[PurePosixPath(name).suffix.lower() or PurePosixPath(name).name] += 1
                    continue
                self._names.append(name)
                self._captioned.append(str(PurePosixPath(name).with_suffix("")) in stems)
        self.skipped = dict(sorted(skipped.items()))
        if not len(self._names):
            raise DataError(f"`{shown(self.folder)}` holds no picture{self._others()}")
        found = None if any(self._captioned) else self._folders()
        self.classes: tuple[str, ...] | None = found
        self._numbers = {name: i for i, name in enumerate(found or ())}

    def _others(self) -> str:
        if not self.skipped:
            return "; check the path"
        listed = ", ".join(f"{count} {suffix}" for suffix, count in list(self.skipped.items())[:6])
        return f", only {listed}; check the path, or name the file itself"

    def _folders(self) -> tuple[str, ...] | None:
        """Return the names of the first folders, if every picture lies in one of several."""
        found = set()
        for i in range(len(self._names)):
            first, slash, _ = self._names[i].partition("/")
            if not slash:
                return None
            found.add(first)
        if found <= _SPLITS:
            one = sorted(found)[0]
            raise FormatError(
                f"`{shown(self.folder)}` holds the splits {', '.join(sorted(found))}; name one of them, "
                f"`{shown(self.folder / one)}`"
            )
        return tuple(sorted(found)) if len(found) > 1 else None

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", {len(self.classes)} classes"
        return f"{type(self).__name__}({len(self)} items{classes}, {shown(self.folder)})"

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in order; captions are read as they are asked for."""
        for i in check_range(start, stop, len(self)):
            name = self._names[i]
            label = None if self.classes is None else self._numbers[name.partition("/")[0]]
            yield Item(name, self.folder / name, self._texts(i, name), label)

    def _texts(self, i: int, name: str) -> tuple[str, ...]:
        if not self._captioned[i]:
            return ()
        path = (self.folder / name).with_suffix(".txt")
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        return tuple(check_text(line, f"`{shown(path)}`") for line in lines)

    def digest(self) -> str:
        """Return a digest of the names, classes, captions and bytes of all pictures."""
        found = Digest(self.kind)
        found.add(*(self.classes or ()), None)
        for item in self.items(0, len(self)):
            found.add(item.key, len(item.texts), *item.texts, item.label)
            found.add_file(Path(item.image))  # type: ignore[arg-type]
        return found.hexdigest()


def is_companion(name: str) -> bool:
    """Whether a file is known by its name to be no picture."""
    inner = PurePosixPath(name)
    return inner.suffix.lower() in COMPANIONS or inner.name.lower() in _LITTER
