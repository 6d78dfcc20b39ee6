"""Laws of closers: exactness on real clouds, equivariance, idempotence, the path of alpha."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgap import closers
from modgap.decisions import neighbors
from modgap.errors import ClosureWarning

#: `balanced` has laws of its own.
METHODS = {name: known for name, known in closers.METHODS.items() if name != "balanced"}
METRICS = ("euclidean", "ip", "cosine")
EXACT = ("none", "recenter", "orthogonal", "affine")
ALPHA = ("orthogonal", "affine")
SEEDS = st.integers(0, 2**31)
D = 9


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def clouds(seed, *, rows=12, rank=4):
    """Paired clouds apart from each other; the gallery spans `rank` of nine dimensions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
    gallery = rng.normal(size=(rows, rank)) @ basis[:, :rank].T * rng.uniform(0.3, 2)
    queries = rng.normal(size=(rows, D)) * rng.uniform(0.3, 2)
    return queries + rng.normal(size=D), gallery + rng.normal(size=D)


def fit(method, queries, gallery, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        return closers.fit(method, queries, gallery, **{"metric": "euclidean", **options})


def nearest(queries, gallery, *, k=1, metric="euclidean"):
    return neighbors.nearest(queries, gallery, k=k, metric=metric)


def decisions(closure, queries, gallery):
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    return nearest(y, x, metric=closure.comparison).indices[:, 0]


# --- Fact 1 and 2 on real clouds ---------------------------------------------------------------------

REAL = {
    "coco images to texts": ("coco_clip_vitb16", "images.npy", "texts.npy"),
    "coco texts to images": ("coco_clip_vitb16", "texts.npy", "images.npy"),
    "caltech": ("caltech101_clip_vitb32", "images.npy", "texts.npy"),
    "cifar10": ("cifar10_openclip_vitb32_laion2b", "images.npy", "texts.npy"),
}


@pytest.fixture(params=REAL)
def real_clouds(request, real_data):
    """Float32, as stored; the last template where there are several."""
    folder, first, second = REAL[request.param]
    queries, gallery = real_data(folder, first), real_data(folder, second)
    return queries[:400], gallery[-1] if gallery.ndim == 3 else gallery


class TestRealClouds:
    @pytest.mark.parametrize("metric", METRICS)
    def test_fact_1_exact_closers_change_no_decision(self, metric, real_clouds):
        queries, gallery = real_clouds
        before = nearest(queries, gallery, k=2, metric=metric)
        for method, options in (
            ("orthogonal", {"alpha": 2.0, "side": "queries"}),
            ("affine", {}),
            ("affine", {"alpha": 0.5}),
            ("affine", {"reduce": True}),
        ):
            closure = fit(method, queries, gallery, metric=metric, **options)
            assert closure.exact
            assert closure.rank == len(gallery) - 1 < gallery.shape[1]
            changed = decisions(closure, queries, gallery) != before.indices[:, 0]
            # Rows are float32 after closing too: a margin of 1e-6 is a tie. There are next to none.
            ties = np.abs(before.scores[:, 1] - before.scores[:, 0]) < 1e-6
            assert ties.mean() < 0.01
            assert not (changed & ~ties).any(), (method, options)

    @pytest.mark.parametrize("method", ALPHA)
    def test_fact_1_fails_with_fewer_components(self, method, real_clouds):
        queries, gallery = real_clouds
        before = nearest(queries, gallery).indices[:, 0]
        closure = fit(method, queries, gallery, n_components=max(1, len(gallery) // 8))
        assert not closure.exact
        agreement = (decisions(closure, queries, gallery) == before).mean()
        assert 0 < agreement < 1

    def test_approximate_closers_change_some_decisions_and_say_so(self, real_clouds):
        queries, gallery = real_clouds
        before = nearest(queries, gallery, metric="cosine").indices[:, 0]
        for method in ("mean-shift", "center", "standardize", "realign", "erase"):
            closure = fit(method, queries, gallery, metric="cosine")
            assert not closure.exact
            agreement = (decisions(closure, queries, gallery) == before).mean()
            assert 0 <= agreement < 1, method

    def test_fact_2_either_side_may_move(self, real_clouds):
        queries, gallery = (cloud.astype(np.float64) for cloud in real_clouds)
        systems = []
        for side in ("gallery", "queries"):
            closure = fit("orthogonal", queries, gallery, side=side, alpha=1.3)
            y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
            systems.append(nearest(y, x, k=5))
        np.testing.assert_allclose(systems[0].scores, systems[1].scores, atol=1e-12)
        np.testing.assert_array_equal(systems[0].indices[:, 0], systems[1].indices[:, 0])

    def test_fact_4_renormalising_keeps_rankings_of_unit_rows_and_exact_shifts(self, real_clouds):
        queries, gallery = (unit(cloud.astype(np.float64)) for cloud in real_clouds)
        before = nearest(queries, gallery, k=3)
        for components, kept in (("all", True), (2, False)):
            closure = fit("orthogonal", queries, gallery, n_components=components)
            moved = unit(closure.apply_gallery(gallery))
            after = nearest(queries, moved, k=3)
            assert (before.indices == after.indices).all() == kept

    def test_fact_4_fails_where_rows_are_not_of_unit_length(self, real_clouds):
        queries, gallery = (cloud.astype(np.float64) for cloud in real_clouds)
        gallery = gallery * np.linspace(0.8, 1.2, len(gallery))[:, None]
        before = nearest(queries, gallery).indices
        moved = unit(fit("orthogonal", queries, gallery).apply_gallery(gallery))
        assert (nearest(queries, moved).indices != before).any()


# --- Properties over random clouds ---------------------------------------------------------------------

#: One metric of each closer, another one for the next; `standardize` looks at single coordinates.
EACH = [(m, METRICS[i % 3]) for i, m in enumerate(METHODS) if m != "standardize"]


@settings(max_examples=10)
@given(seed=SEEDS)
@pytest.mark.parametrize(("method", "metric"), EACH)
def test_a_rotation_of_the_space_turns_the_result(method, metric, seed):
    queries, gallery = clouds(seed, rank=D if method == "procrustes" else 4)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(D, D)))[0]
    plain = fit(method, queries, gallery, metric=metric)
    turned = fit(method, queries @ turn, gallery @ turn, metric=metric)
    for apply, cloud in (("apply_queries", queries), ("apply_gallery", gallery)):
        found, expected = getattr(turned, apply)(cloud @ turn), getattr(plain, apply)(cloud) @ turn
        # Procrustes inverts the smallest singular values of a 9 x 9 matrix, erase and affine those
        # of a scatter of few rows; realign stops at 1e-9.
        np.testing.assert_allclose(found, expected, atol=1e-6 * (1 + np.abs(expected).max()))


@settings(max_examples=10)
@given(seed=SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_does_not_matter(method, seed):
    queries, gallery = clouds(seed, rank=D if method == "procrustes" else 4)
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(len(queries)), rng.permutation(len(gallery))
    if METHODS[method].needs == "pairs":
        second = first
    plain, mixed = fit(method, queries, gallery), fit(method, queries[first], gallery[second])
    for apply, cloud in (("apply_queries", queries), ("apply_gallery", gallery)):
        found, expected = getattr(mixed, apply)(cloud), getattr(plain, apply)(cloud)
        np.testing.assert_allclose(found, expected, atol=1e-6 * (1 + np.abs(expected).max()))


@given(seed=SEEDS, scale=st.sampled_from([1e-3, 0.5, 40.0]))
@pytest.mark.parametrize("method", [*EXACT, "erase", "procrustes"])
def test_the_unit_of_length_does_not_matter(method, seed, scale):
    queries, gallery = clouds(seed, rank=D if method == "procrustes" else 4)
    plain, scaled = (
        fit(method, queries, gallery),
        fit(method, scale * queries, scale * gallery),
    )
    for apply, cloud in (("apply_queries", queries), ("apply_gallery", gallery)):
        found, expected = getattr(scaled, apply)(scale * cloud), getattr(plain, apply)(cloud)
        np.testing.assert_allclose(
            found / scale, expected, atol=1e-7 * (1 + np.abs(expected).max())
        )


@given(seed=SEEDS, shift=st.floats(-50, 50))
@pytest.mark.parametrize("method", EXACT)
def test_a_common_shift_keeps_all_distances_after_closing(method, seed, shift):
    queries, gallery = clouds(seed)
    step = shift * np.arange(1, D + 1) / D
    found = []
    for offset in (0.0, step):
        y, x = queries + offset, gallery + offset
        closure = fit(method, y, x)
        found.append(closure.apply_queries(y)[:, None] - closure.apply_gallery(x)[None])
    # Far from the origin the mean that goes first is one that every dtype holds, of few digits.
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@given(seed=SEEDS, alpha=st.floats(-1, 3))
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", [*ALPHA, "erase"])
def test_alpha_walks_a_straight_line(method, metric, seed, alpha):
    queries, gallery = clouds(seed)
    start, end, between = (
        fit(method, queries, gallery, metric=metric, alpha=a) for a in (0.0, 1.0, alpha)
    )
    for apply, cloud in (("apply_queries", queries), ("apply_gallery", gallery)):
        a, b, c = (getattr(closure, apply)(cloud) for closure in (start, end, between))
        np.testing.assert_allclose(c, (1 - alpha) * a + alpha * b, atol=1e-10)


@given(seed=SEEDS)
@pytest.mark.parametrize("method", EXACT)
def test_closing_twice_closes_once(method, seed):
    queries, gallery = clouds(seed)
    first = fit(method, queries, gallery)
    y, x = first.apply_queries(queries), first.apply_gallery(gallery)
    again = fit(method, y, x)
    # The mean that is taken off is kept in float32: of each coordinate that much may be left to the second.
    left = 2.0**-23 * np.abs(gallery).max()
    np.testing.assert_allclose(again.apply_queries(y), y, rtol=0, atol=left)
    np.testing.assert_allclose(again.apply_gallery(x), x, rtol=0, atol=left)


@given(seed=SEEDS)
def test_erasing_twice_finds_nothing_left(seed):
    queries, gallery = clouds(seed)
    first = fit("erase", queries, gallery)
    y, x = first.apply_queries(queries), first.apply_gallery(gallery)
    before = queries.mean(axis=0) - gallery.mean(axis=0)
    gap = y.mean(axis=0) - x.mean(axis=0)
    assert np.linalg.norm(gap) < 1e-10 * (1 + np.linalg.norm(before))


@given(seed=SEEDS, first=st.sampled_from(EXACT), second=st.sampled_from(EXACT))
def test_exact_closers_after_each_other_are_exact(seed, first, second):
    queries, gallery = clouds(seed)
    one = fit(first, queries, gallery)
    y, x = one.apply_queries(queries), one.apply_gallery(gallery)
    both = one.then(fit(second, y, x))
    assert both.exact
    before = nearest(queries, gallery, k=2)
    clear = before.scores[:, 1] - before.scores[:, 0] > 1e-9
    np.testing.assert_array_equal(
        decisions(both, queries, gallery)[clear], before.indices[clear, 0]
    )


@given(seed=SEEDS)
def test_affine_leaves_nothing_outside_the_hull_and_all_within(seed):
    queries, gallery = clouds(seed)
    closure = fit("affine", queries, gallery)
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    centred = gallery - gallery.mean(axis=0)
    axes = np.linalg.svd(centred)[2]
    # Far from the origin the mean is kept in float32: what is left of it lies on both sides.
    left = 2.0**-23 * np.sqrt(gallery.shape[1]) * np.abs(gallery).max()
    np.testing.assert_allclose(x, centred, rtol=0, atol=left)
    np.testing.assert_allclose(y @ axes[4:].T, 0, rtol=0, atol=left)
    expected = (queries - gallery.mean(axis=0)) @ axes[:4].T
    np.testing.assert_allclose(y @ axes[:4].T, expected, rtol=0, atol=left)


@given(seed=SEEDS, alpha=st.floats(0, 2))
def test_orthogonal_moves_the_gap_at_right_angles_to_the_gallery(seed, alpha):
    queries, gallery = clouds(seed)
    closure = fit("orthogonal", queries, gallery, alpha=alpha)
    step = closure.apply_gallery(gallery) - gallery
    np.testing.assert_allclose(step, np.tile(step[:1], (len(gallery), 1)), atol=1e-12)
    differences = gallery - gallery[0]
    np.testing.assert_allclose(differences @ step[0], 0, atol=1e-10)
    gap = queries.mean(axis=0) - gallery.mean(axis=0)
    # A part of the gap, and no more of it than there is.
    assert step[0] @ gap == pytest.approx(alpha * closure.info["free_share"] ** 2 * gap @ gap)


@given(seed=SEEDS, components=st.integers(1, 4))
def test_more_components_explain_more_of_the_gallery_and_free_less_of_the_gap(seed, components):
    queries, gallery = clouds(seed)
    shares = [
        fit("orthogonal", queries, gallery, n_components=k).info["free_share"]
        for k in range(1, components + 1)
    ]
    assert (np.diff(shares) <= 1e-12).all()


@given(seed=SEEDS)
def test_leace_erases_what_a_linear_classifier_could_find_with_the_least_change(seed):
    queries, gallery = clouds(seed, rank=D)
    closure = fit("erase", queries, gallery)
    both = np.concatenate([queries, gallery])
    erased = np.concatenate([closure.apply_queries(queries), closure.apply_gallery(gallery)])
    label = np.repeat([1.0, 0.0], [len(queries), len(gallery)])
    centred = erased - erased.mean(axis=0)
    np.testing.assert_allclose(centred.T @ (label - label.mean()), 0, atol=1e-9)
    # In the norm that whitens the clouds no other map that does so moves them less: the plain
    # projection along the gap moves them at least as far.
    inverse = np.linalg.inv(np.cov(both.T, ddof=0))
    gap = queries.mean(axis=0) - gallery.mean(axis=0)
    plain = both - (both - both.mean(axis=0)) @ np.outer(gap, gap) / (gap @ gap)

    def cost(moved):
        step = moved - both
        return np.einsum("ij,jk,ik->", step, inverse, step)

    assert cost(erased) <= cost(plain) * (1 + 1e-9)
