"""A problem: queries, the items they search, and which items are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure, by_modality
from modgap.decisions.choices import present_rows
from modgap.decisions.metric import Metric
from modgap.robustness.systems import Origin, System

__all__ = ["Problem"]

#: Items of each modality that a sample keeps at least: what a map of its own needs.
_LEAST = 50
#: Queries that closers are fitted to beside those that judge them: forty for each of 512 dimensions.
BACKGROUND = 20_000


@dataclass(frozen=True)
class Problem:
    """Queries, items, and the right answers.

    Attributes
    ----------
    name : str
    queries : array (m, d)
    gallery : array (n, d), or (m, c, d) where each query has its own candidates
    present : ndarray (m, c) of bool, or None
        Which candidates are there, where queries have different numbers of them.
    positives : ndarray (m, k) or None
        Right items of each query, -1 where there are fewer than k; None without labels.
    modalities : ndarray (n,) of str, or None
        Of each item, where the gallery holds several.
    own : str or None
        That of the queries, where it is known.
    rephrased : mapping of str to array (n, d)
        The same gallery in other words.
    paired : bool
        Whether each query has one partner, row i of `partners`: the gallery as a whole.
    ranks : bool
        Whether recall among the k nearest is of interest: retrieval.
    partner_rows : ndarray (m,) or None
        Gallery row of each query's partner where only some of the queries are looked at.
    background : array (b, d) or None
        Other queries, which closers are fitted to and nothing is judged on.
    judged_rows, item_rows : ndarray (m,), (n,) or None
        Which of all queries and of all items those here are, where only some are looked at.
    """

    name: str
    queries: Array
    gallery: Array
    positives: np.ndarray | None = None
    modalities: np.ndarray | None = None
    own: str | None = None
    rephrased: Mapping[str, Array] = field(default_factory=dict)
    paired: bool = False
    ranks: bool = False
    partner_rows: np.ndarray | None = None
    background: Array | None = None
    judged_rows: np.ndarray | None = None
    item_rows: np.ndarray | None = None
    present: np.ndarray | None = None

    @property
    def gallery_rows(self) -> Array:
        """The items as one cloud, shape (n, d): what a closer is fitted to.

        Of a mixed gallery those of other modalities than the queries', if there are any.
        """
        if self.gallery.ndim == 2:
            own = self.own_items
            if own.all() or not own.any():
                return self.gallery
            rest = asarray_like(np.flatnonzero(~own), self.gallery)
            return namespace(self.gallery).take(self.gallery, rest, axis=0)
        return present_rows(self.gallery, self.present)

    @property
    def own_items(self) -> np.ndarray:
        """Which items are of the queries' own modality, shape (n,); none where the gallery is not mixed."""
        if self.modalities is None:
            return np.zeros(int(self.gallery.shape[-2]), dtype=bool)
        return np.asarray(self.modalities == self.own)

    @property
    def kinds(self) -> np.ndarray | None:
        """The modality of each of the `gallery_rows`; None where the gallery is not mixed."""
        if self.modalities is None:
            return None
        own = self.own_items
        return self.modalities if own.all() else self.modalities[~own]

    def by_modality(self) -> dict[str, np.ndarray]:
        """Return the rows of each modality of a mixed gallery, modalities in the order they come up."""
        if self.modalities is None:
            return {}
        names = dict.fromkeys(self.modalities.tolist())
        return {name: np.flatnonzero(self.modalities == name) for name in names}

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
            present=None if self.present is None else self.present[rows],
            judged_rows=None if self.judged_rows is None else self.judged_rows[rows],
        )

    @property
    def known_queries(self) -> Array:
        """The queries as one cloud, with those that nothing is judged on: what a closer is fitted to."""
        if self.background is None:
            return self.queries
        return namespace(self.queries).concat([self.queries, self.background], axis=0)

    def judged_on(self, queries: int, *, seed: int) -> Problem:
        """Return the problem with at most so many queries to judge on, drawn at random.

        The gallery stays whole. Of the other queries up to `BACKGROUND` are kept for the fits, where all
        search one gallery of one modality.
        """
        count = int(self.queries.shape[0])
        if count <= queries:
            return self
        order = np.random.default_rng(seed).permutation(count)
        rows = np.sort(order[:queries])
        background = None
        if self.gallery.ndim == 2 and self.modalities is None:
            rest = asarray_like(np.sort(order[queries : queries + BACKGROUND]), self.queries)
            background = namespace(self.queries).take(self.queries, rest, axis=0)
        return replace(self.subset(rows), background=background, judged_rows=rows)

    def sampled(self, *, queries: int, items: int, seed: int) -> Problem:
        """Return the problem with at most so many queries and items, the right ones among them."""
        rng = np.random.default_rng(seed)
        small = self
        if self.queries.shape[0] > queries:
            rows = np.sort(rng.permutation(self.queries.shape[0])[:queries])
            own = rows if self.judged_rows is None else self.judged_rows[rows]
            small = replace(self.subset(rows), judged_rows=own)
        count = int(self.gallery.shape[0])
        if self.gallery.ndim == 3 or count <= items:
            return small
        kept = [small._partners_and_positives()]
        for own in self.by_modality().values():  # none may get lost: each has a map of its own
            kept.append(rng.permutation(own)[:_LEAST])
        needed = np.unique(np.concatenate(kept))
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
            item_rows=rows if self.item_rows is None else self.item_rows[rows],
            modalities=None if self.modalities is None else self.modalities[rows],
            rephrased={name: of(gallery) for name, gallery in self.rephrased.items()},
        )

    def system(self, metric: Metric, closure: Closure | None = None) -> System:
        """Return what is stored and compared, before closing or after."""
        if closure is None:
            return System(self.queries, self.gallery, metric, present=self.present)
        closure.check_metric(metric)
        maps = self._maps(closure)
        parts = [(rows, side) for _, rows, side in maps]
        order = None if len(maps) == 1 else np.argsort(np.concatenate([at for at, _, _ in maps]))
        origin = Origin(metric, tuple(parts), order)
        gallery = origin.mapped()
        return System(
            closure.queries(self.queries), gallery, closure.comparison, origin, self.present
        )

    def _maps(self, closure: Closure) -> list[tuple[np.ndarray, Array, AffineMap]]:
        """Return parts of the gallery, the places of their rows in it, and the map of each.

        A closure of two maps takes items of the queries' modality for what they are: queries' map.
        """
        if isinstance(closure, MixedClosure) and self.modalities is not None:
            sides = [(at, closure.galleries[name]) for name, at in self.by_modality().items()]
        else:
            own = self.own_items
            if not own.any():
                return [(np.arange(own.size), self.gallery, closure.gallery)]
            sides = [
                (np.flatnonzero(~own), closure.gallery),
                (np.flatnonzero(own), closure.queries),
            ]
        take = namespace(self.gallery).take
        return [
            (at, take(self.gallery, asarray_like(at, self.gallery), axis=0), side)
            for at, side in sides
            if at.size
        ]

    def mapped_rows(self, closure: Closure) -> Array:
        """Return the `gallery_rows` after closing."""
        if isinstance(closure, MixedClosure) and self.kinds is not None:
            return by_modality(closure.galleries, self.gallery_rows, self.kinds)
        return closure.gallery(self.gallery_rows)

    def keeps_decisions(self, closure: Closure) -> bool:
        """Whether the closure's promise reaches this problem: a mixed gallery is moved in two ways."""
        if not self.own_items.any() or closure.method == "none":
            return True
        return closure.method == "recenter" and closure.comparison.is_distance
