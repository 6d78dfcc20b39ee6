"""hnswlib: a graph over floats."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.errors import ArgumentError
from modgap.index.engine import Found

__all__ = ["Hnswlib", "HnswlibIndex"]

_EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_LINKS, _CANDIDATES = 16, 100


class Hnswlib:
    """hnswlib, through the package of that name: a graph over floats (M 16, ef_construction 100)."""

    name = "hnswlib"
    codecs: Mapping[str, str] = MappingProxyType({"f32": "a graph over floats, 16 links a node"})

    def check(self) -> None:
        """Raise a MissingExtraError where hnswlib is not installed."""
        require("hnswlib", "hnswlib")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> HnswlibIndex:
        """Return an index of rows (n, d) float32 that compares by inner product.

        Raises
        ------
        ArgumentError
            Another codec than f32: hnswlib has no other.
        MissingExtraError
            hnswlib is not installed.
        """
        package = require("hnswlib", "hnswlib")
        if codec.strip().lower() != "f32":
            raise ArgumentError(f"`codec` of hnswlib must be f32, it has no other; got {codec!r}")
        count, width = rows.shape
        index = package.Index(space="ip", dim=width)
        index.init_index(
            max_elements=count, M=_LINKS, ef_construction=_CANDIDATES, random_seed=seed + 1
        )
        index.add_items(np.ascontiguousarray(rows, dtype=np.float32), np.arange(count))
        return HnswlibIndex(index, width)


class HnswlibIndex:
    """A graph of hnswlib. It counts no distances, so work is its time."""

    efforts: tuple[int, ...] = _EFS

    def __init__(self, index: Any, width: int) -> None:
        self._index = index
        self.bytes_per_vector = 4.0 * width

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d) float32, at an effort (the default: the most)."""
        self._index.set_ef(max(self.efforts[-1] if effort is None else effort, k))
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        start = time.perf_counter()
        try:
            rows = self._index.knn_query(asked, k)[0]
        except RuntimeError:  # a broken graph reaches fewer than k; one by one they can be counted
            rows = self._some(asked, k)
        seconds = (time.perf_counter() - start) / len(queries)
        return Found(rows.astype(np.int64), seconds)

    def close(self) -> None:
        """Let go of the index."""
        self._index = None

    def _some(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return what is reached, -1 after it: the longest list that each query gets."""
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in zip(rows, queries, strict=True):
            low, high = 0, k - 1  # k itself may fail; 0 is known to do nothing
            while low < high:
                count = (low + high + 1) // 2
                try:
                    row[:count] = self._index.knn_query(query, count)[0][0]
                    low = count
                except RuntimeError:
                    high = count - 1
            row[low:] = -1
        return rows
