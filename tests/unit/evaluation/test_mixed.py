"""Mixed collections in a study: figures of the merged list against plain loops, on unseen queries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modgap import ZeroShot, advise, closers, evaluate
from modgap.closers import MIXED_METHODS
from modgap.errors import ArgumentError, ClosureError, ShapeError
from modgap.evaluation import MixedRetrieval

RNG = np.random.default_rng(5)
TOPICS = RNG.normal(size=(30, 12))
IMAGES = TOPICS + 0.4 * RNG.normal(size=(30, 12)) - 1.5
TEXTS = 1.5 * TOPICS + 0.4 * RNG.normal(size=(30, 12)) + 1.5
QUERIES = 1.5 * TOPICS[:20] + 0.4 * RNG.normal(size=(20, 12)) + 1.5
#: In turn, so that nothing works by their order alone.
KINDS = np.array(["image", "text"] * 30)
TOPIC_OF = np.repeat(np.arange(30), 2)
ITEMS = np.empty((60, 12))
ITEMS[KINDS == "image"], ITEMS[KINDS == "text"] = IMAGES, TEXTS
WORDS = ["none", *(word for word in MIXED_METHODS if word != "calibrate:pairs")]


def task(kind: type = np.float64, **more: object) -> MixedRetrieval:
    answers: dict = {"labels": (np.arange(20), TOPIC_OF), "query_modalities": "text"} | more  # type: ignore[type-arg]
    return MixedRetrieval(QUERIES.astype(kind), ITEMS.astype(kind), KINDS, **answers)


@pytest.fixture(scope="module")
def study():
    return evaluate(task(), WORDS, noises=[])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cross_fitted(word: str, folds: int, seed: int) -> np.ndarray:
    """Scores of every query by a closure that has not seen it, one fold after the other."""
    if word == "none":
        return unit(QUERIES) @ unit(ITEMS).T
    scores = np.empty((20, 60))
    rows = np.random.default_rng([seed, 20]).permutation(20)
    for part in np.array_split(rows, folds):
        rest = np.setdiff1d(np.arange(20), part)
        closure = closers.fit_mixed(word, QUERIES[rest], {"image": IMAGES, "text": TEXTS})
        scores[part] = closure.apply_queries(QUERIES[part]) @ closure.apply_gallery(ITEMS, KINDS).T
    return scores


@pytest.mark.parametrize("word", ["none", "center", "standardize", "calibrate", "calibrate:top"])
def test_figures_are_those_of_a_plain_loop_over_unseen_queries(study, word: str) -> None:
    row = study[word]
    assert row.folds == (0 if word == "none" else 5)
    order = np.argsort(-cross_fitted(word, 5, 0), axis=1, kind="stable")
    for k in (1, 10, 50):
        hits, gains, images = [], [], []
        for query in range(20):
            best = [TOPIC_OF[item] == query for item in order[query, :k]]
            hits.append(any(best))
            gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(best) if hit)
            gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(2, k))))
            images.append(np.mean([KINDS[item] == "image" for item in order[query, :k]]))
        assert row.recall[str(k)] == pytest.approx(np.mean(hits))
        assert row.ndcg[str(k)] == pytest.approx(np.mean(gains))
        assert row.shares[str(k)]["image"] == pytest.approx(np.mean(images))
        assert sum(row.shares[str(k)].values()) == pytest.approx(1)


def test_the_gap_hides_one_modality_and_calibrate_shows_it(study) -> None:
    assert study["none"].shares["10"]["image"] < 0.05
    assert 0.3 < study["calibrate"].shares["10"]["image"] < 0.7
    assert study["calibrate"].ndcg["10"] > study["none"].ndcg["10"] + 0.2


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_only_calibrate_keeps_the_list_of_every_modality(kind: type) -> None:
    for row in evaluate(task(kind), WORDS, noises=[]):
        kept = row.method == "none" or row.method.startswith("calibrate")
        assert row.lists == ({"image": 1, "text": 1} if kept else row.lists), row.label
        assert kept == (min(row.lists.values()) == 1), row.label
        assert row.exact == (row.method == "none")


def test_balanced_after_calibrate_loses_less_to_a_code(study) -> None:
    # One length a row and no gap of means left: what differs is the shape of the two clouds.
    rng = np.random.default_rng(2)
    stretch = np.geomspace(8, 0.1, 12)
    items = rng.normal(size=(200, 12)) * stretch
    queries = rng.normal(size=(60, 12)) / stretch
    kinds = ["image", "text"] * 100
    mixed = MixedRetrieval(queries, items, kinds, metric="ip")
    found = evaluate(mixed, ["calibrate", "calibrate+balanced"], noises=["sign:rotated:lengths"])
    plain, balanced = found
    assert (plain.decisions == balanced.decisions).all()
    assert balanced.results[0].stability > plain.results[0].stability + 0.1


def test_it_stands_in_the_dict_and_in_the_table(study) -> None:
    record = study.to_dict()["closers"][WORDS.index("calibrate")]
    assert record["shares"]["10"]["image"] == study["calibrate"].shares["10"]["image"]
    assert record["lists"] == {"image": 1.0, "text": 1.0}
    assert record["ndcg"]["50"] == study["calibrate"].ndcg["50"]
    flat = study.table()[WORDS.index("center")]
    assert flat["share_10_text"] == study["center"].shares["10"]["text"]
    assert flat["list_image"] == study["center"].lists["image"]
    assert flat["ndcg_10"] == study["center"].ndcg["10"]
    assert evaluate(ZeroShot(QUERIES, TEXTS), "none", noises=[])["none"].to_dict()["shares"] is None


def test_without_answers_shares_and_lists_are_all_there_is() -> None:
    row = evaluate(task(labels=None), "calibrate", noises=[])["calibrate"]
    assert row.recall is None and row.ndcg is None and row.right is None  # noqa: PT018
    assert row.shares["10"]["image"] > 0.3


def test_both_directions_over_one_collection() -> None:
    queries = np.concatenate([QUERIES, IMAGES[:20] + 0.1])
    both = MixedRetrieval(
        queries,
        ITEMS,
        KINDS,
        labels=(np.tile(np.arange(20), 2), TOPIC_OF),
        query_modalities=["text"] * 20 + ["image"] * 20,
    )
    found = evaluate(both, ["none", "calibrate"], noises=[])
    assert [row.problem for row in found] == ["text -> all"] * 2 + ["image -> all"] * 2
    assert found["none", "text -> all"].shares["10"]["text"] > 0.95
    assert found["none", "image -> all"].shares["10"]["image"] > 0.95
    for problem in ("text -> all", "image -> all"):
        assert 0.25 < found["calibrate", problem].shares["10"]["image"] < 0.75
        assert found["calibrate", problem].ndcg["10"] > found["none", problem].ndcg["10"]


def test_pairs_teach_the_scale() -> None:
    row = evaluate(task(), "calibrate:pairs", noises=[])["calibrate:pairs"]
    expected = {}
    for name, own in (("image", IMAGES), ("text", TEXTS)):
        centred = unit(own) - unit(own).mean(axis=0)
        expected[name] = np.sum(unit(QUERIES) * centred[:20], axis=1).mean()
    assert row.closure.scales == pytest.approx(expected)
    with pytest.raises(ArgumentError, match="learns from answers"):
        evaluate(task(labels=None), "calibrate:pairs")
    images = np.flatnonzero(KINDS == "image")[:20]
    with pytest.raises(ArgumentError, match="'text' has none"):
        evaluate(task(labels=None, partners=images), "calibrate:pairs")


def test_a_fitted_closure_is_used_as_it_is() -> None:
    closure = closers.calibrate(QUERIES, {"text": TEXTS, "image": IMAGES})
    row = evaluate(task(), closure, noises=[])["calibrate"]
    order = np.argsort(
        -closure.apply_queries(QUERIES) @ closure.apply_gallery(ITEMS, KINDS).T, axis=1
    )
    assert row.folds == 0
    assert np.array_equal(row.decisions, order[:, 0])
    with pytest.raises(ClosureError, match="image of a mixed collection; the task has one gallery"):
        evaluate(ZeroShot(QUERIES, TEXTS), closure)
    other = closers.calibrate(QUERIES, {"text": TEXTS, "sound": IMAGES})
    with pytest.raises(ClosureError, match="text, sound of a mixed collection; the task has image"):
        evaluate(task(), other)


def test_what_cannot_be_fitted_is_said_in_one_line() -> None:
    with pytest.raises(ArgumentError, match="`calibrate` maps each modality"):
        evaluate(ZeroShot(QUERIES, TEXTS), "calibrate")
    with pytest.raises(ArgumentError, match="must be cosine or ip"):
        evaluate(task(metric="euclidean"), "calibrate")
    with pytest.raises(ShapeError, match="2 queries or more"):
        evaluate(MixedRetrieval(QUERIES[:1], ITEMS, KINDS), "calibrate")
    lonely = np.array(["image"] * 59 + ["text"])
    with pytest.raises(ShapeError, match=r"'text'.* at least 2 rows"):
        evaluate(MixedRetrieval(QUERIES, ITEMS, lonely), "calibrate")
    same = ITEMS.copy()
    same[KINDS == "text"] = 1.0
    with pytest.raises(ValueError, match=r"'text'.* 30 rows that are all equal"):
        evaluate(MixedRetrieval(QUERIES, same, KINDS), "calibrate")


def test_advice_leads_to_calibrate_where_it_wins(real_data) -> None:
    images, texts = (real_data("coco_clip_vitb16", f"{name}.npy") for name in ("images", "texts"))
    items = np.concatenate([images, texts[:100]])
    kinds = ["image"] * 500 + ["text"] * 100
    rows = np.arange(100, 200)
    found = advise(MixedRetrieval(texts[rows], items, kinds, rows), [])
    assert found.method.startswith("calibrate")
    assert found.evidence["judged_by"] == "ndcg"
    assert "No ranking within a modality changes" in found.text
    assert "--method calibrate" in found.command
    blind = advise(MixedRetrieval(texts[rows], items, kinds), [])
    assert blind.method == "calibrate"
    assert "as it is, the first ten hold 0% image, 100% text" in blind.text


@pytest.mark.parametrize("answers", [{}, {"labels": None}])
def test_advice_leaves_alone_what_has_no_gap(answers: dict) -> None:  # type: ignore[type-arg]
    rng = np.random.default_rng(3)
    items, queries = rng.normal(size=(80, 12)), rng.normal(size=(40, 12))
    words = {"labels": (np.arange(40), np.arange(80) % 40)} | answers
    found = advise(MixedRetrieval(queries, items, ["image", "text"] * 40, **words), [])
    assert (found.method, found.text[:8]) == ("none", "Leave it")


def test_few_queries_teach_nothing() -> None:
    items = np.random.default_rng(4).normal(size=(20, 12))
    few = advise(MixedRetrieval(QUERIES[:5], items, ["image", "text"] * 10), [])
    assert few.method == "none"
