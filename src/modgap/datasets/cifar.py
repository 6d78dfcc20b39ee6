"""CIFAR-10 and CIFAR-100 in their binary layouts; the Python layout is a pickle and stays closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap._core.checks import check_choice
from modgap.datasets._digest import Digest
from modgap.datasets._files import read_text
from modgap.datasets.collection import Item, check_range
from modgap.errors import ArgumentError, DataError, FormatError
from modgap.io._guard import check_file, file_status, reading, shown

__all__ = ["Cifar", "is_pickled"]

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
#: What a picture without a format of its own travels as: a header and its bytes, lossless.
_HEADER = f"P6\n{_SIDE} {_SIDE}\n255\n".encode()


@dataclass(frozen=True)
class _Layout:
    """Files of each split, bytes of labels before the pixels, and names of each such byte's classes."""

    splits: dict[str, tuple[str, ...]]
    names: dict[str, str]


LAYOUTS = {
    "cifar10": _Layout(
        {
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        {"fine": "batches.meta.txt"},
    ),
    "cifar100": _Layout(
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"coarse": "coarse_label_names.txt", "fine": "fine_label_names.txt"},
    ),
}


def is_pickled(folder: Path) -> bool:
    """Whether a folder holds CIFAR's Python layout."""
    marks = ("data_batch_1", "batches.meta", "meta")
    return any((folder / name).is_file() for name in marks)


class Cifar:
    """CIFAR-10 or CIFAR-100 as published for C programs: a byte or two of labels, then 3,072 of pixels.

    Parameters
    ----------
    kind : {"cifar10", "cifar100"}
    path : path
        Folder of the unpacked archive (`cifar-10-batches-bin`, `cifar-100-binary`), or one .bin file of it.
    split : {"test", "train"}
        Of a folder; figures of zero-shot classification are of the test split.
    label : {"fine", "coarse"}
        Of CIFAR-100: its 100 classes, or the 20 that these belong to.

    Attributes
    ----------
    classes : tuple of str
        As the files name them, with blanks between words.

    Raises
    ------
    ArgumentError, DataError, FormatError
        Files are missing or cut short, a label has no name, or the folder holds the Python layout, which is
        pickled and not opened.
    """

    choices = False

    def __init__(
        self, kind: str, path: str | Path, *, split: str | None = None, label: str = "fine"
    ) -> None:
        self.kind = kind
        layout = LAYOUTS[kind]
        path = Path(path)
        self._files = _files(kind, layout, path, split)
        self._column = list(layout.names).index(check_choice(label, "label", tuple(layout.names)))
        self._row = len(layout.names) + _PIXELS
        self._counts = [self._count(file) for file in self._files]
        folder = path if path.is_dir() else path.parent
        names = read_text(folder / layout.names[label]).splitlines()
        words = (name.strip().replace("_", " ") for name in names)
        self.classes: tuple[str, ...] | None = tuple(word for word in words if word)

    def _count(self, path: Path) -> int:
        size = check_file(path)
        if size % self._row:
            raise FormatError(
                f"`{shown(path)}` has {size:,} bytes, which is no number of pictures of {self._row:,}; it "
                f"is cut short, or not of {self.kind}"
            )
        return size // self._row

    def __len__(self) -> int:
        return sum(self._counts)

    def __repr__(self) -> str:
        files = ", ".join(shown(file.name) for file in self._files)
        return f"Cifar({self.kind}, {len(self)} items, {files})"

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in the order of the files; pictures as PPM, which loses nothing."""
        wanted = check_range(start, stop, len(self))
        assert self.classes is not None
        first = 0
        for path, count in zip(self._files, self._counts, strict=True):
            mine = range(max(wanted.start - first, 0), min(wanted.stop - first, count))
            with reading(path, "bin"), path.open("rb") as handle:
                handle.seek(mine.start * self._row)
                for i in mine:
                    row = handle.read(self._row)
                    if len(row) < self._row:
                        raise EOFError(f"it ends in picture {i}")
                    label = row[self._column]
                    if label >= len(self.classes):
                        raise DataError(
                            f"`{shown(path)}` picture {i} has the label {label}, and there are "
                            f"{len(self.classes)} classes"
                        )
                    yield Item(f"{path.stem}/{i}", _as_ppm(row[-_PIXELS:]), (), label)
            first += count

    def digest(self) -> str:
        """Return a digest of the files, and of which labels are taken."""
        found = Digest(self.kind)
        found.add(self._column, *(self.classes or ()))
        for path in self._files:
            found.add(path.name)
            found.add_file(path)
        return found.hexdigest()


def _files(kind: str, layout: _Layout, path: Path, split: str | None) -> list[Path]:
    every = [name for names in layout.splits.values() for name in names]
    file_status(path)
    if not path.is_dir():
        if path.name not in every:
            raise FormatError(
                f"`{shown(path)}` is none of the files of {kind}: {', '.join(every)}; the Python version "
                "is pickled and not opened, take the binary one"
            )
        if split is not None:
            raise ArgumentError(f"`split` chooses among the files of a folder; got {shown(path)}")
        return [path]
    chosen = check_choice("test" if split is None else split, "split", tuple(layout.splits))
    files = [path / name for name in layout.splits[chosen]]
    missing = [file.name for file in files if not file.exists()]
    if missing and is_pickled(path):
        raise FormatError(
            f"`{shown(path)}` is the Python version of {kind}, which is pickled and not opened; take the "
            "binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)"
        )
    if missing:
        raise FormatError(f"`{shown(path)}` lacks `{missing[0]}` of {kind}; unpack all of it")
    return files


def _as_ppm(planes: bytes) -> bytes:
    """Return red, green and blue planes as a picture of interleaved pixels."""
    pixels = np.frombuffer(planes, dtype=np.uint8).reshape(3, -1)
    return _HEADER + pixels.T.tobytes()
