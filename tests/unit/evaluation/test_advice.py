"""Advice: the right closer for each kind of task, with figures that are the study's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modgap import load_sample
from modgap.errors import ArgumentError
from modgap.evaluation.advice import advise
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import MixedRetrieval, PairedRetrieval, ZeroShot
from modgap.robustness.noise import Bins, Gaussian

RNG = np.random.default_rng(5)


def test_same_answers_and_free_directions_ask_for_affine() -> None:
    task = load_sample().task()
    advice = advise(task, [Gaussian(0.04), Bins(16)])
    assert advice.method == "affine"
    study = evaluate(task, ["none", "affine"], noises=[Gaussian(0.04), Bins(16)])
    for row in study.closers:
        assert f"{row['noises'][0]['stability']:.3f}" in advice.text
    assert "9 of 128 dimensions" in advice.text
    assert "--method affine" in advice.command
    assert "100.0%" in advice.text


def test_a_gallery_that_spans_the_space_asks_for_recenter() -> None:
    task = ZeroShot(RNG.normal(size=(50, 4)), RNG.normal(size=(30, 4)))
    advice = advise(task)
    assert advice.method == "recenter"
    assert "spans all 4 dimensions" in advice.text


def test_noise_on_queries_alone_cannot_be_helped() -> None:
    advice = advise(load_sample().task(), [Gaussian(0.1, side="queries")])
    assert advice.method == "none"
    assert "no exact closer can help" in advice.text


def test_changing_answers_are_judged_on_held_out_queries() -> None:
    advice = advise(load_sample().task(), [Gaussian(0.1)], answers="may-change")
    assert advice.evidence["held_out_queries"] == 500
    front = {row["method"]: row for row in advice.evidence["front"]}
    assert advice.method in front
    best = max(row["retention"] for row in advice.evidence["closers"])
    assert front[advice.method]["retention"] == best
    agreements = [row["agreement"] for row in advice.evidence["closers"]]
    assert min(agreements) < 1  # some closers did change answers, so the choice had a price


def test_a_mixed_gallery_is_judged_by_what_it_answers_rightly() -> None:
    topics = RNG.normal(size=(60, 16))
    texts = topics[:40] + 0.3 * RNG.normal(size=(40, 16))
    images = topics[:40] + 0.3 * RNG.normal(size=(40, 16)) + 4
    companions = topics[40:] + 0.3 * RNG.normal(size=(20, 16))
    task = MixedRetrieval(texts, images, companions, np.arange(40))
    advice = advise(task, [Gaussian(0.1)])
    rows = {row["method"]: row for row in advice.evidence["closers"]}
    assert rows["none"]["clean_accuracy"] < 0.2 < 0.8 < rows[advice.method]["clean_accuracy"]


def test_unknown_wishes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="`answers` must be one of same, may-change; got 'any'"):
        advise(load_sample().task(), answers="any")


def test_where_affine_would_hurt_another_exact_closer_is_named(real_data: Any) -> None:
    images = real_data("coco_clip_vitb16", "images.npy")
    texts = real_data("coco_clip_vitb16", "texts.npy")
    task = PairedRetrieval(images, texts, metric="cosine")
    advice = advise(task, [Gaussian(0.022)], draws=20)
    rows = {row["method"]: row for row in advice.evidence["closers"]}
    assert rows["affine"]["stability"] < rows["none"]["stability"]
    exact = [row for row in rows.values() if row["exact"]]
    assert advice.method == max(exact, key=lambda row: row["stability"])["method"]
    assert "less stable" in advice.text
