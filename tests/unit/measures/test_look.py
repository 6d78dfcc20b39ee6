"""What `look` says, and when it says nothing: each remark beside data that only just has no need of it."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest
from scipy import linalg, stats

import modgap
from modgap._core.json import plain
from modgap._core.opening import open_cloud
from modgap.decisions import COSINE, EUCLIDEAN
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.measures import look
from modgap.measures.relations import (
    answers_against_chance,
    pairs_against_chance,
    shared_directions,
)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def pairs(rng):
    """Sixty pairs of one model: a gap, directions in common, rank below d."""
    shared = rng.normal(size=(60, 100)) * np.linspace(3, 0.1, 100)
    gap = np.zeros(100)
    gap[0] = 9
    return tuple(
        unit(shared + 0.5 * rng.normal(size=shared.shape) + side * gap) for side in (1, -1)
    )


def codes(*arrays, **options):
    return [remark.code for remark in look(*arrays, **options)]


def the(code, *arrays, **options):
    (found,) = [remark for remark in look(*arrays, **options) if remark.code == code]
    return found


class TestNothing:
    def test_sound_data_has_no_remark(self, pairs):
        assert look(*pairs) == ()
        assert look(*pairs, paired=True) == ()
        assert look(*pairs, labels=np.arange(60)) == ()
        assert look(*(x.astype(np.float32) for x in pairs), metric="euclidean") == ()

    def test_every_library_says_the_same(self, pairs, to_xp):
        y, x = pairs[0].copy(), pairs[1].copy()
        x[7], y[3] = x[2], 2 * y[3]
        expected = look(y, x, paired=True)
        assert [r.code for r in expected] == ["copies-in-gallery", "lengths"]
        assert look(to_xp(y), to_xp(x), paired=True) == expected


class TestValues:
    def test_nan_and_infinity_are_counted_and_nothing_else_is_said(self, pairs):
        y, x = (side.copy() for side in pairs)
        y[4, 3], y[9, 0], x[0] = np.nan, np.inf, -np.inf
        ours, theirs = look(y, x)
        assert (ours.code, ours.severity, ours.count) == ("not-finite", "error", 2)
        assert "2 of 60 rows of `queries` (first: row 4) hold NaN or infinity; drop" in ours.text
        assert "1 of 60 rows of `gallery` (first: row 0)" in theirs.text

    def test_values_that_cannot_be_squared(self, pairs):
        found = the("out-of-range", 1e90 * pairs[0], pairs[1])
        assert (found.severity, found.count) == ("error", 60)
        assert "whose powers overflow in float64" in found.text
        assert "vanish" in the("out-of-range", 1e-90 * pairs[0], pairs[1]).text
        assert codes(1e70 * pairs[0], pairs[1]) == codes(1e-70 * pairs[0], pairs[1]) == ["lengths"]

    def test_rows_of_zeros_are_an_error_where_directions_count(self, pairs):
        y = pairs[0].copy()
        y[[5, 8]] = 0
        found = the("zero-rows", y, pairs[1])
        assert (found.severity, found.count) == ("error", 2)
        assert "2 of 60 rows of `queries` (first: row 5) are zero" in found.text
        found = the("zero-rows", y, pairs[1], metric="ip")
        assert (found.severity, found.count) == ("note", 2)


class TestCopies:
    def test_copies_in_the_gallery_are_counted(self, pairs):
        y, x = pairs[0], pairs[1].copy()
        x[[3, 9, 11]], x[20] = x[1], x[2]
        found = the("copies-in-gallery", y, x)
        assert (found.severity, found.count) == ("warning", 4)
        assert "4 of 60 gallery rows repeat another one (4 times the commonest)" in found.text
        assert found.text.endswith("drop them")
        assert "--owners" in the("copies-in-gallery", y, x, paired=True).text

    def test_copies_of_one_owner_are_no_fault(self, pairs):
        y, x = pairs[0], pairs[1].copy()
        x[[3, 9]], x[20] = x[1], x[2]
        owners = np.arange(60)
        owners[[3, 9]] = 1
        found = the("copies-in-gallery", y, x, owners=owners)
        assert found.count == 1
        assert "different owners" in found.text
        owners[20] = 2
        assert codes(y, x, owners=owners) == []

    def test_copies_among_the_queries(self, pairs):
        y, x = pairs[0].copy(), pairs[1]
        y[[3, 9]] = y[1]
        alone, paired = (the("copies-in-queries", y, x, paired=p) for p in (False, True))
        assert (alone.severity, alone.count) == ("note", 2)
        assert "the evidence of 58" in alone.text
        assert (paired.severity, paired.count) == ("warning", 2)
        assert "--owners" in paired.text

    def test_rows_that_are_on_both_sides(self, pairs):
        y, x = pairs[0], pairs[1].copy()
        x[50] = y[4]
        found = the("same-rows", y, x)
        assert (found.severity, found.count) == ("warning", 1)
        assert the("same-rows", y, y).count == 60

    def test_candidates_may_be_the_same_for_all(self, pairs, rng):
        choices = np.broadcast_to(pairs[1][:4], (60, 4, 100))
        right = (pairs[0] @ pairs[1][:4].T).argmax(axis=1)
        assert codes(pairs[0], np.array(choices), labels=right) == []


class TestLengths:
    def test_rows_of_other_lengths(self, pairs):
        y = pairs[0] * np.linspace(2, 7.5, 60)[:, None]
        found = the("lengths", y, pairs[1])
        assert (found.severity, found.count) == ("note", 60)
        assert "queries 2 to 7.5" in found.text
        assert "gallery" not in found.text.split(":")[0]

    @pytest.mark.parametrize("stored", [np.float16, np.float32])
    def test_unit_rows_in_half_precision(self, pairs, stored):
        half = [x.astype(np.float16).astype(stored) for x in pairs]
        found = the("half-precision", *half)
        assert (found.severity, found.code) == ("note", "half-precision")
        assert found.count > 100
        assert codes(*half) == ["half-precision"]

    def test_bfloat16(self, pairs):
        torch = pytest.importorskip("torch")
        half = [torch.asarray(x).to(torch.bfloat16) for x in pairs]
        assert codes(*half) == ["half-precision"]
        assert codes(*(x.to(torch.float32) for x in half)) == ["half-precision"]

    def test_two_scales_under_distances(self, pairs):
        assert codes(10 * pairs[0], pairs[1]) == ["lengths"]
        assert codes(10 * pairs[0], pairs[1], metric="ip") == ["lengths"]
        found = the("scales", 10 * pairs[0], pairs[1], metric="euclidean")
        assert found.severity == "warning"
        assert "queries are 10 long on average and gallery rows 1:" in found.text


class TestSizes:
    def test_few_rows(self, pairs):
        y, x = pairs
        assert codes(y[:30], x[:30]) == []
        queries, items = the("few-queries", y[:29], x), the("few-items", y, x[:29])
        assert (queries.count, items.count) == (29, 29)
        rough = np.sqrt(((x[:29] - x[:29].mean(0)) ** 2).sum(1).mean() / 28)
        assert f"its mean is known to {rough:.2g} only" in items.text

    def test_one_item_decides_nothing(self, pairs):
        assert codes(pairs[0], pairs[1][:1]) == ["one-item"]
        assert "one-item" in codes(pairs[0], pairs[1][:, None, :], labels=np.zeros(60, int))

    def test_a_gallery_that_spans_the_space(self, rng):
        d = 12
        x = unit(rng.normal(size=(400, d)))
        found = the("full-rank", x[:40] + 1, x)
        assert (found.severity, found.count) == ("note", d)
        assert "full-rank" not in codes(x[:40] + 1, x[:d])
        flat = x.copy()
        flat[:, 0] = 0.3
        assert "full-rank" not in codes(x[:40] + 1, flat, metric="ip")


class TestRelations:
    def test_pairs_in_another_order(self, pairs, rng):
        y, x = pairs[0], pairs[1][rng.permutation(60)]
        found = the("unrelated-pairs", y, x, paired=True)
        assert (found.severity, found.count) == ("warning", 60)
        assert codes(y, np.roll(pairs[1], 1, axis=0), paired=True) == ["unrelated-pairs"]

    def test_labels_in_another_order(self, pairs):
        found = the("chance", *pairs, labels=np.roll(np.arange(60), 1))
        assert (found.severity, found.count) == ("warning", 60)
        assert found.text.startswith("0 of 60 queries find a right item, and 1.0 would by chance")

    def test_labels_that_need_no_query(self, pairs):
        # Every query finds item 0, which is right for most: accuracy .9, and no better than chance.
        x = pairs[1][:40].copy()
        x[0] = pairs[0].mean(axis=0)
        labels = np.where(np.arange(60) < 54, 0, np.arange(60) % 40)
        assert "chance" in codes(pairs[0], unit(x), labels=labels)

    def test_several_right_items(self, pairs):
        own = np.arange(60)
        both = np.stack([np.roll(own, 1), own], axis=1)
        assert codes(*pairs, positives=both) == []
        assert codes(*pairs, positives=np.where(both == own[:, None], -1, both)) == ["chance"]

    def test_clouds_of_two_models(self, pairs, rng):
        turn = np.linalg.qr(rng.normal(size=(100, 100)))[0]
        found = the("unrelated-clouds", pairs[0], pairs[1] @ turn)
        assert (found.severity, found.count) == ("warning", 60)
        assert codes(pairs[0][:49], pairs[1] @ turn) == []  # too few rows to tell

    def test_the_share_of_a_random_rotation_is_what_the_formula_says(self, rng):
        d = 6
        parts = [(m + m.T) / 2 for m in rng.normal(size=(2, d, d))]
        parts = [m - np.eye(d) * np.trace(m) / d for m in parts]
        turns = stats.special_ortho_group.rvs(d, size=4000, random_state=1)
        traces = np.einsum("ij,njk,kl,nil->n", parts[0], turns, parts[1], turns)
        variance = 2 * (parts[0] ** 2).sum() * (parts[1] ** 2).sum() / ((d - 1) * (d + 2))
        # Of 4,000 draws of a light-tailed variable: standard error near 2.5 % of the variance.
        assert traces.var() == pytest.approx(variance, rel=0.12)
        assert abs(traces.mean()) < 4 * np.sqrt(variance / 4000)

    def test_shared_directions_are_those_of_the_roots_of_the_covariances(self, rng):
        roots, both = [], []
        for scale in (np.arange(1, 9), np.arange(8, 0, -1) ** 2):
            x = rng.normal(size=(200, 8)) * scale
            root = np.real(linalg.sqrtm(np.cov(x.T, ddof=0)))
            roots.append(root - np.eye(8) * np.trace(root) / 8)
            both.append(open_cloud(x, "x", normalize=False))
        size = np.linalg.norm(roots[0]) * np.linalg.norm(roots[1])
        expected = np.trace(roots[0] @ roots[1]) / size * np.sqrt(7 * 10 / 2)
        assert expected < -2
        found = shared_directions(*both, sample=1000, seed=0)
        assert found == pytest.approx(expected, rel=1e-9)

    def test_the_permutation_test_is_fair(self, rng):
        # Unrelated pairs: p-values are uniform. A Kolmogorov-Smirnov test at .001 over 200 runs.
        found = [
            pairs_against_chance(
                *(open_cloud(rng.normal(size=(12, 5)), "x") for _ in range(2)), sample=50, seed=seed
            ).p_value
            for seed in range(200)
        ]
        assert stats.kstest(found, "uniform").pvalue > 1e-3

    def test_answers_are_counted_as_they_are(self, pairs):
        y, x = pairs
        right = np.arange(60)
        for metric, decided in (
            (COSINE, (y @ x.T).argmax(1)),
            (EUCLIDEAN, ((y[:, None] - x) ** 2).sum(-1).argmin(1)),
        ):
            found = answers_against_chance(y, x, right[:, None], metric, sample=99, seed=0)
            assert (found.hits, found.asked) == ((decided == right).sum(), 60)
            share = np.bincount(decided, minlength=60) / 60
            assert found.expected == pytest.approx(share[right].sum())
            expected = stats.binom.sf(found.hits - 1, 60, found.expected / 60)
            assert found.p_value == pytest.approx(expected)


class TestSample:
    def test_it_is_drawn_with_the_seed_and_said(self, rng):
        y = unit(rng.normal(size=(300, 16)))
        x = unit(rng.normal(size=(300, 16)))
        found = the("unrelated-pairs", y, x, paired=True, sample=40, seed=5)
        assert found.count == 40
        assert "over 40 pairs" in found.text
        assert found == the("unrelated-pairs", y, x, paired=True, sample=40, seed=5)


class TestErrors:
    def test_shapes_and_words_are_checked_as_everywhere(self, pairs):
        y, x = pairs
        for call, error, message in (
            (lambda: look(y, x[:, :9]), ShapeError, "share their last axis"),
            (lambda: look(y, x[:9], paired=True), ShapeError, "must pair row by row; got 60 and 9"),
            (lambda: look(y, x[:9, None, :]), ShapeError, "one set of candidates per query"),
            (lambda: look(y, x, labels=[60] * 60), DataError, r"`labels` must lie in \[0, 60\)"),
            (lambda: look(y, x, owners=[0.5] * 60), DataError, "`owners` must hold integer"),
            (lambda: look(y, x, metric="manhattan"), ArgumentError, "`metric` must be one of"),
            (lambda: look(y, x, sample=1), ArgumentError, "`sample` must be at least 2"),
            (lambda: look(y.astype(int), x), DataError, "`queries` must hold floating-point"),
            (
                lambda: look(y, x, labels=[0] * 60, positives=np.zeros((60, 1), int)),
                ArgumentError,
                "say the same",
            ),
        ):
            with pytest.raises(error, match=message):
                call()


class TestRecord:
    def test_gravest_first_and_ready_for_json(self, pairs):
        y, x = pairs[0][:20].copy(), 3 * pairs[1][:20]
        x[4] = x[3]
        found = look(y, x, metric="ip")
        ranks = [("error", "warning", "note").index(r.severity) for r in found]
        assert ranks == sorted(ranks)
        assert len(set(ranks)) == 2
        document = plain(found)
        assert json.loads(json.dumps(document)) == document
        assert list(document[0]) == ["code", "severity", "count", "text"]
        assert str(found[0]) == f"warning: {found[0].text}"
        assert all("\n" not in remark.text for remark in found)

    def test_the_gap_has_them_without_another_scan(self, pairs, monkeypatch):
        x = pairs[1].copy()
        x[7] = x[2]
        found = modgap.measure(pairs[0], x, paired=True)
        raw = modgap.measure(9 * pairs[0], x, normalize=False)
        for module in ("modgap._core.opening", "modgap.measures.look"):
            monkeypatch.setattr(import_module(module), "row_lengths", None)
        assert [r.code for r in found.remarks] == ["copies-in-gallery"]
        assert found.to_dict()["remarks"] == plain(found.remarks)
        assert [r.code for r in raw.remarks] == ["copies-in-gallery", "scales", "lengths"]

    def test_moments_alone_show_nothing(self, pairs):
        assert modgap.Gap.from_moments(*map(modgap.Moments.from_rows, pairs)).remarks == ()
