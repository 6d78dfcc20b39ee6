"""Probabilities before closing and after it, against direct computations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from modgap import MultipleChoice, PairedRetrieval, ZeroShot, calibration, load_sample
from modgap.cli import main
from modgap.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(5)
CENTERS = np.hstack([RNG.normal(size=(7, 9)), np.full((7, 3), 2.0)])
LABELS = RNG.integers(0, 7, 300)
QUERIES = CENTERS[LABELS] + RNG.normal(size=(300, 12)) * 1.5 - 1
TASKS = {
    metric: ZeroShot(QUERIES, CENTERS, LABELS, metric=metric)
    for metric in ("cosine", "ip", "euclidean")
}


def scores(metric: str) -> np.ndarray:
    if metric == "euclidean":
        return -0.5 * ((QUERIES[:, None, :] - CENTERS[None]) ** 2).sum(axis=2)
    out = QUERIES @ CENTERS.T
    if metric == "cosine":
        out /= np.linalg.norm(QUERIES, axis=1)[:, None] * np.linalg.norm(CENTERS, axis=1)
    return out


def direct_error(p: np.ndarray, bins: int, *, width: bool) -> float:
    """The mean over bins of |accuracy - confidence|, bin by bin."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == LABELS
    order = np.argsort(confidence, kind="stable")
    groups = [order[(np.arange(300) * bins // 300) == b] for b in range(bins)]
    if width:
        groups = [
            np.flatnonzero((confidence >= b / bins) & (confidence < (b + 1) / bins))
            for b in range(bins)
        ]
    return sum(len(g) / 300 * abs(right[g].mean() - confidence[g].mean()) for g in groups if len(g))


@pytest.mark.parametrize("metric", TASKS)
def test_a_softmax_is_judged_by_its_definitions(metric: str) -> None:
    scale = {"cosine": 8.0, "ip": 0.4, "euclidean": 0.4}[metric]
    row = calibration(TASKS[metric], logit_scale=scale, bins=10)["none"]
    p = softmax(scale * scores(metric), axis=1)
    own = p[np.arange(300), LABELS]
    assert row.accuracy == (p.argmax(axis=1) == LABELS).mean()
    assert row.confidence == pytest.approx(p.max(axis=1).mean())
    assert row.nll == pytest.approx(-np.log(own).mean())
    assert row.nll_stderr == pytest.approx(np.log(own).std(ddof=1) / math.sqrt(300))
    assert row.brier == pytest.approx(((p - np.eye(7)[LABELS]) ** 2).sum(axis=1).mean())
    assert row.ece == pytest.approx(direct_error(p, 10, width=False))
    assert row.ece_width == pytest.approx(direct_error(p, 10, width=True))
    assert [count for count, _, _ in row.bins] == [30] * 10
    assert sum(n * abs(c - r) for n, c, r in row.bins) / 300 == pytest.approx(row.ece)


def test_a_sigmoid_gives_each_class_a_probability() -> None:
    row = calibration(TASKS["cosine"], logit_scale=10.0, logit_bias=-3.0)["none"]
    p, truth = expit(10.0 * scores("cosine") - 3.0), np.eye(7)[LABELS]
    assert row.confidence == pytest.approx(p.max(axis=1).mean())
    losses = -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).sum(axis=1)
    assert row.nll == pytest.approx(losses.mean())
    brier = (p**2).sum(axis=1) - 2 * p[np.arange(300), LABELS] + 1
    assert row.brier == pytest.approx(((p - truth) ** 2).sum(axis=1).mean())
    assert row.brier == pytest.approx(brier.mean())


@pytest.mark.parametrize("bias", [None, -5.0])
def test_a_refitted_scale_is_the_likeliest_of_a_grid_on_the_other_half(bias: float | None) -> None:
    found = calibration(TASKS["cosine"], logit_scale=100.0, logit_bias=bias, seed=1)
    row = found["none", "refitted"]
    assert row.accuracy == found["none"].accuracy
    assert row.nll < found["none"].nll
    order = np.random.default_rng([1, 300]).permutation(300)
    total = 0.0
    for half in (order[:150], order[150:]):
        rest = np.setdiff1d(np.arange(300), half)
        best, chosen = math.inf, (1.0, 0.0)
        for scale in np.geomspace(1, 60, 60):
            for shift in np.linspace(-8, 2, 26) if bias is not None else (0.0,):
                loss = mean_loss(rest, scale, shift, sigmoid=bias is not None)
                if loss < best:
                    best, chosen = loss, (scale, shift)
        total += mean_loss(half, *chosen, sigmoid=bias is not None) / 2
    # the grid's own steps, 7 per cent of the scale and .4 of the bias, cost less than this
    assert row.nll == pytest.approx(total, abs=0.01)


def mean_loss(rows: np.ndarray, scale: float, shift: float, *, sigmoid: bool) -> float:
    logits = scale * scores("cosine")[rows] + shift
    truth = np.eye(7)[LABELS[rows]]
    if sigmoid:
        return float((np.logaddexp(0, logits) - truth * logits).sum(axis=1).mean())
    return float(-(truth * np.log(softmax(logits, axis=1))).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("metric", "closers"),
    [
        ("cosine", ["recenter", "affine", "balanced"]),
        ("ip", ["recenter", "affine", "balanced"]),
        ("euclidean", ["recenter", "orthogonal", "affine"]),
    ],
)
def test_what_keeps_decisions_keeps_every_softmax(metric: str, closers: list[str]) -> None:
    scale = 20.0 if metric == "cosine" else 0.5
    found = calibration(TASKS[metric], closers, logit_scale=scale)
    before = found["none"]
    for name in closers:
        row = found[name]
        assert row.moved < 1e-9, name
        for figure in ("accuracy", "confidence", "ece", "ece_width", "nll", "brier"):
            assert getattr(row, figure) == pytest.approx(getattr(before, figure), abs=1e-9), name
        assert found[name, "refitted"].logit_scale == pytest.approx(
            found["none", "refitted"].logit_scale, rel=1e-4
        )


def test_what_changes_scores_changes_a_softmax_and_a_constant_changes_a_sigmoid() -> None:
    found = calibration(TASKS["cosine"], ["center", "mean-shift"], logit_scale=20.0)
    assert found["center"].moved > 0.05
    assert found["mean-shift"].moved > 0.01
    exact = calibration(TASKS["cosine"], "affine", logit_scale=20.0, logit_bias=-8.0)
    assert exact["affine"].moved > 0.05
    assert exact["affine"].accuracy == exact["none"].accuracy


def test_bins_of_right_confidences_err_by_chance_alone() -> None:
    """Labels drawn from the probabilities themselves: the error is what chance makes of it."""
    rng = np.random.default_rng(0)
    images, classes = rng.normal(size=(2000, 8)), rng.normal(size=(5, 8))
    p = softmax(images @ classes.T, axis=1)
    labels = (p.cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1)
    row = calibration(ZeroShot(images, classes, labels, metric="ip"), logit_scale=1.0)["none"]
    assert abs(row.ece - row.ece_chance) < 3 * row.ece_stderr
    assert abs(row.confidence - row.accuracy) < 4 * math.sqrt(0.25 / 2000)
    wrong = calibration(ZeroShot(images, classes, labels, metric="ip"), logit_scale=3.0)
    assert wrong["none"].ece > 10 * wrong["none"].ece_stderr
    # one number mends it, to within three errors of a scale fitted to 1,000
    assert wrong["none", "refitted"].logit_scale == pytest.approx(1.0, abs=0.1)
    assert wrong["none", "refitted"].ece < wrong["none"].ece / 3


def test_choices_of_unequal_numbers_share_out_one() -> None:
    counts = RNG.integers(1, 5, 60)
    choices = [RNG.normal(size=(count, 6)) for count in counts]
    queries, answers = RNG.normal(size=(60, 6)), RNG.integers(0, counts)
    task = MultipleChoice(queries, choices, answers, metric="ip")
    row = calibration(task, logit_scale=0.7)["none"]
    losses = [
        -math.log(softmax(0.7 * own @ y)[a])
        for own, y, a in zip(choices, queries, answers, strict=True)
    ]
    np.testing.assert_allclose(row.judgement.loss, losses, rtol=1e-9, atol=1e-12)
    assert (row.judgement.confidence[counts == 1] == 1.0).all()
    sigmoid = calibration(task, logit_scale=0.7, logit_bias=-1.0)["none"]
    logits = [0.7 * own @ y - 1.0 for own, y in zip(choices, queries, strict=True)]
    direct = [np.logaddexp(0, x).sum() - x[a] for x, a in zip(logits, answers, strict=True)]
    np.testing.assert_allclose(sigmoid.judgement.loss, direct, rtol=1e-9)


def test_a_scale_ends_at_a_bound_where_the_loss_has_no_least() -> None:
    easy = ZeroShot(np.eye(4).repeat(5, axis=0), np.eye(4), np.arange(4).repeat(5))
    found = calibration(easy, logit_scale=10.0, bins=5)["none", "refitted"]
    assert found.nll < 1e-6
    assert math.isfinite(found.logit_scale)
    hopeless = ZeroShot(np.eye(4).repeat(5, axis=0), np.eye(4), (np.arange(4).repeat(5) + 1) % 4)
    found = calibration(hopeless, logit_scale=10.0, bins=5)["none", "refitted"]
    assert found.nll == pytest.approx(math.log(4), abs=0.01)


def test_every_template_has_rows_and_json_has_all_figures() -> None:
    task = load_sample().task()
    found = calibration(task, "affine", logit_scale=20.0)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(document["calibration"]) == 4 * len(task.problems)
    assert document["settings"]["logit_scale"] == 20.0
    assert set(document["calibration"][0]) >= {"ece", "nll", "brier", "bins", "moved", "ece_chance"}
    with pytest.raises(KeyError, match="there are none, affine"):
        found["orthogonal"]


@pytest.mark.parametrize(
    ("task", "options", "error", "words"),
    [
        (ZeroShot(QUERIES, CENTERS), {}, ArgumentError, "has no labels"),
        (PairedRetrieval(QUERIES, QUERIES), {}, ArgumentError, "got paired-retrieval"),
        (TASKS["cosine"], {"logit_scale": 0.0}, ArgumentError, "logit_scale"),
        (TASKS["cosine"], {"logit_bias": math.nan}, ArgumentError, "logit_bias"),
        (TASKS["cosine"], {"bins": 301}, ShapeError, "as many as `bins`, 301; got 300"),
        (TASKS["cosine"], {"bins": 0}, ArgumentError, "bins"),
        ("sample", {}, ArgumentError, "must be a task"),
    ],
)
def test_what_has_no_probabilities_is_one_line(
    task: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        calibration(task, **options)


def test_the_command_adds_them_to_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, values in (("q", QUERIES), ("g", CENTERS), ("l", LABELS)):
        np.save(f"{name}.npy", values)
    words = ["evaluate", "--queries", "q.npy", "--gallery", "g.npy", "--labels", "l.npy"]
    words += ["--methods", "none,affine"]
    assert main([*words, "--logit-scale", "20", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["calibration"]
    expected = calibration(TASKS["cosine"], "affine", logit_scale=20.0)
    assert rows == [json.loads(json.dumps(row.to_dict())) for row in expected]
    assert main([*words, "--logit-scale", "20", "--logit-bias", "-8"]) == 0
    assert "affine fitted" in capsys.readouterr().out
    for more, line in (
        (["--logit-bias", "-8"], "needs `--logit-scale`"),
        (["--logit-scale", "20", "--csv"], "take --json"),
    ):
        assert main([*words, *more]) == 2
        assert line in capsys.readouterr().err
