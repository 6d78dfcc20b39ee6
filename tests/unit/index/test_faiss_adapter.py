"""A closure inside FAISS: raw rows on both sides, plain faiss after writing, and indexes that stand."""

from __future__ import annotations

import resource

import numpy as np
import pytest

import modgap
from modgap import closers, load_sample
from modgap.errors import ArgumentError, ClosureError, FormatError, ShapeError
from modgap.index.existing import map_for_existing

faiss = pytest.importorskip("faiss")

from modgap.index.faiss_adapter import FaissIndex, over_existing  # noqa: E402

D = 24
IP, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


@pytest.fixture
def clouds(rng):
    mixing = rng.normal(size=(D, D)) / np.arange(1, D + 1) ** 0.5
    gallery = (rng.normal(size=(400, D)) @ mixing).astype(np.float32)
    queries = (rng.normal(size=(120, D)) @ mixing.T + 1).astype(np.float32)
    return queries, gallery


def apply_chain(index, rows):
    """What somebody without modgap does to add rows."""
    for i in range(index.chain.size()):
        rows = faiss.downcast_VectorTransform(index.chain.at(i)).apply(rows)
    return rows


@pytest.mark.parametrize("factory", ["Flat", "HNSW16,Flat", "OPQ4,IVF4,SQfp16"])
def test_two_lines_and_plain_faiss_finds_what_was_nearest(clouds, tmp_path, factory):
    queries, gallery = clouds
    closure = closers.fit("balanced", queries, gallery)
    inner = faiss.index_factory(D, factory, IP)
    index = FaissIndex(closure, inner).add(gallery[:300])
    if "IVF" in factory:
        faiss.extract_index_ivf(inner).nprobe = 4
    path, maps = index.write(tmp_path / "photos.faiss")
    assert maps.name == "photos.gallery.faiss"

    read = faiss.read_index(str(path))
    assert isinstance(read, faiss.IndexPreTransform)
    assert read.ntotal == 300
    read_maps = faiss.read_index(str(maps))
    more = apply_chain(read_maps, gallery[300:])
    if factory.startswith("OPQ"):  # a chain of the index's own comes after ours
        more = faiss.downcast_VectorTransform(read.chain.at(read.chain.size() - 1)).apply(more)
    read.index.add(more)
    index.add(gallery[300:])
    exact = modgap.nearest(queries, gallery, k=1).indices[:, 0]
    for found in (
        read.search(queries, 1),
        index.search(queries, 1),
        index.served.search(queries, 1),
    ):
        agreement = np.mean(found[1][:, 0] == exact)
        assert agreement == 1.0 if factory == "Flat" else agreement > 0.97


def test_scores_are_those_of_the_mapped_rows(clouds):
    queries, gallery = clouds
    closure = closers.fit("affine", queries, gallery[:9], metric="euclidean", reduce=True)
    index = FaissIndex(closure, faiss.IndexFlatL2(closure.queries.output_width)).add(gallery[:9])
    scores, rows = index.search(queries, 9)
    mapped = closure.apply_queries(queries)[:, None] - closure.apply_gallery(gallery[:9])[rows]
    np.testing.assert_allclose(scores, np.sum(mapped**2, axis=-1), rtol=1e-4)


def test_cosine_is_the_product_of_unit_rows(clouds):
    queries, gallery = clouds
    closure = closers.fit("erase", queries, gallery)
    index = FaissIndex(closure, faiss.IndexFlatIP(D)).add(gallery)
    expected = modgap.nearest(
        closure.apply_queries(queries), closure.apply_gallery(gallery)
    ).indices
    np.testing.assert_array_equal(index.search(queries, 1)[1], expected)


def test_a_mixed_collection_has_a_map_a_modality(clouds, tmp_path):
    queries, gallery = clouds
    closure = closers.calibrate(queries, {"image": gallery[:200], "text": gallery[200:] + 3})
    index = FaissIndex(closure, faiss.IndexIDMap(faiss.IndexFlatIP(D)))
    index.add(gallery[200:] + 3, "text", ids=np.arange(200, 400))
    names = ["image"] * 100 + ["text"] * 2
    index.add(gallery[:102], names, ids=np.r_[0:100, 1000, 1001])
    mapped = np.concatenate([closure.apply_gallery(gallery[200:] + 3, "text"),
                             closure.apply_gallery(gallery[:102], names)])  # fmt: skip
    expected = modgap.nearest(closure.apply_queries(queries), mapped, k=3, metric="ip").indices
    np.testing.assert_array_equal(
        index.search(queries, 3)[1], np.r_[200:400, 0:100, 1000, 1001][expected]
    )
    names = [path.name for path in index.write(tmp_path / "all.faiss")]
    assert names == ["all.faiss", "all.gallery_image.faiss", "all.gallery_text.faiss"]
    assert apply_chain(faiss.read_index(str(tmp_path / "all.gallery_text.faiss")), gallery[:1]) == (
        pytest.approx(closure.apply_gallery(gallery[:1], "text"), abs=1e-6)
    )
    with pytest.raises(ClosureError, match="say which one the rows are"):
        index.add(gallery)


