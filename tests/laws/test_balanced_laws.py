"""What `balanced` rests on, as properties of random clouds: each line of docs/theory_balanced.md."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, optimize

from modgap import closers
from modgap._core.moments import Moments
from modgap.closers._transport import (
    SecondMoments,
    random_frame,
    spectrum_of,
    transport,
    water_filling,
)
from modgap.errors import ClosureWarning
from modgap.measures.distributions import frechet_distance

SEEDS = st.integers(0, 2**31)
D = 6


def moments(seed: int, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """A covariance and second moments, both well conditioned, in no common basis."""
    rng = np.random.default_rng(seed)
    pair = []
    for _ in range(2):
        root = rng.normal(size=(d, d)) * rng.uniform(0.3, 3, size=d)
        pair.append(root @ root.T / d + 0.05 * np.eye(d))
    return pair[0], pair[1]


def balancing(c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """A = M^1/2 of this package, acting on columns, for a covariance in any basis."""
    values, vectors = np.linalg.eigh(c)
    found = transport(
        values, SecondMoments(vectors.T @ s @ vectors, 9), gallery_shrinkage=0, query_shrinkage=0
    )
    return vectors @ found.symmetric(1.0)[0] @ vectors.T


def cost(a: np.ndarray, c: np.ndarray, s: np.ndarray) -> float:
    """tr(A C A^T) tr(A^-T S A^-1): the mean noise of scores, over rho^2 / d."""
    inverse = np.linalg.inv(a)
    return float(np.trace(a @ c @ a.T) * np.trace(inverse.T @ s @ inverse))


def fidelity(c: np.ndarray, s: np.ndarray) -> float:
    """F as SciPy's square roots make it."""
    root = linalg.sqrtm(c)
    return float(np.real(np.trace(linalg.sqrtm(root @ s @ root))))


# --- The theorem ---------------------------------------------------------------------------------


@given(seed=SEEDS)
def test_balanced_reaches_the_bound_and_both_clouds_then_have_the_same_second_moments(
    seed: int,
) -> None:
    c, s = moments(seed)
    a = balancing(c, s)
    assert cost(a, c, s) == pytest.approx(fidelity(c, s) ** 2, rel=1e-8)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(a @ c @ a.T, inverse.T @ s @ inverse, rtol=1e-7, atol=1e-9)


@given(seed=SEEDS)
def test_no_other_map_costs_less(seed: int) -> None:
    c, s = moments(seed)
    rng = np.random.default_rng(seed + 1)
    for _ in range(20):
        other = rng.normal(size=(D, D)) + rng.uniform(0, 3) * np.eye(D)
        assert cost(other, c, s) >= fidelity(c, s) ** 2 * (1 - 1e-10)


@given(seed=SEEDS)
def test_the_noise_grows_whichever_way_the_map_is_moved(seed: int) -> None:
    """Turning it changes nothing; every symmetric step that is no factor costs, the more the longer."""
    c, s = moments(seed)
    a = balancing(c, s)
    best = cost(a, c, s)
    rng = np.random.default_rng(seed + 1)
    turned = random_frame(D, D, seed % 1000) @ a
    assert cost(turned, c, s) == pytest.approx(best, rel=1e-9)
    assert cost(2.5 * a, c, s) == pytest.approx(best, rel=1e-9)
    for _ in range(10):
        step = rng.normal(size=(D, D))
        step = step + step.T
        step -= np.trace(step) / D * np.eye(D)
        step /= np.linalg.norm(step)
        near, far = (cost(linalg.expm(t * step) @ a, c, s) for t in (0.05, 0.2))
        assert best * (1 + 1e-7) < near < far


@given(seed=SEEDS)
def test_a_search_by_descent_finds_nothing_better(seed: int) -> None:
    c, s = moments(seed, 3)
    start = np.random.default_rng(seed).normal(size=(3, 3)) + 2 * np.eye(3)

    def log_cost(flat: np.ndarray) -> float:
        a = flat.reshape(3, 3)
        if abs(np.linalg.det(a)) < 1e-8:
            return 50.0
        return float(np.log(cost(a, c, s)))

    found = optimize.minimize(log_cost, start.ravel(), method="BFGS", options={"maxiter": 200})
    assert found.fun >= 2 * np.log(fidelity(c, s)) - 1e-9
    # The descent gets there from most starts: the bound is no empty one.
    assert found.fun <= log_cost(start.ravel())


