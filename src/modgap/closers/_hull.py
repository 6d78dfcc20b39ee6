"""Where a gallery lies: the span of its leading components, and a sphere within it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    namespace,
    row_norms,
    to_numpy,
)
from modgap._core.memory import halving
from modgap._core.moments import Moments, principal_axes
from modgap.closers._bounds import bound_of, multiplied, offset, recentred
from modgap.closers._setting import Setting


@dataclass(frozen=True)
class Span:
    """The gallery's components that decisions are kept along, and how far items lie outside them.

    Attributes
    ----------
    basis : ndarray (d, k)
        Orthonormal columns.
    left_out : float
        The largest distance of an item to the span about the mean.
    """

    basis: np.ndarray
    left_out: float

    @property
    def count(self) -> int:
        """Number of components, k."""
        return int(self.basis.shape[1])

    def dropped(self, s: Setting) -> float:
        """Return what projecting the queries leaves out of a difference of scores, at most."""
        lost = 2 * abs(s.alpha) * s.stats.query_reach * self.left_out
        if s.reduce and s.compare.is_distance:  # the items' own parts outside go from the distances
            lost += self.left_out * (
                self.left_out / 2 + 2 * float(np.linalg.norm(s.mean - s.origin))
            )
        return lost


def span_of(s: Setting) -> Span:
    """Return the span of as many components as were asked for."""
    basis = to_numpy(principal_axes(s.stats.gallery, s.n_components).axes)
    return Span(basis, left_out(s, basis.shape[1]))


def left_out(s: Setting, used: int) -> float:
    """Return the largest distance of an item to the span of the first axes about the mean."""
    stats = s.stats
    if used == s.width:
        return 0.0
    if stats.gallery_rows is not None:
        return _largest_residual(stats.gallery_rows, stats.gallery, used)
    variances, count = stats.axes.variances, stats.gallery.count
    # The scatter is off by the rounding of its products, and by that of the means that were merged.
    # Eigenvectors of one that is off by E leave E / sigma_r of the kept part outside.
    error = stats.gallery.product_rounding(float(variances[0]))
    error += count * float(np.finfo(np.float64).eps) * offset(s) * stats.gallery.radius
    smallest = float(variances[used - 1]) if used else 0.0
    leak = error / math.sqrt(smallest) if smallest > 0 else 0.0
    if used >= count - 1:  # n rows span n - 1 directions: there is nothing else
        return leak
    return math.sqrt(float(np.sum(np.maximum(variances[used:], error)))) + leak


@halving
def _largest_residual(rows: Array, moments: Moments, used: int) -> float:
    """Return the length of the longest row outside the first axes, by whichever product is smaller."""
    xp = namespace(rows)
    inner, rest = moments.full_axes.axes[:, :used], moments.full_axes.axes[:, used:]
    largest = 0.0
    for part in block_slices(*rows.shape):
        block = as_float64(rows[part, :]) - moments.mean
        if rest.shape[1] < 2 * used:
            outside = xp.matmul(block, rest)
        else:
            outside = block - xp.matmul(xp.matmul(block, inner), inner.T)
        largest = max(largest, float(xp.max(row_norms(outside))))
    return largest


@dataclass(frozen=True)
class Sphere:
    """A sphere within the gallery's hull, for closures that scale about its centre.

    Attributes
    ----------
    centre : ndarray (k,)
        In the coordinates of the span, about the gallery's mean.
    spread : float
        How much the items' squared distances to the centre differ, over 2.
    """

    centre: np.ndarray
    spread: float

    def bound(self, s: Setting, span: Span, products: float, off_gallery: float) -> float:
        """Return the bound of a closure that scales about this centre.

        `products` is the rounding of the queries' product, in unit roundoffs of the rows that go in;
        `off_gallery` how far rounding moves the items.
        """
        by_distance = s.stats.metric.is_distance
        # Scores over the scale c: z.x - |x - o|^2 / (2 c), by distance plus |x - o|^2 / 2 - |x|^2 / 2.
        share = abs(1 - 1 / s.scale) if by_distance else 1 / s.scale
        step = (abs(1 - s.scale) if by_distance else 1.0) * float(np.linalg.norm(self.centre))
        # The items lose a rounded mean that the centre does not know of; far away it is not rounded.
        mean_off = 0.0 if s.is_far else s.unit * offset(s)
        length = s.stats.query_reach * s.scale + step
        product = multiplied(s, "queries", products, centred=by_distance, factor=s.scale)
        return bound_of(
            s,
            off_queries=product + s.unit * (length + step),
            off_gallery=off_gallery,
            dropped=span.dropped(s),
            length=length,
            gain=s.scale,
            compared=share * (self.spread + 2 * s.stats.gallery.radius * mean_off),
        )


def sphere_of(s: Setting, span: Span) -> Sphere:
    """Return the sphere that keeps most: about the origin's projection, or the rows' circumcentre.

    Rows of one length lie on a sphere about the first. Affinely independent rows always lie on one,
    about the second: |x|^2 = 2 z.o + const, z the row within the span, solved by least squares.
    """
    gallery = s.stats.gallery
    # Where items leave the span, their lengths say less about their distances to a point within it.
    uneven = (gallery.longest**2 - gallery.shortest**2) / 2 + 2 * span.left_out * offset(s)
    found = [Sphere(-span.basis.T @ s.origin, uneven)]
    if s.stats.gallery_rows is not None and span.count and uneven > s.stats.resolution:
        found.append(_circumsphere(s, span))
    usual = recentred(s, "gallery")
    return min(found, key=lambda sphere: sphere.bound(s, span, 2.0 * s.scale, usual))


def _circumsphere(s: Setting, span: Span) -> Sphere:
    count, weighted, inner, square = s.stats.gallery.count, 0.0, 0.0, 0.0
    for inside, squares in _within(s, span):
        weighted = weighted + inside.T @ squares
        inner, square = inner + inside.sum(axis=0), square + squares.sum()
    variances = s.stats.axes.variances[: span.count]
    centre = (weighted - inner * (square / count)) / (2 * variances)
    off = [squares - 2 * inside @ centre for inside, squares in _within(s, span)]
    largest, smallest = max(part.max() for part in off), min(part.min() for part in off)
    return Sphere(centre, float(largest - smallest) / 2)


def _within(s: Setting, span: Span) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the items within the span, and their squared lengths about the mean, as they are stored."""
    rows = s.stats.gallery_rows
    assert rows is not None  # the caller looked
    xp, like = namespace(rows), as_float64(rows[:1, :])
    origin, basis = asarray_like(s.origin, like), asarray_like(span.basis, like)
    for part in block_slices(*rows.shape):
        about = as_float64(rows[part, :]) - origin
        inside = xp.matmul(about, basis)
        stored = inside if s.reduce else about
        yield to_numpy(inside), to_numpy(xp.vecdot(stored, stored))
