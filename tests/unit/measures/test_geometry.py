"""One cloud: each measure against a direct double loop, SciPy's or NumPy's own decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modgap._core import clouds as _clouds
from modgap._core.opening import open_cloud
from modgap.errors import DataError
from modgap.measures import cloud as geometry

# Sums in another order than the direct loops: a few units of float64 rounding.
CLOSE = {"rel": 1e-12, "abs": 1e-13}

FIGURES = (
    geometry.average_norm,
    geometry.mean_cosine,
    geometry.total_variance,
    geometry.effective_rank,
    geometry.participation_ratio,
    geometry.uniformity,
)


@pytest.fixture
def cloud(rng):
    return rng.normal(size=(9, 5)) + np.array([2.0, -1.0, 0.0, 0.0, 0.5])


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pairs(n):
    return [(i, j) for i in range(n) for j in range(n) if i != j]


def direct(x):
    """Every figure of a cloud by loops and NumPy's SVD."""
    u = unit(x)
    n = len(u)
    centred = u - u.mean(0)
    s = np.linalg.svd(centred, compute_uv=False)
    s = s[s > 1e-12]
    p, v = s / s.sum(), s**2
    potential = [math.exp(-2 * float(((u[i] - u[j]) ** 2).sum())) for i, j in pairs(n)]
    return {
        geometry.average_norm: float(np.mean([np.linalg.norm(row) for row in x])),
        geometry.mean_cosine: float(np.mean([u[i] @ u[j] for i, j in pairs(n)])),
        geometry.total_variance: float((centred**2).sum() / n),
        geometry.effective_rank: float(np.exp(-(p * np.log(p)).sum())),
        geometry.participation_ratio: float(v.sum() ** 2 / (v**2).sum()),
        geometry.uniformity: math.log(sum(potential) / len(potential)),
    }


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
def test_every_figure_matches_a_direct_loop(figure, cloud):
    found = figure(cloud)
    assert type(found) is float
    assert found == pytest.approx(direct(cloud)[figure], **CLOSE)


def test_spectrum_is_the_covariance_s_and_follows_the_input(cloud, xp, to_xp):
    x = to_xp(cloud)
    found = geometry.spectrum(x, normalize=False)
    assert type(found) is type(x)
    assert found.dtype == xp.float64
    expected = np.linalg.eigvalsh(np.cov(cloud.T, ddof=0))[::-1]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)


def test_spectrum_adds_up_and_is_never_negative(rng):
    x = rng.normal(size=(4, 12))
    found = geometry.spectrum(x)
    assert found.shape == (12,)
    assert (found >= 0).all()
    assert (np.diff(found) <= 0).all()
    assert found.sum() == pytest.approx(geometry.total_variance(x), rel=1e-12)
    np.testing.assert_allclose(found[3:], 0, atol=1e-15)


def test_unit_rows_spread_what_the_mean_leaves(cloud):
    mean = unit(cloud).mean(0)
    assert geometry.total_variance(cloud) == pytest.approx(1 - mean @ mean, rel=1e-12)


def test_mean_cosine_of_a_simplex_is_lowest():
    assert geometry.mean_cosine(np.eye(5) - 0.2) == pytest.approx(-1 / 4, abs=1e-15)
    assert geometry.mean_cosine(np.ones((3, 4))) == pytest.approx(1, abs=1e-15)


def test_dimensions_of_a_regular_cloud_are_all_there():
    cross = np.concatenate([np.eye(6), -np.eye(6)])
    assert geometry.effective_rank(cross) == pytest.approx(6, rel=1e-12)
    assert geometry.participation_ratio(cross) == pytest.approx(6, rel=1e-12)


def test_effective_rank_leaves_rounding_out(rng):
    # 3 true directions among 200: square roots of rounding would add about 1e-3 here.
    x = (rng.normal(size=(300, 3)) @ rng.normal(size=(3, 200)) + 5).astype(np.float32)
    exact = x.astype(np.float64)
    s = np.linalg.svd(exact - exact.mean(0), compute_uv=False)[:3]
    p = s / s.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert geometry.effective_rank(x, normalize=False) == pytest.approx(expected, rel=1e-6)


def test_uniformity_of_isotropic_rows_is_near_minus_two_t(rng):
    # log E exp(-t (2 - 2 c)) with c ~ N(0, 1/d): -2 t + 2 t^2 / d, to first order in 1/d.
    x = rng.normal(size=(1500, 400))
    assert geometry.uniformity(x) == pytest.approx(-4 + 8 / 400, abs=3e-3)


