"""Closers that keep every decision, given all of the gallery's components."""

from __future__ import annotations

import warnings

import numpy as np

from modgap._core.arrays import as_float64, row_norms, to_numpy
from modgap._core.moments import principal_axes
from modgap.closers._setting import Setting, closure_of, share_of
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, ClosureWarning

#: Below this share of the gap, a closer has so little left to remove that it says so.
_LITTLE = 0.01
#: Rows of unit length in float32 differ by a few 1e-7. Those in half precision differ by 1e-3, which
#: changes the answer of one query in a hundred on real embeddings.
_SPHERE_TOLERANCE = 1e-5


def none(s: Setting) -> Closure:
    """Leave both sides as they are; under cosine of unit length, so that noise acts on the same rows."""
    same = s.map()
    return closure_of("none", s, same, same, exact=True)


def recenter(s: Setting) -> Closure:
    """By inner product only the gallery moves: there the shift is one constant per query."""
    shift = s.map(shift=-to_numpy(s.gallery.mean))
    return closure_of("recenter", s, shift if s.metric.is_distance else s.map(), shift, exact=True)


def orthogonal(s: Setting) -> Closure:
    """Algorithm 1 of Chowers et al. (2026): g' = g - V V^T g; gallery += alpha g'."""
    axes = principal_axes(s.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    gap = s.gap
    free = gap - basis @ (basis.T @ gap)
    used = basis.shape[1]
    exact = used == axes.rank
    share = share_of(free, gap)
    if exact and axes.rank == s.width:
        free = np.zeros_like(free)  # what is left is rounding, and no direction is free
        share = 0.0
    _warn_if_little("orthogonal", s, share, used)
    moved, kept = s.map(shift=s.alpha * free), s.map()
    if s.side == "queries":
        moved, kept = kept, s.map(shift=-s.alpha * free)
    return closure_of(
        "orthogonal",
        s,
        kept,
        moved,
        exact=exact,
        n_components=used,
        info={"side": s.side, "free_share": share},
    )


def affine(s: Setting) -> Closure:
    """Project the queries onto aff(gallery): y -> y + alpha (P y - y), P the projection; recentre both.

    By inner product P projects onto the gallery's directions alone and nothing is recentred: the
    difference of two scores is y.(x_i - x_j), which sees no other part of y.
    """
    axes = principal_axes(s.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    used = basis.shape[1]
    gap = s.gap
    share = share_of(gap - basis @ (basis.T @ gap), gap)
    _warn_if_little("affine", s, share, used)
    centre = None if s.metric == "ip" else to_numpy(s.gallery.mean)
    if s.reduce:
        if s.alpha != 1.0:
            raise ArgumentError(f"`reduce` closes the gap fully (alpha 1); got alpha {s.alpha:g}")
        side = s.map(center=centre, left=basis, residual=False)
        queries, gallery = side, side
    else:
        gallery = s.map() if centre is None else s.map(shift=-centre)
        if s.alpha == 1.0:
            queries = s.map(center=centre, left=basis, right=basis.T, residual=False)
        else:  # (1 - alpha) I + alpha B B^T
            queries = s.map(
                center=centre,
                left=basis * (s.alpha / (1 - s.alpha)),
                right=basis.T,
                scale=np.full(s.width, 1 - s.alpha),
            )
    return closure_of(
        "affine",
        s,
        queries,
        gallery,
        exact=used == axes.rank,
        n_components=used,
        info={"reduce": s.reduce, "free_share": share},
    )


def scaled(s: Setting) -> Closure:
    """Project, then scale about o, the point of aff(gallery) next to the origin: y -> o + c (P y - o).

    Where all items are equally far from o, as rows of unit length are, this keeps every ranking for
    every c > 0: |c z - u|^2 = c^2 |z|^2 - 2 c z.u + |u|^2 orders as z.u does. Longer queries drown the
    part of the noise that does not grow with them. Derived in docs/theory.md, "Beyond the projection".
    """
    if s.metric == "ip":
        raise ArgumentError(
            "`scaled` has no meaning by inner product, where length does not matter; use affine"
        )
    axes = principal_axes(s.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    mean = to_numpy(s.gallery.mean)
    spread = _sphere_spread(s)
    if spread > _SPHERE_TOLERANCE:
        warnings.warn(
            f"`scaled`: the gallery's rows are not of one length (they vary by {spread:.2g} of it), so "
            'rankings may change; normalise them, use metric="cosine", or use affine',
            ClosureWarning,
            stacklevel=3,
        )
    inside = basis @ (basis.T @ mean)  # the origin's projection is mean - inside
    if s.reduce:
        queries = s.map(left=s.scale * basis, shift=-basis.T @ mean, residual=False)
        gallery = s.map(center=mean, left=basis, residual=False)
    else:
        queries = s.map(left=s.scale * basis, right=basis.T, shift=-inside, residual=False)
        gallery = s.map(shift=-mean)
    used = basis.shape[1]
    return closure_of(
        "scaled",
        s,
        queries,
        gallery,
        exact=used == axes.rank and spread <= _SPHERE_TOLERANCE,
        n_components=used,
        info={"reduce": s.reduce, "scale": s.scale, "sphere_spread": spread},
    )


def _sphere_spread(s: Setting) -> float:
    """Return how much the items' lengths differ, over their mean length."""
    if s.metric == "cosine":
        return 0.0
    lengths = to_numpy(row_norms(as_float64(s.gallery_rows)))
    return float((lengths.max() - lengths.min()) / max(lengths.mean(), 1e-300))


def _warn_if_little(method: str, s: Setting, share: float, used: int) -> None:
    if used >= s.width:
        message = (
            f"`{method}`: the gallery spans all {s.width} dimensions (r = d), so |g'|/|g| = 0 and no "
            "exact closer can move anything but the origin; use fewer components (n_components, "
            'approximate) or method="recenter"'
        )
    elif share < _LITTLE:
        message = (
            f"`{method}`: only {share:.2g} of the gap lies outside the {used} components kept "
            "(|g'|/|g|); use fewer components (n_components, approximate)"
        )
    else:
        return
    warnings.warn(message, ClosureWarning, stacklevel=4)
