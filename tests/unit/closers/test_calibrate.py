"""`calibrate`: lists within a modality stay, the merge follows from scales that a loop can check."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import modgap
from modgap import closers
from modgap._core.moments import Moments
from modgap.closers import MIXED_METHODS, MixedClosure, calibrate, calibrate_moments, fit_mixed
from modgap.errors import (
    ArgumentError,
    ClosureError,
    ClosureWarning,
    DataError,
    FormatError,
    ShapeError,
)

RNG = np.random.default_rng(8)
IMAGES = 0.5 * RNG.normal(size=(60, 6)) - 2
TEXTS = RNG.normal(size=(45, 6)) + 1
SOUNDS = RNG.normal(size=(30, 6)) * [3, 1, 1, 1, 1, 1]
QUERIES = RNG.normal(size=(24, 6)) + 1
GALLERIES = {"image": IMAGES, "text": TEXTS, "sound": SOUNDS}


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def scores_about_mean(rows):
    """One query and one item at a time: y.(x - mu), by cosine."""
    rows, queries = unit(rows), unit(QUERIES)
    mean = sum(rows) / len(rows)
    return np.array([[sum(y * (x - mean)) for x in rows] for y in queries])


def merged(closure, galleries=GALLERIES, queries=QUERIES):
    rows = np.concatenate([closure.apply_gallery(x, name) for name, x in galleries.items()])
    return closure.apply_queries(queries) @ rows.T


@given(
    seed=st.integers(0, 2**20),
    metric=st.sampled_from(["cosine", "ip"]),
    scale=st.sampled_from(["rms", "top", "quantile", "share", "means"]),
    kind=st.sampled_from([np.float64, np.float32]),
)
def test_no_ranking_within_a_modality_changes(seed, metric, scale, kind):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(9, 5)).astype(kind)
    galleries = {
        name: (rng.normal(size=(rng.integers(12, 40), 5)) * s + m).astype(kind)
        for name, s, m in (("a", 0.1, 3), ("b", 1, -1), ("c", 10, 0))
    }
    closure = calibrate(queries, galleries, metric=metric, scale=scale)
    for name, rows in galleries.items():
        wide = [x.astype(np.float64) for x in (queries, rows)]
        before = np.matmul(*((unit(wide[0]), unit(wide[1]).T) if metric == "cosine" else
                             (wide[0], wide[1].T)))  # fmt: skip
        after = (
            closure.apply_queries(queries).astype(np.float64)
            @ closure.apply_gallery(rows, name).astype(np.float64).T
        )
        order = np.argsort(-after, axis=1)
        steps = np.diff(np.take_along_axis(before, order, axis=1), axis=1)
        # A later item scored higher before by no more than rounding the rows to this dtype can make.
        size = np.linalg.norm(wide[0], axis=1).max() * np.linalg.norm(wide[1], axis=1).max()
        assert steps.max(initial=-1) <= 16 * np.finfo(kind).eps * (
            1 if metric == "cosine" else size
        )


def test_real_lists_stay_and_their_merge_does_not(real_data):
    images, texts = (real_data("coco_clip_vitb16", f"{n}.npy") for n in ("images", "texts"))
    closure = calibrate(texts[:250], {"image": images, "text": texts[250:]})
    for name, rows in (("image", images), ("text", texts[250:])):
        before = modgap.nearest(texts[:250], rows, k=50)
        after = modgap.nearest(
            closure.apply_queries(texts[:250]), closure.apply_gallery(rows, name), k=50, metric="ip"
        )
        differ = before.indices != after.indices
        # Items change places only among float32 rows whose scores are within two roundings.
        score = np.einsum("md,mkd->mk", unit(texts[:250]), unit(rows)[after.indices])
        assert np.abs(score - before.scores)[differ].max(initial=0) < 2.4e-7
        assert differ.mean() < 0.002


class TestScales:
    def test_rms_is_that_of_all_pairs(self):
        found = calibrate(QUERIES, GALLERIES).scales
        for name, rows in GALLERIES.items():
            expected = np.sqrt((scores_about_mean(rows) ** 2).mean())
            assert found[name] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("count", [40, 260])
    def test_top_and_quantile_are_those_of_each_query(self, count):
        many = RNG.normal(size=(count, 6)) + 1
        galleries = {"many": many, "text": TEXTS}
        keep = max(1, round(0.01 * count))
        best = np.sort(scores_about_mean(many), axis=1)[:, -keep:]
        assert calibrate(QUERIES, galleries, scale="top").scales["many"] == pytest.approx(
            best.mean()
        )
        found = calibrate(QUERIES, galleries, scale="quantile").scales["many"]
        assert found == pytest.approx(best[:, 0].mean())

    def test_pairs_score_one_on_average(self):
        pairs = {name: np.argwhere(scores_about_mean(x) > 0) for name, x in GALLERIES.items()}
        closure = calibrate(QUERIES, GALLERIES, scale="pairs", pairs=pairs)
        for name, rows in GALLERIES.items():
            scores = closure.apply_queries(QUERIES) @ closure.apply_gallery(rows, name).T
            assert np.mean([scores[i, j] for i, j in pairs[name]]) == pytest.approx(1)

    @pytest.mark.parametrize("shares", [None, {"image": 6, "text": 3, "sound": 1}])
    def test_shares_are_those_asked_for(self, shares):
        closure = calibrate(QUERIES, GALLERIES, scale="share", shares=shares)
        kind = np.repeat([0, 1, 2], [60, 45, 30])
        top = kind[np.argsort(-merged(closure), axis=1)[:, :10]]
        found = np.bincount(top.ravel(), minlength=3) / top.size
        expected = [1 / 3] * 3 if shares is None else [0.6, 0.3, 0.1]
        assert found == pytest.approx(expected, abs=1 / 24 + 1e-9)  # ten places times 24 queries

    def test_shares_that_too_few_items_cannot_fill_are_said(self):
        with pytest.warns(ClosureWarning, match=r"few 0\.10"):  # of two items, one
            calibrate(QUERIES, {"few": IMAGES[:2], "text": TEXTS}, scale="share")

    def test_means_move_and_do_not_scale(self):
        closure = calibrate(QUERIES, GALLERIES, scale="means", metric="ip")
        assert closure.apply_gallery(IMAGES, "image") == pytest.approx(IMAGES - IMAGES.mean(axis=0))

    def test_moments_are_enough_for_rms(self):
        halves = Moments.from_rows(unit(QUERIES[:9])).merge(Moments.from_rows(unit(QUERIES[9:])))
        parts = {name: Moments.from_rows(unit(x)) for name, x in GALLERIES.items()}
        found = calibrate_moments(halves, parts)
        assert found.scales == pytest.approx(calibrate(QUERIES, GALLERIES).scales)
        assert merged(found) == pytest.approx(merged(calibrate(QUERIES, GALLERIES)))


def test_balanced_after_it_keeps_the_merged_ranking():
    first = calibrate(QUERIES, GALLERIES)
    rows = np.concatenate([first.apply_gallery(x, name) for name, x in GALLERIES.items()])
    both = first.then(modgap.fit("balanced", first.apply_queries(QUERIES), rows, metric="ip"))
    before, after = merged(first), merged(both)
    assert after == pytest.approx(before)  # the pooled mean is zero already: even the scores stay
    assert not np.allclose(both.apply_gallery(TEXTS, "text"), first.apply_gallery(TEXTS, "text"))
    assert both.method == "calibrate+balanced"
    assert both.scales == first.scales


def test_other_methods_treat_each_modality_as_their_papers_say():
    centred = fit_mixed("center", QUERIES, GALLERIES)
    for rows, found in ((TEXTS, centred.apply_gallery(TEXTS, "text")),
                        (QUERIES, centred.apply_queries(QUERIES))):  # fmt: skip
        assert found == pytest.approx(unit(unit(rows) - unit(rows).mean(axis=0)))
    scored = fit_mixed("standardize", QUERIES, GALLERIES, metric="ip")
    expected = unit((SOUNDS - SOUNDS.mean(axis=0)) / SOUNDS.std(axis=0))
    assert scored.apply_gallery(SOUNDS, "sound") == pytest.approx(expected)


def test_rows_of_several_modalities_come_back_in_their_order():
    closure = calibrate(QUERIES, GALLERIES)
    rows = np.concatenate([IMAGES[:2], TEXTS[:3], IMAGES[2:4]])
    names = ["image"] * 2 + ["text"] * 3 + ["image"] * 2
    found = closure.apply_gallery(rows, names)
    assert found[[0, 1, 5, 6]] == pytest.approx(closure.apply_gallery(IMAGES[:4], "image"))
    assert found[2:5] == pytest.approx(closure.apply_gallery(TEXTS[:3], "text"))


def test_it_is_saved_and_loaded_as_other_closures_are(tmp_path):
    closure = calibrate(QUERIES, GALLERIES, scale="top")
    again = modgap.load(closure.save(tmp_path / "c.safetensors"))
    assert isinstance(again, MixedClosure)
    assert (again.method, again.modalities) == ("calibrate:top", ("image", "text", "sound"))
    assert again.scales == closure.scales
    np.testing.assert_array_equal(merged(again), merged(closure))
    assert not again.exact


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.update(modalities=["image"]), "two different names"),
        (lambda h, t: h.update(modalities=["image", "image", "text"]), "two different names"),
        (lambda h, t: h["scales"].update(image=-1), "above 0"),
        (lambda h, t: h.pop("gallery 1"), "no 'gallery 1'"),
        (lambda h, t: h["gallery 1"].update(width=5), "shape"),
        (lambda h, t: t.update({"gallery 0.center": np.full(6, np.nan)}), "NaN"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = calibrate(QUERIES, GALLERIES).save(tmp_path / "c.safetensors")
    with safetensors.safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["modgap"])
    tensors = safetensors.numpy.load_file(path)
    change(header, tensors)
    safetensors.numpy.save_file(tensors, path, metadata={"modgap": json.dumps(header)})
    with pytest.raises(FormatError, match=message):
        modgap.load(path)


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_every_array_library_gives_the_same(library):
    to_xp = pytest.importorskip(library).asarray
    found = calibrate(to_xp(QUERIES), {k: to_xp(x) for k, x in GALLERIES.items()}, scale="top")
    expected = calibrate(QUERIES, GALLERIES, scale="top")
    assert found.scales == pytest.approx(expected.scales)
    rows = found.apply_gallery(to_xp(TEXTS[:3]), ["text", "image", "text"])
    assert np.asarray(rows) == pytest.approx(
        expected.apply_gallery(TEXTS[:3], ["text", "image", "text"])
    )


def test_as_layers_of_pytorch():
    torch = pytest.importorskip("torch")
    closure = calibrate(QUERIES, GALLERIES)
    module = closure.to("cpu", dtype=torch.float64)
    found = module.gallery(torch.from_numpy(TEXTS), "text").numpy()
    assert found == pytest.approx(closure.apply_gallery(TEXTS, "text"))
    assert module(torch.from_numpy(QUERIES)).numpy() == pytest.approx(unit(QUERIES))
    assert len(module.state_dict()) > 3
    with pytest.raises(ArgumentError, match="one of image, text, sound"):
        module.gallery(torch.from_numpy(TEXTS), "video")


def test_one_dimension_has_a_merge_too():
    closure = calibrate([[1.0], [2.0]], {"a": [[1.0], [3.0]], "b": [[10.0], [30.0]]}, metric="ip")
    assert closure.apply_gallery([[1.0], [3.0]], "a") == pytest.approx(
        closure.apply_gallery([[10.0], [30.0]], "b")
    )


BAD = [
    ({"galleries": {"image": IMAGES, "text": TEXTS[:1]}}, ShapeError, "'text'.*at least 2 rows"),
    ({"galleries": {"image": IMAGES, "text": TEXTS[[0] * 5]}}, DataError, "5 rows .* all equal"),
    ({"galleries": {"image": IMAGES, "text": TEXTS * np.nan}}, DataError, "row 0 .*NaN"),
    ({"galleries": {"image": IMAGES, "text": TEXTS[:, :3]}}, ShapeError, "share their last axis"),
    ({"galleries": {"image": IMAGES, "text": 0 * TEXTS}}, DataError, "has no direction"),
    ({"galleries": {"image": IMAGES}}, ArgumentError, "two modalities or more; got 1"),
    ({"galleries": IMAGES}, ArgumentError, "mapping of modality to rows"),
    ({"queries": QUERIES[:1]}, ShapeError, "at least 2"),
    ({"queries": QUERIES * np.inf}, DataError, "NaN or infinity"),
    ({"scale": "mad"}, ArgumentError, "one of rms, top, quantile, pairs, share, means"),
    ({"metric": "euclidean"}, ArgumentError, "must be cosine or ip"),
    ({"scale": "pairs"}, ArgumentError, "'image' has none"),
    ({"scale": "pairs", "pairs": {"image": [[0, 0]]}}, ArgumentError, "'text' has none"),
    ({"scale": "pairs", "pairs": {key: [[0, 44]] for key in GALLERIES}}, DataError, "below 30"),
    ({"scale": "pairs", "pairs": {key: [0, 1] for key in GALLERIES}}, ShapeError, r"\(p, 2\)"),
    ({"pairs": {"image": [[0, 0]]}}, ArgumentError, "goes with scale"),
    ({"scale": "share", "shares": {"image": 1}}, ArgumentError, "every modality once"),
    ({"scale": "share", "shares": dict.fromkeys(GALLERIES, 0)}, ArgumentError, r"in \(0, inf\]"),
    ({"shares": dict.fromkeys(GALLERIES, 1)}, ArgumentError, "goes with scale"),
]


@pytest.mark.parametrize(("given_", "error", "message"), BAD)
def test_bad_input_is_named_in_one_line(given_, error, message):
    words = {"queries": QUERIES, "galleries": GALLERIES} | given_
    with pytest.raises(error, match=message) as caught:
        calibrate(words.pop("queries"), words.pop("galleries"), **words)
    assert "\n" not in str(caught.value)


def test_queries_that_see_no_difference_are_refused():
    flat = np.array([[1.0, 0, 0]] * 4)
    items = {"a": RNG.normal(size=(5, 3)) * [0, 1, 1], "b": RNG.normal(size=(5, 3))}
    with pytest.raises(DataError, match=r"'a'.* tell none of its items apart"):
        calibrate(flat, items, metric="ip")


def test_uses_that_make_no_sense_are_refused():
    closure = calibrate(QUERIES, GALLERIES)
    for use in (lambda: closure.apply_gallery(TEXTS), lambda: closure.gallery(TEXTS)):
        with pytest.raises(ClosureError, match=r"\(image, text, sound\); say which one"):
            use()
    with pytest.raises(ArgumentError, match="one of image, text, sound; got 'video'"):
        closure.apply_gallery(TEXTS, "video")
    with pytest.raises(ShapeError, match=r"one per row of `gallery`; got \(2,\) for 45 rows"):
        closure.apply_gallery(TEXTS, ["image", "text"])
    with pytest.raises(ArgumentError, match="`calibrate` maps each modality"):
        closers.fit("calibrate", QUERIES, TEXTS)
    with pytest.raises(ArgumentError, match="`method` must be one of center"):
        fit_mixed("affine", QUERIES, GALLERIES)
    with pytest.raises(ArgumentError, match="takes neither pairs nor shares"):
        fit_mixed("center", QUERIES, GALLERIES, shares={})
    with pytest.raises(ShapeError, match="6 and 3"):
        calibrate_moments(
            Moments.from_rows(QUERIES),
            {"a": Moments.from_rows(TEXTS[:, :3]), "b": Moments.from_rows(TEXTS)},
        )


def test_every_method_has_a_word_that_it_is_called_by():
    pairs = {n: np.argwhere(scores_about_mean(x) > 0) for n, x in GALLERIES.items()}
    for word in MIXED_METHODS:
        more = {"pairs": pairs} if word.endswith("pairs") else {}
        assert fit_mixed(word, QUERIES, GALLERIES, **more).label == word