def test_the_descent_does_reach_the_bound() -> None:
    reached = 0
    for seed in range(10):
        c, s = moments(seed, 3)
        start = balancing(c, s) + 0.3 * np.random.default_rng(seed).normal(size=(3, 3))
        found = optimize.minimize(
            lambda a, c=c, s=s: np.log(cost(a.reshape(3, 3), c, s)), start.ravel()
        )
        reached += abs(found.fun - 2 * np.log(fidelity(c, s))) < 1e-6
    assert reached >= 8


@given(seed=SEEDS)
def test_the_mean_noise_is_what_the_formula_says(seed: int) -> None:
    """Draws of isotropic noise on mapped items against rho^2 / d tr(Cov x') E|y'|^2, within 5 errors."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, D)) * rng.uniform(0.3, 3, size=D), rng.normal(size=(30, D)) + 1
    closure = closers.fit("balanced", y, x, metric="ip", shrinkage=0.1)
    items, queries = closure.apply_gallery(x), closure.apply_queries(y)
    rho = 0.3
    spread = items.var(axis=0).sum()
    noise = rng.normal(size=(4000, D)) * rho * np.sqrt(spread / D)
    squares = np.mean((noise @ queries.T) ** 2, axis=1)
    expected = rho**2 / D * spread * np.mean(np.sum(queries**2, axis=1))
    assert abs(squares.mean() - expected) < 5 * squares.std() / np.sqrt(len(squares))


# --- The same numbers, found elsewhere -----------------------------------------------------------


@given(seed=SEEDS)
def test_fidelity_is_the_nuclear_norm_and_the_bures_identity_holds(seed: int) -> None:
    c, s = moments(seed)
    values, vectors = np.linalg.eigh(c)
    ours = spectrum_of(values, vectors.T @ s @ vectors)
    nuclear = np.linalg.norm(linalg.sqrtm(c) @ linalg.sqrtm(s), "nuc")
    assert ours.sum() == pytest.approx(nuclear, rel=1e-9)
    # sigma_i^2 are the eigenvalues of C S, as those of Gramians in control theory (Moore, 1981).
    np.testing.assert_allclose(ours**2, np.sort(np.real(linalg.eigvals(c @ s)))[::-1], rtol=1e-6)
    # Bures: min over rotations Q of |C^1/2 - S^1/2 Q|^2 = tr C + tr S - 2 F.
    left, right = linalg.sqrtm(c), linalg.sqrtm(s)
    turn = linalg.orthogonal_procrustes(right, left)[0]
    bures = np.linalg.norm(left - right @ turn) ** 2
    assert bures == pytest.approx(np.trace(c) + np.trace(s) - 2 * ours.sum(), rel=1e-6, abs=1e-9)


@given(seed=SEEDS)
def test_the_shape_part_of_the_frechet_distance_holds_the_same_fidelity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, D)) @ rng.normal(size=(D, D)), rng.normal(size=(40, D))
    c, s = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    values, vectors = np.linalg.eigh(c)
    shape = frechet_distance(y, x, normalize=False).shape
    ours = np.trace(c) + np.trace(s) - 2 * spectrum_of(values, vectors.T @ s @ vectors).sum()
    assert ours == pytest.approx(shape, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_m_is_the_optimal_transport_map_of_a_library(seed: int) -> None:
    ot = pytest.importorskip("ot", reason="POT is not installed")
    c, s = moments(seed)
    a = balancing(c, s)
    theirs, _ = ot.gaussian.bures_wasserstein_mapping(np.zeros(D), np.zeros(D), c, s)
    np.testing.assert_allclose(a @ a, theirs, rtol=1e-6, atol=1e-8)


@given(seed=SEEDS, alpha=st.floats(0, 1))
def test_alpha_goes_along_the_geodesic(seed: int, alpha: float) -> None:
    """M^(alpha/2) is what alpha of the way from I to M is among positive matrices."""
    c, s = moments(seed)
    values, vectors = np.linalg.eigh(c)
    found = transport(
        values, SecondMoments(vectors.T @ s @ vectors, 9), gallery_shrinkage=0, query_shrinkage=0
    )
    there, back = found.symmetric(alpha)
    whole = found.symmetric(1.0)[0]
    np.testing.assert_allclose(there @ back, np.eye(D), atol=1e-9)
    expected = linalg.expm(alpha * linalg.logm(whole))
    np.testing.assert_allclose(there, np.real(expected), rtol=1e-6, atol=1e-8)
    # The cost falls all along the way: log cost is convex on it, with its least value at 1.
    root = vectors @ there @ vectors.T
    assert (
        cost(balancing(c, s), c, s)
        <= cost(root, c, s) * (1 + 1e-9)
        <= cost(np.eye(D), c, s) * (1 + 2e-9)
    )


# --- Fewer dimensions, fewer bits ----------------------------------------------------------------


@given(seed=SEEDS, k=st.integers(1, D - 1))
def test_no_k_coordinates_have_inner_products_closer_to_the_scores(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, D)) @ rng.normal(size=(D, D)), rng.normal(size=(30, D)) * 2 + 1
    c = np.cov(x.T, bias=True)
    values, vectors = np.linalg.eigh(c)
    centred, along = (x - x.mean(axis=0)) @ vectors, y @ vectors
    second = SecondMoments(along.T @ along / len(y), len(y))
    found = transport(values, second, gallery_shrinkage=0, query_shrinkage=0)
    items, queries = found.coordinates(k)
    scores = along @ centred.T
    off = scores - (along @ queries) @ (centred @ items).T
    sizes = np.linalg.svd(scores, compute_uv=False)
    best = np.sum(sizes[k:] ** 2)  # of any matrix of rank k (Eckart & Young)
    assert np.sum(off**2) == pytest.approx(best, rel=1e-6, abs=1e-9 * np.sum(scores**2))
    assert np.mean(off**2) == pytest.approx(np.sum(found.spectrum[k:] ** 2), rel=1e-6, abs=1e-9)


def diagonal_fidelity(c: np.ndarray, s: np.ndarray) -> float:
    """d sum_j C_jj S_jj: what takes the place of tr C tr S where each dimension has its range."""
    return len(c) * float(np.diagonal(c) @ np.diagonal(s))


@given(seed=SEEDS)
def test_ranges_per_dimension_obey_the_same_bound_and_reach_it_where_variances_are_equal(
    seed: int,
) -> None:
    c, s = moments(seed, 4)
    rng = np.random.default_rng(seed)
    least = fidelity(c, s) ** 2
    a = balancing(c, s)
    for other in (np.eye(4), a, random_frame(4, 4, seed) @ a, rng.normal(size=(4, 4))):
        inverse = np.linalg.inv(other)
        here = diagonal_fidelity(other @ c @ other.T, inverse.T @ s @ inverse)
        assert here >= least * (1 - 1e-9)
    # In the axes that both clouds share, turned by a Hadamard matrix, all variances are equal.
    both = a @ c @ a.T
    turn = linalg.hadamard(4) / 2 @ np.linalg.eigh((both + both.T) / 2)[1].T
    even = turn @ both @ turn.T
    assert diagonal_fidelity(even, even) == pytest.approx(least, rel=1e-7)


@given(seed=SEEDS, bits=st.floats(0, 6))
def test_water_filling_is_the_least_distortion_of_any_split_of_the_bits(
    seed: int, bits: float
) -> None:
    rng = np.random.default_rng(seed)
    sigma = np.sort(rng.uniform(0.05, 3, size=5))[::-1]
    least = water_filling(sigma, bits)
    for _ in range(30):
        split = rng.dirichlet(rng.uniform(0.2, 3, size=5)) * bits * 5
        assert np.sum(sigma**2 * 4.0**-split) >= least * (1 - 1e-9)
    # And one split has it: bits where the water stands below sigma^2.
    level = optimize.brentq(
        lambda t: np.sum(np.maximum(np.log2(sigma**2 / 2.0**t) / 2, 0)) - bits * 5, -60, 4
    )
    assert least == pytest.approx(np.sum(np.minimum(sigma**2, 2.0**level)), rel=1e-6)


def test_water_filling_without_bits_and_without_scores() -> None:
    assert water_filling(np.array([2.0, 1.0, 0.0]), 0) == 5.0
    assert water_filling(np.zeros(3), 2) == 0.0
    # Equal sigma: every coordinate gets the same bits, and 4 times less a bit.
    assert water_filling(np.full(4, 3.0), 2) == pytest.approx(36 / 16)


@pytest.mark.parametrize("m", [5, 20, 80])
def test_from_few_queries_fidelity_comes_out_too_small_in_the_mean(m: int) -> None:
    """F is concave in S, so by Jensen the plug-in F is below F, and the bits that it gives are above."""
    c, s = moments(3)
    values, vectors = np.linalg.eigh(c)
    root = np.linalg.cholesky(s)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        y = rng.normal(size=(m, D)) @ root.T @ vectors
        found.append(spectrum_of(values, y.T @ y / m).sum())
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) < fidelity(c, s) - 3 * error


# --- Rankings ------------------------------------------------------------------------------------


@given(
    seed=SEEDS,
    n=st.integers(2, 30),
    alpha=st.floats(-1, 2),
    rotation=st.sampled_from(["none", 0, 5]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_scores_are_what_they_were_but_for_a_constant_a_query(
    metric: str, seed: int, n: int, alpha: float, rotation: Any, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 12)) * rng.uniform(0.1, 2, 12) + rng.normal(size=12)) * scale
    y = rng.normal(size=(9, 12)) * rng.uniform(0.1, 2, 12) + rng.normal(size=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        closure = closers.fit("balanced", y, x, metric=metric, alpha=alpha, rotation=rotation)
    assert closure.exact
    assert closure.comparison == "ip"
    if metric == "cosine":
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    before = y @ (x - x.mean(axis=0)).T
    after = closure.apply_queries(y) @ closure.apply_gallery(x).T
    # A dozen terms, and maps of condition under 1e3.
    np.testing.assert_allclose(after, before, atol=1e-9 * np.abs(y @ x.T).max())
    assert np.abs(after - before).max() <= closure.bound / 2 + 1e-14 * np.abs(before).max()


@given(seed=SEEDS, alpha=st.floats(0, 1.5))
def test_the_total_variance_of_the_gallery_stays(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, 5)) * [3, 1, 1, 0.2, 0.1], rng.normal(size=(9, 5)) + 2
    mapped = closers.fit("balanced", y, x, metric="ip", alpha=alpha).apply_gallery(x)
    assert mapped.var(axis=0).sum() == pytest.approx(x.var(axis=0).sum(), rel=1e-9)
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-12)


@given(seed=SEEDS)
def test_lifted_rows_order_by_inner_product_as_by_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, 4)) * rng.uniform(0.1, 3), rng.normal(size=(9, 4)) + 1
    center = rng.normal(size=4)
    lifted = closers.lift_queries(y, center=center) @ closers.lift_gallery(x, center=center).T
    distances = np.sum((y[:, None] - x[None]) ** 2, axis=2)
    offset = np.sum((y - center) ** 2, axis=1, keepdims=True)
    np.testing.assert_allclose(2 * lifted, offset - distances, atol=1e-10)


def test_the_second_moments_of_a_mixture_are_the_mixture() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 3)) + 1, rng.normal(size=(50, 3)) * 2
    x = Moments.from_rows(rng.normal(size=(40, 3)), precision="float64")
    kinds = [(Moments.from_rows(a), 3.0), (Moments.from_rows(b), 1.0)]
    mixed = closers.balance(x, kinds, metric="ip", shrinkage=0.0)
    repeated = np.concatenate([np.repeat(a, 5 * 3, axis=0), np.repeat(b, 3, axis=0)])
    same = closers.balance(x, Moments.from_rows(repeated), metric="ip", shrinkage=0.0)
    np.testing.assert_allclose(mixed.gallery.matrix, same.gallery.matrix, rtol=1e-8, atol=1e-10)
