"""The exact probability that a decision survives Gaussian noise on the gallery: no sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, Int, asarray_like, is_array, to_numpy
from modgap._core.checks import check_clouds, check_indices, check_number
from modgap._core.memory import halving
from modgap.decisions.metric import Metric, as_metric
from modgap.decisions.neighbors import check_candidates, nearest, nearest_candidates
from modgap.errors import ArgumentError, ShapeError
from modgap.robustness.competition import OwnCandidates, SharedGallery
from modgap.robustness.solver import solve

__all__ = ["candidate_win_probability", "win_probability"]


@halving
def win_probability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    targets: Int[Array, "m k"],
    sigmas: Sequence[float],
    *,
    metric: str,
) -> Float[Array, "s m k"]:
    """Return P(the target item is the nearest of its query) under gallery noise, shape (s, m, k).

    Every coordinate of every gallery item gets independent noise N(0, sigma^2). The integral is
    evaluated, not sampled; it differs from the truth by less than 1e-5. With the noise-free
    decisions as targets, this is the stability of each query.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    targets : array (m, k) or (m,), integers
        k gallery rows per query, which share one pass; -1 stands for none and gets probability 0.
        Targets of shape (m,) give a result of shape (s, m).
    sigmas : sequence of s floats >= 0
        Standard deviations per coordinate. All share one pass over queries x gallery.
    metric : {"euclidean", "ip"}

    Raises
    ------
    ArgumentError
        A negative or non-finite sigma; a metric without a closed form (cosine: use Monte Carlo).
    DataError, ShapeError
        Clouds or targets do not fit.

    Notes
    -----
    Cost: m n d for the scores once, 4 m n for the bins, then a few hundred thousand multiplications
    per query and sigma, in matrix products; few queries by Euclidean distance are integrated without
    tables, which take up to a second to make. See `modgap.robustness.tables` for the method.

    Examples
    --------
    Two items, one dimension: the gap between the scores is normal, so p = Phi(1 / (0.5 sqrt(2))).

    >>> import numpy as np
    >>> y, x = np.array([[1.0]]), np.array([[1.0], [0.0]])
    >>> win_probability(y, x, np.array([0]), [0.5], metric="ip").round(6).tolist()
    [[0.92135]]
    """
    metric = _with_closed_form(metric)
    queries, gallery = check_clouds(queries, gallery)
    sigmas = check_sigmas(sigmas)
    chosen = _check_targets(targets, queries.shape[0], gallery.shape[0])
    leaders = nearest(queries, gallery, metric=metric).indices[:, 0]
    competition = SharedGallery(queries, gallery, metric, leaders)
    probability = solve(competition, asarray_like(chosen, queries), sigmas)
    return probability if np.ndim(targets) == 2 else probability[:, :, 0]


@halving
def candidate_win_probability(
    queries: Float[Array, "m d"],
    candidates: Float[Array, "m c d"],
    targets: Int[Array, "m k"],
    sigmas: Sequence[float],
    *,
    metric: str,
    present: np.ndarray | None = None,
) -> Float[Array, "s m k"]:
    """Return what `win_probability` does, where each query has its own c candidates.

    Those that are not `present`, shape (m, c), never win; by default all are.
    """
    metric = _with_closed_form(metric)
    queries, candidates = check_candidates(queries, candidates)
    sigmas = check_sigmas(sigmas)
    chosen = _check_targets(targets, queries.shape[0], candidates.shape[1])
    found = nearest_candidates(queries, candidates, metric=metric, present=present)
    competition = OwnCandidates(queries, candidates, metric, found.indices[:, 0], present)
    probability = solve(competition, asarray_like(chosen, queries), sigmas)
    return probability if np.ndim(targets) == 2 else probability[:, :, 0]


def _with_closed_form(metric: str) -> Metric:
    found = as_metric(metric)
    if found.needs_directions:
        raise ArgumentError(
            f"`metric` {found} has no closed form under noise; sample it (robustness.stability), or "
            "normalise the rows and use ip"
        )
    return found


def check_sigmas(sigmas: Sequence[float]) -> list[float]:
    """Return the noise levels as floats >= 0; an empty list is refused."""
    values = [check_number(sigma, "sigmas", low=0.0) for sigma in np.atleast_1d(sigmas)]
    if not values:
        raise ArgumentError("`sigmas` must hold at least one noise level; got none")
    return values


def _check_targets(targets: Any, rows: int, items: int) -> np.ndarray:
    values = to_numpy(targets) if is_array(targets) else np.asarray(targets)
    if values.ndim not in (1, 2) or values.shape[0] != rows:
        raise ShapeError(
            f"`targets` must have shape (m,) or (m, k) for {rows} queries; got {values.shape}"
        )
    if values.ndim == 2 and values.shape[1] == 0:
        raise ShapeError(f"`targets` must have at least one column; got {values.shape}")
    columns = values.reshape(rows, -1)
    flat = check_indices(columns.reshape(-1), "targets", rows=columns.size, below=items, low=-1)
    return flat.reshape(columns.shape)
