"""Laws of the measures: rotations, shifts, scales, swaps, and the bounds each docstring states."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgap import measures as gap
from modgap.measures import cloud as geometry

SEEDS = st.integers(0, 2**32 - 1)

# Figures of two clouds, each as a flat list of numbers.
TWO_CLOUDS = {
    "centroid_gap": gap.centroid_gap,
    "squared_gap_per_dimension": gap.squared_gap_per_dimension,
    "centroid_gap_floor": gap.centroid_gap_floor,
    "centroid_cosine": gap.centroid_cosine,
    "gap_variance_ratio": gap.gap_variance_ratio,
    "residual_gap_curve": gap.residual_gap_curve,
    "frechet_distance": gap.frechet_distance,
    "linear_separability": gap.linear_separability,
    "doubly_stochastic_deviation": gap.doubly_stochastic_deviation,
    "difference_cosines": lambda y, x, **o: gap.difference_cosines(
        x, gap.gap_vector(y, x, **o), **o
    ),
}
PAIRS = {"paired_distance": gap.paired_distance, "alignment": gap.alignment}
COSINES = {
    "paired_cosine": gap.paired_cosine,
    "matched_mismatched_margin": gap.matched_mismatched_margin,
    "relative_modality_gap": gap.relative_modality_gap,
    "relative_alignment": gap.relative_alignment,
    "hubness": lambda y, x: gap.hubness(y, x, k=3),
}
ONE_CLOUD = {
    "total_variance": geometry.total_variance,
    "effective_rank": geometry.effective_rank,
    "participation_ratio": geometry.participation_ratio,
    "uniformity": geometry.uniformity,
    "spectrum": geometry.spectrum,
}
# Sums in another basis: float64 rounding, grown by eigenvectors and by logits of up to 200.
CLOSE = {"rel": 1e-8, "abs": 1e-9}


def numbers(found):
    if hasattr(found, "__dataclass_fields__"):
        return [v for value in asdict(found).values() for v in np.atleast_1d(value).tolist()]
    return np.atleast_1d(found).tolist()


def two_clouds(seed, *, paired=False):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(3, 7))
    m, n = rng.integers(d + 2, 20, size=2)
    y = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + 2 * rng.normal(size=d)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 2 * rng.normal(size=d)
    return (y, y + rng.normal(size=(m, d)) + 2 * rng.normal(size=d)) if paired else (y, x)


def rotation(seed, d):
    return np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(d, d)))[0]


@pytest.mark.parametrize("name", [*TWO_CLOUDS, *PAIRS, *COSINES])
@given(seed=SEEDS)
def test_a_common_rotation_changes_no_figure(name, seed):
    figure = {**TWO_CLOUDS, **PAIRS, **COSINES}[name]
    y, x = two_clouds(seed, paired=name not in TWO_CLOUDS)
    q = rotation(seed, y.shape[1])
    assert numbers(figure(y @ q, x @ q)) == pytest.approx(numbers(figure(y, x)), **CLOSE)


@pytest.mark.parametrize("name", [*ONE_CLOUD, "mean_cosine", "average_norm"])
@given(seed=SEEDS)
def test_a_rotation_changes_no_cloud_s_geometry(name, seed):
    figure = getattr(geometry, name)
    _, x = two_clouds(seed)
    q = rotation(seed, x.shape[1])
    assert numbers(figure(x @ q)) == pytest.approx(numbers(figure(x)), **CLOSE)


@given(seed=SEEDS)
def test_the_gap_vector_turns_with_the_clouds(seed):
    y, x = two_clouds(seed)
    q = rotation(seed, y.shape[1])
    turned = gap.gap_vector(y @ q, x @ q)
    np.testing.assert_allclose(turned, gap.gap_vector(y, x) @ q, atol=1e-13)


@pytest.mark.parametrize("name", sorted({*TWO_CLOUDS, *PAIRS} - {"centroid_cosine"}))
@given(seed=SEEDS)
def test_a_common_shift_changes_no_raw_figure(name, seed):
    figure = {**TWO_CLOUDS, **PAIRS}[name]
    y, x = two_clouds(seed, paired=name in PAIRS)
    shift = 3 * np.random.default_rng(seed + 2).normal(size=y.shape[1])
    moved = figure(y + shift, x + shift, normalize=False)
    # The softmax's logits are squared distances over 0.02: their rounding is 1e3 times larger.
    assert numbers(moved) == pytest.approx(
        numbers(figure(y, x, normalize=False)), rel=1e-7, abs=1e-8
    )


@pytest.mark.parametrize("name", ONE_CLOUD)
@given(seed=SEEDS)
def test_a_shift_changes_no_raw_geometry(name, seed):
    _, x = two_clouds(seed)
    shift = 3 * np.random.default_rng(seed + 2).normal(size=x.shape[1])
    moved = ONE_CLOUD[name](x + shift, normalize=False)
    assert numbers(moved) == pytest.approx(numbers(ONE_CLOUD[name](x, normalize=False)), **CLOSE)


@pytest.mark.parametrize("name", [*TWO_CLOUDS, *PAIRS, *COSINES])
@given(seed=SEEDS)
def test_lengths_of_rows_do_not_matter_unless_asked(name, seed):
    figure = {**TWO_CLOUDS, **PAIRS, **COSINES}[name]
    y, x = two_clouds(seed, paired=name not in TWO_CLOUDS)
    rng = np.random.default_rng(seed + 3)
    scaled = [rows * rng.uniform(0.1, 10, size=(len(rows), 1)) for rows in (y, x)]
    assert numbers(figure(*scaled)) == pytest.approx(numbers(figure(y, x)), **CLOSE)


@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_raw_figures_scale_with_their_powers(seed, scale):
    y, x = two_clouds(seed)
    a, b = two_clouds(seed, paired=True)
    raw = {"normalize": False}
    powers = {
        1: [gap.centroid_gap, gap.centroid_gap_floor],
        2: [
            gap.squared_gap_per_dimension,
            lambda q, p, **o: gap.frechet_distance(q, p, **o).squared,
            lambda q, p, **o: geometry.total_variance(p, **o),
        ],
        0: [
            gap.centroid_cosine,
            lambda q, p, **o: gap.gap_variance_ratio(q, p, **o).gallery,
            lambda q, p, **o: gap.residual_gap_curve(q, p, **o).ratios[1],
            lambda q, p, **o: geometry.effective_rank(p, **o),
            lambda q, p, **o: geometry.participation_ratio(p, **o),
        ],
    }
    for power, figures in powers.items():
        for figure in figures:
            expected = scale**power * figure(y, x, **raw)
            assert figure(scale * y, scale * x, **raw) == pytest.approx(expected, rel=1e-8)
    assert gap.paired_distance(scale * a, scale * b, **raw) == pytest.approx(
        scale * gap.paired_distance(a, b, **raw), rel=1e-12
    )


@pytest.mark.parametrize(
    "name",
    [
        "centroid_gap", "squared_gap_per_dimension", "centroid_gap_floor", "centroid_cosine",
        "frechet_distance", "paired_distance", "alignment", "paired_cosine",
        "matched_mismatched_margin", "relative_modality_gap",
    ],
)  # fmt: skip
@given(seed=SEEDS)
def test_swapping_the_clouds_changes_nothing(name, seed):
    figure = {**TWO_CLOUDS, **PAIRS, **COSINES}[name]
    y, x = two_clouds(seed, paired=name not in TWO_CLOUDS)
    assert numbers(figure(x, y)) == pytest.approx(numbers(figure(y, x)), **CLOSE)


@given(seed=SEEDS)
def test_swapping_the_clouds_swaps_the_rest(seed):
    y, x = two_clouds(seed)
    np.testing.assert_allclose(gap.gap_vector(x, y), -gap.gap_vector(y, x), atol=1e-15)
    ratio, swapped = gap.gap_variance_ratio(y, x), gap.gap_variance_ratio(x, y)
    assert (swapped.gallery, swapped.queries) == pytest.approx((ratio.queries, ratio.gallery))
    mass, other = gap.doubly_stochastic_deviation(y, x), gap.doubly_stochastic_deviation(x, y)
    assert other.queries_max == pytest.approx(mass.gallery_max, rel=1e-8)
    assert other.gallery_mean == pytest.approx(mass.queries_mean, rel=1e-8)
    a, b = two_clouds(seed, paired=True)
    found, back = gap.relative_alignment(a, b), gap.relative_alignment(b, a)
    assert (back.b_to_a, back.a_to_b, back.mutual) == (found.a_to_b, found.b_to_a, found.mutual)


@pytest.mark.parametrize("name", [*PAIRS, *COSINES])
@given(seed=SEEDS)
def test_the_order_of_pairs_does_not_matter(name, seed):
    figure = {**PAIRS, **COSINES}[name]
    a, b = two_clouds(seed, paired=True)
    order = np.random.default_rng(seed + 4).permutation(len(a))
    assert numbers(figure(a[order], b[order])) == pytest.approx(numbers(figure(a, b)), **CLOSE)


@given(seed=SEEDS)
def test_stated_ranges_hold(seed):
    y, x = two_clouds(seed)
    a, b = two_clouds(seed, paired=True)
    n, d = x.shape
    assert 0 <= gap.centroid_gap(y, x) <= 2
    assert -1 <= gap.centroid_cosine(y, x) <= 1
    assert gap.centroid_gap(a, b) <= gap.paired_distance(a, b) + 1e-12
    assert 0 <= gap.alignment(a, b) <= 4
    assert -2 <= gap.matched_mismatched_margin(a, b) <= 2
    assert 0 <= gap.relative_modality_gap(a, b) <= 1
    assert -1 / (n - 1) - 1e-12 <= geometry.mean_cosine(x) <= 1
    assert 1 <= geometry.participation_ratio(x) <= geometry.effective_rank(x) + 1e-9 <= d + 1e-9
    assert -8 <= geometry.uniformity(x) <= 0
    curve = gap.residual_gap_curve(y, x)
    assert all(p >= q for p, q in pairwise(curve.ratios))
    ratio = gap.gap_variance_ratio(y, x)
    assert 0 <= min(ratio.queries, ratio.gallery) <= max(ratio.queries, ratio.gallery) <= d
    cosines = gap.difference_cosines(x, gap.gap_vector(y, x))
    assert 0 <= cosines.mean_abs <= cosines.rms <= 1
    assert cosines.weighted_rms == pytest.approx((ratio.gallery / d) ** 0.5, rel=1e-10)
    mass = gap.doubly_stochastic_deviation(y, x)
    assert 0 <= mass.gallery_mean <= mass.gallery_max <= n - 1
    assert 0 <= mass.queries_mean <= mass.queries_max <= len(y) - 1
    assert 0 <= gap.linear_separability(y, x) <= 1


@given(seed=SEEDS)
def test_the_variances_along_all_directions_average_one(seed):
    _, x = two_clouds(seed)
    d = x.shape[1]
    ratios = [
        gap.gap_variance_ratio(x + axis, x, normalize=False).gallery for axis in rotation(seed, d)
    ]
    assert np.mean(ratios) == pytest.approx(1, rel=1e-10)


@given(seed=SEEDS)
def test_a_shift_enters_the_frechet_distance_by_its_centroid_alone(seed):
    y, x = two_clouds(seed)
    shift = np.random.default_rng(seed + 5).normal(size=y.shape[1])
    before = gap.frechet_distance(y, x, normalize=False)
    after = gap.frechet_distance(y + shift, x, normalize=False)
    assert after.shape == pytest.approx(before.shape, rel=1e-8, abs=1e-10)
    assert after.centroid == pytest.approx(
        gap.centroid_gap(y + shift, x, normalize=False) ** 2, rel=1e-12
    )


@given(seed=SEEDS)
def test_the_frechet_distance_obeys_the_triangle_inequality(seed):
    y, x = two_clouds(seed)
    z = np.random.default_rng(seed + 6).normal(size=(15, y.shape[1])) * 2

    def distance(p, q):
        return gap.frechet_distance(p, q, normalize=False).distance

    assert distance(y, x) <= distance(y, z) + distance(z, x) + 1e-9
    assert distance(x, x) == pytest.approx(0, abs=1e-6)  # the root of the squares' rounding


@given(seed=SEEDS)
def test_the_residual_gap_is_what_no_decision_depends_on(seed):
    # The part of the gap outside the gallery's axes can be taken away; g itself could not.
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 12))
    y = x + 0.8 * rng.normal(size=x.shape) + 2 * rng.normal(size=12)
    raw = {"normalize": False}
    curve = gap.residual_gap_curve(y, x, **raw)
    g = gap.gap_vector(y, x, **raw)
    axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][: curve.components[-1]]
    rest = g - axes.T @ (axes @ g)
    assert np.linalg.norm(rest) == pytest.approx(
        curve.ratios[-1] * gap.centroid_gap(y, x, **raw), rel=1e-9
    )
    before = gap.relative_alignment(y, x, metric="euclidean").a_to_b
    assert gap.relative_alignment(y, x + rest, metric="euclidean").a_to_b == before


@given(seed=SEEDS)
def test_uniformity_rises_with_sharpness_by_jensen(seed):
    _, x = two_clouds(seed)
    # log E exp(-t s) is convex in t, 0 at 0: its slope cannot fall.
    values = [geometry.uniformity(x, t=t) / t for t in (0.5, 1.0, 2.0, 8.0)]
    assert all(p <= q + 1e-12 for p, q in pairwise(values))
