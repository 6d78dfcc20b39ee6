"""Nearest items, top-k and margins against a search by brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core.arrays import to_numpy
from modgap.decisions import neighbors
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT
from modgap.decisions.neighbors import margins, nearest, nearest_candidates
from modgap.errors import ArgumentError, DataError, ShapeError

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)
M, N, D = 9, 7, 5

# Small integers: every product and sum is exact in float32, so equal distances are equal numbers.
GRID = np.array([-1.0, 0.0, 1.0])

# JAX compiles every operation for every shape: it runs the central tests alone.
quick = pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)


def host(x):
    return np.asarray(to_numpy(x))


def scores_of(queries, items, metric):
    """All scores, float64, one item at a time, with the sign that makes the smallest the nearest."""
    queries, items = np.asarray(queries, np.float64), np.asarray(items, np.float64)
    rows = []
    for i, y in enumerate(queries):
        own = items[i] if items.ndim == 3 else items
        if metric == "euclidean":
            rows.append([np.sqrt(np.sum((y - x) ** 2)) for x in own])
        elif metric == "ip":
            rows.append([-np.sum(y * x) for x in own])
        else:
            rows.append([-np.sum(y / np.linalg.norm(y) * (x / np.linalg.norm(x))) for x in own])
    return np.array(rows)


def brute_force(queries, items, metric, k):
    """The k best, ties to the lower index, and their scores."""
    scores = scores_of(queries, items, metric)
    order = np.argsort(scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, order, axis=1)
    return order, found if metric == "euclidean" else -found


def assert_found(found, queries, items, metric, k):
    indices, scores = brute_force(queries, items, metric, k)
    np.testing.assert_array_equal(host(found.indices), indices)
    assert host(found.indices).dtype == np.int64
    assert host(found.scores).dtype == np.float64
    # The scores are made in float64; sums of a few products in another order.
    np.testing.assert_allclose(host(found.scores), scores, rtol=1e-12, atol=1e-12)


@pytest.fixture
def clouds(rng):
    return rng.normal(size=(M, D)), rng.normal(size=(N, D))


@pytest.fixture(params=[None, 1, 3], ids=["one block", "blocks of 1", "of 3"])
def small_blocks(request, monkeypatch):
    """Blocks of a few queries and a few items, so that every seam between blocks is met."""
    if request.param is not None:
        monkeypatch.setattr(neighbors, "_QUERY_BLOCK", request.param)
        # A gallery block spans max(queries in a block, 512) times its rows.
        monkeypatch.setattr(neighbors, "_SCORE_ELEMENTS", 512 * request.param)


@pytest.mark.parametrize("metric", METRICS)
class TestAgainstBruteForce:
    @pytest.mark.parametrize("k", [1, N])
    def test_on_every_library(self, k, metric, to_xp, clouds):
        queries, gallery = clouds
        y, x = to_xp(queries), to_xp(gallery)
        found = nearest(y, x, k=k, metric=metric)
        assert type(found.indices) is type(found.scores) is type(y)
        assert_found(found, queries, gallery, metric, k)
        np.testing.assert_array_equal(host(y), queries)
        np.testing.assert_array_equal(host(x), gallery)

    @pytest.mark.parametrize("k", [1, 4, 20])
    def test_seams_between_blocks_lose_nothing(self, k, metric, small_blocks, rng):
        queries, gallery = rng.normal(size=(10, D)), rng.normal(size=(20, D))
        assert_found(nearest(queries, gallery, k=k, metric=metric), queries, gallery, metric, k)

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_narrow_floats_are_settled_in_float64(self, dtype, metric, clouds):
        queries, gallery = (cloud.astype(dtype) for cloud in clouds)
        assert_found(nearest(queries, gallery, k=3, metric=metric), queries, gallery, metric, 3)

    def test_bfloat16(self, metric, clouds):
        torch = pytest.importorskip("torch")
        queries, gallery = (torch.tensor(cloud, dtype=torch.bfloat16) for cloud in clouds)
        found = nearest(queries, gallery, k=3, metric=metric)
        assert_found(found, host(queries), host(gallery), metric, 3)

    def test_any_layout(self, metric, rng):
        wide = rng.normal(size=(40, 2 * D))
        queries, gallery = wide[:20:2, ::2], np.asfortranarray(wide[20:, 1::2])
        gallery.flags.writeable = False
        assert_found(nearest(queries, gallery, k=4, metric=metric), queries, gallery, metric, 4)

    def test_another_device(self, metric, to_other_device, clouds):
        queries, gallery = clouds
        y, x = to_other_device(queries), to_other_device(gallery)
        found = nearest(y, x, k=2, metric=metric)
        assert found.indices.device == found.scores.device == y.device
        assert_found(found, queries, gallery, metric, 2)
        assert margins(y, x, metric=metric).device == y.device
        assert margins(y, x[:1, :], metric=metric).device == y.device

    def test_real_embeddings(self, metric, real_data):
        texts = real_data("coco_clip_vitb16", "texts.npy")
        images = real_data("coco_clip_vitb16", "images.npy")
        found = nearest(texts, images, k=5, metric=metric)
        y, x = texts.astype(np.float64), images.astype(np.float64)
        if metric == "cosine":
            y, x = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (y, x))
        scores = -y @ x.T
        if metric == "euclidean":  # float64, rows of unit length: 15 digits of the squares are left
            scores = (x**2).sum(axis=1) + 2 * scores
        np.testing.assert_array_equal(found.indices, np.argsort(scores, axis=1)[:, :5])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2, 12])
class TestTies:
    """Equal scores go to the lower index, wherever the copies lie and whatever makes the product."""

    @quick
    def test_of_different_rows(self, k, metric, to_xp):
        rng = np.random.default_rng(5)
        queries = rng.choice(GRID, size=(M, 4)) + 0.0
        queries[:, 0] = 1
        gallery = np.repeat(np.eye(4), 3, axis=0)[rng.permutation(12)]
        y, x = to_xp(queries.astype("float32")), to_xp(gallery.astype("float32"))
        # Unit vectors against {-1, 0, 1}: three copies of each score at least.
        assert_found(nearest(y, x, k=k, metric=metric), queries, gallery, metric, k)

    @pytest.mark.parametrize("library", ["numpy", "torch"])
    @pytest.mark.parametrize("items", [33, 600])
    def test_copies_of_rows(self, items, library, k, metric, rng):
        # Matrix products round the same row differently in different columns of a tile.
        base = rng.normal(size=(max(2, items // 4), 16))
        gallery = base[rng.integers(0, len(base), size=items)].astype(np.float32)
        queries = rng.normal(size=(30, 16)).astype(np.float32)
        y, x = queries, gallery
        if library == "torch":
            torch = pytest.importorskip("torch")
            y, x = torch.asarray(queries), torch.asarray(gallery)
        assert_found(nearest(y, x, k=k, metric=metric), queries, gallery, metric, k)

    def test_more_copies_than_are_looked_at(self, k, metric, small_blocks, rng):
        gallery = np.tile(rng.normal(size=(1, 16)), (40, 1)).astype(np.float32)
        gallery[::7] = rng.normal(size=(6, 16))
        queries = rng.normal(size=(8, 16)).astype(np.float32)
        assert_found(nearest(queries, gallery, k=k, metric=metric), queries, gallery, metric, k)

    @quick
    def test_candidates(self, k, metric, to_xp):
        rng = np.random.default_rng(6)
        queries = rng.choice(GRID, size=(M, 4)) + 0.0
        queries[:, 0] = 1
        candidates = np.stack([np.repeat(np.eye(4), 3, axis=0)[rng.permutation(12)]] * M)
        found = nearest_candidates(to_xp(queries), to_xp(candidates), k=k, metric=metric)
        assert_found(found, queries, candidates, metric, k)


@pytest.mark.parametrize("metric", METRICS)
class TestCandidates:
    @quick
    @pytest.mark.parametrize("k", [1, 4])
    def test_each_query_has_its_own(self, k, metric, to_xp, rng):
        queries, candidates = rng.normal(size=(M, D)), rng.normal(size=(M, 4, D))
        found = nearest_candidates(to_xp(queries), to_xp(candidates), k=k, metric=metric)
        assert_found(found, queries, candidates, metric, k)

    def test_blocks_of_queries(self, metric, monkeypatch, rng):
        slices = neighbors.block_slices
        monkeypatch.setattr(
            neighbors, "block_slices", lambda rows, width: slices(rows, width, elements=2 * width)
        )
        queries, candidates = rng.normal(size=(M, D)), rng.normal(size=(M, 4, D))
        found = nearest_candidates(queries, candidates, k=2, metric=metric)
        assert_found(found, queries, candidates, metric, 2)

    def test_equal_candidates_are_a_gallery(self, metric, clouds):
        queries, gallery = clouds
        own = np.broadcast_to(gallery, (M, *gallery.shape))
        first = nearest(queries, gallery, k=3, metric=metric)
        second = nearest_candidates(queries, own, k=3, metric=metric)
        np.testing.assert_array_equal(first.indices, second.indices)


@pytest.mark.parametrize("metric", METRICS)
class TestMargins:
    @quick
    def test_the_second_against_the_first(self, metric, to_xp, clouds):
        queries, gallery = clouds
        scores = np.sort(scores_of(queries, gallery, metric), axis=1)
        found = host(margins(to_xp(queries), to_xp(gallery), metric=metric))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, scores[:, 1] - scores[:, 0], rtol=1e-10, atol=1e-12)

    @quick
    def test_one_item_cannot_be_overtaken(self, metric, to_xp, clouds):
        queries, gallery = clouds
        found = host(margins(to_xp(queries), to_xp(gallery[:1]), metric=metric))
        np.testing.assert_array_equal(found, np.full(M, np.inf))

    def test_copies_leave_no_margin(self, metric, clouds):
        queries, gallery = clouds
        twice = np.concatenate([gallery, gallery]).astype(np.float32)
        np.testing.assert_array_equal(margins(queries.astype(np.float32), twice, metric=metric), 0)


@pytest.mark.parametrize("offset", [100.0, 3e4])
def test_float32_far_from_the_origin(offset, rng):
    # Distances are of order 1, the squared norms up to 1e10: plain |y|^2 - 2 y.x + |x|^2 in float32
    # has no digit of a distance left.
    queries = (rng.normal(size=(M, D)) + offset).astype(np.float32)
    gallery = (rng.normal(size=(200, D)) + offset).astype(np.float32)
    assert_found(
        nearest(queries, gallery, k=3, metric="euclidean"), queries, gallery, "euclidean", 3
    )
    plain = (gallery**2).sum(axis=1) - 2 * queries @ gallery.T
    indices = brute_force(queries, gallery, "euclidean", 1)[0][:, 0]
    if offset > 1e4:  # the control: what the plain formula finds
        assert (plain.argmin(axis=1) != indices).any()


def test_a_zero_query_ties_by_inner_product_and_is_fine_by_distance(clouds):
    gallery = clouds[1]
    nothing = np.zeros((1, D))
    assert nearest(nothing, gallery, k=N, metric="ip").indices.tolist() == [list(range(N))]
    assert nearest(nothing, gallery, metric="euclidean").indices[0, 0] == np.argmin(
        np.linalg.norm(gallery, axis=1)
    )


class TestErrors:
    def test_k(self, clouds):
        with pytest.raises(ArgumentError, match="`k` must be between 1 and 7; got 8"):
            nearest(*clouds, k=8, metric="euclidean")
        with pytest.raises(ArgumentError, match="`k` must be between 1 and 7; got 0"):
            nearest(*clouds, k=0, metric="euclidean")
        with pytest.raises(ArgumentError, match=r"`k` must be an integer; got 1\.5"):
            nearest(*clouds, k=1.5, metric="euclidean")

    def test_a_zero_row_has_no_cosine(self, clouds):
        queries, gallery = clouds
        with pytest.raises(DataError, match=r"`queries` row 2 \(of 1 such rows\) is all zeros"):
            nearest(queries * (np.arange(M) != 2)[:, None], gallery, metric="cosine")

    def test_candidates_fit_their_queries(self, clouds, rng):
        queries = clouds[0]
        message = r"one set per query, shape \(m, c, d\); got \(8, 4, 5\) for 9 queries"
        with pytest.raises(ShapeError, match=message):
            nearest_candidates(queries, rng.normal(size=(8, 4, D)), metric="euclidean")
        with pytest.raises(
            ShapeError, match=r"must share their last axis.*\(9, 5\) and \(9, 4, 3\)"
        ):
            nearest_candidates(queries, rng.normal(size=(M, 4, 3)), metric="euclidean")
        with pytest.raises(ShapeError, match=r"`candidates` must have shape \(t, rows, d\)"):
            nearest_candidates(queries, clouds[1], metric="euclidean")
