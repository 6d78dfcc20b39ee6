"""Theorem 3.4, the projection, and the scaling beyond it: numbers against an own quadrature."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from modgap._core.arrays import to_numpy
from modgap.decisions.neighbors import nearest
from modgap.paper import theory
from modgap.paper.theory._tasks import NoisyTask


def win_by_quadrature(query, gallery, target, sigma, metric="euclidean"):
    """P(target is nearest) by adaptive quadrature over scipy's distributions."""
    others = [j for j in range(len(gallery)) if j != target]
    if metric == "ip":
        scale = sigma * np.linalg.norm(query)
        scores = gallery @ query / scale
        low, high = scores[target] - 9, scores[target] + 9

        def integrand(t):
            return stats.norm.pdf(t - scores[target]) * np.prod(stats.norm.cdf(t - scores[others]))

    else:
        d = gallery.shape[1]
        shift = np.sum((gallery - query) ** 2, axis=1) / sigma**2
        middle, spread = d + shift[target], np.sqrt(2 * d + 4 * shift[target])
        low, high = max(middle - 9 * spread, 0.0), middle + 12 * spread

        def integrand(t):
            wins = np.prod(stats.ncx2.sf(t, d, shift[others]))
            return stats.ncx2.pdf(t, d, shift[target]) * wins

    return integrate.quad(integrand, low, high, epsabs=1e-9, limit=200)[0]


@pytest.fixture
def host_integral(monkeypatch):
    """The exact integral on the host, so that what is tested here is the code around it."""
    integral = NoisyTask.stability

    def on_host(self, moved, targets):
        moved = [to_numpy(rows) for rows in moved]
        return integral(replace(self, gallery=to_numpy(self.gallery)), moved, to_numpy(targets))

    monkeypatch.setattr(NoisyTask, "stability", on_host)


@pytest.fixture
def task(rng):
    gallery = rng.normal(size=(5, 9))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    queries = 0.4 * gallery[rng.integers(5, size=12)] + 0.15 * rng.normal(size=(12, 9))
    return queries + 0.5 * np.eye(9)[0], gallery


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
class TestDistance:
    def test_stability_is_the_integral(self, metric, task):
        found = theory.stability_by_distance(*task, 0.25, alphas=(0.0, 1.0), metric=metric)
        queries, gallery = task
        decided = nearest(queries, gallery, metric=metric).indices[:, 0]
        expected = [
            win_by_quadrature(q, gallery, t, 0.25, metric)
            for q, t in zip(queries, decided, strict=True)
        ]
        np.testing.assert_allclose(found.stability[0], expected, atol=2e-5)

    def test_every_step_moves_as_the_distance_says(self, metric, task):
        alphas = (0.0, 0.5, 1.0, 1.5, 2.0)
        found = theory.stability_by_distance(*task, 0.25, alphas=alphas, metric=metric)
        assert found.agreement == 1.0
        assert found.worst_violation <= found.error
        assert found.changed_decisions == (0,) * 5
        assert np.abs(np.diff(found.stability, axis=0)).max() > 0.02

    def test_full_gap_without_orthogonality_breaks_it(self, metric, rng):
        """Assumption 3.3 dropped: the gap lies in the gallery's own directions."""
        gallery = rng.normal(size=(6, 4))
        queries = rng.normal(size=(40, 4)) + 2 * (gallery[0] - gallery[1])
        found = theory.stability_by_distance(
            queries, gallery, 0.3, metric=metric, direction="gap", alphas=(0.0, 0.5, 1.0)
        )
        assert found.changed_decisions[-1] > 5
        # nothing lies outside aff(gallery): distances stay zero and predict no move at all
        assert found.distances.max() < 1e-12


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
class TestProjection:
    def test_every_library_gives_the_same(self, metric, task, to_xp, host_integral):
        found = theory.projection_stability(*map(to_xp, task), 0.25, heights=(0.5,), metric=metric)
        expected = theory.projection_stability(*task, 0.25, heights=(0.5,), metric=metric)
        np.testing.assert_allclose(found.stability, expected.stability, atol=1e-9)

    def test_every_height_is_less_stable_than_the_one_below(self, metric, task):
        found = theory.projection_stability(*task, 0.25, metric=metric)
        assert found.worst_rise <= found.error
        assert found.gain > 0.01
        assert found.stability.shape == (4, 12)

    def test_heights_need_no_order(self, metric, task):
        found = theory.projection_stability(*task, 0.25, heights=(2.0, 0.0, 1.0), metric=metric)
        assert found.worst_rise <= found.error

    def test_gain_is_between_projection_and_queries(self, metric, task):
        found = theory.projection_stability(*task, 0.25, heights=(0.0, 1.0), metric=metric)
        means = found.stability.mean(axis=1)
        assert found.gain == pytest.approx(means[0] - means[1], abs=1e-12)


