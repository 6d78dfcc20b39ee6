"""Engines inside the process: what they find, what they store it in, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from modgap import load_sample
from modgap.errors import ArgumentError, CodeError, CodeWarning, FormatError, ShapeError
from modgap.index.presets import PRESETS
from modgap.index.registry import ENGINES, codec_of, engine

EMBEDDED = ("faiss", "usearch", "hnswlib")
for _package in EMBEDDED:
    pytest.importorskip(_package, reason=f"{_package} is not installed")


@pytest.fixture(scope="module")
def rows():
    images = np.asarray(load_sample().images, dtype=np.float32)
    return images / np.linalg.norm(images, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def queries():
    texts = np.asarray(load_sample().texts, dtype=np.float32).reshape(-1, 128)
    return texts / np.linalg.norm(texts, axis=1, keepdims=True)


@pytest.fixture
def build(rows, tmp_path):
    def of(word, x=rows, seed=0):
        name, codec = codec_of(word)
        return engine(name).build(x, codec, seed=seed, folder=tmp_path)

    return of


def exact(queries, rows, k):
    return np.argsort(-(queries.astype(np.float64) @ rows.T), axis=1, kind="stable")[:, :k]


def recall(truth, found):
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth, found, strict=True)])


@pytest.mark.parametrize(
    "word", ["faiss-flat", "usearch-f32", "hnswlib", "faiss-hnsw", "faiss-ivf"]
)
def test_floats_at_the_most_work_find_nearly_all(build, queries, rows, word):
    found = build(word).search(queries, 10)
    assert found.rows.shape == (len(queries), 10)
    assert found.rows.dtype == np.int64
    assert recall(exact(queries, rows, 10), found.rows) > 0.99
    assert found.seconds > 0


@pytest.mark.parametrize("word", ["faiss-1bit", "usearch-b1"])
def test_one_bit_is_the_hamming_distance_of_signs(build, queries, rows, word):
    index = build(word)
    assert index.bytes_per_vector == 16
    differing = ((queries[:, None] > 0) != (rows[None] > 0)).sum(axis=2)
    found = np.take_along_axis(differing, index.search(queries, 10).rows, axis=1)
    np.testing.assert_array_equal(found, np.sort(differing, axis=1)[:, :10])


@pytest.mark.parametrize(
    ("word", "size"),
    [("faiss-sq8", 128), ("faiss-sq4", 64), ("faiss-fp16", 256), ("faiss-rabitq", 24),
     ("faiss:HNSW16,SQ4", 64), ("faiss:IVF,SQ8", 128), ("usearch-bf16", 256), ("usearch:HNSW,i8", 128)],
)  # fmt: skip
def test_bytes_are_those_of_the_code(build, word, size):
    assert build(word).bytes_per_vector == size


@pytest.mark.parametrize("word", ["faiss-hnsw", "faiss-ivf", "usearch:HNSW,f32", "hnswlib"])
def test_more_effort_is_more_work_and_finds_more(build, queries, rows, word):
    index = build(word)
    assert list(index.efforts) == sorted(set(index.efforts))
    least, most = (index.search(queries, 10, index.efforts[i]) for i in (0, -1))
    truth = exact(queries, rows, 10)
    assert recall(truth, least.rows) < recall(truth, most.rows)
    if word != "hnswlib":
        assert 10 <= least.computations < most.computations <= len(rows) + 32


def test_scores_are_inner_products_whatever_the_rows_lengths(build, queries, rows):
    long = rows * np.linspace(0.2, 5, len(rows), dtype=np.float32)[:, None]
    truth = exact(queries, long, 10)
    for word in ("faiss-flat", "usearch-f32", "hnswlib"):
        assert recall(truth, build(word, long).search(queries, 10).rows) > 0.97


@pytest.mark.filterwarnings("ignore::modgap.errors.CodeWarning")
def test_the_same_seed_is_the_same_index(build, queries):
    for word in ("faiss:PQ16", "faiss:IVF,SQ8", "hnswlib"):
        first, second = (build(word, seed=3).search(queries[:40], 5).rows for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_one_query_is_a_batch_too(build, queries):
    for word in ("faiss-sq8", "usearch-i8", "usearch:HNSW,f32", "hnswlib"):
        assert build(word).search(queries[:1], 5).rows.shape == (1, 5)


def test_fewer_than_asked_end_in_minus_one(build, rows, queries):
    for word in ("faiss-hnsw", "usearch-f32", "hnswlib"):
        found = build(word, rows[:6]).search(queries[:3], 9).rows
        assert (np.sort(found[:, :6], axis=1) == np.arange(6)).all()
        assert (found[:, 6:] == -1).all()


def test_too_few_rows_to_learn_from(build, rows):
    with pytest.raises(CodeError, match="FAISS cannot store 100 rows of dimension 128 as 'PQ16'"):
        build("faiss:PQ16", rows[:100])
    with pytest.warns(CodeWarning, match="FAISS trains PQ16 on 300 rows and wants at least"):
        build("faiss:PQ16", rows[:300])


class TestAnIndexFile:
    @pytest.fixture
    def path(self, rows, tmp_path):
        import faiss

        index = faiss.index_factory(128, "HNSW16,SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.add(rows)
        faiss.write_index(index, str(tmp_path / "mine.faiss"))
        return str(tmp_path / "mine.faiss")

    def test_is_searched_as_it_is(self, path, rows, queries):
        faiss = engine("faiss")
        assert faiss.opens(path)
        assert not faiss.opens("HNSW16,SQ8")
        index = faiss.open(path, count=1000, width=128)
        assert (index.bytes_per_vector, index.efforts[0]) == (128, 10)
        assert recall(exact(queries, rows, 10), index.search(queries, 10).rows) > 0.95

    def test_of_other_rows_is_refused(self, path):
        with pytest.raises(ShapeError, match="1000 rows of dimension 128, but the gallery has 999"):
            engine("faiss").open(path, count=999, width=128)

    def test_broken_or_absent_is_refused(self, path, tmp_path):
        with pytest.raises(FormatError, match="no file at"):
            engine("faiss").open("absent.faiss", count=1000, width=128)
        (tmp_path / "cut.faiss").write_bytes(b"IHNs" + b"\0" * 20)
        with pytest.raises(FormatError, match="holds no index of FAISS"):
            engine("faiss").open(str(tmp_path / "cut.faiss"), count=1000, width=128)


class TestWords:
    @pytest.mark.parametrize(
        ("word", "says"),
        [
            ("qdrant-binery", "did you mean qdrant-binary?"),
            ("fais:SQ8", "must begin with an engine, one of faiss, .*; did you mean faiss?"),
            ("faiss:", "names no codec"),
            ("", "must be ENGINE:CODEC or one of faiss-flat"),
        ],
    )
    def test_a_wrong_codec_gives_a_hint(self, word, says):
        if "qdrant" in word and "qdrant-binary" not in PRESETS:
            pytest.skip("this engine is not here")
        with pytest.raises(ArgumentError, match=says.replace("?", r"\?")):
            codec_of(word)

    def test_a_wrong_engine_gives_a_hint(self):
        with pytest.raises(ArgumentError, match=r"must be one of faiss.*did you mean usearch\?"):
            engine("usearhc")

    @pytest.mark.parametrize("word", ["faiss:Nonsense", "usearch:f31", "hnswlib:f16"])
    def test_an_engine_says_which_codecs_it_has(self, build, word):
        with pytest.raises(ArgumentError, match="`codec`"):
            build(word)

    def test_every_preset_is_a_codec_of_an_engine(self, build, rows):
        assert {name for name, _ in PRESETS.values()} <= set(ENGINES)
        for name in EMBEDDED:
            for codec in engine(name).codecs:
                assert codec_of(f"{name}:{codec}") == (name, codec)