class TestExisting:
    """Rows stay as they are, and only queries are mapped."""

    @pytest.mark.parametrize(
        ("method", "metric", "compare"),
        [("affine", "cosine", "ip"), ("affine", "euclidean", "euclidean"),
         ("scaled", "euclidean", "euclidean"), ("orthogonal", "euclidean", "euclidean"),
         ("orthogonal", "cosine", "ip")],
    )  # fmt: skip
    def test_rankings_are_those_of_the_closure(self, method, metric, compare, clouds):
        queries, gallery = clouds
        items = gallery[:12] / np.linalg.norm(gallery[:12], axis=1, keepdims=True)
        closure = closers.fit(method, queries, items, metric=metric)
        standing = faiss.IndexFlat(D, IP if compare == "ip" else L2)
        standing.add(items)
        found = over_existing(closure, standing).search(queries, 4)[1]
        mapped = closure.apply_queries(queries), closure.apply_gallery(items)
        expected = modgap.nearest(*mapped, k=4, metric=compare).indices
        assert np.mean(found == expected) > 0.99  # float32 ties

    def test_it_helps_where_items_are_few_and_coded(self, clouds):
        """The captions of the sample in 4 bits: what noise of the codes no answer depends on is gone."""
        sample = load_sample()
        images, texts = sample.images, sample.texts[0]
        standing = faiss.IndexScalarQuantizer(
            images.shape[1], faiss.ScalarQuantizer.QT_4bit_uniform, IP
        )
        standing.train(texts)
        standing.add(texts)
        exact = modgap.nearest(images, texts).indices
        closure = closers.fit("affine", images, texts)
        before = np.mean(standing.search(images, 1)[1] == exact)
        after = np.mean(over_existing(closure, standing).search(images, 1)[1] == exact)
        assert after > before + 0.01

    def test_it_is_written_and_shares_its_rows(self, clouds, tmp_path):
        queries, gallery = clouds
        closure = closers.fit("affine", queries, gallery[:12])
        standing = faiss.IndexFlatIP(D)
        over = over_existing(closure, standing)
        standing.add(gallery[:12] / np.linalg.norm(gallery[:12], axis=1, keepdims=True))
        over.ntotal = standing.ntotal
        faiss.write_index(over, str(tmp_path / "over.faiss"))
        read = faiss.read_index(str(tmp_path / "over.faiss"))
        np.testing.assert_array_equal(read.search(queries, 3)[1], over.search(queries, 3)[1])

    @pytest.mark.parametrize("method", ["balanced", "center", "standardize", "erase"])
    def test_a_gallery_that_changes_shape_is_written_anew(self, method, clouds):
        closure = closers.fit(method, *clouds)
        with pytest.raises(ClosureError, match=rf"`{method}` changes the stored rows by more than"):
            over_existing(closure, faiss.IndexFlatIP(D))

    def test_a_mixed_collection_is_written_anew(self, clouds):
        closure = closers.calibrate(clouds[0], {"image": clouds[1], "text": clouds[1] + 1})
        with pytest.raises(ClosureError, match=r"calibrate.* build the index anew"):
            map_for_existing(closure)

    @pytest.mark.parametrize(
        ("method", "metric"), [("none", "cosine"), ("recenter", "ip"), ("recenter", "euclidean")]
    )
    def test_where_nothing_is_gained_it_says_so(self, method, metric, clouds):
        with pytest.raises(ClosureError, match=rf"`{method}` moves no query against the rows"):
            map_for_existing(closers.fit(method, *clouds, metric=metric))


class TestMistakes:
    def test_another_comparison(self, clouds):
        closure = closers.fit("balanced", *clouds)
        with pytest.raises(
            ClosureError, match=r"inner product, .* make it with faiss.METRIC_INNER"
        ):
            FaissIndex(closure, faiss.IndexFlatL2(D))

    def test_another_width(self, clouds):
        with pytest.raises(ShapeError, match="must take rows of dimension 24; its own is 8"):
            FaissIndex(closers.fit("recenter", *clouds), faiss.IndexFlatIP(8))

    def test_an_index_that_holds_rows(self, clouds):
        index = faiss.IndexFlatIP(D)
        index.add(clouds[1])
        with pytest.raises(
            ArgumentError, match="must be empty; it holds 400 rows: use over_existing"
        ):
            FaissIndex(closers.fit("recenter", *clouds), index)

    def test_no_index(self, clouds):
        with pytest.raises(ArgumentError, match=r"must be a faiss\.Index; got a str"):
            FaissIndex(closers.fit("recenter", *clouds), "PQ8")

    def test_queries_of_another_width(self, clouds):
        index = FaissIndex(closers.fit("recenter", *clouds), faiss.IndexFlatIP(D))
        with pytest.raises(ShapeError, match=r"`queries` must have dimension 24; got \(120, 8\)"):
            index.search(clouds[0][:, :8], 1)

    def test_a_disk_that_is_full(self, clouds, tmp_path):
        queries, gallery = clouds
        index = FaissIndex(closers.fit("recenter", queries, gallery), faiss.IndexFlatIP(D))
        index.add(gallery)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        try:
            with pytest.raises(FormatError, match="cannot write"):
                index.write(tmp_path / "photos.faiss")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []
