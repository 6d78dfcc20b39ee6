"""Closers that keep every decision, given all of the gallery's components.

Each says by how much a difference of two scores can change: what its maps leave out, and rounding.
With z a query, a difference of two scores is z.(x_i - x_j), plus what depends on the items alone. So
nothing is lost where a map leaves out of z only what is orthogonal to all x_i - x_j.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, as_float64, block_slices, namespace, row_norms, to_numpy
from modgap._core.moments import Moments, principal_axes
from modgap.closers._setting import Setting, bound_of, closure_of, share_of
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, ClosureWarning

#: Below this share of the gap, a closer has so little left to remove that it says so.
_LITTLE = 0.01


def none(s: Setting) -> Closure:
    """Leave both sides as they are; under cosine of unit length, so that noise acts on the same rows."""
    return closure_of("none", s, s.map(), s.map(), bound=bound_of(s))


def recenter(s: Setting) -> Closure:
    """By inner product only the gallery moves: there the shift is one constant per query."""
    shift = s.map(shift=-s.mean)
    queries = shift if s.compare.is_distance else s.map()
    return closure_of("recenter", s, queries, shift, bound=bound_of(s))


def orthogonal(s: Setting) -> Closure:
    """Algorithm 1 of Chowers et al. (2026): g' = g - V V^T g; gallery += alpha g'."""
    kept = _kept(s)
    free = s.gap - kept.basis @ (kept.basis.T @ s.gap)
    share = share_of(free, s.gap)
    if kept.count == s.width:
        free = np.zeros_like(free)  # what is left is rounding, and no direction is free
        share = 0.0
    _warn_if_little("orthogonal", s, share, kept.count)
    moved, still = s.map(shift=s.alpha * free), s.map()
    if s.side == "queries":
        moved, still = still, s.map(shift=-s.alpha * free)
    dropped = 2 * abs(s.alpha) * float(np.linalg.norm(free)) * kept.left_out
    return closure_of(
        "orthogonal",
        s,
        still,
        moved,
        bound=bound_of(s, dropped=dropped),
        n_components=kept.count,
        info={"side": s.side, "free_share": share},
    )


def affine(s: Setting) -> Closure:
    """Project the queries onto aff(gallery): y -> y + alpha (P y - y), P the projection; recentre.

    By inner product P projects onto the gallery's directions alone, and only the gallery is
    recentred: the difference of two scores is y.(x_i - x_j), which sees no other part of y.
    """
    kept = _kept(s)
    basis = kept.basis
    share = share_of(s.gap - basis @ (basis.T @ s.gap), s.gap)
    _warn_if_little("affine", s, share, kept.count)
    centre = s.mean if s.compare.is_distance else None
    gallery = s.map(shift=-s.mean)
    if s.reduce:
        if s.alpha != 1.0:
            raise ArgumentError(f"`reduce` closes the gap fully (alpha 1); got alpha {s.alpha:g}")
        queries = s.map(center=centre, left=basis, residual=False)
        gallery = s.map(center=s.mean, left=basis, residual=False)
    elif s.alpha == 1.0:
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
        bound=bound_of(
            s,
            dropped=kept.dropped(s),
            query_product=True,
            gallery_product=s.reduce,
            stretch=max(1.0, abs(1 - s.alpha)),
        ),
        n_components=kept.count,
        info={"reduce": s.reduce, "free_share": share},
    )


def scaled(s: Setting) -> Closure:
    """Project, then scale about the centre o of the gallery's sphere: y -> o + c (P y - o).

    Where all items are equally far from o this keeps every ranking for every c > 0: |c z - u|^2 =
    c^2 |z|^2 - 2 c z.u + |u|^2 orders as z.u does. Longer queries drown the part of the noise that
    does not grow with them. Derived in docs/theory.md, "Beyond the projection".
    """
    kept = _kept(s)
    basis, inside = kept.basis, _sphere(s, kept)
    if inside.spread > s.stats.resolution:
        warnings.warn(
            "`scaled`: the gallery's rows lie on no common sphere (their squared distances to its "
            f"centre vary by {inside.spread:.2g}), so rankings may change; use affine",
            ClosureWarning,
            stacklevel=4,
        )
    # In the r coordinates about the mean: z -> o + c (z - o) by distance, o + c z by inner product.
    by_distance = s.stats.metric.is_distance
    shift = (1 - s.scale) * inside.centre if by_distance else inside.centre
    right = None if s.reduce else basis.T
    queries = s.map(
        center=s.mean if by_distance else None,
        left=s.scale * basis,
        right=right,
        shift=shift if s.reduce else basis @ shift,
        residual=False,
    )
    gallery = s.map(shift=-s.mean)
    if s.reduce:
        gallery = s.map(center=s.mean, left=basis, residual=False)
    return closure_of(
        "scaled",
        s,
        queries,
        gallery,
        bound=inside.bound(s, kept),
        gain=s.scale,
        n_components=kept.count,
        info={"reduce": s.reduce, "scale": s.scale, "sphere_spread": inside.spread},
    )


@dataclass(frozen=True)
class _Kept:
    """The gallery's components that decisions are kept along, and how far items lie outside them."""

    basis: np.ndarray
    count: int
    left_out: float

    def dropped(self, s: Setting) -> float:
        """Return what projecting the queries leaves out of a difference of scores, at most."""
        lost = 2 * abs(s.alpha) * s.stats.query_reach * self.left_out
        return lost + (self.left_out**2 / 2 if s.reduce and s.compare.is_distance else 0.0)


