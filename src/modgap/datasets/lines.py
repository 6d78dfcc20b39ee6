"""Texts alone: a list of captions or documents, in no layout but their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from modgap.datasets.collection import Item

__all__ = ["Lines"]


class Lines:
    """Texts as a collection without pictures.

    Parameters
    ----------
    texts : sequence of str
    """

    kind = "texts"
    classes: tuple[str, ...] | None = None
    choices = False

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)

    def __len__(self) -> int:
        return len(self._texts)

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Yield texts start to stop; a text's key is its number."""
        for i in range(start, min(stop, len(self))):
            yield Item(key=str(i), texts=(self._texts[i],))

    def digest(self) -> str:
        """Return a hexadecimal digest of all texts."""
        found = hashlib.sha256()
        for text in self._texts:
            found.update(hashlib.sha256(text.encode()).digest())
        return found.hexdigest()
