"""Noncentral chi-square survival and density, and the nodes that they are integrated over.

Squared distances over sigma^2 are noncentral chi-square, with d degrees of freedom and noncentrality
r^2 / sigma^2. No normalising transform is used: survival and density come from a mixture over a Poisson
count (small noncentrality) or over the chi-square of the d - 1 other directions (large noncentrality),
each exact to about 1e-10. SciPy's `ncx2` agrees, and the tests compare with it; its cost grows with the
noncentrality, up to a thousand times this one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special
from scipy.linalg import eigh_tridiagonal

__all__ = [
    "FIRST_PANEL",
    "HALF_WIDTH",
    "by_other_directions",
    "by_poisson_count",
    "chi_square_rule",
    "evenly_spaced",
    "from_zero",
    "nodes_around",
    "squared_distance",
]

#: Half width, in noise units, of the range that the target's own score is integrated over.
HALF_WIDTH = 6.3
#: v = sqrt(noncentrality + d/2) is the coordinate in which a squared distance over sigma^2 has about unit
#: standard deviation wherever it lies. Where the leader's lies below this (low dimension, and the leader
#: well within the noise), the integral starts at distance zero.
FIRST_PANEL = 12.0


def nodes_around(v: float, d: int, *, near: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return radii and weights of the integral over the winner's distance, in units of sigma.

    `v` is that of the item which is nearest without noise; with `near` the integral starts at zero.
    """
    leader = v * v - d / 2
    middle = math.sqrt(leader + d)
    if near:
        return from_zero(middle + HALF_WIDTH)
    spread = math.sqrt((d + 2 * leader) / (2 * (d + leader)))  # of the distance, over sigma
    return evenly_spaced(middle, HALF_WIDTH * spread)


def squared_distance(
    t: np.ndarray, noncentrality: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return survival and density, both (j, t), of noncentral chi-squares at t."""
    if noncentrality.min() >= max(d, 400):
        return by_other_directions(t, noncentrality, d)
    return by_poisson_count(t, noncentrality, d)


def by_poisson_count(
    t: np.ndarray, noncentrality: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noncentral chi-square as a Poisson(noncentrality / 2) mixture of chi-squares d + 2k."""
    # A noncentrality so large that it never falls below the last node needs no exact value.
    capped = np.minimum(noncentrality, (math.sqrt(t[-1]) + 2 * HALF_WIDTH) ** 2)
    half, where = np.unique(capped / 2, return_inverse=True)
    low_k = max(0, math.floor(half.min() - 9 * math.sqrt(half.min()) - 20))
    high_k = math.ceil(half.max() + 9 * math.sqrt(half.max()) + 30)
    k = np.arange(low_k, high_k + 1, dtype=np.float64)
    log_poisson = special.xlogy(k[None, :], half[:, None]) - half[:, None] - special.gammaln(k + 1)
    poisson = np.exp(log_poisson)
    shape, x = d / 2 + k[:, None], t[None, :] / 2
    # One count more adds x^shape e^-x / Gamma(shape + 1) to the survival: all terms are positive.
    step = np.exp(special.xlogy(shape, x) - x - special.gammaln(shape + 1))
    survival = np.cumsum(np.vstack([special.gammaincc(shape[:1], x), step[:-1]]), axis=0)
    density = step * shape / (2 * x)
    return (poisson @ survival)[where], (poisson @ density)[where]


def by_other_directions(
    t: np.ndarray, noncentrality: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noncentral chi-square as (z + sqrt(noncentrality))^2 plus a chi-square of d - 1, by Gauss rule."""
    c, w = chi_square_rule(d - 1)
    radius = np.sqrt(np.maximum(t[None, :] - c[:, None], 0.0))
    centre = np.sqrt(noncentrality)
    survival = np.zeros((centre.size, t.size))
    density = np.zeros_like(survival)
    for weight, r in zip(w, radius, strict=True):
        step = centre[:, None] - r[None, :]
        survival += weight * special.ndtr(step)
        # The bell is zero long before the radius falls to one.
        density += weight / (2 * np.maximum(r, 1.0)) * np.exp(-0.5 * step * step)
    return survival, density / math.sqrt(2 * math.pi)


@lru_cache(maxsize=32)
def chi_square_rule(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss nodes and weights of the chi-square distribution (generalised Laguerre)."""
    if k == 0:
        return np.zeros(1), np.ones(1)
    size, shape = 20, k / 2 - 1
    i = np.arange(size)
    diagonal = 2 * i + 1 + shape
    beside = np.sqrt(i[1:] * (i[1:] + shape))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    return 2 * nodes, vectors[0] ** 2


def evenly_spaced(middle: float, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights around a score: the trapezoid rule.

    The integrand dies out on both sides, so the rule converges faster than any power. A dense
    gallery leaves a bell a third as wide as the noise, off the middle, that wider gaps would miss.
    """
    nodes = np.linspace(middle - half_width, middle + half_width, 48)
    return nodes, np.full(nodes.size, nodes[1] - nodes[0])


def from_zero(high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights from zero, where the integrand need not die out."""
    nodes, weights = _legendre(104)
    return high / 2 * (nodes + 1), high / 2 * weights


@lru_cache(maxsize=1)
def _legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(size)
    return nodes, weights
