"""What the statements are held against: both clouds, their pairs where they are known, and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.arrays import to_numpy
from modgap._core.checks import check_clouds, check_count, check_indices, check_number, check_paired
from modgap.decisions.metric import Metric, as_metric
from modgap.errors import ArgumentError, ShapeError
from modgap.paper.theory._tasks import hull

__all__ = ["MOST_ROWS", "Ground", "ground_of"]

#: Rows of either cloud that are used at most: all of a thousand dimensions can be spanned by them.
MOST_ROWS = 2000
#: Pairs that statements on training are held against, and queries that look at every item.
MOST_PAIRS, MOST_QUERIES = 60, 100


@dataclass(frozen=True)
class Ground:
    """The data at hand.

    Attributes
    ----------
    queries, gallery : ndarray
        As they were given, at most `MOST_ROWS` of each.
    y, x : ndarray, float64
        The same as the metric sees them: by cosine of unit length.
    pairs : tuple of ndarray (n, d), or None
        Items and the queries that belong to them, float64.
    metric : Metric
    temperature, sigma : float
    draws, seed : int
    given : tuple of int
        Queries and items before some were drawn.
    """

    queries: np.ndarray
    gallery: np.ndarray
    y: np.ndarray
    x: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray] | None
    metric: Metric
    temperature: float
    sigma: float
    draws: int
    seed: int
    given: tuple[int, int]

    @cached_property
    def axes(self) -> np.ndarray:
        """An orthonormal basis (d, r) of the gallery's directions."""
        return np.asarray(hull(self.x)[1])

    @property
    def rank(self) -> int:
        """Their number, r."""
        return int(self.axes.shape[1])

    @property
    def width(self) -> int:
        """The dimension, d."""
        return int(self.x.shape[1])

    @cached_property
    def gap(self) -> np.ndarray:
        """From the gallery's mean to that of the queries."""
        return np.asarray(self.y.mean(axis=0) - self.x.mean(axis=0))

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Return the part of rows, or of a vector, that is orthogonal to the gallery's directions."""
        return np.asarray(rows - rows @ self.axes @ self.axes.T)

    @property
    def few(self) -> np.ndarray:
        """Queries that look at every item."""
        return self.y[:MOST_QUERIES]

    def rng(self, stream: int) -> np.random.Generator:
        """Return random numbers of their own for each use."""
        return np.random.default_rng([self.seed, stream])

    def described(self) -> dict[str, Any]:
        """Return what a document says of the data."""
        return {
            "queries": self.given[0],
            "gallery": self.given[1],
            "queries_used": len(self.y),
            "gallery_used": len(self.x),
            "pairs_used": 0 if self.pairs is None else len(self.pairs[0]),
            "dimension": self.width,
            "rank": self.rank,
            "metric": self.metric,
            "temperature": self.temperature,
            "sigma": self.sigma,
            "draws": self.draws,
            "seed": self.seed,
        }


def ground_of(
    queries: Any,
    gallery: Any,
    labels: Any,
    *,
    paired: bool,
    metric: str,
    temperature: float,
    sigma: float,
    draws: int,
    seed: int,
) -> Ground:
    """Return the data at hand, checked."""
    seen = as_metric(metric)
    seed = check_count(seed, "seed", low=0)
    if labels is not None and paired:
        raise ArgumentError(
            "`labels` and `paired` both say what belongs together; give one of them"
        )
    zeros = not seen.needs_directions
    queries, gallery = check_clouds(queries, gallery, zero_rows=zeros)
    for rows, name, what in (
        (queries, "queries", "tell apart"),
        (gallery, "gallery", "decide between"),
    ):
        if rows.shape[0] < 2:
            raise ShapeError(f"`{name}` must have at least 2 rows to {what}; got {rows.shape[0]}")
    if paired:
        check_paired(queries, gallery, names=("queries", "gallery"), zero_rows=zeros)
    queries, gallery = np.asarray(to_numpy(queries)), np.asarray(to_numpy(gallery))
    partner = _partners(labels, paired, len(queries), len(gallery))
    rng = np.random.default_rng(seed)
    asked, kept = (_drawn(rng, len(rows), MOST_ROWS) for rows in (queries, gallery))
    pairs = None
    if partner is not None:
        rows = _drawn(rng, len(queries), MOST_PAIRS)
        pairs = (_seen(gallery[partner[rows]], seen), _seen(queries[rows], seen))
    return Ground(
        queries=queries[asked],
        gallery=gallery[kept],
        y=_seen(queries[asked], seen),
        x=_seen(gallery[kept], seen),
        pairs=pairs,
        metric=seen,
        temperature=check_number(temperature, "temperature", low=0.0, open_low=True),
        sigma=check_number(sigma, "sigma", low=0.0, open_low=True),
        draws=check_count(draws, "draws", low=20),
        seed=seed,
        given=(len(queries), len(gallery)),
    )


def _partners(labels: Any, paired: bool, queries: int, items: int) -> np.ndarray | None:
    """Return the item that belongs to each query."""
    if paired:
        return np.arange(queries)
    if labels is None:
        return None
    return check_indices(labels, "labels", rows=queries, below=items)


def _drawn(rng: np.random.Generator, rows: int, most: int) -> np.ndarray:
    return np.sort(rng.permutation(rows)[:most])


def _seen(rows: np.ndarray, metric: Metric) -> np.ndarray:
    return np.asarray(metric.prepare(rows.astype(np.float64)))
