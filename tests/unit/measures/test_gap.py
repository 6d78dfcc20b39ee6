"""Two clouds: each measure against a double loop, SciPy or scikit-learn.

That every array library gives the same figures is tested over the whole record, in test_gap_record.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, linalg, special, stats

from modgap import measures as gap
from modgap._core import clouds as _clouds
from modgap.measures.distributions import fit_probe, probe_scores

# Sums in another order than the direct loops: a few units of float64 rounding.
CLOSE = {"rel": 1e-12, "abs": 1e-13}


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def queries(rng):
    return rng.normal(size=(12, 5)) + np.array([2.0, -1.0, 0.0, 0.0, 0.5])


@pytest.fixture
def gallery(rng):
    return rng.normal(size=(8, 5)) @ np.diag([1.0, 0.3, 2.0, 0.5, 1.0]) - 0.7


@pytest.fixture
def partners(queries, rng):
    """One row for each query, nearer to it than to the others."""
    return unit(queries) + 0.4 * rng.normal(size=queries.shape) - 0.6


class TestCentroids:
    @pytest.mark.parametrize("normalize", [True, False])
    def test_figures_match_the_definition(self, normalize, queries, gallery):
        y, x = (unit(queries), unit(gallery)) if normalize else (queries, gallery)
        my, mx = y.mean(0), x.mean(0)
        given = queries, gallery
        found = gap.gap_vector(*given, normalize=normalize)
        np.testing.assert_allclose(found, my - mx, rtol=1e-12)
        size = np.linalg.norm(my - mx)
        assert gap.centroid_gap(*given, normalize=normalize) == pytest.approx(size, **CLOSE)
        assert gap.squared_gap_per_dimension(*given, normalize=normalize) == pytest.approx(
            np.mean((my - mx) ** 2), **CLOSE
        )
        assert gap.centroid_cosine(*given, normalize=normalize) == pytest.approx(
            unit(my) @ unit(mx), **CLOSE
        )
        direction = gap.gap_direction(*given, normalize=normalize)
        np.testing.assert_allclose(direction, (my - mx) / size, rtol=1e-12)

    def test_the_gap_points_from_the_gallery_to_the_queries(self):
        x = np.array([[0.0, 1.0], [1.0, 1.0]])
        np.testing.assert_allclose(gap.gap_vector(x + np.array([3, 0]), x, normalize=False), [3, 0])

    def test_floor_is_what_two_samples_of_one_cloud_give(self, rng):
        def sample(rows):
            return rng.normal(size=(rows, 6)) * np.arange(1, 7) + 4

        squared = [
            gap.centroid_gap(sample(20), sample(7), normalize=False) ** 2 for _ in range(500)
        ]
        floors = [
            gap.centroid_gap_floor(sample(20), sample(7), normalize=False) ** 2 for _ in range(500)
        ]
        expected = (np.arange(1, 7) ** 2).sum() * (1 / 20 + 1 / 7)
        # Means of 500: standard errors near 3 % and 1.5 %.
        assert np.mean(squared) == pytest.approx(expected, rel=0.12)
        assert np.mean(floors) == pytest.approx(expected, rel=0.06)

    def test_floor_far_from_the_origin_keeps_its_digits(self, queries, gallery):
        moved = gap.centroid_gap_floor(queries + 1e6, gallery + 1e6, normalize=False)
        # Adding 1e6 costs the rows themselves 1e-10.
        assert moved == pytest.approx(
            gap.centroid_gap_floor(queries, gallery, normalize=False), abs=1e-9
        )


class TestPairs:
    def test_figures_match_loops_over_all_pairs(self, queries, partners):
        a, b = unit(queries), unit(partners)
        n = len(a)
        given = queries, partners
        matched = np.mean([a[i] @ b[i] for i in range(n)])
        wrong = np.mean([a[i] @ b[j] for i in range(n) for j in range(n) if i != j])
        distances = [math.dist(a[i], b[i]) for i in range(n)]
        assert gap.paired_cosine(*given) == pytest.approx(matched, **CLOSE)
        assert gap.paired_distance(*given) == pytest.approx(np.mean(distances), **CLOSE)
        assert gap.matched_mismatched_margin(*given) == pytest.approx(matched - wrong, **CLOSE)
        assert gap.alignment(*given) == pytest.approx(np.mean(np.square(distances)), **CLOSE)
        assert gap.alignment(*given, alpha=3) == pytest.approx(np.mean(np.power(distances, 3)))

    def test_relative_gap_matches_the_double_loop(self, queries, partners):
        a, b = unit(queries), unit(partners)
        n = len(a)

        def dissimilarity(u, v):
            return (1 - float(u @ v)) / 2

        between = sum(dissimilarity(a[i], b[i]) for i in range(n)) / n
        within = 0.0
        for i in range(n):
            for j in range(n):
                if i != j:
                    within += dissimilarity(a[i], a[j]) + dissimilarity(b[i], b[j])
        within /= 2 * n * (n - 1)
        found = gap.relative_modality_gap(queries, partners)
        assert found == pytest.approx(between / (between + within), **CLOSE)

    def test_relative_gap_of_known_clouds(self, rng):
        a = rng.normal(size=(10, 3))
        assert gap.relative_modality_gap(a, 2 * a) == pytest.approx(0, abs=1e-15)
        # Orthogonal frames, partners opposite: p = 1, q = 1/2.
        assert gap.relative_modality_gap(np.eye(4), -np.eye(4)) == pytest.approx(2 / 3)
        # Each cloud a single direction: nothing within, all between.
        point = np.ones((3, 2))
        assert gap.relative_modality_gap(point, -point) == pytest.approx(1, rel=1e-15)

    def test_raw_distances_need_no_directions(self):
        assert gap.paired_distance(np.zeros((2, 2)), np.eye(2), normalize=False) == 1.0


class TestOrthogonality:
    @pytest.mark.parametrize("normalize", [True, False])
    def test_variance_ratio_matches_projections(self, normalize, queries, gallery):
        y, x = (unit(queries), unit(gallery)) if normalize else (queries, gallery)
        g = unit(y.mean(0) - x.mean(0))
        found = gap.gap_variance_ratio(queries, gallery, normalize=normalize)
        assert found.queries == pytest.approx((y @ g).var() / y.var(0).mean(), **CLOSE)
        assert found.gallery == pytest.approx((x @ g).var() / x.var(0).mean(), **CLOSE)

    def test_variance_ratio_averages_one_over_an_orthonormal_basis(self, rng):
        x = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4))
        x = x - x.mean(0)
        ratios = [gap.gap_variance_ratio(x + 3 * e, x, normalize=False).gallery for e in np.eye(4)]
        assert np.mean(ratios) == pytest.approx(1, rel=1e-12)

    def test_a_flat_gap_has_no_variance(self, rng):
        x = rng.normal(size=(30, 3)) @ np.eye(3, 5)
        found = gap.gap_variance_ratio(x + np.eye(5)[4], x, normalize=False)
        assert found.queries == pytest.approx(0, abs=1e-15)
        assert found.gallery == pytest.approx(0, abs=1e-15)

    def test_residual_curve_matches_projection_on_sklearn_s_axes(self, queries, gallery):
        decomposition = pytest.importorskip("sklearn.decomposition")
        y, x = unit(queries), unit(gallery)
        g = y.mean(0) - x.mean(0)
        axes = decomposition.PCA(svd_solver="full").fit(x).components_
        expected = [
            np.linalg.norm(g - axes[:k].T @ (axes[:k] @ g)) / np.linalg.norm(g) for k in range(6)
        ]
        found = gap.residual_gap_curve(queries, gallery)
        assert found.components == tuple(range(6))
        assert found.ratios == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert found.expected == pytest.approx([math.sqrt(1 - k / 5) for k in range(6)])

    def test_residual_curve_takes_chosen_counts_in_their_order(self, queries, gallery):
        whole = gap.residual_gap_curve(queries, gallery)
        some = gap.residual_gap_curve(queries, gallery, ks=[3, 0, np.int64(5)])
        assert some.components == (3, 0, 5)
        assert some.ratios == tuple(whole.ratios[k] for k in (3, 0, 5))

    def test_residual_curve_ends_at_the_part_outside_the_gallery(self, rng):
        plane = rng.normal(size=(20, 3)) @ np.eye(3, 8)
        moved = plane + np.array([3.0, 0, 0, 4.0, 0, 0, 0, 0])
        found = gap.residual_gap_curve(moved, plane, normalize=False)
        assert found.components[-1] == 3
        assert found.ratios[0] == pytest.approx(1, rel=1e-14)
        assert found.ratios[-1] == pytest.approx(0.8, rel=1e-12)

    def test_small_residuals_keep_their_digits(self, rng):
        plane = rng.normal(size=(40, 3)) @ np.eye(3, 6)
        moved = plane + np.array([1.0, 2.0, 2.0, 3e-9, 0, 0])
        found = gap.residual_gap_curve(moved, plane, normalize=False)
        # Rounding of the means is 1e-16; one minus the removed share would leave about 1e-8.
        assert found.ratios[-1] == pytest.approx(1e-9, rel=1e-5)

    def test_difference_cosines_match_a_loop(self, gallery):
        g = np.array([1.0, 2.0, 0.0, -1.0, 0.5])
        x = unit(gallery)
        steps = [x[i] - x[j] for i in range(len(x)) for j in range(i)]
        cosines = np.array([unit(s) @ unit(g) for s in steps])
        lengths = np.array([s @ s for s in steps])
        found = gap.difference_cosines(gallery, g)
        assert found.mean_abs == pytest.approx(np.abs(cosines).mean(), **CLOSE)
        assert found.rms == pytest.approx(np.sqrt((cosines**2).mean()), **CLOSE)
        weighted = np.sqrt((lengths * cosines**2).sum() / lengths.sum())
        assert found.weighted_rms == pytest.approx(weighted, **CLOSE)
        assert found.rows == len(x)

    @pytest.mark.parametrize("d", [2, 3, 7, 512])
    def test_random_directions_are_what_the_record_says(self, d):
        # The density of the cosine is proportional to (1 - c^2)^((d - 3) / 2); c = sin(angle).
        top = integrate.quad(lambda a: math.sin(a) * math.cos(a) ** (d - 2), 0, math.pi / 2)[0]
        total = integrate.quad(lambda a: math.cos(a) ** (d - 2), 0, math.pi / 2)[0]
        found = gap.difference_cosines(np.eye(max(d, 2))[:3], np.eye(d)[0])
        assert found.expected_mean_abs == pytest.approx(top / total, rel=1e-7)
        assert found.expected_rms == pytest.approx(1 / math.sqrt(d))
        if d > 100:
            assert found.expected_mean_abs == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=1e-2)

    def test_isotropic_clouds_meet_the_expectation(self, rng):
        x = rng.normal(size=(600, 40))
        found = gap.difference_cosines(x, rng.normal(size=40), normalize=False)
        # Differences of one row with all others hang together: some 4 % for 600 rows.
        assert found.mean_abs == pytest.approx(found.expected_mean_abs, rel=0.12)
        assert found.rms == pytest.approx(found.expected_rms, rel=0.12)

    @pytest.mark.parametrize("rows", [3, 4, 7])
    def test_tiles_do_not_change_them(self, rows, gallery, monkeypatch):
        g = np.arange(1.0, 6.0)
        expected = gap.difference_cosines(gallery, g)
        monkeypatch.setattr(_clouds, "_TILE_ROWS", rows)
        found = gap.difference_cosines(gallery, g)
        assert found.mean_abs == pytest.approx(expected.mean_abs, rel=1e-13)
        assert found.rms == pytest.approx(expected.rms, rel=1e-13)

    def test_equal_rows_have_no_difference(self):
        x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        found = gap.difference_cosines(x, np.array([1.0, 0.0]))
        assert found.mean_abs == pytest.approx(math.sqrt(0.5), rel=1e-14)


class TestFrechet:
    @staticmethod
    def by_sqrtm(y, x):
        a, b = np.cov(y.T, ddof=0), np.cov(x.T, ddof=0)
        root = linalg.sqrtm(a)
        cross = linalg.sqrtm(root @ b @ root)
        return np.trace(a) + np.trace(b) - 2 * np.trace(np.real(cross))

    @pytest.mark.parametrize("normalize", [True, False])
    def test_matches_scipy_s_matrix_square_root(self, normalize, queries, gallery):
        y, x = (unit(queries), unit(gallery)) if normalize else (queries, gallery)
        found = gap.frechet_distance(queries, gallery, normalize=normalize)
        assert found.centroid == pytest.approx(((y.mean(0) - x.mean(0)) ** 2).sum(), **CLOSE)
        assert found.shape == pytest.approx(self.by_sqrtm(y, x), rel=1e-9)
        assert found.squared == found.centroid + found.shape
        assert found.distance == math.sqrt(found.squared)

    def test_commuting_covariances_have_a_closed_form(self, rng):
        def cloud(deviations):
            spread = np.asarray(deviations) * math.sqrt(len(deviations))
            return basis_rows * spread @ rotation

        basis_rows = np.concatenate([np.eye(4), -np.eye(4)])
        rotation = linalg.qr(rng.normal(size=(4, 4)))[0]
        s, t = np.array([1.0, 2.0, 0.5, 0.0]), np.array([2.0, 1.0, 0.0, 3.0])
        found = gap.frechet_distance(cloud(s), cloud(t), normalize=False)
        # 8 rows, two along each axis: variance 2 * 4 s^2 / 8 = s^2.
        assert found.shape == pytest.approx(((s - t) ** 2).sum(), rel=1e-12)
        assert found.centroid == pytest.approx(0, abs=1e-30)

    def test_singular_covariances_are_taken(self, rng):
        y, x = rng.normal(size=(3, 10)), rng.normal(size=(5, 10)) + 1
        found = gap.frechet_distance(y, x, normalize=False)
        centred = (y - y.mean(0)) @ (x - x.mean(0)).T / math.sqrt(3 * 5)
        nuclear = linalg.svdvals(centred).sum()
        expected = y.var(0).sum() + x.var(0).sum() - 2 * nuclear
        assert found.shape == pytest.approx(expected, rel=1e-12)

    def test_a_single_point_has_no_shape(self, queries):
        found = gap.frechet_distance(queries, queries[:1], normalize=False)
        assert found.shape == pytest.approx(queries.var(0).sum(), rel=1e-12)
        assert gap.frechet_distance(queries[:1], queries[:1]).squared == 0.0

    def test_a_cloud_is_no_distance_from_itself(self, queries):
        # The square is exact to rounding, so the distance to its root.
        found = gap.frechet_distance(queries, queries)
        assert found.squared == pytest.approx(0, abs=1e-14)


class TestSeparability:
    def clouds(self, rng, shift, m=60, n=25):
        y = rng.normal(size=(m, 4)) @ np.diag([1, 2, 0.5, 1]) + shift
        return y, rng.normal(size=(n, 4))

    def sklearn(self, y, x, penalty):
        models = pytest.importorskip("sklearn.linear_model")
        model = models.LogisticRegression(
            C=1 / penalty, class_weight="balanced", tol=1e-10, max_iter=10_000
        )
        return model.fit(np.concatenate([y, x]), np.repeat([1, 0], [len(y), len(x)]))

    @pytest.mark.parametrize("penalty", [0.01, 1.0, 50.0])
    def test_the_probe_is_scikit_learn_s(self, penalty, rng):
        y, x = self.clouds(rng, 0.8)
        model = self.sklearn(y, x, penalty)
        found = fit_probe(y, x, penalty=penalty)
        # Each L-BFGS ends at a slope of its own, near 1e-10 a row; the least curvature is the penalty.
        np.testing.assert_allclose(found[:-1], model.coef_[0], rtol=1e-4, atol=1e-6)
        assert found[-1] == pytest.approx(model.intercept_[0], rel=1e-4, abs=1e-6)

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_the_probe_s_gradient_vanishes_on_every_scale(self, scale, rng):
        y, x = self.clouds(rng, 3.0)  # separable: the penalty alone holds the weights
        y, x = scale * (y + 5), scale * (x + 5)
        w = fit_probe(y, x, penalty=1e-3 * scale**2)
        rows = np.concatenate([y, x])
        sign = np.repeat([1.0, -1.0], [60, 25])
        share = np.repeat([85 / 120, 85 / 50], [60, 25])
        pull = -share * sign * special.expit(-sign * probe_scores(rows, w))
        # The fit ends at 1e-11 a row and 85 rows, in units of the rows' size; ten times that.
        slope = rows.T @ pull + 1e-3 * scale**2 * w[:-1]
        np.testing.assert_allclose(slope / np.abs(rows).max(), 0, atol=1e-8)
        assert pull.sum() == pytest.approx(0, abs=1e-8)

    def test_accuracy_is_that_of_scikit_learn_on_the_same_split(self, rng):
        y, x = self.clouds(rng, 0.5)
        splits = []
        for side, cloud in enumerate((y, x)):
            order = np.random.default_rng((7, side)).permutation(len(cloud))
            held = round(0.25 * len(cloud))
            splits.append((cloud[order[held:]], cloud[order[:held]]))
        model = self.sklearn(splits[0][0], splits[1][0], 1.0)
        recalls = [
            np.mean(model.predict(split[1]) == label)
            for split, label in zip(splits, (1, 0), strict=True)
        ]
        found = gap.linear_separability(y, x, normalize=False, seed=7)
        assert 0.5 < found < 1
        assert found == pytest.approx(np.mean(recalls), abs=1e-15)

    def test_extremes(self, rng):
        y, x = self.clouds(rng, 0.0, m=400, n=200)
        # One cloud twice: 100 and 50 held-out rows, standard error 0.043.
        assert gap.linear_separability(x, x, normalize=False) < 0.65
        assert gap.linear_separability(y + 30, x, normalize=False) == 1.0

    def test_sizes_weigh_the_same(self, rng):
        # 400 against 8 rows of one cloud: always saying "query" would be right in 98 %.
        y = rng.normal(size=(400, 3))
        found = [gap.linear_separability(y, y[:8], seed=seed) for seed in range(10)]
        assert np.mean(found) < 0.75

    def test_two_rows_are_enough(self):
        y, x = np.array([[1.0, 0.0], [1.0, 0.1]]), np.array([[-1.0, 0.0], [-1.0, 0.1]])
        assert gap.linear_separability(y, x) == 1.0


class TestMatching:
    def test_relative_alignment_matches_a_loop(self, queries, partners):
        a, b = unit(queries), unit(partners)
        scores = a @ b.T
        n = len(a)
        forward = [int(np.argmax(scores[i])) == i for i in range(n)]
        backward = [int(np.argmax(scores[:, i])) == i for i in range(n)]
        both = [f and g for f, g in zip(forward, backward, strict=True)]
        assert 0 < sum(both) < min(sum(forward), n)  # the case is no trivial one
        found = gap.relative_alignment(queries, partners)
        assert found == gap.RelativeAlignment(np.mean(forward), np.mean(backward), np.mean(both), n)

    @pytest.mark.parametrize("metric", ["cosine", "euclidean", "ip"])
    def test_relative_alignment_follows_the_metric(self, metric, rng):
        a = rng.normal(size=(20, 3))
        b = (a + 0.2 * rng.normal(size=a.shape)) * rng.uniform(0.5, 2, size=(20, 1))
        scores = {
            "cosine": unit(a) @ unit(b).T,
            "euclidean": -((a[:, None] - b[None]) ** 2).sum(-1),
            "ip": a @ b.T,
        }
        expected = {name: np.mean(s.argmax(1) == np.arange(20)) for name, s in scores.items()}
        assert len(set(expected.values())) == 3
        assert gap.relative_alignment(a, b, metric=metric).a_to_b == expected[metric]

    def test_relative_alignment_draws_pairs(self, rng):
        a = rng.normal(size=(50, 4))
        found = gap.relative_alignment(a, 3 * a, sample=20)
        assert found == gap.RelativeAlignment(1.0, 1.0, 1.0, 20)

    def test_hubness_matches_scipy(self, queries, gallery):
        order = np.argsort(-unit(queries) @ unit(gallery).T, axis=1)[:, :3]
        expected = stats.skew(np.bincount(order.ravel(), minlength=len(gallery)))
        found = gap.hubness(queries, gallery, k=3)
        assert found.skewness == pytest.approx(expected, rel=1e-12)
        assert found.k == 3

    def test_equal_occurrences_are_no_hubs(self, queries, gallery):
        assert gap.hubness(queries, gallery, k=len(gallery)).skewness == 0.0
        assert gap.hubness(np.eye(3), np.eye(3), k=1).skewness == 0.0

    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_softmax_masses_match_scipy(self, metric, normalize, queries, gallery):
        y, x = (unit(queries), unit(gallery)) if normalize else (queries, gallery)
        m, n = len(y), len(x)
        logits = y @ x.T if metric == "ip" else -((y[:, None] - x[None]) ** 2).sum(-1)
        logits = logits / 0.3
        of_items = special.softmax(logits, axis=1).sum(0) * n / m
        of_queries = special.softmax(logits, axis=0).sum(1) * m / n
        found = gap.doubly_stochastic_deviation(
            queries, gallery, temperature=0.3, metric=metric, normalize=normalize
        )
        assert found.gallery_max == pytest.approx(np.abs(of_items - 1).max(), rel=1e-11)
        assert found.gallery_mean == pytest.approx(np.abs(of_items - 1).mean(), rel=1e-11)
        assert found.queries_max == pytest.approx(np.abs(of_queries - 1).max(), rel=1e-11)
        assert found.queries_mean == pytest.approx(np.abs(of_queries - 1).mean(), rel=1e-11)

    @pytest.mark.parametrize("rows", [3, 4, 5])
    def test_tiles_do_not_change_softmax_masses(self, rows, queries, gallery, monkeypatch):
        expected = gap.doubly_stochastic_deviation(queries, gallery)
        monkeypatch.setattr(_clouds, "_TILE_ROWS", rows)
        found = gap.doubly_stochastic_deviation(queries, gallery)
        assert found.gallery_max == pytest.approx(expected.gallery_max, rel=1e-12)
        assert found.queries_mean == pytest.approx(expected.queries_mean, rel=1e-12)

    def test_low_temperatures_do_not_overflow(self, rng):
        x = 100 * rng.normal(size=(10, 4))
        found = gap.doubly_stochastic_deviation(x, x, temperature=1e-4, normalize=False)
        assert found.gallery_max == pytest.approx(0, abs=1e-12)
        hub = np.repeat(x[:1], 10, axis=0)
        found = gap.doubly_stochastic_deviation(hub, x, temperature=1e-4, normalize=False)
        assert found.gallery_max == pytest.approx(9)

    def test_identical_items_share_evenly(self):
        found = gap.doubly_stochastic_deviation(np.eye(3), np.ones((5, 3)))
        assert found.gallery_max == pytest.approx(0, abs=1e-12)
        assert found.queries_max == pytest.approx(0, abs=1e-12)
