"""The measures on real embeddings: published facts, an independent prototype, direct loops."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from modgap import measures as gap
from modgap.measures import cloud as geometry
from modgap.measures import look

PAIRED = ("coco_clip_vitb16", "coco_clip_vitb16_untrained")


def clouds(real_data, name):
    return real_data(name, "images.npy"), real_data(name, "texts.npy")


def codes(*arrays, **options):
    return [remark.code for remark in look(*arrays, **options)]


def unit(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def coco(real_data):
    return gap.measure(*clouds(real_data, "coco_clip_vitb16"), paired=True)


@pytest.fixture(scope="module")
def untrained(real_data):
    return gap.measure(*clouds(real_data, "coco_clip_vitb16_untrained"), paired=True)


class TestCoco:
    """CLIP ViT-B/16, 500 pairs; published figures and a prototype's, to their three digits."""

    def test_gap(self, coco):
        assert coco.centroid_gap == pytest.approx(0.851, abs=5e-4)
        assert coco.relative_modality_gap == pytest.approx(0.591, abs=5e-4)

    def test_recall_in_both_directions(self, coco):
        assert coco.relative_alignment.a_to_b == pytest.approx(0.552, abs=1e-12)
        assert coco.relative_alignment.b_to_a == pytest.approx(0.506, abs=1e-12)

    def test_one_plane_tells_images_from_texts(self, coco):
        assert coco.linear_separability == 1.0

    def test_the_gap_is_far_above_the_sampling_floor(self, coco):
        assert coco.centroid_gap > 15 * coco.centroid_gap_floor

    def test_pairs_are_nearer_than_the_cone_alone(self, coco):
        assert coco.paired_cosine == pytest.approx(0.310, abs=5e-4)
        assert coco.matched_mismatched_margin == pytest.approx(0.148, abs=5e-4)

    def test_the_gap_is_not_more_orthogonal_than_a_random_direction(self, coco):
        # Plain figures against the claim of global orthogonality: the clouds vary 2.5 and 3.4 times
        # as much along g as along an average direction, and their differences lean to it more.
        ratio = coco.gap_variance_ratio
        assert (ratio.queries, ratio.gallery) == pytest.approx((2.518, 3.425), abs=5e-4)
        for cosines in (coco.difference_cosines.queries, coco.difference_cosines.gallery):
            assert cosines.mean_abs > 1.5 * cosines.expected_mean_abs


class TestUntrained:
    """The same network before training: two cones, apart from the start."""

    def test_the_cones_lie_apart_before_training(self, untrained):
        assert untrained.centroid_gap == pytest.approx(1.136, abs=5e-4)
        assert untrained.relative_modality_gap == pytest.approx(0.748, abs=5e-4)
        assert untrained.queries.mean_cosine > 0.6
        assert untrained.gallery.mean_cosine > 0.6

    def test_nothing_is_aligned(self, untrained):
        assert untrained.matched_mismatched_margin == pytest.approx(0, abs=2e-3)
        assert untrained.relative_alignment.mutual <= 0.01


class TestDirectly:
    """The same figures by another road: all pairs at once, and SciPy."""

    @pytest.mark.parametrize("name", PAIRED)
    def test_figures_match_full_matrices(self, name, real_data):
        images, texts = clouds(real_data, name)
        a, b = unit(images), unit(texts)
        n = len(a)
        off = ~np.eye(n, dtype=bool)
        within = [((1 - u @ u.T) / 2)[off].mean() for u in (a, b)]
        between = ((1 - (a * b).sum(1)) / 2).mean()
        assert gap.relative_modality_gap(images, texts) == pytest.approx(
            between / (between + sum(within) / 2), rel=1e-11
        )
        cross = a @ b.T
        assert gap.matched_mismatched_margin(images, texts) == pytest.approx(
            np.diag(cross).mean() - cross[off].mean(), abs=1e-13
        )
        for given, u in ((images, a), (texts, b)):
            squares = 2 - 2 * (u @ u.T)[off]
            assert geometry.uniformity(given) == pytest.approx(
                math.log(np.exp(-2 * squares).mean()), rel=1e-11
            )

    def test_frechet_matches_scipy(self, real_data):
        from scipy import linalg

        images, texts = clouds(real_data, "coco_clip_vitb16")
        a, b = unit(images), unit(texts)
        # 500 rows in 512 dimensions: the covariances are singular. The nuclear norm of the product
        # of the centred rows is the same trace without a square root of a singular matrix.
        nuclear = linalg.svdvals((a - a.mean(0)) @ (b - b.mean(0)).T).sum() / len(a)
        expected = a.var(0).sum() + b.var(0).sum() - 2 * nuclear
        assert gap.frechet_distance(images, texts).shape == pytest.approx(expected, rel=1e-9)

    def test_separability_is_scikit_learn_s(self, real_data):
        models = pytest.importorskip("sklearn.linear_model")
        from modgap.measures.distributions import fit_probe

        images, texts = (unit(x)[:, :40] for x in clouds(real_data, "coco_clip_vitb16"))
        model = models.LogisticRegression(tol=1e-9, max_iter=5000).fit(
            np.concatenate([images, texts]), np.repeat([1, 0], 500)
        )
        found = fit_probe(images, texts, penalty=1.0)
        np.testing.assert_allclose(found[:-1], model.coef_[0], rtol=1e-4, atol=1e-5)
        assert found[-1] == pytest.approx(model.intercept_[0], rel=1e-4, abs=1e-5)

    def test_float32_and_float64_agree(self, real_data):
        images, texts = clouds(real_data, "coco_clip_vitb16")
        narrow = gap.measure(images, texts, paired=True)
        wide = gap.measure(images.astype(np.float64), texts.astype(np.float64), paired=True)
        for name in ("centroid_gap", "relative_modality_gap", "linear_separability", "alignment"):
            assert getattr(narrow, name) == pytest.approx(getattr(wide, name), rel=1e-12)
        assert narrow.gallery.uniformity == pytest.approx(wide.gallery.uniformity)


