"""The gap in bits: against SciPy, against direct loops, against codes and noise that are really applied."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg, optimize, stats

import modgap
from modgap import closers, gap_in_bits
from modgap._core.moments import Moments
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.measures.bits import UNIFORM_NOISE
from modgap.robustness.noise import Bits


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def moments(rows):
    return Moments.from_rows(rows, precision="float64")


def fidelity(c, s):
    """F by its definition, tr (C^1/2 S C^1/2)^1/2, with SciPy's square roots."""
    root = linalg.sqrtm(c)
    return float(np.real(np.trace(linalg.sqrtm(root @ s @ root))))


@pytest.fixture
def clouds(rng):
    """Queries and items of 8 dimensions, apart, and each long where the other is short."""
    x = rng.normal(size=(300, 8)) * np.geomspace(2, 0.2, 8) + rng.normal(size=8)
    y = rng.normal(size=(200, 8)) * np.geomspace(0.2, 2, 8) @ rng.normal(size=(8, 8)) + 1
    return y, x


class TestAgainstOthers:
    def test_by_inner_product_as_loops_and_scipy_have_it(self, clouds):
        y, x = clouds
        found = gap_in_bits(y, x, metric="ip")
        mean = sum(x) / len(x)
        c = sum(np.outer(row - mean, row - mean) for row in x) / len(x)
        s = sum(np.outer(row, row) for row in y) / len(y)
        items = sum(row @ row for row in x) / len(x)
        asked = sum(row @ row for row in y) / len(y)
        f = fidelity(c, s)
        assert found.cost == pytest.approx(math.log2(items * asked / f**2) / 2, rel=1e-9)
        assert found.means == pytest.approx(math.log2(items / np.trace(c)) / 2, rel=1e-9)
        assert found.shapes == pytest.approx(found.cost - found.means, rel=1e-9)
        apart = 8 * sum(c[j, j] * s[j, j] for j in range(8))
        own = found.range_per_dimension
        assert own.cost == own.shapes == pytest.approx(math.log2(apart / f**2) / 2, rel=1e-9)
        assert own.means == 0
        assert found.spectrum**2 == pytest.approx(
            np.sort(np.real(linalg.eigvals(c @ s)))[::-1], rel=1e-6
        )

    def test_the_bures_distance_holds_the_same_fidelity(self, clouds):
        """Centred queries: the shapes follow from the shape part of the Fréchet distance."""
        y, x = clouds
        y = y - y.mean(axis=0)
        shape = modgap.measures.frechet_distance(y, x, normalize=False).shape
        traces = x.var(axis=0).sum(), y.var(axis=0).sum()
        f = (sum(traces) - shape) / 2
        found = gap_in_bits(y, x, metric="ip")
        assert found.shapes == pytest.approx(math.log2(math.prod(traces) / f**2) / 2, rel=1e-8)

    def test_cosine_is_the_inner_product_of_unit_rows(self, clouds):
        y, x = clouds
        found, same = gap_in_bits(y, x), gap_in_bits(unit(y), unit(x), metric="ip")
        assert found.cost == pytest.approx(same.cost, rel=1e-9)
        assert found.reached == pytest.approx(same.reached, rel=1e-9)
        assert (found.metric, same.metric) == ("cosine", "ip")

    def test_the_noise_of_uniform_codes_is_what_minimising_it_finds(self):
        for bits, known in enumerate(UNIFORM_NOISE[1:], start=1):

            def error(step, cells=2**bits):
                edges = (np.arange(1, cells) - cells / 2) * step
                levels = (np.arange(cells) - cells / 2 + 0.5) * step
                ends = np.concatenate([[-np.inf], edges, [np.inf]])
                density = stats.norm.pdf(ends)
                share, first = np.diff(stats.norm.cdf(ends)), -np.diff(density)
                return 1 - 2 * levels @ first + levels**2 @ share

            best = optimize.minimize_scalar(error, bounds=(0.01, 2), method="bounded")
            assert known == pytest.approx(best.fun, rel=5e-4)  # the table has four digits


