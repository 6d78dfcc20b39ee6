"""Figures of the design on real embeddings: an independent prototype's, and sampled ones made here."""

from __future__ import annotations

import numpy as np
import pytest

from modgap import closers
from modgap._core.moments import Moments
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.decisions.neighbors import nearest
from modgap.robustness.integral import win_probability
from modgap.robustness.noise import Gaussian
from modgap.robustness.outcomes import stability

#: Exact stability of the 968 images: what the integral says, to four digits.
CALTECH = {
    ("none", 0.022): 0.7362,
    ("orthogonal", 0.022): 0.8865,
    ("affine", 0.022): 0.9479,
    ("none", 0.04): 0.3345,
    ("orthogonal", 0.04): 0.4996,
    ("affine", 0.04): 0.6395,
}
#: The prototype's, from a few draws whose noise all images share.
PROTOTYPE = {
    ("none", 0.022): 0.716,
    ("orthogonal", 0.022): 0.854,
    ("affine", 0.022): 0.946,
    ("none", 0.04): 0.308,
    ("orthogonal", 0.04): 0.554,
    ("affine", 0.04): 0.672,
}


@pytest.fixture(scope="module")
def caltech(real_data):
    return (
        real_data("caltech101_clip_vitb32", "images.npy"),
        real_data("caltech101_clip_vitb32", "texts.npy")[3],
    )


@pytest.fixture(scope="module")
def sampled(caltech):
    """Mean stability draw by draw, in plain NumPy that shares no code with the library."""
    y, x = (cloud.astype(np.float64) for cloud in caltech)
    mean = x.mean(axis=0)
    axes = np.linalg.svd(x - mean, full_matrices=False)[2][:37]  # 38 texts span 37 directions
    gap = y.mean(axis=0) - mean
    systems = {
        "none": (y, x),
        "orthogonal": (y, x + gap - (gap @ axes.T) @ axes),
        "affine": ((y - mean) @ axes.T @ axes, x - mean),
    }
    rng = np.random.default_rng(11)
    noise = rng.standard_normal((300, *x.shape), dtype=np.float32)
    found = {}
    for name, (queries, items) in systems.items():
        queries, items = queries.astype(np.float32), items.astype(np.float32)

        def decide(gallery, queries=queries):
            return (0.5 * (gallery**2).sum(axis=1) - queries @ gallery.T).argmin(axis=1)

        before = decide(items)
        for sigma in (0.022, 0.04):
            step = np.float32(sigma)
            found[name, sigma] = np.array(
                [(decide(items + step * e) == before).mean() for e in noise]
            )
    return found


class TestCaltech:
    """CLIP ViT-B/32, 968 images, 38 class texts of template 3, Euclidean distance."""

    @pytest.mark.parametrize("sigma", [0.022, 0.04])
    @pytest.mark.parametrize("method", ["none", "orthogonal", "affine"])
    def test_exact_stability_is_what_sampling_finds(self, method, sigma, caltech, sampled):
        closure = closers.fit(method, *caltech, metric="euclidean")
        outcome = stability(*caltech, Gaussian(sigma), metric="euclidean", closure=closure)
        assert outcome.estimator == "exact"
        exact = outcome.stability.mean()
        assert exact == pytest.approx(CALTECH[method, sigma], abs=1e-4)
        draws = sampled[method, sigma]
        # All images share the noise of a draw, so the draws are the independent facts.
        stderr = draws.std(ddof=1) / np.sqrt(draws.size)
        assert abs(draws.mean() - exact) < 3 * stderr
        assert stderr < 0.01

    def test_the_prototype_s_figures_lie_within_the_scatter_of_a_few_draws(self, sampled):
        # One draw scatters by .02 to .14 around the mean; the prototype's means of a few draws lie
        # within one such scatter of the truth.
        for cell, figure in PROTOTYPE.items():
            assert abs(figure - CALTECH[cell]) < sampled[cell].std(ddof=1)

    @pytest.mark.parametrize(
        ("method", "metric", "figures"),
        [
            ("none", "ip", (0.837, 0.507)),
            ("orthogonal", "ip", (0.806, 0.460)),  # worse than nothing
            ("affine", "ip", (0.981, 0.956)),
            ("scaled", "euclidean", (0.983, 0.955)),
            ("affine", "cosine", (0.981, 0.956)),
        ],
    )
    def test_stability_by_product_and_of_scaled_queries(self, caltech, method, metric, figures):
        closure = closers.fit(method, *caltech, metric=metric)
        for sigma, figure in zip((0.022, 0.04), figures, strict=True):
            outcome = stability(*caltech, Gaussian(sigma), metric=metric, closure=closure)
            assert outcome.stability.mean() == pytest.approx(figure, abs=6e-4)

    @pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean"])
    def test_closing_keeps_every_answer(self, caltech, metric):
        before = nearest(*caltech, metric=metric).indices
        for method in ("orthogonal", "affine", "scaled"):
            closure = closers.fit(method, *caltech, metric=metric)
            assert closure.exact
            assert closure.rank == 37
            y, x = closure.apply_queries(caltech[0]), closure.apply_gallery(caltech[1])
            np.testing.assert_array_equal(nearest(y, x, metric=closure.comparison).indices, before)

    def test_zero_shot_accuracy(self, real_data, caltech):
        labels = real_data("caltech101_clip_vitb32", "labels.npy")
        texts = real_data("caltech101_clip_vitb32", "texts.npy")
        for gallery, accuracy in zip(texts, (0.965, 0.970, 0.974, 0.979), strict=True):
            decided = nearest(caltech[0], gallery, metric="cosine").indices[:, 0]
            assert (decided == labels).mean() == pytest.approx(accuracy, abs=5e-4)


