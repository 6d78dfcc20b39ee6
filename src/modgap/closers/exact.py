"""Closers that keep every decision, given all of the gallery's components.

Each says by how much a difference of two scores can change: what its maps leave out, and rounding.
With z a query, a difference of two scores is z.(x_i - x_j), plus what depends on the items alone. So
nothing is lost where a map leaves out of z only what is orthogonal to all x_i - x_j.
"""

from __future__ import annotations

import warnings

import numpy as np

from modgap.closers._bounds import (
    bound_of,
    kept,
    moved,
    multiplied,
    product_rounding,
    query_length,
    recentred,
)
from modgap.closers._hull import span_of, sphere_of
from modgap.closers._setting import Setting, closure_of, share_of
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.errors import ArgumentError, ClosureWarning

#: Below this share of the gap, a closer has so little left to remove that it says so.
_LITTLE = 0.01


def none(s: Setting) -> Closure:
    """Leave both sides as they are; under cosine of unit length, so that noise acts on the same rows."""
    bound = bound_of(s, off_queries=kept(s, "queries"), off_gallery=kept(s, "gallery"))
    return closure_of("none", s, s.map(), s.map(), bound=bound)


def recenter(s: Setting) -> Closure:
    """By inner product only the gallery moves: there the shift is one constant per query."""
    shift, both = s.map(shift=-s.origin), s.compare.is_distance
    bound = bound_of(
        s,
        off_queries=(recentred if both else kept)(s, "queries"),
        off_gallery=recentred(s, "gallery"),
    )
    return closure_of("recenter", s, shift if both else s.map(), shift, bound=bound)


def orthogonal(s: Setting) -> Closure:
    """Algorithm 1 of Chowers et al. (2026): g' = g - V V^T g; gallery += alpha g'."""
    span = span_of(s)
    free = s.gap - span.basis @ (span.basis.T @ s.gap)
    share = share_of(free, s.gap)
    if span.count == s.width:
        free = np.zeros_like(free)  # what is left is rounding, and no direction is free
        share = 0.0
    _warn_if_little("orthogonal", s, share, span.count)
    gallery, queries = s.map(shift=s.alpha * free), s.map()
    if s.side == "queries":
        gallery, queries = queries, s.map(shift=-s.alpha * free)
    step = abs(s.alpha) * float(np.linalg.norm(free))
    bound = bound_of(
        s,
        off_queries=moved(s, "queries", step) if s.side == "queries" else kept(s, "queries"),
        off_gallery=moved(s, "gallery", step) if s.side == "gallery" else kept(s, "gallery"),
        dropped=2 * step * span.left_out,
        length=query_length(s) + step,
    )
    return closure_of(
        "orthogonal",
        s,
        queries,
        gallery,
        bound=bound,
        n_components=span.count,
        info={"side": s.side, "free_share": share},
    )


def affine(s: Setting) -> Closure:
    """Project the queries onto aff(gallery): y -> y + alpha (P y - y), P the projection; recentre.

    By inner product P projects onto the gallery's directions alone, and only the gallery is
    recentred: the difference of two scores is y.(x_i - x_j), which sees no other part of y.
    """
    span = span_of(s)
    basis = span.basis
    share = share_of(s.gap - basis @ (basis.T @ s.gap), s.gap)
    _warn_if_little("affine", s, share, span.count)
    centre = s.origin if s.compare.is_distance else None
    gallery = s.map(shift=-s.origin)
    if s.reduce:
        if s.alpha != 1.0:
            raise ArgumentError(f"`reduce` closes the gap fully (alpha 1); got alpha {s.alpha:g}")
        queries = s.map(center=centre, left=basis, residual=False)
        gallery = s.map(center=s.origin, left=basis, residual=False)
    elif s.alpha == 1.0:
        queries = s.map(center=centre, left=basis, right=basis.T, residual=False)
    else:  # (1 - alpha) I + alpha B B^T
        queries = s.map(
            center=centre,
            left=basis * (s.alpha / (1 - s.alpha)),
            right=basis.T,
            scale=np.full(s.width, 1 - s.alpha),
        )
    longer = max(1.0, abs(1 - s.alpha))
    return closure_of(
        "affine",
        s,
        queries,
        gallery,
        bound=bound_of(
            s,
            off_queries=multiplied(
                s,
                "queries",
                product_rounding(s, queries, "queries", basis),
                centred=s.compare.is_distance,
                factor=longer,
            ),
            off_gallery=_off_gallery(s, gallery, basis),
            dropped=span.dropped(s),
            length=longer * query_length(s),
        ),
        n_components=span.count,
        info={"reduce": s.reduce, "free_share": share},
    )


def scaled(s: Setting) -> Closure:
    """Project, then scale about the centre o of the gallery's sphere: y -> o + c (P y - o).

    Where all items are equally far from o this keeps every ranking for every c > 0: |c z - u|^2 =
    c^2 |z|^2 - 2 c z.u + |u|^2 orders as z.u does. Longer queries drown the part of the noise that
    does not grow with them. Derived in docs/theory.md, "Beyond the projection".
    """
    span = span_of(s)
    basis, inside = span.basis, sphere_of(s, span)
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
        center=s.origin if by_distance else None,
        left=s.scale * basis,
        right=right,
        shift=shift if s.reduce else basis @ shift,
        residual=False,
    )
    gallery = s.map(shift=-s.origin)
    if s.reduce:
        gallery = s.map(center=s.origin, left=basis, residual=False)
    return closure_of(
        "scaled",
        s,
        queries,
        gallery,
        bound=inside.bound(
            s,
            span,
            product_rounding(s, queries, "queries", basis),
            _off_gallery(s, gallery, basis),
        ),
        gain=s.scale,
        n_components=span.count,
        info={"reduce": s.reduce, "scale": s.scale, "sphere_spread": inside.spread},
    )


def _off_gallery(s: Setting, gallery: AffineMap, basis: np.ndarray) -> float:
    """Return how far rounding moves items that are recentred, or given in reduced coordinates."""
    if not s.reduce:
        return recentred(s, "gallery")
    products = product_rounding(s, gallery, "gallery", basis)
    return multiplied(s, "gallery", products, centred=True)


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
