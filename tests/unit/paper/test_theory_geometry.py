"""Assumption 3.3 against its null, and Theorem 3.5 with the rank limit."""

import numpy as np
import pytest

from modgap.measures.orthogonality import gap_variance_ratio
from modgap.paper import theory


class TestOrthogonality:
    def test_ratio_is_the_gap_modules(self, rng, to_xp):
        x, y = (
            rng.normal(size=(50, 6)) @ np.diag([1, 2, 3, 4, 5, 6.0]),
            rng.normal(size=(40, 6)) + 1,
        )
        found = theory.gap_orthogonality(to_xp(x), to_xp(y))
        other = gap_variance_ratio(y, x, normalize=False)
        assert found.x.ratio == pytest.approx(other.gallery, rel=1e-10)
        assert found.y.ratio == pytest.approx(other.queries, rel=1e-10)

    def test_null_is_that_of_random_directions(self, rng):
        """The drawn null against real directions put through the definition."""
        x = rng.normal(size=(60, 8)) * np.arange(1, 9)
        y = x + rng.normal(size=8)
        covariance = np.cov(x.T, bias=True)
        units = rng.normal(size=(4000, 8))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        ratios = 8 * np.sum(units @ covariance * units, axis=1) / np.trace(covariance)
        found = theory.gap_orthogonality(x, y, draws=4000)
        expected = np.quantile(ratios, [0.5, 0.025, 0.975])
        got = [found.x.null_median, found.x.null_low, found.x.null_high]
        np.testing.assert_allclose(got, expected, rtol=0.08)  # quantiles of 4,000 draws

    def test_p_values_are_uniform_under_the_null(self, rng):
        cloud = rng.normal(size=(100, 12)) * np.arange(1, 13)
        values = [
            theory.gap_orthogonality(
                cloud, cloud + rng.normal(size=12), draws=200, seed=s
            ).x.p_value
            for s in range(200)
        ]
        assert abs(np.mean(values) - 0.5) < 0.07  # 3.4 standard errors of 200 uniform values
        assert np.mean(np.array(values) < 0.1) < 0.2

    def test_a_flat_direction_is_found(self, rng):
        x, y = rng.normal(size=(2, 100, 20))
        x[:, 0], y[:, 0] = 0.0, 3.0
        y -= y.mean(axis=0) - 3 * np.eye(20)[0]
        x -= x.mean(axis=0)
        found = theory.gap_orthogonality(x, y)
        assert found.x.ratio < 1e-20
        assert found.x.p_value == pytest.approx(1 / 2001)
        assert found.x.z_score < -10

    @pytest.mark.parametrize(
        ("folder", "gallery", "template", "ratios", "p_values"),
        [
            ("coco_clip_vitb16", "texts", None, (3.43, 2.52), (1.0, 1.0)),
            ("coco_clip_vitb16_untrained", "texts", None, (2.45, 9.42), (1.0, 1.0)),
            ("caltech101_clip_vitb32", "texts", 3, (1.26, 0.85), (0.84, 0.33)),
            ("cifar10_openclip_vitb32_laion2b", "texts", 0, (1.90, 1.50), (0.94, 0.96)),
        ],
    )
    def test_table_of_docs_theory(self, real_data, folder, gallery, template, ratios, p_values):
        images, texts = real_data(folder, "images.npy"), real_data(folder, f"{gallery}.npy")
        texts = texts if template is None else texts[template]
        found = theory.gap_orthogonality(texts, images)
        assert (found.x.ratio, found.y.ratio) == pytest.approx(ratios, abs=0.006)
        assert (found.x.p_value, found.y.p_value) == pytest.approx(p_values, abs=0.006)

    def test_real_gap_is_no_flatter_than_chance(self, real_data):
        """Against the assumption: CLIP on MS-COCO varies more along the gap than along chance."""
        images = real_data("coco_clip_vitb16", "images.npy")
        texts = real_data("coco_clip_vitb16", "texts.npy")
        found = theory.gap_orthogonality(texts, images)
        for side in (found.x, found.y):
            assert side.ratio > side.null_high
            assert side.p_value > 0.99
            assert side.ratio / 512 < 0.01  # in absolute terms under 1 % of the variance


class TestInvariance:
    def test_default_move_is_exact(self, rng, to_xp):
        gallery, queries = rng.normal(size=(5, 12)), rng.normal(size=(80, 12)) + 1
        found = theory.decision_invariance(to_xp(queries), to_xp(gallery), alpha=1.7)
        assert (found.dimension, found.rank) == (12, 4)
        assert found.predicted_change < found.rounding
        assert found.observed_change < found.rounding
        assert found.changed_decisions == 0
        assert 0 < found.gap_share < 1

    def test_any_move_changes_margins_as_predicted(self, rng):
        gallery, queries = rng.normal(size=(5, 12)), rng.normal(size=(80, 12)) + 1
        found = theory.decision_invariance(queries, gallery, rng.normal(size=12), alpha=0.8)
        assert found.observed_change == pytest.approx(found.predicted_change, abs=found.rounding)
        assert found.predicted_change > 0.1
        assert found.changed_decisions > 0

    def test_rank_limit(self, rng):
        """With r = d nothing of the gap is orthogonal to the gallery: there is no exact move."""
        gallery, queries = rng.normal(size=(40, 6)), rng.normal(size=(80, 6)) + 1
        found = theory.decision_invariance(queries, gallery)
        assert found.rank == found.dimension == 6
        assert found.gap_share < 1e-12
        assert found.offset_norm < 1e-12

    @pytest.mark.parametrize(
        ("folder", "template", "rank", "share"),
        [("coco_clip_vitb16", None, 499, 0.33), ("caltech101_clip_vitb32", 3, 37, 0.95)],
    )
    def test_real_rank_limit(self, real_data, folder, template, rank, share):
        images, texts = real_data(folder, "images.npy"), real_data(folder, "texts.npy")
        found = theory.decision_invariance(images, texts if template is None else texts[template])
        assert found.rank == rank
        assert found.changed_decisions == 0
        assert found.gap_share == pytest.approx(share, abs=0.005)