class TestAgainstNoise:
    """What is predicted, and what happens to scores when stored rows are really disturbed."""

    def measured(self, before, after, size, rng):
        """Bits between the errors of scores of two systems under noise relative to what is stored."""
        errors = []
        for y, x in (before, after):
            scale = np.sqrt(size(x)) * np.ones(x.shape[1])
            noise = rng.uniform(-1, 1, size=(400, *x.shape)) * scale
            errors.append(np.mean((noise @ y.T) ** 2))
        return math.log2(errors[0] / errors[1]) / 2

    def test_balancing_wins_the_cost_under_the_noise_of_a_dithered_code(self, clouds, rng):
        y, x = clouds
        found = gap_in_bits(y, x, metric="ip")
        closure = closers.fit("balanced", y, x, metric="ip", shrinkage=0.0)
        mapped = closure.apply_queries(y), closure.apply_gallery(x)
        won = self.measured((y, x), mapped, lambda rows: np.mean(rows**2), rng)
        # 400 draws of 300 rows: errors within .3 %; the map shrinks C by .01, as the cost does not.
        assert won == pytest.approx(found.cost, abs=0.02)
        assert found.cost > 1
        own = self.measured((y, x), mapped, lambda rows: rows.var(axis=0), rng)
        # Balanced rows are rotated, so their coordinates have about equal ranges, not quite.
        assert own == pytest.approx(found.range_per_dimension.cost, abs=0.2)
        recentred = (y, x - x.mean(axis=0))
        won = self.measured((y, x), recentred, lambda rows: np.mean(rows**2), rng)
        assert won == pytest.approx(found.means, abs=0.02)

    @pytest.mark.parametrize("bits", [4, 6])
    def test_real_codes_do_to_scores_what_is_predicted(self, rng, bits):
        x = rng.normal(size=(500, 64)) * np.geomspace(2, 0.1, 64) + 0.3
        y = rng.normal(size=(200, 64)) * np.geomspace(0.3, 1, 64) + 0.2
        found = gap_in_bits(y, x, metric="ip")
        closure = closers.fit("balanced", y, x, metric="ip", shrinkage=0.0)
        code = Bits(bits, clipped=True, rotated=True)
        errors = []
        for asked, items in ((y, x), (closure.apply_queries(y), closure.apply_gallery(x))):
            off = asked @ (code.apply(items) - items).T
            errors.append(np.sqrt(np.mean(off**2)) / found.score_spread)
        expected = found.code(bits)
        # One rotation and one code, whose range is searched on a grid.
        assert errors == pytest.approx([expected.now, expected.balanced], rel=0.1)
        assert expected.least < expected.balanced < expected.now
        assert math.log2(expected.now / expected.balanced) == pytest.approx(found.cost)

    def test_by_distance_on_items_of_several_lengths(self, clouds, rng):
        y, x = clouds
        found = gap_in_bits(y, x, metric="euclidean")
        center = x.mean(axis=0)
        lifted = closers.lift_queries(y, center=center), closers.lift_gallery(x, center=center)
        closure = closers.fit("balanced", *lifted, metric="ip", shrinkage=0.0)
        mapped = closure.apply_queries(lifted[0]), closure.apply_gallery(lifted[1])
        errors = []
        noise = rng.normal(size=(400, *x.shape)) * np.sqrt(np.mean(x**2)) * 1e-3
        off = [np.sum((y[:, None] - x - e) ** 2, axis=2) / 2 for e in noise[:40]]
        errors.append(np.mean((off - np.sum((y[:, None] - x) ** 2, axis=2) / 2) ** 2))
        asked, items = mapped
        noise = rng.normal(size=(400, *items.shape)) * np.sqrt(np.mean(items**2)) * 1e-3
        errors.append(np.mean((noise @ asked.T) ** 2))
        # 40 draws of 60,000 distances of 300 rows.
        assert math.log2(errors[0] / errors[1]) / 2 == pytest.approx(found.cost, abs=0.03)
        assert (found.dimension, found.balanced_dimension) == (8, 9)

    def test_by_distance_it_does_not_matter_where_the_origin_is_but_to_the_means(self, clouds):
        y, x = clouds
        found, moved = (
            gap_in_bits(*pair, metric="euclidean") for pair in ((y, x), (y + 7.0, x + 7.0))
        )
        assert moved.means > found.means + 1
        assert moved.shapes == pytest.approx(found.shapes, rel=1e-8)
        assert moved.range_per_dimension.cost == pytest.approx(
            found.range_per_dimension.cost, rel=1e-8
        )
        assert moved.one_range.reached - moved.means == pytest.approx(
            found.one_range.reached - found.means, rel=1e-6
        )

    def test_by_distance_on_items_of_one_length_the_comparison_costs_too(self, clouds):
        y, x = (unit(rows) for rows in clouds)
        near, far = gap_in_bits(y, x, metric="ip"), gap_in_bits(y, x, metric="euclidean")
        assert far.balanced_dimension == 8
        np.testing.assert_allclose(far.spectrum, near.spectrum)
        steps = np.mean([(row - item) @ (row - item) for row in y for item in x])
        assert far.cost - near.cost == pytest.approx(math.log2(steps) / 2, rel=1e-8)
        assert far.means == pytest.approx(near.means, rel=1e-12)
        given = gap_in_bits(moments(y), moments(x), metric="euclidean")
        assert given.cost == pytest.approx(far.cost, rel=1e-9)


