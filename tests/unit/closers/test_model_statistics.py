"""Published statistics: fits from them are fits from the rows, files hold them whole, merges add up."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from modgap import closers
from modgap.closers import ModelStatistics
from modgap.closers._transport import merged
from modgap.errors import ArgumentError, ClosureWarning, DataError, FormatError, ShapeError

D = 12
MOMENTS_ONLY = sorted(name for name, method in closers.METHODS.items() if method.needs == "moments")


@pytest.fixture
def clouds(rng):
    mixing = rng.normal(size=(D, D))
    queries = rng.normal(size=(90, D)) @ mixing + 2
    return queries.astype(np.float32), rng.normal(size=(70, D)).astype(np.float32)


@pytest.fixture
def path(clouds, tmp_path):
    found = ModelStatistics.of_rows(*clouds, model="clip@1", card="Ünïcode card.\nTwo lines.")
    return found.save(tmp_path / "stats.safetensors")


def assert_same_maps(found, expected, clouds):
    for side, rows in zip(("queries", "gallery"), clouds, strict=True):
        ours, theirs = (getattr(each, side)(rows.astype(np.float64)) for each in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.max(np.abs(theirs)))


class TestFits:
    @pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean"])
    @pytest.mark.parametrize("method", MOMENTS_ONLY)
    def test_a_fit_from_a_file_is_the_fit_from_the_rows(self, method, metric, clouds, tmp_path):
        queries, gallery = clouds
        if method in ("affine", "orthogonal", "scaled"):
            gallery = gallery[:7]  # where there is something to close
        if method == "scaled" or (method == "balanced" and metric == "euclidean"):
            gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        found = ModelStatistics.of_rows(queries, gallery, model="m", metric=metric)
        loaded = ModelStatistics.load(found.save(tmp_path / "s.safetensors"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closure = loaded.fit(method)
            expected = closers.fit(method, queries, gallery, metric=metric)
        assert_same_maps(closure, expected, (queries, gallery))
        assert (closure.method, closure.comparison) == (expected.method, expected.comparison)
        assert closure.info["model"] == "m"
        assert closure.info.get("shrinkage") == expected.info.get(
            "shrinkage"
        )  # chosen on the thirds
        assert closure.summary.queries.count == 90

    def test_options_reach_the_closer(self, clouds):
        found = ModelStatistics.of_rows(*clouds, model="m")
        closure = found.fit("balanced", reduce=True, n_components=3, rotation="none")
        expected = closers.fit("balanced", *clouds, reduce=True, n_components=3, rotation="none")
        assert_same_maps(closure, expected, clouds)

    def test_rows_as_they_are_serve_products_and_distances(self, clouds):
        found = ModelStatistics.of_rows(*clouds, model="m", metric="ip")
        expected = closers.fit("recenter", *clouds, metric="euclidean")
        assert_same_maps(found.fit("recenter", metric="euclidean"), expected, clouds)
        with pytest.raises(
            ArgumentError, match=r"rows as they are, .* cosine takes them; ask for ip"
        ):
            found.fit("recenter", metric="cosine")
        unit = ModelStatistics.of_rows(*clouds, model="m")
        with pytest.raises(ArgumentError, match=r"at unit length, .* ask for cosine"):
            unit.fit("recenter", metric="ip")

    @pytest.mark.parametrize("method", ["realign", "procrustes"])
    def test_closers_that_look_at_rows_say_so(self, method, clouds):
        with pytest.raises(ArgumentError, match=f"`{method}` is fitted from rows, not moments"):
            ModelStatistics.of_rows(*clouds, model="m").fit(method)

    def test_on_real_embeddings(self, real_data, tmp_path):
        texts = real_data("photos_clip_vitb32", "texts.npy")[:600, :256]
        images = real_data("photos_clip_vitb32", "images.npy")[:2000, :256]
        found = ModelStatistics.of_rows(texts, images, model="clip")
        closure = ModelStatistics.load(found.save(tmp_path / "s.safetensors")).fit("balanced")
        expected = closers.fit("balanced", texts, images)
        assert_same_maps(closure, expected, (texts, images))


class TestMerge:
    def test_it_is_the_statistics_of_all_rows(self, clouds):
        queries, gallery = clouds
        whole = ModelStatistics.of_rows(queries, gallery, model="m", card="one\n\ntwo")
        parts = [
            ModelStatistics.of_rows(queries[:40], gallery[:50], model="m", card="one"),
            ModelStatistics.of_rows(queries[40:], gallery[50:], model="m", card="two"),
        ]
        found = parts[0].merge(parts[1])
        assert (found.counts, found.card, found.model) == ((90, 70), whole.card, "m")
        for ours, theirs in (
            (merged(found.queries), merged(whole.queries)),
            (found.gallery, whole.gallery),
        ):
            np.testing.assert_allclose(ours.mean, theirs.mean, rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours.scatter, theirs.scatter, rtol=0, atol=1e-10)
        assert_same_maps(found.fit("recenter"), whole.fit("recenter"), clouds)

    def test_a_few_queries_in_one_piece_merge_too(self, clouds):
        queries, gallery = clouds
        few = ModelStatistics.of_rows(queries[:4], gallery, model="m")
        found = few.merge(ModelStatistics.of_rows(queries[4:], gallery, model="m"))
        assert (len(few.queries), len(found.queries)) == (1, 3)
        assert found.counts == (90, 140)

    def test_what_has_nothing_in_common(self, clouds):
        one = ModelStatistics.of_rows(*clouds, model="a")
        with pytest.raises(ArgumentError, match="two models, 'a' and 'b', do not merge"):
            one.merge(ModelStatistics.of_rows(*clouds, model="b"))
        with pytest.raises(ArgumentError, match="rows as they are"):
            one.merge(ModelStatistics.of_rows(*clouds, model="a", metric="ip"))
        narrow = ModelStatistics.of_rows(*(each[:, :8] for each in clouds), model="a")
        with pytest.raises(ShapeError, match="widths 12 and 8 cannot be merged"):
            one.merge(narrow)


def test_sides_of_few_rows_are_remarked_upon(clouds):
    queries, gallery = clouds
    assert ModelStatistics.of_rows(queries, gallery, model="m").remarks == ()
    (said,) = ModelStatistics.of_rows(queries, gallery[:5], model="m").remarks
    assert said.startswith("the gallery items are 5 rows in 12 dimensions")


def test_mistakes_in_rows(clouds):
    queries, gallery = clouds
    with pytest.raises(ArgumentError, match="`model` must name what made the rows"):
        ModelStatistics.of_rows(queries, gallery, model=" ")
    with pytest.raises(ShapeError, match="must share"):
        ModelStatistics.of_rows(queries[:, :3], gallery, model="m")
    gallery[2] = 0
    with pytest.raises(DataError, match="`gallery` row 2"):
        ModelStatistics.of_rows(queries, gallery, model="m")


def rewrite(path, change_header=None, change_tensors=None):
    from safetensors import numpy as files
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["modgap_statistics"])
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    header = header if change_header is None else change_header(header)
    tensors = tensors if change_tensors is None else change_tensors(tensors)
    text = header if isinstance(header, str) else json.dumps(header)
    files.save_file(tensors, path, metadata={"modgap_statistics": text})


class TestFiles:
    def test_all_comes_back(self, path, clouds):
        found, written = (
            ModelStatistics.load(path),
            ModelStatistics.of_rows(*clouds, model="clip@1"),
        )
        assert (found.model, found.card, found.metric) == (
            "clip@1",
            "Ünïcode card.\nTwo lines.",
            "cosine",
        )
        for ours, theirs in zip(
            (*found.queries, found.gallery), (*written.queries, written.gallery), strict=True
        ):
            numbers = ("count", "eps", "product_eps", "shortest", "longest", "radius")
            assert [getattr(ours, n) for n in numbers] == [getattr(theirs, n) for n in numbers]
            np.testing.assert_array_equal(ours.mean, theirs.mean)
            np.testing.assert_array_equal(np.tril(ours.scatter), np.tril(theirs.scatter))

    def test_no_row_is_in_it(self, path, clouds):
        data = path.read_bytes()
        for rows in clouds:
            unit = (
                rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None]
            )
            assert not any(row.tobytes()[:16] in data for row in (*rows, *unit))

    def test_from_elsewhere(self, clouds, tmp_path):
        closure = closers.fit("recenter", *clouds).save(tmp_path / "c.safetensors")
        with pytest.raises(FormatError, match="is a closure of modgap, but no file of statistics"):
            ModelStatistics.load(closure)
        with pytest.raises(FormatError, match="no file or folder at"):
            ModelStatistics.load(tmp_path / "none.safetensors")

    def test_of_another_format(self, path):
        rewrite(path, lambda header: {**header, "format_version": 9})
        with pytest.raises(FormatError, match="statistics of format 9; this modgap reads format 1"):
            ModelStatistics.load(path)

    @pytest.mark.parametrize("header", ["{", "[]", "{}", '{"format_version": true}'])
    def test_a_header_that_is_none(self, path, header):
        rewrite(path, lambda _: header)
        with pytest.raises(FormatError, match="has a damaged header"):
            ModelStatistics.load(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("model", ""), ("model", 3), ("card", None), ("metric", "hamming"), ("pieces", 0),
         ("pieces", 10**9), ("pieces", 4), ("gallery", []), ("gallery", {"count": 0})],
    )  # fmt: skip
    def test_a_field_of_another_kind(self, path, key, value):
        rewrite(path, lambda header: {**header, key: value})
        with pytest.raises(FormatError, match="is a damaged file of statistics") as caught:
            ModelStatistics.load(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("gallery.mean", np.zeros(3)), ("gallery.mean", np.zeros((2, 2))),
         ("gallery.scatter", np.zeros(5)), ("queries 0.mean", np.full(D, np.nan)),
         ("queries 1.scatter", np.full(D * (D + 1) // 2, -1.0)),
         ("gallery.scatter", np.zeros(D * (D + 1) // 2, np.float32))],
    )  # fmt: skip
    def test_tensors_that_are_no_moments(self, path, key, value):
        rewrite(path, change_tensors=lambda tensors: {**tensors, key: value})
        with pytest.raises(FormatError, match="is a damaged file of statistics"):
            ModelStatistics.load(path)

    def test_a_tensor_that_is_missing(self, path):
        rewrite(path, change_tensors=lambda t: {k: v for k, v in t.items() if k != "gallery.mean"})
        with pytest.raises(FormatError, match=r"no 'gallery\.mean'"):
            ModelStatistics.load(path)
