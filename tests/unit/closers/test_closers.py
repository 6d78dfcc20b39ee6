"""Closers against formulas written another way: SVD of rows, least squares, SciPy, LEACE's own code."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import linalg

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap._core.moments import Moments
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, ClosureWarning, ShapeError

#: `balanced` has tests of its own.
METHODS = {name: known for name, known in closers.METHODS.items() if name != "balanced"}
METRICS = ("euclidean", "ip", "cosine")
ROWS, D, R = 12, 8, 4
ALPHAS = (0.0, 0.3, 1.0, 1.7)
EXACT = ("none", "recenter", "orthogonal", "affine")
TAKERS = [m.name for m in METHODS.values() if "alpha" in m.takes]
#: `scaled` finds its sphere from rows; moments alone bound it, and it says so.
FROM_MOMENTS = [m.name for m in METHODS.values() if m.needs == "moments" and m.name != "scaled"]

# Formulas in another order, on a dozen rows of order one: float64 rounding of a few hundred sums.
CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def fit(method, queries, gallery, **options):
    return closers.fit(method, queries, gallery, **{"metric": "euclidean", **options})


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def clouds(rng):
    """Paired clouds far apart; the gallery spans 4 of 8 dimensions, off the origin, on a sphere."""
    basis = np.linalg.qr(rng.normal(size=(D, R + 1)))[0]
    gallery = 0.8 * unit(rng.normal(size=(ROWS, R))) @ basis[:, :R].T + 0.6 * basis[:, R]
    return gallery @ rng.normal(size=(D, D)) * 0.3 + rng.normal(size=D) * 2, gallery


# --- Every closer written another way ------------------------------------------------------------


def projected(rows, gallery):
    """The point of aff(gallery) nearest to each row, by least squares on differences of items."""
    directions = (gallery[1:] - gallery[0]).T
    weights = linalg.lstsq(directions, (rows - gallery[0]).T)[0]
    return gallery[0] + (directions @ weights).T


def orthogonal(y, x, alpha, metric):
    gap = y.mean(axis=0) - x.mean(axis=0)
    _, sizes, lines = np.linalg.svd(x - x.mean(axis=0))
    kept = lines[: np.sum(sizes > 1e-8)]
    free = alpha * (gap - kept.T @ (kept @ gap))
    return (y, x + free) if metric == "euclidean" else (y - free, x)


def affine(y, x, alpha, metric):
    if metric != "euclidean":
        return (1 - alpha) * y + alpha * directions_of(y, x), x - x.mean(axis=0)
    return (1 - alpha) * y + alpha * projected(y, x) - x.mean(axis=0), x - x.mean(axis=0)


def directions_of(y, x):
    """The linear part of the projection: onto the directions of the gallery."""
    return projected(y, x) - projected(np.zeros((1, D)), x)


def scaled(y, x, metric):
    centre = projected(np.zeros((1, D)), x)
    inside = projected(y, x) - centre if metric == "euclidean" else directions_of(y, x)
    return centre + 4 * inside - x.mean(axis=0), x - x.mean(axis=0)


def mean_shift(y, x, alpha):
    gap = y.mean(axis=0) - x.mean(axis=0)
    return unit(y - alpha * gap / 2), unit(x + alpha * gap / 2)


def standardize(y, x):
    sides = []
    for rows in (y, x):
        sides.append(unit((rows - rows.mean(axis=0)) / rows.std(axis=0)))
    return tuple(sides)


def procrustes(y, x):
    y, x = y - y.mean(axis=0), x - x.mean(axis=0)
    return y @ linalg.orthogonal_procrustes(y, x)[0], x


def erase(y, x, alpha):
    torch = pytest.importorskip("torch")
    leace = pytest.importorskip("concept_erasure")
    both = torch.tensor(np.concatenate([y, x]))
    label = torch.tensor(np.repeat([[1.0], [0.0]], [len(y), len(x)], axis=0))
    fitter = leace.LeaceFitter.fit(
        both, label, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-9
    )
    erased = fitter.eraser(both).numpy()
    y_end, x_end = erased[: len(y)], erased[len(y) :]
    return y + alpha * (y_end - y), x + alpha * (x_end - x)


def expected(method, y, x, metric, alpha=1.0):
    """Both sides after closing, from the definitions."""
    if metric == "cosine":
        y, x = unit(y), unit(x)
    if method == "none":
        return y, x
    if method == "recenter":
        return (y - x.mean(axis=0) if metric == "euclidean" else y), x - x.mean(axis=0)
    if method in ("orthogonal", "affine"):
        return {"orthogonal": orthogonal, "affine": affine}[method](y, x, alpha, metric)
    if method == "center":
        return unit(y - alpha * y.mean(axis=0)), unit(x - alpha * x.mean(axis=0))
    if method in ("mean-shift", "erase"):
        return {"mean-shift": mean_shift, "erase": erase}[method](y, x, alpha)
    if method == "scaled":
        return scaled(y, x, metric)
    return {"standardize": standardize, "procrustes": procrustes}[method](y, x)


FITTED = [(method, metric) for method in METHODS for metric in METRICS]
#: One metric of each closer, another one for the next.
EACH = [(method, METRICS[i % 3]) for i, method in enumerate(METHODS)]
COMPARED = [pair for pair in FITTED if pair[0] != "realign"]


def full_rank(method, clouds):
    """Clouds whose rotation onto each other is unique: those of any other method as they are."""
    if method != "procrustes":
        return clouds
    noise = np.random.default_rng(1).normal(size=(2, ROWS, D))
    return clouds[0] + noise[0], clouds[1] + 0.3 * noise[1]


@pytest.mark.parametrize(("method", "metric"), COMPARED)
def test_every_closer_is_its_definition(method, metric, clouds):
    clouds = full_rank(method, clouds)
    closure = fit(method, *clouds, metric=metric)
    queries, gallery = expected(method, *clouds, metric)
    np.testing.assert_allclose(closure.apply_queries(clouds[0]), queries, **CLOSE)
    np.testing.assert_allclose(closure.apply_gallery(clouds[1]), gallery, **CLOSE)
    assert (closure.method, closure.metric) == (method, metric)
    assert closure.rank == (D if method == "procrustes" else R)
    # Moved exactly, unit rows are compared by inner product; all else keeps its metric.
    moved = metric == "cosine" and method in ("recenter", "orthogonal", "affine")
    assert closure.comparison == ("euclidean" if method == "scaled" else "ip" if moved else metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", TAKERS)
def test_any_share_of_the_gap(method, metric, clouds):
    for alpha in ALPHAS:
        closure = fit(method, *clouds, metric=metric, alpha=alpha)
        queries, gallery = expected(method, *clouds, metric, alpha)
        np.testing.assert_allclose(closure.apply_queries(clouds[0]), queries, **CLOSE)
        np.testing.assert_allclose(closure.apply_gallery(clouds[1]), gallery, **CLOSE)
        assert closure.alpha == alpha


@pytest.mark.parametrize(("method", "metric"), EACH)
def test_on_every_library(method, metric, to_xp, clouds):
    clouds = full_rank(method, clouds)
    y, x = (to_xp(cloud) for cloud in clouds)
    closure, plain = fit(method, y, x, metric=metric), fit(method, *clouds, metric=metric)
    for found, reference, given in (
        (closure.apply_queries(y), plain.apply_queries(clouds[0]), y),
        (closure.apply_gallery(x), plain.apply_gallery(clouds[1]), x),
    ):
        assert type(found) is type(given)
        assert found.dtype == given.dtype
        # Libraries differ in the order of their sums; realign's iteration stops at 1e-9.
        np.testing.assert_allclose(host(found), reference, rtol=1e-9, atol=1e-8)
    np.testing.assert_array_equal(host(y), clouds[0])
    np.testing.assert_array_equal(host(x), clouds[1])


@pytest.mark.parametrize(("method", "metric"), EACH)
def test_a_saved_closure_applies_bit_for_bit(method, metric, tmp_path, clouds):
    closure = fit(method, *clouds, metric=metric)
    loaded = Closure.load(closure.save(tmp_path / "closure.safetensors"))
    for cloud in (*clouds, clouds[0].astype(np.float32)):
        np.testing.assert_array_equal(loaded.apply_queries(cloud), closure.apply_queries(cloud))
        np.testing.assert_array_equal(loaded.apply_gallery(cloud), closure.apply_gallery(cloud))
    for name in ("bound", "resolution", "gain", "exact", "alpha", "n_components", "rank", "label"):
        assert getattr(loaded, name) == getattr(closure, name)
    assert dict(loaded.info) == dict(closure.info)
    assert loaded.info["gap"] > 0
    assert loaded.info["gallery"] == ROWS


@pytest.mark.parametrize("method", METHODS)
class TestInputs:
    def test_another_device(self, method, to_other_device, clouds):
        y, x = (to_other_device(cloud) for cloud in clouds)
        closure = fit(method, y, x)
        assert closure.apply_queries(y).device == y.device
        assert closure.apply_gallery(x).device == x.device

    @pytest.mark.parametrize(("dtype", "close"), [("float16", 0.02), ("float32", 2e-5)])
    def test_half_floats_come_back_in_full(self, method, dtype, close, clouds):
        # Entries of up to 5, so float16 rounds them by up to 2e-3: what a few of them add up to.
        clouds = full_rank(method, clouds)
        plain = fit(method, *clouds)
        y, x = (cloud.astype(dtype) for cloud in clouds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)  # half floats leave the sphere
            closure = fit(method, y, x)
        assert closure.rank == plain.rank  # rounding is no direction
        queries, gallery = closure.apply_queries(y), closure.apply_gallery(x)
        assert queries.dtype == gallery.dtype == np.float32
        np.testing.assert_allclose(queries, plain.apply_queries(clouds[0]), atol=close, rtol=close)
        np.testing.assert_allclose(gallery, plain.apply_gallery(clouds[1]), atol=close, rtol=close)

    def test_bfloat16(self, method, clouds):
        torch = pytest.importorskip("torch")
        y, x = (torch.tensor(cloud, dtype=torch.bfloat16) for cloud in clouds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closure = fit(method, y, x)
        assert closure.apply_queries(y).dtype == closure.apply_gallery(x).dtype == torch.float32
        assert bool(torch.isfinite(closure.apply_queries(y)).all())

    def test_any_layout_is_only_read(self, method, clouds):
        plain = fit(method, *clouds)
        wide = [np.zeros((2 * ROWS, 2 * D)) for _ in clouds]
        views = []
        for store, cloud in zip(wide, clouds, strict=True):
            store[::2, ::2] = cloud
            store.flags.writeable = False
            views.append(store[::2, ::2])
        for y, x in (views, [np.asfortranarray(cloud) for cloud in clouds]):
            closure = fit(method, y, x)
            # Another layout sums in another order; realign's iteration stops at 1e-9.
            for apply, rows, given in (("apply_queries", y, 0), ("apply_gallery", x, 1)):
                reference = getattr(plain, apply)(clouds[given])
                np.testing.assert_allclose(
                    getattr(closure, apply)(rows), reference, rtol=1e-9, atol=1e-8
                )


class TestFromMoments:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("method", FROM_MOMENTS)
    def test_moments_give_what_rows_give(self, method, metric, clouds):
        y, x = (unit(cloud) if metric == "cosine" else cloud for cloud in clouds)
        blocks = [Moments.from_blocks(np.array_split(c, 5), precision="float64") for c in (y, x)]
        streamed = closers.fit_moments(method, *blocks, metric=metric)
        whole = fit(method, *clouds, metric=metric)
        assert whole.exact or not streamed.exact  # a bound from moments alone is never tighter
        for name in ("alpha", "n_components", "rank", "comparison", "gain"):
            assert getattr(streamed, name) == getattr(whole, name)
        for apply in ("apply_queries", "apply_gallery"):
            found, reference = getattr(streamed, apply)(clouds[0]), getattr(whole, apply)(clouds[0])
            np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-10)

    @pytest.mark.parametrize("method", ["realign", "procrustes"])
    def test_some_need_rows(self, method, clouds):
        moments = [Moments.from_rows(cloud) for cloud in clouds]
        with pytest.raises(ArgumentError, match=f"`{method}` is fitted from rows, not moments"):
            closers.fit_moments(method, *moments)

    def test_moments_share_their_width(self, clouds):
        y, x = Moments.from_rows(clouds[0]), Moments.from_rows(clouds[1][:, :5])
        with pytest.raises(ShapeError, match="embedding dimension d; got 8 and 5"):
            closers.fit_moments("recenter", y, x)


class TestExactness:
    @pytest.mark.parametrize("method", ["orthogonal", "affine"])
    def test_only_all_components_are_exact(self, method, clouds):
        for components, used in (("all", R), (R, R), (1.0, R), (R - 1, R - 1), (1, 1)):
            closure = fit(method, *clouds, n_components=components)
            assert closure.n_components == used
            assert closure.exact == (used == R)

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_a_share_of_the_variance(self, share, clouds):
        x = clouds[1]
        variances = np.linalg.svd(x - x.mean(axis=0))[1] ** 2
        needed = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1
        assert fit("orthogonal", *clouds, n_components=share).n_components == needed

    def test_more_components_than_the_gallery_has(self, clouds):
        with pytest.raises(
            ArgumentError, match=r"`n_components` is 5.*12 rows has only 4 directio"
        ):
            fit("affine", *clouds, n_components=5)

    def test_the_others_never_say_that_they_are_exact(self, clouds):
        for method in METHODS:
            promised = method in (*EXACT, "scaled")
            assert fit(method, *clouds).exact == promised, method

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_orthogonal_on_the_queries_is_the_same_system(self, metric, clouds):
        gallery = fit("orthogonal", *clouds, metric=metric, side="gallery", alpha=0.7)
        queries = fit("orthogonal", *clouds, metric=metric, side="queries", alpha=0.7)
        found = []
        for closure in (gallery, queries):
            y, x = closure.apply_queries(clouds[0]), closure.apply_gallery(clouds[1])
            found.append(y[:, None] - x[None])
        np.testing.assert_allclose(*found, **CLOSE)
        assert gallery.info["side"] == "gallery"
        kept = unit(clouds[1]) if metric == "cosine" else clouds[1]
        np.testing.assert_allclose(queries.apply_gallery(clouds[1]), kept, **CLOSE)

    @pytest.mark.parametrize("metric", METRICS)
    def test_reduced_coordinates_keep_what_decides(self, metric, clouds):
        whole = fit("affine", *clouds, metric=metric)
        small = fit("affine", *clouds, metric=metric, reduce=True)
        y, x = small.apply_queries(clouds[0]), small.apply_gallery(clouds[1])
        assert y.shape == x.shape == (ROWS, R)
        wide_y, wide_x = whole.apply_queries(clouds[0]), whole.apply_gallery(clouds[1])
        if metric != "euclidean":
            found, reference = y @ x.T, wide_y @ wide_x.T
        else:
            found = np.linalg.norm(y[:, None] - x[None], axis=2)
            reference = np.linalg.norm(wide_y[:, None] - wide_x[None], axis=2)
        np.testing.assert_allclose(found, reference, **CLOSE)

    def test_a_closed_gap_lies_in_the_gallery(self, clouds):
        for method in ("orthogonal", "affine"):
            closure = fit(method, *clouds)
            y, x = closure.apply_queries(clouds[0]), closure.apply_gallery(clouds[1])
            gap = y.mean(axis=0) - x.mean(axis=0)
            directions = (clouds[1][1:] - clouds[1][0]).T
            outside = gap - directions @ linalg.lstsq(directions, gap)[0]
            np.testing.assert_allclose(outside, 0, atol=1e-12)


class TestPromises:
    """What the approximate closers say that they do to the clouds."""

    def test_erase_leaves_one_mean(self, clouds):
        closure = fit("erase", *clouds)
        y, x = closure.apply_queries(clouds[0]), closure.apply_gallery(clouds[1])
        np.testing.assert_allclose(y.mean(axis=0), x.mean(axis=0), atol=1e-12)
        both = np.concatenate(clouds).mean(axis=0)
        np.testing.assert_allclose(np.concatenate([y, x]).mean(axis=0), both, atol=1e-12)

    def test_center_before_the_sphere_leaves_two_means_of_zero(self, clouds):
        closure = fit("center", *clouds)
        for fitted, cloud in ((closure.queries, clouds[0]), (closure.gallery, clouds[1])):
            np.testing.assert_allclose(-fitted.shift, cloud.mean(axis=0), atol=1e-14)

    @pytest.mark.parametrize("metric", METRICS)
    def test_realign_gives_the_gallery_the_queries_mean_and_spread(self, metric, clouds):
        closure = fit("realign", *clouds, metric=metric)
        y, x = closure.apply_queries(clouds[0]), closure.apply_gallery(clouds[1])
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-14)
        np.testing.assert_allclose(y, unit(clouds[0]), rtol=1e-13)
        # Centroid alignment on the sphere: solved until 1e-9 is left.
        assert np.linalg.norm(y.mean(axis=0) - x.mean(axis=0)) < 2e-9
        assert closure.info["centroid_residual"] < 1e-9
        # Trace alignment before the sphere.
        given = [unit(cloud) if metric == "cosine" else cloud for cloud in clouds]
        before = (given[1] - given[1].mean(axis=0)) * closure.gallery.scale
        assert before.var(axis=0).sum() == pytest.approx(given[0].var(axis=0).sum(), rel=1e-12)

    def test_realign_on_real_embeddings(self, real_data):
        y = real_data("caltech101_clip_vitb32", "images.npy")
        x = real_data("caltech101_clip_vitb32", "texts.npy")[3]
        closure = fit("realign", y, x)
        gap = closure.apply_queries(y).mean(axis=0) - closure.apply_gallery(x).mean(axis=0)
        assert np.linalg.norm(gap) < 1e-6  # rows are float32

    def test_procrustes_turns_and_never_stretches(self, clouds):
        closure = fit("procrustes", *clouds)
        turn = closure.queries.matrix
        np.testing.assert_allclose(turn @ turn.T, np.eye(D), atol=1e-13)
        y, x = closure.apply_queries(clouds[0]), closure.apply_gallery(clouds[1])
        rng = np.random.default_rng(3)
        for _ in range(50):  # no other rotation brings the pairs closer
            other = np.linalg.qr(rng.normal(size=(D, D)))[0]
            assert np.sum((y - x) ** 2) <= np.sum((y @ other - x) ** 2)

    def test_standardize_leaves_a_constant_coordinate_at_zero(self, clouds):
        y, x = (cloud.copy() for cloud in clouds)
        x[:, 3] = 0.25
        closure = fit("standardize", y, x)
        found = closure.apply_gallery(x)
        np.testing.assert_array_equal(found[:, 3], 0)
        assert np.isfinite(found).all()

    def test_mean_shift_closes_the_gap_but_for_the_sphere(self, clouds):
        closure = fit("mean-shift", *clouds)
        y, x = clouds[0] + closure.queries.shift, clouds[1] + closure.gallery.shift
        np.testing.assert_allclose(y.mean(axis=0), x.mean(axis=0), atol=1e-13)


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("alpha", 0.5),
            ("alpha", 0),
            ("n_components", 2),
            ("side", "queries"),
            ("reduce", True),
            ("scale", 2.0),
            ("compare", "ip"),
        ],
    )
    def test_an_option_that_a_method_does_not_take_is_refused(self, option, value, clouds):
        takers = {name for name, known in METHODS.items() if option in known.takes}
        assert takers not in (set(), set(METHODS))
        for method in takers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ClosureWarning)
                fit(method, *clouds, **{option: value})
        for method in METHODS.keys() - takers:
            message = f"`{method}` has no option `{option}`; leave it ou"
            with pytest.raises(ArgumentError, match=message):
                fit(method, *clouds, **{option: value})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": np.nan}, r"`alpha` must be finite and in \[-100, 100\]; got nan"),
            ({"alpha": 1e9}, r"`alpha` must be finite and in \[-100, 100\]; got 1e\+09"),
            ({"alpha": "much"}, r"`alpha` must be a number; got 'much'"),
            ({"n_components": 0}, r"`n_components` must be at least 1; got 0"),
            ({"n_components": 1.5}, r"`n_components` must be finite and in \(0, 1\]; got 1\.5"),
            ({"n_components": True}, r'`n_components` must be an int, a fraction or "all"'),
            ({"n_components": "some"}, r"`n_components` must be an int.*got 'some'"),
            ({"side": "both"}, r"`side` must be one of gallery, queries; got 'both'"),
            ({"metric": "dots"}, r"`metric` must be one of cosine, ip, euclidean; got 'dots'"),
            ({"compare": "cosine"}, r"`compare` must be ip or euclidean.*got cosine"),
            ({"compare": "cosine", "metric": "cosine"}, "moves rows off the sphere"),
        ],
    )
    def test_values_out_of_range(self, options, message, clouds):
        with pytest.raises(ArgumentError, match=message):
            fit("orthogonal", *clouds, **options)

    def test_an_unknown_method(self, clouds):
        with pytest.raises(ArgumentError, match=r"`method` must be one of none, .*; got 'close'"):
            fit("close", *clouds)

    def test_reduced_coordinates_close_all_of_the_gap(self, clouds):
        with pytest.raises(ArgumentError, match=r"`reduce` closes the gap fully.*got alpha 0\.5"):
            fit("affine", *clouds, reduce=True, alpha=0.5)

    def test_pairs_must_pair(self, clouds):
        with pytest.raises(ShapeError, match="must pair row by row; got 12 and 11 rows"):
            fit("procrustes", clouds[0], clouds[1][:-1])

    def test_every_method_says_where_it_comes_from(self):
        for method in METHODS.values():
            assert method.summary
            assert method.needs in ("moments", "rows", "pairs")


class TestWarnings:
    def spans_all(self, rng):
        return rng.normal(size=(30, D)) + 3, rng.normal(size=(30, D))

    @pytest.mark.parametrize(("method", "metric"), [("orthogonal", "euclidean"), ("affine", "ip")])
    def test_a_gallery_that_spans_all_leaves_nothing_to_close(self, method, metric, rng):
        y, x = self.spans_all(rng)
        message = (
            rf"`{method}`: the gallery spans all 8 dimensions \(r = d\), so \|g'\|/\|g\| = 0.*"
            r'use fewer components.*method="recenter"'
        )
        with pytest.warns(ClosureWarning, match=message) as caught:
            closure = fit(method, y, x, metric=metric)
        assert len(caught) == 1
        assert caught[0].filename == __file__  # it points at the caller
        assert closure.exact

    def test_orthogonal_then_moves_nothing_not_even_by_rounding(self, rng):
        y, x = self.spans_all(rng)
        with pytest.warns(ClosureWarning, match="spans all 8 dimensions"):
            closure = fit("orthogonal", y, x)
        np.testing.assert_array_equal(closure.apply_gallery(x), x)
        assert closure.info["free_share"] == 0.0

    def test_fewer_components_are_the_fix_that_it_names(self, rng):
        y, x = self.spans_all(rng)
        closure = fit("orthogonal", y, x, n_components=2)
        assert not closure.exact
        assert closure.info["free_share"] > 0.5

    @pytest.mark.parametrize("method", ["orthogonal", "affine"])
    def test_a_gap_within_the_gallery(self, method, clouds):
        x = clouds[1]
        inside = x + 3 * (x[0] - x[1])
        message = rf"`{method}`: only \S+ of the gap lies outside the 4 components"
        with pytest.warns(ClosureWarning, match=message):
            closure = fit(method, inside, x)
        assert closure.info["free_share"] < 1e-10

    def test_the_share_is_the_ratio_of_lengths(self, clouds):
        y, x = clouds
        gap = y.mean(axis=0) - x.mean(axis=0)
        free = orthogonal(y, x, 1.0, "euclidean")[1][0] - x[0]
        share = fit("orthogonal", y, x).info["free_share"]
        assert share == pytest.approx(np.linalg.norm(free) / np.linalg.norm(gap), rel=1e-12)
        assert 0.01 < share < 1

    def test_one_mean_leaves_nothing_to_erase(self, rng):
        half = rng.normal(size=(5, D))
        cloud = np.concatenate([half, -half])
        with pytest.warns(ClosureWarning, match="`erase`: the clouds have one mean"):
            closure = fit("erase", cloud, 2 * cloud)
        assert closure.queries.is_identity

    def test_ordinary_clouds_raise_no_warning(self, clouds):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for method in METHODS:
                fit(method, *clouds)


class TestFewItems:
    @pytest.mark.parametrize(("method", "metric"), EACH)
    @pytest.mark.parametrize("gallery", ["one item", "all equal"])
    def test_a_gallery_that_is_a_point(self, gallery, method, metric, rng):
        rows = 1 if gallery == "one item" else 3
        y, x = rng.normal(size=(rows, D)) + 1, np.tile(rng.normal(size=(1, D)), (rows, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closure = fit(method, y, x, metric=metric)
        assert closure.rank == 0
        for found in (closure.apply_queries(y), closure.apply_gallery(x)):
            assert np.isfinite(found).all()

    def test_reduced_to_no_coordinates(self, rng):
        y, x = rng.normal(size=(3, D)), np.tile(rng.normal(size=(1, D)), (3, 1))
        closure = fit("affine", y, x, reduce=True)
        assert closure.n_components == 0

    def test_components_of_a_point(self, rng):
        y, x = rng.normal(size=(3, D)), rng.normal(size=(1, D))
        with pytest.raises(
            ArgumentError, match="`n_components` is 1, but the cloud of 1 rows has o"
        ):
            fit("affine", y, x, n_components=1)


class TestNumericalRank:
    """The rank that "all" components means, on clouds of exactly known rank."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("rows", [3, 100, 20_000])
    def test_clouds_of_known_rank(self, rows, dtype, rng):
        d, rank = 24, min(rows - 1, 5)
        # Offsets and scales as embeddings have them: a mean of length one, a decaying spectrum.
        spread = rng.normal(size=(rows, rank)) * 0.5 ** np.arange(rank)
        x = spread @ np.linalg.qr(rng.normal(size=(d, rank)))[0].T
        x = (x + rng.normal(size=d) / np.sqrt(d)).astype(dtype)
        assert fit("recenter", x[:1], x).rank == rank

    @pytest.mark.parametrize("rows", [3, 100, 20_000])
    def test_small_directions_are_kept(self, rows, rng):
        # A direction 1,000 times above the rounding of float32 entries, 1e-4 of the largest one.
        d, rank = 24, min(rows - 1, 5)
        sizes = np.geomspace(1, 1e-4, rank)
        x = rng.normal(size=(rows, rank)) * sizes @ np.linalg.qr(rng.normal(size=(d, rank)))[0].T
        x = (x + rng.normal(size=d) / np.sqrt(d)).astype(np.float32)
        assert fit("recenter", x[:1], x).rank == rank

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_full_rank_is_full(self, dtype, rng):
        x = rng.normal(size=(200, 24)).astype(dtype)
        assert fit("recenter", x[:1], x).rank == 24

    @pytest.mark.parametrize(
        ("folder", "name", "rank"),
        [
            ("coco_clip_vitb16", "images.npy", 499),
            ("coco_clip_vitb16", "texts.npy", 499),
            ("cifar10_openclip_vitb32_laion2b", "texts.npy", 9),
            ("caltech101_clip_vitb32", "texts.npy", 37),
        ],
    )
    def test_real_galleries_have_one_direction_less_than_items(self, folder, name, rank, real_data):
        x = real_data(folder, name)
        x = x[-1] if x.ndim == 3 else x
        assert fit("recenter", x[:1], x).rank == rank

    def test_copies_add_no_rank(self, real_data):
        x = real_data("caltech101_clip_vitb32", "texts.npy")[3]
        assert fit("recenter", x[:1], np.concatenate([x, x, x[:5]])).rank == 37


def test_what_a_closure_remembers(clouds):
    closure = fit("affine", *clouds, alpha=0.5)
    gap = np.linalg.norm(clouds[0].mean(axis=0) - clouds[1].mean(axis=0))
    assert closure.info["gap"] == pytest.approx(gap, rel=1e-12)
    assert (closure.info["queries"], closure.info["gallery"]) == (ROWS, ROWS)
    assert closure.info["dimension"] == D
    assert closure.info["modgap"]
