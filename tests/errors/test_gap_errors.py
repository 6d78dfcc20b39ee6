"""What the measures refuse, and what they say: the argument, the rule, the values seen, the fix."""

from __future__ import annotations

import re

import numpy as np
import pytest

from modgap import measures as gap
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.measures import cloud as geometry

X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
WIDE = np.ones((2, 4))

TWO_CLOUDS = [
    gap.gap_vector,
    gap.gap_direction,
    gap.centroid_gap,
    gap.squared_gap_per_dimension,
    gap.centroid_cosine,
    gap.centroid_gap_floor,
    gap.gap_variance_ratio,
    gap.residual_gap_curve,
    gap.frechet_distance,
    gap.linear_separability,
    gap.hubness,
    gap.doubly_stochastic_deviation,
    gap.measure,
]
PAIRS = [
    gap.paired_distance,
    gap.alignment,
    gap.paired_cosine,
    gap.matched_mismatched_margin,
    gap.relative_modality_gap,
    gap.relative_alignment,
]
ONE_CLOUD = [
    geometry.average_norm,
    geometry.mean_cosine,
    geometry.total_variance,
    geometry.spectrum,
    geometry.effective_rank,
    geometry.participation_ratio,
    geometry.uniformity,
]
NEED_TWO_ROWS = [
    gap.centroid_gap_floor,
    gap.gap_variance_ratio,
    gap.linear_separability,
    gap.matched_mismatched_margin,
    gap.relative_modality_gap,
]


def named(function):
    return function.__name__


