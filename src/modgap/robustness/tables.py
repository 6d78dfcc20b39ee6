"""Tables of the exact Gaussian stability integral: host side, float64, built once and cached.

Gallery noise N(0, sigma^2 I) leaves the scores of the items independent, so the probability that one
item (the target) stays the nearest is a one-dimensional integral,

    p = integral f_target(s) prod_{j != target} S_j(s) ds,

with f the density of the target's noisy score and S_j the probability that item j scores worse.

* Inner product: scores are normal with standard deviation sigma |y|.
* Euclidean: squared distances over sigma^2 are noncentral chi-square, d degrees of freedom and
  noncentrality r_j^2 / sigma^2. No normalising transform is used; S and f come from a mixture over a
  Poisson count (small noncentrality) or over the chi-square of the d - 1 other directions
  (large noncentrality), each exact to about 1e-10.

The integral is taken around the leader, the item that is nearest without noise. How far any other
item lies behind the leader, in units of the noise, is all that enters: log S_j and log f are smooth
in that offset. `OffsetGrid` cuts it into bins, fine near zero and growing with the offset, and within
a bin both are cubics. A query is then its bin counts and the first three powers of the places within
the bins, and the sum of log S_j over thousands of items is one product with a small table. The table
for Euclidean distance depends on the leader's own distance too, smoothly: a few Chebyshev nodes
carry that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import special
from scipy.linalg import eigh_tridiagonal

#: A competitor this many noise units behind never wins: it would take a 1e-10 event on both sides.
REACH = 12.5
#: Half width, in noise units, of the range that the target's own score is integrated over.
HALF_WIDTH = 6.3
#: Powers of the position within a bin: a cubic.
POWERS = 4

_LOG_STEP = 0.05
_SMALLEST = 1e-300


@dataclass(frozen=True)
class OffsetGrid:
    """Bins of offsets x >= 0: ``bin = floor(log1p(x / fine) / 0.05)``.

    Attributes
    ----------
    fine : float
        Offset up to which the bins are about evenly wide, in the unit of x.
    bins : int
    """

    fine: float
    bins: int

    @property
    def step(self) -> float:
        """Width of a bin in log1p(x / fine)."""
        return _LOG_STEP

    @property
    def stop(self) -> float:
        """Offset at which the last bin ends."""
        return self.fine * math.expm1(self.bins * _LOG_STEP)

    def offsets(self, within: np.ndarray) -> np.ndarray:
        """Return the offsets at positions `within` (p,) in [-1/2, 1/2] of every bin, (bins, p)."""
        steps = np.arange(self.bins)[:, None] + 0.5 + within[None, :]
        offsets: np.ndarray = self.fine * np.expm1(steps * _LOG_STEP)
        return offsets


def shortened(grid: OffsetGrid, reach: float) -> OffsetGrid:
    """Return the first bins of a grid, up to offset `reach`."""
    bins = math.ceil(math.log1p(reach / grid.fine) / _LOG_STEP) + 1
    rounded = 4 * math.ceil(bins / 4)  # few lengths, cached tables
    return OffsetGrid(fine=grid.fine, bins=min(rounded, grid.bins))


def grid_for(reach: float, finest: float) -> OffsetGrid:
    """Return the grid up to offset `reach` where the smallest noise has standard deviation `finest`."""
    fine = 2.0 * 2.0 ** math.floor(math.log2(finest))  # powers of two: few grids, cached tables
    bins = math.ceil(math.log1p(reach / fine) / _LOG_STEP) + 1
    return OffsetGrid(fine=fine, bins=4 * math.ceil(bins / 4))


@dataclass(frozen=True)
class Table:
    """The integral as arrays.

    For the leader at parameter node b, p = sum_t exp(features @ log_survival[b, :, t] + own
    @ log_gain[b, :, t]) with `own` the features of the target item alone.

    Attributes
    ----------
    nodes : ndarray (b,)
        Chebyshev nodes of the parameter that the leader's distance enters by; one where none does.
    log_survival : ndarray (b, POWERS * bins, t)
        Cubic coefficients of log S per bin and integration node, powers slowest.
    log_gain : ndarray (b, POWERS * bins, t)
        The same for log f + log(integration weight) - log S: what turns an item into the target.
    """

    nodes: np.ndarray
    log_survival: np.ndarray
    log_gain: np.ndarray

    @cached_property
    def survival_columns(self) -> np.ndarray:
        """`log_survival` as one matrix (POWERS * bins, b * t)."""
        return _side_by_side(self.log_survival)

    @cached_property
    def gain_columns(self) -> np.ndarray:
        """`log_gain` as one matrix (POWERS * bins, b * t)."""
        return _side_by_side(self.log_gain)

    def interpolation(self, parameter: np.ndarray) -> np.ndarray:
        """Return barycentric Lagrange weights (m, b) of the nodes at each parameter value."""
        if self.nodes.size == 1:
            return np.ones((parameter.size, 1))
        k = np.arange(self.nodes.size)
        angle = (2 * k + 1) * math.pi / (2 * k.size)
        bary = np.where(k % 2, -1.0, 1.0) * np.sin(angle)
        step = parameter[:, None] - self.nodes[None, :]
        hit = np.abs(step) < 1e-14
        step = np.where(hit, 1.0, step)
        raw: np.ndarray = np.where(hit.any(axis=1, keepdims=True), hit, bary / step)
        weights: np.ndarray = raw / raw.sum(axis=1, keepdims=True)
        return weights


@lru_cache(maxsize=64)
def inner_product_table(ratio: float, grid: OffsetGrid) -> Table:
    """Return the table of the inner product at sigma = `ratio` times the smallest sigma."""
    u, w = _evenly_spaced(0.0, HALF_WIDTH)
    within, fit = _cubic_fit()
    step = u[None, None, :] + (grid.offsets(within) / ratio)[:, :, None]
    survival = special.log_ndtr(step)
    density = -0.5 * step * step - 0.5 * math.log(2 * math.pi) + np.log(w)
    return Table(
        nodes=np.zeros(1),
        log_survival=_coefficients(survival, fit)[None],
        log_gain=_coefficients(density - survival, fit)[None],
    )


# --- Euclidean distance ------------------------------------------------------------------------
#
# v = sqrt(noncentrality + d/2) is the coordinate in which a squared distance over sigma^2 has about
# unit standard deviation wherever it lies. Leaders are sorted into panels of v: panel 0 up to
# FIRST_PANEL (low dimension, and the leader well within the noise), where the integration starts at
# distance zero; then two panels for each doubling of v.

FIRST_PANEL = 12.0


def panel_of(v: np.ndarray) -> np.ndarray:
    """Return the panel each leader falls in, integers >= 0."""
    steps = np.floor(2 * np.log2(np.maximum(v, FIRST_PANEL) / FIRST_PANEL)).astype(np.int64)
    return np.where(v < FIRST_PANEL, 0, steps + 1)


@lru_cache(maxsize=64)
def euclidean_table(d: int, sigma: float, top: float, panel: int, grid: OffsetGrid) -> Table:
    """Return the table of Euclidean distance for one panel of leaders; its parameter is v.

    Parameters
    ----------
    d : int
        Degrees of freedom.
    sigma, top : float
        Noise, and the largest noise of the sweep, which sets the unit of the offsets.
    panel : int
    grid : OffsetGrid
    """
    start = math.sqrt(d / 2)  # the leader lies on the query
    if panel == 0:
        nodes = _chebyshev(start, FIRST_PANEL, 44)
    else:
        edge = FIRST_PANEL * 2.0 ** (panel / 2)
        nodes = _chebyshev(max(start, edge / math.sqrt(2)), edge, 5)
    within, fit = _cubic_fit()
    offsets = grid.offsets(within)
    survivals, gains = [], []
    for v in nodes:
        leader = v * v - d / 2
        unit = euclidean_unit(leader * sigma**2, d, top) / sigma**2
        middle = math.sqrt(leader + d)
        spread = math.sqrt((d + 2 * leader) / (2 * (d + leader)))  # of the distance, over sigma
        if panel == 0:
            radius, w = _from_zero(middle + HALF_WIDTH)
        else:
            radius, w = _evenly_spaced(middle, HALF_WIDTH * spread)
        noncentrality = leader + offsets.ravel() * unit
        survival, density = _squared_distance(radius**2, noncentrality, d)
        log_survival = np.log(np.maximum(survival, _SMALLEST))
        gain = np.log(np.maximum(density, _SMALLEST)) + np.log(2 * radius * w) - log_survival
        shape = (*offsets.shape, radius.size)
        survivals.append(_coefficients(log_survival.reshape(shape), fit))
        gains.append(_coefficients(gain.reshape(shape), fit))
    return Table(nodes, np.stack(survivals), np.stack(gains))


def euclidean_unit(squared_distance: np.ndarray, d: int, top: float) -> np.ndarray:
    """Return the unit of offsets in squared distance: their standard deviation at noise `top`."""
    return 2 * top * np.sqrt(squared_distance + d * top**2 / 2)


def euclidean_reach(squared_distance: np.ndarray, d: int, sigma: float, top: float) -> float:
    """Return the largest offset, in units at noise `top`, that matters at noise `sigma`."""
    v = np.sqrt(squared_distance / sigma**2 + d / 2)
    behind = sigma**2 * (REACH**2 + 2 * REACH * v)
    return float((behind / euclidean_unit(squared_distance, d, top)).max())


def euclidean_finest(squared_distance: np.ndarray, d: int, sigma: float, top: float) -> float:
    """Return the smallest standard deviation at noise `sigma`, in units at noise `top`."""
    own = euclidean_unit(squared_distance, d, sigma)
    return float((own / euclidean_unit(squared_distance, d, top)).min())


def _squared_distance(
    t: np.ndarray, noncentrality: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return survival and density, both (j, t), of noncentral chi-squares at t."""
    if noncentrality.min() >= max(d, 400):
        return _by_other_directions(t, noncentrality, d)
    return _by_poisson_count(t, noncentrality, d)


