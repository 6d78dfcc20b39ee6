"""The exact Gaussian integral against quadratures that share no code with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, special, stats

from modgap.robustness.integral import candidate_win_probability, win_probability

SIGMAS = [1e-3, 5e-3, 0.022, 0.1, 0.5]


def by_inner_product(scores: np.ndarray, target: int, spread: float) -> float:
    ahead = (scores[target] - np.delete(scores, target)) / spread

    def integrand(t: float) -> float:
        return float(np.exp(-t * t / 2 + special.log_ndtr(t + ahead).sum()) / np.sqrt(2 * np.pi))

    return integrate.quad(integrand, -9, 9, epsabs=1e-9, limit=400)[0]


def by_euclidean(squared: np.ndarray, target: int, sigma: float, d: int) -> float:
    """Adaptive quadrature over the noisy distance of the target, scipy's noncentral chi-square."""
    noncentral = squared / sigma**2
    own = noncentral[target]
    others = np.delete(noncentral, target)
    # Hopeless competitors never win, and overflow scipy's series.
    others = others[np.sqrt(others) < np.sqrt(own + d) + 25]

    def integrand(r: float) -> float:
        t = r * r
        return float(2 * r * density(t, d, own) * np.prod(stats.ncx2.sf(t, d, others)))

    middle = np.sqrt(own + d)
    low = max(0.0, middle - 9)
    return integrate.quad(integrand, low, middle + 9, epsabs=1e-8, limit=400, points=[middle])[0]


def density(t: float, d: int, noncentral: float) -> float:
    """Noncentral chi-square density as its Poisson mixture, in logarithms: no Bessel underflow."""
    half = noncentral / 2
    k = np.arange(max(0, int(half - 10 * np.sqrt(half) - 20)), int(half + 10 * np.sqrt(half) + 40))
    shape = d / 2 + k
    log = special.xlogy(k, half) - half - special.gammaln(k + 1)
    log = log + (shape - 1) * np.log(t / 2) - t / 2 - special.gammaln(shape) - np.log(2)
    return float(np.exp(log).sum())


