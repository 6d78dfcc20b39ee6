"""Qdrant inside the process (qdrant-edge): the engine's own storage, quantizers and HNSW, no server."""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from modgap._core.extras import locate, require
from modgap.errors import CodeError
from modgap.index._scratch import (
    check_room,
    chosen_codec,
    chosen_effort,
    native_failures,
    places,
    scratch_folder,
    stored_rows,
    usable_queries,
)
from modgap.index.engine import Found

__all__ = ["Qdrant"]

#: Codes by the words that follow "HNSW," or stand alone.
_CODES = (
    "float",
    "float16",
    "scalar",
    "binary",
    "binary:2",
    "binary:asymmetric",
    "product",
    *(f"product:{ratio}" for ratio in (4, 8, 16, 32, 64)),
    *(f"turbo:{bits}" for bits in (1, 2, 4)),
)
#: What `ef` is tried at; Qdrant looks at k at least.
_EFS = (16, 32, 64, 128, 256, 512)
_LINKS, _CANDIDATES = 16, 100
#: Points that are written at once: as lists of Python they take thirty times their bytes.
_BATCH = 1_000
#: Queries that are asked at once.
_ASKED = 256


class Qdrant:
    """Qdrant's engine in this process, through the package qdrant-edge-py.

    Codecs: "float", "float16", "scalar" (int8), "binary", "binary:2" (two bits a dimension),
    "binary:asymmetric" (queries in int8), "product" (64 bits a float's place: 32 times smaller),
    "product:4" to "product:64" (so many times smaller), "turbo:1", "turbo:2", "turbo:4" (TurboQuant, bits a
    dimension). Alone every code is looked at; after "HNSW," as in "HNSW,binary" a graph leads to them
    (M 16, ef_construct 100). Answers are the code's own: nothing is rescored on the originals, which
    Qdrant keeps beside the codes. An interruption is heard when Qdrant's own optimizer is done, in a study
    at once.

    Bytes a vector are measured: the file of codes over the number of rows. Qdrant draws its graph and
    trains codebooks by a seed of its own.
    """

    name = "qdrant"
    codecs: Mapping[str, str] = MappingProxyType(
        {
            "scalar": "int8, one range for all dimensions",
            "binary": "the sign of each dimension",
            "product": "product quantization, 32 times smaller than floats",
            "turbo:1": "TurboQuant: rotated, one bit a dimension and the row's length",
            "turbo:4": "TurboQuant: rotated, four bits a dimension and the row's length",
            "HNSW,float": "a graph over floats",
            "HNSW,binary": "a graph over the sign of each dimension",
        }
    )

    def check(self) -> None:
        """Raise a MissingExtraError where qdrant-edge is not installed."""
        locate("qdrant_edge", "qdrant")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> QdrantIndex:
        """Return an index of rows (n, d) in a new folder inside `folder`.

        Raises
        ------
        ArgumentError
            There is no such codec.
        CodeError
            Qdrant left rows so few as they are, without the code.
        EngineError
            The disk is full, or Qdrant refuses.
        MissingExtraError
            The package is not installed.
        """
        edge = require("qdrant_edge", "qdrant")
        codec = chosen_codec(codec, (*_CODES, *(f"HNSW,{code}" for code in _CODES)))
        rows = stored_rows(rows)
        check_room(folder, 3 * rows.nbytes + 2**27, self.name)
        with scratch_folder(folder, self.name) as made:
            shard = edge.EdgeShard.create(str(made), _config(edge, rows, codec))
            try:
                for first in range(0, len(rows), _BATCH):
                    block = rows[first : first + _BATCH].tolist()
                    points = [edge.Point(id=first + i, vector=row) for i, row in enumerate(block)]
                    shard.update(edge.UpdateOperation.upsert_points(points))
                shard.optimize()
                shard.flush()
                return QdrantIndex(edge, shard, made, codec, rows.shape)
            except BaseException:
                shard.close()
                raise


