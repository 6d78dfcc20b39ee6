"""What decisions are for: zero-shot classification, retrieval, multiple choice, mixed galleries.

A task is one or several problems: queries, the items they search, and which items are right. Every
problem gets its own closure, because a closure belongs to one gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, asarray_like, namespace
from modgap._core.checks import (
    check_cloud,
    check_clouds,
    check_count,
    check_indices,
    check_paired,
    check_same_width,
)
from modgap.closers.closure import Closure
from modgap.decisions.metric import Metric, as_metric
from modgap.decisions.neighbors import check_candidates
from modgap.errors import ArgumentError, ShapeError
from modgap.robustness.systems import Origin, System

__all__ = ["MixedRetrieval", "MultipleChoice", "PairedRetrieval", "Problem", "Task", "ZeroShot"]


@dataclass(frozen=True)
class Problem:
    """Queries, items, and the right answers.

    Attributes
    ----------
    name : str
    queries : array (m, d)
    gallery : array (n, d), or (m, c, d) where each query has its own candidates
    positives : ndarray (m, k) or None
        Right items of each query, -1 where there are fewer than k; None without labels.
    companions : array (l, d) or None
        Items of the queries' own modality that share the index; they follow the gallery in it.
    rephrased : mapping of str to array (n, d)
        The same gallery in other words.
    paired : bool
        Whether each query has one partner, row i of `partners`: the gallery as a whole.
    ranks : bool
        Whether recall among the k nearest is of interest: retrieval.
    partner_rows : ndarray (m,) or None
        Gallery row of each query's partner where only some of the queries are looked at.
    """

    name: str
    queries: Array
    gallery: Array
    positives: np.ndarray | None = None
    companions: Array | None = None
    rephrased: Mapping[str, Array] = field(default_factory=dict)
    paired: bool = False
    ranks: bool = False
    partner_rows: np.ndarray | None = None

    @property
    def gallery_rows(self) -> Array:
        """The items as one cloud, shape (n, d): what a closer is fitted to."""
        if self.gallery.ndim == 2:
            return self.gallery
        xp = namespace(self.gallery)
        return xp.reshape(self.gallery, (-1, self.gallery.shape[-1]))

    @property
    def partners(self) -> Array:
        """The partner of each query, shape (m, d), where `paired`."""
        if self.partner_rows is None:
            return self.gallery
        return namespace(self.gallery).take(
            self.gallery, asarray_like(self.partner_rows, self.gallery), axis=0
        )

    def subset(self, rows: np.ndarray) -> Problem:
        """Return the problem with some of its queries only; the gallery stays whole."""
        take = asarray_like(rows, self.queries)
        xp = namespace(self.queries)
        own = self.gallery.ndim == 3
        partner_rows = None
        if self.paired:
            partner_rows = rows if self.partner_rows is None else self.partner_rows[rows]
        return replace(
            self,
            queries=xp.take(self.queries, take, axis=0),
            gallery=xp.take(self.gallery, take, axis=0) if own else self.gallery,
            positives=None if self.positives is None else self.positives[rows],
            partner_rows=partner_rows,
        )

    def sampled(self, *, queries: int, items: int, seed: int) -> Problem:
        """Return the problem with at most so many queries and items, the right ones among them."""
        rng = np.random.default_rng(seed)
        small = self
        if self.queries.shape[0] > queries:
            small = self.subset(np.sort(rng.permutation(self.queries.shape[0])[:queries]))
        count = int(self.gallery.shape[0])
        if self.gallery.ndim == 3 or count <= items:
            return small
        needed = np.unique(small._partners_and_positives())
        others = np.setdiff1d(np.arange(count), needed)
        drawn = rng.permutation(others)[: max(0, items - needed.size)]
        return small._with_items(np.sort(np.concatenate([needed, drawn])))

    def _partners_and_positives(self) -> np.ndarray:
        parts = [np.zeros(0, dtype=np.int64)]
        if self.positives is not None:
            parts.append(self.positives[self.positives >= 0])
        if self.paired:
            rows = self.partner_rows
            parts.append(np.arange(self.gallery.shape[0]) if rows is None else rows)
        return np.concatenate(parts)

    def _with_items(self, rows: np.ndarray) -> Problem:
        """Return the problem with some of the gallery's rows only."""
        place = np.full(int(self.gallery.shape[0]), -1, dtype=np.int64)
        place[rows] = np.arange(rows.size)

        def of(gallery: Array) -> Array:
            return namespace(gallery).take(gallery, asarray_like(rows, gallery), axis=0)

        partner_rows = None
        if self.paired:
            own = np.arange(place.size) if self.partner_rows is None else self.partner_rows
            partner_rows = place[own]
        positives = self.positives
        if positives is not None:
            positives = np.where(positives >= 0, place[positives], -1)
        return replace(
            self,
            gallery=of(self.gallery),
            positives=positives,
            partner_rows=partner_rows,
            rephrased={name: of(gallery) for name, gallery in self.rephrased.items()},
        )

    def system(self, metric: Metric, closure: Closure | None = None) -> System:
        """Return what is stored and compared, before closing or after."""
        if closure is None:
            return System(self.queries, self._index(self.gallery, self.companions), metric)
        closure.check_metric(metric)
        companions = None
        given = [(self.gallery, closure.gallery)]
        if self.companions is not None:
            companions = closure.queries(self.companions)
            given.append((self.companions, closure.queries))
        gallery = self._index(closure.gallery(self.gallery), companions)
        origin = Origin(metric, tuple(given))
        return System(closure.queries(self.queries), gallery, closure.comparison, origin)

    def keeps_decisions(self, closure: Closure) -> bool:
        """Whether the closure's promise reaches this problem: a mixed gallery is moved in two ways."""
        if self.companions is None or closure.method == "none":
            return True
        return closure.method == "recenter" and closure.comparison.is_distance

    def _index(self, gallery: Array, companions: Array | None) -> Array:
        if companions is None:
            return gallery
        return namespace(gallery).concat([gallery, companions], axis=0)


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
            "gallery": int(first.gallery.shape[-2])
            + (0 if first.companions is None else int(first.companions.shape[0])),
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
    candidates : array (m, c, d), floating
    answers : array (m,), integers, optional
        Position of the right candidate.
    metric : {"cosine", "ip", "euclidean"}

    Notes
    -----
    Closers are fitted to all candidates as one cloud.
    """

    def __init__(
        self,
        queries: Float[Array, "m d"],
        candidates: Float[Array, "m c d"],
        answers: Any = None,
        *,
        metric: str = "cosine",
    ) -> None:
        metric = as_metric(metric)
        queries, candidates = check_candidates(
            queries, candidates, zero_rows=not metric.needs_directions
        )
        positives = _labels(answers, queries.shape[0], candidates.shape[1], name="answers")
        problem = Problem("choice", queries, candidates, positives)
        super().__init__("multiple-choice", metric, (problem,))


class MixedRetrieval(Task):
    """Retrieval from an index that holds both modalities.

    Parameters
    ----------
    queries : array (m, d), floating
        For example texts.
    gallery : array (n, d), floating
        Items of the other modality, for example images.
    companions : array (l, d), floating
        Items of the queries' modality in the same index (not the queries themselves: each would
        find itself).
    partners : array (m,), integers, optional
        Row of `gallery` that answers each query.
    metric : {"cosine", "ip", "euclidean"}

    Notes
    -----
    With a gap the queries' own modality crowds out the other. Closing it is meant to change answers
    here, so only `none` and, but for inner product, `recenter` count as exact.
    """

    def __init__(
        self,
        queries: Float[Array, "m d"],
        gallery: Float[Array, "n d"],
        companions: Float[Array, "l d"],
        partners: Any = None,
        *,
        metric: str = "cosine",
    ) -> None:
        metric = as_metric(metric)
        strict = not metric.needs_directions
        queries, gallery = check_clouds(queries, gallery, zero_rows=strict)
        companions = check_cloud(companions, "companions", zero_rows=strict)
        check_same_width(queries, "queries", companions, "companions")
        positives = _labels(partners, queries.shape[0], gallery.shape[0], name="partners")
        problem = Problem("mixed gallery", queries, gallery, positives, companions=companions)
        super().__init__("mixed-retrieval", metric, (problem,))


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
