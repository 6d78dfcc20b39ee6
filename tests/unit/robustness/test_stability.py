"""Outcomes of noise, and certificates against attacks that try to break them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT, as_metric
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ClosureError, DataError, ShapeError
from modgap.robustness.integral import win_probability
from modgap.robustness.noise import Bins, Codec, Gaussian, Sign, Uniform
from modgap.robustness.outcomes import Outcome, outcomes, stability
from modgap.robustness.sampling import sample_decisions
from modgap.robustness.systems import System

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)
M, N, D = 10, 5, 300

quick = pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def clouds(rng):
    """A few wide dimensions of many: the tables of the exact integral are made fast there."""
    widths = np.concatenate([np.ones(6), np.full(D - 6, 0.02)])
    return rng.normal(size=(M, D)) * widths + 0.1, rng.normal(size=(N, D)) * widths


@pytest.fixture
def labels(rng):
    return rng.integers(0, N, size=M)


class TestOneNoise:
    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_gaussian_noise_on_the_gallery_is_integrated(self, metric, clouds, labels):
        queries, gallery = clouds
        outcome = stability(queries, gallery, Gaussian(0.4), metric=metric, labels=labels)
        decided = nearest(queries, gallery, metric=metric).indices[:, 0]
        targets = np.stack([decided, labels], axis=1)
        exact = win_probability(queries, gallery, targets, [0.4], metric=metric)[0]
        assert outcome.estimator == "exact"
        assert outcome.stderr == 0
        np.testing.assert_allclose(outcome.stability, exact[:, 0], atol=1e-12)
        np.testing.assert_allclose(outcome.retention, exact[:, 0], atol=1e-12)
        np.testing.assert_allclose(outcome.accuracy, exact[:, 1], atol=1e-12)

    @pytest.mark.parametrize(
        ("noise", "metric"),
        [
            (Gaussian(0.4), "cosine"),
            (Gaussian(0.4, side="queries"), "euclidean"),
            (Uniform(0.5), "ip"),
            (Uniform(0.5, side="queries"), "cosine"),
        ],
    )
    def test_other_random_noise_is_sampled(self, noise, metric, clouds, labels):
        queries, gallery = clouds
        outcome = stability(queries, gallery, noise, metric=metric, labels=labels, draws=40, seed=7)
        system = System(queries, gallery, as_metric(metric))
        decided = system.decisions
        targets = np.stack([decided, decided, labels], axis=1)
        sampled = sample_decisions([system], [targets], [noise], draws=40, seed=7)[0][0]
        assert outcome.estimator == "monte carlo (40 draws)"
        assert outcome.stderr == sampled.stderr > 0
        np.testing.assert_array_equal(outcome.stability, sampled.wins[:, 0])
        np.testing.assert_array_equal(outcome.accuracy, sampled.wins[:, 2])
        assert 0 < outcome.stability.mean() < 1

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("side", ["gallery", "queries", "both"])
    def test_codecs_are_applied(self, side, metric, clouds, labels):
        queries, gallery = clouds
        noise = Bins(3, side=side)
        outcome = stability(queries, gallery, noise, metric=metric, labels=labels)
        y = queries if side == "gallery" else noise.apply(queries)
        x = gallery if side == "queries" else noise.apply(gallery)
        before = nearest(queries, gallery, metric=metric).indices[:, 0]
        after = nearest(y, x, metric=metric).indices[:, 0]
        assert outcome.estimator == "deterministic"
        assert outcome.stderr == 0
        np.testing.assert_array_equal(outcome.stability, after == before)
        np.testing.assert_array_equal(outcome.accuracy, after == labels)

    def test_without_labels_there_is_no_accuracy(self, clouds):
        for noise in (Gaussian(0.1), Uniform(0.1), Bins(4)):
            assert stability(*clouds, noise, draws=3, metric="euclidean").accuracy is None

    def test_a_little_noise_keeps_all_decisions_and_much_keeps_one_in_n(self, clouds):
        assert stability(*clouds, Gaussian(1e-9), metric="euclidean").stability.min() > 1 - 1e-6
        much = stability(*clouds, Gaussian(1e4), metric="euclidean").stability
        np.testing.assert_allclose(much, 1 / N, atol=1e-3)

    @quick
    def test_on_every_library(self, to_xp, clouds, labels):
        y, x = (to_xp(cloud) for cloud in clouds)
        for noise in (Gaussian(0.4), Gaussian(0.4, side="queries"), Uniform(0.5), Bins(4)):
            found = stability(y, x, noise, labels=to_xp(labels), draws=5, metric="euclidean")
            expected = stability(*clouds, noise, labels=labels, draws=5, metric="euclidean")
            for name in ("stability", "retention", "accuracy"):
                values = getattr(found, name)
                assert isinstance(values, np.ndarray)
                np.testing.assert_allclose(values, getattr(expected, name), atol=1e-9)
        np.testing.assert_array_equal(host(y), clouds[0])
        np.testing.assert_array_equal(host(x), clouds[1])

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    @pytest.mark.parametrize("metric", METRICS)
    def test_half_floats(self, metric, dtype, clouds):
        torch = pytest.importorskip("torch")
        y, x = (torch.tensor(cloud, dtype=getattr(torch, dtype)) for cloud in clouds)
        for noise in (Gaussian(0.4), Gaussian(0.4, side="queries"), Uniform(0.5), Codec("int8")):
            found = stability(y, x, noise, metric=metric, draws=5).stability
            assert np.isfinite(found).all()
            assert found.mean() > 0.2


class TestAfterClosing:
    @pytest.mark.parametrize("metric", METRICS)
    def test_noise_acts_on_what_is_stored(self, metric, clouds, labels):
        queries, gallery = clouds
        closure = closers.fit("mean-shift", queries, gallery, metric=metric)
        y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
        noise = Gaussian(0.1, side="queries")
        outcome = stability(
            queries, gallery, noise, metric=metric, closure=closure, labels=labels, draws=20
        )
        own = System(y, x, metric).decisions
        before = System(queries, gallery, as_metric(metric)).decisions
        assert (own != before).any()
        targets = np.stack([own, before, labels], axis=1)
        sampled = sample_decisions([System(y, x, metric)], [targets], [noise], draws=20, seed=0)
        wins = sampled[0][0].wins
        np.testing.assert_array_equal(outcome.stability, wins[:, 0])
        np.testing.assert_array_equal(outcome.retention, wins[:, 1])
        np.testing.assert_array_equal(outcome.accuracy, wins[:, 2])

    @pytest.mark.parametrize("method", ["recenter", "orthogonal", "affine"])
    def test_exact_closers_under_cosine_are_compared_by_inner_product(self, method, clouds):
        queries, gallery = clouds
        closure = closers.fit(method, queries, gallery, metric="cosine")
        outcome = stability(queries, gallery, Gaussian(0.05), metric="cosine", closure=closure)
        assert outcome.estimator == "exact"
        y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
        decided = nearest(queries, gallery, metric="cosine").indices[:, 0]
        exact = win_probability(y, x, decided, [0.05], metric="ip")[0]
        np.testing.assert_allclose(outcome.stability, exact, atol=1e-12)
        np.testing.assert_array_equal(outcome.stability, outcome.retention)

    def test_moving_either_side_is_the_same_but_for_quantization(self, clouds):
        closures = [
            closers.fit("orthogonal", *clouds, side=side, metric="euclidean")
            for side in ("gallery", "queries")
        ]
        noisy = [
            stability(*clouds, Gaussian(0.3), closure=c, metric="euclidean").stability
            for c in closures
        ]
        np.testing.assert_allclose(*noisy, atol=1e-6)
        stored = [Bins(4).apply(c.apply_gallery(clouds[1])) for c in closures]
        steps = stored[0] - closures[0].apply_gallery(clouds[1])
        other = stored[1] - closures[1].apply_gallery(clouds[1])
        assert np.abs(steps - other).max() > 1e-3

    def test_a_closure_of_another_metric_is_refused(self, clouds):
        closure = closers.fit("recenter", *clouds, metric="ip")
        with pytest.raises(
            ClosureError, match="fitted for metric 'ip' and is used under 'euclidea"
        ):
            stability(*clouds, Gaussian(0.1), closure=closure, metric="euclidean")

    def test_a_closure_of_another_width_is_refused(self, clouds):
        closure = closers.fit("recenter", clouds[0][:, :7], clouds[1][:, :7], metric="euclidean")
        with pytest.raises(ClosureError, match=r"dimension 7; got rows of dimension 300"):
            stability(*clouds, Gaussian(0.1), closure=closure, metric="euclidean")


class TestManySystems:
    NOISES = (
        Gaussian(0.2),
        Bins(4),
        Gaussian(0.3, side="queries"),
        Gaussian(0.5),
        Uniform(0.4),
        Gaussian(0.1, side="queries"),
        Sign(side="both"),
    )

    def test_a_table_is_its_cells(self, clouds, labels):
        queries, gallery = clouds
        before = System(queries, gallery, EUCLIDEAN).decisions
        fitted = [
            closers.fit(m, queries, gallery, metric="euclidean")
            for m in ("none", "affine", "center")
        ]
        systems = [
            System(c.apply_queries(queries), c.apply_gallery(gallery), c.comparison) for c in fitted
        ]
        steps = []
        table = outcomes(
            systems,
            [before] * 3,
            labels[:, None],
            self.NOISES,
            draws=6,
            seed=3,
            progress=steps.append,
        )
        assert [len(row) for row in table] == [len(self.NOISES)] * 3
        assert sum(steps) == 6 * 2  # two kinds are sampled: on the queries, and uniform
        for closure, row in zip(fitted, table, strict=True):
            for noise, cell in zip(self.NOISES, row, strict=True):
                assert isinstance(cell, Outcome)
                assert cell.noise == noise
                alone = stability(
                    queries,
                    gallery,
                    noise,
                    closure=closure,
                    labels=labels,
                    draws=6,
                    seed=3,
                    metric="euclidean",
                )
                assert cell.estimator == alone.estimator
                # A sweep shares the grid of its widest noise: 1e-5 at most.
                for name in ("stability", "retention", "accuracy"):
                    values, other = getattr(cell, name), getattr(alone, name)
                    np.testing.assert_allclose(values, other, atol=2e-5)

    def test_several_right_items_add_up(self, clouds):
        queries, gallery = clouds
        system = System(queries, gallery, EUCLIDEAN)
        before = system.decisions
        right = np.tile([0, 3, -1], (M, 1))
        for noise in (Gaussian(0.4), Uniform(0.5), Bins(4)):
            both = outcomes([system], [before], right, [noise], draws=9)[0][0].accuracy
            parts = [
                outcomes([system], [before], right[:, [k]], [noise], draws=9)[0][0].accuracy
                for k in (0, 1)
            ]
            np.testing.assert_allclose(both, parts[0] + parts[1], atol=1e-12)

    @pytest.mark.parametrize("metric", METRICS)
    def test_each_query_may_have_its_own_candidates(self, metric, rng, clouds):
        queries = clouds[0]
        candidates = queries[:, None] + 0.3 * rng.normal(size=(M, 4, D))
        system = System(queries, candidates, as_metric(metric))
        before = system.decisions
        noises = [Gaussian(0.02), Uniform(0.02, side="queries"), Codec("float16")]
        table = outcomes([system], [before], before[:, None], noises, draws=10)[0]
        kinds = ["exact", "monte carlo (10 draws)", "deterministic"]
        kinds[0] = "monte carlo (10 draws)" if metric == "cosine" else "exact"
        assert [cell.estimator for cell in table] == kinds
        for cell in table:
            assert cell.stability.shape == (M,)
            np.testing.assert_allclose(cell.accuracy, cell.stability, atol=1e-12)
        np.testing.assert_array_equal(table[2].stability, 1)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"metric": "l3"}, ArgumentError, "`metric` must be one of cosine, ip, euclidean"),
            ({"draws": 0}, ArgumentError, "`draws` must be at least 1; got 0"),
            ({"draws": 1.5}, ArgumentError, "`draws` must be an integer; got 1.5"),
            ({"seed": -1}, ArgumentError, "`seed` must be at least 0; got -1"),
            ({"labels": np.zeros(9, int)}, ShapeError, "`labels` must have one entry per row of "),
            ({"labels": np.full(10, 5)}, DataError, "`labels` must lie in [0, 5); got values from"),
            (
                {"labels": np.full(10, -1)},
                DataError,
                "`labels` must lie in [0, 5); got values from",
            ),
            ({"labels": np.full(10, 0.5)}, DataError, "`labels` must hold integer indices"),
            ({"labels": np.zeros((10, 1), int)}, ShapeError, "`labels` must have shape (rows,)"),
        ],
    )
    def test_options(self, options, error, message, clouds):
        with pytest.raises(error, match=re.escape(message)):
            stability(*clouds, Gaussian(0.1), **options)


def test_the_metric_is_that_of_the_closure(rng):
    queries, gallery = rng.normal(size=(5, 6)), rng.normal(size=(4, 6))
    closure = closers.fit("affine", queries, gallery, metric="euclidean")
    found = stability(queries, gallery, Gaussian(0.3), closure=closure)
    named = stability(queries, gallery, Gaussian(0.3), closure=closure, metric="euclidean")
    np.testing.assert_array_equal(found.stability, named.stability)
    with pytest.raises(ClosureError, match="fitted for"):
        stability(queries, gallery, Gaussian(0.3), closure=closure, metric="ip")


def test_one_search_of_the_longest_list_serves_the_shorter_ones(rng, monkeypatch):
    from modgap.robustness import systems

    queries, gallery = rng.normal(size=(9, 4)), rng.normal(size=(7, 4))
    fresh = [System(queries, gallery, COSINE).leaders(k) for k in (1, 3, 7)]
    calls = []
    monkeypatch.setattr(
        systems,
        "nearest",
        lambda *rows, **asked: calls.append(asked["k"]) or nearest(*rows, **asked),
    )
    system = System(queries, gallery, COSINE)
    found = [system.leaders(k) for k in (3, 1, 7, 3, 1)]
    assert calls == [3, 7]
    for k, want in zip((1, 3, 7), fresh, strict=True):
        np.testing.assert_array_equal(system.leaders(k), want)
    np.testing.assert_array_equal(found[1][:, 0], system.decisions)
