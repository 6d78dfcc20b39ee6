"""What decisions are for: zero-shot classification, retrieval, multiple choice, mixed galleries.

A task is one or several problems: queries, the items they search, and which items are right. Every
problem gets its own closure, because a closure belongs to one gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float
from modgap._core.checks import (
    check_cloud,
    check_clouds,
    check_count,
    check_indices,
    check_paired,
    check_same_width,
)
from modgap.decisions.choices import as_candidates
from modgap.decisions.metric import Metric, as_metric
from modgap.decisions.neighbors import check_candidates
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.evaluation.problem import Problem

__all__ = ["MixedRetrieval", "MultipleChoice", "PairedRetrieval", "Problem", "Task", "ZeroShot"]


@dataclass(frozen=True)
class Task:
    """A kind of decision, its metric, and its problems."""

    kind: str
    metric: Metric
    problems: tuple[Problem, ...]

    def first(self) -> Task:
        """Return the task with its first caption template alone; tasks of other kinds as they are."""
        if len(self.problems) == 1 or not self.problems[0].rephrased:
            return self
        return Task(self.kind, self.metric, self.problems[:1])

    def judged_on(self, queries: int, *, seed: int) -> Task:
        """Return the task with at most so many queries to judge on, drawn at random; itself if smaller.

        The gallery stays whole, and closers are fitted to other queries too.
        """
        smaller = tuple(problem.judged_on(queries, seed=seed) for problem in self.problems)
        if all(one is old for one, old in zip(smaller, self.problems, strict=True)):
            return self
        return Task(self.kind, self.metric, smaller)

    def sampled(self, *, queries: int, items: int, seed: int) -> Task:
        """Return the task with at most so many queries and items, drawn at random; itself if smaller.

        The right items of the queries drawn stay in the gallery.
        """
        smaller = tuple(p.sampled(queries=queries, items=items, seed=seed) for p in self.problems)
        if all(one is old for one, old in zip(smaller, self.problems, strict=True)):
            return self
        return Task(self.kind, self.metric, smaller)

    def describe(self) -> dict[str, Any]:
        """Return counts and names as a plain dict."""
        first = self.problems[0]
        return {
            "kind": self.kind,
            "queries": int(first.queries.shape[0]),
            "gallery": int(first.gallery.shape[-2]),
            "dimension": int(first.queries.shape[-1]),
            "metric": self.metric,
        }


class ZeroShot(Task):
    """Zero-shot classification: images against one text per class, under one or more templates.

    Parameters
    ----------
    queries : array (m, d), floating
        Images.
    galleries : array (n, d) or (t, n, d), floating
        Class texts; with t caption templates, one gallery each.
    labels : array (m,), integers, optional
        Class of each image.
    metric : {"cosine", "ip", "euclidean"}
    template : int, optional
        Keep one template; the others then serve as its rephrasings.
    templates : sequence of str, optional
        Their names.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        The arrays do not fit together; the template is out of range.
    """

    def __init__(
        self,
        queries: Float[Array, "m d"],
        galleries: Float[Array, "t n d"],
        labels: Any = None,
        *,
        metric: str = "cosine",
        template: int | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        metric = as_metric(metric)
        queries, galleries = _queries_and(galleries, queries, "gallery", metric)
        positives = _labels(labels, queries.shape[0], galleries.shape[-2])
        count = galleries.shape[0] if galleries.ndim == 3 else 1
        each = [galleries[i, :, :] for i in range(count)] if galleries.ndim == 3 else [galleries]
        names = _template_names(templates, count)
        chosen = range(count)
        if template is not None:
            chosen = range(check_count(template, "template", low=0, high=count - 1), template + 1)
        problems = tuple(
            Problem(
                names[i],
                queries,
                each[i],
                positives,
                rephrased={names[j]: each[j] for j in range(count) if j != i},
            )
            for i in chosen
        )
        searches = labels is None and galleries.ndim == 2
        super().__init__("search" if searches else "zero-shot", metric, problems)


class PairedRetrieval(Task):
    """Retrieval in both directions between two sides that belong together.

    Parameters
    ----------
    a : array (n, d), floating
        For example images.
    b : array (l, d), floating
        For example texts.
    owners : array (l,), integers, optional
        Row of `a` that each row of `b` belongs to; without it row i belongs to row i. Several
        captions of an image name the same owner.
    metric : {"cosine", "ip", "euclidean"}
    names : pair of str
        Names of the two sides.

    Raises
    ------
    DataError, ShapeError
        The clouds do not pair.
    """

    def __init__(
        self,
        a: Float[Array, "n d"],
        b: Float[Array, "l d"],
        *,
        owners: Any = None,
        metric: str = "cosine",
        names: tuple[str, str] = ("a", "b"),
    ) -> None:
        metric = as_metric(metric)
        strict = not metric.needs_directions
        if owners is None:
            a, b = check_paired(a, b, names=names, zero_rows=strict)
            owner = np.arange(b.shape[0])
        else:
            a, b = check_clouds(a, b, names=names, zero_rows=strict)
            owner = check_indices(
                owners, "owners", rows=b.shape[0], below=a.shape[0], rows_of=names[1]
            )
        paired = owners is None
        forth = Problem(
            f"{names[0]} -> {names[1]}",
            a,
            b,
            _by_owner(owner, a.shape[0]),
            paired=paired,
            ranks=True,
        )
        back = Problem(f"{names[1]} -> {names[0]}", b, a, owner[:, None], paired=paired, ranks=True)
        super().__init__("paired-retrieval", metric, (forth, back))


class MultipleChoice(Task):
    """Multiple choice, as in A-OKVQA: each query picks among its own candidates.

    Parameters
    ----------
    queries : array (m, d), floating
    candidates : array (m, c, d), or sequence of m arrays (c_i, d), floating
        A sequence where queries have different numbers of candidates.
    answers : array (m,), integers, optional
        Position of the right candidate.
    counts : array (m,), integers, optional
        Of an array: how many of each query's candidates are there. The rest is padding of any values.
    metric : {"cosine", "ip", "euclidean"}

    Raises
    ------
    DataError, ShapeError
        The arrays do not fit together, or an answer is none of its query's candidates.

    Notes
    -----
    Closers are fitted to all candidates as one cloud. What pads an array never wins, and no statistic and
    no code sees it.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> choices = [rng.normal(size=(4, 8)), rng.normal(size=(2, 8))]
    >>> MultipleChoice(rng.normal(size=(2, 8)), choices, [3, 1]).problems[0].gallery_rows.shape
    (6, 8)
    """

    def __init__(
        self,
        queries: Float[Array, "m d"],
        candidates: Float[Array, "m c d"] | Sequence[Float[Array, "c d"]],
        answers: Any = None,
        *,
        counts: Any = None,
        metric: str = "cosine",
    ) -> None:
        metric = as_metric(metric)
        candidates, present = as_candidates(candidates, counts)
        queries, candidates = check_candidates(
            queries, candidates, zero_rows=not metric.needs_directions
        )
        positives = _labels(answers, queries.shape[0], candidates.shape[1], name="answers")
        if positives is not None and present is not None:
            _check_among(positives[:, 0], present)
        problem = Problem("choice", queries, candidates, positives, present=present)
        super().__init__("multiple-choice", metric, (problem,))


class MixedRetrieval(Task):
    """Retrieval from a collection that holds several modalities.

    Parameters
    ----------
    queries : array (m, d), floating
        Texts, images, or both: one problem for each modality of theirs.
    gallery : array (n, d), floating
        The items, of all modalities.
    modalities : sequence of n str
        The modality of each item.
    partners : array (m,) or (m, k), integers, optional
        Gallery rows that answer each query, -1 where there are fewer than k.
    labels : pair of arrays (m,) and (n,), integers, optional
        In the place of partners: an item answers a query of the same label. Needs memory for the items of
        the largest label times m.
    query_modalities : str, or sequence of m str, optional
        What the queries are. Closers of two maps, such as `mean-shift`, must know which items are of
        the queries' own kind; the others need it only to tell several kinds of queries apart.
    metric : {"cosine", "ip", "euclidean"}

    Raises
    ------
    ArgumentError, DataError, ShapeError
        The arrays do not fit together, or the gallery holds one modality.

    Notes
    -----
    With a gap, one modality crowds out the others. Closing it is meant to change answers here, so only
    `none` and, where both sides move, `recenter` count as exact. The queries themselves should not be
    among the items: each would find itself.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> items, queries = rng.normal(size=(6, 4)), rng.normal(size=(3, 4))
    >>> task = MixedRetrieval(queries, items, ["image"] * 4 + ["text"] * 2, [0, 1, 2])
    >>> task.problems[0].by_modality()["text"].tolist()
    [4, 5]
    """

    def __init__(
        self,
        queries: Float[Array, "m d"],
        gallery: Float[Array, "n d"],
        modalities: Sequence[str],
        partners: Any = None,
        *,
        labels: tuple[Any, Any] | None = None,
        query_modalities: str | Sequence[str] | None = None,
        metric: str = "cosine",
    ) -> None:
        metric = as_metric(metric)
        queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
        count, items = int(queries.shape[0]), int(gallery.shape[0])
        names = _names_of_rows(modalities, "modalities", items, "gallery")
        if len(set(names.tolist())) < 2:
            raise ArgumentError(
                f"`modalities` must name two or more; all {items} items are {str(names[0])!r}, which is "
                "no mixed collection"
            )
        positives = _answers(partners, labels, count, items)
        whole = Problem("mixed gallery", queries, gallery, positives, modalities=names, ranks=True)
        super().__init__("mixed-retrieval", metric, _by_kind(whole, query_modalities))


def _by_kind(whole: Problem, query_modalities: str | Sequence[str] | None) -> tuple[Problem, ...]:
    """Return one problem for each modality of the queries."""
    if query_modalities is None:
        return (whole,)
    if isinstance(query_modalities, str):
        return (replace(whole, own=query_modalities),)
    kinds = _names_of_rows(
        query_modalities, "query_modalities", int(whole.queries.shape[0]), "queries"
    )
    return tuple(
        replace(whole.subset(np.flatnonzero(kinds == kind)), name=f"{kind} -> all", own=kind)
        for kind in dict.fromkeys(kinds.tolist())
    )


def _names_of_rows(values: Any, name: str, rows: int, rows_of: str) -> np.ndarray:
    """Return one name per row, shape (rows,) of str."""
    if isinstance(values, str):
        raise ShapeError(
            f"`{name}` must name the modality of each row of `{rows_of}`; got {values!r}"
        )
    found = np.asarray(values)
    if found.shape != (rows,):
        raise ShapeError(
            f"`{name}` must name the modality of each row of `{rows_of}`; got shape {found.shape} "
            f"for {rows} rows"
        )
    if found.dtype.kind not in "UOiu" or not all(str(value) for value in found.tolist()):
        raise DataError(f"`{name}` must hold names; got {found.dtype} or an empty name")
    return found.astype(str)


def _answers(partners: Any, labels: Any, rows: int, items: int) -> np.ndarray | None:
    """Return the right items of each query, shape (rows, k), padded with -1; None where unknown."""
    if labels is None:
        if partners is None:
            return None
        table = np.asarray(partners)
        if table.ndim != 2:
            return check_indices(partners, "partners", rows=rows, below=items)[:, None]
        flat = check_indices(
            table.ravel(), "partners", rows=rows * table.shape[1], below=items, low=-1
        )
        return flat.reshape(rows, -1)
    if partners is not None:
        raise ArgumentError("`partners` and `labels` say the same; give one of them")
    try:
        asked, given = labels
    except (TypeError, ValueError):
        raise ArgumentError(
            "`labels` must be a pair: labels of the queries, and labels of the items"
        ) from None
    limit = int(np.iinfo(np.int64).max)
    asked = check_indices(asked, "labels[0]", rows=rows, below=limit)
    given = check_indices(given, "labels[1]", rows=items, below=limit, rows_of="gallery")
    known, place = np.unique(given, return_inverse=True)
    table = np.concatenate([_by_owner(place, known.size), np.full((1, 1), -1).repeat(
        int(np.bincount(place).max()), axis=1)])  # fmt: skip
    where = np.searchsorted(known, asked)
    there = (where < known.size) & (known[np.minimum(where, known.size - 1)] == asked)
    return np.asarray(table[np.where(there, where, known.size)])


def _queries_and(other: Any, queries: Any, name: str, metric: Metric) -> tuple[Array, Array]:
    strict = not metric.needs_directions
    queries = check_cloud(queries, "queries", zero_rows=strict)
    other = check_cloud(other, name, zero_rows=strict, ndim=(2, 3))
    check_same_width(queries, "queries", other, name)
    return queries, other


def _labels(values: Any, rows: int, items: int, name: str = "labels") -> np.ndarray | None:
    if values is None:
        return None
    return check_indices(values, name, rows=rows, below=items)[:, None]


def _check_among(answers: np.ndarray, present: np.ndarray) -> None:
    """Raise a DataError where an answer is none of its query's candidates."""
    wrong = ~present[np.arange(answers.size), answers]
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"`answers` row {row} (of {int(wrong.sum())} such rows) is {answers[row]}, and the query has "
            f"{int(present[row].sum())} candidates"
        )


def _template_names(templates: Sequence[str] | None, count: int) -> list[str]:
    if templates is None:
        return [f"template {i}" for i in range(count)] if count > 1 else ["gallery"]
    names = [str(name) for name in templates]
    if len(names) != count:
        raise ShapeError(f"`templates` must name {count} templates; got {len(names)}")
    if len(set(names)) != count:
        raise ArgumentError("`templates` must hold different names; got some twice")
    return names


def _by_owner(owner: np.ndarray, rows: int) -> np.ndarray:
    """Return the items of each owner as (rows, k), padded with -1."""
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=rows)
    place = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((rows, max(1, int(counts.max()))), -1, dtype=np.int64)
    table[owner[order], place] = order
    return table
