"""Decisions under random noise by sampling: one matrix product per draw for a whole sweep.

With s the size of the noise and e its unit draw, the perturbed scores expand,

    y.(x + s e) = y.x + s y.e        |x + s e|^2 = |x|^2 + 2 s x.e + s^2 |e|^2,

so a draw costs one product y.e, shared by every size s and by every system (a pair of mapped clouds)
whose moving side differs from the first one's by a constant shift: all alphas of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    asarray_like,
    block_slices,
    namespace,
    normalize_rows,
    to_numpy,
    working_float,
)
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import first_copies, nearest, nearest_candidates
from modgap.robustness.kinds import RandomNoise

__all__ = ["Sampled", "System", "sample_decisions"]

_SCORE_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class System:
    """Queries and items as they are stored and compared, after a closure's maps.

    `gallery` has shape (n, d), or (m, c, d) where each query has its own candidates.
    """

    queries: Array
    gallery: Array
    comparison: Metric

    @property
    def own_candidates(self) -> bool:
        """Whether each query has its own items."""
        return bool(self.gallery.ndim == 3)

    @cached_property
    def decisions(self) -> np.ndarray:
        """The noise-free decisions on the host, shape (m,)."""
        decided: np.ndarray = self.leaders(1)[:, 0]
        return decided

    def leaders(self, k: int) -> np.ndarray:
        """Return the k nearest items of each query on the host, shape (m, k), the nearest first."""
        search = nearest_candidates if self.own_candidates else nearest
        return to_numpy(search(self.queries, self.gallery, k=k, metric=self.comparison).indices)


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


def sample_decisions(
    systems: Sequence[System],
    targets: Sequence[np.ndarray],
    noises: Sequence[RandomNoise],
    *,
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
    draws : int
    seed : int
    progress : callable, optional
        Called with 1 after every draw of every block.

    Notes
    -----
    Cost per draw: one product (m, n, d) for each group of systems that differ by shifts, and a few
    passes over (block, n) for each system and size. Memory O(block).
    """
    side = noises[0].side
    m = systems[0].queries.shape[0]
    items = systems[0].gallery.shape[-2]
    wins = [[np.zeros(t.shape) for _ in noises] for t in targets]
    draw_sums = np.zeros((len(systems), len(noises), draws))
    bases, groups = _groups(systems, side)
    copies = [first_copies(system.gallery) if side == "queries" else None for system in systems]
    for rows in block_slices(
        m, 1, elements=max(1, _SCORE_ELEMENTS // (items * (2 + len(systems))))
    ):
        parts = [_Part.of(system, rows, side) for system in systems]
        for draw in range(draws):
            for members in groups:
                rng = _generator(seed, draw, rows.start if _per_block(systems[0], side) else 0)
                _one_draw(
                    systems,
                    parts,
                    bases,
                    members,
                    noises,
                    rng,
                    rows,
                    copies,
                    targets,
                    wins,
                    draw_sums,
                    draw,
                )
            if progress is not None:
                progress(1)
    return [
        [
            Sampled(wins[i][j] / draws, draw_sums[i, j] / m)
            if noise.scale > 0
            else _noise_free(system, targets[i], draws)
            for j, noise in enumerate(noises)
        ]
        for i, system in enumerate(systems)
    ]


def _noise_free(system: System, targets: np.ndarray, draws: int) -> Sampled:
    """Return what noise of size zero does: the search settles ties, which scores alone leave open."""
    hits = targets == system.decisions[:, None]
    return Sampled(hits.astype(np.float64), np.full(draws, hits[:, 0].mean()))


def _per_block(system: System, side: str) -> bool:
    """Whether the noise belongs to the rows of a block, or to a gallery that all blocks share."""
    return side == "queries" or system.own_candidates


def _generator(seed: int, draw: int, block: int) -> np.random.Generator:
    return np.random.default_rng([seed, draw, block])


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
        return cls(y, x, base, squared, system.comparison)


def _product(y: Array, x: Array) -> Array:
    """Return y.x for all items (n, d), or for each query's own (q, c, d)."""
    xp = namespace(y)
    if x.ndim == 2:
        return xp.matmul(y, x.T)
    return xp.matmul(x, xp.expand_dims(y, axis=2))[:, :, 0]


def _one_draw(
    systems: Sequence[System],
    parts: list[_Part],
    shifts: list[Array],
    members: list[int],
    noises: Sequence[RandomNoise],
    rng: np.random.Generator,
    rows: slice,
    copies: list[np.ndarray | None],
    targets: Sequence[np.ndarray],
    wins: list[list[np.ndarray]],
    draw_sums: np.ndarray,
    draw: int,
) -> None:
    first = parts[members[0]]
    moving = first.x if noises[0].side == "gallery" else first.y
    e = asarray_like(noises[0].unit_draw(rng, tuple(moving.shape)), moving, dtype=moving.dtype)
    shared = _product(first.y, e) if noises[0].side == "gallery" else _product(e, first.x)
    xp = namespace(moving)
    noise_squared = xp.sum(e * e, axis=-1)
    for i in members:
        for j, noise in enumerate(noises):
            scores = _noisy_scores(parts[i], shared, e, noise_squared, shifts[i], noise)
            decided = to_numpy(xp.argmax(scores, axis=1))
            same = copies[i]
            if same is not None:
                own = np.arange(rows.start, rows.stop) if same.shape[0] > 1 else 0
                decided = same[own, decided]
            hits = targets[i][rows] == decided[:, None]
            wins[i][j][rows] += hits
            draw_sums[i, j, draw] += hits[:, 0].sum()


def _noisy_scores(
    part: _Part, shared: Array, e: Array, noise_squared: Array, shift: Array, noise: Any
) -> Array:
    """Return scores under noise of one size; terms constant over a query's items are left out."""
    xp = namespace(shared)
    s = noise.scale
    if noise.side == "queries":  # a constant shift of the gallery adds e.shift to all items
        return part.base + s * shared
    per_item = xp.matmul(e, shift)
    if part.comparison.is_distance:
        per_item = per_item - xp.sum(part.x * e, axis=-1)
        return part.base + s * (shared + (per_item - 0.5 * s * noise_squared))
    product = part.base + s * (shared + per_item)
    if not part.comparison.needs_directions:
        return product
    squared = part.squared + 2 * s * xp.sum(part.x * e, axis=-1) + s * s * noise_squared
    return product / xp.sqrt(squared)
