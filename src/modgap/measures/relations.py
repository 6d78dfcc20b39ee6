"""Do two clouds belong together at all? Three tests against chance, on samples: pairs, answers, axes.

Unchecked: `look` asks them, after the door. Each returns its figures, and judges nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from modgap._core.arrays import Array, asarray_like, namespace, normalize_rows, to_numpy
from modgap._core.clouds import Cloud
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import nearest_candidates, search

__all__ = [
    "AnswerTest",
    "PairTest",
    "answers_against_chance",
    "pairs_against_chance",
    "shared_directions",
]

_PERMUTATIONS = 999
#: Multiplications that a search for answers may cost: a second or two.
_SEARCH_COST = 2e10


@dataclass(frozen=True)
class PairTest:
    """Partners against strangers.

    Attributes
    ----------
    matched, mismatched : float
        Mean cosines of the true pairs, and of all others.
    p_value : float
        Share of random pairings that match at least as well, the given one counted.
    rows : int
        Pairs looked at.
    """

    matched: float
    mismatched: float
    p_value: float
    rows: int


@dataclass(frozen=True)
class AnswerTest:
    """Right answers against guesses.

    Attributes
    ----------
    hits, asked : int
        Queries whose nearest item is right, and queries looked at.
    expected : float
        Hits, had every query been given another query's decision.
    p_value : float
        Chance of so many hits or more in `asked` draws at that rate.
    """

    hits: int
    asked: int
    expected: float
    p_value: float


def pairs_against_chance(a: Cloud, b: Cloud, *, sample: int, seed: int) -> PairTest:
    """Return how much better partners match than the same rows in a random order.

    A permutation test of the mean cosine. Cost: s^2 d for s = `sample` pairs.
    """
    a, b = a.sample(sample, seed), b.sample(sample, seed)
    units = [normalize_rows(cloud.block(slice(None))) for cloud in (a, b)]
    cosines = to_numpy(namespace(*units).matmul(units[0], units[1].T))
    rng, rows = np.random.default_rng(seed), np.arange(a.count)
    matched = float(np.trace(cosines)) / a.count
    drawn = np.array([cosines[rows, rng.permutation(rows)].mean() for _ in range(_PERMUTATIONS)])
    others = (cosines.sum() - np.trace(cosines)) / max(1, a.count * (a.count - 1))
    # A permutation's sum is taken in another order: equal ones must count as equal.
    as_good = int(np.count_nonzero(drawn >= matched - 1e-12))
    return PairTest(matched, float(others), (1 + as_good) / (1 + _PERMUTATIONS), a.count)


def answers_against_chance(
    queries: Array,
    gallery: Array,
    positives: np.ndarray,
    metric: Metric,
    *,
    sample: int,
    seed: int,
    present: np.ndarray | None = None,
) -> AnswerTest:
    """Return the hits of a sample of queries, and what decisions that ignore the query would hit.

    The chance of a hit is that of a decision drawn from all decisions made: a gallery whose every
    query finds the commonest class is no better than chance, whatever its accuracy. Cost: s n d.

    Parameters
    ----------
    queries : array (m, d)
    gallery : array (n, d), or (m, c, d) where each query has its own candidates
    positives : ndarray (m, k)
        -1 where there are fewer than k.
    metric : Metric
    sample, seed : int
    present : ndarray (m, c) of bool, optional
        Which candidates are there.
    """
    items = int(gallery.shape[-2])
    affordable = int(_SEARCH_COST / max(1, items * int(gallery.shape[-1])))
    asked = min(int(queries.shape[0]), max(50, min(sample, affordable)))
    chosen = np.sort(np.random.default_rng(seed).choice(queries.shape[0], asked, replace=False))
    xp, index = namespace(queries), asarray_like(chosen, queries)
    some, right = xp.take(queries, index, axis=0), positives[chosen]
    if gallery.ndim == 3:
        own = xp.take(gallery, index, axis=0)
        there = None if present is None else present[chosen]
        found = nearest_candidates(some, own, metric=metric, present=there)
        decided = to_numpy(found.indices)[:, 0]
    else:
        decided = to_numpy(search(some, gallery, 1, metric).indices)[:, 0]
    hits = int((right == decided[:, None]).any(axis=1).sum())
    share = np.bincount(decided, minlength=items) / asked
    expected = float(np.where(right >= 0, share[right], 0.0).sum())
    rate = min(1.0, expected / asked)
    p_value = float(special.bdtrc(hits - 1, asked, rate)) if hits > 0 and rate < 1 else 1.0
    return AnswerTest(hits, asked, expected, p_value)


def shared_directions(a: Cloud, b: Cloud, *, sample: int, seed: int) -> float:
    """Return how far the clouds' spreads lie from random rotations of each other, in deviations.

    With A and B the traceless parts of the square roots of the covariances, tr(A R B R^T) over all
    rotations R has the mean 0 and the variance 2 |A|^2 |B|^2 / ((d - 1) (d + 2)), since the traceless
    symmetric matrices are irreducible under rotations (Schur). The modalities of one model vary
    along the same directions, or, where their subjects differ, avoid each other's: both lie far from
    0. On the sets tried one model's stood at 17 and more, two models' within 1.5. Roots, because the
    few largest variances would hide the rest. Cost: s^2 d.
    """
    sizes, axes = zip(*(_spread(cloud.sample(sample, seed)) for cloud in (a, b)), strict=True)
    d = a.width
    overlap = sizes[0] @ (axes[0] @ axes[1].T) ** 2 @ sizes[1] - sizes[0].sum() * sizes[1].sum() / d
    squares = [float((s**2).sum() - s.sum() ** 2 / d) for s in sizes]
    deviation = math.sqrt(max(0.0, 2 * squares[0] * squares[1] / max(1, (d - 1) * (d + 2))))
    return float(overlap) / deviation if deviation > 0 else 0.0


def _spread(cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
    """Return standard deviations along the principal axes, and the axes as rows."""
    rows = to_numpy(cloud.block(slice(None)) - cloud.center.mean)
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    return sizes / math.sqrt(cloud.count), axes