class TestClassTexts:
    """Small galleries: few texts, so a gap by chance alone, and more room outside their span."""

    @pytest.mark.parametrize("template", range(4))
    def test_caltech_templates(self, template, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[template]
        found = gap.measure(images, texts)
        assert found.gallery.rank == 37
        assert found.residual_gap_curve.components[-1] == 37
        # Between the last template's .952 and the first's .941; a random direction keeps .963.
        assert 0.94 < found.residual_gap_curve.ratios[-1] < 0.955
        assert 0.95 < found.centroid_gap < 0.97
        assert 0.07 < found.centroid_gap_floor < 0.09

    def test_a_template_makes_the_texts_more_alike_and_the_gap_no_smaller(self, real_data):
        texts = real_data("caltech101_clip_vitb32", "texts.npy")
        images = real_data("caltech101_clip_vitb32", "images.npy")
        spread = [geometry.total_variance(t) for t in texts]
        assert min(spread) == spread[3]
        gaps = [gap.centroid_gap(images, t) for t in texts]
        assert max(gaps) - min(gaps) < 0.02

    def test_cifar10(self, real_data):
        images = real_data("cifar10_openclip_vitb32_laion2b", "images.npy")
        texts = real_data("cifar10_openclip_vitb32_laion2b", "texts.npy")[0]
        found = gap.measure(images, texts)
        assert found.centroid_gap == pytest.approx(0.936, abs=5e-4)
        assert found.gallery.rank == 9
        assert found.residual_gap_curve.ratios[-1] == pytest.approx(0.974, abs=5e-4)
        assert found.hubness.k == 5
        assert found.linear_separability == 1.0


class TestRemarks:
    """What `look` says about real sets: what is so, and nothing else."""

    @pytest.mark.parametrize("turned", [False, True])
    def test_coco_was_stored_in_half_precision(self, turned, real_data):
        images, texts = clouds(real_data, "coco_clip_vitb16")
        pair = (texts, images) if turned else (images, texts)
        for paired in (False, True):
            (found,) = look(*pair, paired=paired)
            assert (found.code, found.severity) == ("half-precision", "note")
        for rows in pair:
            np.testing.assert_array_equal(rows.astype(np.float16).astype(np.float32), rows)

    def test_an_untrained_network_relates_nothing(self, real_data):
        images, texts = clouds(real_data, "coco_clip_vitb16_untrained")
        assert codes(images, texts, paired=True) == ["unrelated-pairs"]
        assert codes(images, texts) == ["unrelated-clouds"]

    @pytest.mark.parametrize("template", range(4))
    def test_caltech_has_nothing_to_remark(self, template, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[template]
        labels = real_data("caltech101_clip_vitb32", "labels.npy")
        for metric in ("cosine", "ip", "euclidean"):
            assert look(images, texts, labels=labels, metric=metric) == ()
        assert codes(images, texts, labels=(labels + 1) % 38) == ["chance"]
        assert codes(texts, images) == ["full-rank"]

    def test_cifar10_has_ten_texts(self, real_data):
        images = real_data("cifar10_openclip_vitb32_laion2b", "images.npy")
        texts = real_data("cifar10_openclip_vitb32_laion2b", "texts.npy")[0]
        labels = real_data("cifar10_openclip_vitb32_laion2b", "labels.npy")
        assert codes(images, texts, labels=labels) == ["few-items"]

    def test_photos_span_the_space(self, real_data):
        images = real_data("photos_clip_vitb32", "images.npy")
        texts = real_data("photos_clip_vitb32", "texts.npy")
        for queries, gallery in ((texts, images), (images, texts)):
            (found,) = look(queries, gallery)
            assert (found.code, found.count) == ("full-rank", 512)

    def test_sides_of_different_models_are_noticed(self, real_data):
        models = ("coco_clip_vitb16", "coco_clip_vitb16_untrained", "photos_clip_vitb32")
        for images, texts in permutations(models, 2):
            pair = real_data(images, "images.npy"), real_data(texts, "texts.npy")
            assert "unrelated-clouds" in codes(*pair), (images, texts)

    def test_a_set_of_one_model_and_another_subject_is_let_pass(self, real_data):
        photos = real_data("photos_clip_vitb32", "images.npy")
        objects = real_data("caltech101_clip_vitb32", "images.npy")
        texts = real_data("photos_clip_vitb32", "texts.npy")
        assert codes(objects, texts) == ["full-rank"]
        assert codes(photos[:500], texts) == ["full-rank"]
