"""What a closure says of itself: no score difference moves by more than `bound`, in any dtype.

The change is measured in float64: scores of the mapped rows as they came back, over the gain, against
scores of the rows that went in.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgap._core.moments import Moments
from modgap.closers import Closure, Statistics, fit_statistics
from modgap.decisions.metric import as_metric
from modgap.errors import ClosureWarning

METRICS = ("cosine", "ip", "euclidean")
DTYPES = ("float64", "float32", "float16")
#: Every option of every closer that promises anything, alone and where two of them meet.
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("none", {}),
    ("recenter", {}),
    ("recenter", {"compare": "euclidean"}),
    ("orthogonal", {}),
    ("orthogonal", {"alpha": 2.5, "side": "queries"}),
    ("orthogonal", {"alpha": -1.0, "side": "gallery", "n_components": 0.5}),
    ("affine", {}),
    ("affine", {"alpha": 0.5}),
    ("affine", {"alpha": 3.0}),
    ("affine", {"compare": "ip"}),
    ("affine", {"compare": "euclidean", "reduce": True}),
    ("affine", {"n_components": 0.5}),
    ("affine", {"n_components": 0.9, "reduce": True}),
    ("scaled", {}),
    ("scaled", {"scale": 0.1}),
    ("scaled", {"scale": 30.0, "reduce": True}),
    ("scaled", {"n_components": 0.5, "reduce": True}),
)


def scores(queries: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """y.x, by distance y.x - |x|^2 / 2, each up to a constant per query: about the gallery's mean."""
    y, x = queries.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        y, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (y, x))
    centre = x.mean(axis=0)
    if metric == "euclidean":
        return (y - centre) @ (x - centre).T - ((x - centre) ** 2).sum(axis=1) / 2
    return y @ (x - centre).T


def statistics(
    queries: np.ndarray, gallery: np.ndarray, metric: str, *, streamed: bool
) -> Statistics:
    """What rows say, or a stream of three blocks."""
    of = as_metric(metric)
    if not streamed:
        return Statistics.of_rows(queries, gallery, of)
    parts = [
        Moments.from_blocks(
            np.array_split(of.prepare(rows), min(3, len(rows))), precision="float64"
        )
        for rows in (queries, gallery)
    ]
    return Statistics.of_moments(*parts, of)


def fit(stats: Statistics, method: str, options: dict[str, Any]) -> Closure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        return fit_statistics(method, stats, **options)


def check(closure: Closure, queries: np.ndarray, gallery: np.ndarray, before: np.ndarray) -> float:
    """Check the bound and what follows from it; return the largest change of a score difference."""
    mapped = closure.apply_queries(queries), closure.apply_gallery(gallery)
    after = scores(*mapped, closure.comparison) / closure.gain
    change = after - before
    moved = float(np.ptp(change, axis=1).max())
    # The measurement is in float64, which rounds squared lengths too; resolution there is a million
    # roundings.
    slack = 1e-3 * closure.resolution if queries.dtype == np.float64 else 0.0
    allowed = closure.bound * (1 + 1e-9) + slack
    assert moved <= allowed, (closure.label, closure.info, moved, closure.bound)
    lost = before.max(axis=1) - before[np.arange(len(before)), after.argmax(axis=1)]
    assert lost.max() <= allowed
    if closure.exact:
        assert lost.max() <= closure.resolution * 1.001
    return moved


