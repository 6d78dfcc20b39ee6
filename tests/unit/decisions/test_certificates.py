"""Certificates against attacks that try to break them."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core.arrays import to_numpy
from modgap.decisions.certificates import certified_radius
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT
from modgap.errors import ArgumentError, ShapeError

METRICS = (EUCLIDEAN, INNER_PRODUCT, COSINE)

quick = pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def decisions(queries, items, metric):
    """Brute force; items of each query's own allowed."""
    items = items if items.ndim == 3 else np.broadcast_to(items, (len(queries), *items.shape))
    if metric == "euclidean":
        return np.linalg.norm(items - queries[:, None], axis=2).argmin(axis=1)
    if metric == "cosine":
        items = unit(items)
    return (items * queries[:, None]).sum(axis=2).argmax(axis=1)


def turned(x, y, size, *, away):
    """The item after the step of that size that turns it furthest towards the unit query, or away."""
    length = np.linalg.norm(x)
    side = x - (x @ y) * y
    side = side / np.linalg.norm(side)
    angle = np.arctan2(np.linalg.norm(x - (x @ y) * y), x @ y)
    if size >= length:
        return 1e-9 * (-y if away else y)  # through the origin, any way it likes
    step = np.arcsin(size / length)
    angle = min(angle + step, np.pi) if away else max(angle - step, 0.0)
    return np.cos(angle) * y + np.sin(angle) * side


@pytest.fixture
def small(rng):
    return rng.normal(size=(60, 4)), rng.normal(size=(7, 4))


class TestGalleryCertificate:
    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_nothing_below_it_changes_a_decision_and_something_above_it_does(
        self, metric, small, rng
    ):
        queries, gallery = small
        radius = certified_radius(queries, gallery, metric=metric)
        before = decisions(queries, gallery, metric)
        rows = np.arange(len(queries))
        if metric == "euclidean":
            order = np.linalg.norm(gallery[None] - queries[:, None], axis=2).argsort(axis=1)
        else:
            order = (-queries @ gallery.T).argsort(axis=1)

        def worst(size):
            """The decision steps back and the runner-up comes closer, straight along the query."""
            moved = np.tile(gallery, (len(queries), 1, 1))
            for place, sign in ((0, 1.0), (1, -1.0)):
                item = moved[rows, order[:, place]]
                away = item - queries if metric == "euclidean" else -queries
                moved[rows, order[:, place]] = item + sign * size[:, None] * unit(away)
            return decisions(queries, moved, metric)

        # Distances of order one in float64.
        np.testing.assert_array_equal(worst(radius * (1 - 1e-9)), before)
        assert (worst(radius * (1 + 1e-9)) != before).all()
        for _ in range(200):  # and no random direction is worse
            step = unit(rng.normal(size=(len(queries), *gallery.shape)))
            moved = gallery + step * radius[:, None, None] * (1 - 1e-9)
            np.testing.assert_array_equal(decisions(queries, moved, metric), before)

    def test_formulas(self, small):
        queries, gallery = small
        distances = np.sort(np.linalg.norm(gallery[None] - queries[:, None], axis=2), axis=1)
        found = certified_radius(queries, gallery, metric="euclidean")
        np.testing.assert_allclose(found, (distances[:, 1] - distances[:, 0]) / 2, atol=1e-13)
        scores = -np.sort(-queries @ gallery.T, axis=1)
        expected = (scores[:, 0] - scores[:, 1]) / (2 * np.linalg.norm(queries, axis=1))
        found = certified_radius(queries, gallery, metric="ip")
        np.testing.assert_allclose(found, expected, atol=1e-13)

    def test_ties_have_none(self, small):
        queries, gallery = small
        twice = np.concatenate([gallery, gallery])
        for metric in METRICS:
            np.testing.assert_array_equal(certified_radius(queries, twice, metric=metric), 0)
        nothing = certified_radius(np.zeros((1, 4)), gallery, metric="ip")
        np.testing.assert_array_equal(nothing, 0)

    def test_cosines_change_just_above_it_and_nowhere_below(self, small, rng):
        queries, gallery = small
        gallery = gallery * np.geomspace(0.05, 3, len(gallery))[:, None]
        radius = certified_radius(queries, gallery)
        before = decisions(queries, gallery, "cosine")
        reached = np.zeros(len(queries), dtype=bool)
        for i, y in enumerate(unit(queries)):
            assert 0 < radius[i] <= np.linalg.norm(gallery, axis=1).max()
            for size in (radius[i] * (1 - 1e-9), radius[i] * (1 + 1e-9)):
                moved = np.array(
                    [turned(x, y, size, away=j == before[i]) for j, x in enumerate(gallery)]
                )
                # Both turned as far as they go: each rival alone, since all others may stay.
                for j in set(range(len(gallery))) - {before[i]}:
                    two = np.array([moved[before[i]], moved[j]])
                    scores = unit(two) @ y
                    if size < radius[i]:
                        assert scores[0] > scores[1]
                    else:
                        reached[i] |= scores[1] >= scores[0]
        assert reached.all()
        for _ in range(200):
            step = unit(rng.normal(size=(len(queries), *gallery.shape)))
            moved = gallery + step * radius[:, None, None] * (1 - 1e-9)
            np.testing.assert_array_equal(decisions(queries, moved, "cosine"), before)

    def test_for_unit_rows_it_is_the_sine_of_half_the_angle_between(self, small):
        queries, gallery = unit(small[0]), unit(small[1])
        angles = np.sort(np.arccos(queries @ gallery.T), axis=1)
        found = certified_radius(queries, gallery, metric="cosine")
        expected = np.sin((angles[:, 1] - angles[:, 0]) / 2)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