def _kept(s: Setting) -> _Kept:
    axes = principal_axes(s.stats.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    return _Kept(basis, basis.shape[1], _left_out(s, basis.shape[1]))


def _left_out(s: Setting, used: int) -> float:
    """Return the largest distance of an item to the span of the first axes about the mean."""
    stats = s.stats
    if used == s.width:
        return 0.0
    if stats.gallery_rows is not None:
        return _largest_residual(stats.gallery_rows, stats.gallery, used)
    variances = stats.axes.variances
    # Eigenvectors of a scatter that rounding moved by E leave E / sigma_r of the kept part outside.
    smallest = float(variances[used - 1]) if used else 0.0
    error = stats.gallery.product_rounding(float(variances[0]))
    leak = error / math.sqrt(smallest) if smallest > 0 else 0.0
    if used >= stats.gallery.count - 1:  # n rows span n - 1 directions: there is nothing else
        return leak
    return math.sqrt(float(np.sum(np.maximum(variances[used:], error)))) + leak


def _largest_residual(rows: Array, moments: Moments, used: int) -> float:
    """Return the length of the longest row outside the first axes, by whichever product is smaller."""
    xp = namespace(rows)
    kept, rest = moments.full_axes.axes[:, :used], moments.full_axes.axes[:, used:]
    largest = 0.0
    for part in block_slices(*rows.shape):
        block = as_float64(rows[part, :]) - moments.mean
        if rest.shape[1] < 2 * used:
            outside = xp.matmul(block, rest)
        else:
            outside = block - xp.matmul(xp.matmul(block, kept), kept.T)
        largest = max(largest, float(xp.max(row_norms(outside))))
    return largest


@dataclass(frozen=True)
class _Sphere:
    """A sphere within the gallery's hull: its centre (r,) in the kept coordinates about the mean.

    `spread` is how much the items' squared distances to the centre differ, over 2.
    """

    centre: np.ndarray
    spread: float

    def bound(self, s: Setting, kept: _Kept) -> float:
        """Return the bound of a closure that scales about this centre."""
        by_distance = s.stats.metric.is_distance
        off = self.spread * (abs(1 - 1 / s.scale) if by_distance else 1 / s.scale)
        about = (
            float(np.linalg.norm(self.centre)) / s.stats.query_reach if s.stats.query_reach else 0
        )
        return bound_of(
            s,
            dropped=kept.dropped(s),
            query_product=True,
            gallery_product=s.reduce,
            stretch=s.scale + (abs(1 - s.scale) if by_distance else 1.0) * about,
            gain=s.scale,
            off_sphere=off,
        )


def _sphere(s: Setting, kept: _Kept) -> _Sphere:
    """Return the sphere that keeps most: about the origin's projection, or the rows' circumcentre.

    Rows of one length lie on a sphere about the first. Affinely independent rows always lie on one,
    about the second: |z_i|^2 = 2 z_i.o + const, solved by least squares over the kept axes.
    """
    stats = s.stats
    found = [
        _Sphere(-kept.basis.T @ s.mean, (stats.gallery.longest**2 - stats.gallery.shortest**2) / 2)
    ]
    if stats.gallery_rows is not None and kept.count and found[0].spread > stats.resolution:
        found.append(_circumsphere(s, kept))
    return min(found, key=lambda sphere: sphere.bound(s, kept))


def _circumsphere(s: Setting, kept: _Kept) -> _Sphere:
    rows = to_numpy(as_float64(s.stats.gallery_rows)) - s.mean
    inside = rows @ kept.basis
    squares = np.einsum("ij,ij->i", inside, inside)
    variances = s.stats.axes.variances[: kept.count]
    centre = inside.T @ (squares - squares.mean()) / (2 * variances)
    off = squares - 2 * inside @ centre
    return _Sphere(centre, float(off.max() - off.min()) / 2)


def _warn_if_little(method: str, s: Setting, share: float, used: int) -> None:
    if used >= s.width:
        message = (
            f"`{method}`: the gallery spans all {s.width} dimensions (r = d), so |g'|/|g| = 0 and "
            "no direction of the queries is free; use fewer components (n_components, approximate) "
            'or method="recenter"'
        )
    elif share < _LITTLE:
        message = (
            f"`{method}`: only {share:.2g} of the gap lies outside the {used} components kept "
            "(|g'|/|g|); use fewer components (n_components, approximate)"
        )
    else:
        return
    warnings.warn(message, ClosureWarning, stacklevel=5)