def clouds(name: str, real_data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of every kind that rounding treats differently, a hundred rows of 96 numbers or so."""
    rng = np.random.default_rng(5)
    if name == "half-rank rows of two blocks":  # sums of products pile up
        blocks = np.kron(np.eye(2), np.ones(48)) / 8
        return rng.uniform(0.5, 1, (60, 2)) @ blocks, rng.uniform(0.5, 1, (30, 2)) @ blocks
    if name == "one large coordinate":
        large = (np.arange(96) == 3) * 10.0
        return tuple(
            rng.normal(size=(n, 96)) / 30 + large * rng.uniform(0.5, 1, (n, 1)) for n in (60, 40)
        )
    y = real_data("caltech101_clip_vitb32", "images.npy")[::12, 64:160]
    x = real_data("caltech101_clip_vitb32", "texts.npy")[3][:, 64:160]
    if name == "caltech":
        return y, x
    if name == "caltech, far away":
        return y + np.float32(1e3), x + np.float32(1e3)
    if name == "caltech, one coordinate far away":
        away = np.where(np.arange(96) == 3, np.float32(100), np.float32(0))
        return y + away, x + away
    y, x = (
        real_data("coco_clip_vitb16", side)[:110, 64:160] for side in ("images.npy", "texts.npy")
    )
    if name == "coco, full rank":
        return y[:50], x
    return y[:50], x[:70] * rng.uniform(0.5, 2, (70, 1)).astype(np.float32)


KINDS = (
    "caltech",
    "caltech, far away",
    "caltech, one coordinate far away",
    "coco, full rank",
    "coco of any length",
    "half-rank rows of two blocks",
    "one large coordinate",
)


@pytest.mark.parametrize("name", KINDS)
def test_no_score_difference_moves_further_than_the_bound(name: str, real_data: Any) -> None:
    tightest = 0.0
    for dtype, metric, streamed in (
        ("float64", "euclidean", False),
        ("float32", "cosine", False),
        ("float32", "cosine", True),
        ("float32", "ip", False),
        ("float32", "euclidean", False),
        ("float32", "euclidean", True),
        ("float16", "cosine", False),
        ("float16", "ip", True),
    ):
        queries, gallery = (rows.astype(dtype) for rows in clouds(name, real_data))
        before = scores(queries, gallery, metric)
        stats = statistics(queries, gallery, metric, streamed=streamed)
        for method, options in SETTINGS:
            closure = fit(stats, method, options)
            moved = check(closure, queries, gallery, before)
            tightest = max(tightest, moved / closure.bound if closure.bound else 0.0)
    assert tightest > 0.1  # it is no bound by being huge


@given(
    seed=st.integers(0, 2**31),
    setting=st.sampled_from(SETTINGS),
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from(DTYPES),
    streamed=st.booleans(),
    shape=st.tuples(st.integers(3, 40), st.integers(1, 24), st.integers(4, 24)),
    away=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_the_bound_holds_for_clouds_that_nobody_chose(
    seed: int,
    setting: tuple[str, dict[str, Any]],
    metric: str,
    dtype: str,
    streamed: bool,
    shape: tuple[int, int, int],
    away: float,
) -> None:
    rng = np.random.default_rng(seed)
    items, rank, width = shape
    spectrum = np.geomspace(1, rng.choice([1.0, 1e-2]), rank)
    gallery = (rng.normal(size=(items, rank)) * spectrum) @ rng.normal(size=(rank, width))
    queries = rng.normal(size=(20, width)) * rng.uniform(0.2, 2)
    centres = rng.normal(size=(2, width)) * away
    queries, gallery = (queries + centres[0]).astype(dtype), (gallery + centres[1]).astype(dtype)
    stats = statistics(queries, gallery, metric, streamed=streamed)
    method, options = setting
    check(fit(stats, method, options), queries, gallery, scores(queries, gallery, metric))


@pytest.mark.parametrize(
    ("folder", "dtype", "images_are_queries"),
    [
        ("caltech101_clip_vitb32", "float64", True),
        ("caltech101_clip_vitb32", "float32", True),
        ("caltech101_clip_vitb32", "float16", True),
        ("coco_clip_vitb16", "float32", True),
        ("coco_clip_vitb16", "float16", False),
    ],
)
def test_real_embeddings_of_every_dtype_keep_the_claim(
    folder: str, dtype: str, images_are_queries: bool, real_data: Any
) -> None:
    images, texts = (real_data(folder, f"{side}.npy").astype(dtype) for side in ("images", "texts"))
    texts = texts[3] if texts.ndim == 3 else texts
    queries, gallery = (images[:200], texts) if images_are_queries else (texts[:200], images)
    for metric in ("cosine", "euclidean"):
        stats = Statistics.of_rows(queries, gallery, as_metric(metric))
        before = scores(queries, gallery, metric)
        for method, options in (
            ("none", {}),
            ("recenter", {}),
            ("orthogonal", {}),
            ("affine", {}),
            ("affine", {"reduce": True}),
            ("scaled", {}),
        ):
            closure = fit(stats, method, options)
            assert closure.exact, (metric, closure.label, closure.bound, closure.resolution)
            assert closure.rank == len(gallery) - 1
            check(closure, queries, gallery, before)
