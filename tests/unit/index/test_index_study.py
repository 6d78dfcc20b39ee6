"""Studies of indexes: figures against double loops, what is held out, what is built, what is said."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from modgap import closers, index, load_sample
from modgap.errors import ArgumentError, ClosureError, CodeError, MissingExtraError, ShapeError
from modgap.index import CodecRow, Effort, IndexStudy
from modgap.index.engine import Found
from modgap.index.ground import make_ground
from modgap.index.judging import bare_scores, shares_by_depth

SETTINGS = {
    "maps": ("none", "balanced"), "fit_queries": None, "labels": None, "item_labels": None,
    "reference": 50, "sample": 1000, "hold_out": True, "metric": "cosine", "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.asarray(load_sample().images, dtype=np.float32)


@pytest.fixture(scope="module")
def texts():
    return np.asarray(load_sample().texts, dtype=np.float32).reshape(-1, 128)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Loop:
    """An engine that keeps float16 and looks at all rows, and remembers what was asked of it."""

    name = "loop"
    codecs = {"half": "float16", "two": "two decimals"}  # noqa: RUF012

    def __init__(self):
        self.built, self.ended, self.asked = [], 0, 0

    def check(self):
        pass

    def build(self, rows, codec, *, seed, folder):
        assert folder.is_dir()
        if codec == "broken":
            raise CodeError("no such luck")
        if codec == "odd":
            raise RuntimeError("native\nfault")
        self.built.append((codec, rows.copy()))
        kept = rows.astype(np.float16) if codec != "two" else np.round(rows, 2)
        return SimpleNamespace(
            bytes_per_vector=2 * rows.shape[1], efforts=(1, 2) if codec == "worker" else (),
            search=lambda q, k, effort=None: self._search(kept, q, k, codec), close=self._close,
        )  # fmt: skip

    def _search(self, kept, queries, k, codec):
        if codec == "late":
            raise ValueError("broke while searching")
        self.asked += len(queries)
        rows = np.argsort(-(queries @ kept.T.astype(np.float32)), axis=1, kind="stable")[:, :k]
        return Found(rows, 1e-6, float(len(kept)))

    def _close(self):
        self.ended += 1


@pytest.fixture
def loop():
    return Loop()


class TestFigures:
    def test_recall_is_that_of_a_double_loop(self, texts, images):
        faiss = pytest.importorskip("faiss")
        texts = texts[:60]
        settings = {**SETTINGS, "maps": ("none",)}
        found = index.study(texts, images, codecs=["faiss:SQ4"], maps=["none"], reference=50)
        ground = make_ground(texts, images, **settings)
        stored = ground.gallery.astype(np.float64)
        assert (
            np.abs(unit(images).astype(np.float32)[None] - stored[:9, None]).max(axis=2).min()
            < 1e-6
        )
        code = faiss.IndexScalarQuantizer(
            128, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT
        )
        code.train(stored.astype(np.float32))
        back = code.sa_decode(code.sa_encode(stored.astype(np.float32)))
        for depth in (1, 10):
            shares = []
            for query in unit(texts.astype(np.float64)):
                exact = sorted(range(len(stored)), key=lambda i: -(stored[i] @ query))[:depth]
                read = sorted(range(len(stored)), key=lambda i: -(back[i] @ query))[:depth]
                shares.append(len(set(exact) & set(read)) / depth)
            row = found["faiss:SQ4", "none"]
            # FAISS sums in float32: an answer or two of 600 may change places.
            assert row.recall[str(depth)] == pytest.approx(np.mean(shares), abs=0.004)
            error = row.to_dict()["recall_stderr"][str(depth)]
            assert error == pytest.approx(np.std(shares, ddof=1) / np.sqrt(len(shares)), abs=1e-3)

    @pytest.mark.parametrize("factor", [1, 2, 4])
    def test_rescoring_puts_so_many_candidates_in_their_exact_order(self, rng, factor):
        queries, gallery = rng.normal(size=(7, 5)), rng.normal(size=(60, 5))
        scores = queries @ gallery.T
        truth = np.argsort(-scores, axis=1)[:, :10]
        found = np.argsort(-(scores + rng.normal(size=scores.shape)), axis=1)[:, :40]
        exact = bare_scores(queries.astype(np.float32), gallery.astype(np.float32), found)
        np.testing.assert_allclose(exact, np.take_along_axis(scores, found, axis=1), rtol=1e-4)
        shares = shares_by_depth(truth, found, exact, (1, 10), factor)
        for k in (1, 10):
            for i in range(7):
                best = sorted(found[i, : factor * k], key=lambda j: -scores[i, j])[:k]
                expected = len(set(best) & set(truth[i, :k])) / k
                assert shares[str(k)][i] == pytest.approx(expected)

    def test_rows_that_were_not_found_count_as_missed(self):
        truth, found = np.array([[0, 1]]), np.array([[1, -1]])
        scores = bare_scores(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), found)
        assert scores.tolist() == [[2.0, -np.inf]]
        assert shares_by_depth(truth, found, scores, (2,), 2)["2"].tolist() == [0.5]

    def test_labels_count_right_answers(self, texts, images, loop):
        right = np.argmax(unit(texts) @ unit(images).T, axis=1)
        found = index.study(
            texts, images, engines=[loop], codecs=["loop:half"], maps=["none"], labels=right
        )
        assert found.setting["right_exact"]["1"] == 1.0  # no right row is held out of the gallery
        row = found["loop:half", "none"]
        assert row.right["1"].mean() > 0.95
        kinds = load_sample().labels
        found = index.study(
            texts, images, engines=[loop], codecs=["loop:half"], maps=["none"], labels=np.arange(180) % 10,
            item_labels=kinds,
        )  # fmt: skip
        exact = np.argmax(unit(texts) @ unit(images).T, axis=1)
        share = (kinds[exact] == np.arange(180) % 10).mean()
        assert found.setting["right_exact"]["1"] == pytest.approx(share, abs=0.05)

    def test_work_at_a_recall_lies_between_two_settings(self):
        def row(first, last):
            sweep = (Effort(1, np.array(first), 1.0, 100.0), Effort(2, np.array(last), 2.0, 300.0))
            return CodecRow("e", "c", "none", sweep=sweep)

        assert row([0.8, 0.8], [1.0, 1.0]).work_at(0.9) == pytest.approx(200)
        assert row([0.5, 0.5], [0.8, 0.8]).work_at(0.9) is None
        assert row([0.95, 0.95], [1.0, 1.0]).work_at(0.9) == 100
        assert row([1.0, 0.8], [1.0, 1.0]).work_at(0.9, chosen=np.array([0, 0])) == 100
        assert row([0.8, 0.8], [1.0, 1.0]).effort_at(0.9) == pytest.approx(1.5)
        ratio, error = row([0.8] * 9, [1.0] * 9).work_over(row([0.85] * 9, [1.0] * 9))
        assert (ratio, error) == (pytest.approx(200 / (100 + 200 / 3)), pytest.approx(0, abs=1e-12))


class TestWhatIsHeldOut:
    def test_no_query_both_fits_and_judges(self, texts, images):
        ground = make_ground(texts, images, **SETTINGS)
        fit, judges = ({row.tobytes() for row in each} for each in (ground.fit, ground.queries))
        assert (len(ground.fit), len(ground.queries)) == (90, 90)
        assert not fit & judges

    def test_all_queries_judge_where_others_are_fitted_to_or_nothing_is(self, texts, images):
        for change in ({"fit_queries": texts[:20]}, {"maps": ("none", "recenter")}):
            ground = make_ground(texts, images, **{**SETTINGS, **change})
            assert len(ground.queries) == 180

    def test_rows_of_its_own_kind_are_not_stored(self, texts, images):
        ground = make_ground(texts, images, **SETTINGS)
        assert (len(ground.gallery), len(ground.own)) == (950, 50)
        assert not {r.tobytes() for r in ground.own} & {r.tobytes() for r in ground.gallery}

    def test_where_all_rows_are_stored_each_is_left_out_of_its_own_answers(self, texts, images):
        ground = make_ground(texts, images, **{**SETTINGS, "hold_out": False})
        assert len(ground.gallery) == 1000
        assert (ground.own_truth[:, 0] != ground.own_rows).all()
        scores = ground.own @ ground.gallery.T
        scores[np.arange(50), ground.own_rows] = -np.inf
        np.testing.assert_array_equal(ground.own_truth[:, 0], np.argmax(scores, axis=1))

    def test_no_answer_to_a_query_is_held_out(self, texts, images):
        settings = {**SETTINGS, "labels": np.arange(180), "reference": 100, "maps": ("none",)}
        ground = make_ground(texts, images[:185], **settings)
        assert set(range(180)) <= set(ground.items.tolist())

    def test_a_sample_judges(self, texts, images):
        assert len(make_ground(texts, images, **{**SETTINGS, "sample": 30}).queries) == 30


class TestWhatIsBuilt:
    def test_each_codec_once_a_map_and_every_index_is_ended(self, texts, images, loop):
        found = index.study(
            texts,
            images,
            engines=[loop],
            codecs=["loop:half", "loop:two", "loop:half"],
            reference=20,
        )
        assert [codec for codec, _ in loop.built] == ["half", "two"] * 3
        assert loop.ended == 6
        assert [row.label for row in found] == ["loop:half"] * 3 + ["loop:two"] * 3
        assert found.maps == ("none", "recenter", "balanced")

    def test_maps_that_leave_the_gallery_alone_share_an_index(self, texts, images, loop):
        moved = closers.fit("orthogonal", texts, images[:40], metric="ip", side="queries")
        assert not moved.queries.is_identity
        found = index.study(
            texts, images, engines=[loop], codecs=["loop:half"], maps=["none", moved], metric="ip"
        )
        assert len(loop.built) == 1
        assert [row.shared for row in found] == [False, True]

    def test_rows_come_as_they_are_done(self, texts, images, loop):
        seen = []
        index.study(texts, images, engines=[loop], maps=["none"], on_row=seen.append)
        assert [row.label for row in seen] == ["loop:half", "loop:two"]

    def test_the_rows_stored_are_the_closures(self, texts, images, loop):
        closure = closers.fit("balanced", texts, images)
        index.study(
            texts, images, engines=[loop], codecs=["loop:half"], maps=[closure], reference=0
        )
        np.testing.assert_allclose(
            loop.built[0][1], closure.apply_gallery(images), rtol=0, atol=1e-5
        )

    def test_lengths_among_the_signs_are_stored_and_found(self, texts, images):
        """The sample loses in signs what it had in a common sign; lengths give it back, and more."""
        pytest.importorskip("faiss")
        words = ("none", "balanced", "balanced+lengths")
        codecs = ["faiss-1bit", "faiss:SQ4"]
        found = index.study(texts, images, codecs=codecs, maps=words, reference=0)
        assert [row.map for row in found] == [*words, *words[:2]]  # SQ4 keeps lengths by itself
        none, balanced, lengths = (found["faiss:1bit", word] for word in words)
        assert (none.bytes_per_vector, lengths.bytes_per_vector) == (16, 20)
        assert balanced.recall["10"] < none.recall["10"] < lengths.recall["10"]
        assert found.text[0].startswith("Your faiss:1bit index finds")
        assert "`balanced+lengths` 5" in found.text[0]
        assert any("with it (but 5" in line for line in found.text if "loses" in line)

    @pytest.mark.parametrize(
        ("codec", "says"),
        [("broken", "no such luck"), ("odd", "RuntimeError: native fault"),
         ("late", "ValueError: broke while searching")],
    )  # fmt: skip
    def test_a_codec_that_fails_is_one_line_and_the_others_go_on(
        self, texts, images, loop, codec, says
    ):
        found = index.study(
            texts, images, engines=[loop], codecs=[f"loop:{codec}", "loop:half"], maps=["none"]
        )
        assert found[f"loop:{codec}", "none"].failed == says
        assert found["loop:half", "none"].failed is None
        assert loop.ended == len(loop.built)
        assert any(f"loop:{codec} failed: {says}" in line for line in found.text)
        json.loads(found.to_json())

    def test_where_all_fail_it_is_an_error(self, texts, images, loop):
        with pytest.raises(CodeError, match="no such luck"):
            index.study(texts, images, engines=[loop], codecs=["loop:broken"])

    def test_an_absent_engine_is_one_row_with_the_command(self, texts, images, loop, monkeypatch):
        def missing(self):
            raise MissingExtraError('this needs the package `x`; pip install "modgap[x]"')

        monkeypatch.setattr("modgap.index.hnswlib_engine.Hnswlib.check", missing)
        found = index.study(texts, images, engines=[loop, "hnswlib"], maps=["none"])
        (row,) = [row for row in found if row.failed]
        assert (row.label, row.map) == ("hnswlib", "")
        assert 'pip install "modgap[x]"' in row.failed
        with pytest.raises(MissingExtraError, match="pip install"):
            index.study(texts, images, engines=["hnswlib"])

    def test_an_index_file_is_searched_as_it_is(self, texts, images, tmp_path):
        faiss = pytest.importorskip("faiss")
        made = faiss.index_factory(128, "SQ8", faiss.METRIC_INNER_PRODUCT)
        made.train(unit(images))
        made.add(unit(images))
        path = str(tmp_path / "mine.faiss")
        faiss.write_index(made, path)
        found = index.study(texts, images, codecs=[f"faiss:{path}", "faiss:SQ8"])
        assert [row.map for row in found] == ["none", "none", "recenter", "balanced"]
        assert found.setting["own_kind_stored"]
        file, built = found.rows[:2]
        assert (file.recall, file.own["10"].mean()) == (built.recall, built.own["10"].mean())
        affine = closers.fit(
            "affine", texts, images[:40]
        )  # shifts the gallery, which scores do not see
        moved = index.study(texts, images, codecs=[f"faiss:{path}"], maps=["none", affine])
        assert [row.map for row in moved] == ["none", "affine"]
        assert moved.rows[1].shared
        assert moved.rows[1].recall != moved.rows[0].recall
        with pytest.raises(ArgumentError, match="leaves the gallery alone"):
            index.study(texts, images, codecs=[f"faiss:{path}"], maps=["balanced"])


class TestWords:
    """Records made by hand: what is said follows from the figures, and only beyond their errors."""

    @staticmethod
    def study(**recalls):
        rng = np.random.default_rng(0)
        rows = []
        for name, by_map in recalls.items():
            codec, size = name.rsplit("_", 1)
            for label, mean in by_map.items():
                shares = np.clip(mean + rng.normal(scale=0.02, size=400), 0, 1)
                found = {"1": {"10": shares}}
                rows.append(CodecRow("e", codec, label, float(size), found=found))
        return IndexStudy(tuple(rows), {"depths": [10]})

    def test_a_gain_is_said_with_what_it_beats(self):
        text = self.study(
            one_64={"none": 0.38, "balanced": 0.63}, two_128={"none": 0.47, "balanced": 0.7}
        ).text
        assert text[0] == (
            "Your e:one index finds 38 of 100 of the exact 10 nearest today; with `balanced` 63, "
            "more than e:two finds today (47) in 128 bytes a vector instead of 64."
        )
        assert "`balanced` finds more, beyond the error, in 2 of 2 codecs." in text
        assert not any("loses" in line for line in text)

    def test_a_loss_is_said_codec_by_codec(self):
        text = self.study(
            one_64={"none": 0.6, "balanced": 0.5}, two_128={"none": 0.4, "balanced": 0.6}
        ).text
        assert (
            "`balanced` loses in 1 of 2 codecs: e:one finds 60 of 100 today and 50 with it. "
            "Leave it out there."
        ) in text

    def test_where_it_loses_everywhere_no_gain_is_said(self):
        text = self.study(one_64={"none": 0.6, "balanced": 0.5}).text
        assert text[0].startswith("In none of these codecs does `balanced` find more")
        assert "`balanced` loses in 1 of 1 codecs" in text[1]

    def test_within_the_error_nothing_is_said_of_either(self):
        text = self.study(one_64={"none": 0.6, "balanced": 0.601}).text
        assert len(text) == 1
        assert text[0].startswith("In none of these codecs")

    def test_the_cost_of_the_gap(self):
        low, high = np.full(300, 0.2), np.full(300, 0.7)
        low[::2], high[::2] = 0.3, 0.9
        row = CodecRow("e", "c", "none", 8.0, found={"1": {"10": low}}, own={"10": high})
        text = IndexStudy((row,), {"depths": [10]}).text
        assert text == (
            "The gap costs e:c most: it finds 25 of 100 of the exact 10 nearest, and 80 where "
            "queries are of the gallery's own kind.",
        )

    def test_a_format_that_drops_lengths_loses_on_real_rows(self, real_data):
        pytest.importorskip("usearch")
        texts = real_data("photos_clip_vitb32", "texts.npy")
        images = real_data("photos_clip_vitb32", "images.npy")[:4000]
        found = index.study(
            texts, images, codecs=["usearch:i8", "faiss:RaBitQ"], maps=["none", "balanced"],
            reference=0, rescore=[1],
        )  # fmt: skip
        text = " ".join(found.text)
        assert "`balanced` loses in 1 of 2 codecs: usearch:i8" in text
        assert "Your faiss:RaBitQ index finds" in text


class TestMistakes:
    @pytest.mark.parametrize(
        ("settings", "error", "says"),
        [
            ({"maps": []}, ArgumentError, "`maps` must name at least one"),
            ({"maps": ["balanced+lengths"]}, ArgumentError, "codecs that keep signs alone"),
            ({"maps": ["magic"]}, ArgumentError, "must be one of none"),
            ({"maps": ["procrustes"]}, ArgumentError, "fitted to pairs"),
            ({"metric": "euclidean"}, ArgumentError, "`metric` must be cosine or ip"),
            ({"rescore": [0]}, ArgumentError, "`rescore` must be"),
            ({"sample": 1}, ArgumentError, "`sample` must be"),
            ({"reference": -1}, ArgumentError, "`reference` must be"),
            ({"item_labels": np.arange(1000)}, ArgumentError, "`item_labels` needs `labels`"),
            ({"labels": np.arange(3)}, ShapeError, "got 3 for 180"),
            ({"fit_queries": np.ones((5, 3))}, ShapeError, "`fit_queries` and `queries` must share"),
            ({"maps": [closers.fit("affine", np.eye(3), np.eye(3))]}, ClosureError, "dimension 3"),
            ({"maps": [closers.fit("none", np.eye(3), np.eye(3), metric="euclidean")]}, ClosureError,
             "fitted for metric"),
        ],
    )  # fmt: skip
    def test_settings(self, texts, images, loop, settings, error, says):
        with pytest.raises(error, match=says):
            index.study(texts, images, engines=[loop], codecs=["loop:half"], **settings)

    def test_too_few_rows(self, texts, images, loop):
        with pytest.raises(ShapeError, match="half to fit maps to and half to judge by"):
            index.study(texts[:3], images, engines=[loop], codecs=["loop:half"])
        with pytest.raises(ShapeError, match="`gallery` must have at least 2"):
            index.study(texts, images[:1], engines=[loop], codecs=["loop:half"])
        found = index.study(
            texts, images[:7], engines=[loop], codecs=["loop:half"], maps=["none", "recenter"]
        )
        assert list(found["loop:half", "none"].recall) == ["1"]

    def test_a_row_that_is_not_there_is_named_with_those_that_are(self, texts, images, loop):
        found = index.study(texts, images, engines=[loop], codecs=["loop:half"], maps=["none"])
        with pytest.raises(KeyError, match=r"loop:half.*none"):
            found["loop:two", "none"]


def test_records_in_every_form(texts, images, loop):
    pandas = pytest.importorskip("pandas")
    found = index.study(texts, images, engines=[loop], codecs=["loop:worker"], reference=20)
    document = json.loads(found.to_json())
    assert (document["schema"], document["setting"]["judged"]) == (1, 90)
    row = document["rows"][0]
    assert set(row["recall"]) == {"1", "10", "100"}
    assert set(row["rescored"]) == {"2", "4"}
    assert [one["effort"] for one in row["efforts"]] == [1, 2]
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["recall_10"].tolist() == [r["recall"]["10"] for r in document["rows"]]
    again = index.study(texts, images, engines=[loop], codecs=["loop:worker"], reference=20)
    assert [r.recall for r in again] == [r.recall for r in found]
