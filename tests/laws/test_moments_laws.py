"""Laws of moments: merging is concatenation, in any order and any split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modgap._core.moments import Moments, principal_axes

WIDTH = 4


def clouds(min_rows=1, max_rows=12):
    """Clouds of a few rows, some equal, some far from the origin."""
    return st.integers(min_rows, max_rows).flatmap(
        lambda n: hnp.arrays(
            np.float64,
            (n, WIDTH),
            elements=st.floats(-100, 100).map(lambda v: round(v, 3)),
        )
    )


def assert_same(found, expected, scale):
    # Rounding relative to the squared size of the values, since a scatter is a sum of squares.
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-13 * scale)
    np.testing.assert_allclose(found.scatter, expected.scatter, atol=1e-12 * scale**2)


def size(*parts):
    return 1 + sum(float(np.abs(part).sum()) for part in parts)


@given(clouds(), clouds())
def test_merging_is_concatenation(a, b):
    merged = Moments.from_rows(a).merge(Moments.from_rows(b))
    assert_same(merged, Moments.from_rows(np.concatenate([a, b])), size(a, b))


@given(clouds(), clouds(), clouds())
def test_merging_is_associative_and_commutative(a, b, c):
    ma, mb, mc = (Moments.from_rows(part) for part in (a, b, c))
    expected = ma.merge(mb).merge(mc)
    assert_same(ma.merge(mb.merge(mc)), expected, size(a, b, c))
    assert_same(mc.merge(ma).merge(mb), expected, size(a, b, c))


@given(clouds(max_rows=30), st.lists(st.integers(1, 29), max_size=5))
def test_any_split_into_blocks_gives_the_same_moments(x, cuts):
    blocks = [block for block in np.split(x, sorted({c for c in cuts if c < len(x)})) if len(block)]
    assert_same(Moments.from_blocks(blocks), Moments.from_rows(x), size(x))


@given(clouds(), st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(x, seed):
    shuffled = np.random.default_rng(seed).permutation(x)
    assert_same(Moments.from_rows(shuffled), Moments.from_rows(x), size(x))


@given(clouds(), hnp.arrays(np.float64, WIDTH, elements=st.floats(-50, 50)))
def test_a_shift_moves_the_mean_and_nothing_else(x, shift):
    before, after = Moments.from_rows(x), Moments.from_rows(x + shift)
    scale = size(x) + size(shift)
    np.testing.assert_allclose(after.mean, before.mean + shift, atol=1e-13 * scale)
    np.testing.assert_allclose(after.scatter, before.scatter, atol=1e-12 * scale**2)


@given(clouds(min_rows=2), st.integers(0, 1000))
def test_a_rotation_turns_the_axes_and_keeps_the_variances(x, seed):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH)))[0]
    before, after = Moments.from_rows(x), Moments.from_rows(x @ q)
    np.testing.assert_allclose(
        after.full_axes.variances, before.full_axes.variances, atol=1e-12 * size(x) ** 2
    )
    assert after.total_variance == pytest.approx(before.total_variance, abs=1e-12 * size(x) ** 2)


@given(clouds(min_rows=2))
def test_all_axes_rebuild_the_scatter(x):
    moments = Moments.from_rows(x)
    axes = principal_axes(moments)
    rebuilt = axes.axes * axes.variances @ axes.axes.T
    np.testing.assert_allclose(rebuilt, moments.scatter, atol=1e-11 * size(x) ** 2)
    assert axes.rank <= min(len(x) - 1, WIDTH)


@given(clouds())
def test_scatter_is_symmetric_and_positive(x):
    moments = Moments.from_rows(x)
    np.testing.assert_allclose(moments.scatter, moments.scatter.T, atol=1e-12 * size(x) ** 2)
    assert np.linalg.eigvalsh(moments.scatter).min() >= -1e-12 * size(x) ** 2