class TestNothingToWin:
    def test_equal_clouds_about_the_origin_cost_nothing(self, rng):
        x = rng.normal(size=(40, 6)) * np.geomspace(3, 0.1, 6)
        x = np.concatenate([x, -x])
        found = gap_in_bits(x, x, metric="ip")
        assert found.cost == pytest.approx(0, abs=1e-12)
        assert (found.means, found.shapes) == (0, 0)

    def test_other_rows_of_one_cloud_say_nothing_within_their_error(self, rng):
        rows = rng.normal(size=(4000, 12)) * np.geomspace(2, 0.3, 12)
        y, x = rows[:2000], rows[2000:]
        found = gap_in_bits(y, x, metric="ip")
        assert abs(found.reached) <= 3 * found.reached_stderr + 0.002
        assert found.cost < 0.01
        assert found.sentence.startswith("The gap costs a stored code nothing")

    def test_few_queries_make_the_cost_too_high_and_what_is_reached_too_low(self, clouds):
        y, x = clouds
        few = [gap_in_bits(y[k::10], x, metric="ip") for k in range(10)]
        whole = gap_in_bits(y, x, metric="ip")
        assert np.mean([found.cost for found in few]) > whole.cost + 0.03
        assert np.mean([found.reached for found in few]) < whole.reached - 0.03
        assert whole.reached < whole.cost


class TestReached:
    def test_its_error_is_what_other_draws_of_queries_show(self, clouds):
        x = clouds[1]
        rng = np.random.default_rng(1)
        turn = rng.normal(size=(8, 8))
        draws = [
            gap_in_bits(rng.normal(size=(100, 8)) @ turn + 1, x, metric="ip", seed=k)
            for k in range(60)
        ]
        for code in ("one_range", "range_per_dimension"):
            found = [getattr(draw, code) for draw in draws]
            shown = math.sqrt(np.mean([one.reached_stderr**2 for one in found]))
            # Sixty draws know their spread to a tenth; the fits' own error is left out of the figure.
            assert 0.65 < shown / np.std([one.reached for one in found]) < 1.35

    def test_it_is_what_the_closer_gives_queries_it_was_not_fitted_to(self, clouds):
        y, x = clouds
        found = gap_in_bits(y, x, metric="ip", seed=5)
        order = np.random.default_rng(5).permutation(200)
        won = []
        for fit, test in ((order[:100], order[100:]), (order[100:], order[:100])):
            closure = closers.fit("balanced", y[fit], x, metric="ip")
            items, asked = closure.apply_gallery(x), closure.apply_queries(y[test])
            before = np.sum(x**2) * np.sum(y[test] ** 2)
            won.append(math.log2(before / (np.sum(items**2) * np.sum(asked**2))) / 2)
        assert found.reached == pytest.approx(np.mean(won), abs=1e-9)
        assert found.reached != gap_in_bits(y, x, metric="ip", seed=6).reached

    def test_it_takes_a_sample_of_many_queries_and_all_else_does_not(self, clouds):
        y, x = clouds
        few, whole = (gap_in_bits(y, x, metric="ip", sample=limit) for limit in (50, None))
        assert few.cost == whole.cost
        assert few.reached_stderr > whole.reached_stderr
        assert gap_in_bits(y, x, metric="ip", sample=200).one_range == whole.one_range


