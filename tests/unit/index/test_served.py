"""What to write and what to ask with: the same ranking as the closure's own maps, written anew or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.closers import METHODS
from modgap.errors import ArgumentError, ClosureError
from modgap.index import Served

#: Closers that an index needs not be written anew for: they move the queries, and all items by one vector.
QUERIES_ALONE = {"orthogonal", "affine", "scaled"}


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Images that search ten class texts, which span nine dimensions of 128."""
    sample = modgap.load_sample()
    return sample.images[:40], np.ascontiguousarray(sample.texts[0])


@pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean"])
@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs != "pairs"])
@pytest.mark.filterwarnings("ignore::modgap.errors.ClosureWarning")
def test_an_index_that_stands_ranks_as_one_written_anew(
    method: str, metric: str, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    queries, gallery = clouds
    closure = modgap.fit(method, queries, gallery, metric=metric)
    fresh = Served(closure)
    assert fresh.reencode == (method not in QUERIES_ALONE)
    if fresh.reencode:
        with pytest.raises(ClosureError, match="anew") as caught:
            Served(closure, existing=True)
        assert fresh.note == str(caught.value)
        return
    served = Served(closure, existing=True)
    way = closure.comparison
    anew = modgap.nearest(fresh.queries(queries), fresh.gallery(gallery), k=5, metric=way)
    stands = modgap.nearest(served.queries(queries), served.gallery(gallery), k=5, metric=way)
    np.testing.assert_array_equal(stands.indices, anew.indices)
    # What stands in the index is what the caller has, of unit length under cosine.
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    np.testing.assert_allclose(
        served.gallery(gallery), unit if metric == "cosine" else gallery, rtol=1e-6
    )


def test_the_note_says_what_to_do(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    note = Served(modgap.fit("affine", *clouds)).note
    assert note == (
        "`affine` needs no item written anew: an index of rows of unit length that compares by inner "
        "product or cosine stays, and the queries are mapped"
    )
    assert "build the index anew" in Served(modgap.fit("balanced", *clouds)).note


def test_a_collection_is_written_in_blocks_each_row_by_its_modality(tmp_path: Path) -> None:
    sample = modgap.load_sample()
    images, texts = sample.images[:50], sample.texts[1]
    closure = modgap.closers.calibrate(sample.images[50:90], {"image": images, "text": texts})
    items = np.concatenate([images, texts]).astype(np.float32)
    kinds = ["image"] * len(images) + ["text"] * len(texts)
    np.save(tmp_path / "items.npy", items)
    served = Served(closure)
    whole = closure.apply_gallery(items, kinds)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    starts, blocks = zip(*served.blocks(mapped, kinds, size=17), strict=True)
    assert list(starts) == [0, 17, 34, 51]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    alone = np.concatenate([block for _, block in served.blocks(images, "image", size=17)])
    np.testing.assert_array_equal(alone, whole[:50])
    assert served.reencode
    with pytest.raises(ClosureError, match="build the index anew"):
        Served(closure, existing=True)
    with pytest.raises(ClosureError, match="say which one the rows are"):
        served.gallery(items)


def test_a_modality_without_a_map_for_it(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    served = Served(modgap.fit("affine", *clouds))
    with pytest.raises(ArgumentError, match="`modality` goes with a closure of a mixed collection"):
        served.gallery(clouds[1], "text")


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_what_is_written_is_float32(dtype: type, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    served = Served(modgap.fit("affine", *clouds))
    for found in (served.queries(clouds[0].astype(dtype)), served.gallery(clouds[1].astype(dtype))):
        assert found.dtype == np.float32
        assert found.flags.c_contiguous


#: How each engine takes its word.
TAKES: dict[str, tuple[str, Callable[[Any, str], object]]] = {
    "faiss": ("faiss", lambda faiss, word: faiss.IndexFlat(8, getattr(faiss, word))),
    "hnswlib": ("hnswlib", lambda hnswlib, word: hnswlib.Index(space=word, dim=8)),
    "qdrant": ("qdrant_edge", lambda edge, word: getattr(edge.Distance, word)),
    "usearch": ("usearch.index", lambda index, word: index.Index(ndim=8, metric=word)),
}


@pytest.mark.parametrize("engine", TAKES)
@pytest.mark.parametrize("metric", ["ip", "euclidean"])
def test_engines_take_the_word_for_the_comparison(
    engine: str, metric: str, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    module, takes = TAKES[engine]
    package = pytest.importorskip(module, reason=f"{module} is not installed")
    takes(package, Served(modgap.fit("affine", *clouds, metric=metric)).distance(engine))


def test_an_engine_without_the_comparison(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    served = Served(modgap.fit("center", *clouds))
    assert served.distance("pgvector") == "vector_cosine_ops"
    with pytest.raises(ArgumentError, match="faiss has no cosine"):
        served.distance("faiss")
    with pytest.raises(ArgumentError, match=r"`engine` must be one of faiss, .*; got 'milvus'"):
        served.distance("milvus")
