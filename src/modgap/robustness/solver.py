"""The integral for every query, target and noise level: from tables, or directly where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    asarray_like,
    block_slices,
    cache_elements,
    namespace,
    row_norms,
    to_numpy,
)
from modgap.robustness import tables
from modgap.robustness.binning import (
    POWERS,
    REACH,
    OffsetGrid,
    binned,
    grid_for,
    place_in,
    shortened,
)
from modgap.robustness.chi_square import FIRST_PANEL, nodes_around, squared_distance
from modgap.robustness.competition import Competition

__all__ = ["solve"]

_SMALLEST = 1e-300
#: What a query and each of its competitors cost directly, in offsets of a table (measured). Far from the
#: leader every node of every competitor takes twenty normal survivals.
_QUERY_COST = 20.0
_NEAR_COST, _FAR_COST = 0.15, 2.0


def solve(competition: Competition, targets: Array, sigmas: list[float]) -> Array:
    """Return P(the target is the nearest of its query), shape (s, m, k).

    Parameters
    ----------
    competition : Competition
    targets : array (m, k), int64
        -1 for none.
    sigmas : list of float
    """
    xp = namespace(competition.queries)
    m = competition.queries.shape[0]
    led = targets == xp.expand_dims(competition.leaders, axis=1)
    noise_free = xp.astype(led, xp.float64)
    sigmas = _within_reach(competition, sigmas)
    positive = sorted({sigma for sigma in sigmas if sigma > 0})
    if not positive or competition.items == 1:
        return xp.stack([noise_free] * len(sigmas))
    parts = list(block_slices(m, 1, elements=competition.step))
    leader_loss = xp.concat([competition.leader_loss(rows) for rows in parts])
    sweep = _Sweep.of(competition, positive, to_numpy(leader_loss))
    blocks = (_Block.of(sweep, rows, leader_loss[rows], targets[rows, :]) for rows in parts)
    directly = _is_cheaper_directly(sweep, parts[0], leader_loss)
    found = [block.directly() if directly else block.by_tables() for block in blocks]
    solved = xp.concat(found, axis=1)
    return xp.stack(
        [solved[positive.index(sigma), :, :] if sigma > 0 else noise_free for sigma in sigmas]
    )


def _within_reach(competition: Competition, sigmas: list[float]) -> list[float]:
    """Return the levels, those beyond all sense moved to where their limits are reached.

    Far below the rounding of the scores noise decides ties alone, far above them every item is as
    likely as any other; the squares of such levels underflow and overflow.
    """
    size = max(competition.longest_query, competition.largest**0.5) or 1.0
    return [min(max(sigma, 1e-10 * size), 1e12 * size) if sigma > 0 else sigma for sigma in sigmas]


@dataclass(frozen=True, eq=False)
class _Sweep:
    """The noise levels of one pass, ascending, and their grids, each the start of the last one.

    `made` holds the tables of this pass: a call may need more than are kept for later ones.
    """

    competition: Competition
    sigmas: list[float]
    grids: list[OffsetGrid]
    panels: list[list[int]]
    made: dict[tuple[float, int], tables.Table]

    @classmethod
    def of(cls, competition: Competition, sigmas: list[float], squared: np.ndarray) -> _Sweep:
        top, d = sigmas[-1], competition.width
        panels: list[list[int]] = [[0] for _ in sigmas]
        if not competition.metric.is_distance:
            reaches = [REACH * sigma / top for sigma in sigmas]
            finest = sigmas[0] / top
        else:
            reaches = [tables.euclidean_reach(squared, d, sigma, top) for sigma in sigmas]
            finest = tables.euclidean_finest(squared, d, sigmas[0], top)
            panels = [
                np.unique(tables.panel_of(np.sqrt(squared / sigma**2 + d / 2))).tolist()
                for sigma in sigmas
            ]
        whole = grid_for(max(reaches), finest)
        grids = [shortened(whole, reach) for reach in reaches[:-1]]
        return cls(competition, sigmas, [*grids, whole], panels, {})

    @property
    def top(self) -> float:
        return self.sigmas[-1]

    @property
    def grid(self) -> OffsetGrid:
        return self.grids[-1]

    def table(self, sigma: float, grid: OffsetGrid, panel: int) -> tables.Table:
        key = sigma, panel
        if key not in self.made:
            ratio = sigma / self.top
            if self.competition.metric.is_distance:
                table = tables.euclidean_table(self.competition.width, ratio, panel, grid)
            else:
                table = tables.inner_product_table(ratio, grid)
            self.made[key] = table
        return self.made[key]


def _is_cheaper_directly(sweep: _Sweep, rows: slice, leader_loss: Array) -> bool:
    """Whether survival at every competitor costs less than at every offset of the tables.

    Judged by the first block of queries. By inner product tables are made in no time.
    """
    if not sweep.competition.metric.is_distance:
        return False
    levels = zip(sweep.panels, sweep.grids, strict=True)
    cost = sum(tables.table_rows(panel, grid) for panels, grid in levels for panel in panels)
    queries = leader_loss.shape[0] * len(sweep.sigmas)
    if queries * _QUERY_COST >= cost:
        return False
    nothing = namespace(leader_loss).zeros_like(leader_loss[rows])[:, None]
    near = int(_Block.of(sweep, rows, leader_loss[rows], nothing).near_offsets()[0].size)
    each = _FAR_COST if any(max(panels) for panels in sweep.panels) else _NEAR_COST
    return bool(queries * (_QUERY_COST + each * near / (rows.stop - rows.start)) < cost)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some queries, and what offsets behind their leaders are measured with."""

    sweep: _Sweep
    rows: slice
    y: Array
    leader_loss: Array
    unit: Array
    start: Array
    targets: Array

    @classmethod
    def of(cls, sweep: _Sweep, rows: slice, leader_loss: Array, targets: Array) -> _Block:
        competition = sweep.competition
        y = competition.block(rows)
        xp = namespace(y)
        if competition.metric.is_distance:
            unit = 2 * sweep.top * xp.sqrt(leader_loss + competition.width * sweep.top**2 / 2)
        else:
            unit = sweep.top * row_norms(y)
            unit = xp.where(unit > 0, unit, xp.ones_like(unit))  # a zero query: all tie at offset 0
        # What rounding can make of a tie counts as one: the leader itself and its duplicates are at 0.
        rounding = 1e-15 * math.sqrt(competition.width)
        start = leader_loss + rounding * (xp.sum(y * y, axis=1) + competition.largest)
        return cls(sweep, rows, y, leader_loss, unit, start, targets)

    def by_tables(self) -> Array:
        """Return the probabilities (s, q, k) from tables."""
        xp = namespace(self.y)
        features: Any = None
        for loss in self.sweep.competition.losses(self.rows, self.y):
            parts = [binned(part, self.sweep.grid) for _, part in self._offsets(loss)]
            found = xp.concat(parts, axis=0)
            features = found if features is None else features + found
        own = self._own_offsets()
        zero, out = xp.zeros_like(own), []
        for sigma, grid in zip(self.sweep.sigmas, self.sweep.grids, strict=True):
            possible = (self.targets >= 0) & (own < grid.stop)
            bins, place = place_in(xp.where(possible, own, zero), grid)
            start = xp.reshape(features[:, :, : grid.bins], (self.y.shape[0], -1))
            p = self._integrate(sigma, grid, start, bins, place)
            out.append(xp.where(possible, xp.clip(p, 0.0, 1.0), zero))
        return xp.stack(out)

    def directly(self) -> Array:
        """Return the probabilities (s, q, k) with survival and density at every competitor near enough."""
        row, offset = self.near_offsets()
        order = np.argsort(row, kind="stable")
        ends = np.searchsorted(row[order], np.arange(1, self.y.shape[0]))
        near = np.split(offset[order], ends)
        own, targets = to_numpy(self._own_offsets()), to_numpy(self.targets)
        leader, unit = to_numpy(self.leader_loss), to_numpy(self.unit)
        d = self.sweep.competition.width
        out = np.zeros((len(self.sweep.sigmas), *own.shape))
        for level, (sigma, grid) in enumerate(
            zip(self.sweep.sigmas, self.sweep.grids, strict=True)
        ):
            possible = (targets >= 0) & (own < grid.stop)
            for i in np.flatnonzero(possible.any(axis=1)):
                items = near[i][near[i] < grid.stop] * (unit[i] / sigma**2)
                own_items = own[i, possible[i]] * (unit[i] / sigma**2)
                p = _quadrature(leader[i] / sigma**2, items, own_items, d)
                out[level, i, possible[i]] = np.clip(p, 0.0, 1.0)
        return asarray_like(out, self.y)

    def near_offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Return row and offset of every item that is near enough to matter, on the host."""
        rows, offsets = [], []
        for loss in self.sweep.competition.losses(self.rows, self.y):
            for some, part in self._offsets(loss):
                host = to_numpy(part)
                row, column = np.nonzero(host < self.sweep.grid.stop)
                rows.append(row + some.start)
                offsets.append(np.maximum(host[row, column], 0.0))
        return np.concatenate(rows), np.concatenate(offsets)

    def _offsets(self, loss: Array) -> Iterator[tuple[slice, Array]]:
        """Yield the offsets (r, width) of some rows of losses, as many as a cache holds."""
        xp = namespace(loss)
        origin = self.start
        if self.sweep.competition.lacks_query_norm:
            origin = origin - xp.sum(self.y * self.y, axis=1)
        origin, scale = xp.expand_dims(origin, axis=1), xp.expand_dims(1.0 / self.unit, axis=1)
        for some in block_slices(*loss.shape, elements=cache_elements(loss)):
            yield some, (loss[some, :] - origin[some, :]) * scale[some, :]

    def _own_offsets(self) -> Array:
        """Return the targets' offsets (q, k), from differences."""
        xp = namespace(self.y)
        known = xp.clip(self.targets, min=0)
        loss = self.sweep.competition.own_loss(self.rows, self.y, known)
        own = (loss - xp.expand_dims(self.start, axis=1)) / xp.expand_dims(self.unit, axis=1)
        return xp.clip(own, min=0.0)

    def _integrate(
        self, sigma: float, grid: OffsetGrid, features: Array, bins: Array, place: Array
    ) -> Array:
        """Return the integral for every target at one sigma, (q, k), panel by panel of leaders."""
        xp = namespace(features)
        leader = to_numpy(self.leader_loss)
        if not self.sweep.competition.metric.is_distance:
            table = self.sweep.table(sigma, grid, 0)
            return _apply(table, np.zeros(leader.size), features, bins, place)
        v = np.sqrt(leader / sigma**2 + self.sweep.competition.width / 2)
        panels = tables.panel_of(v)
        chosen, found = [], []
        for panel in np.unique(panels):
            some = np.flatnonzero(panels == panel)
            table = self.sweep.table(sigma, grid, int(panel))
            here = asarray_like(some, features)
            parts = [features, bins, place]
            if some.size < v.size:
                parts = [xp.take(part, here, axis=0) for part in parts]
            chosen.append(some)
            found.append(_apply(table, v[some], *parts))
        order = np.argsort(np.concatenate(chosen))
        return xp.take(xp.concat(found, axis=0), asarray_like(order, features), axis=0)


