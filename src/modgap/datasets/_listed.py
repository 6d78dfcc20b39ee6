"""Collections with a list of their pictures in a file: names, texts and labels held, pictures not."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from modgap.datasets._digest import Digest
from modgap.datasets._files import below, is_regular
from modgap.datasets._names import Names
from modgap.datasets.collection import Item, check_range
from modgap.errors import DataError, FormatError
from modgap.io._guard import shown

__all__ = ["Listed"]

#: What a missing label is stored as.
_NONE = -1


class Listed:
    """Items by key, name of the picture's file, texts and label; a base of the readers of such lists.

    Parameters
    ----------
    kind : str
    source : Path
        The file that lists the pictures, for messages.
    folder : Path
        Holds the pictures.
    classes : sequence of str, optional
    choices : bool
    """

    def __init__(
        self,
        kind: str,
        source: Path,
        folder: Path,
        *,
        classes: Sequence[str] | None = None,
        choices: bool = False,
    ) -> None:
        self.kind = kind
        self.source = source
        self.folder = folder
        self.classes = None if classes is None else tuple(classes)
        self.choices = choices
        self._keys, self._files, self._texts = Names(), Names(), Names()
        self._ends = array("q")
        self._labels = array("q")

    def append(self, key: str, file: str, texts: Sequence[str], label: int | None = None) -> None:
        """Add one item; the file's name is refused if it leads out of the folder."""
        below(self.folder, file, self.source)
        self._keys.append(key)
        self._files.append(file)
        for text in texts:
            self._texts.append(text)
        self._ends.append(len(self._texts))
        self._labels.append(_NONE if label is None else label)

    def check(self) -> None:
        """Raise an error unless there are items, no key comes twice, and some picture is there.

        A picture that is missing among others is met when it is read, like one that is damaged.

        Raises
        ------
        DataError, FormatError
        """
        if not len(self):
            raise DataError(f"`{shown(self.source)}` lists no picture; check the file")
        seen: set[str] = set()
        for i in range(len(self)):
            key = self._keys[i]
            if key in seen:
                raise DataError(
                    f"`{shown(self.source)}` has two items `{shown(key)}`; remove one of them"
                )
            seen.add(key)
        if not any(is_regular(self._path(i)) for i in range(len(self))):
            raise FormatError(
                f"none of the {len(self)} pictures that `{shown(self.source)}` lists lies in "
                f"`{shown(self.folder)}` (first: `{shown(self._files[0])}`); name their folder with "
                "`images`"
            )

    def _path(self, i: int) -> Path:
        return self.folder / self._files[i]

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}, {len(self)} items, {shown(self.source)})"

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in order."""
        for i in check_range(start, stop, len(self)):
            first = self._ends[i - 1] if i else 0
            texts = tuple(self._texts[j] for j in range(first, self._ends[i]))
            label = None if self._labels[i] == _NONE else self._labels[i]
            yield Item(self._keys[i], self._path(i), texts, label)

    def digest(self) -> str:
        """Return a digest of keys, texts, labels, class names and the pictures' bytes."""
        found = Digest(self.kind)
        found.add(*(self.classes or ()), None)
        for item in self.items(0, len(self)):
            found.add(item.key, len(item.texts), *item.texts, item.label)
            found.add_file(Path(item.image))  # type: ignore[arg-type]
        return found.hexdigest()
