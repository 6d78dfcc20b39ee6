"""Observations that use no formula of the theory.

Losses are plain sums, derivatives complex steps, scores SciPy's distances, shares are sampled.
A complex step is exact to rounding: Im f(x + i h v) / h with h = 1e-30 subtracts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.distance import cdist

from modgap.decisions.metric import Metric

__all__ = [
    "changed_decisions",
    "contrastive",
    "has_no_spread",
    "item_scores",
    "row_slopes",
    "sampled_hits",
    "score_rounding",
    "sigmoid",
    "slope",
    "softmax_mass",
]

_STEP = 1e-30


def contrastive(x: np.ndarray, y: np.ndarray, temperature: float, *, distance: bool) -> complex:
    """Return the symmetric softmax loss of two paired clouds, which may be complex."""
    logits = _similarities(x, y, distance=distance) / temperature
    own = np.diagonal(logits)
    return complex(np.mean(_log_sum(logits, 0) + _log_sum(logits, 1) - 2.0 * own))


def sigmoid(x: np.ndarray, y: np.ndarray, temperature: float, bias: float) -> complex:
    """Return the sigmoid loss by inner product, pair by pair; rows may be complex."""
    logits = _similarities(x, y, distance=False) / temperature + bias
    signs = 2.0 * np.eye(len(x)) - 1.0
    return complex(np.sum(_log_one_plus_exp(-signs * logits)) / len(x))


def softmax_mass(x: np.ndarray, y: np.ndarray, temperature: float) -> np.ndarray:
    """Return what all x give to each y, by squared distances: a double loop over the softmaxes."""
    mass = np.zeros(len(y))
    for row in x:
        far = np.array([np.sum((row - other) ** 2) for other in y])
        weights = np.exp(-(far - far.min()) / temperature)
        mass += weights / weights.sum()
    return mass


def slope(loss: Callable[[np.ndarray, np.ndarray], complex], x: np.ndarray, y: np.ndarray,
          along_x: np.ndarray | float, along_y: np.ndarray | float) -> float:  # fmt: skip
    """Return the derivative of a loss where the clouds move along two arrays of their own shape."""
    return loss(x + 1j * _STEP * along_x, y + 1j * _STEP * along_y).imag / _STEP


def row_slopes(
    loss: Callable[[np.ndarray, np.ndarray], complex],
    x: np.ndarray,
    y: np.ndarray,
    unit: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivative by each row of x, and of y, along one direction: row by row."""
    found = np.zeros((2, len(x)))
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = unit
        found[0, i] = slope(loss, x, y, step, 0.0)
        found[1, i] = slope(loss, x, y, 0.0, step)
    return found[0], found[1]


def item_scores(queries: np.ndarray, gallery: np.ndarray, metric: Metric) -> np.ndarray:
    """Return scores (m, n), the largest the nearest: y.x, or by distance (|y|^2 - |y - x|^2) / 2."""
    y, x = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)
    if metric.is_distance:
        lengths = np.einsum("ij,ij->i", y, y)[:, None]
        return np.asarray((lengths - cdist(y, x, "sqeuclidean")) / 2.0)
    scores = np.einsum("id,jd->ij", y, x, optimize=True)
    if metric.needs_directions:
        lengths = [np.sqrt(np.einsum("ij,ij->i", rows, rows)) for rows in (y, x)]
        scores = scores / (lengths[0][:, None] * lengths[1][None, :])
    return np.asarray(scores)


def score_rounding(*clouds: np.ndarray) -> float:
    """Return what float64 leaves of a difference of two scores of rows as long as these."""
    squares = [np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max() for rows in clouds]
    longest = float(max(squares))
    return 16.0 * float(np.finfo(np.float64).eps) * math.sqrt(clouds[0].shape[1]) * longest


def has_no_spread(rows: np.ndarray) -> bool:
    """Return whether rows differ so little that rounding would tell in the scores about their mean."""
    return bool(np.ptp(rows, axis=0).max() <= 1e-6 * np.abs(rows).max())


def changed_decisions(before: np.ndarray, after: np.ndarray, tie: float) -> int:
    """Return how many queries decide for an item that was worse than the best one by more than a tie."""
    rows = np.arange(len(before))
    lost = before.max(axis=1) - before[rows, after.argmax(axis=1)]
    return int(np.count_nonzero(lost > tie))


def sampled_hits(
    places: Sequence[tuple[Sequence[np.ndarray], Metric]],
    gallery: np.ndarray,
    sigma: float,
    *,
    draws: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Return whether each query keeps its decision in each draw, the same noise for all.

    Parameters
    ----------
    places : sequence of (versions, metric)
        Versions (m, d) of the same queries; the decision to be kept is that of the first without noise.
    gallery : ndarray (n, d)
    sigma : float
    draws : int
    rng : Generator

    Returns
    -------
    list of ndarray (draws, versions, m) of bool
    """
    rows = [np.concatenate(versions).astype(np.float32) for versions, _ in places]
    hits = [np.zeros((draws, len(each)), dtype=bool) for each in rows]
    wanted = [
        np.tile(item_scores(versions[0], gallery, metric).argmax(axis=1), len(versions))
        for versions, metric in places
    ]
    for draw in range(draws):
        noisy = gallery.astype(np.float32)
        noisy += np.float32(sigma) * rng.standard_normal(noisy.shape, dtype=np.float32)
        lengths = 0.5 * np.einsum("ij,ij->i", noisy, noisy)
        for i, (_, metric) in enumerate(places):
            scores = rows[i] @ noisy.T
            if metric.is_distance:
                scores -= lengths
            hits[i][draw] = scores.argmax(axis=1) == wanted[i]
    return [found.reshape(draws, len(v), -1) for found, (v, _) in zip(hits, places, strict=True)]


def _similarities(x: np.ndarray, y: np.ndarray, *, distance: bool) -> np.ndarray:
    products = x @ y.T
    if not distance:
        return np.asarray(products)
    return np.asarray(2.0 * products - np.sum(x * x, axis=1)[:, None] - np.sum(y * y, axis=1))


def _log_one_plus_exp(values: np.ndarray) -> np.ndarray:
    flipped = np.where(values.real > 0, -values, values)  # exp of what is negative cannot overflow
    return np.asarray(np.where(values.real > 0, values, 0.0) + np.log(1.0 + np.exp(flipped)))


def _log_sum(logits: np.ndarray, axis: int) -> np.ndarray:
    top = logits.real.max(axis=axis, keepdims=True)
    return np.asarray(np.squeeze(top, axis) + np.log(np.sum(np.exp(logits - top), axis=axis)))
