"""Sampled decisions, draw by draw, against a loop that adds the very same noise and searches."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT
from modgap.robustness import sampling as montecarlo
from modgap.robustness.noise import Gaussian, Uniform
from modgap.robustness.sampling import sample_decisions
from modgap.robustness.systems import System

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)
SIDES = ("gallery", "queries")
M, N, D = 12, 6, 5

quick = pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def every_item(rows, items):
    """Targets that count every item's wins."""
    return np.tile(np.arange(items), (rows, 1))


def all_scores(queries, items, metric):
    """Float64 scores of all items, larger is nearer, one subtraction or product at a time."""
    items = items if items.ndim == 3 else np.broadcast_to(items, (len(queries), *items.shape))
    if metric == "euclidean":
        return -np.linalg.norm(items - queries[:, None], axis=2)
    if metric == "cosine":
        queries, items = unit(queries), unit(items)
    return (items * queries[:, None]).sum(axis=2)


def naive(system, noise, seed, draw, block=0):
    """One draw as its definition: add the noise to one side, then compare."""
    y, x = host(system.queries).astype(np.float64), host(system.gallery).astype(np.float64)
    rng = np.random.default_rng([seed, draw, block])
    moving = x if noise.side == "gallery" else y
    step = noise.scale * noise.unit_draw(rng, moving.shape).astype(np.float64)
    if noise.side == "gallery":
        return all_scores(y, x + step, system.comparison)
    return all_scores(y + step, x, system.comparison)


def sampled(system, noise, *, draws=1, seed=0):
    m, n = system.queries.shape[0], system.gallery.shape[-2]
    return sample_decisions([system], [every_item(m, n)], [noise], draws=draws, seed=seed)[0][0]


