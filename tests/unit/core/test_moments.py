"""Count, mean, scatter and principal axes against NumPy and scikit-learn, on every library."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core import moments
from modgap._core.moments import Moments, RunningMoments, cross_scatter, principal_axes
from modgap.errors import ArgumentError, ShapeError


@pytest.fixture
def cloud(rng):
    return rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + np.arange(6)


def scatter(x, y=None):
    y = x if y is None else y
    return (x - x.mean(0)).T @ (y - y.mean(0))


@pytest.mark.parametrize("precision", ["input", "float64"])
def test_moments_match_numpy_on_every_library(precision, cloud, xp, to_xp):
    x = to_xp(cloud)
    found = Moments.from_rows(x, precision=precision)
    assert type(found.mean) is type(x)
    assert found.mean.dtype == found.scatter.dtype == xp.float64
    assert (found.count, found.width) == cloud.shape
    np.testing.assert_allclose(np.asarray(found.mean), cloud.mean(0), rtol=1e-13)
    np.testing.assert_allclose(np.asarray(found.scatter), scatter(cloud), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.asarray(found.covariance), np.cov(cloud.T, ddof=0), atol=1e-12)
    assert found.total_variance == pytest.approx(cloud.var(0).sum(), rel=1e-12)
    np.testing.assert_array_equal(np.asarray(x), cloud)


def test_axes_are_scikit_learn_s_principal_components(cloud, to_xp):
    decomposition = pytest.importorskip("sklearn.decomposition")
    pca = decomposition.PCA(svd_solver="full").fit(cloud)
    found = principal_axes(Moments.from_rows(to_xp(cloud)))
    assert found.rank == 6
    np.testing.assert_allclose(
        np.asarray(found.variances) / (len(cloud) - 1), pca.explained_variance_, rtol=1e-10
    )
    cosines = np.sum(np.asarray(found.axes) * pca.components_.T, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-10)  # the sign of an axis is free


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_a_share_of_variance_keeps_as_many_axes_as_scikit_learn(share, cloud):
    decomposition = pytest.importorskip("sklearn.decomposition")
    expected = (
        6 if share == 1 else decomposition.PCA(share, svd_solver="full").fit(cloud).n_components_
    )
    assert principal_axes(Moments.from_rows(cloud), share).variances.shape == (expected,)


def test_incremental_pca_sees_the_same_axes(rng):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = rng.normal(size=(300, 4)) @ np.diag([8.0, 4.0, 2.0, 1.0]) + 50
    blocks = np.array_split(x, 5)
    found = Moments.from_blocks(blocks)
    pca = decomposition.IncrementalPCA(n_components=4)
    for block in blocks:
        pca.partial_fit(block)
    np.testing.assert_allclose(found.mean, pca.mean_, rtol=1e-12)
    cosines = np.sum(found.full_axes.axes * pca.components_.T, axis=0)
    # All four components are kept, so the incremental one loses nothing either.
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-9)


def test_chosen_axes_are_the_leading_ones_and_orthonormal(cloud):
    found = Moments.from_rows(cloud)
    some, every = principal_axes(found, 2), principal_axes(found, "all")
    np.testing.assert_array_equal(some.axes, every.axes[:, :2])
    np.testing.assert_allclose(every.axes.T @ every.axes, np.eye(6), atol=1e-14)
    assert (np.diff(every.variances) <= 0).all()
    with pytest.raises(ArgumentError, match=r"`n_components` is 7.*has only 6 directions"):
        principal_axes(found, 7)


@pytest.mark.parametrize("size", [1, 7, 39, 40])
def test_a_stream_of_blocks_gives_the_moments_of_all_rows(size, cloud, to_xp):
    blocks = (to_xp(cloud[i : i + size]) for i in range(0, len(cloud), size))
    found = Moments.from_blocks(blocks)
    assert found.count == 40
    np.testing.assert_allclose(np.asarray(found.mean), cloud.mean(0), rtol=1e-13)
    np.testing.assert_allclose(np.asarray(found.scatter), scatter(cloud), rtol=1e-11, atol=1e-11)


def test_an_empty_stream_and_unequal_widths_are_refused(cloud):
    with pytest.raises(ShapeError, match="`blocks` must hold at least one block"):
        Moments.from_blocks([])
    with pytest.raises(ShapeError, match="widths 6 and 5 cannot be merged"):
        Moments.from_blocks([cloud, cloud[:, :5]])


def test_rows_beyond_one_block_are_counted(rng):
    x = rng.normal(size=(5000, 3)) + 9  # more than two blocks of 2,048 rows
    found = Moments.from_rows(x)
    np.testing.assert_allclose(found.scatter, scatter(x), rtol=1e-11, atol=1e-8)


def test_blocks_are_multiplied_beside_what_fills_the_next_and_added_in_their_order(
    monkeypatch, rng
):
    monkeypatch.setattr(moments, "_BLOCK_ROWS", 50)
    x = rng.normal(size=(1010, 7)).astype(np.float32)
    running = RunningMoments(x, "input", len(x))
    for start in range(0, len(x), 25):
        running.add(x[start : start + 25])
    found = running.moments(2.0**-23)
    near = x - x[:256].mean(0)
    total = np.zeros((7, 7))
    for start in range(0, len(x), 50):
        total += near[start : start + 50].T @ near[start : start + 50]
    np.testing.assert_array_equal(running.scatter, total)
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), atol=1e-7)
    assert found.count == 1010


def test_a_product_that_fails_in_its_thread_fails_the_sum(monkeypatch, rng):
    x = rng.normal(size=(60, 3))
    running = RunningMoments(x, "input", 20)
    running.add(x[:20])

    def no_memory(self, block):
        raise MemoryError

    monkeypatch.setattr(RunningMoments, "_add_product", no_memory)
    running.add(x[20:40])
    with pytest.raises(MemoryError):
        running.close()


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3])
def test_float32_far_from_the_origin_keeps_its_digits(offset, rng):
    x = (rng.normal(size=(4000, 8)) * np.arange(1, 9) + offset).astype(np.float32)
    exact = scatter(x.astype(np.float64))
    found = Moments.from_rows(x)
    # One pass over squares in float32 would lose offset^2 * 6e-8: 6 % of a variance at 1e3.
    np.testing.assert_allclose(found.scatter, exact, atol=2e-7 * exact.max())
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-7, atol=1e-7)
    precise = Moments.from_rows(x, precision="float64")
    np.testing.assert_allclose(precise.scatter, exact, rtol=1e-11, atol=1e-11 * exact.max())
    np.testing.assert_allclose(precise.mean, x.astype(np.float64).mean(0), rtol=1e-13)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_cloud_sorted_along_the_offset_keeps_its_digits(offset):
    # The first rows are far from the mean: the pivot is a bad one.
    x = (np.linspace(0, 1000, 5000)[:, None] * np.array([1.0, 0.5]) + offset).astype(np.float32)
    exact = scatter(x.astype(np.float64))
    np.testing.assert_allclose(Moments.from_rows(x).scatter, exact, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_numerical_rank_sees_through_rounding(dtype, rng):
    x = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 64)) + 3).astype(dtype)
    assert Moments.from_rows(x, precision="float64").full_axes.rank == 5


def test_few_rows_have_one_direction_less_than_rows(rng):
    x = rng.normal(size=(7, 30)).astype(np.float32)
    assert Moments.from_rows(x, precision="float64").full_axes.rank == 6
    assert Moments.from_rows(x[:1], precision="float64").full_axes.rank == 0


def test_memory_layout_does_not_matter_and_input_is_only_read(rng):
    wide = rng.normal(size=(30, 10)).astype(np.float32)
    before = wide.copy()
    views = [wide[::2, ::2], np.asfortranarray(wide[::2, ::2]), wide[::2, ::2].copy()]
    views[2].flags.writeable = False
    first, *rest = (Moments.from_rows(view) for view in views)
    for other in rest:
        np.testing.assert_allclose(other.scatter, first.scatter, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(wide, before)


def test_half_floats_are_multiplied_in_float32(rng):
    x = (300 * rng.normal(size=(50, 4))).astype(np.float16)  # squares overflow float16
    exact = scatter(x.astype(np.float64))
    np.testing.assert_allclose(Moments.from_rows(x).scatter, exact, atol=1e-6 * exact.max())


def test_cross_scatter_matches_numpy(cloud, rng, to_xp):
    other = rng.normal(size=(40, 6)) + cloud
    found = cross_scatter(to_xp(cloud), to_xp(other))
    np.testing.assert_allclose(np.asarray(found), scatter(cloud, other), rtol=1e-11, atol=1e-11)


def test_products_of_many_rows_at_once_keep_their_digits(to_xp, monkeypatch):
    """A device takes more rows in a block than float32 can add up; here 3 of 4096 and some."""
    seen = []
    products = moments._products
    monkeypatch.setattr(
        moments, "_products", lambda block: seen.append(block.shape[0]) or products(block)
    )
    x = np.random.default_rng(0).normal(size=(12_500, 3)).astype(np.float32) + 1
    found = Moments.from_rows(to_xp(x))
    assert sum(seen) == 12_500
    off = np.asarray(found.scatter) - scatter(x.astype(np.float64))
    assert np.abs(off).max() < 2e-6 * len(x)
    whole = np.asarray(products(to_xp(x)), dtype=np.float64)
    off = whole - x.T.astype(np.float64) @ x.astype(np.float64)
    assert np.abs(off).max() < 2e-6 * len(x)
