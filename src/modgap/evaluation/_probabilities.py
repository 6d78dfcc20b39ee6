"""From scores to probabilities of classes, block by block, and the scale that suits them best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit, logsumexp

from modgap._core.arrays import as_float64, block_slices, to_numpy
from modgap.robustness.systems import System

__all__ = ["Judgement", "Link", "judge", "refitted"]

#: Scores that are held at once, 64 MiB.
_ELEMENTS = 2**23
#: Queries that a scale is fitted to at most: one number is known well enough from fewer.
_QUERIES = 5000
#: Between these a scale is looked for, times the scale of what it multiplies.
_RANGE = (1e-3, 1e4)


@dataclass(frozen=True)
class Link:
    """What turns scores into probabilities: a softmax of scale * score, or a sigmoid of it plus a bias.

    Attributes
    ----------
    scale : float
    bias : float or None
        None for a softmax, which a bias does not change.
    """

    scale: float
    bias: float | None = None

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities (q, n); scores of minus infinity have none."""
        if self.bias is None:
            logits = self.scale * scores
            out: np.ndarray = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
            return out
        return np.asarray(expit(self.scale * scores + self.bias))

    def losses(self, scores: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the negative log likelihood (q,) of the right class; of a sigmoid that of all classes."""
        places = np.arange(len(right)), right
        if self.bias is None:
            logits = self.scale * scores
            return np.asarray(logsumexp(logits, axis=1) - logits[places])
        logits = self.scale * scores + self.bias
        known = np.isfinite(logits)
        others = -np.where(known, log_expit(-np.where(known, logits, 0.0)), 0.0).sum(axis=1)
        return np.asarray(others - logits[places])  # log(1 - p) - log p = -logit


@dataclass(frozen=True)
class Judgement:
    """What probabilities say, query by query.

    Attributes
    ----------
    confidence : ndarray (m,)
        Probability of the class that is decided for.
    right : ndarray (m,) of bool
    loss : ndarray (m,)
        Negative log likelihood, natural logarithm.
    brier : ndarray (m,)
        Sum over the classes of (probability - truth)^2.
    """

    confidence: np.ndarray
    right: np.ndarray
    loss: np.ndarray
    brier: np.ndarray

    @classmethod
    def joined(cls, parts: list[Judgement], order: np.ndarray) -> Judgement:
        """Return the judgements of several parts of the queries as one."""
        names = ("confidence", "right", "loss", "brier")
        return cls(*(np.concatenate([getattr(p, name) for p in parts])[order] for name in names))


def judge(system: System, right: np.ndarray, link: Link) -> Judgement:
    """Return what the probabilities of a system's scores say of each query. Cost: m n d."""
    found = []
    for rows, scores in _blocks(system, np.arange(len(right))):
        mine, places = right[rows], np.arange(len(rows))
        p = link.probabilities(scores)
        decided = scores.argmax(axis=1)
        of_right = p[places, mine]
        brier = (p * p).sum(axis=1) - 2 * of_right + 1
        loss = link.losses(scores, mine)
        found.append(Judgement(p[places, decided], decided == mine, loss, brier))
    return Judgement.joined(found, np.arange(len(right)))


def refitted(system: System, right: np.ndarray, start: Link, seed: int) -> Link:
    """Return the link of the same kind that makes the right classes likeliest.

    One number for a softmax, two for a sigmoid; at most 5,000 queries, drawn at random, say which. The
    scale ends at a bound where the loss falls without end: all answers right, or worse than by chance.
    """
    items = int(system.gallery.shape[-2])
    most = min(_QUERIES, max(100, _ELEMENTS // items))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(right))[:most])
    scores = np.concatenate([block for _, block in _blocks(system, drawn)])
    mine = right[drawn]
    known = scores[np.isfinite(scores)]
    unit = float(known.std()) or 1.0
    low, high = np.log(_RANGE[0] / unit), np.log(_RANGE[1] / unit)
    if start.bias is None:
        return Link(float(np.exp(_best_scale(scores, mine, low, high))))
    return _best_link(scores, mine, low, high)


def _best_link(scores: np.ndarray, right: np.ndarray, low: float, high: float) -> Link:
    """Return the sigmoid of least loss; scores about their mean, so that scale and bias hardly interact."""
    there = np.isfinite(scores)
    center = float(scores[there].mean())
    about = np.where(there, scores - center, 0.0)
    places, queries = (np.arange(len(right)), right), len(right)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = float(np.exp(x[0])), float(x[1])
        link = Link(scale, bias - scale * center)
        step = link.probabilities(scores)
        step[places] -= 1.0
        slope = np.array([scale * float((step * about).sum()), float(step.sum())]) / queries
        return float(link.losses(scores, right).mean()), slope

    rate = len(right) / float(there.sum())  # of pairs that belong together
    first = np.array([low + 0.5 * (high - low), np.log(rate) - np.log1p(-min(rate, 0.5))])
    best = minimize(
        loss, first, jac=True, method="L-BFGS-B", bounds=[(low, high), (-200.0, 200.0)]
    ).x
    scale = float(np.exp(best[0]))
    return Link(scale, float(best[1]) - scale * center)


def _best_scale(scores: np.ndarray, right: np.ndarray, low: float, high: float) -> float:
    """Return the logarithm of the scale at which the mean loss of a softmax is least.

    The loss is convex in the scale, with the slope E[score] - score of the right class.
    """
    own = scores[np.arange(len(right)), right]
    there = np.isfinite(scores)
    filled = np.where(there, scores, 0.0)

    def slope(log_scale: float) -> float:
        p = Link(float(np.exp(log_scale))).probabilities(scores)
        return float(((p * filled).sum(axis=1) - own).mean())

    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    return float(brentq(slope, low, high, xtol=1e-6))


def _blocks(system: System, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of some queries and their float64 scores (q, n) of all items, larger is nearer.

    By distance -d^2 / 2, which for unit rows is the cosine up to a constant. Items that are not there have
    minus infinity.
    """
    metric, items = system.comparison, int(system.gallery.shape[-2])
    queries, gallery = to_numpy(system.queries), to_numpy(system.gallery)
    if not system.own_candidates:
        gallery = as_float64(metric.prepare(gallery))
        squares = (gallery * gallery).sum(axis=1)
    width = max(items, int(gallery.shape[-1])) * (
        int(gallery.shape[-1]) if gallery.ndim == 3 else 1
    )
    for part in block_slices(len(chosen), width, elements=_ELEMENTS):
        rows = chosen[part]
        if system.own_candidates:
            scores = np.asarray(metric.pair_scores(queries[rows], gallery[rows]))
            scores = -0.5 * scores**2 if metric.is_distance else scores
        else:
            own = as_float64(metric.prepare(queries[rows]))
            scores = own @ gallery.T
            if metric.is_distance:
                scores -= 0.5 * (squares + (own * own).sum(axis=1, keepdims=True))
        if system.present is not None:
            scores = np.where(system.present[rows], scores, -np.inf)
        yield rows, scores
