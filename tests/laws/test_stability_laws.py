"""Laws of stability: symmetries of the exact integral, noise on the queries, certificates, Fact 5."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgap import closers
from modgap.decisions.certificates import certified_radius
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT, as_metric
from modgap.decisions.neighbors import nearest
from modgap.errors import ClosureWarning
from modgap.robustness.integral import win_probability
from modgap.robustness.noise import Gaussian, Uniform
from modgap.robustness.sampling import sample_decisions
from modgap.robustness.systems import System

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)
EXACT = ("none", "recenter", "orthogonal", "affine")
SEEDS = st.integers(0, 2**31)
#: The integral differs from the truth by less than 1e-5: two values of it by twice that.
CLOSE = 2e-5

# By inner product the tables are made in no time. By Euclidean distance those of many dimensions are
# made faster, and every new reach of the offsets makes new ones: fewer examples.
few = settings(max_examples=12)
widths = {"euclidean": 300, "ip": 12}


def clouds(seed, metric="euclidean", *, n=6, m=8):
    """Clouds of a few wide dimensions and many narrow ones, apart from each other."""
    rng = np.random.default_rng(seed)
    d = widths.get(metric, 12)
    scales = np.where(np.arange(d) < 8, 1.0, 0.03)
    gallery = rng.normal(size=(n, d)) * scales * rng.uniform(0.3, 2)
    queries = rng.normal(size=(m, d)) * scales + rng.normal(size=d) * scales * 2
    return queries, gallery


def every_item(queries, gallery):
    return np.tile(np.arange(len(gallery)), (len(queries), 1))


def fit(method, queries, gallery, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        return closers.fit(method, queries, gallery, **options)


def exact_stability(closure, queries, gallery, decided, sigmas):
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    return win_probability(y, x, decided, sigmas, metric=closure.comparison)


# --- The exact integral ----------------------------------------------------------------------------


any_noise = given(seed=SEEDS, sigma=st.sampled_from([0.1, 0.6]))


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
class TestSymmetries:
    @few
    @any_noise
    def test_the_order_of_items_orders_the_answer(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        order = np.random.default_rng(seed).permutation(len(gallery))
        every = every_item(queries, gallery)
        first = win_probability(queries, gallery, every, [sigma], metric=metric)
        second = win_probability(queries, gallery[order], every, [sigma], metric=metric)
        np.testing.assert_allclose(second, first[:, :, order], atol=1e-9)

    @few
    @any_noise
    def test_a_rotation_changes_nothing(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        d = queries.shape[1]
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
        every = every_item(queries, gallery)
        first = win_probability(queries, gallery, every, [sigma], metric=metric)
        second = win_probability(queries @ turn, gallery @ turn, every, [sigma], metric=metric)
        np.testing.assert_allclose(second, first, atol=1e-9)

    @few
    @any_noise
    def test_a_common_shift_changes_no_distance(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        step = np.random.default_rng(seed).normal(size=queries.shape[1])
        every = every_item(queries, gallery)
        first = win_probability(queries, gallery, every, [sigma], metric=metric)
        # By inner product a shift of the gallery adds one constant to all scores of a query.
        moved = queries if metric == "ip" else queries + step
        second = win_probability(moved, gallery + step, every, [sigma], metric=metric)
        np.testing.assert_allclose(second, first, atol=1e-9)

    @few
    @any_noise
    def test_all_items_share_one(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        found = win_probability(
            queries, gallery, every_item(queries, gallery), [sigma], metric=metric
        )[0]
        assert ((found >= 0) & (found <= 1)).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)

    @few
    @any_noise
    def test_nearer_items_win_more_often(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        every = every_item(queries, gallery)
        order = nearest(queries, gallery, k=len(gallery), metric=metric).indices
        found = win_probability(queries, gallery, every, [sigma], metric=metric)[0]
        ranked = np.take_along_axis(found, order, axis=1)
        assert np.diff(ranked, axis=1).max() < CLOSE

    @few
    @any_noise
    def test_another_item_takes_from_all_others(self, metric, seed, sigma):
        queries, gallery = clouds(seed, metric)
        fewer = win_probability(
            queries, gallery[:-1], every_item(queries, gallery[:-1]), [sigma], metric=metric
        )
        more = win_probability(
            queries, gallery, every_item(queries, gallery[:-1]), [sigma], metric=metric
        )
        assert (more - fewer).max() < CLOSE


@few
@given(seed=SEEDS)
@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_more_noise_never_helps_the_decision(metric, seed):
    queries, gallery = clouds(seed, metric)
    decided = nearest(queries, gallery, metric=metric).indices[:, 0]
    sigmas = np.geomspace(0.01, 10, 6)
    found = win_probability(queries, gallery, decided, sigmas, metric=metric)
    # Errors of neighbouring levels are alike, so their difference is far smaller than each.
    assert np.diff(found, axis=0).max() < 5e-6


@given(seed=SEEDS, scale=st.floats(0.1, 10), sigma=st.sampled_from([0.1, 0.6]))
def test_by_inner_product_the_length_of_a_query_does_not_matter(seed, scale, sigma):
    queries, gallery = clouds(seed, "ip")
    decided = nearest(queries, gallery, metric="ip").indices[:, 0]
    first = win_probability(queries, gallery, decided, [sigma], metric="ip")
    second = win_probability(scale * queries, gallery, decided, [sigma], metric="ip")
    np.testing.assert_allclose(second, first, atol=1e-9)


# --- Fact 2 and 3: sides, and noise on the queries -----------------------------------------------------


@few
@given(seed=SEEDS, alpha=st.floats(-0.5, 2))
def test_fact_2_the_side_that_moves_does_not_matter_under_noise_on_the_gallery(seed, alpha):
    queries, gallery = clouds(seed)
    decided = nearest(queries, gallery, metric="euclidean").indices[:, 0]
    either = [
        exact_stability(
            fit("orthogonal", queries, gallery, alpha=alpha, side=side, metric="euclidean"),
            queries,
            gallery,
            decided,
            [0.5],
        )
        for side in ("gallery", "queries")
    ]
    np.testing.assert_allclose(*either, atol=1e-9)


def sampled_winners(system, noise, draws, seed=0):
    """The item that each query finds, draw by draw, (draws, m)."""
    m, n = system.queries.shape[0], system.gallery.shape[0]
    every = np.tile(np.arange(n), (m, 1))
    found = []
    for draw in range(draws):
        wins = sample_decisions([system], [every], [noise], draws=1, seed=seed + draw)
        found.append(wins[0][0].wins.argmax(axis=1))
    return np.array(found)


def after_closing(method, queries, gallery, metric, **options):
    closure = fit(method, queries, gallery, metric=metric, **options)
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    return System(y, x, closure.comparison)


SAME_SPACE = (
    ("recenter", {}),
    ("orthogonal", {}),
    ("orthogonal", {"alpha": 1.7, "side": "queries"}),
    ("affine", {}),
    ("affine", {"alpha": 0.4}),
)


class TestNoiseOnTheQueries:
    """Fact 3: whatever is added to the queries, as they are stored, exact closers change nothing.

    The sampler draws the same noise for every system of one shape.
    """

    @given(seed=SEEDS, size=st.floats(0.01, 5), kind=st.sampled_from([Gaussian, Uniform]))
    @pytest.mark.parametrize(("method", "options"), SAME_SPACE)
    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_fact_3_draw_by_draw(self, metric, method, options, seed, size, kind):
        queries, gallery = clouds(seed, "ip", m=20)
        noise = kind(size, side="queries")
        plain = sampled_winners(System(queries, gallery, as_metric(metric)), noise, 3)
        closed = sampled_winners(
            after_closing(method, queries, gallery, metric, **options), noise, 3
        )
        # The noise is float32: now and then a margin lies below its rounding.
        assert (plain != closed).mean() <= 1 / 60

    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_fact_3_on_real_embeddings(self, metric, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")[::4].astype(np.float64)
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64)
        noise = Gaussian(0.04, side="queries")
        plain = sampled_winners(System(images, texts, as_metric(metric)), noise, 4)
        assert (plain != plain[0]).any()  # the noise does flip answers
        for method, options in SAME_SPACE:
            closed = sampled_winners(
                after_closing(method, images, texts, metric, **options), noise, 4
            )
            assert (plain != closed).mean() < 2e-3, method

    def test_fact_3_fails_for_closers_that_are_not_exact(self, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")[::4].astype(np.float64)
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64)
        noise = Gaussian(0.04, side="queries")
        plain = sampled_winners(System(images, texts, EUCLIDEAN), noise, 4)
        for method, options in (
            ("mean-shift", {}),
            ("orthogonal", {"n_components": 2}),
            ("affine", {"n_components": 2}),
        ):
            closed = sampled_winners(
                after_closing(method, images, texts, "euclidean", **options), noise, 4
            )
            assert (plain != closed).mean() > 0.01, method

    def test_noise_on_the_gallery_is_another_matter(self, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")[::4].astype(np.float64)
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64)
        noise = Gaussian(0.04)
        plain = sampled_winners(System(images, texts, EUCLIDEAN), noise, 4)
        closed = sampled_winners(after_closing("affine", images, texts, "euclidean"), noise, 4)
        assert (plain != closed).mean() > 0.1


# --- Fact 5: distance from the hull --------------------------------------------------------------------


def heights(queries, gallery):
    """Distance of each query from aff(gallery), by SVD."""
    rows = gallery - gallery.mean(axis=0)
    _, sizes, lines = np.linalg.svd(rows, full_matrices=False)
    axes = lines[sizes > 1e-9 * sizes[0]]
    step = queries - gallery.mean(axis=0)
    return np.linalg.norm(step - step @ axes.T @ axes, axis=1)


class TestDistanceFromTheHull:
    @few
    @given(seed=SEEDS, sigma=st.sampled_from([0.2, 0.8]))
    def test_fact_5_all_else_equal_the_further_query_is_the_less_stable(self, seed, sigma):
        queries, gallery = clouds(seed, m=1)
        closure = fit("affine", queries, gallery, metric="euclidean")
        inside = closure.apply_queries(queries) + gallery.mean(axis=0)
        free = np.linalg.svd(gallery - gallery.mean(axis=0))[2][-1]  # at right angles to the hull
        path = inside + np.linspace(0, 8, 7)[:, None] * free
        np.testing.assert_allclose(heights(path, gallery), np.linspace(0, 8, 7), atol=1e-9)
        decided = nearest(path, gallery, metric="euclidean").indices[:, 0]
        assert (decided == decided[0]).all()
        found = win_probability(path, gallery, decided, [sigma], metric="euclidean")[0]
        assert np.diff(found).max() < 1e-6

    @given(seed=SEEDS, sigma=st.sampled_from([0.2, 0.8]), alpha=st.floats(-1, 3))
    def test_fact_5_by_inner_product_projecting_is_never_worse(self, seed, sigma, alpha):
        queries, gallery = clouds(seed, "ip")
        decided = nearest(queries, gallery, metric="ip").indices[:, 0]
        best = exact_stability(
            fit("affine", queries, gallery, metric="ip"), queries, gallery, decided, [sigma]
        )
        for method, options in (
            ("none", {}),
            ("recenter", {}),
            ("orthogonal", {"alpha": alpha}),
            ("orthogonal", {"alpha": alpha, "side": "gallery"}),
            ("affine", {"alpha": alpha}),
        ):
            closure = fit(method, queries, gallery, metric="ip", **options)
            other = exact_stability(closure, queries, gallery, decided, [sigma])
            assert (best - other).min() > -1e-6

    def test_by_inner_product_moving_the_gallery_changes_nothing(self):
        queries, gallery = clouds(3, "ip")
        decided = nearest(queries, gallery, metric="ip").indices[:, 0]
        closure = fit("orthogonal", queries, gallery, metric="ip", side="gallery")
        assert np.abs(closure.apply_gallery(gallery) - gallery).max() > 0.1
        plain = win_probability(queries, gallery, decided, [0.5], metric="ip")
        moved = exact_stability(closure, queries, gallery, decided, [0.5])
        np.testing.assert_allclose(moved, plain, atol=1e-9)

    @pytest.mark.parametrize(
        ("folder", "first", "second"),
        [
            ("caltech101_clip_vitb32", "images.npy", "texts.npy"),
            ("cifar10_openclip_vitb32_laion2b", "images.npy", "texts.npy"),
            ("coco_clip_vitb16", "images.npy", "texts.npy"),
        ],
    )
    def test_fact_5_on_real_embeddings_query_by_query(self, folder, first, second, real_data):
        queries = real_data(folder, first)[::5].astype(np.float64)
        gallery = real_data(folder, second).astype(np.float64)
        gallery = gallery[-1] if gallery.ndim == 3 else gallery
        decided = nearest(queries, gallery, metric="euclidean").indices[:, 0]
        sigmas = [0.022, 0.04]
        found, away = {}, {}
        for method in EXACT:
            closure = fit(method, queries, gallery, metric="euclidean")
            found[method] = exact_stability(closure, queries, gallery, decided, sigmas)
            y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
            away[method] = heights(y, x)
        for method in ("none", "recenter", "orthogonal"):
            assert (found["affine"] - found[method]).min() > -1e-6
        np.testing.assert_allclose(found["recenter"], found["none"], atol=1e-9)
        # Orthogonal helps exactly the queries whose offset from the hull it shortens.
        gain = found["orthogonal"] - found["none"]
        shorter = away["orthogonal"] < away["none"]
        assert gain[:, shorter].min() > -1e-6
        assert shorter.mean() > 0.9  # on real clouds: nearly all of them
        if (~shorter).any():
            assert gain[:, ~shorter].max() < 1e-6
        assert gain.mean() > 0

    def test_fact_5_orthogonal_hurts_some_queries_of_a_wide_cloud(self):
        # The gap is a mean: in a cloud wider than it is away, some queries are taken further.
        rng = np.random.default_rng(0)
        gallery = np.concatenate([rng.normal(size=(6, 8)), np.zeros((6, 292))], axis=1)
        queries = np.concatenate(
            [rng.normal(size=(40, 8)), rng.normal(size=(40, 292)) * 0.1], axis=1
        )
        queries[:, 20] += rng.normal(size=40) * 3 + 1
        decided = nearest(queries, gallery, metric="euclidean").indices[:, 0]
        closure = fit("orthogonal", queries, gallery, metric="euclidean")
        moved = closure.apply_gallery(gallery)
        gain = (
            win_probability(queries, moved, decided, [0.5], metric="euclidean")
            - win_probability(queries, gallery, decided, [0.5], metric="euclidean")
        )[0]
        shorter = heights(queries, moved) < heights(queries, gallery)
        assert 0 < shorter.sum() < 40
        assert gain[shorter].min() > -1e-6
        assert gain[~shorter].max() < 1e-6
        assert gain.min() < -0.01
        assert gain.mean() > 0


# --- Certificates ------------------------------------------------------------------------------------


@given(seed=SEEDS, share=st.floats(0, 0.999))
@pytest.mark.parametrize(
    ("metric", "side"),
    [
        ("euclidean", "gallery"),
        ("ip", "gallery"),
        ("euclidean", "queries"),
        ("ip", "queries"),
        ("cosine", "queries"),
    ],
)
def test_no_perturbation_below_the_certificate_changes_a_decision(metric, side, seed, share):
    queries, gallery = clouds(seed, "ip")
    radius = certified_radius(queries, gallery, metric=metric, side=side)
    before = System(queries, gallery, as_metric(metric)).decisions
    rng = np.random.default_rng(seed)
    if side == "queries":
        step = rng.normal(size=queries.shape)
        step *= (share * radius / np.linalg.norm(step, axis=1))[:, None]
        after = System(queries + step, gallery, as_metric(metric)).decisions
    else:
        own = np.tile(gallery, (len(queries), 1, 1))
        step = rng.normal(size=own.shape)
        step *= (share * radius)[:, None, None] / np.linalg.norm(step, axis=2, keepdims=True)
        after = System(queries, own + step, as_metric(metric)).decisions
    np.testing.assert_array_equal(after, before)


@given(seed=SEEDS)
@pytest.mark.parametrize("side", ["gallery", "queries"])
def test_exact_closers_keep_or_raise_what_is_certified(side, seed):
    # On the queries nothing changes; on the gallery the projection brings queries closer, and the
    # difference of two distances grows.
    queries, gallery = clouds(seed, "ip")
    before = certified_radius(queries, gallery, side=side, metric="euclidean")
    closure = fit("affine", queries, gallery, metric="euclidean")
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    after = certified_radius(y, x, side=side, metric="euclidean")
    if side == "queries":
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-12)
    else:
        assert (after - before).min() > -1e-12
