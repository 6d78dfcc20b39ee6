"""`balanced`: what it is fitted from, what it promises, and what it says to bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from modgap import closers, nearest
from modgap._core.arrays import to_numpy
from modgap._core.moments import Moments
from modgap.closers import balanced as module
from modgap.closers._transport import (
    SecondMoments,
    random_frame,
    rule_of_thumb,
    second_moment,
    second_moments_of,
    transport,
)
from modgap.errors import ArgumentError, ClosureWarning, DataError, ShapeError
from modgap.robustness.rotation import random_rotation


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def moments(rows):
    return Moments.from_rows(rows, precision="float64")


def scores(closure, queries, gallery):
    return np.asarray(closure.apply_queries(queries) @ closure.apply_gallery(gallery).T)


@pytest.fixture
def clouds(rng):
    """Two cones apart, of unrelated shapes; the gallery spans all of 10 dimensions."""
    x = rng.normal(size=(80, 10)) * np.geomspace(2, 0.1, 10) + rng.normal(size=10)
    y = rng.normal(size=(60, 10)) @ rng.normal(size=(10, 10)) + 3 * rng.normal(size=10)
    return unit(y), unit(x)


class TestMaps:
    def test_both_sides_have_the_same_second_moments_but_for_the_shrinkage(self, clouds):
        y, x = clouds
        closure = closers.fit("balanced", y, x, shrinkage=0.0)
        items, queries = closure.apply_gallery(x), closure.apply_queries(y)
        c, s = items.T @ items / len(x), queries.T @ queries / len(y)
        c, s = c / np.trace(c), s / np.trace(s)
        assert np.linalg.norm(c - s) < 0.05 * np.linalg.norm(c)  # C is shrunk by .01
        raw = np.cov(x.T, bias=True), y.T @ y / len(y)
        far = raw[0] / np.trace(raw[0]) - raw[1] / np.trace(raw[1])
        assert np.linalg.norm(far) > 0.5 * np.linalg.norm(raw[1])

    @pytest.mark.parametrize("rotation", [0, 3])
    def test_a_rotation_turns_both_sides_and_nothing_else(self, clouds, rotation):
        y, x = clouds
        plain = closers.fit("balanced", y, x, rotation="none")
        turned = closers.fit("balanced", y, x, rotation=rotation)
        np.testing.assert_allclose(scores(plain, y, x), scores(turned, y, x), atol=1e-12)
        gram = [c.apply_gallery(x) @ c.apply_gallery(x).T for c in (plain, turned)]
        np.testing.assert_allclose(*gram, atol=1e-12)
        assert np.abs(plain.gallery.matrix - turned.gallery.matrix).max() > 0.1
        # Without a rotation the map is symmetric and positive: it moves rows the least.
        np.testing.assert_allclose(plain.gallery.matrix, plain.gallery.matrix.T, atol=1e-12)
        assert np.linalg.eigvalsh(plain.gallery.matrix)[0] > 0

    def test_alpha_0_is_recenter_turned(self, clouds):
        y, x = clouds
        closure = closers.fit("balanced", y, x, alpha=0.0, rotation="none")
        np.testing.assert_allclose(closure.apply_gallery(x), x - x.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(closure.apply_queries(y), y, atol=1e-12)

    def test_a_rotation_with_alpha_turns_what_alpha_gives(self, clouds):
        y, x = clouds
        pair = [closers.fit("balanced", y, x, alpha=0.4, rotation=r) for r in ("none", 2)]
        gram = [c.apply_gallery(x) @ c.apply_gallery(x).T for c in pair]
        np.testing.assert_allclose(*gram, atol=1e-12)

    def test_reduce_gives_the_coordinates_strongest_first_and_any_prefix_is_the_best(self, clouds):
        y, x = clouds
        whole = closers.fit("balanced", y, x, reduce=True)
        items, queries = whole.apply_gallery(x), whole.apply_queries(y)
        few = closers.fit("balanced", y, x, reduce=True, n_components=4)
        assert few.apply_gallery(x).shape == (80, 4)
        prefix = queries[:, :4] @ items[:, :4].T
        np.testing.assert_allclose(prefix, scores(few, y, x), atol=1e-12)
        full = closers.fit("balanced", y, x, n_components=4)
        assert full.apply_gallery(x).shape == (80, 10)
        np.testing.assert_allclose(prefix, scores(full, y, x), atol=1e-12)
        still = closers.fit("balanced", y, x, n_components=4, rotation="none")
        np.testing.assert_allclose(prefix, scores(still, y, x), atol=1e-12)

    def test_a_share_of_the_scores(self, rng):
        x, y = rng.normal(size=(500, 10)), rng.normal(size=(400, 10)) * np.geomspace(3, 0.1, 10)
        closure = closers.fit("balanced", y, x, metric="ip", n_components=0.9, shrinkage=0.0)
        k = closure.n_components
        assert 2 <= k < 10
        exact = y @ (x - x.mean(axis=0)).T
        for count, enough in ((k, True), (k - 1, False)):
            kept = closers.fit("balanced", y, x, metric="ip", n_components=count, shrinkage=0.0)
            lost = np.sum((scores(kept, y, x) - exact) ** 2) / np.sum(exact**2)
            assert bool(lost <= 0.1) is enough

    def test_fewer_components_are_not_exact_and_the_bound_holds(self, clouds):
        y, x = clouds
        closure = closers.fit("balanced", y, x, n_components=3)
        exact = y @ (x - x.mean(axis=0)).T
        off = scores(closure, y, x) - exact
        differences = off.max(axis=1) - off.min(axis=1)
        assert not closure.exact
        assert closure.resolution < differences.max() <= closure.bound

    def test_a_gallery_of_lower_rank_is_balanced_within_its_hull(self, rng):
        basis = random_frame(12, 4, 1)
        x = rng.normal(size=(30, 4)) @ np.diag([3, 1, 0.3, 0.1]) @ basis.T + rng.normal(size=12)
        y = rng.normal(size=(50, 12)) * 2 + 1
        closure = closers.fit("balanced", y, x, metric="ip")
        assert (closure.n_components, closure.rank, closure.exact) == (4, 4, True)
        np.testing.assert_allclose(scores(closure, y, x), y @ (x - x.mean(axis=0)).T, atol=1e-11)
        # What no item has a part in is gone from the queries, so it catches no noise.
        affine = closers.fit("affine", y, x, metric="ip")
        free = rng.normal(size=12)
        free -= basis @ (basis.T @ free)
        for fitted in (closure, affine):
            moved = fitted.queries(np.stack([free, np.zeros(12)]))
            np.testing.assert_allclose(moved[0], moved[1], atol=1e-11)

    def test_it_loses_less_to_relative_noise_than_recenter_and_alpha_1_is_the_best(self, clouds):
        y, x = clouds

        def noise(closure):
            items, queries = closure.apply_gallery(x), closure.apply_queries(y)
            return items.var(axis=0).sum() * np.mean(np.sum(queries**2, axis=1))

        costs = {
            alpha: noise(closers.fit("balanced", y, x, alpha=alpha, shrinkage=0.01))
            for alpha in (0.0, 0.5, 0.9, 1.0, 1.1, 1.5)
        }
        assert min(costs, key=costs.__getitem__) == 1.0
        assert costs[0.0] > costs[0.5] > costs[1.0] < costs[1.5]
        assert costs[0.0] == pytest.approx(noise(closers.fit("recenter", y, x)))


class TestFromMoments:
    def test_pieces_that_are_thirds_give_what_rows_give(self, clouds):
        y, x = clouds
        rows = closers.fit("balanced", y, x)
        thirds = [moments(y[k::3]) for k in range(3)]
        for fitted in (
            closers.fit_moments("balanced", thirds, moments(x)),
            closers.balance(moments(x), thirds),
            closers.balance(moments(x), [(thirds, 2.0)]),
        ):
            assert fitted.info["shrinkage"] == pytest.approx(rows.info["shrinkage"])
            np.testing.assert_allclose(fitted.gallery.matrix, rows.gallery.matrix, atol=1e-10)
            np.testing.assert_allclose(fitted.queries.matrix, rows.queries.matrix, atol=1e-10)
            assert fitted.bound >= rows.bound

    def test_moments_in_one_piece_follow_the_rule(self, clouds):
        y, x = clouds
        fitted = closers.fit_moments("balanced", moments(y), moments(x))
        assert fitted.info["shrinkage"] == pytest.approx(1 / (2 + 60 / 40)) == rule_of_thumb(60)

    def test_more_pieces_than_three_are_put_together(self, clouds):
        y, _ = clouds
        parts = [moments(part) for part in np.array_split(y, [1, 3, 20, 28, 45])]
        found = second_moments_of([(parts, 1.0)])
        np.testing.assert_allclose(found.matrix, y.T @ y / len(y), atol=1e-12)
        assert len(found.folds) == 3
        for rest, own in found.folds:  # a fold and the rest make up the whole
            share = np.linalg.lstsq(
                np.stack([rest.ravel(), own.ravel()], axis=1), found.matrix.ravel(), rcond=None
            )[0]
            assert share.sum() == pytest.approx(1)
            assert 0.2 < share[1] < 0.5

    def test_no_queries(self, clouds):
        y, x = clouds
        blind = closers.balance(moments(x))
        assert blind.info["queries"] == 0
        np.testing.assert_allclose(scores(blind, y, x), y @ (x - x.mean(axis=0)).T, atol=1e-12)
        # S = I: the items' variances become their roots.
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(x.T, bias=True)))
        after = np.linalg.eigvalsh(np.cov(blind.apply_gallery(x).T, bias=True))
        np.testing.assert_allclose(after / after.sum(), spread / spread.sum(), atol=0.01)

    def test_a_known_mean_is_worth_something(self, clouds):
        y, x = clouds
        m = moments(x)

        def reached(closure):
            queries = closure.apply_queries(y)
            return closure.apply_gallery(x).var(axis=0).sum() * np.mean(np.sum(queries**2, axis=1))

        blind, told, seen = (
            closers.balance(m),
            closers.balance(m, query_mean=y.mean(axis=0)),
            closers.fit("balanced", y, x),
        )
        assert reached(blind) > reached(told) > reached(seen)

    def test_queries_of_two_kinds_serve_both(self, rng):
        x = rng.normal(size=(200, 8))
        kinds = [
            rng.normal(size=(90, 8)) * w for w in (np.geomspace(3, 0.1, 8), np.geomspace(0.1, 3, 8))
        ]
        parts = [[moments(y[k::3]) for k in range(3)] for y in kinds]

        def reached(closure, y):
            queries = closure.apply_queries(y)
            power = closure.apply_gallery(x).var(axis=0).sum() * np.mean(np.sum(queries**2, axis=1))
            return power / (x.var(axis=0).sum() * np.mean(np.sum(y**2, axis=1)))

        both = closers.balance(moments(x), [(p, 1.0) for p in parts], metric="ip")
        own = [closers.balance(moments(x), p, metric="ip") for p in parts]
        for i in (0, 1):
            assert (
                reached(own[i], kinds[i]) < reached(both, kinds[i]) < reached(own[1 - i], kinds[i])
            )
        # The weights draw it to one side.
        one = closers.balance(moments(x), [(parts[0], 9.0), (parts[1], 1.0)], metric="ip")
        assert reached(own[0], kinds[0]) < reached(one, kinds[0]) < reached(both, kinds[0])


class TestShrinkage:
    @pytest.mark.parametrize(
        ("name", "sides"), [("coco_clip_vitb16", (0, 1)), ("coco_clip_vitb16", (1, 0)),
                            ("photos_clip_vitb32", (0, 1))]
    )  # fmt: skip
    @pytest.mark.parametrize("m", [25, 250])
    def test_what_the_folds_choose_is_within_a_hundredth_of_a_bit_of_the_best(
        self, real_data, name, sides, m
    ):
        both = [
            unit(real_data(name, f"{side}.npy").astype(np.float64)) for side in ("images", "texts")
        ]
        x, y = both[sides[0]], both[sides[1]]
        order = np.random.default_rng(0).permutation(len(y))
        fit, test = y[order[:m]], y[order[-min(250, len(y) - m) :]]
        axes = moments(x).full_axes
        basis, c = axes.axes[:, : axes.rank], axes.variances[: axes.rank] / len(x)
        folds = second_moments_of([([moments(fit[k::3]) for k in range(3)], 1.0)]).within(basis)
        held_out = basis.T @ (test.T @ test / len(test)) @ basis

        def bits(share):
            found = transport(c, folds, gallery_shrinkage=0.01, query_shrinkage=share)
            items, queries = found.coordinates(len(c))
            spread = c @ np.sum(items**2, axis=1)
            return np.log2(spread * np.trace(queries.T @ held_out @ queries)) / 2, found.shrinkage

        cost, chosen = bits(None)
        best = min(bits(share)[0] for share in (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5))
        assert cost <= best + 0.01
        assert 0.01 < chosen < 0.8
        assert bits(rule_of_thumb(m))[0] <= best + 0.015  # what its docstring says

    def test_more_queries_are_shrunk_less(self, rng):
        x = rng.normal(size=(300, 20)) * np.geomspace(2, 0.1, 20)
        shares = []
        for m in (10, 40, 400, 4000):
            y = rng.normal(size=(m, 20)) * np.geomspace(0.1, 2, 20)
            shares.append(closers.fit("balanced", y, x, metric="ip").info["shrinkage"])
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] < 0.01

    def test_it_never_changes_a_ranking(self, clouds):
        y, x = clouds
        for share in (0.0, 0.5, 1.0):
            closure = closers.fit("balanced", y, x, shrinkage=share)
            assert closure.exact
            np.testing.assert_allclose(
                scores(closure, y, x), y @ (x - x.mean(axis=0)).T, atol=1e-12
            )


class TestExactness:
    SETS = (
        ("coco_clip_vitb16", "texts.npy", "images.npy"),
        ("coco_clip_vitb16", "images.npy", "texts.npy"),
        ("coco_clip_vitb16_untrained", "texts.npy", "images.npy"),
        ("photos_clip_vitb32", "texts.npy", "images.npy"),
        ("caltech101_clip_vitb32", "images.npy", "texts.npy"),
        ("cifar10_openclip_vitb32_laion2b", "images.npy", "texts.npy"),
    )

    @pytest.mark.parametrize(("name", "queries", "gallery"), SETS)
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_no_answer_changes_on_real_embeddings(self, real_data, name, queries, gallery, dtype):
        y, x = real_data(name, queries).astype(dtype), real_data(name, gallery).astype(dtype)
        x = x[0] if x.ndim == 3 else x
        closure = closers.fit("balanced", y[::2], x)
        assert closure.exact
        before = nearest(y, x, k=2)
        after = nearest(closure.apply_queries(y), closure.apply_gallery(x), metric="ip")
        margin = to_numpy(before.scores[:, 0] - before.scores[:, 1])
        changed = to_numpy(before.indices)[:, 0] != to_numpy(after.indices)[:, 0]
        assert not (changed & (margin > closure.resolution)).any()
        assert changed.sum() <= (margin <= closure.resolution).sum()

    def test_rows_in_halves(self, real_data):
        """Kept in halves, rows reach a little beyond what counts as rank; no map may leave that out."""
        y = real_data("photos_clip_vitb32", "texts.npy").astype(np.float16)
        x = real_data("photos_clip_vitb32", "images.npy")[::4].astype(np.float16)
        closure = closers.fit("balanced", y, x)
        assert closure.exact
        mapped = closure.apply_queries(y), closure.apply_gallery(x)
        assert mapped[1].dtype == np.float32
        before, after = nearest(y, x).indices, nearest(*mapped, metric="ip").indices
        assert (before == after).all()

    def test_a_stream_of_real_rows(self, real_data):
        y = unit(real_data("photos_clip_vitb32", "texts.npy").astype(np.float64))
        x = unit(real_data("photos_clip_vitb32", "images.npy")[::8].astype(np.float64))
        streamed, seen = (
            closers.fit_moments("balanced", moments(y), moments(x)),
            closers.fit("balanced", y, x),
        )
        assert streamed.exact
        assert seen.bound < streamed.bound < 1e-12  # without rows, by the maps' largest factors

    def test_by_distance_on_rows_of_one_length(self, clouds):
        y, x = clouds
        closure = closers.fit("balanced", y * 3, x, metric="euclidean")
        assert closure.exact
        assert (closure.metric, closure.comparison) == ("euclidean", "ip")
        before = nearest(y * 3, x, k=5, metric="euclidean").indices
        after = nearest(closure.apply_queries(y * 3), closure.apply_gallery(x), k=5, metric="ip")
        assert (before == after.indices).all()

    def test_by_distance_on_rows_of_any_length_it_says_so_and_the_lift_helps(self, clouds, rng):
        y, x = clouds
        x = x * rng.uniform(0.5, 2, size=(len(x), 1))
        with pytest.warns(ClosureWarning, match="lengths from .* lift both sides first"):
            closure = closers.fit("balanced", y, x, metric="euclidean")
        assert not closure.exact
        before = nearest(y, x, metric="euclidean").indices
        changed = nearest(closure.apply_queries(y), closure.apply_gallery(x), metric="ip").indices
        assert (changed != before).any()
        c = x.mean(axis=0)
        lifted = closers.lift_queries(y, center=c), closers.lift_gallery(x, center=c)
        closure = closers.fit("balanced", *lifted, metric="ip")
        assert closure.exact
        mapped = closure.apply_queries(lifted[0]), closure.apply_gallery(lifted[1])
        assert (nearest(*mapped, metric="ip").indices == before).all()


class TestRefusals:
    def fit(self, y, x, **options):
        return closers.fit("balanced", y, x, **{"metric": "ip", **options})

    def test_one_query(self, clouds):
        y, x = clouds
        with pytest.raises(
            ShapeError, match=r"`queries` must have at least 2 rows.*got 1; without"
        ):
            self.fit(y[:1], x)

    def test_all_queries_equal_is_a_known_mean(self, clouds):
        y, x = clouds
        y = np.repeat(y[:1], 9, axis=0)
        with pytest.warns(ClosureWarning, match="`balanced`: all queries are equal"):
            closure = self.fit(y, x)
        assert closure.exact

    @pytest.mark.parametrize("shrinkage", [None, 0.0])
    def test_second_moments_of_rank_1(self, clouds, shrinkage):
        y, x = clouds
        y = np.outer(np.linspace(1, 2, 9), y[0])
        closure = self.fit(y, x, shrinkage=shrinkage)
        np.testing.assert_allclose(scores(closure, y, x), y @ (x - x.mean(axis=0)).T, atol=1e-6)
        assert np.isfinite(closure.info["condition"])

    def test_queries_that_see_nothing_of_the_gallery(self, rng):
        x = np.concatenate([rng.normal(size=(9, 3)), np.zeros((9, 3))], axis=1)
        y = np.concatenate([np.zeros((9, 3)), rng.normal(size=(9, 3))], axis=1)
        with pytest.raises(DataError, match="no part along the gallery's directions"):
            self.fit(y, x)

    def test_all_items_equal(self, clouds):
        y, x = clouds
        with pytest.warns(ClosureWarning, match="all items are equal"):
            closure = self.fit(y, np.repeat(x[:1], 4, axis=0))
        assert closure.exact

    def test_one_dimension(self, rng):
        y, x = rng.normal(size=(9, 1)) + 3, rng.normal(size=(7, 1))
        with pytest.warns(ClosureWarning, match="in one dimension every map is a factor"):
            closure = self.fit(y, x)
        np.testing.assert_allclose(scores(closure, y, x), y @ (x - x.mean(axis=0)).T, atol=1e-12)

    def test_nan(self, clouds):
        y, x = clouds
        y = y.copy()
        y[3, 2] = np.nan
        with pytest.raises(DataError, match=r"`queries` row 3 .*NaN"):
            self.fit(y, x)
        with pytest.raises(DataError, match="`query_mean` holds NaN"):
            closers.balance(moments(x), query_mean=y[3])

    def test_options(self, clouds):
        y, x = clouds
        for options, message in (
            ({"n_components": 11}, "`n_components` is 11, but the gallery has only 10 directions"),
            ({"n_components": 3, "alpha": 0.5}, "goes with alpha 1.*got alpha 0.5"),
            ({"reduce": True, "alpha": 0.5}, "`reduce` closes the gap fully"),
            ({"rotation": "some"}, '`rotation` must be a seed >= 0 or "none"'),
            ({"rotation": -1}, "`rotation` must be at least 0"),
            ({"shrinkage": 2.0}, r"`shrinkage` must be finite and in \[0, 1\]"),
            ({"side": "queries"}, "`balanced` has no option `side`"),
            ({"compare": "euclidean"}, "`balanced` has no option `compare`"),
        ):
            with pytest.raises(ArgumentError, match=message):
                self.fit(y, x, **options)
        with pytest.raises(ArgumentError, match="`affine` has no option `rotation`"):
            closers.fit("affine", y, x, rotation=1)

    def test_kinds(self, clouds):
        y, x = clouds
        m, q = moments(x), moments(y)
        for queries, error, message in (
            ([], ShapeError, "`queries` must hold moments; got an empty list"),
            ([y], ArgumentError, "got a ndarray among them"),
            ([(q, 0.0)], ArgumentError, "`weight` must be finite"),
            ([(q, 1.0), (moments(y[:, :5]), 1.0)], ShapeError, "widths 10 and 5"),
            ([(q, 1.0), (moments(y[:1]), 1.0)], ShapeError, "at least 2 rows"),
        ):
            with pytest.raises(error, match=message):
                closers.balance(m, queries)
        with pytest.raises(ArgumentError, match="either `queries` or `query_mean`"):
            closers.balance(m, q, query_mean=y[0])
        with pytest.raises(ShapeError, match=r"`query_mean` must have shape \(10,\); got \(3,\)"):
            closers.balance(m, query_mean=np.ones(3))

    def test_lift(self, clouds):
        y, _ = clouds
        with pytest.raises(
            ShapeError, match="`center` must have the dimension of `gallery`, 10; got 3"
        ):
            closers.lift_gallery(y, center=np.ones(3))


class TestCost:
    def test_six_eigendecompositions_at_most(self, clouds, monkeypatch):
        y, x = clouds
        found = []
        for name in ("eigh", "eigvalsh", "svd", "eig", "svdvals"):
            if not hasattr(np.linalg, name):
                continue
            inner = getattr(np.linalg, name)

            def counted(*args, inner=inner, **options):
                found.append(inner.__name__)
                return inner(*args, **options)

            monkeypatch.setattr(np.linalg, name, counted)
        thirds = [moments(y[k::3]) for k in range(3)]
        for options in (
            {},
            {"rotation": "none"},
            {"alpha": 0.5},
            {"n_components": 3, "reduce": True},
        ):
            found.clear()
            closers.balance(moments(x), thirds, **options)
            assert 1 <= len(found) <= 6, (options, found)

    def test_a_map_is_one_product(self, clouds):
        """The projection's factors, or one matrix: nothing that a stream would do twice."""
        y, x = clouds
        closure = closers.fit("balanced", y, x)
        assert closure.gallery.left.shape == (10, 10)
        assert closure.gallery.right is None


