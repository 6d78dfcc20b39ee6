"""Decisions under random noise by sampling: one matrix product per draw for a whole sweep.

With s the size of the noise and e its unit draw, the perturbed scores expand,

    y.(x + s e) = y.x + s y.e        |x + s e|^2 = |x|^2 + 2 s x.e + s^2 |e|^2,

so a draw costs one product y.e, shared by every size s and by every system (a pair of mapped clouds)
whose moving side differs from the first one's by a constant shift: all alphas of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import (
    Array,
    asarray_like,
    block_slices,
    device_elements,
    namespace,
    normalize_rows,
    to_numpy,
    working_float,
)
from modgap._core.memory import halving
from modgap._core.random import Draws, as_drawn, draws_for
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import first_copies
from modgap.robustness.counting import Count
from modgap.robustness.kinds import RandomNoise
from modgap.robustness.systems import System

__all__ = ["Sampled", "sample_before", "sample_decisions", "stored_on"]

_SCORE_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class Sampled:
    """Shares of draws, per query, for one system at one noise.

    Attributes
    ----------
    wins : ndarray (m, k)
        Share of draws in which target k of the query was the decision.
    draw_means : ndarray (draws,)
        Share of queries whose first target won, draw by draw; its scatter gives the error of the
        mean, with the correlation that one draw's noise brings to all queries.
    """

    wins: np.ndarray
    draw_means: np.ndarray

    @property
    def stderr(self) -> float:
        """Standard error of the mean share of the first target."""
        draws = self.draw_means.size
        return float(self.draw_means.std(ddof=1) / np.sqrt(draws)) if draws > 1 else float("nan")


@halving
def sample_decisions(
    systems: Sequence[System],
    targets: Sequence[np.ndarray],
    noises: Sequence[RandomNoise],
    *,
    sizes: Sequence[Sequence[float]] | None = None,
    draws: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[list[Sampled]]:
    """Return, per system and noise, how often each target is the decision.

    Parameters
    ----------
    systems : sequence of System
        All with the same numbers of queries and items.
    targets : sequence of ndarray (m, k)
        Item indices to count per system; -1 never wins.
    noises : sequence of RandomNoise
        All of one kind and side; they share the draws, so a sweep over sizes has no jitter.
    sizes : sequence of sequences of float, optional
        Per system and noise, what the unit draw is multiplied with; by default what the noise says.
    draws : int
    seed : int
    progress : callable, optional
        Called with 1 after every draw of every block.

    Notes
    -----
    Cost per draw: one product (m, n, d) for each group of systems that differ by shifts, and a few
    passes over (block, n) for each system and size. Memory O(block).
    """
    if sizes is None:
        sizes = [
            [noise.size_on(stored_on(system, noise)) for noise in noises] for system in systems
        ]
    sweep = _Sweep.of(systems, targets, noises[0], sizes, draws)
    most = device_elements(systems[0].queries, _SCORE_ELEMENTS)
    elements = max(1, most // (systems[0].gallery.shape[-2] * (2 + len(systems))))
    for rows in block_slices(systems[0].queries.shape[0], 1, elements=elements):
        parts = [_Part.of(system, rows, sweep.side) for system in systems]
        counts = sweep.counts_of(parts, rows)
        for draw in range(draws):
            rng_of = (seed, draw, rows.start if sweep.per_block else 0)
            for members in sweep.groups:
                sweep.one_draw(parts, members, counts, draws_for(parts[0].y, rng_of))
            if progress is not None:
                progress(1)
        sweep.add(counts, rows)
    return sweep.results()


def sample_before(
    system: System,
    targets: np.ndarray,
    noise: RandomNoise,
    size: float,
    *,
    draws: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Sampled:
    """Return how often each target is the decision where noise acts before the gallery's map.

    Every draw goes through the map and is searched anew: a map that takes lengths, or one that stretches,
    leaves nothing to expand. Systems with rows of one shape see the same draws.
    """
    if size == 0 or system.origin is None:
        return _noise_free(system, targets, draws)
    wins, means = np.zeros(targets.shape), np.zeros(draws)
    for draw in range(draws):
        rng = draws_for(system.queries, (seed, draw, 0))
        moved = []
        for rows, _ in system.origin.parts:
            e = as_drawn(noise.unit_draw(rng, tuple(rows.shape)), rows)
            moved.append(rows + size * e)
        stored = system.origin.stored(moved)
        found = System(system.queries, stored, system.comparison, present=system.present)
        hits = targets == found.decisions[:, None]
        wins += hits
        means[draw] = hits[:, 0].mean()
        if progress is not None:
            progress(1)
    return Sampled(wins / draws, means)


def stored_on(system: System, noise: RandomNoise) -> Array:
    """Return the rows that a noise acts on, which its size may be relative to."""
    return system.queries if noise.side == "queries" else system.stored_rows


@dataclass(frozen=True, eq=False)
class _Sweep:
    """Systems under noise of one law and side in several sizes, and what has been counted so far.

    Attributes
    ----------
    shifts, groups
        See `_groups`.
    copies : list
        Per system the first copy of each item, which wins ties under noise on the queries.
    wins : list of ndarray (sizes, m, k)
        Per system, draws that each target won.
    draw_sums : ndarray (systems, sizes, draws)
        Queries whose first target won.
    """

    systems: Sequence[System]
    targets: Sequence[np.ndarray]
    noise: RandomNoise
    sizes: Sequence[Sequence[float]]
    shifts: list[Array]
    groups: list[list[int]]
    copies: list[np.ndarray | None]
    wins: list[np.ndarray]
    draw_sums: np.ndarray

    @classmethod
    def of(
        cls,
        systems: Sequence[System],
        targets: Sequence[np.ndarray],
        noise: RandomNoise,
        sizes: Sequence[Sequence[float]],
        draws: int,
    ) -> _Sweep:
        shifts, groups = _groups(systems, noise.side)
        copies = [first_copies(s.gallery) if noise.side == "queries" else None for s in systems]
        wins = [np.zeros((len(sizes[0]), *t.shape)) for t in targets]
        draw_sums = np.zeros((len(systems), len(sizes[0]), draws))
        return cls(systems, targets, noise, sizes, shifts, groups, copies, wins, draw_sums)

    @property
    def side(self) -> str:
        return self.noise.side

    @property
    def per_block(self) -> bool:
        """Whether the noise belongs to the rows of a block, or to a gallery that all blocks share."""
        return self.side == "queries" or self.systems[0].own_candidates

    def counts_of(self, parts: list[_Part], rows: slice) -> list[list[Count]]:
        """Return what will be counted of a block of queries, by system and size."""
        return [
            [Count.of(part.y, target[rows], same, rows) for _ in sizes]
            for part, target, same, sizes in zip(
                parts, self.targets, self.copies, self.sizes, strict=True
            )
        ]

    def one_draw(
        self, parts: list[_Part], members: list[int], counts: list[list[Count]], rng: Draws
    ) -> None:
        """Count what one draw does to a block of queries, in the systems of one group."""
        first = parts[members[0]]
        moving = first.x if self.side == "gallery" else first.y
        e = as_drawn(self.noise.unit_draw(rng, tuple(moving.shape)), moving)
        shared = _product(first.y, e) if self.side == "gallery" else _product(e, first.x)
        xp = namespace(moving)
        noise_squared = xp.sum(e * e, axis=-1)
        for i in members:
            for count, size in zip(counts[i], self.sizes[i], strict=True):
                if (
                    self.side == "queries"
                ):  # a constant shift of the gallery adds e.shift to all items
                    scores = parts[i].base + size * shared
                else:
                    scores = parts[i].under(size, shared, e, noise_squared, self.shifts[i])
                if parts[i].absent is not None:
                    scores = xp.where(parts[i].absent, xp.full_like(scores, -xp.inf), scores)
                count.look(xp.argmax(scores, axis=1))

    def add(self, counts: list[list[Count]], rows: slice) -> None:
        """Take in what was counted of a block of queries, once for all draws."""
        for i, of_sizes in enumerate(counts):
            for j, count in enumerate(of_sizes):
                self.wins[i][j, rows] = to_numpy(count.wins)
                self.draw_sums[i, j] += to_numpy(namespace(count.wins).stack(count.firsts))

    def results(self) -> list[list[Sampled]]:
        """Return shares of draws per system and size."""
        draws = self.draw_sums.shape[2]
        return [
            [
                Sampled(self.wins[i][j] / draws, self.draw_sums[i, j] / self.targets[i].shape[0])
                if size > 0
                else _noise_free(system, self.targets[i], draws)
                for j, size in enumerate(self.sizes[i])
            ]
            for i, system in enumerate(self.systems)
        ]


def _noise_free(system: System, targets: np.ndarray, draws: int) -> Sampled:
    """Return what noise of size zero does: the search settles ties, which scores alone leave open."""
    hits = targets == system.decisions[:, None]
    return Sampled(hits.astype(np.float64), np.full(draws, hits[:, 0].mean()))


def _groups(systems: Sequence[System], side: str) -> tuple[list[Array], list[list[int]]]:
    """Return each system's shift from its group's first member, and the groups.

    The still side (queries under gallery noise) enters the product with the noise; systems whose
    still sides differ by one constant row share that product.
    """
    shifts: list[Array] = []
    groups: list[list[int]] = []
    every = [_still(system, side) for system in systems]
    for i, still in enumerate(every):
        for members in groups:
            first = every[members[0]]
            shift = None if first.shape != still.shape else _constant_shift(first, still)
            if shift is not None:
                members.append(i)
                shifts.append(shift)
                break
        else:
            groups.append([i])
            shifts.append(_no_shift(still))
    return shifts, groups


def _still(system: System, side: str) -> Array:
    """Return the side without noise as the products see it."""
    if side == "gallery":
        return working_float(system.queries)
    return _compared_items(system, working_float(system.gallery), side)


def _compared_items(system: System, x: Array, side: str) -> Array:
    if system.comparison.needs_directions and side == "queries":
        return normalize_rows(x)  # |y| is one factor for all items
    return x


def _no_shift(still: Array) -> Array:
    xp = namespace(still)
    return xp.zeros_like(xp.reshape(still, (-1, still.shape[-1]))[0, :])


def _constant_shift(first: Array, other: Array) -> Array | None:
    if first is other:
        return _no_shift(first)
    xp = namespace(first)
    step = xp.reshape(other - first, (-1, first.shape[-1]))
    shift = xp.mean(step, axis=0)
    spread = float(xp.max(xp.abs(step - shift)))
    return shift if spread <= 1e-6 * float(xp.max(xp.abs(first))) else None


@dataclass(frozen=True)
class _Part:
    """One block of queries of one system: noise-free scores, larger is nearer."""

    y: Array
    x: Array
    base: Array
    squared: Array
    comparison: Metric
    absent: Array | None

    @classmethod
    def of(cls, system: System, rows: slice, side: str) -> _Part:
        xp = namespace(system.queries)
        y = working_float(system.queries[rows, :])
        x = working_float(system.gallery[rows, :, :] if system.own_candidates else system.gallery)
        x = _compared_items(system, x, side)
        squared = xp.sum(x * x, axis=-1)
        if system.comparison.is_distance:  # about the items' mean, which costs no digits
            pivot = xp.mean(x, axis=-2, keepdims=True)
            near = x - pivot
            base = _product(y - pivot[..., 0, :], near) - 0.5 * xp.sum(near * near, axis=-1)
        else:
            base = _product(y, x)
        absent = None
        if system.present is not None:
            absent = asarray_like(~system.present[rows], base)
        return cls(y, x, base, squared, system.comparison, absent)

    def under(
        self, size: float, shared: Array, e: Array, noise_squared: Array, shift: Array
    ) -> Array:
        """Return scores under noise on the gallery; terms constant over a query's items are left out."""
        xp = namespace(shared)
        per_item = xp.matmul(e, shift)
        if self.comparison.is_distance:
            per_item = per_item - xp.sum(self.x * e, axis=-1)
            return self.base + size * (shared + (per_item - 0.5 * size * noise_squared))
        product = self.base + size * (shared + per_item)
        if not self.comparison.needs_directions:
            return product
        squared = (
            self.squared + 2 * size * xp.sum(self.x * e, axis=-1) + size * size * noise_squared
        )
        return product / xp.sqrt(squared)


def _product(y: Array, x: Array) -> Array:
    """Return y.x for all items (n, d), or for each query's own (q, c, d)."""
    xp = namespace(y)
    if x.ndim == 2:
        return xp.matmul(y, x.T)
    return xp.matmul(x, xp.expand_dims(y, axis=2))[:, :, 0]
