"""How much a difference of two scores can change: what the maps leave out, and what rounding does.

Scores are y.x, by distance y.x - |x|^2 / 2. Where rounding moves a mapped query by p and the items by q
at most, a difference of two scores changes by no more than 2 (|x| p + |y| q + p q), where lengths are
those about the gallery's mean (of y from the origin, where items are compared by product).
"""

from __future__ import annotations

import math

import numpy as np

from modgap._core.arrays import normalize_rows, row_norms
from modgap.closers._setting import Setting
from modgap.closers.maps import AffineMap, apply_constants


def offset(s: Setting) -> float:
    """Return how far the gallery's mean lies from the origin."""
    return float(np.linalg.norm(s.stats.gallery_mean))


def longest(s: Setting, side: str) -> float:
    """Return the length of the longest row of a side, as the metric sees it."""
    if side == "gallery":
        return s.stats.gallery.longest
    return s.stats.query_reach + (offset(s) if s.stats.metric.is_distance else 0.0)


def reach(s: Setting, side: str) -> float:
    """Return how far the rows of a side lie from the gallery's mean at most."""
    if side == "gallery":
        return s.stats.gallery.radius
    return s.stats.query_reach + (0.0 if s.stats.metric.is_distance else offset(s))


def kept(s: Setting, side: str) -> float:
    """Return how far rounding moves rows that are only prepared for the metric.

    Scaling to unit length rounds the entries, and the length too, more where all squares are alike; a
    query's own length is a factor of all its scores and changes no order.
    """
    if not s.stats.metric.needs_directions:
        return 0.0
    return s.unit * (2.0 + math.sqrt(s.width) / 8 if side == "gallery" else 1.0)


def recentred(s: Setting, side: str) -> float:
    """Return how far rounding moves rows that lose the gallery's mean.

    What the mean's own rounding does is common to both sides, or one constant per query.
    """
    return kept(s, side) + s.unit * reach(s, side)


def moved(s: Setting, side: str, step: float) -> float:
    """Return how far rounding moves rows that a vector of length `step` is added to on one side."""
    return kept(s, side) + (s.unit * (longest(s, side) + 2 * step) if step else 0.0)


def multiplied(
    s: Setting, side: str, products: float, *, centred: bool, factor: float = 1.0
) -> float:
    """Return how far rounding moves rows that go through a product, along what decides.

    Parameters
    ----------
    side : {"queries", "gallery"}
    products : float
        What `product_rounding` says of the map.
    centred : bool
        Whether the map takes the gallery's mean off: far from the origin before the product, near it
        afterwards as part of the constant.
    factor : float
        Norm of the linear part.
    """
    constant = factor * (reach(s, side) if centred else 0.0)  # adding it rounds the sum
    if centred and s.is_far:
        into = products * reach(s, side)
    else:
        into = products * longest(s, side) + (factor * offset(s) if centred else 0.0)
    return factor * kept(s, side) + s.unit * (into + constant)


def product_rounding(s: Setting, fitted: AffineMap, side: str, basis: np.ndarray) -> float:
    """Return how much the product in a map rounds, in unit roundoffs of the rows that go in.

    No constant would do: terms of either sign leave a sum of d products within one or two roundoffs,
    terms that pile up, as those of one large coordinate, within sqrt(d) and more. So a few rows go
    through in float32 and float64; what their difference is along directions that decide is doubled,
    for there are more rows than these.
    """
    stats = s.stats
    items = stats.gallery_probes - s.origin
    if side == "queries":
        rows, against = stats.query_probes, items
    else:
        start = s.origin if s.compare.is_distance else 0.0
        rows, against = stats.gallery_probes, np.concatenate([stats.query_probes - start, items])
    if fitted.center is not None:
        rows = rows - s.origin
    if fitted.output_width != s.width:
        against = against @ basis
    longest_row = float(np.max(row_norms(rows)))
    if longest_row == 0 or fitted.output_width == 0:
        return 1.0
    # A power of two, which changes no digit: rounding depends on the digits.
    power = 2.0 ** math.frexp(longest_row)[1]
    linear = {k: v for k, v in fitted.constants.items() if k not in ("center", "offset")}
    linear["offset"] = np.zeros(fitted.output_width)
    single = {name: value.astype(np.float32) for name, value in linear.items()}
    narrow = (rows / power).astype(np.float32)
    off = apply_constants(narrow, single) - apply_constants(narrow.astype(np.float64), linear)
    along = float(np.max(np.abs(off @ normalize_rows(against).T), initial=0.0))
    unit = float(np.finfo(np.float32).eps) / 2
    return max(1.0, 2.5 * along / (unit * longest_row / power))


def bound_of(
    s: Setting,
    *,
    off_queries: float,
    off_gallery: float,
    dropped: float = 0.0,
    length: float | None = None,
    gain: float = 1.0,
    compared: float | None = None,
) -> float:
    """Return how much a difference of two scores can change at most on the fitted rows.

    Parameters
    ----------
    off_queries, off_gallery : float
        How far rounding moves the mapped rows.
    dropped : float
        What the exact maps leave out of a difference of two scores.
    length : float, optional
        Of the longest mapped query; by default as long as before.
    gain : float
        Factor of all mapped scores.
    compared : float, optional
        What comparing in another way than the metric changes; by default the spread of the squared
        lengths, over 2, where one of both is a distance and the other is not.
    """
    gallery, by_distance = s.stats.gallery, s.compare.is_distance
    if compared is None:
        compared = off_sphere(s) if by_distance != s.stats.metric.is_distance else 0.0
    x = gallery.radius
    y = query_length(s) if length is None else length
    against = y + x if by_distance else y  # the slope of y.x - |x|^2 / 2 in x is y - x
    rounding = 2 * (against * off_gallery + x * off_queries + off_gallery * off_queries) / gain
    return dropped + compared + rounding


def off_sphere(s: Setting) -> float:
    """Return the spread of the items' squared lengths, over 2: what a distance adds to a product."""
    return (s.stats.gallery.longest**2 - s.stats.gallery.shortest**2) / 2


def query_length(s: Setting) -> float:
    """Return the length of the longest query as comparisons see it: a distance about the mean."""
    return reach(s, "queries") if s.compare.is_distance else longest(s, "queries")
