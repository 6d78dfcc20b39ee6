"""What a collection gives: items in a fixed order, any range of them, and a digest of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modgap._core.checks import check_count

__all__ = ["Collection", "Item", "check_range"]


@dataclass(frozen=True)
class Item:
    """One picture with what is known of it, or one question with its choices.

    Attributes
    ----------
    key : str
        Unique within the collection, the same on every machine: a path below its folder, or a number.
    image : Path, bytes or None
        File of the picture, or its bytes; decoded later, in threads.
    texts : tuple of str
        Captions; of a question with choices, one text a choice.
    label : int or None
        Number of its class, or of the right choice.
    """

    key: str
    image: Path | bytes | None = None
    texts: tuple[str, ...] = ()
    label: int | None = None


class Collection(Protocol):
    """Items of one source, read as they are asked for: nothing that grows with the pictures is held."""

    #: Layout: `folder`, `parquet`, `webdataset`, `cifar10`, ...
    kind: str
    #: Names of the classes, where the source has classes; `Item.label` counts them.
    classes: tuple[str, ...] | None
    #: Whether `Item.texts` are choices of which `Item.label` is right.
    choices: bool

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield items start to stop, in order."""
        ...

    def digest(self) -> str:
        """Return a hexadecimal digest of all that embeddings depend on, the pictures' bytes too."""
        ...


def check_range(start: int, stop: int, count: int) -> range:
    """Return the places of a range of items; it must lie within the collection.

    Raises
    ------
    ArgumentError
        It does not.
    """
    check_count(start, "start", low=0, high=count)
    return range(start, check_count(stop, "stop", low=start, high=count))
