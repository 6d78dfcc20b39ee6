"""What exact closers promise, as properties over clouds that nobody tuned to."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgap import closers
from modgap.closers.closure import Closure
from modgap.errors import ClosureWarning
from modgap.robustness.integral import win_probability

EXACT = ("none", "recenter", "orthogonal", "affine")
SEEDS = st.integers(0, 2**31)
#: Few levels, so that the integral's tables are made once.
SIGMAS = st.sampled_from([0.1, 0.6])


def fit(method: str, queries: np.ndarray, gallery: np.ndarray, **options: Any) -> Closure:
    return closers.fit(method, queries, gallery, **{"metric": "euclidean", **options})


def clouds(seed: int, *, n: int = 6, d: int = 12, m: int = 25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(n, d)) * rng.uniform(0.2, 2) + rng.normal(size=d)
    queries = rng.normal(size=(m, d)) * rng.uniform(0.2, 2) + rng.normal(size=d) * 2
    return queries, gallery


def losses(queries: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """Squared distances, negative products or negative cosines, straight from the definition."""
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    if metric == "euclidean":
        return ((queries[:, None] - gallery[None]) ** 2).sum(axis=2)
    return -np.einsum("md,nd->mn", queries, gallery)


def mapped(
    closure: Closure, queries: np.ndarray, gallery: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return closure.apply_queries(queries), closure.apply_gallery(gallery)


@given(seed=SEEDS, n=st.integers(1, 20), alpha=st.floats(-1, 3))
@pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
@pytest.mark.parametrize("method", EXACT)
def test_fact_1_no_decision_changes(
    method: str, metric: str, seed: int, n: int, alpha: float
) -> None:
    queries, gallery = clouds(seed, n=n)
    options: dict[str, Any] = {"metric": metric}
    if method in ("orthogonal", "affine"):
        options["alpha"] = alpha
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)  # n > d + 1: nothing to close, said so
        closure = fit(method, queries, gallery, **options)
    assert closure.exact
    before = losses(queries, gallery, metric)
    after = losses(*mapped(closure, queries, gallery), closure.comparison)
    chosen = after.argmin(axis=1)
    rows = np.arange(len(queries))
    # Ties aside: where the item chosen differs, it was as near to 1e-9.
    assert np.all(before[rows, chosen] - before.min(axis=1) <= 1e-9 * (1 + np.abs(before).max()))


@pytest.mark.parametrize("method", ["orthogonal", "affine"])
def test_fact_1_fails_with_fewer_components(method: str) -> None:
    changed = 0
    for seed in range(30):
        queries, gallery = clouds(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closure = fit(method, queries, gallery, n_components=2)
        assert not closure.exact
        after = losses(*mapped(closure, queries, gallery), "euclidean")
        changed += int((after.argmin(1) != losses(queries, gallery, "euclidean").argmin(1)).sum())
    assert changed > 0


@given(seed=SEEDS, alpha=st.floats(0, 2), sigma=SIGMAS)
def test_fact_2_moving_the_gallery_or_the_queries_is_the_same(
    seed: int, alpha: float, sigma: float
) -> None:
    queries, gallery = clouds(seed)
    systems = [
        mapped(fit("orthogonal", queries, gallery, alpha=alpha, side=side), queries, gallery)
        for side in ("gallery", "queries")
    ]
    one, other = (losses(*system, "euclidean") for system in systems)
    assert np.allclose(one, other)
    decided = one.argmin(axis=1)
    stable = [
        win_probability(*system, decided, [sigma], metric="euclidean")[0] for system in systems
    ]
    assert np.allclose(*stable, atol=1e-6)
    noise = np.random.default_rng(seed + 1).normal(size=gallery.shape) * sigma
    noisy = [losses(y, x + noise, "euclidean") for y, x in systems]
    assert np.allclose(*noisy)


@given(seed=SEEDS, sigma=st.floats(0.01, 5))
@pytest.mark.parametrize("method", EXACT)
def test_fact_3_noise_on_queries_is_untouched(method: str, seed: int, sigma: float) -> None:
    queries, gallery = clouds(seed)
    closure = fit(method, queries, gallery)
    noise = np.random.default_rng(seed + 1).normal(size=queries.shape) * sigma
    plain = losses(queries + noise, gallery, "euclidean")
    y, x = mapped(closure, queries, gallery)
    # After the map, as stored and compared; and before it.
    for after in (
        losses(y + noise, x, "euclidean"),
        losses(closure.apply_queries(queries + noise), x, "euclidean"),
    ):
        gap = plain[np.arange(len(plain)), after.argmin(1)] - plain.min(1)
        assert np.all(gap <= 1e-9 * (1 + np.abs(plain).max()))


@given(seed=SEEDS, alpha=st.floats(0, 3))
def test_fact_4_unit_rows_may_be_renormalised(seed: int, alpha: float) -> None:
    queries, gallery = clouds(seed)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    moved = fit("orthogonal", queries, gallery, alpha=alpha).apply_gallery(gallery)
    lengths = np.linalg.norm(moved, axis=1)
    assert np.allclose(lengths, lengths[0])
    before = losses(queries, gallery, "euclidean")
    after = losses(queries, moved / lengths[:, None], "euclidean")
    scale = np.abs(before).max() / min(1.0, lengths[0])
    assert np.all(before[np.arange(25), after.argmin(1)] - before.min(1) <= 1e-8 * (1 + scale))


def test_fact_4_fails_without_unit_rows_or_with_fewer_components() -> None:
    changed = {"length": 0, "components": 0}
    for seed in range(20):
        queries, gallery = clouds(seed)
        unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            cases = {
                "length": (gallery, fit("orthogonal", queries, gallery)),
                "components": (unit, fit("orthogonal", queries, unit, n_components=2)),
            }
        for name, (items, closure) in cases.items():
            moved = closure.apply_gallery(items)
            moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
            before = losses(queries, items, "euclidean").argmin(1)
            changed[name] += int((losses(queries, moved, "euclidean").argmin(1) != before).sum())
    assert min(changed.values()) > 0


@given(seed=SEEDS, sigma=SIGMAS, n=st.integers(2, 11))
@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_fact_5_the_projection_is_the_most_stable_query_by_query(
    metric: str, seed: int, sigma: float, n: int
) -> None:
    queries, gallery = clouds(seed, n=n)
    decided = losses(queries, gallery, metric).argmin(axis=1)
    stable = {}
    for method in EXACT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closure = fit(method, queries, gallery, metric=metric)
        stable[method] = win_probability(
            *mapped(closure, queries, gallery), decided, [sigma], metric=metric
        )[0]
    for method in ("none", "recenter", "orthogonal"):
        # The integral's own error is under 1e-5.
        assert np.all(stable["affine"] >= stable[method] - 2e-5)


@given(seed=SEEDS, sigma=SIGMAS)
def test_fact_5_orthogonal_helps_exactly_the_queries_that_it_brings_nearer(
    seed: int, sigma: float
) -> None:
    queries, gallery = clouds(seed)
    closure = fit("orthogonal", queries, gallery)
    moved = closure.apply_gallery(gallery)
    decided = losses(queries, gallery, "euclidean").argmin(axis=1)
    before = win_probability(queries, gallery, decided, [sigma], metric="euclidean")[0]
    after = win_probability(queries, moved, decided, [sigma], metric="euclidean")[0]
    axes = np.linalg.svd(gallery - gallery.mean(0), full_matrices=False)[2][:5]

    def height(items: np.ndarray) -> np.ndarray:
        step = queries - items.mean(0)
        return np.linalg.norm(step - step @ axes.T @ axes, axis=1)

    nearer = height(moved) < height(gallery)
    assert np.all(after[nearer] >= before[nearer] - 2e-5)
    assert np.all(after[~nearer] <= before[~nearer] + 2e-5)


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_fact_5_on_real_embeddings(real_data: Any, metric: str) -> None:
    images = real_data("caltech101_clip_vitb32", "images.npy")[::4]
    texts = real_data("caltech101_clip_vitb32", "texts.npy")[3]
    decided = losses(images, texts, metric).argmin(axis=1)
    stable = {
        name: win_probability(
            *mapped(fit(name, images, texts, metric=metric), images, texts),
            decided,
            [0.022, 0.04],
            metric=metric,
        )
        for name in EXACT
    }
    for name in ("none", "recenter", "orthogonal"):
        assert np.all(stable["affine"] >= stable[name] - 2e-5)
    if metric == "euclidean":
        assert stable["orthogonal"].mean() > stable["none"].mean() + 0.1
