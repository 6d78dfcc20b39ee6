"""Closers that may change answers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    namespace,
    normalize_rows,
    to_numpy,
)
from modgap._core.memory import halving
from modgap._core.moments import Moments, cross_scatter
from modgap.closers._setting import Setting, closure_of
from modgap.closers.closure import Closure
from modgap.errors import ClosureWarning

_REALIGN_ROUNDS = 50
_MEMORY = 6


def mean_shift(s: Setting) -> Closure:
    """Liang et al. (2022): both sides move alpha / 2 along the gap, then are renormalised."""
    half = s.alpha / 2 * s.gap
    queries = s.map(shift=-half, normalize_output=True)
    gallery = s.map(shift=half, normalize_output=True)
    return closure_of("mean-shift", s, queries, gallery)


def center(s: Setting) -> Closure:
    """Each modality's own mean goes (GR-CLIP and I0T after training), rows are renormalised."""
    sides = [
        s.map(shift=-s.alpha * to_numpy(m.mean), normalize_output=True)
        for m in (s.stats.queries, s.stats.gallery)
    ]
    return closure_of("center", s, *sides)


def standardize(s: Setting) -> Closure:
    """Each coordinate to mean 0 and variance 1 in each modality; a constant one stays at 0."""
    sides = []
    for moments in (s.stats.queries, s.stats.gallery):
        center, scale = to_numpy(moments.mean), standard_scale(moments)
        sides.append(s.map(center=center, scale=scale, normalize_output=True))
    return closure_of("standardize", s, *sides)


def standard_scale(moments: Moments) -> np.ndarray:
    """Return what takes each coordinate to variance 1, shape (d,); 0 for a constant one."""
    spread = np.sqrt(np.maximum(np.diagonal(to_numpy(moments.covariance)), 0.0))
    constant = spread <= 1e-12 * max(float(spread.max()), 1e-300)
    return np.asarray(np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread)))


def realign(s: Setting) -> Closure:
    """ReAlign (Yu et al., 2026) on the gallery: anchor, trace and centroid alignment.

    The gallery takes the queries' mean (anchor) and total variance (trace) and goes back to the
    sphere; that moves its mean again, so the shift before normalising is solved for, until the mean
    on the sphere is that of the queries (centroid).
    """
    query_mean = s.stats.query_mean
    spread = s.stats.gallery.total_variance
    scale = math.sqrt(s.stats.queries.total_variance / spread) if spread > 0 else 1.0
    query_rows, gallery_rows = s.stats.need_rows("realign")
    goal = _mean_direction(query_rows)
    shift, left_over = _centroid_shift(
        lambda shift: _mean_direction(gallery_rows, (scale, shift - scale * s.mean)),
        goal,
        query_mean,
    )
    gallery = s.map(
        center=s.mean,
        scale=np.full(s.width, scale),
        shift=shift,
        normalize_output=True,
    )
    queries = s.map(normalize_output=True)
    return closure_of("realign", s, queries, gallery, info={"centroid_residual": left_over})


@halving
def _mean_direction(
    rows: Array, moved: tuple[float, np.ndarray] = (1.0, np.zeros(1))
) -> np.ndarray:
    """Return the mean of the rows, scaled and shifted, at unit length, (d,), float64."""
    xp, total = namespace(rows), 0.0
    shift = asarray_like(moved[1], as_float64(rows[:1, :]))
    for part in block_slices(*rows.shape):
        away = moved[0] * as_float64(rows[part, :]) + shift
        total = total + xp.sum(normalize_rows(away), axis=0)
    mean: np.ndarray = to_numpy(total) / int(rows.shape[0])
    return mean


def _centroid_shift(
    mean_at: Callable[[np.ndarray], np.ndarray], goal: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the shift at which the rows' mean on the sphere is `goal`, and how far off it is.

    Fixed-point iteration with Anderson's (1965) acceleration: the plain one crawls along the radius
    where the rows are a tight cone.
    """
    shift = start
    shifts: list[np.ndarray] = []
    drifts: list[np.ndarray] = []
    for _ in range(_REALIGN_ROUNDS):
        drift = goal - mean_at(shift)
        shifts, drifts = [*shifts, shift][-_MEMORY:], [*drifts, drift][-_MEMORY:]
        if float(np.linalg.norm(drift)) < 1e-9:
            break
        shift = shift + drift
        if len(drifts) > 1:
            changes, moves = np.diff(drifts, axis=0), np.diff(shifts, axis=0)
            weights = np.linalg.lstsq(changes.T, drift, rcond=None)[0]
            shift = shift - weights @ (changes + moves)
    best = min(range(len(drifts)), key=lambda i: float(np.linalg.norm(drifts[i])))
    return shifts[best], float(np.linalg.norm(drifts[best]))


def procrustes(s: Setting) -> Closure:
    """Orthogonal Procrustes (Schönemann, 1966) between the centred pairs; the queries turn."""
    cross = to_numpy(cross_scatter(*s.stats.need_rows("procrustes")))
    left, _, right = np.linalg.svd(cross)
    queries = s.map(center=s.stats.query_mean, left=left @ right, residual=False)
    gallery = s.map(shift=-s.mean)
    return closure_of("procrustes", s, queries, gallery)


def erase(s: Setting) -> Closure:
    """LEACE (Belrose et al., 2023) for a label of two values.

    With one label the whitened projection has rank one and the eraser is
    z - ((z - mean).Sigma^+ g) g / (g.Sigma^+ g), Sigma and mean those of both clouds together.
    """
    both = s.stats.queries.merge(s.stats.gallery)
    axes = both.full_axes
    basis = to_numpy(axes.axes)[:, : axes.rank]
    gap = basis @ (basis.T @ s.gap)
    rms = math.sqrt(both.total_variance + float(np.sum(to_numpy(both.mean) ** 2)))
    weights = basis @ ((basis.T @ gap) / to_numpy(axes.variances)[: axes.rank]) * both.count
    strength = float(gap @ weights)
    rounding = max(s.stats.queries.eps, s.stats.gallery.eps) * rms
    if strength <= 0 or not math.isfinite(strength) or np.linalg.norm(s.gap) <= rounding:
        same = s.map()
        warnings.warn(
            "`erase`: the clouds have one mean; there is no gap to erase",
            ClosureWarning,
            stacklevel=3,
        )
        return closure_of("erase", s, same, same)
    side = s.map(
        center=to_numpy(both.mean),
        left=(-s.alpha / strength * weights)[:, None],
        right=gap[None, :],
        shift=to_numpy(both.mean),
    )
    return closure_of("erase", s, side, side)
