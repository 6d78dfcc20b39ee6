"""What noise does to decisions: stability, retention, noisy accuracy, and certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modgap._arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    gather_rows,
    namespace,
    normalize_rows,
    row_norms,
    to_numpy,
)
from modgap._validate import check_choice, check_clouds, check_count, check_metric
from modgap.errors import ArgumentError
from modgap.gaussian import EXACT_METRICS, candidate_win_probability, win_probability
from modgap.maps import Closure
from modgap.montecarlo import System, first_copies, sample_decisions
from modgap.neighbors import nearest, nearest_candidates
from modgap.noise import Gaussian, Noise, Uniform

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Outcome", "certified_radius", "decide", "outcomes", "stability"]


@dataclass(frozen=True)
class Outcome:
    """What one noise does to the decisions of one system, query by query.

    Attributes
    ----------
    noise : Noise
    stability : ndarray (m,)
        P(decision under noise = the same system's noise-free decision).
    retention : ndarray (m,)
        P(decision under noise = the noise-free decision before closing).
    accuracy : ndarray (m,) or None
        P(decision under noise is right); None without labels.
    stderr : float
        Standard error of the mean stability that sampling the noise leaves: 0 for the exact integral
        and for codecs. It does not hold the error of having drawn these queries and no others.
    estimator : str
        "exact", "monte carlo (N draws)", or "deterministic".
    """

    noise: Noise
    stability: np.ndarray
    retention: np.ndarray
    accuracy: np.ndarray | None
    stderr: float
    estimator: str


def stability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    noise: Noise,
    /,
    *,
    metric: str = "euclidean",
    closure: Closure | None = None,
    labels: np.ndarray | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Outcome:
    """Return what a noise does to the decisions, after a closure if one is given.

    Gaussian noise on the gallery is integrated exactly under Euclidean distance and inner product;
    other random noise is sampled; codecs are applied.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    noise : Noise
    metric : {"euclidean", "ip", "cosine"}
        Must be the one that the closure was fitted for.
    closure : Closure, optional
    labels : array (m,), integers, optional
        The right gallery row of each query, for the noisy accuracy.
    draws, seed : int
        For sampled noise.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range, a closure of another metric or width, clouds that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> outcome = stability(np.array([[1.0, 0.0]]), np.eye(2), Gaussian(0.5))
    >>> outcome.estimator, outcome.stability.round(4).tolist()
    ('exact', [0.9323])
    """
    from modgap._validate import check_indices

    check_metric(metric)
    check_count(draws, "draws")
    check_count(seed, "seed", low=0)
    queries, gallery = check_clouds(queries, gallery, zero_rows=metric != "cosine")
    positives = None
    if labels is not None:
        rows, items = queries.shape[0], gallery.shape[0]
        positives = check_indices(labels, "labels", rows=rows, below=items)[:, None]
    before = System(queries, gallery, metric)
    system = before
    if closure is not None:
        closure.check_metric(metric)
        system = System(
            closure.apply_queries(queries), closure.apply_gallery(gallery), closure.comparison
        )
    decided = decide(before)
    return outcomes([system], [decided], positives, [noise], draws=draws, seed=seed)[0][0]


def decide(system: System) -> np.ndarray:
    """Return the noise-free decisions of a system on the host, shape (m,)."""
    search = nearest_candidates if system.own_candidates else nearest
    found = search(system.queries, system.gallery, metric=system.comparison)
    return to_numpy(found.indices)[:, 0]


def outcomes(
    systems: Sequence[System],
    before: Sequence[np.ndarray],
    positives: np.ndarray | None,
    noises: Sequence[Noise],
    *,
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[list[Outcome]]:
    """Return one Outcome per system and noise, sharing all work that a sweep can share.

    Parameters
    ----------
    systems : sequence of System
    before : sequence of ndarray (m,)
        Per system, the noise-free decisions before closing.
    positives : ndarray (m, k) or None
        Right items per query, -1 for none.
    noises : sequence of Noise
    """
    targets = []
    for system, first in zip(systems, before, strict=True):
        columns = [decide(system)[:, None], first[:, None]]
        targets.append(np.hstack([*columns, *([] if positives is None else [positives])]))
    table: list[list[Outcome | None]] = [[None] * len(noises) for _ in systems]
    for kind, members in _by_kind(noises).items():
        chosen = [noises[j] for j in members]
        for i, j, outcome in _solve_kind(kind, systems, targets, chosen, draws, seed, progress):
            table[i][members[j]] = outcome
    return [[outcome for outcome in row if outcome is not None] for row in table]


def _by_kind(noises: Sequence[Noise]) -> dict[str, list[int]]:
    """Group noises that one pass serves: random ones by law and side, codecs one by one."""
    kinds: dict[str, list[int]] = {}
    for j, noise in enumerate(noises):
        random = isinstance(noise, Gaussian | Uniform)
        name = f"{type(noise).__name__}@{noise.side}" if random else f"codec {j}"
        kinds.setdefault(name, []).append(j)
    return kinds


def _solve_kind(
    kind: str,
    systems: Sequence[System],
    targets: list[np.ndarray],
    noises: Sequence[Noise],
    draws: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> list[tuple[int, int, Outcome]]:
    found = []
    sampled = []
    for i, system in enumerate(systems):
        if kind.startswith("codec"):
            wins = _decoded_decisions(system, noises[0])[:, None] == targets[i]
            found.append((i, 0, _outcome(noises[0], wins.astype(float), 0.0, "deterministic")))
        elif kind == "Gaussian@gallery" and system.comparison in EXACT_METRICS:
            found += [(i, j, o) for j, o in enumerate(_exact(system, targets[i], noises))]
        else:
            sampled.append(i)
    if sampled:
        random = [noise for noise in noises if isinstance(noise, Gaussian | Uniform)]
        results = sample_decisions(
            [systems[i] for i in sampled],
            [targets[i] for i in sampled],
            random,
            draws=draws,
            seed=seed,
            progress=progress,
        )
        name = f"monte carlo ({draws} draws)"
        for i, row in zip(sampled, results, strict=True):
            for j, one in enumerate(row):
                found.append((i, j, _outcome(random[j], one.wins, one.stderr, name)))
    return found


def _outcome(noise: Noise, wins: np.ndarray, stderr: float, estimator: str) -> Outcome:
    accuracy = wins[:, 2:].sum(axis=1) if wins.shape[1] > 2 else None
    return Outcome(noise, wins[:, 0], wins[:, 1], accuracy, stderr, estimator)


def _exact(system: System, targets: np.ndarray, noises: Sequence[Noise]) -> list[Outcome]:
    sigmas = [noise.scale for noise in noises if isinstance(noise, Gaussian)]
    solve = candidate_win_probability if system.own_candidates else win_probability
    wins = to_numpy(
        solve(system.queries, system.gallery, targets, sigmas, metric=system.comparison)
    )
    return [_outcome(noise, wins[j], 0.0, "exact") for j, noise in enumerate(noises)]


def _decoded_decisions(system: System, noise: Noise) -> np.ndarray:
    queries, gallery = system.queries, system.gallery
    if isinstance(noise, Gaussian | Uniform):
        raise TypeError("random noise has no decoder")
    if noise.side in ("gallery", "both"):
        gallery = noise.apply(gallery)
    if noise.side in ("queries", "both"):
        queries = noise.apply(queries)
    return decide(System(queries, gallery, system.comparison))


def certified_radius(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    /,
    *,
    metric: str = "euclidean",
    side: str = "gallery",
) -> Float[Array, " m"]:
    """Return the largest r such that no perturbation of norm <= r changes a decision, shape (m,).

    Gallery: every item may move by r, each its own way. Euclidean: (d_2 - d_1) / 2; inner product:
    (s_1 - s_2) / (2 |y|). Queries: the distance to the nearest plane between the decision and another
    item. Ties give 0; a gallery of one item gives infinity, and so do queries where all items are
    equal, since the first of equal items wins wherever the query lies.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    metric : {"euclidean", "ip", "cosine"}
        Cosine is certified for queries only: the regions of a query are those of unit items.
    side : {"gallery", "queries"}

    Raises
    ------
    ArgumentError
        Cosine with side="gallery".
    DataError, ShapeError
        The clouds do not fit.

    Notes
    -----
    Cost: m n d; twice that for side="queries". Deterministic, no sampling.

    Examples
    --------
    >>> import numpy as np
    >>> certified_radius(np.array([[0.25]]), np.array([[0.0], [1.0]]), side="queries").tolist()
    [0.25]
    """
    check_metric(metric)
    check_choice(side, "side", ("gallery", "queries"))
    queries, gallery = check_clouds(queries, gallery, zero_rows=metric != "cosine")
    xp = namespace(queries)
    if gallery.shape[0] == 1:
        return xp.full_like(xp.astype(queries[:, 0], xp.float64), float("inf"))
    if side == "queries":
        return _query_radius(queries, gallery, metric)
    if metric == "cosine":
        raise ArgumentError(
            "`side` gallery has no certificate under cosine; normalise the rows and use "
            'metric="euclidean", which takes the same decisions'
        )
    scores = nearest(queries, gallery, k=2, metric=metric).scores
    margin = xp.abs(scores[:, 1] - scores[:, 0]) / 2
    if metric == "euclidean":
        return margin
    norms = row_norms(as_float64(queries))
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    return xp.where(norms > 0, margin / safe, xp.zeros_like(norms))


def _query_radius(queries: Array, gallery: Array, metric: str) -> Array:
    """Distance to the nearest bisecting plane, blockwise over queries."""
    xp = namespace(queries)
    decided = nearest(queries, gallery, metric=metric).indices[:, 0]
    copies = first_copies(gallery)
    if copies is not None:  # between two equal items lies no plane
        firsts, place = np.unique(copies[0], return_inverse=True)
        gallery = xp.take(gallery, asarray_like(firsts, decided), axis=0)
        decided = xp.take(asarray_like(place, decided), decided)
    queries, items = as_float64(queries), as_float64(gallery)
    if metric == "cosine":
        items = normalize_rows(items)
    pivot = xp.mean(items, axis=0)  # only differences of items matter: they keep their digits
    items = items - pivot
    squared = xp.sum(items * items, axis=1)
    if metric == "euclidean":
        queries = queries - pivot
    every = xp.expand_dims(asarray_like(np.arange(items.shape[0]), decided), axis=0)
    found = []
    for rows in block_slices(queries.shape[0], items.shape[0]):
        y, column = queries[rows, :], decided[rows]
        own = gather_rows(items, column)
        own_squared = xp.expand_dims(xp.take(squared, column), axis=1)
        ahead = xp.expand_dims(xp.sum(y * own, axis=1), axis=1) - xp.matmul(y, items.T)
        if metric == "euclidean":
            ahead = ahead - 0.5 * (own_squared - squared[None, :])
        both = own_squared + squared[None, :]
        between = both - 2 * xp.matmul(own, items.T)
        close = between <= 1e-12 * both  # rounding hides how close: no radius is safe but 0
        width = xp.sqrt(xp.where(close, xp.ones_like(between), between))
        radius = xp.where(close, xp.zeros_like(between), ahead / width)
        same = xp.expand_dims(column, axis=1) == every
        radius = xp.where(same, xp.full_like(radius, xp.inf), radius)
        found.append(xp.clip(xp.min(radius, axis=1), min=0.0))
    return xp.concat(found)