def test_the_frame_is_the_same_everywhere():
    frame = random_frame(5, 3, 0)
    np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-14)
    # Gram-Schmidt, by hand, of the same draw.
    draw = np.random.default_rng([0, 1]).normal(size=(5, 3))
    for k in range(3):
        column = draw[:, k] - frame[:, :k] @ (frame[:, :k].T @ draw[:, k])
        np.testing.assert_allclose(frame[:, k], column / np.linalg.norm(column), atol=1e-13)


def test_second_moment_is_not_centred(clouds):
    y, _ = clouds
    np.testing.assert_allclose(second_moment(moments(y)), y.T @ y / len(y), atol=1e-14)


def test_within_projects_the_folds_too(clouds):
    y, _ = clouds
    basis = random_frame(10, 3, 0)
    inside = y @ basis
    whole = SecondMoments(y.T @ y, 60, ((y.T @ y, y.T @ y),)).within(basis)
    for matrix in (whole.matrix, *whole.folds[0]):
        np.testing.assert_allclose(matrix, inside.T @ inside, atol=1e-12)


def test_nothing_warns_on_ordinary_clouds(clouds):
    y, x = clouds
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert closers.fit("balanced", y, x).method == "balanced"
    assert module.GALLERY_SHRINKAGE == 0.01


def test_a_code_s_rotation_does_not_turn_the_closure_s_back(rng) -> None:
    gallery = rng.normal(size=(400, 16)) * np.geomspace(8, 0.1, 16)
    queries = rng.normal(size=(200, 16)) * np.geomspace(8, 0.1, 16) + 1
    closure = closers.fit("balanced", queries, gallery, metric="ip", rotation=0)
    stored = closure.apply_gallery(gallery)
    turned = stored @ random_rotation(16, 0)
    # Spread over all coordinates: along its axes the cloud's variances differ by a factor of 6,400.
    for rows in (stored, turned):
        variances = rows.var(axis=0)
        assert variances.max() < 20 * variances.min()
