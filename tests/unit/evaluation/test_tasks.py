"""Tasks: what is right, what is stored, and what a closure may promise."""

from __future__ import annotations

import numpy as np
import pytest

from modgap import closers
from modgap.decisions.metric import COSINE, EUCLIDEAN, as_metric
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ClosureError, DataError, ShapeError
from modgap.evaluation.tasks import MixedRetrieval, MultipleChoice, PairedRetrieval, ZeroShot

RNG = np.random.default_rng(3)
QUERIES = RNG.normal(size=(12, 6))
GALLERY = RNG.normal(size=(4, 6))


def test_zero_shot_makes_one_problem_per_template_and_knows_the_rephrasings() -> None:
    galleries = np.stack([GALLERY, GALLERY + 0.1, GALLERY - 0.1])
    labels = np.arange(12) % 4
    task = ZeroShot(QUERIES, galleries, labels, templates=["a", "b", "c"])
    assert [problem.name for problem in task.problems] == ["a", "b", "c"]
    assert list(task.problems[1].rephrased) == ["a", "c"]
    assert np.array_equal(task.problems[1].gallery, galleries[1])
    only = ZeroShot(QUERIES, galleries, labels, template=2)
    assert [problem.name for problem in only.problems] == ["template 2"]
    assert len(only.problems[0].rephrased) == 2
    assert task.describe() == {
        "kind": "zero-shot",
        "queries": 12,
        "gallery": 4,
        "dimension": 6,
        "metric": "cosine",
    }


def test_paired_retrieval_with_several_captions_an_image() -> None:
    owners = np.array([2, 0, 0, 1, 2, 2])
    task = PairedRetrieval(QUERIES[:3], QUERIES[3:9], owners=owners, names=("images", "texts"))
    forth, back = task.problems
    assert (forth.name, back.name) == ("images -> texts", "texts -> images")
    assert forth.positives is not None
    expected = [[j for j in range(6) if owners[j] == i] for i in range(3)]
    assert [[j for j in row if j >= 0] for row in forth.positives.tolist()] == expected
    assert back.positives is not None
    assert back.positives[:, 0].tolist() == owners.tolist()
    assert not forth.paired


def test_an_image_without_captions_has_no_right_answer() -> None:
    task = PairedRetrieval(QUERIES[:3], QUERIES[3:5], owners=[0, 0])
    assert task.problems[0].positives is not None
    assert task.problems[0].positives.tolist() == [[0, 1], [-1, -1], [-1, -1]]


def test_multiple_choice_fits_closers_to_all_candidates() -> None:
    candidates = RNG.normal(size=(12, 3, 6))
    task = MultipleChoice(QUERIES, candidates, np.zeros(12, dtype=int), metric="euclidean")
    problem = task.problems[0]
    assert problem.gallery_rows.shape == (36, 6)
    closure = closers.fit("recenter", QUERIES, problem.gallery_rows, metric="euclidean")
    system = problem.system(EUCLIDEAN, closure)
    assert system.own_candidates
    assert np.allclose(system.gallery, candidates - candidates.reshape(-1, 6).mean(axis=0))


COMPANIONS = RNG.normal(size=(5, 6))
#: Kinds in turn, so that nothing works by their order alone.
KINDS = np.array(["text", "image"] * 4 + ["text"])


def interleaved(images: np.ndarray) -> np.ndarray:
    items = np.empty((9, 6))
    items[KINDS == "image"], items[KINDS == "text"] = images, COMPANIONS
    return items


def mixed(images: np.ndarray = GALLERY, **more: object) -> MixedRetrieval:
    items = interleaved(images)
    return MixedRetrieval(QUERIES, items, KINDS, np.arange(12) % 9, **more)  # type: ignore[arg-type]


def test_a_mixed_gallery_moves_each_modality_by_its_own_map() -> None:
    task = mixed(query_modalities="text", metric="euclidean")
    problem = task.problems[0]
    closure = closers.fit("orthogonal", QUERIES, GALLERY, metric="euclidean")
    assert np.allclose(problem.gallery_rows, GALLERY)
    system = problem.system(EUCLIDEAN, closure)
    assert np.allclose(system.gallery[KINDS == "image"], closure.gallery(GALLERY))
    assert np.allclose(system.gallery[KINDS == "text"], COMPANIONS)
    assert closure.exact
    assert not problem.keeps_decisions(closure)
    assert task.describe()["gallery"] == 9
    merged = closers.calibrate(QUERIES, {"image": GALLERY, "text": COMPANIONS})
    found = problem.system(COSINE, merged).gallery
    assert np.allclose(found[KINDS == "image"], merged.apply_gallery(GALLERY, "image"))
    assert np.allclose(found[KINDS == "text"], merged.apply_gallery(COMPANIONS, "text"))


def test_queries_of_several_kinds_make_several_problems() -> None:
    asked = np.array(["image", "text", "text"] * 4)
    task = mixed(query_modalities=asked)
    assert [(p.name, p.own, p.queries.shape[0]) for p in task.problems] == [
        ("image -> all", "image", 4),
        ("text -> all", "text", 8),
    ]
    assert task.problems[1].positives is not None
    assert (
        task.problems[1].positives[:, 0].tolist() == (np.arange(12) % 9)[asked == "text"].tolist()
    )
    assert np.allclose(task.problems[0].gallery_rows, COMPANIONS)


def test_labels_say_what_answers() -> None:
    asked, given = np.array([7, 5, 9] * 4), np.array([5, 7, 5, 5, 7, 8, 8, 8, 8])
    items = interleaved(GALLERY)
    found = MixedRetrieval(QUERIES, items, KINDS, labels=(asked, given)).problems[0].positives
    assert found is not None
    for row, label in zip(found, asked, strict=True):
        assert [i for i in row if i >= 0] == np.flatnonzero(given == label).tolist()


