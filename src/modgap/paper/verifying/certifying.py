"""Statements on how far items may move before a decision can change, and on distances as products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist

from modgap.closers.lift import lift_gallery, lift_queries
from modgap.decisions.certificates import certified_radius
from modgap.decisions.metric import EUCLIDEAN, INNER_PRODUCT, Metric
from modgap.paper.verifying.ground import Ground
from modgap.paper.verifying.observing import item_scores, score_rounding
from modgap.paper.verifying.record import BALANCED, THEORY, Check, checked

__all__ = ["checks"]

#: Queries whose items are moved, and rivals of each decision that are tried.
_QUERIES, _RIVALS = 20, 30
_HALVINGS = 50


def checks(ground: Ground) -> Iterator[Check]:
    """Yield what is said of lifted rows and of certified radii."""
    yield _lifting(ground)
    for metric, word in ((EUCLIDEAN, "Euclidean"), (INNER_PRODUCT, "inner product")):
        yield _certificates(ground, metric, word)


def _lifting(ground: Ground) -> Check:
    middle = ground.x.mean(axis=0)
    lifted = lift_queries(ground.few, center=middle) @ lift_gallery(ground.x, center=middle).T
    away = np.einsum("ij,ij->i", ground.few - middle, ground.few - middle)
    return checked(
        "Lifting",
        "products of lifted rows are (|y - c|^2 - |y - x|^2) / 2: the largest is the nearest",
        BALANCED,
        prediction=lifted,
        observation=(away[:, None] - cdist(ground.few, ground.x, "sqeuclidean")) / 2.0,
        tolerance=score_rounding(ground.y, ground.x),
        reason="rounding of float64 in scores of rows this long",
        observed_by="SciPy's squared distances",
    )


def _certificates(ground: Ground, metric: Metric, word: str) -> Check:
    """Move the decision away and its rivals nearer, each its own way, until another item wins."""
    queries = ground.y[:_QUERIES]
    said = certified_radius(queries, ground.x, metric=metric)
    order = np.argsort(-item_scores(queries, ground.x, metric), axis=1, kind="stable")
    items = ground.x[order[:, : 1 + _RIVALS]]  # the decision first
    least, most = np.zeros(len(queries)), np.full(len(queries), 2.0 * float(np.max(said)) + 1.0)
    for _ in range(_HALVINGS):
        radius = (least + most) / 2.0
        lost = _lost(queries, items, radius, metric)
        least, most = np.where(lost, least, radius), np.where(lost, radius, most)
    return checked(
        f"Certificates, {word}",
        "items may move by the certified radius, each its own way, before a decision can change",
        THEORY,
        prediction=said,
        observation=most,
        tolerance=1e-9 * (1.0 + float(np.max(said))),
        reason=f"{_HALVINGS} halvings of the radius, and rounding",
        observed_by="the worst move of the decision and of its thirty best rivals by a radius, until "
        "another item just wins",
    )


def _lost(queries: np.ndarray, items: np.ndarray, radius: np.ndarray, metric: Metric) -> np.ndarray:
    """Return whether each query's first item (m, k, d) loses once each has moved the worst way for it."""
    ahead = np.broadcast_to(queries[:, None, :], items.shape)
    if metric.is_distance:
        ahead = ahead - items
    length = np.linalg.norm(ahead, axis=2, keepdims=True)
    any_way = np.eye(1, items.shape[2])[None]  # where an item lies on its query
    unit = np.where(length > 0, ahead / np.where(length > 0, length, 1.0), any_way)
    step = np.broadcast_to(radius[:, None, None], length.shape).copy()
    if metric.is_distance:
        step = np.minimum(step, length)  # not past the query
    step[:, 0] = -radius[:, None]
    moved = items + step * unit
    if metric.is_distance:
        score = -np.linalg.norm(queries[:, None, :] - moved, axis=2)
    else:
        score = np.einsum("md,mkd->mk", queries, moved)
    return np.asarray(score[:, 1:].max(axis=1) > score[:, 0])
