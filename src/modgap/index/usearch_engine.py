"""usearch: number formats of its own, each looked through whole or by its graph."""

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

__all__ = ["Usearch", "UsearchIndex"]

#: Bytes of a dimension, by the format's name in usearch.
_FORMATS = {
    "f32": 4.0,
    "bf16": 2.0,
    "f16": 2.0,
    "i8": 1.0,
    "e5m2": 1.0,
    "e4m3": 1.0,
    "b1": 0.125,
}
_EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_LINKS, _CANDIDATES = 16, 128
_GRAPH = "HNSW,"


class Usearch:
    """usearch, through the package of that name.

    A codec is a number format (`f32`, `bf16`, `f16`, `i8`, `e5m2`, `e4m3`, or `b1`: signs, compared by
    Hamming distance), looked through whole; after `HNSW,`, as in `HNSW,i8`, by its graph (16 links, 128
    candidates). The format `i8` keeps directions alone: usearch scales each row to its own length.
    """

    name = "usearch"
    codecs: Mapping[str, str] = MappingProxyType(
        {
            "bf16": "the upper half of a float",
            "f16": "half floats",
            "i8": "8 bits a dimension, each row over its own length",
            "e5m2": "floats of 8 bits",
            "b1": "the sign of each dimension, of queries too",
            "HNSW,f32": "a graph over floats, 16 links a node",
        }
    )

    def check(self) -> None:
        """Raise a MissingExtraError where usearch is not installed."""
        require("usearch.index", "usearch")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> UsearchIndex:
        """Return an index of rows (n, d) float32 that compares by inner product, b1 by Hamming distance.

        The seed has no say: usearch draws levels by its own.

        Raises
        ------
        ArgumentError
            usearch has no such format.
        MissingExtraError
            usearch is not installed.
        """
        package = require("usearch.index", "usearch")
        word = codec.strip()
        graph = word.upper().startswith(_GRAPH)
        form = (word[len(_GRAPH) :] if graph else word).lower()
        if form not in _FORMATS:
            raise ArgumentError(
                f"`codec` of usearch must be one of {', '.join(_FORMATS)}, or one of them after HNSW; "
                f"got {codec!r}"
            )
        width = rows.shape[1]
        index = package.Index(
            ndim=width + -width % 8 if form == "b1" else width,
            metric="hamming" if form == "b1" else "ip",
            dtype=form,
            connectivity=_LINKS if graph else 2,  # links that an exhaustive search does not use
            expansion_add=_CANDIDATES if graph else 1,
        )
        index.add(np.arange(len(rows), dtype=np.uint64), _stored(rows, form))
        return UsearchIndex(index, form, width * _FORMATS[form], graph=graph)


class UsearchIndex:
    """An index of usearch: looked through whole, or by its graph."""

    def __init__(self, index: Any, form: str, size: float, *, graph: bool) -> None:
        self._index, self._form = index, form
        self.bytes_per_vector = float(np.ceil(size))
        self.efforts: tuple[int, ...] = _EFS if graph else ()

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d) float32, at an effort (the default: the most)."""
        asked = _stored(queries, self._form)
        if self.efforts:
            self._index.expansion_search = max(self.efforts[-1] if effort is None else effort, k)
        start = time.perf_counter()
        found = self._index.search(asked, k, exact=not self.efforts)
        seconds = (time.perf_counter() - start) / len(queries)
        keys = np.asarray(found.keys).reshape(len(queries), -1)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        rows[:, : keys.shape[1]] = keys
        counts = getattr(found, "counts", [keys.shape[1]])  # of a single query there are none
        for row, count in zip(rows, counts, strict=True):
            row[int(count) :] = -1
        counted = (
            float(found.computed_distances) / len(queries) if self.efforts else len(self._index)
        )
        return Found(rows, seconds, float(counted))

    def close(self) -> None:
        """Let go of the index."""
        self._index = None


def _stored(rows: np.ndarray, form: str) -> np.ndarray:
    """Return rows as usearch takes them: floats, or for b1 the signs packed in bytes."""
    if form == "b1":
        return np.packbits(rows > 0, axis=1)
    return np.ascontiguousarray(rows, dtype=np.float32)