def _apply(
    table: tables.Table, parameter: np.ndarray, features: Array, bins: Array, place: Array
) -> Array:
    """Return sum_t exp(log product of survivals + the target's gain), shape (q, k)."""
    xp = namespace(features)
    rows, b, t = table.survival.shape
    q, k = bins.shape
    weights = asarray_like(table.interpolation(parameter), features)
    survival = asarray_like(table.survival.reshape(rows, b * t), features)
    gain = asarray_like(table.gain.reshape(rows, b * t), features)
    length = rows // POWERS

    def at_parameter(values: Array) -> Array:
        """Interpolate between the nodes: (q, b * t) to (q, t)."""
        if b == 1:
            return values
        return xp.sum(xp.reshape(values, (q, b, t)) * xp.expand_dims(weights, axis=2), axis=1)

    shared = at_parameter(xp.matmul(features, survival))
    out = []
    for target in range(k):
        x = xp.expand_dims(place[:, target], axis=1)
        own = xp.zeros_like(x)
        for p in reversed(range(POWERS)):  # Horner
            own = own * x + xp.take(gain, bins[:, target] + p * length, axis=0)
        out.append(xp.sum(xp.exp(shared + at_parameter(own)), axis=1))
    return xp.stack(out, axis=1)


def _quadrature(leader: float, items: np.ndarray, targets: np.ndarray, d: int) -> np.ndarray:
    """Return P(each target is nearest): items and targets by their noncentrality beyond the leader's."""
    v = math.sqrt(leader + d / 2)
    radius, weight = nodes_around(v, d, near=v < FIRST_PANEL)
    beyond = np.concatenate([items, targets])
    survival, density = squared_distance(radius**2, leader + beyond, d)
    log_survival = np.log(np.maximum(survival, _SMALLEST))
    others = log_survival[: items.size].sum(axis=0) - log_survival[items.size :]
    found: np.ndarray = (np.exp(others) * density[items.size :]) @ (2 * radius * weight)
    return found