class QdrantIndex:
    """A shard of Qdrant's in a folder of its own, which `close` removes."""

    def __init__(
        self, edge: ModuleType, shard: Any, folder: Path, codec: str, shape: tuple[int, ...]
    ) -> None:
        count, self._width = shape
        self._edge, self._shard, self._folder = edge, shard, folder
        graph, _, code = codec.rpartition(",")
        self.efforts: tuple[int, ...] = _EFS if graph else ()
        self.bytes_per_vector = _bytes_of_codes(folder, code, count, self._width)
        self._end = weakref.finalize(self, _close, shard, folder)

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d) by their codes; see `Index.search`."""
        edge = self._edge
        queries = usable_queries(queries, k, self._width)
        ef = chosen_effort(effort, self.efforts)
        params = edge.SearchParams(
            hnsw_ef=ef or None,
            quantization=edge.QuantizationSearchParams(ignore=False, rescore=False),
        )
        asked = [
            edge.QueryRequest(limit=k, query=edge.Query.Nearest(row), params=params)
            for row in queries.tolist()
        ]
        hits: list[list[Any]] = []
        with native_failures("qdrant", self._folder):
            start = time.perf_counter()
            for first in range(0, len(asked), _ASKED):
                hits += self._shard.query_batch(
                    edge.QueryBatchRequest(asked[first : first + _ASKED])
                )
            seconds = time.perf_counter() - start
        rows = places([[hit.id for hit in each] for each in hits], k)
        return Found(rows, seconds / len(queries))

    def close(self) -> None:
        """Close the shard and remove its folder."""
        self._end()


def _close(shard: Any, folder: Path) -> None:
    shard.close()
    shutil.rmtree(folder, ignore_errors=True)


def _config(edge: ModuleType, rows: np.ndarray, codec: str) -> Any:
    """Return the configuration of a shard with one segment, one code and perhaps a graph."""
    graph, _, code = codec.rpartition(",")
    vectors = edge.EdgeVectorParams(
        size=rows.shape[1],
        distance=edge.Distance.Dot,
        datatype=edge.VectorStorageDatatype.Float16 if code == "float16" else None,
        quantization_config=_quantizer(edge, code),
        hnsw_config=edge.HnswIndexConfig(
            m=_LINKS if graph else 0, ef_construct=_CANDIDATES, full_scan_threshold=1
        ),
    )
    sizes = edge.EdgeOptimizersConfig(
        default_segment_number=1,
        max_segment_size=rows.nbytes // 256 + 1,  # in KiB: four times what there is
        indexing_threshold=1,
    )
    return edge.EdgeConfig(vectors=vectors, optimizers=sizes, wal_enabled=False)


def _quantizer(edge: ModuleType, code: str) -> Any:
    name, _, size = code.partition(":")
    if name == "scalar":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8)
    if name == "product":
        return edge.ProductQuantizationConfig(getattr(edge.CompressionRatio, f"X{size or 32}"))
    if name == "turbo":
        return edge.TurboQuantQuantizationConfig(
            bits=getattr(edge.TurboQuantBitSize, f"Bits{size}")
        )
    if name != "binary":
        return None
    wide = edge.BinaryQuantizationQueryEncoding.Scalar8Bits
    return edge.BinaryQuantizationConfig(
        encoding=edge.BinaryQuantizationEncoding.TwoBits if size == "2" else None,
        query_encoding=wide if size == "asymmetric" else None,
    )


def _bytes_of_codes(folder: Path, code: str, count: int, width: int) -> float:
    """Return the bytes of a row's code, from the size of the file that holds them.

    Raises
    ------
    CodeError
        There is no such file: Qdrant encodes a segment from about a kibibyte of floats on.
    """
    if code.startswith("float"):
        return width * (2.0 if code == "float16" else 4.0)
    files = list(folder.glob("segments/*/vector_storage/quantized.data"))
    if not files:
        raise CodeError(
            f"Qdrant left {count} rows of dimension {width} as floats: they are too few for {code!r}; "
            "give more rows, or take float"
        )
    return sum(file.stat().st_size for file in files) / count
