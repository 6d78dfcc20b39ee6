"""One problem, and all that every plan for it needs: statistics, and the noise-free search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from modgap.closers import Statistics
from modgap.closers._collection import Collection
from modgap.closers.calibrate import is_mixed_method
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import Neighbors
from modgap.errors import DataError, ShapeError
from modgap.evaluation._judged import item_scores
from modgap.evaluation._merged import lists_of
from modgap.evaluation._mixed_fit import collection_of
from modgap.evaluation.records import GapFigures
from modgap.evaluation.tasks import Problem
from modgap.measures.gap import Gap
from modgap.measures.look import Remark, look
from modgap.measures.pairs import relative_modality_gap
from modgap.robustness.additive import spread
from modgap.robustness.outcomes import RECALL_AT
from modgap.robustness.systems import System

#: Elements of the queries up to which statistics without a part of them are kept for the next plan.
_KEPT_ELEMENTS = 8 * 1024 * 1024
#: Rows of each cloud that figures over pairs of rows look at.
MEASURED_ROWS = 1000

Figure = TypeVar("Figure")


@dataclass(frozen=True)
class Ground:
    """One problem with what every plan for it needs: statistics and noise-free search, made once."""

    metric: Metric
    problem: Problem

    @cached_property
    def statistics(self) -> Statistics:
        problem = self.problem
        return Statistics.of_rows(problem.known_queries, problem.gallery_rows, self.metric)

    @cached_property
    def before(self) -> np.ndarray:
        """Noise-free decisions before closing, shape (m,)."""
        return self.leaders[:, 0]

    @cached_property
    def system(self) -> System:
        """What is stored and compared before closing."""
        return self.problem.system(self.metric)

    @cached_property
    def leaders(self) -> np.ndarray:
        """Nearest item of each query and, in a gallery of several, the second, shape (m, 2)."""
        return self.system.leaders(min(2, int(self.system.gallery.shape[-2])))

    @cached_property
    def nearest(self) -> np.ndarray | None:
        """The exact nearest items before closing, as deep as recall is counted; see `Outcome`.

        None where each query has its own few candidates.
        """
        system = self.system
        deepest = max((k for k in RECALL_AT if k < system.gallery.shape[0]), default=0)
        return None if system.own_candidates or not deepest else system.leaders(deepest)

    @cached_property
    def spread(self) -> float:
        """Root mean square distance of the items from their mean, as the metric sees them."""
        rows = self.metric.prepare(self.problem.gallery_rows)
        return spread(rows) * math.sqrt(rows.shape[-1])

    @cached_property
    def margins(self) -> np.ndarray:
        """By how much each decision wins, in differences of `item_scores`, shape (m,)."""
        if self.leaders.shape[1] == 1:
            return np.full(self.leaders.shape[0], np.inf)
        scores = item_scores(self.system, self.metric, self.leaders)
        margins: np.ndarray = scores[:, 0] - scores[:, 1]
        present = self.problem.present
        if present is not None:  # a query of one candidate has no second
            margins[present.sum(axis=1) == 1] = np.inf
        return margins

    @cached_property
    def remarks(self) -> tuple[Remark, ...]:
        """What to know about the data before reading any figure; see `measures.look`."""
        problem = self.problem
        return look(
            problem.queries,
            problem.gallery,
            positives=problem.positives,
            paired=problem.paired and problem.partner_rows is None,
            metric=self.metric,
            present=problem.present,
        )

    def without(self, rows: np.ndarray, *, pairs: bool = False) -> Statistics:
        """Return statistics of the other queries.

        The gallery is known whoever asks, so it stays whole, and is not measured again; but where
        `pairs` are wanted it is that of the other queries' partners, row by row. Several plans have
        the same folds, so what was made for one of them is kept where it is small.
        """
        key = (rows.tobytes(), pairs)
        if key in self._without:
            return self._without[key]
        found = self._made_without(rows, pairs)
        if self.problem.queries.shape[0] * self.problem.queries.shape[-1] <= _KEPT_ELEMENTS:
            self._without[key] = found
        return found

    @cached_property
    def _without(self) -> dict[tuple[bytes, bool], Statistics]:
        return {}

    def _made_without(self, rows: np.ndarray, pairs: bool) -> Statistics:
        rest = np.setdiff1d(np.arange(self.problem.queries.shape[0]), rows)
        if rest.size == 0 and self.problem.background is None:
            return self.statistics
        others = self.problem.subset(rest)
        if pairs and others.paired:
            return Statistics.of_rows(others.queries, others.partners, self.metric)
        if others.gallery.ndim == 3:  # each query has its own
            return Statistics.of_rows(others.queries, others.gallery_rows, self.metric)
        return replace(self.statistics, query_rows=self.metric.prepare(others.known_queries))

    def is_mixed(self, word: str) -> bool:
        """Whether a word names a closer that maps each modality of this gallery on its own."""
        return self.problem.modalities is not None and is_mixed_method(word)

    @cached_property
    def lists(self) -> list[Neighbors]:
        """The best items of each modality before closing."""
        return lists_of(self.problem, self.metric)

    @cached_property
    def collection(self) -> Collection:
        """The items of each modality and their moments."""
        return collection_of(self.problem, self.metric)

    @cached_property
    def gap(self) -> GapFigures:
        """Figures of the gap before closing."""
        measured = self.measured
        ratio = None if measured is None else measured.gap_variance_ratio
        return GapFigures(
            problem=self.problem.name,
            centroid_gap=None if measured is None else measured.centroid_gap,
            centroid_cosine=None if measured is None else measured.centroid_cosine,
            gap_variance_ratio_queries=None if ratio is None else ratio.queries,
            gap_variance_ratio_gallery=None if ratio is None else ratio.gallery,
            relative_modality_gap=None if measured is None else self._relative(measured),
            rank=self.statistics.axes.rank,
        )

    @cached_property
    def measured(self) -> Gap | None:
        """The gap of unit rows, from these statistics where they are of such; see `Gap`.

        None where a row has no direction. Where only some of the queries are looked at, the gallery
        as a whole pairs with none of them.
        """
        queries, gallery = self.problem.known_queries, self.problem.gallery_rows
        whole = self.problem.paired and self.problem.partner_rows is None
        moments = None
        if self.metric.needs_directions:
            moments = (self.statistics.queries, self.statistics.gallery)
        return _defined(
            lambda: Gap(queries, gallery, paired=whole, moments=moments, sample=MEASURED_ROWS)
        )

    def _relative(self, measured: Gap) -> float | None:
        if measured.paired or not self.problem.paired:
            return measured.relative_modality_gap
        partners = self.problem.partners
        return _defined(lambda: relative_modality_gap(self.problem.queries, partners))


def _defined(compute: Callable[[], Figure]) -> Figure | None:
    """Return a figure, or None where these clouds have none: one row, no direction, no spread."""
    try:
        return compute()
    except (DataError, ShapeError):
        return None
