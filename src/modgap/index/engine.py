"""What an engine does here: build an index of some rows under a codec, and search it by inner product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

__all__ = ["Engine", "Found", "Index"]


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found, and its price.

    Attributes
    ----------
    rows : ndarray, shape (m, k), int64
        Positions in the gallery, best first; -1 where the engine found fewer than k.
    seconds : float
        Wall time a query, of the whole batch divided by its size.
    computations : float or None
        Distance computations a query, where the engine counts them.
    """

    rows: np.ndarray
    seconds: float
    computations: float | None = None


class Index(Protocol):
    """An index that stands. It may hold a server or files: `close` ends that."""

    #: Bytes that a stored vector takes, links of a graph apart; of the codes that searches read.
    bytes_per_vector: float
    #: Settings of work, least first (`ef`, `nprobe`, ...); empty where a search has none.
    efforts: tuple[int, ...]

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d) float32, at an effort (the default: the most)."""
        ...

    def close(self) -> None:
        """End what the index holds open."""
        ...


class Engine(Protocol):
    """A package that stores and searches vectors."""

    #: What people type: `faiss`, `usearch`, `qdrant`, ...
    name: str
    #: The engine's codecs that a study tries unasked, each with what it is in one clause.
    codecs: Mapping[str, str]

    def check(self) -> None:
        """Raise MissingExtraError, with the pip command, where the package is absent."""
        ...

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> Index:
        """Return an index of rows (n, d) float32 that compares by inner product.

        Raises
        ------
        CodeError
            The codec cannot store these rows: one line, with the fix.
        ArgumentError
            The engine has no such codec; the message names those that it has.
        """
        ...