def test_full_gap_changes_real_decisions(real_data):
    images = real_data("coco_clip_vitb16", "images.npy")
    texts = real_data("coco_clip_vitb16", "texts.npy")
    found = theory.stability_by_distance(images, texts, 0.022, alphas=(0.0, 1.0), direction="gap")
    assert found.changed_decisions[1] == pytest.approx(346, abs=2)  # near ties aside
    assert found.stability[1].mean() < found.stability[0].mean() - 0.1


class TestScaling:
    def test_keeps_decisions_and_beats_the_projection(self, task):
        """Unit rows: the plain projection is not the most stable map that keeps every decision."""
        found = theory.scaling_stability(*task, 0.25, scales=(0.5, 1.0, 2.0, 4.0))
        assert found.changed_decisions == (0, 0, 0, 0)
        means = found.stability.mean(axis=1)
        assert means[2] > means[1] + 0.02
        assert means[0] < means[1]

    def test_circumcentre(self, rng, to_xp, host_integral):
        gallery = rng.normal(size=(6, 9))
        gallery = 2.5 * gallery / np.linalg.norm(gallery, axis=1, keepdims=True) + 1.0
        found = theory.scaling_stability(
            to_xp(gallery[:2] + 0.1), to_xp(gallery), 0.1, scales=(1.0,)
        )
        center = np.asarray(found.center)
        radii = np.linalg.norm(gallery - center, axis=1)
        np.testing.assert_allclose(radii, found.radius, rtol=1e-12)
        assert found.radius_spread < 1e-12
        middle = gallery.mean(axis=0)
        basis = np.linalg.svd(gallery - middle)[2][:5]
        outside = (center - middle) - basis.T @ (basis @ (center - middle))
        assert np.abs(outside).max() < 1e-12

    def test_large_scales_are_inner_products(self, task):
        queries, gallery = task
        found = theory.scaling_stability(*task, 0.25, scales=(1e6,))
        middle = gallery.mean(axis=0)
        basis = np.linalg.svd(gallery - middle)[2][:4]
        inside = (queries - middle) @ basis.T @ basis + middle - found.center
        decided = (inside @ gallery.T).argmax(axis=1)
        expected = [
            win_by_quadrature(q, gallery, t, 0.25, "ip")
            for q, t in zip(inside, decided, strict=True)
        ]
        np.testing.assert_allclose(found.stability[0], expected, atol=2e-4)

    @pytest.mark.parametrize(
        ("folder", "template", "sigma", "expected"),
        [
            ("coco_clip_vitb16", None, 0.022, (0.406, 0.416, 0.417, 0.520)),
            ("coco_clip_vitb16", None, 0.04, (0.169, 0.175, 0.176, 0.303)),
            ("caltech101_clip_vitb32", 3, 0.022, (0.736, 0.887, 0.948, 0.983)),
            ("caltech101_clip_vitb32", 3, 0.04, (0.335, 0.500, 0.639, 0.955)),
            ("cifar10_openclip_vitb32_laion2b", 0, 0.022, (0.674, 0.773, 0.862, 0.948)),
            ("cifar10_openclip_vitb32_laion2b", 0, 0.04, (0.450, 0.545, 0.641, 0.887)),
        ],
    )
    def test_table_of_docs_theory(self, real_data, folder, template, sigma, expected):
        """As they are, gap closed, projected, projected and scaled by four."""
        images, texts = real_data(folder, "images.npy"), real_data(folder, "texts.npy")
        texts = texts if template is None else texts[template]
        closed = theory.stability_by_distance(images, texts, sigma, alphas=(0.0, 1.0))
        scaled = theory.scaling_stability(images, texts, sigma, scales=(1.0, 4.0))
        assert scaled.changed_decisions == closed.changed_decisions == (0, 0)
        found = [*closed.stability.mean(axis=1), *scaled.stability.mean(axis=1)]
        np.testing.assert_allclose(found, expected, atol=0.0006)

    def test_suggestion_is_near_the_best(self, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3]
        for sigma in (0.022, 0.04):
            scales = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0)
            found = theory.scaling_stability(images, texts, sigma, scales=scales)
            at = theory.scaling_stability(images, texts, sigma, scales=(found.suggested_scale,))
            means = found.stability.mean(axis=1)
            assert at.stability.mean() > means.max() - 0.002
            assert means.max() > means[0] + 0.03  # what the plain projection leaves on the table
            assert found.changed_decisions == (0,) * 9