class TestQueryCertificate:
    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_below_it_changes_a_decision_and_something_above_it_does(
        self, metric, small, rng
    ):
        queries, gallery = small
        radius = certified_radius(queries, gallery, metric=metric, side="queries")
        before = decisions(queries, gallery, metric)
        items = unit(gallery) if metric == "cosine" else gallery
        reached = np.zeros(len(queries), dtype=bool)
        for i, y in enumerate(queries):
            for j in range(len(items)):  # straight at the plane towards each other item
                if j == before[i]:
                    continue
                towards = unit(items[j] - items[before[i]])
                below = y + radius[i] * (1 - 1e-9) * towards
                above = y + radius[i] * (1 + 1e-9) * towards
                assert decisions(below[None], gallery, metric)[0] == before[i]
                reached[i] |= decisions(above[None], gallery, metric)[0] != before[i]
        assert reached.all()
        for _ in range(200):
            step = unit(rng.normal(size=queries.shape)) * radius[:, None] * (1 - 1e-9)
            np.testing.assert_array_equal(decisions(queries + step, gallery, metric), before)

    def test_copies_have_no_plane_between_them(self, small):
        queries, gallery = small
        for metric in METRICS:
            once = certified_radius(queries, gallery, metric=metric, side="queries")
            twice = certified_radius(
                queries, np.concatenate([gallery, gallery]), metric=metric, side="queries"
            )
            np.testing.assert_allclose(twice, once, rtol=1e-12)
        same = certified_radius(
            queries, np.tile(gallery[:1], (3, 1)), side="queries", metric="euclidean"
        )
        np.testing.assert_array_equal(same, np.inf)

    def test_items_closer_than_rounding_have_no_certificate(self, small):
        # Better none than a wrong one: their plane cannot be told from its neighbours.
        queries, gallery = small
        near = np.concatenate([gallery, gallery + 1e-9])
        found = certified_radius(queries, near, side="queries", metric="euclidean")
        np.testing.assert_array_equal(found, 0)

    def test_a_query_on_a_plane_has_none(self):
        gallery = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]])
        found = certified_radius(
            np.array([[0.0, 0.5], [0.0, -2.0]]), gallery, side="queries", metric="euclidean"
        )
        np.testing.assert_array_equal(found, 0)

    def test_far_from_the_origin(self, small):
        queries, gallery = small
        found = certified_radius(queries + 1e5, gallery + 1e5, side="queries", metric="euclidean")
        expected = certified_radius(queries, gallery, side="queries", metric="euclidean")
        # Entries of 1e5 keep 11 digits after the point.
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_blocks(self, small, monkeypatch):
        from modgap.decisions import certificates as module

        expected = certified_radius(*small, side="queries", metric="euclidean")
        slices = module.block_slices
        monkeypatch.setattr(
            module, "block_slices", lambda rows, width: slices(rows, width, elements=3 * width)
        )
        found = certified_radius(*small, side="queries", metric="euclidean")
        np.testing.assert_allclose(found, expected, rtol=1e-12)


class TestCertificates:
    @quick
    @pytest.mark.parametrize("side", ["gallery", "queries"])
    @pytest.mark.parametrize("metric", METRICS)
    def test_on_every_library(self, metric, side, to_xp, small):
        y, x = (to_xp(cloud) for cloud in small)
        found = certified_radius(y, x, metric=metric, side=side)
        assert type(found) is type(y)
        expected = certified_radius(*small, metric=metric, side=side)
        np.testing.assert_allclose(host(found), expected, rtol=1e-10, atol=1e-13)

    @pytest.mark.parametrize("side", ["gallery", "queries"])
    def test_another_device(self, side, to_other_device, small):
        y, x = (to_other_device(cloud) for cloud in small)
        assert certified_radius(y, x, side=side, metric="euclidean").device == y.device
        assert certified_radius(y, x[:1, :], side=side, metric="euclidean").device == y.device
        assert certified_radius(y, x, side=side).device == y.device

    @pytest.mark.parametrize("side", ["gallery", "queries"])
    def test_one_item_cannot_be_overtaken(self, side, small):
        found = certified_radius(small[0], small[1][:1], side=side, metric="euclidean")
        np.testing.assert_array_equal(found, np.full(60, np.inf))

    def test_no_noise_below_it_flips_a_real_decision(self, real_data):
        images = real_data("caltech101_clip_vitb32", "images.npy")[:100].astype(np.float64)
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64)
        rng = np.random.default_rng(0)
        for side in ("gallery", "queries"):
            radius = certified_radius(images, texts, side=side, metric="euclidean")
            before = decisions(images, texts, "euclidean")
            assert (radius > 0).all()
            step = unit(rng.normal(size=images.shape)) * radius[:, None] * (1 - 1e-9)
            if side == "queries":
                after = decisions(images + step, texts, "euclidean")
            else:
                after = decisions(images, texts[None] + step[:, None], "euclidean")
            np.testing.assert_array_equal(after, before)

    def test_options(self, small):
        with pytest.raises(
            ArgumentError, match="`side` must be one of gallery, queries; got 'both'"
        ):
            certified_radius(*small, side="both", metric="euclidean")
        with pytest.raises(ShapeError, match=r"\(60, 4\) and \(7, 3\)"):
            certified_radius(small[0], small[1][:, :3], metric="euclidean")
