"""The closer `scaled`: exact on a sphere, honest off it, and more stable than the projection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgap import closers
from modgap.closers import Closure
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ClosureWarning
from modgap.robustness.integral import win_probability


def fit(method: str, queries: np.ndarray, gallery: np.ndarray, **options: Any) -> Closure:
    return closers.fit(method, queries, gallery, **{"metric": "euclidean", **options})


def clouds(seed: int, n: int = 7, d: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(n, d)) + 0.5
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    return rng.normal(size=(30, d)) - 0.5, gallery


@given(seed=st.integers(0, 10**6), scale=st.floats(0.05, 50), n=st.integers(2, 14))
def test_every_ranking_stays_on_a_sphere(seed: int, scale: float, n: int) -> None:
    queries, gallery = clouds(seed, n)  # n > d + 1 too: the gallery then spans the space
    closure = fit("scaled", queries, gallery, scale=scale)
    assert closure.exact
    before = np.linalg.norm(queries[:, None] - gallery[None], axis=2) ** 2
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    after = np.linalg.norm(y[:, None] - x[None], axis=2) ** 2
    # Differences of squared distances are those before, times the scale.
    margins = (before[:, :1] - before) * scale
    assert np.allclose(after[:, :1] - after, margins, atol=1e-9 * max(1, scale) ** 2)


def test_scale_one_is_affine_and_reduce_keeps_distances() -> None:
    queries, gallery = clouds(1)
    one = fit("scaled", queries, gallery, scale=1.0)
    affine = fit("affine", queries, gallery)
    assert np.allclose(one.apply_queries(queries), affine.apply_queries(queries))
    assert np.allclose(one.apply_gallery(gallery), affine.apply_gallery(gallery))
    whole = fit("scaled", queries, gallery)
    small = fit("scaled", queries, gallery, reduce=True)
    assert small.queries.output_width == 6
    wide = whole.apply_queries(queries)[:, None] - whole.apply_gallery(gallery)[None]
    narrow = small.apply_queries(queries)[:, None] - small.apply_gallery(gallery)[None]
    assert np.allclose(np.linalg.norm(wide, axis=2), np.linalg.norm(narrow, axis=2))


def test_items_of_any_length_lie_on_a_sphere_where_they_are_independent() -> None:
    queries, gallery = clouds(2)
    gallery = gallery * np.linspace(1, 3, 7)[:, None]
    closure = fit("scaled", queries, gallery, scale=8)
    assert closure.exact
    before = nearest(queries, gallery, metric="euclidean").indices
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    assert np.array_equal(nearest(y, x, metric="euclidean").indices, before)


def test_off_every_sphere_it_warns_and_is_not_exact() -> None:
    queries, gallery = clouds(2, n=40)
    gallery = gallery * np.linspace(1, 3, 40)[:, None]
    with pytest.warns(ClosureWarning, match="lie on no common sphere") as caught:
        closure = fit("scaled", queries, gallery, scale=8)
    assert len(caught) == 1
    assert not closure.exact
    before = nearest(queries, gallery, metric="euclidean").indices
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    assert (before != nearest(y, x, metric="euclidean").indices).any()
    assert fit("scaled", queries, gallery, metric="cosine").exact


@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_it_brings_products_into_a_euclidean_index(metric: str) -> None:
    queries, gallery = clouds(4, n=30)
    closure = fit("scaled", queries, gallery, metric=metric)
    assert closure.exact
    assert closure.comparison == "euclidean"
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    before = nearest(queries, gallery, k=30, metric=metric).indices
    assert np.array_equal(nearest(y, x, k=30, metric="euclidean").indices, before)


def test_what_it_does_not_take() -> None:
    queries, gallery = clouds(3)
    with pytest.raises(ArgumentError, match="`scaled` has no option `compare`"):
        fit("scaled", queries, gallery, compare="ip")
    with pytest.raises(ArgumentError, match="`affine` has no option `scale`"):
        fit("affine", queries, gallery, scale=2.0)
    with pytest.raises(ArgumentError, match=r"`scale` must be finite and in \(0, inf\]; got 0"):
        fit("scaled", queries, gallery, scale=0)


@pytest.mark.parametrize(
    ("folder", "template", "least"),
    [("caltech101_clip_vitb32", 3, 0.95), ("cifar10_openclip_vitb32_laion2b", 0, 0.88)],
)
def test_on_real_embeddings_it_beats_the_projection_and_keeps_answers(
    real_data: Any, folder: str, template: int, least: float
) -> None:
    images, texts = real_data(folder, "images.npy"), real_data(folder, "texts.npy")[template]
    means = {}
    for name in ("none", "affine", "scaled"):
        closure = fit(name, images, texts)
        y, x = closure.apply_queries(images), closure.apply_gallery(texts)
        decided = nearest(y, x, metric="euclidean").indices[:, 0]
        assert np.array_equal(decided, nearest(images, texts, metric="euclidean").indices[:, 0])
        means[name] = win_probability(y, x, decided, [0.04], metric="euclidean").mean()
    assert means["none"] < means["affine"] < least < means["scaled"]