def assert_decisions(wins, scores, least=1e-5):
    """The winner of each query is that of the scores, but for margins below `least` of their size."""
    assert set(np.unique(wins)) <= {0.0, 1.0}
    np.testing.assert_array_equal(wins.sum(axis=1), 1)
    ordered = np.sort(scores, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > least * np.abs(scores).max()
    assert clear.mean() > 0.9  # the check would be empty otherwise
    np.testing.assert_array_equal(wins.argmax(axis=1)[clear], scores.argmax(axis=1)[clear])


@pytest.fixture
def clouds(rng):
    return rng.normal(size=(M, D)) + 1, rng.normal(size=(N, D))


@pytest.fixture(params=["gallery of all", "candidates of each"])
def own(request):
    return request.param != "gallery of all"


@pytest.fixture
def items(own, rng):
    return rng.normal(size=(M, N, D) if own else (N, D))


KINDS = {"gaussian": partial(Gaussian, 0.7), "uniform": partial(Uniform, 1.1)}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", SIDES)
class TestDrawByDraw:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_draw_is_the_definition(self, kind, side, metric, clouds, items):
        system, noise = System(clouds[0], items, metric), KINDS[kind](side=side)
        for seed in range(8):
            scores = naive(system, noise, seed, 0)
            assert_decisions(sampled(system, noise, seed=seed).wins, scores)

    def test_shares_are_means_over_draws(self, side, metric, clouds, items):
        system, noise = System(clouds[0], items, metric), Gaussian(0.7, side=side)
        found = sampled(system, noise, draws=6, seed=3)
        counts = np.zeros((M, N))
        for draw in range(6):
            scores = naive(system, noise, 3, draw)
            counts[np.arange(M), scores.argmax(axis=1)] += 1
        # Margins below float32 rounding: none with these seeds.
        np.testing.assert_allclose(found.wins * 6, counts, atol=1e-12)

    @quick
    def test_on_every_library(self, side, metric, to_xp, clouds, items):
        y, x = to_xp(clouds[0]), to_xp(items)
        noise = Gaussian(0.7, side=side)
        found = sampled(System(y, x, metric), noise, draws=4, seed=1)
        reference = sampled(System(clouds[0], items, metric), noise, draws=4, seed=1)
        assert isinstance(found.wins, np.ndarray)
        np.testing.assert_allclose(found.wins, reference.wins, atol=1e-12)
        np.testing.assert_array_equal(host(y), clouds[0])
        np.testing.assert_array_equal(host(x), items)

    def test_blocks_of_queries(self, side, metric, clouds, items, own, monkeypatch):
        # Four queries a block. A shared gallery takes one noise for all blocks; noise that belongs to
        # the queries of a block is drawn per block.
        monkeypatch.setattr(montecarlo, "_SCORE_ELEMENTS", 4 * 3 * N)
        system, noise = System(clouds[0], items, metric), Gaussian(0.7, side=side)
        wins = sampled(system, noise, seed=2).wins
        for start in range(0, M, 4):
            rows = slice(start, start + 4)
            part = System(clouds[0][rows], items[rows] if own else items, metric)
            block = start if own or side == "queries" else 0
            assert_decisions(wins[rows], naive(part, noise, 2, 0, block), least=1e-6)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    def test_narrow_floats(self, dtype, side, metric, clouds, items):
        torch = pytest.importorskip("torch")
        y, x = (torch.tensor(z, dtype=getattr(torch, dtype)) for z in (clouds[0], items))
        system, noise = System(y, x, metric), Gaussian(0.7, side=side)
        wide = System(host(y).astype(np.float64), host(x).astype(np.float64), metric)
        assert_decisions(sampled(system, noise, seed=5).wins, naive(wide, noise, 5, 0))

    def test_another_device(self, side, metric, to_other_device, clouds, items):
        system = System(to_other_device(clouds[0]), to_other_device(items), metric)
        noise = Gaussian(0.7, side=side)
        found = sampled(system, noise, draws=3)
        expected = sampled(System(clouds[0], items, metric), noise, draws=3)
        np.testing.assert_allclose(found.wins, expected.wins, atol=1e-12)


def alpha_systems(metric, moved, clouds):
    """An alpha sweep: the moving side differs by constant shifts, and some maps are no shifts."""
    queries, gallery = clouds
    systems = []
    for method, options in (
        [("none", {})]
        + [("orthogonal", {"alpha": a, "n_components": 3, "side": moved}) for a in (0.5, 1.0, 2.0)]
        + [("affine", {"alpha": 0.5, "n_components": 3}), ("erase", {})]
    ):
        closure = closers.fit(method, queries, gallery, metric=metric, **options)
        y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
        systems.append(System(y, x, closure.comparison))
    return systems


class TestSweeps:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("moved", SIDES)
    @pytest.mark.parametrize("side", SIDES)
    def test_systems_that_share_a_product_are_as_alone(self, side, moved, metric, clouds):
        systems = alpha_systems(metric, moved, clouds)
        noises = [Gaussian(s, side=side) for s in (0.1, 0.7, 2.0)]
        targets = [every_item(M, N)] * len(systems)
        together = sample_decisions(systems, targets, noises, draws=5, seed=0)
        for system, row in zip(systems, together, strict=True):
            for noise, found in zip(noises, row, strict=True):
                alone = sampled(system, noise, draws=5)
                np.testing.assert_allclose(found.wins, alone.wins, atol=1e-12)
                np.testing.assert_allclose(found.draw_means, alone.draw_means, atol=1e-12)

    def test_constant_shifts_are_grouped_and_nothing_else(self, clouds):
        systems = alpha_systems("euclidean", "queries", clouds)
        # none and the three orthogonal ones; affine and erase each by itself.
        assert montecarlo._groups(systems, "gallery")[1] == [[0, 1, 2, 3], [4], [5]]
        systems = alpha_systems("euclidean", "gallery", clouds)
        # Affine recentres the gallery: one more shift.
        assert montecarlo._groups(systems, "queries")[1] == [[0, 1, 2, 3, 4], [5]]

    def test_widths_may_differ(self, clouds):
        queries, gallery = clouds
        small = closers.fit(
            "affine", queries, gallery, n_components=3, reduce=True, metric="euclidean"
        )
        systems = [
            System(queries, gallery, EUCLIDEAN),
            System(small.apply_queries(queries), small.apply_gallery(gallery), EUCLIDEAN),
        ]
        noise = Gaussian(0.5)
        both = sample_decisions(systems, [every_item(M, N)] * 2, [noise], draws=5, seed=0)
        for system, row in zip(systems, both, strict=True):
            np.testing.assert_array_equal(row[0].wins, sampled(system, noise, draws=5).wins)

    def test_sizes_share_their_draws(self, clouds):
        # One draw at size s and at 2 s is one direction: at a huge size the signs decide alone.
        system = System(*clouds, INNER_PRODUCT)
        row = sample_decisions(
            [system], [every_item(M, N)], [Gaussian(1e6), Gaussian(3e6)], draws=5, seed=0
        )[0]
        np.testing.assert_array_equal(row[0].wins, row[1].wins)


class TestEdges:
    def test_a_large_offset_in_float32(self, rng):
        # Distances of order 3 at 300 from the origin: y.x - |x|^2 / 2 alone is off by .03 there.
        y = (rng.normal(size=(200, D)) + 300).astype(np.float32)
        x = (rng.normal(size=(40, D)) + 300).astype(np.float32)
        system = System(y, x, EUCLIDEAN)
        for side in SIDES:
            noise = Gaussian(1e-4, side=side)
            scores = naive(system, noise, 0, 0)
            ordered = np.sort(scores, axis=1)
            clear = ordered[:, -1] - ordered[:, -2] > 1e-3
            assert clear.mean() > 0.9
            wins = sampled(system, noise).wins
            np.testing.assert_array_equal(wins.argmax(axis=1)[clear], scores.argmax(axis=1)[clear])

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("side", SIDES)
    def test_no_noise_changes_nothing(self, side, metric, rng):
        x = np.repeat(rng.normal(size=(50, 16)), 2, axis=0)[rng.permutation(100)].astype(np.float32)
        y = rng.normal(size=(40, 16)).astype(np.float32)
        system = System(y, x, metric)
        targets = system.decisions[:, None]
        row = sample_decisions(
            [system],
            [targets],
            [Gaussian(0.0, side=side), Gaussian(0.1, side=side)],
            draws=4,
            seed=0,
        )[0]
        np.testing.assert_array_equal(row[0].wins, 1)
        np.testing.assert_array_equal(row[0].draw_means, 1)
        assert row[0].stderr == 0
        assert row[1].wins.mean() < 1

    @pytest.mark.parametrize("metric", METRICS)
    def test_copies_never_beat_each_other_under_noise_on_the_queries(self, metric, rng, own):
        x = np.repeat(rng.normal(size=(50, 16)), 2, axis=0)[rng.permutation(100)].astype(np.float32)
        y = rng.normal(size=(40, 16)).astype(np.float32)
        system = System(y, np.tile(x, (40, 1, 1)) if own else x, metric)
        first = np.array([np.flatnonzero((x == row).all(axis=1))[0] for row in x])
        wins = sampled(system, Gaussian(0.3, side="queries"), draws=5).wins
        assert (wins[:, first != np.arange(100)] == 0).all()
        np.testing.assert_allclose(wins.sum(axis=1), 1, rtol=1e-12)
        # The control: noise on the gallery tells copies apart.
        moved = sampled(system, Gaussian(0.3), draws=5).wins
        assert (moved[:, first != np.arange(100)] > 0).any()

    def test_no_target_never_wins(self, clouds):
        system = System(*clouds, EUCLIDEAN)
        targets = np.stack([system.decisions, np.full(M, -1)], axis=1)
        found = sample_decisions([system], [targets], [Gaussian(0.2)], draws=3, seed=0)[0][0]
        np.testing.assert_array_equal(found.wins[:, 1], 0)
        assert found.wins[:, 0].mean() > 0.3

    def test_one_item(self, clouds):
        system = System(clouds[0], clouds[1][:1], EUCLIDEAN)
        np.testing.assert_array_equal(sampled(system, Gaussian(5.0), draws=3).wins, 1)

    def test_seeds(self, clouds):
        system, noise = System(*clouds, EUCLIDEAN), Gaussian(1.0)
        first, again, other = (sampled(system, noise, draws=9, seed=s).wins for s in (4, 4, 5))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_progress_counts_draws_of_blocks(self, clouds, monkeypatch):
        monkeypatch.setattr(montecarlo, "_SCORE_ELEMENTS", 4 * 3 * N)
        steps = []
        sample_decisions(
            [System(*clouds, INNER_PRODUCT)],
            [every_item(M, N)],
            [Gaussian(0.1)],
            draws=5,
            seed=0,
            progress=steps.append,
        )
        assert steps == [1] * (5 * 3)


class TestStandardError:
    def test_it_is_that_of_the_mean_over_draws(self, clouds):
        found = sampled(System(*clouds, EUCLIDEAN), Gaussian(1.0), draws=20)
        assert found.draw_means.shape == (20,)
        expected = np.std(found.draw_means, ddof=1) / np.sqrt(20)
        assert found.stderr == pytest.approx(expected, rel=1e-12)
        # The mean over draws is the mean over queries of the first target's share.
        assert found.draw_means.mean() == pytest.approx(found.wins[:, 0].mean(), rel=1e-12)

    def test_one_draw_has_none(self, clouds):
        assert np.isnan(sampled(System(*clouds, EUCLIDEAN), Gaussian(1.0)).stderr)

    def test_it_holds_the_correlation_that_one_noise_brings_to_all_queries(self, rng):
        # All queries nearly equal: one draw decides for all of them, and 100 draws are 100 facts,
        # not 10,000.
        y = np.ones((100, 3)) + 1e-3 * rng.normal(size=(100, 3))
        found = sample_decisions(
            [System(y, np.eye(3), INNER_PRODUCT)],
            [np.zeros((100, 1), dtype=int)],
            [Gaussian(0.5)],
            draws=100,
            seed=0,
        )[0][0]
        # p = 1/3: sqrt(p (1 - p) / 100) = .047, which 100 draws tell to about 7 %.
        assert 0.036 < found.stderr < 0.058
