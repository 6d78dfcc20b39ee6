"""What is stored and compared, and where it comes from: what noise acts on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace, to_numpy
from modgap.closers.maps import AffineMap
from modgap.decisions.choices import present_rows
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import Neighbors, nearest, nearest_candidates

__all__ = ["Origin", "System", "equivalent"]

#: How far A^T A may be from a multiple of the identity: maps come from files of float32 too.
_ISOTROPIC = 1e-6


@dataclass(frozen=True, eq=False)
class Origin:
    """The rows that a gallery was made of, before the maps that they are stored through.

    By cosine they are unit rows: noise before a map finds the lengths taken already, so that noise of one
    size means the same for every closer, and none is normalised away again.

    Attributes
    ----------
    metric : Metric
        How decisions were taken before closing.
    given : tuple of (array, AffineMap)
        Parts of the gallery, one after the other, shape (n, d) or (m, c, d), each with its map.
    order : ndarray (n,) of int, or None
        Place of each item of the gallery among the rows of all parts, where they do not just follow
        one another.
    """

    metric: Metric
    given: tuple[tuple[Array, AffineMap], ...]
    order: np.ndarray | None = None

    @cached_property
    def parts(self) -> tuple[tuple[Array, AffineMap], ...]:
        """The rows as noise finds them, and what is left of the maps: without taking lengths first."""
        return tuple((self.metric.prepare(rows), _rest(side)) for rows, side in self.given)

    def stored(self, rows: list[Array]) -> Array:
        """Return what such rows, one array for each part, are stored as."""
        mapped = [side(each) for each, (_, side) in zip(rows, self.parts, strict=True)]
        return self._together(mapped)

    def mapped(self) -> Array:
        """Return what the given rows are stored as."""
        return self._together([side(rows) for rows, side in self.given])

    def _together(self, mapped: list[Array]) -> Array:
        """Return the mapped parts as one gallery."""
        xp = namespace(mapped[0])
        whole = mapped[0] if len(mapped) == 1 else xp.concat(mapped, axis=0)
        if self.order is None:
            return whole
        return xp.take(whole, asarray_like(self.order, whole), axis=0)


@dataclass(frozen=True, eq=False)
class System:
    """Queries and items as they are stored and compared, after a closure's maps.

    `gallery` has shape (n, d), or (m, c, d) where each query has its own candidates; `origin` says what
    it was made of, None where nothing was mapped; `present` (m, c) says which candidates are there, None
    where all are.
    """

    queries: Array
    gallery: Array
    comparison: Metric
    origin: Origin | None = None
    present: np.ndarray | None = None

    @cached_property
    def stored_rows(self) -> Array:
        """The items that are stored: the gallery without what pads it."""
        return self.gallery if self.present is None else present_rows(self.gallery, self.present)

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
        """Return the k nearest items of each query on the host, shape (m, k), the nearest first.

        The deepest search so far is kept: ask for the longest list first.
        """
        deepest = max(self._searched, default=0)
        if deepest < k:
            found = self._search(k).indices
            self._searched.clear()
            self._searched[k] = to_numpy(found)
            deepest = k
        return self._searched[deepest][:, :k]

    def _search(self, k: int) -> Neighbors:
        sides = self.queries, self.gallery
        if self.own_candidates:
            return nearest_candidates(*sides, k=k, metric=self.comparison, present=self.present)
        return nearest(*sides, k=k, metric=self.comparison)

    @cached_property
    def _searched(self) -> dict[int, np.ndarray]:
        return {}


def equivalent(system: System) -> tuple[System, float] | None:
    """Return a system that noise on its stored rows disturbs as noise before the map disturbs this one.

    Noise e before a map x -> x A + b is noise e A after it. Where A^T A = c^2 I that is independent noise
    again, c times the size. By inner product y'.(x A + e A) is (A y').(x + e) up to a constant per query,
    so there the queries are taken back through the map instead, A any matrix.

    Returns
    -------
    system : System
    factor : float
        Of the noise's size; None in place of both where neither holds: it takes sampling through the map.
    """
    if system.origin is None:
        return replace(system, gallery=system.comparison.prepare(system.gallery)), 1.0
    parts = system.origin.parts
    sides = [side for _, side in parts]
    if any(side.normalize_output for side in sides):
        return None
    factors = [_isotropic(side) for side in sides]
    first = factors[0]
    if first is not None and all(f is not None and abs(f - first) <= 1e-9 * first for f in factors):
        stored = system.origin.stored([rows for rows, _ in parts])
        return replace(system, gallery=stored), first
    bare = system.comparison.is_distance or system.comparison.needs_directions
    if bare or len(parts) > 1:
        return None
    rows, side = parts[0]
    back = asarray_like(side.matrix, system.queries, dtype=system.queries.dtype)
    queries = namespace(system.queries).matmul(system.queries, back.T)
    return System(queries, rows, system.comparison, present=system.present), 1.0


def _rest(side: AffineMap) -> AffineMap:
    return replace(side, normalize_input=False) if side.normalize_input else side


def _isotropic(side: AffineMap) -> float | None:
    """Return c where noise comes out of the map c times as large and as independent as it went in."""
    matrix = side.matrix
    if matrix is None:
        return 1.0
    gram = matrix.T @ matrix
    square = float(np.trace(gram)) / gram.shape[0]
    off = np.abs(gram - square * np.eye(gram.shape[0])).max()
    return float(np.sqrt(square)) if square > 0 and off <= _ISOTROPIC * square else None
