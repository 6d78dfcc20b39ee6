"""Millions of names in one block of memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

__all__ = ["Names"]


class Names:
    """A sequence of strings held as one block of UTF-8, about as large as the names themselves.

    A list of a million Python strings takes several times as much.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add one at the end."""
        self._bytes += name.encode()
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self._ends):
            raise IndexError(i)
        start = self._ends[i - 1] if i else 0
        return self._bytes[start : self._ends[i]].decode()