class TestRecord:
    def test_moments_give_all_but_what_is_reached(self, clouds):
        y, x = clouds
        found = gap_in_bits(moments(y), moments(x), metric="ip")
        whole = gap_in_bits(y, x, metric="ip")
        assert found.cost == pytest.approx(whole.cost, rel=1e-9)
        assert found.code(3).now == pytest.approx(whole.code(3).now, rel=1e-9)
        assert (found.reached, found.reached_stderr, found.estimator) == (None, None, None)
        assert "too high" in found.sentence

    def test_neither_scale_nor_rotation_counts(self, clouds):
        y, x = clouds
        turn = linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
        found, turned = (
            gap_in_bits(y, x, metric="ip"),
            gap_in_bits(7 * y @ turn, x @ turn, metric="ip"),
        )
        assert turned.cost == pytest.approx(found.cost, rel=1e-9)
        assert turned.means == pytest.approx(found.means, rel=1e-9)
        assert turned.reached == pytest.approx(found.reached, rel=1e-9)
        assert turned.code(4).now == pytest.approx(found.code(4).now, rel=1e-9)
        assert turned.range_per_dimension.cost != pytest.approx(found.range_per_dimension.cost)

    def test_moving_the_gallery_changes_the_means_alone(self, clouds):
        y, x = clouds
        found, moved = gap_in_bits(y, x, metric="ip"), gap_in_bits(y, x + 3, metric="ip")
        assert moved.means > found.means + 1
        assert moved.shapes == pytest.approx(found.shapes, rel=1e-9)
        assert moved.reached - moved.means == pytest.approx(found.reached - found.means, rel=1e-7)

    def test_a_bit_more_halves_the_least_noise_where_every_direction_gets_some(self, rng):
        x, y = rng.normal(size=(400, 5)), rng.normal(size=(300, 5))
        found = gap_in_bits(y, x, metric="ip")
        assert found.least_noise(4) == pytest.approx(found.least_noise(3) / 2, rel=1e-9)
        assert found.least_noise(0) == pytest.approx(1)
        assert found.least_noise(2.5) < found.least_noise(2)

    def test_a_gallery_of_lower_rank_has_the_scores_of_its_span(self, rng):
        x = rng.normal(size=(6, 20))
        y = rng.normal(size=(50, 20))
        found = gap_in_bits(y, x)
        assert len(found.spectrum) == 5
        assert found.cost > found.reached > found.means > 0
        assert found.code(2).least < found.code(2).balanced

    def test_the_sentence_and_the_document_hold_the_figures(self, clouds):
        y, x = clouds
        found = gap_in_bits(y, x, metric="ip")
        share = found.means / found.reached
        assert f"{found.reached:.2f} ± {2 * found.reached_stderr:.2f} bits" in found.sentence
        assert f"one of {4 - found.reached:.1f} bits" in found.sentence
        assert f"{share:.0%} of the loss is the means" in found.sentence
        document = found.to_dict()
        assert list(document)[:6] == [
            "code",
            "cost",
            "means",
            "shapes",
            "reached",
            "reached_stderr",
        ]
        assert document["range_per_dimension"]["cost"] == found.range_per_dimension.cost
        assert [row["bits"] for row in document["codes"]] == list(range(1, 9))
        assert document["spectrum"] == found.spectrum.tolist()
        assert "code of 4 bits" in found.sentence
        assert "code of 8 bits" in gap_in_bits(y, x + 100, metric="ip").sentence

    def test_the_gap_of_two_clouds_has_it(self, clouds):
        y, x = clouds
        found = modgap.measure(y, x)
        assert found.bits.one_range == gap_in_bits(y, x).one_range
        assert modgap.measure(y, x, normalize=False).bits.metric == "euclidean"
        rows = {row["figure"]: row["value"] for row in found.table()}
        assert rows["bits.range_per_dimension.cost"] == found.bits.range_per_dimension.cost
        assert rows["bits.codes.3.bits"] == 4
        assert not any("spectrum" in name for name in rows if name.startswith("bits"))
        assert modgap.measure(y[:3], x).bits is None


class TestRefused:
    @pytest.mark.parametrize(
        ("queries", "gallery", "error", "message"),
        [
            (np.eye(3), np.eye(3), ShapeError, r"`queries` .* at least 4 rows, half .*; got 3"),
            (np.eye(4), np.eye(4)[:1], ShapeError, r"`gallery` must have at least 2 rows; got 1"),
            (np.eye(4), np.ones((5, 4)), DataError, r"`gallery` rows are all equal"),
            (np.eye(4)[[0] * 5], np.eye(4)[1:], DataError, r"`queries` have no part along"),
            (np.eye(4) * np.nan, np.eye(4), DataError, r"NaN"),
            (np.eye(4), np.eye(5), ShapeError, r"last axis"),
        ],
    )  # fmt: skip
    def test_in_one_line(self, queries, gallery, error, message):
        with pytest.raises(error, match=message) as caught:
            gap_in_bits(queries, gallery)
        assert "\n" not in str(caught.value)

    def test_moments_that_do_not_suffice(self, clouds):
        y, x = (moments(rows) for rows in clouds)
        with pytest.raises(DataError, match=r"`queries` must be moments of rows of unit length"):
            gap_in_bits(y, x)
        with pytest.raises(DataError, match=r"items of several lengths .* give the rows"):
            gap_in_bits(y, x, metric="euclidean")
        with pytest.raises(ShapeError, match=r"`queries` must have at least 2 rows; got 1"):
            gap_in_bits(moments(np.ones((1, 8))), x, metric="ip")

    def test_options_out_of_range(self, clouds):
        found = gap_in_bits(*clouds)
        for bits in (0, 9):
            with pytest.raises(ArgumentError, match=rf"`bits` .*got {bits}"):
                found.code(bits)
        with pytest.raises(ArgumentError, match=r"`bits`"):
            found.least_noise(-1)
        with pytest.raises(ArgumentError, match=r"`metric` must be one of"):
            gap_in_bits(*clouds, metric="hamming")
        with pytest.raises(ArgumentError, match=r"`seed`"):
            gap_in_bits(*clouds, seed=-1)
        with pytest.raises(ArgumentError, match=r"`sample`"):
            gap_in_bits(*clouds, sample=1)
