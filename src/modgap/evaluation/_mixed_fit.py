"""A mixed problem as closers of collections take it: items by modality, queries, pairs."""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import asarray_like, namespace
from modgap.closers._collection import Collection
from modgap.closers.calibrate import fit_collection
from modgap.closers.mixed import MixedClosure
from modgap.decisions.metric import Metric
from modgap.errors import ArgumentError, ShapeError
from modgap.evaluation.tasks import Problem

__all__ = ["collection_of", "fit_to_queries"]


def collection_of(problem: Problem, metric: Metric) -> Collection:
    """Return the items of each modality and their moments."""
    gallery = problem.gallery
    take = namespace(gallery).take
    rows = problem.by_modality()
    parts = {n: take(gallery, asarray_like(place, gallery), axis=0) for n, place in rows.items()}
    return Collection.of(parts, metric)


def fit_to_queries(
    word: str, problem: Problem, collection: Collection, without: np.ndarray | None
) -> MixedClosure:
    """Return a closure of the collection, fitted to all but some of the queries.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        As `closers.fit_mixed`; also answers that "calibrate:pairs" needs and that are not there.
    """
    count = int(problem.queries.shape[0])
    rows = np.arange(count) if without is None else np.setdiff1d(np.arange(count), without)
    if rows.size < 2:
        raise ShapeError(
            f"`{word}` is fitted to 2 queries or more, other ones than those that judge it; got "
            f"{rows.size} of {count}"
        )
    asked = collection.metric.prepare(problem.subset(rows).queries)
    pairs = None
    if word.partition("+")[0].endswith(":pairs"):
        pairs = _pairs_of(problem, rows)
    return fit_collection(word, asked, collection, pairs=pairs)


def _pairs_of(problem: Problem, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each modality pairs of a query, counted among `rows`, and of an item that answers it."""
    if problem.positives is None:
        raise ArgumentError("`calibrate:pairs` learns from answers; give `partners` or `labels`")
    positives = problem.positives[rows]
    asked, column = np.nonzero(positives >= 0)
    items = positives[asked, column]
    found = {}
    for name, own in problem.by_modality().items():
        mine = np.isin(items, own)
        found[name] = np.stack([asked[mine], np.searchsorted(own, items[mine])], axis=1)
    return found
