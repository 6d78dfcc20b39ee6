"""Advice: the best candidate beyond its error, with figures that are the study's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from modgap import load_sample
from modgap.errors import ArgumentError
from modgap.evaluation import MixedRetrieval, MultipleChoice, PairedRetrieval, ZeroShot, evaluate
from modgap.evaluation.advice import Advice, advise
from modgap.robustness.noise import Bins, Gaussian

RNG = np.random.default_rng(5)


def rows_of(advice: Advice) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in advice.evidence["closers"]}


def test_the_figures_are_those_of_a_study() -> None:
    task = load_sample().task(metric="ip")
    noises = [Gaussian(0.04), Bins(16)]
    advice = advise(task, noises)
    study = evaluate(task, ["none", advice.method], noises=noises)
    for row in study:
        mean = np.mean([result.retention for result in row.results])
        assert rows_of(advice)[row.label]["retention"] == pytest.approx(mean)
        assert f"{mean:.3f}" in advice.text
    assert f"--method {advice.method}" in advice.command
    none, chosen = study
    difference = np.mean(
        [
            a.outcome.retention - b.outcome.retention
            for a, b in zip(chosen.results, none.results, strict=True)
        ],
        axis=0,
    )
    assert rows_of(advice)[advice.method]["gain"] == pytest.approx(difference.mean())
    assert rows_of(advice)[advice.method]["gain_stderr"] == pytest.approx(
        difference.std(ddof=1) / np.sqrt(difference.size)
    )


def test_where_closing_does_nothing_it_says_leave_it() -> None:
    advice = advise(load_sample().task(), ["float16"])  # eleven bits lose next to nothing
    assert advice.method == "none"
    assert "closing does nothing here" in advice.text
    assert advice.command == "modgap report QUERIES GALLERY"


def test_noise_on_queries_alone_cannot_be_helped_and_is_left_out_of_a_mixture() -> None:
    task = load_sample().task(metric="ip")
    alone = advise(task, Gaussian(0.1, side="queries"))
    assert alone.method == "none"
    assert "no closer that keeps the answers can help" in alone.text
    both = advise(task, ["gaussian:0.04", "gaussian:0.5@queries"])
    assert both.method == advise(task, "gaussian:0.04").method
    assert both.evidence["left_out"] == ["gaussian:0.5@queries"]
    assert "gaussian:0.5@queries" in both.text


def test_changing_answers_are_judged_by_accuracy_on_unseen_queries() -> None:
    advice = advise(load_sample().task(), [Gaussian(0.1)], answers="may-change")
    assert advice.evidence["judged_by"] == "accuracy"
    rows = rows_of(advice)
    assert "not fitted to" in advice.text
    assert any(row["agreement"] < 1 for row in rows.values())
    assert rows[advice.method]["accuracy"] >= rows["none"]["accuracy"]


def test_a_mixed_gallery_is_judged_by_what_it_answers_rightly() -> None:
    topics = RNG.normal(size=(60, 16))
    texts = topics[:40] + 0.3 * RNG.normal(size=(40, 16))
    images = topics[:40] + 0.3 * RNG.normal(size=(40, 16)) + 4
    companions = topics[40:] + 0.3 * RNG.normal(size=(20, 16))
    items, kinds = np.concatenate([images, companions]), ["image"] * 40 + ["text"] * 20
    task = MixedRetrieval(texts, items, kinds, np.arange(40), query_modalities="text")
    advice = advise(task, [Gaussian(0.1)])
    rows = rows_of(advice)
    assert rows["none"]["accuracy"] < 0.2 < 0.8 < rows[advice.method]["accuracy"]


def test_large_galleries_are_sampled_and_it_says_so() -> None:
    rng = np.random.default_rng(1)
    gallery = rng.normal(size=(21_000, 8)).astype(np.float32)
    queries = gallery[:30] + 0.1
    advice = advise(ZeroShot(queries, gallery, np.arange(30)), "bins:16")
    assert advice.evidence["items"] == 20_000
    assert "random sample: 30 queries, 20000 items" in advice.text


def test_unknown_wishes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="`answers` must be one of same, may-change; got 'any'"):
        advise(load_sample().task(), answers="any")


METRICS = ("cosine", "ip", "euclidean")
NOISES = (["gaussian:0.022"], ["sign"], ["bins:8", "gaussian:0.04@queries"])


@pytest.fixture(scope="module")
def real_tasks(real_data: Any) -> dict[str, Callable[[str], Any]]:
    """Every kind of task over every set, at sizes that take a moment; each is made for a metric."""
    caltech = [
        real_data("caltech101_clip_vitb32", f"{n}.npy") for n in ("images", "texts", "labels")
    ]
    cifar = [
        real_data("cifar10_openclip_vitb32_laion2b", f"{n}.npy")
        for n in ("images", "texts", "labels")
    ]
    coco, raw = (
        [real_data(folder, f"{n}.npy") for n in ("images", "texts")]
        for folder in ("coco_clip_vitb16", "coco_clip_vitb16_untrained")
    )
    # A quarter of the dimensions, at random: a gallery of full rank at the cost of a small one.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(512, 128)))[0].astype(np.float32)
    photos = [real_data("photos_clip_vitb32", f"{n}.npy") @ turn for n in ("texts", "images")]
    choices = caltech[1][3][np.arange(12)[None] + np.zeros((60, 1), int)]
    mixed, kinds = (
        np.concatenate([coco[0][:100], coco[1][100:180]]),
        ["image"] * 100 + ["text"] * 80,
    )
    return {
        "caltech": partial(ZeroShot, caltech[0][:100], caltech[1][3], caltech[2][:100]),
        "cifar10": partial(ZeroShot, cifar[0][:100], cifar[1][0], cifar[2][:100]),
        "coco": partial(PairedRetrieval, *(side[:60] for side in coco)),
        "coco untrained": partial(PairedRetrieval, *(side[:40] for side in raw)),
        "photos": partial(ZeroShot, photos[0][:60], photos[1][::60]),
        "choice": partial(MultipleChoice, caltech[0][:60], choices),
        "mixed": partial(MixedRetrieval, coco[1][:80], mixed, kinds, np.arange(80)),
    }


@pytest.mark.parametrize("turn", range(3))
def test_never_worse_than_nothing_by_its_own_figures(
    real_tasks: dict[str, Callable[[str], Any]], turn: int
) -> None:
    """A Latin square: every task meets every noise and every metric, every noise every metric."""
    for place, (name, task) in enumerate(real_tasks.items()):
        noises, metric = NOISES[(place + turn) % 3], METRICS[(place + 2 * turn) % 3]
        for answers in ("same", "may-change") if noises == ["sign"] else ("same",):
            advice = advise(task(metric=metric), noises, answers=answers, draws=3)
            rows = rows_of(advice)
            chosen, judge = rows[advice.method], advice.evidence["judged_by"]
            assert chosen[judge] >= rows["none"][judge], (name, answers, advice.text)
            if answers == "same" and name != "mixed":
                assert chosen["exact"] or advice.method == "none", (name, advice.text)
                best = max(r["gain"] for r in rows.values() if r["exact"])
                within = max(0.001, 2 * max(r["gain_stderr"] for r in rows.values()))
                assert best - chosen["gain"] <= within, (name, advice.text)


def test_a_search_in_few_bits_is_told_what_ten_nearest_it_finds() -> None:
    advice = advise(load_sample().search(), ["sign:lengths", "bits:2:clipped:lengths"])
    rows = rows_of(advice)
    assert advice.method == "balanced"
    before, after = rows["none"]["recall"], rows["balanced"]["recall"]
    assert after > before + 0.08
    assert advice.evidence["judged_by"] == "recall"
    assert (
        f"The recall of the exact ten nearest under noise goes from {before:.3f} to {after:.3f}"
        in advice.text
    )
    labelled = advise(load_sample().task(), "sign:lengths")
    assert labelled.evidence["judged_by"] == "retention"
    assert rows_of(labelled)["none"]["recall"] is None  # of ten class texts none can be missed
    assert "ten nearest" not in labelled.text


def test_a_search_has_a_kind_of_its_own() -> None:
    assert load_sample().search().describe() == {
        "kind": "search", "queries": 180, "gallery": 1000, "dimension": 128, "metric": "cosine",
    }  # fmt: skip
    assert load_sample().task().kind == "zero-shot"


def test_a_seed_is_checked_before_rows_are_drawn() -> None:
    with pytest.raises(ArgumentError, match="`seed` must be at least 0; got -9"):
        advise(load_sample().task(), seed=-9)
