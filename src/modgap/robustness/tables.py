"""Tables of the exact Gaussian stability integral: host side, float64, the last ones kept.

Gallery noise N(0, sigma^2 I) leaves the scores of the items independent, so the probability that one
item (the target) stays the nearest is a one-dimensional integral,

    p = integral f_target(s) prod_{j != target} S_j(s) ds,

with f the density of the target's noisy score and S_j the probability that item j scores worse. By inner
product scores are normal with standard deviation sigma |y|; squared distances over sigma^2 are noncentral
chi-square (`chi_square`). With the offsets binned (`binning`), the sum of log S_j over thousands of items
is one product with a small table. The table for Euclidean distance depends on the leader's own distance
too, smoothly: a few Chebyshev nodes carry that.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
from scipy import special

from modgap.robustness.binning import POWERS, REACH, OffsetGrid
from modgap.robustness.chi_square import (
    FIRST_PANEL,
    HALF_WIDTH,
    evenly_spaced,
    nodes_around,
    squared_distance,
)

__all__ = [
    "Table",
    "clear",
    "euclidean_finest",
    "euclidean_reach",
    "euclidean_table",
    "euclidean_unit",
    "inner_product_table",
    "panel_of",
    "table_rows",
]

_SMALLEST = 1e-300
#: Bytes of tables kept for later calls. One of few dimensions takes 20 to 60 MiB, others 1 to 4.
_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Table:
    """The integral as arrays.

    For the leader at parameter node b, p = sum_t exp(features @ survival[:, b, t] + own @ gain[:, b, t])
    with `own` the features of the target item alone.

    Attributes
    ----------
    nodes : ndarray (b,)
        Chebyshev nodes of the parameter that the leader's distance enters by; one where none does.
    survival : ndarray (POWERS * bins, b, t)
        Cubic coefficients of log S per bin and integration node, powers slowest.
    gain : ndarray (POWERS * bins, b, t)
        The same for log f + log(integration weight) - log S: what turns an item into the target.
    """

    nodes: np.ndarray
    survival: np.ndarray
    gain: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory that the table takes."""
        return self.survival.nbytes + self.gain.nbytes

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


class _Kept:
    """The tables used last, as many as fit into a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tables: OrderedDict[Hashable, Table] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Table]) -> Table:
        """Return the table of a key, made where it is not kept."""
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        table = make()
        with self._lock:
            self._tables[key] = table
            while self.bytes > self.limit:
                self._tables.popitem(last=False)
        return table

    @property
    def bytes(self) -> int:
        """Memory that the tables take."""
        return sum(table.bytes for table in self._tables.values())

    def clear(self) -> None:
        """Forget all tables."""
        with self._lock:
            self._tables.clear()


_kept = _Kept(_KEPT_BYTES)
#: Forget all tables, as in a new process.
clear = _kept.clear


def inner_product_table(ratio: float, grid: OffsetGrid) -> Table:
    """Return the table of the inner product; offsets are in units of 1 / `ratio` of the noise.

    Parameters
    ----------
    ratio : float
        sigma over the largest sigma of the sweep, which sets the unit of the offsets.
    grid : OffsetGrid
    """
    return _kept.get(("ip", ratio, grid), lambda: _make_inner_product(ratio, grid))


def euclidean_table(d: int, ratio: float, panel: int, grid: OffsetGrid) -> Table:
    """Return the table of Euclidean distance for one panel of leaders; its parameter is v.

    Parameters
    ----------
    d : int
        Degrees of freedom.
    ratio : float
        sigma over the largest sigma of the sweep, which sets the unit of the offsets.
    panel : int
    grid : OffsetGrid
    """
    key = ("euclidean", d, ratio, panel, grid)
    return _kept.get(key, lambda: _make_euclidean(d, ratio, panel, grid))


def _make_inner_product(ratio: float, grid: OffsetGrid) -> Table:
    u, w = evenly_spaced(0.0, HALF_WIDTH)
    within, fit = _cubic_fit()
    step = u[None, None, :] + (grid.offsets(within) / ratio)[:, :, None]
    survival = special.log_ndtr(step)
    density = -0.5 * step * step - 0.5 * math.log(2 * math.pi) + np.log(w)
    columns = [_coefficients(part, fit)[:, None] for part in (survival, density - survival)]
    return Table(np.zeros(1), *columns)


# --- Euclidean distance ------------------------------------------------------------------------
#
# Leaders are sorted into panels of v: panel 0 up to FIRST_PANEL, then two for each doubling of v.

_NEAR_NODES, _FAR_NODES = 44, 5


def panel_of(v: np.ndarray) -> np.ndarray:
    """Return the panel each leader falls in, integers >= 0."""
    steps = np.floor(2 * np.log2(np.maximum(v, FIRST_PANEL) / FIRST_PANEL)).astype(np.int64)
    return np.where(v < FIRST_PANEL, 0, steps + 1)


def table_rows(panel: int, grid: OffsetGrid) -> int:
    """Return at how many offsets, over all nodes, a table needs survival and density: its cost."""
    return (_FAR_NODES if panel else _NEAR_NODES) * POWERS * grid.bins


def _make_euclidean(d: int, ratio: float, panel: int, grid: OffsetGrid) -> Table:
    start = math.sqrt(d / 2)  # the leader lies on the query
    if panel == 0:
        nodes = _chebyshev(start, FIRST_PANEL, _NEAR_NODES)
    else:
        edge = FIRST_PANEL * 2.0 ** (panel / 2)
        nodes = _chebyshev(max(start, edge / math.sqrt(2)), edge, _FAR_NODES)
    within, fit = _cubic_fit()
    offsets = grid.offsets(within)
    survivals, gains = [], []
    for v in nodes:
        leader = v * v - d / 2
        unit = euclidean_unit(leader * ratio**2, d, 1.0) / ratio**2
        radius, w = nodes_around(v, d, near=panel == 0)
        survival, density = squared_distance(radius**2, leader + offsets.ravel() * unit, d)
        log_survival = np.log(np.maximum(survival, _SMALLEST))
        gain = np.log(np.maximum(density, _SMALLEST)) + np.log(2 * radius * w) - log_survival
        shape = (*offsets.shape, radius.size)
        survivals.append(_coefficients(log_survival.reshape(shape), fit))
        gains.append(_coefficients(gain.reshape(shape), fit))
    return Table(nodes, np.stack(survivals, axis=1), np.stack(gains, axis=1))


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


def _chebyshev(low: float, high: float, size: int) -> np.ndarray:
    angle = (2 * np.arange(size) + 1) * math.pi / (2 * size)
    return low + (high - low) * (1 + np.cos(angle)) / 2


@lru_cache(maxsize=1)
def _cubic_fit() -> tuple[np.ndarray, np.ndarray]:
    """Return positions within a bin, and the matrix from values there to cubic coefficients."""
    within = 0.5 * np.cos((2 * np.arange(POWERS) + 1) * math.pi / (2 * POWERS))
    return within, np.linalg.inv(np.vander(within, POWERS, increasing=True))


def _coefficients(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return cubic coefficients from values (bins, POWERS, t) as a matrix (POWERS * bins, t)."""
    out = np.einsum("pw,bwt->pbt", fit, values)
    return np.ascontiguousarray(out.reshape(-1, values.shape[2]))
