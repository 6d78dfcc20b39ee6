"""Multiple choice where queries have different numbers of candidates: as if each stood alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgap import Gaussian, MultipleChoice, closers, evaluate
from modgap.cli import main
from modgap.decisions.choices import lay_out, present_rows
from modgap.errors import DataError, ShapeError
from modgap.robustness import candidate_win_probability
from modgap.robustness.codes import Bins

RNG = np.random.default_rng(3)
COUNTS = RNG.integers(1, 6, 40)
QUERIES = RNG.normal(size=(40, 16))
#: They span ten of the sixteen dimensions.
CHOICES = [np.hstack([RNG.normal(size=(count, 10)) + 1, np.ones((count, 6))]) for count in COUNTS]
ANSWERS = RNG.integers(0, COUNTS)


def padded(value: float = np.nan) -> np.ndarray:
    out = np.full((40, 5, 16), value)
    for row, own in zip(out, CHOICES, strict=True):
        row[: len(own)] = own
    return out


def task(**options: Any) -> MultipleChoice:
    return MultipleChoice(QUERIES, CHOICES, ANSWERS, **options)


def alone(i: int, queries: np.ndarray, own: np.ndarray, metric: str) -> int:
    y = queries[i]
    if metric == "euclidean":
        return int(np.argmin(((own - y) ** 2).sum(axis=1)))
    scores = own @ y
    if metric == "cosine":
        scores = scores / np.sqrt((own**2).sum(axis=1))
    return int(np.argmax(scores))


def test_padding_of_any_values_changes_nothing() -> None:
    listed = evaluate(task(), ["none", "affine", "balanced"], noises=["gaussian:0.3", "bins:8"])
    given = MultipleChoice(QUERIES, padded(), ANSWERS, counts=COUNTS)
    again = evaluate(given, ["none", "affine", "balanced"], noises=["gaussian:0.3", "bins:8"])
    assert listed.to_dict() == again.to_dict()


@pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean"])
def test_decisions_are_those_among_the_own_candidates(metric: str) -> None:
    row = evaluate(task(metric=metric), "none", noises=()).rows[0]
    expected = [alone(i, QUERIES, own, metric) for i, own in enumerate(CHOICES)]
    assert row.decisions.tolist() == expected
    assert row.clean_accuracy == np.mean(np.array(expected) == ANSWERS)


def test_closers_see_the_candidates_that_are_there_and_keep_every_answer() -> None:
    problem = task(metric="ip").problems[0]
    np.testing.assert_array_equal(problem.gallery_rows, np.concatenate(CHOICES))
    study = evaluate(task(metric="ip"), ["affine", "balanced", "center"], noises=())
    assert study["affine"].exact
    direct = closers.fit("affine", QUERIES, np.concatenate(CHOICES), metric="ip")
    np.testing.assert_allclose(
        study["affine"].closure.queries(QUERIES), direct.queries(QUERIES), atol=1e-12
    )
    assert study["affine"].agreement == 1.0
    assert study["center"].decisions.max() < 5


def test_the_exact_integral_is_that_of_each_query_alone() -> None:
    found = evaluate(task(metric="ip"), "none", noises="gaussian:0.5").rows[0].results[0].outcome
    assert found.estimator == "exact"
    for i, own in enumerate(CHOICES):
        target = np.array([alone(i, QUERIES, own, "ip")])
        alone_wins = candidate_win_probability(
            QUERIES[i : i + 1], own[None], target, [0.5], metric="ip"
        )
        # the same integral on nodes that other competitors placed: 1e-6 is its own error
        assert found.stability[i] == pytest.approx(alone_wins[0, 0], abs=1e-5)


@pytest.mark.parametrize("noise", ["gaussian:0.5", "gaussian:0.5:before", "gaussian:0.5:queries"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_sampled_noise_never_lets_padding_win(noise: str, metric: str) -> None:
    if noise.endswith("queries"):
        noise = "gaussian:0.5@queries"
    found = evaluate(task(metric=metric), "mean-shift", noises=noise, draws=50, folds=2)
    outcome = found.rows[0].results[0].outcome
    single = COUNTS == 1
    assert single.any()
    np.testing.assert_allclose(
        outcome.stability[single], 1.0, atol=1e-9
    )  # the exact integral's rounding
    assert outcome.stability[~single].mean() < 1


def test_codes_are_learnt_from_the_candidates_that_are_there() -> None:
    found = evaluate(task(metric="ip"), "none", noises="bins:4").rows[0].results[0].outcome
    stored = np.asarray(Bins(4).apply(np.concatenate(CHOICES)))
    ends = np.cumsum(COUNTS)
    for i, own in enumerate(CHOICES):
        back = stored[ends[i] - len(own) : ends[i]]
        same = alone(i, QUERIES, back, "ip") == alone(i, QUERIES, own, "ip")
        assert found.stability[i] == float(same)


def test_relative_noise_is_relative_to_what_is_there() -> None:
    crowded = [own[:1] for own in CHOICES[:-1]]
    many = [*crowded, RNG.normal(size=(30, 16)) + 2]
    asked = MultipleChoice(QUERIES, many, metric="euclidean")
    rows = np.concatenate(many)
    spread = np.sqrt(((rows - rows.mean(axis=0)) ** 2).mean())
    relative = evaluate(asked, "none", noises="gaussian:0.3:relative").rows[0].results[0].outcome
    fixed = evaluate(asked, "none", noises=Gaussian(0.3 * float(spread))).rows[0].results[0].outcome
    np.testing.assert_allclose(relative.stability, fixed.stability, atol=1e-9)


def test_laid_out_rows_come_back(xp: Any) -> None:
    present = np.arange(5) < COUNTS[:, None]
    rows = xp.asarray(np.concatenate(CHOICES))
    table = lay_out(rows, present)
    np.testing.assert_array_equal(np.asarray(present_rows(table, present)), np.asarray(rows))
    np.testing.assert_array_equal(
        np.asarray(table)[~present], np.repeat(np.asarray(table)[:, 0], 5 - COUNTS, axis=0)
    )


def test_what_does_not_fit_is_one_line() -> None:
    wrong = ANSWERS.copy()
    row = int(np.argmin(COUNTS))
    wrong[row] = COUNTS[row]
    with pytest.raises(DataError, match=rf"`answers` row {row} .* has 1 candidates"):
        MultipleChoice(QUERIES, CHOICES, wrong)
    for candidates, options, error, words in (
        (CHOICES[:-1], {}, ShapeError, "one set per query"),
        ([], {}, ShapeError, "got none"),
        (CHOICES, {"counts": COUNTS}, ShapeError, "a list says itself"),
        ([*CHOICES[:-1], np.ones((2, 3))], {}, ShapeError, r"widths \[3, 16\]"),
        ([*CHOICES[:-1], np.ones((0, 16))], {}, ShapeError, r"candidates\[39\]"),
        (padded(0.0), {"counts": np.zeros(40, int)}, DataError, r"\[1, 6\)"),
        (padded(0.0), {"counts": COUNTS[:3]}, ShapeError, "one entry per row"),
        (padded(), {}, DataError, "NaN"),
    ):
        with pytest.raises(error, match=words):
            MultipleChoice(QUERIES, candidates, **options)


def test_the_command_takes_candidates_in_one_gallery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    owners = np.repeat(np.arange(40), COUNTS)
    order = RNG.permutation(owners.size)
    order = order[np.argsort(order % 2, kind="stable")]  # mixed up, not only shifted
    mixed = np.concatenate(CHOICES)[order]
    places = [np.flatnonzero(owners[order] == i) for i in range(40)]
    np.save("q.npy", QUERIES)
    np.save("g.npy", mixed)
    np.save("o.npy", owners[order])
    np.save("a.npy", np.zeros(40, dtype=int))
    words = "evaluate --queries q.npy --gallery g.npy --owners o.npy --answers a.npy --methods none"
    assert main([*words.split(), "--noise", "bins:8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    same = MultipleChoice(QUERIES, [mixed[place] for place in places], np.zeros(40, dtype=int))
    expected = evaluate(same, "none", noises="bins:8").to_dict()
    assert found["closers"] == json.loads(json.dumps(expected["closers"]))
    assert found["task"]["kind"] == "multiple-choice"
    np.save("o.npy", np.zeros(owners.size, dtype=int))
    assert main([*words.split()]) == 2
    assert "no candidate of query 1 (of 39" in capsys.readouterr().err