def refuses(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize("figure", TWO_CLOUDS, ids=named)
class TestTwoClouds:
    def test_widths_must_agree(self, figure):
        message = (
            "`queries` and `gallery` must share their last axis (the embedding dimension d); "
            "got (3, 3) and (2, 4)"
        )
        with refuses(ShapeError, message):
            figure(X, WIDE)

    def test_each_has_two_axes(self, figure):
        with refuses(ShapeError, "`queries` must have shape (rows, d); got (3,)"):
            figure(X[0], X)
        with refuses(ShapeError, "`gallery` must have shape (rows, d); got (1, 3, 3)"):
            figure(X, X[None])

    def test_each_has_rows(self, figure):
        with pytest.raises(ShapeError, match=r"`gallery` must have at least \d row.*\(0, 3\)"):
            figure(X, X[:0])

    def test_values_are_finite(self, figure):
        broken = np.where(np.arange(3)[:, None] >= 1, np.nan, X)
        with refuses(DataError, "`gallery` row 1 (of 2 such rows) holds NaN or infinity"):
            figure(X, broken)

    def test_rows_have_directions(self, figure):
        with refuses(DataError, "`queries` row 2 (of 1 such rows) is all zeros"):
            figure(X * np.array([[1], [1], [0]]), X)

    def test_values_are_floats(self, figure):
        with refuses(DataError, "`queries` must hold floating-point embeddings; got int64"):
            figure(X.astype(np.int64), X)

    def test_libraries_are_not_mixed(self, figure):
        torch = pytest.importorskip("torch")
        with refuses(DataError, "`queries` and `gallery` must be arrays of one library"):
            figure(X, torch.asarray(X))


@pytest.mark.parametrize("figure", PAIRS, ids=named)
class TestPairs:
    def test_rows_must_pair(self, figure):
        with refuses(ShapeError, "`a` and `b` must pair row by row; got 3 and 2 rows"):
            figure(X, X[:2])

    def test_widths_must_agree(self, figure):
        with refuses(ShapeError, "`a` and `b` must share their last axis"):
            figure(X, WIDE)

    def test_rows_have_directions(self, figure):
        with refuses(DataError, "`b` row 0 (of 1 such rows) is all zeros"):
            figure(X, X * np.array([[0], [1], [1]]))


@pytest.mark.parametrize("figure", ONE_CLOUD, ids=named)
class TestOneCloud:
    def test_shape_and_values(self, figure):
        with refuses(ShapeError, "`x` must have shape (rows, d); got (3,)"):
            figure(X[0])
        infinite = np.array([[0.0, 1.0], [np.inf, 1.0], [1.0, -np.inf]])
        with refuses(DataError, "`x` row 1 (of 2 such rows) holds NaN or infinity"):
            figure(infinite)
        with refuses(DataError, "`x` must be an array of floats; got str"):
            figure("images.npy")

    def test_rows_have_directions(self, figure):
        if figure is geometry.average_norm:
            assert figure(np.zeros((2, 3))) == 0.0
            return
        with refuses(DataError, "`x` row 0 (of 3 such rows) is all zeros"):
            figure(0 * X)


@pytest.mark.parametrize("figure", NEED_TWO_ROWS, ids=named)
def test_one_row_is_too_few(figure):
    with pytest.raises(ShapeError, match=r"must have at least 2 row\(s\); got shape \(1, 3\)"):
        figure(X[:1], X[:1])


@pytest.mark.parametrize(
    "figure", [geometry.mean_cosine, geometry.effective_rank, geometry.uniformity], ids=named
)
def test_one_row_has_no_pairs(figure):
    with refuses(ShapeError, "`x` must have at least 2 row(s); got shape (1, 3)"):
        figure(X[:1])


@pytest.mark.parametrize(
    "figure", [gap.gap_direction, gap.gap_variance_ratio, gap.residual_gap_curve]
)
def test_a_closed_gap_has_no_direction(figure):
    message = "`queries` and `gallery` have the same mean up to rounding"
    with refuses(DataError, message):
        figure(X, X)
    # A mean that is zero but for float32 rounding.
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with refuses(DataError, message):
        figure(rows - rows.mean(0), rows[::-1] - rows.mean(0), normalize=False)


def test_a_mean_of_zero_has_no_cosine():
    with refuses(DataError, "the mean of `gallery` is zero up to rounding"):
        gap.centroid_cosine(X, np.concatenate([X, -X]))


def test_points_have_no_spread():
    point = np.ones((3, 3))
    with refuses(DataError, "`gallery` has no spread: all rows are equal up to rounding"):
        gap.gap_variance_ratio(X, point)
    with refuses(DataError, "`x` has no spread"):
        gap.difference_cosines(point, X[0])
    with refuses(DataError, "`a` and `b` hold one direction only"):
        gap.relative_modality_gap(point, 2 * point)


def test_components_beyond_the_rank():
    with refuses(ArgumentError, "`ks` asks for 3 components, but the gallery of 3 rows has only 2"):
        gap.residual_gap_curve(X + 1, X, ks=[0, 3])
    with refuses(ArgumentError, "`ks` must be at least 0; got -1"):
        gap.residual_gap_curve(X + 1, X, ks=[-1])
    with refuses(ArgumentError, "`ks` must be an integer; got 0.5"):
        gap.residual_gap_curve(X + 1, X, ks=[0.5])


def test_directions_fit_the_cloud():
    with refuses(ShapeError, "`direction` and `x` must share their last axis"):
        gap.difference_cosines(X, np.ones(4))
    with refuses(ShapeError, "`direction` must have shape (rows,); got (1, 3)"):
        gap.difference_cosines(X, np.ones((1, 3)))
    with refuses(DataError, "`direction` is zero"):
        gap.difference_cosines(X, np.zeros(3))
    with refuses(DataError, "`direction` row 0 (of 1 such rows) holds NaN"):
        gap.difference_cosines(X, np.array([np.nan, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gap.alignment(X, X, alpha=0), "`alpha` must be finite and in (0, inf]; got 0"),
        (lambda: geometry.uniformity(X, t=-1), "`t` must be finite and in (0, inf]; got -1"),
        (lambda: geometry.uniformity(X, sample=1), "`sample` must be at least 2; got 1"),
        (lambda: geometry.uniformity(X, sample=2.5), "`sample` must be an integer; got 2.5"),
        (lambda: gap.hubness(X, X, k=4), "`k` must be between 1 and 3; got 4"),
        (
            lambda: gap.hubness(X, X, metric="manhattan"),
            "`metric` must be one of cosine, ip, euclidean; got 'manhattan'",
        ),
        (
            lambda: gap.doubly_stochastic_deviation(X, X, metric="cosine"),
            "`metric` must be euclidean or ip; for cosine normalise the rows first",
        ),
        (
            lambda: gap.doubly_stochastic_deviation(X, X, temperature=0),
            "`temperature` must be finite and in (0, inf]; got 0",
        ),
        (
            lambda: gap.linear_separability(X, X, test_share=1.5),
            "`test_share` must be finite and in (0, 1]; got 1.5",
        ),
        (
            lambda: gap.linear_separability(X, X, penalty="strong"),
            "`penalty` must be a number; got 'strong'",
        ),
        (lambda: gap.linear_separability(X, X, seed=-1), "`seed` must be at least 0; got -1"),
        (lambda: geometry.uniformity(X, seed=-1), "`seed` must be at least 0; got -1"),
        (lambda: gap.measure(X, X, sample=1), "`sample` must be at least 2; got 1"),
        (lambda: gap.measure(X, X, k=0), "`k` must be at least 1; got 0"),
    ],
)
def test_options_out_of_range(call, message):
    with refuses(ArgumentError, message):
        call()


def test_measured_pairs_must_pair():
    with refuses(ShapeError, "`queries` and `gallery` must pair row by row; got 3 and 2 rows"):
        gap.measure(X, X[:2], paired=True)


def test_jax_in_32_bits_says_how_to_switch():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        with refuses(DataError, 'jax.config.update("jax_enable_x64", True)'):
            gap.centroid_gap(jax.numpy.asarray(X), jax.numpy.asarray(X))
    finally:
        jax.config.update("jax_enable_x64", before)
