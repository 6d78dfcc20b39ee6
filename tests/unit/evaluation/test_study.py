"""Evaluate and Study: every figure against a plain computation of its own."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.errors import ArgumentError, ClosureError, ClosureWarning
from modgap.evaluation import (
    MixedRetrieval,
    MultipleChoice,
    PairedRetrieval,
    Study,
    Task,
    ZeroShot,
    evaluate,
)
from modgap.robustness.noise import Bins, Gaussian, Uniform, parse

RNG = np.random.default_rng(11)
QUERIES = RNG.normal(size=(40, 12)) + 1.5
GALLERY = RNG.normal(size=(6, 12))
LABELS = RNG.integers(0, 6, 40)


def task(**options: Any) -> ZeroShot:
    return ZeroShot(QUERIES, GALLERY, LABELS, **{"metric": "euclidean", **options})


def brute(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.linalg.norm(queries[:, None] - gallery[None], axis=2).argmin(axis=1)


def test_agreement_and_accuracies_are_those_of_a_brute_force_search() -> None:
    methods = ["none", "orthogonal", "affine"]
    study = evaluate(task(), methods, noises=[Bins(5)])
    before = brute(QUERIES, GALLERY)
    for row, name in zip(study, methods, strict=True):
        closure = closers.fit(name, QUERIES, GALLERY, metric="euclidean")
        y, x = closure.apply_queries(QUERIES), closure.apply_gallery(GALLERY)
        decided, stored = brute(y, x), brute(y, Bins(5).apply(x))
        assert (row.label, row.exact, row.folds) == (name, True, 0)
        assert row.agreement == (decided == before).mean() == 1
        assert row.clean_accuracy == (decided == LABELS).mean()
        assert row.gap_after == pytest.approx(np.linalg.norm(y.mean(0) - x.mean(0)), abs=1e-12)
        result = row.under("bins:5")
        assert result.stability == pytest.approx((stored == decided).mean())
        assert result.retention == pytest.approx((stored == before).mean())
        assert result.noisy_accuracy == pytest.approx((stored == LABELS).mean())
        assert result.estimator == "deterministic"


def test_what_can_change_answers_is_judged_by_closures_that_have_not_seen_the_query() -> None:
    study = evaluate(task(), ["center", "mean-shift"], noises=[Bins(5)], folds=4, seed=3)
    before = brute(QUERIES, GALLERY)
    parts = np.array_split(np.random.default_rng([3, 40]).permutation(40), 4)
    for row in study:
        decided, stored = np.zeros(40, int), np.zeros(40, int)
        for part in parts:
            rest = np.setdiff1d(np.arange(40), part)
            closure = closers.fit(row.method, QUERIES[rest], GALLERY, metric="euclidean")
            y, x = closure.apply_queries(QUERIES[part]), closure.apply_gallery(GALLERY)
            decided[part], stored[part] = brute(y, x), brute(y, Bins(5).apply(x))
        assert (row.folds, row.held_out, row.exact) == (4, True, False)
        assert np.array_equal(row.decisions, decided)
        assert row.agreement == (decided == before).mean() < 1
        assert row.clean_accuracy == (decided == LABELS).mean()
        assert row.under(Bins(5)).retention == pytest.approx((stored == before).mean())
        assert row.changed + row.ties == (decided != before).sum()
        # The closure to save is the one of all rows.
        whole = closers.fit(row.method, QUERIES, GALLERY, metric="euclidean")
        assert np.allclose(row.closure.apply_queries(QUERIES), whole.apply_queries(QUERIES))


def test_a_rotation_fitted_to_pairs_is_not_praised_for_the_pairs_it_saw() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(60, 30)), rng.normal(size=(60, 30))  # nothing to learn
    pairs = PairedRetrieval(images, texts)
    held_out = evaluate(pairs, ["procrustes"], noises=[]).rows[0].clean_accuracy
    closure = closers.fit("procrustes", images, texts)
    seen = evaluate(pairs, [closure], noises=[]).rows[0].clean_accuracy
    assert held_out is not None
    assert seen is not None
    assert seen > 0.5  # what the same rows would have shown
    assert held_out < 0.15  # chance is 1 in 60


def test_exact_figures_agree_with_a_plain_monte_carlo() -> None:
    study = evaluate(task(), "affine", noises="gaussian:0.4")
    closure = study["affine"].closure
    y, x = closure.apply_queries(QUERIES), closure.apply_gallery(GALLERY)
    before = brute(QUERIES, GALLERY)
    draws = [brute(y, x + 0.4 * RNG.normal(size=x.shape)) for _ in range(1500)]
    kept = np.array([(d == before).mean() for d in draws])
    right = np.array([(d == LABELS).mean() for d in draws])
    result = study["affine"].under("gaussian:0.40")
    # Four standard errors of the sample's own means.
    assert abs(result.retention - kept.mean()) < 4 * kept.std() / np.sqrt(1500)
    assert result.noisy_accuracy is not None
    assert abs(result.noisy_accuracy - right.mean()) < 4 * right.std() / np.sqrt(1500)
    assert (result.stderr, result.estimator) == (0.0, "exact")


def test_sampled_noise_reports_its_error_and_its_draws() -> None:
    noises = [Gaussian(0.3, side="queries"), Uniform(0.5)]
    results = evaluate(task(), ["none"], noises=noises, draws=30).rows[0].results
    for result in results:
        assert result.estimator == "monte carlo (30 draws)"
        assert result.stderr is not None
        assert 0 < result.stderr < 0.05
    again = evaluate(task(), ["none"], noises=noises[:1], draws=30).rows[0].results[0]
    assert again.to_dict() == results[0].to_dict()


def test_alphas_multiply_only_the_methods_that_take_them() -> None:
    study = evaluate(task(), ["none", "orthogonal", "affine"], alphas=(0, 0.5, 1), noises=[])
    assert [(row.method, row.alpha) for row in study] == [
        ("none", None),
        *[("orthogonal", alpha) for alpha in (0, 0.5, 1)],
        *[("affine", alpha) for alpha in (0, 0.5, 1)],
    ]
    assert [row.label for row in study][1:4] == ["orthogonal 0", "orthogonal 0.5", "orthogonal"]
    assert all(row.exact and row.agreement == 1 for row in study)


@pytest.mark.parametrize(
    ("closer", "noise"),
    [
        ("affine", "bins:5"),
        (["affine"], Bins(5)),
        (("affine",), [Bins(5)]),
        ((name for name in ["affine"]), (word for word in ["bins:5"])),
    ],
)
def test_one_or_many_words_or_objects_mean_the_same(closer: Any, noise: Any) -> None:
    study = evaluate(task(), closer, 1, noise)
    assert (
        study["affine"].to_dict()
        == evaluate(task(), ["affine"], noises=[Bins(5)])["affine"].to_dict()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": QUERIES}, "`task` must be a task such as ZeroShot"),
        ({"closers": []}, "`closers` must name at least one; got none"),
        ({"closers": [3]}, "`closers` must hold names and closures; got int"),
        ({"closers": "afine"}, "`method` must be one of"),
        ({"closers": "affine:cosin"}, "`metric` must be one of cosine, ip, euclidean; got 'cosin'"),
        ({"alphas": []}, "`alphas` must name at least one; got none"),
        ({"noises": "gausian:1"}, "gausian:1"),
        ({"noises": [3]}, "`noises` must hold words such as gaussian:0.022, or noises; got int"),
        ({"folds": 1}, "`folds` must be at least 2; got 1"),
        ({"paraphrase": True}, r"shape \(t, n, d\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        evaluate(**{"task": task(), **arguments})


def test_the_json_document_has_the_promised_names_and_one_shape() -> None:
    study = evaluate(task(), ["none", "affine"], noises=[Gaussian(0.1)])
    document = json.loads(study.to_json())
    names = "schema modgap task remarks gap gaps closers settings"
    assert set(document) == set(names.split())
    assert set(document["task"]) == {"kind", "queries", "gallery", "dimension", "rank", "metric"}
    promised = "method alpha n_components exact gap_after clean_accuracy agreement noises"
    assert set(promised.split()) <= set(document["closers"][0])
    noise = "noise side stability stability_stderr retention noisy_accuracy estimator"
    assert set(noise.split()) <= set(document["closers"][0]["noises"][0])
    assert document["task"]["rank"] == document["closers"][1]["n_components"] == 5
    pairs = evaluate(PairedRetrieval(QUERIES, QUERIES[::-1]), ["none"], noises=[]).to_dict()
    assert set(pairs["gap"]) == set(document["gap"])
    assert [gap["problem"] for gap in pairs["gaps"]] == ["a -> b", "b -> a"]
    assert document["settings"]["noises"] == ["gaussian:0.1"]


def test_records_are_found_by_label_compare_by_identity_and_print_shortly() -> None:
    study = evaluate(task(), ["none", "affine"], noises=["gaussian:0.1", "gaussian:0.1@queries"])
    row = study["affine"]
    assert row is study["affine", row.problem]
    assert row == row
    assert row != study["none"]
    assert row.under("gaussian:0.1").side == "gallery"
    assert row.under(Gaussian(0.1, side="queries")).side == "queries"
    assert len(repr(study)) < 200
    assert len(repr(row)) < 200
    assert len(repr(row.results)) < 400
    with pytest.raises(KeyError, match="it has none, affine"):
        study["center"]
    with pytest.raises(ArgumentError, match=r"the study has no noise int8; it has gaussian:0\.1"):
        row.under("int8")
    assert "<table>" in study._repr_html_()
    assert study._repr_html_().count("<tr>") == 3


def test_a_table_has_one_flat_row_per_closer_and_noise_and_becomes_a_frame() -> None:
    study = evaluate(task(), ["none", "affine"], noises=["gaussian:0.1", "bins:4"])
    table = study.table()
    assert [(row["method"], row["noise"]) for row in table][1:3] == [
        ("none", "bins:4"),
        ("affine", "gaussian:0.1"),
    ]
    assert all(not isinstance(value, list | dict) for row in table for value in row.values())
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert isinstance(study.to_frame(), pandas.DataFrame)


def test_paraphrase_applies_one_templates_closure_to_anothers_texts() -> None:
    sample = load_sample()
    study = evaluate(
        sample.task(metric="euclidean"), ["none", "affine"], noises=[], paraphrase=True
    )
    y = study["affine"].closure.apply_queries(sample.images)
    before = brute(sample.images, sample.texts[0])
    for j in (1, 7):
        name = f"paraphrase:{sample.templates[j]}"
        decided = brute(y, study["affine"].closure.apply_gallery(sample.texts[j]))
        assert study["affine"].under(name).retention == pytest.approx((decided == before).mean())
        plain = brute(sample.images, sample.texts[j])
        assert study["none"].under(name).retention == pytest.approx((plain == before).mean())


def test_recall_of_paired_retrieval_against_sorting() -> None:
    owners = np.sort(RNG.integers(0, 15, 40))
    images, texts = RNG.normal(size=(15, 8)), RNG.normal(size=(40, 8))
    texts += 2 * images[owners]
    pairs = PairedRetrieval(images, texts, owners=owners, metric="euclidean")
    study = evaluate(pairs, ["none"], noises=[])
    distance = np.linalg.norm(images[:, None] - texts[None], axis=2)
    for row, order, hit in (
        (study.rows[0], distance.argsort(axis=1), lambda i, j: owners[j] == i),
        (study.rows[1], distance.T.argsort(axis=1), lambda i, j: owners[i] == j),
    ):
        assert row.recall is not None
        for k, value in row.recall.items():
            expected = [any(hit(i, j) for j in line[: int(k)]) for i, line in enumerate(order)]
            assert value == pytest.approx(np.mean(expected))


def test_recall_survives_a_task_that_is_rebuilt() -> None:
    pairs = PairedRetrieval(QUERIES, QUERIES + 0.1)
    again = Task(pairs.kind, pairs.metric, pairs.problems[:1])
    assert evaluate(again, "none", noises=[]).rows[0].recall == {"1": 1.0, "5": 1.0, "10": 1.0}


def test_multiple_choice_and_mixed_galleries_run_through_all_noises() -> None:
    candidates = RNG.normal(size=(40, 4, 12))
    answers = RNG.integers(0, 4, 40)
    noises = [Gaussian(0.2), Gaussian(0.2, side="queries"), Bins(6)]
    choice = MultipleChoice(QUERIES, candidates, answers, metric="euclidean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        study = evaluate(choice, ["none", "recenter", "affine", "center"], noises=noises)
    assert [row.agreement for row in study.rows[:3]] == [1, 1, 1]
    decided = np.linalg.norm(candidates - QUERIES[:, None], axis=2).argmin(axis=1)
    assert study["none"].clean_accuracy == pytest.approx((decided == answers).mean())
    texts = RNG.normal(size=(20, 12)) + 4
    mixed = MixedRetrieval(
        texts,
        np.concatenate([texts - 8, texts + 0.5]),
        ["image"] * 20 + ["text"] * 20,
        np.arange(20),
        query_modalities="text",
        metric="euclidean",
    )
    found = evaluate(mixed, ["none", "recenter", "mean-shift"])
    assert [row.exact for row in found] == [True, True, False]
    # Items of the queries' kind lie with them: without closing they crowd out the others.
    assert found["none"].clean_accuracy == 0
    assert found["mean-shift"].clean_accuracy > 0.3


def test_fragile_lists_the_least_stable_queries_first() -> None:
    row = evaluate(task(), ["none"], noises=[Gaussian(0.5)])["none"]
    fragile = row.fragile(5)
    values = row.results[0].outcome.stability
    assert [entry["stability"] for entry in fragile] == np.sort(values)[:5].tolist()
    assert fragile[0]["decision"] == brute(QUERIES, GALLERY)[fragile[0]["query"]]
    with pytest.raises(ArgumentError, match="no noise to be fragile under"):
        evaluate(task(), ["none"], noises=[])["none"].fragile()


def test_best_respects_the_wanted_agreement_and_judges_by_retention() -> None:
    study = evaluate(
        load_sample().task(), ["none", "affine", "center"], noises=["gaussian:0.04", "bins:16"]
    )
    assert study.best().label == "affine"
    everything = study.best(min_agreement=0.5)
    assert np.mean([r.retention for r in everything.results]) == max(
        np.mean([r.retention for r in row.results]) for row in study
    )
    with pytest.raises(ArgumentError, match="the study has no noise x"):
        study.best(noise="x")
    with pytest.raises(ArgumentError, match="no row has agreement >= 1 and a noise"):
        Study(study.task, study.gaps, (study["center"],)).best()


def test_fitted_closures_are_used_as_they_are() -> None:
    closure = closers.fit("affine", QUERIES[:10], GALLERY, metric="euclidean")
    study = evaluate(task(), closure, noises=[])
    assert study.rows[0].closure is closure
    other = closers.fit("recenter", QUERIES[:, :5], GALLERY[:, :5], metric="euclidean")
    with pytest.raises(ClosureError, match="dimension 5; the task has dimension 12"):
        evaluate(task(), [other])


def test_a_promise_that_fails_on_the_data_is_withdrawn_in_one_sentence() -> None:
    elsewhere = closers.fit("affine", QUERIES, GALLERY[:3], metric="euclidean")
    assert elsewhere.exact
    with pytest.warns(ClosureWarning, match="fitted to another gallery; the promise is withdrawn"):
        study = evaluate(task(), elsewhere, noises=[])
    row = study.rows[0]
    assert not row.exact
    assert row.changed == (row.decisions != brute(QUERIES, GALLERY)).sum() > 0
    assert "promises to keep every answer" in row.notes[0]
    lying = replace(closers.fit("center", QUERIES, GALLERY, metric="euclidean"), bound=0.0)
    with pytest.warns(ClosureWarning, match="the promise is withdrawn"):
        assert not evaluate(task(), lying, noises=[]).rows[0].exact


def test_where_everything_is_a_tie_nothing_is_promised(real_data: Any) -> None:
    images, texts = (real_data("caltech101_clip_vitb32", f"{n}.npy") for n in ("images", "texts"))
    far = np.float32(1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        study = evaluate(
            ZeroShot(images + far, texts[3] + far, metric="ip"), ["recenter", "affine"], noises=[]
        )
    assert not any(row.exact for row in study if row.agreement < 0.99)


def test_fewer_components_are_exact_only_where_every_margin_is_wider_than_the_bound() -> None:
    rng = np.random.default_rng(2)
    gallery = np.zeros((4, 6))
    gallery[[0, 1, 2, 3], [0, 1, 2, 2]] = [9, 9, 9, -9]
    gallery += 1e-4 * rng.normal(size=gallery.shape)
    queries = gallery[rng.integers(0, 4, 30)] + 0.1
    wide = ZeroShot(queries, gallery, metric="euclidean")
    row = evaluate(wide, "affine", noises=[], n_components=2).rows[0]
    assert not row.closure.exact
    assert row.closure.bound is not None
    assert (
        row.closure.resolution < row.closure.bound < 70
    )  # items lie 9 sqrt(2) apart: margins of 81
    assert row.exact
    rough = evaluate(task(), "affine", noises=[], n_components=1).rows[0]
    assert not rough.exact


def test_a_full_rank_gallery_warns_once_and_in_its_row() -> None:
    gallery = RNG.normal(size=(40, 12))
    with pytest.warns(ClosureWarning, match=r"r = d") as caught:
        study = evaluate(ZeroShot(QUERIES, gallery), ["orthogonal"], alphas=(0.5, 1), noises=[])
    assert len(caught) == 1
    assert "r = d" in study.rows[1].notes[0]


@pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
def test_exact_closers_keep_every_decision_of_real_embeddings(real_data: Any, metric: str) -> None:
    images, texts, labels = (
        real_data("caltech101_clip_vitb32", f"{name}.npy") for name in ("images", "texts", "labels")
    )
    study = evaluate(
        ZeroShot(images, texts, labels, metric=metric),
        ["none", "recenter", "orthogonal", "affine", "scaled"],
        noises=[],
    )
    assert len(study) == 20
    assert all(row.exact and row.agreement == 1 for row in study)


def test_copies_in_the_gallery_are_remarked_before_any_figure() -> None:
    copied = ZeroShot(QUERIES, np.concatenate([GALLERY, GALLERY[:2]]), LABELS)
    remarks = evaluate(copied, "none", noises=[]).remarks
    assert "copies-in-gallery" in {remark.code for remark in remarks}
    assert "copies-in-gallery" not in {
        remark.code for remark in evaluate(task(), "none", noises=[]).remarks
    }


def nearest_by_hand(queries: np.ndarray, gallery: np.ndarray, k: int) -> list[set[int]]:
    distances = np.linalg.norm(queries[:, None] - gallery[None], axis=2)
    return [set(row) for row in np.argsort(distances, axis=1)[:, :k].tolist()]


def test_recall_is_of_the_exact_nearest_items_before_closing() -> None:
    gallery = RNG.normal(size=(30, 12))
    study = evaluate(
        ZeroShot(QUERIES, gallery, metric="euclidean"),
        ["recenter", closers.fit("affine", QUERIES, gallery, metric="euclidean", n_components=5)],
        noises=["bits:2", "gaussian:0.1"],
    )
    truth = nearest_by_hand(QUERIES, gallery, 10)
    for row in study:
        y, x = row.closure.apply_queries(QUERIES), row.closure.apply_gallery(gallery)
        for kept, stored in (
            (row.kept, x),
            (row.under("bits:2").recall, parse("bits:2").apply(x)),
        ):
            shared = [
                len(a & b) / 10 for a, b in zip(truth, nearest_by_hand(y, stored, 10), strict=True)
            ]
            assert kept is not None
            assert kept.keys() == {"1", "10"}  # of thirty items a hundred cannot be missed
            assert kept["10"] == pytest.approx(np.mean(shared))
        assert row.under("gaussian:0.1").recall is None
    exact, loose = study.rows
    assert exact.kept == {"1": 1.0, "10": 1.0}
    assert (loose.kept or {})["10"] < 1
    table = study.table()
    assert table[0]["noisy_recall_10"] == exact.results[0].recall["10"]  # type: ignore[index]
    assert "noisy_recall_10" not in table[1]


def test_what_is_made_for_its_queries_is_judged_by_others() -> None:
    (row,) = evaluate(task(metric="ip"), "balanced", noises="bins:5").rows
    assert (row.exact, row.folds, row.agreement) == (True, 5, 1.0)