def test_a_sample_keeps_some_items_of_every_modality() -> None:
    items, kinds = RNG.normal(size=(5000, 6)), ["image"] * 4940 + ["text"] * 60
    task = MixedRetrieval(QUERIES, items, kinds, np.arange(12))
    small = task.sampled(queries=5, items=150, seed=0).problems[0]
    assert {name: rows.size >= 50 for name, rows in small.by_modality().items()} == {
        "image": True, "text": True,
    }  # fmt: skip
    assert small.gallery.shape == (150, 6)
    assert small.positives is not None
    for query, row in zip(small.queries, small.positives[:, 0], strict=True):
        there = int(np.flatnonzero((query == QUERIES).all(axis=1))[0])
        assert np.array_equal(small.gallery[row], items[there])


@pytest.mark.parametrize(
    ("metric", "compare", "kept"),
    [
        ("euclidean", None, True),
        ("ip", None, False),
        ("cosine", None, False),
        ("cosine", "euclidean", True),
    ],
)
def test_recentring_keeps_a_mixed_gallery_only_where_both_sides_move(
    metric: str, compare: str | None, kept: bool
) -> None:
    # By product the queries' map is the identity: their companions stay, while the gallery moves.
    gallery = GALLERY + 3
    problem = mixed(gallery, query_modalities="text", metric=metric).problems[0]
    closure = closers.fit("recenter", QUERIES, gallery, metric=metric, compare=compare)
    assert closure.exact
    assert problem.keeps_decisions(closure) == kept
    systems = [problem.system(as_metric(metric), each) for each in (None, closure)]
    found = [nearest(s.queries, s.gallery, metric=s.comparison).indices for s in systems]
    assert np.array_equal(*found) == kept


def test_a_closure_of_another_metric_is_refused() -> None:
    problem = ZeroShot(QUERIES, GALLERY).problems[0]
    closure = closers.fit("affine", QUERIES, GALLERY, metric="ip")
    with pytest.raises(ClosureError, match="fitted for metric 'ip' and is used under 'cosine'"):
        problem.system(COSINE, closure)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ZeroShot(QUERIES, GALLERY, [0, 1]), ShapeError, "one entry per row .* 2 for 12"),
        (
            lambda: ZeroShot(QUERIES, GALLERY, [4] * 12),
            DataError,
            r"in \[0, 4\); got values from 4",
        ),
        (lambda: ZeroShot(QUERIES, GALLERY, ["x"] * 12), DataError, "integer indices"),
        (lambda: ZeroShot(QUERIES, GALLERY, template=1), ArgumentError, "between 0 and 0; got 1"),
        (
            lambda: ZeroShot(QUERIES, GALLERY[None], templates=["a", "b"]),
            ShapeError,
            "name 1 .* got 2",
        ),
        (
            lambda: ZeroShot(QUERIES, np.stack([GALLERY] * 2), templates=["a", "a"]),
            ArgumentError,
            "twice",
        ),
        (lambda: ZeroShot(QUERIES, GALLERY[:, :5]), ShapeError, r"\(12, 6\) and \(4, 5\)"),
        (
            lambda: ZeroShot(QUERIES[:0], GALLERY),
            ShapeError,
            r"at least 1 row\(s\); got shape \(0, 6\)",
        ),
        (lambda: ZeroShot(QUERIES, GALLERY * 0, metric="cosine"), DataError, "has no direction"),
        (lambda: ZeroShot(QUERIES, GALLERY, metric="l1"), ArgumentError, "one of cosine, ip, eu"),
        (lambda: PairedRetrieval(QUERIES, GALLERY), ShapeError, "pair row by row; got 12 and 4"),
        (
            lambda: PairedRetrieval(QUERIES, GALLERY, owners=[0, 1]),
            ShapeError,
            "row of `b`; got 2 for 4",
        ),
        (lambda: PairedRetrieval(QUERIES, GALLERY, owners=[99] * 4), DataError, "from 99 to 99"),
        (lambda: MultipleChoice(QUERIES, np.ones((5, 2, 6))), ShapeError, "one set per query"),
        (lambda: MixedRetrieval(QUERIES, GALLERY, list("abc")), ShapeError, r"\(3,\) for 4 rows"),
        (lambda: MixedRetrieval(QUERIES, GALLERY, "text"), ShapeError, "each row of `gallery`"),
        (lambda: MixedRetrieval(QUERIES, GALLERY, ["a"] * 4), ArgumentError, "all 4 items are 'a'"),
        (lambda: MixedRetrieval(QUERIES, GALLERY, ["a", "b", "", "a"]), DataError, "empty name"),
        (lambda: MixedRetrieval(QUERIES, GALLERY, [0.5] * 4), DataError, "must hold names"),
        (lambda: mixed(query_modalities=["a"]), ShapeError, r"`query_modalities`.*for 12 rows"),
        (lambda: mixed(labels=([0] * 12, [0] * 9)), ArgumentError, "say the same"),
        (
            lambda: MixedRetrieval(QUERIES, GALLERY, list("abab"), labels=([0] * 12, [0])),
            ShapeError,
            r"per row of `gallery`; got 1 for 4",
        ),
        (
            lambda: MixedRetrieval(QUERIES, GALLERY, list("abab"), labels=[0] * 12),
            ArgumentError,
            "must be a pair",
        ),
        (
            lambda: MixedRetrieval(QUERIES, GALLERY, list("abab"), np.full((12, 2), 4)),
            DataError,
            r"in \[-1, 4\)",
        ),
    ],
)
def test_bad_tasks_say_what_is_wrong(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