def recall(queries, gallery, metric):
    found = nearest(queries, gallery, metric=metric).indices[:, 0]
    return (found == np.arange(len(queries))).mean()


@pytest.fixture(scope="module")
def images(real_data):
    return real_data("coco_clip_vitb16", "images.npy")


@pytest.fixture(scope="module")
def texts(real_data):
    return real_data("coco_clip_vitb16", "texts.npy")


class TestCoco:
    """CLIP ViT-B/16, 500 pairs of image and caption."""

    def test_recall_by_cosine(self, images, texts):
        assert recall(texts, images, "cosine") == pytest.approx(0.506, abs=1e-12)
        assert recall(images, texts, "cosine") == pytest.approx(0.552, abs=1e-12)

    def test_the_gap(self, images, texts):
        closure = closers.fit("none", images, texts)
        assert closure.info["gap"] == pytest.approx(0.851, abs=5e-4)

    def test_a_plain_mean_shift_raises_stability_and_costs_a_third_of_the_answers(
        self, images, texts
    ):
        # Text to image by Euclidean distance, the images moved by all of the gap, not renormalised.
        gap = Moments.from_rows(texts).mean - Moments.from_rows(images).mean
        shift = Closure("plain shift", AffineMap(512), AffineMap(512, shift=gap))
        moved = shift.apply_gallery(images)
        assert recall(texts, images, "euclidean") == pytest.approx(0.504, abs=1e-12)
        assert recall(texts, moved, "euclidean") == pytest.approx(0.318, abs=1e-12)
        before = nearest(texts, images, metric="euclidean").indices[:, 0]
        after = nearest(texts, moved, metric="euclidean").indices[:, 0]
        assert (before == after).mean() < 0.7
        plain = win_probability(texts, images, before, [0.022], metric="euclidean").mean()
        shifted = win_probability(texts, moved, after, [0.022], metric="euclidean").mean()
        assert shifted > plain + 0.02

    def test_the_mean_shift_of_liang_renormalises_and_costs_less(self, images, texts):
        closure = closers.fit("mean-shift", texts, images, metric="euclidean")
        y, x = closure.apply_queries(texts), closure.apply_gallery(images)
        assert recall(y, x, "euclidean") == pytest.approx(0.368, abs=1e-12)
        assert not closure.exact

    @pytest.mark.parametrize("method", ["orthogonal", "affine"])
    def test_exact_closers_keep_recall(self, method, images, texts):
        for queries, gallery, figure in ((texts, images, 0.506), (images, texts, 0.552)):
            closure = closers.fit(method, queries, gallery, metric="cosine")
            assert closure.exact
            assert closure.rank == 499
            y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
            assert recall(y, x, closure.comparison) == pytest.approx(figure, abs=1e-12)

    @pytest.mark.parametrize("components", [10, 100, 0.5, 0.9])
    def test_approximate_closers_agree_in_part_and_never_claim_more(
        self, components, images, texts
    ):
        before = nearest(texts, images, metric="cosine").indices[:, 0]
        for method in ("orthogonal", "affine"):
            closure = closers.fit(method, texts, images, metric="cosine", n_components=components)
            y, x = closure.apply_queries(texts), closure.apply_gallery(images)
            agreement = (nearest(y, x, metric=closure.comparison).indices[:, 0] == before).mean()
            assert 0 < agreement < 1
            assert not closure.exact
