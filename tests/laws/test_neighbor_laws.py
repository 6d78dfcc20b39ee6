"""Laws of the search: brute force, ties, and what leaves the nearest item the nearest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modgap.decisions import neighbors
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT
from modgap.decisions.neighbors import margins, nearest, nearest_candidates

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)

# Sixteenths in [-2, 2]: sums and products of a few are exact in float32, so equal is equal.
exact = st.integers(-32, 32).map(lambda v: v / 16)
seeds = st.integers(0, 2**31)


@st.composite
def grid_clouds(draw, width=3):
    """Clouds on a coarse grid, full of ties and copies; no row is zero."""
    shape = (draw(st.integers(1, 5)), width), (draw(st.integers(1, 24)), width)
    queries, gallery = (draw(hnp.arrays(np.float64, s, elements=exact)) for s in shape)
    for cloud in (queries, gallery):
        cloud[~cloud.any(axis=1)] = 1.0
    return queries, gallery


def losses(queries, gallery, metric):
    """Float64, the smallest is the nearest; exact on the grid but for cosine."""
    if metric == "euclidean":
        return ((queries[:, None] - gallery[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        queries, gallery = (
            z / np.linalg.norm(z, axis=1, keepdims=True) for z in (queries, gallery)
        )
    return -(queries[:, None] * gallery[None]).sum(axis=2)


@given(clouds=grid_clouds(), k=st.integers(1, 24), dtype=st.sampled_from(["float32", "float64"]))
@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_the_k_nearest_are_those_of_a_full_sort_ties_to_the_lower_index(metric, clouds, k, dtype):
    queries, gallery = clouds
    k = min(k, len(gallery))
    found = nearest(queries.astype(dtype), gallery.astype(dtype), k=k, metric=metric)
    expected = np.argsort(losses(queries, gallery, metric), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.indices, expected)


@given(clouds=grid_clouds(), k=st.integers(1, 24))
def test_by_cosine_too_but_for_the_rounding_of_lengths(clouds, k):
    queries, gallery = clouds
    k = min(k, len(gallery))
    found = nearest(queries, gallery, k=k, metric="cosine")
    sorted_losses = np.sort(losses(queries, gallery, "cosine"), axis=1)[:, :k]
    np.testing.assert_allclose(-found.scores, sorted_losses, atol=1e-14)
    for row in found.indices:
        assert len(set(row.tolist())) == k


@given(clouds=grid_clouds(), seed=seeds, queries_a_block=st.integers(1, 4))
@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_blocks_change_nothing(metric, clouds, seed, queries_a_block):
    queries, gallery = clouds
    k = 1 + seed % len(gallery)
    whole = nearest(queries, gallery, k=k, metric=metric)
    before = neighbors._QUERY_BLOCK, neighbors._SCORE_ELEMENTS
    neighbors._QUERY_BLOCK, neighbors._SCORE_ELEMENTS = queries_a_block, 512 * (1 + seed % 7)
    try:
        parts = nearest(queries, gallery, k=k, metric=metric)
    finally:
        neighbors._QUERY_BLOCK, neighbors._SCORE_ELEMENTS = before
    np.testing.assert_array_equal(parts.indices, whole.indices)
    np.testing.assert_array_equal(parts.scores, whole.scores)


@given(clouds=grid_clouds(), k=st.integers(1, 24))
@pytest.mark.parametrize("metric", METRICS)
def test_fewer_neighbours_are_the_first_of_more(metric, clouds, k):
    queries, gallery = clouds
    k = min(k, len(gallery))
    every = nearest(queries, gallery, k=len(gallery), metric=metric)
    np.testing.assert_array_equal(
        nearest(queries, gallery, k=k, metric=metric).indices, every.indices[:, :k]
    )


@given(clouds=grid_clouds(), seed=seeds)
@pytest.mark.parametrize("metric", METRICS)
def test_scores_do_not_depend_on_the_order_of_the_gallery(metric, clouds, seed):
    queries, gallery = clouds
    order = np.random.default_rng(seed).permutation(len(gallery))
    first = nearest(queries, gallery, k=len(gallery), metric=metric)
    second = nearest(queries, gallery[order], k=len(gallery), metric=metric)
    np.testing.assert_array_equal(first.scores, second.scores)
    for one, other in zip(first.indices, second.indices, strict=True):
        assert sorted(order[other].tolist()) == sorted(one.tolist())


@given(clouds=grid_clouds(), shift=hnp.arrays(np.float64, 3, elements=exact))
def test_a_common_shift_keeps_distances(clouds, shift):
    queries, gallery = clouds
    n = len(gallery)
    first, second = (
        nearest(queries, gallery, k=n, metric="euclidean"),
        nearest(queries + shift, gallery + shift, k=n, metric="euclidean"),
    )
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)


@given(clouds=grid_clouds(), scale=st.sampled_from([0.25, 2.0, 1024.0]))
@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_the_length_of_a_query_decides_nothing(metric, clouds, scale):
    queries, gallery = clouds
    n = len(gallery)
    first = nearest(queries, gallery, k=n, metric=metric).indices
    np.testing.assert_array_equal(
        nearest(scale * queries, gallery, k=n, metric=metric).indices, first
    )


@given(clouds=grid_clouds())
@pytest.mark.parametrize("metric", METRICS)
def test_an_item_is_its_own_nearest_or_has_a_copy_before_it(metric, clouds):
    gallery = clouds[1]
    found = nearest(gallery, gallery, metric=metric)
    if metric == "euclidean":
        np.testing.assert_array_equal(found.scores, 0)
        np.testing.assert_array_equal(gallery[found.indices[:, 0]], gallery)
        assert (found.indices[:, 0] <= np.arange(len(gallery))).all()
    else:  # by inner product a longer item may be nearer
        own = -losses(gallery, gallery, metric)[np.arange(len(gallery)), np.arange(len(gallery))]
        assert (found.scores[:, 0] >= own - 1e-14).all()


@given(clouds=grid_clouds())
@pytest.mark.parametrize("metric", METRICS)
def test_one_more_item_never_pushes_the_nearest_away(metric, clouds):
    queries, gallery = clouds
    fewer = nearest(queries, gallery[:-1] if len(gallery) > 1 else gallery, metric=metric).scores
    more = nearest(queries, gallery, metric=metric).scores
    better = more <= fewer if metric == "euclidean" else more >= fewer
    assert better.all()


@given(clouds=grid_clouds())
@pytest.mark.parametrize("metric", METRICS)
def test_margins_are_what_lies_between_the_first_two(metric, clouds):
    queries, gallery = clouds
    found = margins(queries, gallery, metric=metric)
    assert (found >= 0).all()
    if len(gallery) == 1:
        assert np.isinf(found).all()
        return
    scores = nearest(queries, gallery, k=2, metric=metric).scores
    np.testing.assert_array_equal(found, np.abs(scores[:, 0] - scores[:, 1]))


@given(clouds=grid_clouds(), k=st.integers(1, 24))
@pytest.mark.parametrize("metric", METRICS)
def test_candidates_of_all_queries_are_a_gallery(metric, clouds, k):
    queries, gallery = clouds
    k = min(k, len(gallery))
    own = np.tile(gallery, (len(queries), 1, 1))
    shared = nearest(queries, gallery, k=k, metric=metric)
    each = nearest_candidates(queries, own, k=k, metric=metric)
    np.testing.assert_array_equal(each.indices, shared.indices)
    np.testing.assert_array_equal(each.scores, shared.scores)


@given(seed=seeds)
def test_a_rotation_keeps_all_rankings(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.normal(size=(6, 8)), rng.normal(size=(20, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    for metric in METRICS:
        first = nearest(queries, gallery, k=20, metric=metric)
        second = nearest(queries @ turn, gallery @ turn, k=20, metric=metric)
        # Random reals: margins lie far above the rounding of 1e-15.
        np.testing.assert_array_equal(first.indices, second.indices)
        np.testing.assert_allclose(first.scores, second.scores, atol=1e-13)


@given(seed=seeds)
def test_rows_of_one_length_rank_alike_by_every_metric(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.normal(size=(6, 8)), rng.normal(size=(20, 8))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    found = [nearest(queries, gallery, k=20, metric=metric).indices for metric in METRICS]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])
