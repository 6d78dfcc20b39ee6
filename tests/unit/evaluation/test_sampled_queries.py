"""Large galleries: fewer queries are judged on, with the error that this brings; fits see others too."""

import json

import numpy as np
import pytest

from modgap import evaluate, load_sample
from modgap.cli import main
from modgap.evaluation import effort, problem
from modgap.evaluation.tasks import PairedRetrieval, ZeroShot

SAMPLE = load_sample()


@pytest.fixture
def large(monkeypatch):
    """The sample's task is large: 10 items leave 300 of 1,000 queries."""
    monkeypatch.setattr(effort, "PAIRS", 3000)
    monkeypatch.setattr(effort, "LEAST", 50)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", SAMPLE.images)
    np.save("g.npy", SAMPLE.texts[0])
    np.save("labels.npy", SAMPLE.labels)

    def call(*words):
        code = main(["evaluate", "--queries", "q.npy", "--gallery", "g.npy", "--labels", "labels.npy",
                     "--noise", "gaussian:0.2", *words])  # fmt: skip
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call


def test_a_task_is_cut_to_what_is_affordable(large):
    task = ZeroShot(SAMPLE.images, SAMPLE.texts[0], SAMPLE.labels)
    assert effort.affordable_queries(task) == 300
    drawn = task.judged_on(300, seed=4)
    (part,) = drawn.problems
    assert part.queries.shape == (300, 128)
    np.testing.assert_array_equal(part.queries, SAMPLE.images[part.judged_rows])
    np.testing.assert_array_equal(part.positives[:, 0], SAMPLE.labels[part.judged_rows])
    every = np.concatenate([part.queries, part.background])
    np.testing.assert_array_equal(np.sort(every, axis=0), np.sort(SAMPLE.images, axis=0))
    assert task.judged_on(1000, seed=4) is task
    assert effort.sample_of(task, task, 4) is None
    found = effort.sample_of(drawn, task, 4)
    assert found == {"queries": 300, "of": 1000, "seed": 4, "largest_stderr": 0.5 / 300**0.5}


def test_draws_are_fewer_where_each_disturbs_many_items(monkeypatch):
    task = ZeroShot(SAMPLE.images, SAMPLE.texts[0])
    assert effort.affordable_draws(task) == 100
    monkeypatch.setattr(effort, "_NUMBERS", 20 * SAMPLE.texts[0].size)
    assert effort.affordable_draws(task) == 20
    monkeypatch.setattr(effort, "_NUMBERS", 0)
    assert effort.affordable_draws(task) == 5


def test_the_figures_of_a_sample_are_within_its_error_and_the_fits_are_those_of_all(large, run):
    """What is fitted sees every query here (1,000 are fewer than 20,000), so the closures are the same."""
    whole, part = (json.loads(run("--json", "--sample", word)) for word in ("all", "300"))
    assert whole["sample"] is None
    assert part["sample"]["queries"] == 300
    assert json.loads(run("--json"))["sample"] == part["sample"]
    np.testing.assert_allclose(
        part["gap"]["centroid_gap"], whole["gap"]["centroid_gap"], rtol=1e-6  # another order of rows
    )  # fmt: skip
    error = part["sample"]["largest_stderr"]
    for one, all_ in zip(part["closers"], whole["closers"], strict=True):
        for name in ("clean_accuracy", "agreement"):
            assert abs(one[name] - all_[name]) < 4 * error
        (few,), (many,) = one["noises"], all_["noises"]
        assert abs(few["retention"] - many["retention"]) < 4 * error
    assert part["closers"][0]["clean_accuracy"] != whole["closers"][0]["clean_accuracy"]


def test_it_is_said_in_one_line(large, run):
    (line,) = [line for line in run().splitlines() if line.startswith("Judged on 300")]
    assert line.startswith(
        "Judged on 300 of 1,000 queries, drawn with seed 0: standard error of a share at most 0.029"
    )
    assert "Judged on 300" not in run("--sample", "all")


def test_fragile_queries_keep_their_place_among_all(large, run):
    (first, *_) = json.loads(run("--json", "--fragile", "1"))["fragile"]
    task = ZeroShot(SAMPLE.images, SAMPLE.texts[0], SAMPLE.labels)
    drawn = task.judged_on(300, seed=0)
    row = evaluate(drawn, ["none"], noises="gaussian:0.2").rows[0]
    place = row.fragile(1)[0]["query"]
    assert first["query"] == drawn.problems[0].judged_rows[place]
    listed = run("--fragile", "1").splitlines()
    assert any(line.split()[:1] == [str(first["query"])] for line in listed)


def test_held_out_and_paired_closers_know_the_other_queries(monkeypatch):
    """Two of eight queries are judged on; balanced and procrustes need more than that to be fitted."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 8))
    texts = images + 0.3 * rng.normal(size=(200, 8)) + 1
    monkeypatch.setattr(problem, "BACKGROUND", 150)
    drawn = PairedRetrieval(images, texts).judged_on(30, seed=1)
    study = evaluate(drawn, ["none", "balanced", "procrustes"], noises=[])
    assert {row.method for row in study.rows} == {"none", "balanced", "procrustes"}
    assert all(len(row.decisions) == 30 for row in study.rows)
    (balanced, _) = [row for row in study.rows if row.method == "balanced"]
    # Fitted to all but six of the 30, and 150 others, in the last of five folds.
    assert balanced.closure.info["queries"] == 180


@pytest.mark.parametrize("word", ["1", "none", "-3", "2.5"])
def test_a_sample_is_a_number_of_queries(run, tmp_path, capsys, word):
    code = main(["evaluate", "--queries", "q.npy", "--gallery", "g.npy", "--sample", word])
    assert code == 2
    assert "`--sample` must be" in capsys.readouterr().err
