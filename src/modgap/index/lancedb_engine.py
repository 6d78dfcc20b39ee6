"""LanceDB in a folder: the embedded database, its inverted lists and its graph."""

from __future__ import annotations

import math
import re
import shutil
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from modgap._core.extras import locate, require
from modgap.errors import CodeError
from modgap.index._scratch import (
    check_room,
    chosen_codec,
    chosen_effort,
    native_failures,
    scratch_folder,
    stored_rows,
    usable_queries,
)
from modgap.index.engine import Found

__all__ = ["LanceDB"]

#: "IVF_PQ" may be followed by the bytes of a code.
_NAMES = ("flat", "IVF_PQ", "IVF_SQ", "IVF_RQ", "HNSW_SQ")
_EFS = (16, 32, 64, 128, 256, 512)
_LINKS, _CANDIDATES = 16, 150
#: Rows that LanceDB wants for each list that it trains, and the centres of a product code's book.
_ROWS_A_LIST, _CENTRES = 256, 256
#: Queries that are asked at once.
_ASKED = 256


class LanceDB:
    """LanceDB, embedded, in a folder of its own.

    Codecs: "flat"; "IVF_PQ" (a byte for every 16 dimensions, LanceDB's default) or with its bytes, as in
    "IVF_PQ64"; "IVF_SQ" (int8); "IVF_RQ" (RaBitQ, one bit a dimension); "HNSW_SQ" (one graph over int8,
    M 16). Efforts are lists probed, or `ef`, of which LanceDB takes k at least. There are as many lists as
    the square root of the rows, none of fewer than 256 rows on average. Answers are the code's own: nothing
    is refined on the originals, which LanceDB keeps beside the index.

    Bytes a vector follow from the layout of the index file, its row numbers apart: one a dimension, or one
    a piece; for RaBitQ a bit a dimension and three float32. LanceDB draws centres and graph by a seed
    of its own, and searches on all cores.
    """

    name = "lancedb"
    codecs: Mapping[str, str] = MappingProxyType(
        {
            "IVF_PQ": "lists of product codes, a byte for 16 dimensions",
            "IVF_SQ": "lists of int8, one range for all dimensions",
            "IVF_RQ": "lists of RaBitQ, one bit a dimension",
            "HNSW_SQ": "a graph over int8",
        }
    )

    def check(self) -> None:
        """Raise a MissingExtraError where LanceDB is not installed."""
        locate("lancedb", "lancedb")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> LanceIndex:
        """Return an index of rows (n, d) in a new folder inside `folder`.

        Raises
        ------
        ArgumentError
            There is no such codec.
        CodeError
            The rows are too few for a product code, or the code does not divide their dimension.
        EngineError
            The disk is full, or LanceDB refuses.
        MissingExtraError
            The package is not installed.
        """
        lancedb = require("lancedb", "lancedb")
        if re.fullmatch(r"IVF_PQ[1-9]\d*", codec.strip().upper()):
            codec = codec.strip().upper()
        else:
            codec = chosen_codec(codec, _NAMES)
        rows = stored_rows(rows)
        pieces = _check_codec(codec, len(rows), rows.shape[1])
        check_room(folder, 3 * rows.nbytes + 2**24, self.name)
        with scratch_folder(folder, self.name) as made:
            table = _written(lancedb, made, rows)
            lists = 1 if codec == "HNSW_SQ" else _lists(len(rows))
            config = _config(codec, pieces, lists)
            if config is not None:
                table.create_index("vector", config=config)
                _check_indexed(table, codec, len(rows))
            return LanceIndex(table, made, codec, rows.shape[1], pieces, lists)