def test_uniformity_neither_underflows_nor_overflows():
    far = np.array([[0.0, 0.0], [1e3, 0.0], [0.0, 1e3]])
    # Four of the six ordered pairs lie 1e6 apart in the square, two lie 2e6 apart.
    expected = -2e6 + math.log(4 / 6)
    assert geometry.uniformity(far, normalize=False) == pytest.approx(expected, rel=1e-15)
    assert geometry.uniformity(np.ones((3, 2))) == 0.0


def test_uniformity_of_rows_far_from_the_origin_keeps_its_digits(rng):
    x = rng.normal(size=(20, 3))
    moved = geometry.uniformity(x + 1e6, normalize=False)
    # Adding 1e6 costs the rows themselves 1e-10; the squares of 1e6 would cost 1e-4.
    assert moved == pytest.approx(geometry.uniformity(x, normalize=False), abs=1e-8)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 100])
def test_tiles_do_not_change_uniformity(rows, cloud, monkeypatch):
    expected = geometry.uniformity(cloud)
    monkeypatch.setattr(_clouds, "_TILE_ROWS", rows)
    assert geometry.uniformity(cloud) == pytest.approx(expected, rel=1e-13)


def test_samples_are_seeded_and_leave_small_clouds_whole(rng):
    x = rng.normal(size=(60, 4))
    drawn = [geometry.uniformity(x, sample=20, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert geometry.uniformity(x, sample=60) == geometry.uniformity(x)
    rows = np.sort(np.random.default_rng(0).choice(60, size=20, replace=False))
    assert drawn[0] == pytest.approx(geometry.uniformity(x[rows]), rel=1e-13)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_floats_lose_only_their_own_rounding(figure, dtype, rng):
    x = (rng.normal(size=(30, 6)) + 3).astype(dtype)
    assert figure(x) == pytest.approx(figure(x.astype(np.float64)), rel=1e-12)


def test_bfloat16_is_read(rng):
    torch = pytest.importorskip("torch")
    x = torch.asarray(rng.normal(size=(30, 6))).to(torch.bfloat16)
    for figure in FIGURES:
        assert figure(x) == pytest.approx(figure(x.to(torch.float64)), rel=1e-12)


def test_half_floats_neither_vanish_nor_overflow_when_squared():
    # 1e-4 squared is zero in float16, 300 squared is infinite.
    assert geometry.mean_cosine(np.full((2, 3), 1e-4, dtype=np.float16)) == pytest.approx(1)
    assert geometry.mean_cosine(np.full((2, 3), 300, dtype=np.float16)) == pytest.approx(1)


@pytest.mark.parametrize("figure", [*FIGURES, geometry.spectrum], ids=lambda f: f.__name__)
def test_memory_layout_does_not_matter_and_input_is_only_read(figure, rng):
    wide = rng.normal(size=(18, 10)) + 1
    views = [wide[::2, ::2], np.asfortranarray(wide[::2, ::2]), wide[::2, ::2].copy()]
    views[2].flags.writeable = False
    before = wide.copy()
    first, *rest = (figure(view) for view in views)
    for other in rest:
        np.testing.assert_allclose(other, first, rtol=1e-13)
    np.testing.assert_array_equal(wide, before)


def test_a_gradient_graph_is_left_behind(cloud):
    torch = pytest.importorskip("torch")
    x = torch.asarray(cloud).requires_grad_()
    assert geometry.uniformity(x) == pytest.approx(geometry.uniformity(cloud))
    assert not geometry.spectrum(x).requires_grad


def test_blocks_of_rows_do_not_change_the_mean(rng):
    # 4.5 Mi values: more than one block.
    x = rng.normal(size=(70_000, 64)).astype(np.float32) + np.float32(1)
    found = open_cloud(x, "x").center
    rows = unit(x)
    # 70,000 terms below 1 in two orders: rounding of the sums, over their number.
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-14)
    assert found.power == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("figure", [geometry.effective_rank, geometry.participation_ratio])
def test_a_point_has_no_dimensions(figure):
    point = np.outer([1, 2, 3], [0.1, 0.7, 0.3]).astype(np.float32)
    with pytest.raises(DataError, match="no spread"):
        figure(point)
    assert figure(point, normalize=False) == pytest.approx(1, rel=1e-6)