def near_clouds(
    rng: np.random.Generator, d: int, n: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Unit queries, and items as close to each other as the noise is wide: nothing is settled."""
    queries = rng.normal(size=(2, d))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    centre = rng.normal(size=d)
    items = centre / np.linalg.norm(centre) + sigma * rng.uniform(0.3, 3) * rng.normal(size=(n, d))
    return queries, items


@pytest.mark.parametrize("n", [2, 5, 60])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("d", [2, 3, 8, 64, 512, 1024])
def test_euclidean_agrees_with_scipy(d: int, sigma: float, n: int) -> None:
    rng = np.random.default_rng([d, n, int(sigma * 1000)])
    queries, items = near_clouds(rng, d, n, sigma)
    squared = ((queries[:, None] - items[None]) ** 2).sum(axis=2)
    targets = np.stack([squared.argmin(axis=1), rng.integers(0, n, 2)], axis=1)
    alone = win_probability(queries, items, targets, [sigma], metric="euclidean")[0]
    swept = win_probability(queries, items, targets, SIGMAS, metric="euclidean")[
        SIGMAS.index(sigma)
    ]
    for i in range(2):
        for k in range(2):
            truth = by_euclidean(squared[i], targets[i, k], sigma, d)
            assert alone[i, k] == pytest.approx(truth, abs=2e-5)
            assert swept[i, k] == pytest.approx(truth, abs=2e-5)


@pytest.mark.parametrize(
    ("d", "n", "sigma"), [(16, 1000, 0.1), (512, 1000, 0.022), (512, 1000, 0.5)]
)
def test_euclidean_with_a_thousand_items(d: int, n: int, sigma: float) -> None:
    rng = np.random.default_rng(n + d)
    queries, items = near_clouds(rng, d, n, sigma)
    squared = ((queries[:, None] - items[None]) ** 2).sum(axis=2)
    targets = squared.argmin(axis=1)
    found = win_probability(queries, items, targets, [sigma], metric="euclidean")[0]
    for i in range(2):
        assert found[i] == pytest.approx(by_euclidean(squared[i], targets[i], sigma, d), abs=2e-5)


@pytest.mark.parametrize("n", [2, 30, 1000])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_inner_product_agrees_with_quadrature(sigma: float, n: int) -> None:
    rng = np.random.default_rng([n, int(sigma * 1000)])
    queries, items = near_clouds(rng, 24, n, sigma)
    scores = queries @ items.T
    targets = np.stack([scores.argmax(axis=1), rng.integers(0, n, 2)], axis=1)
    found = win_probability(queries, items, targets, SIGMAS, metric="ip")[SIGMAS.index(sigma)]
    for i in range(2):
        for k in range(2):
            truth = by_inner_product(scores[i], targets[i, k], sigma)
            assert found[i, k] == pytest.approx(truth, abs=2e-5)


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_differences_from_sampling_are_standard_normal(metric: str) -> None:
    """Independent noise for each query, so that the z-scores are independent too."""
    rng = np.random.default_rng(4)
    d, n, m, draws, sigma = 20, 12, 300, 400, 0.25
    queries, items = rng.normal(size=(m, d)), rng.normal(size=(n, d)) * 0.4
    squared = ((queries[:, None] - items[None]) ** 2).sum(axis=2)
    targets = (squared if metric == "euclidean" else -queries @ items.T).argmin(
        axis=squared.ndim - 1
    )
    wins = np.zeros(m)
    for _ in range(draws):
        noisy = items[None] + sigma * rng.normal(size=(m, n, d))
        if metric == "euclidean":
            losses = ((queries[:, None] - noisy) ** 2).sum(axis=2)
        else:
            losses = -(queries[:, None] * noisy).sum(axis=2)
        wins += losses.argmin(axis=1) == targets
    p = win_probability(queries, items, targets, [sigma], metric=metric)[0]
    inner = (p > 0.05) & (p < 0.95)
    assert inner.sum() > 100
    z = (wins / draws - p)[inner] / np.sqrt(p * (1 - p) / draws)[inner]
    assert 0.85 < np.sqrt((z**2).mean()) < 1.15


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
@pytest.mark.parametrize("d", [1, 2, 600])
def test_probabilities_are_probabilities_in_the_extremes(d: int, metric: str) -> None:
    rng = np.random.default_rng(d)
    queries, items = rng.normal(size=(5, d)), rng.normal(size=(9, d))
    queries[0], items[1], queries[1] = items[0], items[0], 0.0
    every = np.tile(np.arange(9), (5, 1))
    for sigmas in ([0.0], [1e-6, 10.0], [1e-3, 0.022, 0.5], [1e4]):
        p = win_probability(queries, items, every, sigmas, metric=metric)
        assert np.all((p >= 0) & (p <= 1))
        if metric == "euclidean":  # a zero query ties all inner products, and the first wins
            assert np.allclose(p.sum(axis=2), 1, atol=2e-5)
    assert np.all(win_probability(queries, items[:1], np.zeros(5, int), [0.3], metric=metric) == 1)
    same = win_probability(queries, items[[2, 2, 2]], np.zeros(5, int), [0.3], metric=metric)[0]
    assert np.allclose(same[2:], 1 / 3, atol=2e-5)


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_stability_falls_with_the_noise(metric: str) -> None:
    rng = np.random.default_rng(8)
    queries, items = rng.normal(size=(20, 10)), rng.normal(size=(15, 10))
    losses = (
        ((queries[:, None] - items[None]) ** 2).sum(2)
        if metric == "euclidean"
        else -queries @ items.T
    )
    sigmas = np.geomspace(1e-2, 3, 9).tolist()
    p = win_probability(queries, items, losses.argmin(1), sigmas, metric=metric)
    assert np.all(np.diff(p, axis=0) <= 1e-5)


def test_no_target_has_no_probability_and_shapes_follow() -> None:
    rng = np.random.default_rng(9)
    queries, items = rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    p = win_probability(
        queries, items, np.array([[0, -1]] * 4), [0.1, 0.2, 0.0], metric="euclidean"
    )
    assert p.shape == (3, 4, 2)
    assert np.all(p[:, :, 1] == 0)
    assert win_probability(queries, items, np.zeros(4, int), [0.1], metric="euclidean").shape == (
        1,
        4,
    )


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_own_candidates_agree_with_one_gallery_each(metric: str) -> None:
    rng = np.random.default_rng(10)
    queries, candidates = rng.normal(size=(6, 8)), rng.normal(size=(6, 4, 8))
    targets = rng.integers(0, 4, 6)
    p = candidate_win_probability(queries, candidates, targets, [0.1, 0.6], metric=metric)
    for i in range(6):
        one = win_probability(
            queries[i : i + 1], candidates[i], targets[i : i + 1], [0.1, 0.6], metric=metric
        )
        assert np.allclose(p[:, i], one[:, 0], atol=1e-6)


def test_every_library_gives_the_same_answer(xp: Any, to_xp: Any) -> None:
    rng = np.random.default_rng(12)
    queries, items = rng.normal(size=(7, 9)), rng.normal(size=(5, 9))
    targets = rng.integers(0, 5, (7, 2))
    for metric in ("euclidean", "ip"):
        plain = win_probability(queries, items, targets, [0.2, 0.5], metric=metric)
        found = win_probability(to_xp(queries), to_xp(items), targets, [0.2, 0.5], metric=metric)
        assert type(found) is type(to_xp(queries))
        assert np.allclose(np.asarray(found), plain, atol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
@pytest.mark.parametrize("d", [2, 3, 5, 24, 200, 1024])
def test_one_of_two_items_wins(d: int, metric: str) -> None:
    """Neither chance knows of the other; leaders from within the noise to far outside it."""
    worst = 0.0
    for own in np.linspace(0.05, 40, 30):
        for behind in np.linspace(0, 12, 9):
            queries, items = np.zeros((1, d)), np.zeros((2, d))
            items[:, 0] = own, own + behind
            if metric == "ip":
                queries[0, 0], items = 1.0, -items
            both = win_probability(queries, items, np.array([[0, 1]]), [1.0], metric="euclidean")[
                0, 0
            ]
            worst = max(worst, abs(both.sum() - 1))
    assert worst < 5e-6
