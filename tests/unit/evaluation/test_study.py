"""Evaluate and Study: every figure against a plain computation of its own."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.errors import ArgumentError, ClosureError, ClosureWarning
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import MixedRetrieval, MultipleChoice, PairedRetrieval, ZeroShot
from modgap.robustness.noise import Bins, Gaussian, Uniform

RNG = np.random.default_rng(11)
QUERIES = RNG.normal(size=(40, 12)) + 1.5
GALLERY = RNG.normal(size=(6, 12))
LABELS = RNG.integers(0, 6, 40)


def brute(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.linalg.norm(queries[:, None] - gallery[None], axis=2).argmin(axis=1)


def test_agreement_and_accuracies_are_those_of_a_brute_force_search() -> None:
    methods = ["none", "orthogonal", "affine", "mean-shift", "center", "erase"]
    study = evaluate(ZeroShot(QUERIES, GALLERY, LABELS), methods, noises=[Bins(5)])
    before = brute(QUERIES, GALLERY)
    for row, name in zip(study.closers, methods, strict=True):
        closure = closers.fit(name, QUERIES, GALLERY)
        y, x = closure.apply_queries(QUERIES), closure.apply_gallery(GALLERY)
        decided, stored = brute(y, x), brute(y, Bins(5).apply(x))
        assert row["method"] == name
        assert row["agreement"] == pytest.approx((decided == before).mean())
        assert row["clean_accuracy"] == pytest.approx((decided == LABELS).mean())
        assert row["gap_after"] == pytest.approx(np.linalg.norm(y.mean(0) - x.mean(0)))
        noise = row["noises"][0]
        assert noise["stability"] == pytest.approx((stored == decided).mean())
        assert noise["retention"] == pytest.approx((stored == before).mean())
        assert noise["noisy_accuracy"] == pytest.approx((stored == LABELS).mean())
        assert noise["estimator"] == "deterministic"
    assert {row["method"] for row in study.closers if row["agreement"] < 1} >= {"mean-shift"}


def test_exact_figures_agree_with_a_plain_monte_carlo() -> None:
    study = evaluate(ZeroShot(QUERIES, GALLERY, LABELS), ["affine"], noises=[Gaussian(0.4)])
    closure = closers.fit("affine", QUERIES, GALLERY)
    y, x = closure.apply_queries(QUERIES), closure.apply_gallery(GALLERY)
    before = brute(QUERIES, GALLERY)
    draws = [brute(y, x + 0.4 * RNG.normal(size=x.shape)) for _ in range(1500)]
    kept = np.array([(d == before).mean() for d in draws])
    right = np.array([(d == LABELS).mean() for d in draws])
    noise = study.closers[0]["noises"][0]
    # Four standard errors of the sample's own means.
    assert abs(noise["retention"] - kept.mean()) < 4 * kept.std() / np.sqrt(1500)
    assert abs(noise["noisy_accuracy"] - right.mean()) < 4 * right.std() / np.sqrt(1500)
    assert noise["stability_stderr"] == 0.0
    assert noise["estimator"] == "exact"


def test_sampled_noise_reports_its_error_and_its_draws() -> None:
    task = ZeroShot(QUERIES, GALLERY, LABELS)
    row = evaluate(task, ["none"], noises=[Gaussian(0.3, side="queries"), Uniform(0.5)], draws=30)
    for noise in row.closers[0]["noises"]:
        assert noise["estimator"] == "monte carlo (30 draws)"
        assert 0 < noise["stability_stderr"] < 0.05
    again = evaluate(task, ["none"], noises=[Gaussian(0.3, side="queries")], draws=30)
    assert again.closers[0]["noises"][0] == row.closers[0]["noises"][0]


def test_alphas_multiply_only_the_methods_that_take_them() -> None:
    study = evaluate(
        ZeroShot(QUERIES, GALLERY), ["none", "orthogonal", "affine"], alphas=(0, 0.5, 1), noises=[]
    )
    assert [(row["method"], row["alpha"]) for row in study.closers] == [
        ("none", None),
        *[("orthogonal", alpha) for alpha in (0, 0.5, 1)],
        *[("affine", alpha) for alpha in (0, 0.5, 1)],
    ]
    assert all(row["exact"] and row["agreement"] == 1 for row in study.closers)
    assert all(row["clean_accuracy"] is None for row in study.closers)


def test_the_json_document_has_the_promised_keys_and_no_nan() -> None:
    study = evaluate(ZeroShot(QUERIES, GALLERY, LABELS), ["none", "affine"], noises=[Gaussian(0.1)])
    document = json.loads(study.to_json())
    assert set(document) == {"task", "gap", "closers"}
    assert set(document["task"]) == {"kind", "queries", "gallery", "dimension", "rank", "metric"}
    promised = {
        "method",
        "alpha",
        "n_components",
        "exact",
        "gap_after",
        "clean_accuracy",
        "agreement",
    }
    assert promised | {"noises"} <= set(document["closers"][0])
    noise = {
        "noise",
        "side",
        "stability",
        "stability_stderr",
        "retention",
        "noisy_accuracy",
        "estimator",
    }
    assert set(document["closers"][0]["noises"][0]) == noise
    assert document["task"]["rank"] == 5
    assert document["closers"][1]["n_components"] == 5


def test_paraphrase_applies_one_templates_closure_to_anothers_texts() -> None:
    sample = load_sample()
    study = evaluate(sample.task(), ["none", "affine"], noises=[], paraphrase=True)
    closure = closers.fit("affine", sample.images, sample.texts[0])
    y = closure.apply_queries(sample.images)
    before = brute(sample.images, sample.texts[0])
    for j in (1, 7):
        entry = study.closers[1]["noises"][j - 1]
        assert entry["noise"] == f"paraphrase:{sample.templates[j]}"
        decided = brute(y, closure.apply_gallery(sample.texts[j]))
        assert entry["retention"] == pytest.approx((decided == before).mean())
        plain = brute(sample.images, sample.texts[j])
        assert study.closers[0]["noises"][j - 1]["retention"] == pytest.approx(
            (plain == before).mean()
        )


def test_paraphrase_without_templates_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"shape \(t, n, d\)"):
        evaluate(ZeroShot(QUERIES, GALLERY), paraphrase=True)


def test_recall_of_paired_retrieval_against_sorting() -> None:
    owners = np.sort(RNG.integers(0, 15, 40))
    images, texts = RNG.normal(size=(15, 8)), RNG.normal(size=(40, 8))
    texts += 2 * images[owners]
    study = evaluate(PairedRetrieval(images, texts, owners=owners), ["none"], noises=[])
    distance = np.linalg.norm(images[:, None] - texts[None], axis=2)
    for row, order, hit in (
        (study.closers[0], distance.argsort(axis=1), lambda i, j: owners[j] == i),
        (study.closers[1], distance.T.argsort(axis=1), lambda i, j: owners[i] == j),
    ):
        for k, value in row["recall"].items():
            expected = np.mean(
                [any(hit(i, j) for j in line[: int(k)]) for i, line in enumerate(order)]
            )
            assert value == pytest.approx(expected)
    assert set(study.gap) == {"a -> b", "b -> a"}


def test_multiple_choice_and_mixed_galleries_run_through_all_noises() -> None:
    candidates = RNG.normal(size=(40, 4, 12))
    answers = RNG.integers(0, 4, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        choice = evaluate(
            MultipleChoice(QUERIES, candidates, answers),
            ["none", "recenter", "affine"],
            noises=[Gaussian(0.2), Gaussian(0.2, side="queries"), Bins(6)],
        )
    assert [row["agreement"] for row in choice.closers] == [1, 1, 1]
    decided = np.linalg.norm(candidates - QUERIES[:, None], axis=2).argmin(axis=1)
    assert choice.closers[0]["clean_accuracy"] == pytest.approx((decided == answers).mean())
    mixed = evaluate(
        MixedRetrieval(QUERIES[:20], GALLERY, QUERIES[20:], np.arange(20) % 6),
        ["none", "recenter", "mean-shift"],
    )
    assert [row["exact"] for row in mixed.closers] == [True, True, False]
    # Companions lie with the queries: without closing they crowd out the gallery.
    assert mixed.closers[0]["clean_accuracy"] < mixed.closers[2]["clean_accuracy"] + 1e-9


def test_fragile_lists_the_least_stable_queries_first() -> None:
    study = evaluate(ZeroShot(QUERIES, GALLERY, LABELS), ["none"], noises=[Gaussian(0.5)])
    fragile = study.fragile(5)
    values = study.details[0].outcomes[0].stability
    assert [entry["stability"] for entry in fragile] == np.sort(values)[:5].tolist()
    assert fragile[0]["decision"] == brute(QUERIES, GALLERY)[fragile[0]["query"]]
    with pytest.raises(ArgumentError, match="`row` must be between 0 and 0; got 3"):
        study.fragile(5, row=3)


def test_best_respects_the_wanted_agreement() -> None:
    sample = load_sample()
    study = evaluate(sample.task(), ["none", "affine", "center"], noises=[Gaussian(0.04), Bins(16)])
    assert study.best()["method"] == "affine"
    assert study.best(min_agreement=0.9)["method"] == "center"
    assert study.best(noise="bins:16")["method"] == "affine"
    with pytest.raises(ArgumentError, match="no row has agreement >= 1 and a stability under 'x'"):
        study.best(noise="x")
    assert len(study.table()) == 6


def test_fitted_closures_are_used_as_they_are() -> None:
    closure = closers.fit("affine", QUERIES[:10], GALLERY)
    study = evaluate(ZeroShot(QUERIES, GALLERY), [closure], noises=[])
    assert study.details[0].closure is closure
    other = closers.fit("recenter", QUERIES[:, :5], GALLERY[:, :5])
    with pytest.raises(ClosureError, match="dimension 5; the task has dimension 12"):
        evaluate(ZeroShot(QUERIES, GALLERY), [other])


def test_a_full_rank_gallery_warns_once_and_in_its_row() -> None:
    gallery = RNG.normal(size=(40, 12))
    with pytest.warns(ClosureWarning, match=r"r = d") as caught:
        study = evaluate(ZeroShot(QUERIES, gallery), ["orthogonal"], alphas=(0.5, 1), noises=[])
    assert len(caught) == 1
    assert "r = d" in study.closers[1]["warnings"][0]


@pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
def test_exact_closers_keep_every_decision_of_real_embeddings(real_data: Any, metric: str) -> None:
    images, texts, labels = (
        real_data("caltech101_clip_vitb32", f"{name}.npy") for name in ("images", "texts", "labels")
    )
    task = ZeroShot(images, texts, labels, metric=metric)
    study = evaluate(task, ["none", "recenter", "orthogonal", "affine"], noises=[])
    assert len(study.closers) == 16
    assert all(row["exact"] and row["agreement"] == 1 for row in study.closers)