def _by_poisson_count(
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


def _by_other_directions(
    t: np.ndarray, noncentrality: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noncentral chi-square as (z + sqrt(noncentrality))^2 plus a chi-square of d - 1, by Gauss rule."""
    c, w = _chi_square_rule(d - 1)
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
def _chi_square_rule(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss nodes and weights of the chi-square distribution (generalised Laguerre)."""
    if k == 0:
        return np.zeros(1), np.ones(1)
    size, shape = 20, k / 2 - 1
    i = np.arange(size)
    diagonal = 2 * i + 1 + shape
    beside = np.sqrt(i[1:] * (i[1:] + shape))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    return 2 * nodes, vectors[0] ** 2


def _chebyshev(low: float, high: float, size: int) -> np.ndarray:
    angle = (2 * np.arange(size) + 1) * math.pi / (2 * size)
    return low + (high - low) * (1 + np.cos(angle)) / 2


def _evenly_spaced(middle: float, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights around a score: the trapezoid rule.

    The integrand dies out on both sides, so the rule converges faster than any power. A dense
    gallery leaves a bell a third as wide as the noise, off the middle, that wider gaps would miss.
    """
    nodes = np.linspace(middle - half_width, middle + half_width, 48)
    return nodes, np.full(nodes.size, nodes[1] - nodes[0])


def _from_zero(high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights from zero, where the integrand need not die out."""
    nodes, weights = _legendre(104)
    return high / 2 * (nodes + 1), high / 2 * weights


@lru_cache(maxsize=1)
def _legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(size)
    return nodes, weights


@lru_cache(maxsize=1)
def _cubic_fit() -> tuple[np.ndarray, np.ndarray]:
    """Return positions within a bin, and the matrix from values there to cubic coefficients."""
    within = 0.5 * np.cos((2 * np.arange(POWERS) + 1) * math.pi / (2 * POWERS))
    return within, np.linalg.inv(np.vander(within, POWERS, increasing=True))


def _side_by_side(tables: np.ndarray) -> np.ndarray:
    b, rows, t = tables.shape
    return np.ascontiguousarray(np.moveaxis(tables, 0, 1)).reshape(rows, b * t)


def _coefficients(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return cubic coefficients from values (bins, POWERS, t) as a matrix (POWERS * bins, t)."""
    out = np.einsum("pw,bwt->pbt", fit, values)
    return np.ascontiguousarray(out.reshape(-1, values.shape[2]))