class LanceIndex:
    """A table of LanceDB's in a folder of its own, which `close` removes."""

    def __init__(
        self, table: Any, folder: Path, codec: str, width: int, pieces: int, lists: int
    ) -> None:
        self._table, self._folder, self._codec, self._width = table, folder, codec, width
        self.bytes_per_vector = _bytes_of_codes(codec, width, pieces)
        self.efforts: tuple[int, ...] = ()
        if codec == "HNSW_SQ":
            self.efforts = _EFS
        elif codec != "flat":
            powers = (2**i for i in range(lists.bit_length()))
            self.efforts = tuple(dict.fromkeys((*powers, lists)))
        self._end = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d); see `Index.search`."""
        queries = usable_queries(queries, k, self._width)
        effort = chosen_effort(effort, self.efforts)
        found = np.full((len(queries), k), -1, dtype=np.int64)
        with native_failures("lancedb", self._folder):
            start = time.perf_counter()
            for first in range(0, len(queries), _ASKED):
                block = queries[first : first + _ASKED]
                hits = self._asked(block, k, effort).to_arrow()
                _fill(found[first : first + len(block)], hits)
            seconds = time.perf_counter() - start
        return Found(found, seconds / len(queries))

    def _asked(self, block: np.ndarray, k: int, effort: int) -> Any:
        asked = self._table.search(block, vector_column_name="vector").distance_type("dot").limit(k)
        if self._codec == "HNSW_SQ":
            asked = asked.ef(max(effort, k))
        elif effort:
            asked = asked.nprobes(effort)
        return asked.select(["id", "_distance"])

    def close(self) -> None:
        """Remove the table's folder."""
        self._end()


def _fill(found: np.ndarray, hits: Any) -> None:
    """Write hits, best first within each query, into rows found (m, k)."""
    ids = hits["id"].to_numpy()
    if "query_index" not in hits.column_names:  # of one query there is no list of lists
        found[0, : len(ids)] = ids
        return
    asked = hits["query_index"].to_numpy()
    for row in range(len(found)):
        mine = ids[asked == row]
        found[row, : len(mine)] = mine


def _check_codec(codec: str, count: int, width: int) -> int:
    """Return the pieces of a product code, 0 for other codes.

    Raises
    ------
    CodeError
        The code cannot hold rows of this width, or cannot be learnt from so few.
    """
    if codec == "IVF_RQ" and width % 8:
        raise CodeError(
            f"LanceDB's IVF_RQ needs a dimension that 8 divides; got {width}: take IVF_SQ, or fewer "
            "dimensions"
        )
    if not codec.startswith("IVF_PQ"):
        return 0
    named = codec.removeprefix("IVF_PQ")
    pieces = int(named) if named else max(1, width // (8 if width % 16 else 16))
    if pieces > width or width % pieces:
        raise CodeError(
            f"LanceDB's {codec} cuts rows into {pieces} equal pieces, and {width} dimensions have no such; "
            "name a number that divides them, as in IVF_PQ8"
        )
    if count < _CENTRES:
        raise CodeError(
            f"LanceDB learns a product code from {_CENTRES} rows or more; got {count}: take IVF_SQ"
        )
    return pieces


def _lists(count: int) -> int:
    """Return the inverted lists of so many rows: their square root, and none of fewer than 256 rows."""
    return max(1, min(math.isqrt(count), count // _ROWS_A_LIST))


def _config(codec: str, pieces: int, lists: int) -> Any:
    index = require("lancedb.index", "lancedb")
    options = {"distance_type": "dot", "num_partitions": lists}
    if pieces:
        return index.IvfPq(num_sub_vectors=pieces, **options)
    if codec == "IVF_SQ":
        return index.IvfSq(**options)
    if codec == "IVF_RQ":
        return index.IvfRq(num_bits=1, **options)
    if codec == "HNSW_SQ":
        return index.HnswSq(m=_LINKS, ef_construction=_CANDIDATES, **options)
    return None


def _written(lancedb: Any, folder: Path, rows: np.ndarray) -> Any:
    arrow = require("pyarrow", "lancedb")
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.ravel()), rows.shape[1])
    columns = {"id": arrow.array(np.arange(len(rows))), "vector": vectors}
    return lancedb.connect(str(folder)).create_table("rows", arrow.table(columns))


def _check_indexed(table: Any, codec: str, count: int) -> None:
    """Raise a CodeError if LanceDB left rows out of the index: it then looks at their floats."""
    stats = table.index_stats("vector_idx")
    if stats is None or stats.num_indexed_rows != count:
        raise CodeError(
            f"LanceDB left {count} rows out of its {codec} index: they are too few; give more, or take flat"
        )


def _bytes_of_codes(codec: str, width: int, pieces: int) -> float:
    if pieces:
        return float(pieces)
    if codec == "IVF_RQ":
        return width / 8 + 3 * 4.0  # codes, and a row's add, scale and error factors
    return width * (4.0 if codec == "flat" else 1.0)
