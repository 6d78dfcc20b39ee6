"""`balanced`: both sides to the same second moments, halfway each, and every ranking kept.

x' = A (x - c) and y' = A^-T y have the inner products y.x - y.c, so no ranking changes, whatever A is.
Of all A, the one that gives both clouds the same second moments loses the least to noise in proportion
to what is stored: codes, floats of few bits, fewer dimensions. Derived in docs/theory_balanced.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    asarray_like,
    block_slices,
    namespace,
    to_numpy,
)
from modgap._core.checks import check_array, check_number
from modgap._core.memory import halving
from modgap._core.moments import Moments
from modgap.closers._bounds import longest, off_sphere, offset
from modgap.closers._hull import left_out
from modgap.closers._setting import Setting, checked_setting, closure_of
from modgap.closers._transport import (
    SecondMoments,
    Transport,
    merged,
    pieces_of,
    random_frame,
    second_moments_of,
    transport,
)
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.registry import METHODS
from modgap.closers.statistics import Statistics
from modgap.decisions.metric import as_metric
from modgap.errors import ArgumentError, ClosureWarning, DataError, ShapeError

__all__ = ["Kinds", "balance", "fit"]

#: Share of a multiple of I in the gallery's covariance: it bounds the condition of the maps, and costs
#: under .001 bits on CLIP anywhere from .0001 to .01.
GALLERY_SHRINKAGE = 0.01

#: Queries of one kind, in one piece or several, or of several kinds with weights.
Kinds: TypeAlias = Moments | Sequence[Moments] | Sequence[tuple[Moments | Sequence[Moments], float]]


def fit(s: Setting) -> Closure:
    """Balance what is at hand: rows, whose thirds choose the shrinkage, or moments."""
    moments = s.stats.once("second moments", lambda: second_moments_of([(_parts(s.stats), 1.0)]))
    return _closure(s, moments)


def balance(
    gallery: Moments,
    queries: Kinds | None = None,
    *,
    query_mean: Float[Array, " d"] | None = None,
    metric: str = "cosine",
    **options: Any,
) -> Closure:
    """Return the closure `balanced` of a gallery, for whatever is known of its queries.

    Parameters
    ----------
    gallery : Moments
        With products in float64; under cosine of rows of unit length.
    queries : Moments, several, or pairs (moments, weight), optional
        Of one kind of queries in one piece; in pieces such as shards, of which three or more choose
        the shrinkage; or of several kinds, such as texts and images, each with its share of the
        searches. Without queries they are taken to come from every direction alike.
    query_mean : array (d,), optional
        Mean of the queries, where nothing else is known of them.
    metric : {"cosine", "ip", "euclidean"}
        By Euclidean distance only galleries whose rows have one length keep their rankings; lift
        others first (`lift_gallery`, `lift_queries`) and balance them by inner product.
    **options
        alpha, n_components, reduce, rotation, shrinkage: as `closers.fit` takes them.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        As `closers.fit`; also both `queries` and `query_mean`, or weights that are not positive.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(50, 4)) * [4, 1, 1, 1], rng.normal(size=(9, 4))
    >>> closure = balance(Moments.from_rows(x, precision="float64"), metric="ip")
    >>> scores = closure.apply_queries(y) @ closure.apply_gallery(x).T
    >>> bool(np.allclose(scores, y @ (x - x.mean(axis=0)).T))
    True
    """
    if queries is None:
        guess = _guess(gallery, query_mean)
        stats = Statistics.of_moments(guess, gallery, as_metric(metric))
        setting = checked_setting(METHODS["balanced"], stats, **options)
        mean = to_numpy(guess.mean)
        second = to_numpy(guess.covariance) + np.outer(mean, mean)
        closure = _closure(replace(setting, shrinkage=0.0), SecondMoments(second, 0))
        return replace(closure, info={**closure.info, "queries": 0})
    if query_mean is not None:
        raise ArgumentError("give either `queries` or `query_mean`; the first hold the second")
    kinds = _kinds(queries)
    whole = merged([part for own, _ in kinds for part in own])  # lengths, rounding and mean of all
    stats = Statistics.of_moments(whole, gallery, as_metric(metric))
    setting = checked_setting(METHODS["balanced"], stats, **options)
    return _closure(setting, second_moments_of(kinds))


def _parts(stats: Statistics) -> Sequence[Moments]:
    """Return the moments of the queries in thirds where rows are at hand, else as they are."""
    rows = stats.query_rows
    if stats.query_moments is not None or rows is None:
        return stats.query_parts or (stats.queries,)
    return pieces_of(rows)


def _kinds(queries: Kinds) -> list[tuple[Sequence[Moments], float]]:
    """Return kinds of queries with their weights, each in pieces."""
    if isinstance(queries, Moments):
        return [([queries], 1.0)]
    parts = list(queries)
    if not parts:
        raise ShapeError("`queries` must hold moments; got an empty list")
    if all(isinstance(part, Moments) for part in parts):
        return [(parts, 1.0)]  # type: ignore[list-item]
    kinds: list[tuple[Sequence[Moments], float]] = []
    for part in parts:
        if not (isinstance(part, tuple) and len(part) == 2):
            raise ArgumentError(
                "`queries` must be moments, several moments, or pairs (moments, weight); "
                f"got a {type(part).__name__} among them"
            )
        moments, weight = part
        own = [moments] if isinstance(moments, Moments) else list(moments)
        kinds.append((own, check_number(weight, "weight", low=0.0, open_low=True)))
    return kinds


def _guess(gallery: Moments, query_mean: Array | None) -> Moments:
    """Return moments of queries of unit length from every direction alike, about a mean if known."""
    d = gallery.width
    mean = np.zeros(d)
    if query_mean is not None:
        mean = to_numpy(as_float64(check_array(query_mean, "query_mean", ndim=1)))
        if mean.shape != (d,):
            raise ShapeError(f"`query_mean` must have shape ({d},); got {mean.shape}")
        if not np.isfinite(mean).all():
            raise DataError("`query_mean` holds NaN or infinity")
    power = float(mean @ mean)
    length = max(1.0, math.sqrt(power))
    rest = max(length**2 - power, 0.05 * length**2) / d
    return Moments(
        count=1,
        mean=mean,
        scatter=rest * np.eye(d),
        eps=gallery.eps,
        product_eps=gallery.product_eps,
        shortest=length,
        longest=length,
        radius=length + math.sqrt(power),
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """Linear parts of both maps, rows times matrix, (d, e), and what they leave out of scores.

    `norms` are their largest singular values, or a little more.
    """

    items: np.ndarray
    queries: np.ndarray
    rest: tuple[np.ndarray, np.ndarray] | None
    right: np.ndarray | None
    norms: tuple[float, float]

    @property
    def width(self) -> int:
        return int(self.items.shape[1])


def _closure(s: Setting, queries: SecondMoments) -> Closure:
    axes = s.stats.axes
    if axes.rank == 0:
        warnings.warn(
            "`balanced`: all items are equal, so every query has them in one order; nothing to balance",
            ClosureWarning,
            stacklevel=4,
        )
        return closure_of("balanced", s, s.map(), s.map(shift=-s.mean), bound=0.0)
    if queries.count and s.stats.queries.total_variance <= s.stats.eps**2 * s.stats.query_reach**2:
        warnings.warn(
            "`balanced`: all queries are equal, which tells no more than their mean would; "
            "fit it to queries as they come",
            ClosureWarning,
            stacklevel=4,
        )
    if s.width == 1:
        warnings.warn(
            "`balanced`: in one dimension every map is a factor; only the mean goes",
            ClosureWarning,
            stacklevel=4,
        )
    basis, lost = _directions(s)
    variances = np.maximum(axes.variances[: basis.shape[1]], 0.0) / s.stats.gallery.count
    found = s.stats.once(  # one for every alpha, rotation and number of components
        ("transport", basis.shape[1], s.shrinkage),
        lambda: transport(
            variances,
            queries.within(basis),
            gallery_shrinkage=GALLERY_SHRINKAGE,
            query_shrinkage=s.shrinkage,
        ),
    )
    k = _components(s, found)
    pair = _maps(s, found, k, basis, variances)
    gallery = s.map(center=s.mean, left=pair.items, right=pair.right, residual=False)
    mapped = s.map(left=pair.queries, right=pair.right, residual=False)
    _warn_off_sphere(s)
    return closure_of(
        "balanced",
        s,
        mapped,
        gallery,
        bound=_bound(s, pair) + lost,
        n_components=k,
        info={
            "reduce": s.reduce,
            "rotation": s.rotation,
            "shrinkage": found.shrinkage,
            "condition": found.condition(s.alpha),
        },
    )


def _directions(s: Setting) -> tuple[np.ndarray, float]:
    """Return orthonormal columns (d, r) to balance along, and what a difference of scores loses.

    Those of the numerical rank. Where rows reach beyond them by more than a tie, as rows stored in halves
    do, all that so many rows can span: no map of ours needs the others to be empty.
    """
    axes, reach = s.stats.axes, longest(s, "queries")
    most = min(s.width, s.stats.gallery.count - 1)
    for used in (axes.rank, most):
        lost = 2 * reach * left_out(s, used)
        if lost <= s.stats.resolution / 2:
            break
    return axes.axes[:, :used], lost


def _components(s: Setting, found: Transport) -> int:
    """Return how many coordinates to keep: by count, or by their share of the scores' mean square."""
    r = len(found.spectrum)
    if s.n_components == "all":
        return r
    if s.alpha != 1.0:
        raise ArgumentError(
            f"`n_components` of `balanced` goes with alpha 1, where both clouds share their axes; "
            f"got alpha {s.alpha:g}"
        )
    if isinstance(s.n_components, float):
        share = np.cumsum(found.spectrum**2) / np.sum(found.spectrum**2)
        return min(int(np.searchsorted(share, s.n_components - 1e-12)) + 1, r)
    if int(s.n_components) > r:
        raise ArgumentError(
            f"`n_components` is {s.n_components}, but the gallery has only {r} directions; "
            f'ask for at most {r}, or "all"'
        )
    return int(s.n_components)


def _maps(s: Setting, found: Transport, k: int, basis: np.ndarray, variances: np.ndarray) -> _Pair:
    """Return both linear parts, scaled so that the total variance of the gallery stays."""
    if s.reduce and s.alpha != 1.0:
        raise ArgumentError(f"`reduce` closes the gap fully (alpha 1); got alpha {s.alpha:g}")
    items, queries = found.coordinates(len(found.spectrum))
    rest = None
    if k < items.shape[1]:
        rest = (basis @ items[:, k:], basis @ queries[:, k:])
    if s.alpha == 1.0:
        items, queries = items[:, :k], queries[:, :k]
    else:
        items, queries = found.symmetric(s.alpha)
    size = math.sqrt(float(np.sum(variances)) / float(variances @ np.sum(items**2, axis=1)))
    right = _placement(s, found, items, basis)
    items, queries = basis @ items * size, basis @ queries / size
    stretch, squeeze = found.norms(s.alpha)
    norms = (stretch * size, squeeze / size)
    if right is not None and 2 * k >= s.width:  # one product then costs no more than two
        return _Pair(items @ right, queries @ right, rest, None, norms)
    return _Pair(items, queries, rest, right, norms)


def _placement(
    s: Setting, found: Transport, items: np.ndarray, basis: np.ndarray
) -> np.ndarray | None:
    """Return orthonormal rows (k, d): where in d dimensions the coordinates go; None for as they are.

    A rotation spreads them over all dimensions. Without one they go where M^1/2 = W^T (coordinates)
    has them, which moves rows the least.
    """
    if s.reduce:
        return None
    if s.rotation is not None:
        return random_frame(s.width, items.shape[1], s.rotation).T
    if s.alpha != 1.0:
        return np.asarray(basis.T)
    return np.asarray((basis @ (found.symmetric(1.0)[1] @ items)).T)


def _bound(s: Setting, pair: _Pair) -> float:
    """Return how much a difference of two scores can change at most on the fitted rows.

    What is dropped, by Cauchy-Schwarz in the balanced coordinates left out; and rounding: storing a
    mapped row is off by a roundoff of its length, the product that makes it by about three (of the
    matrix, and twice for the sum) of what its terms would have in length if they were all orthogonal.
    """
    stats, u = s.stats, s.stats.eps / 2
    radius, away, far = stats.gallery.radius, offset(s), s.is_far
    reach = longest(s, "queries")
    items, queries = stats.gallery_rows, stats.query_rows
    x = _longest(items, s.mean, pair.items, pair.norms[0] * radius)
    y = _longest(queries, None, pair.queries, pair.norms[1] * reach)
    in_x = _widest(items, s.mean if far else None, pair.items, radius + (0.0 if far else away))
    in_y = _widest(queries, None, pair.queries, reach)
    steps = 5 if stats.metric.needs_directions else 3  # scaling to unit length: two more
    off_x, off_y = u * (x + steps * in_x), u * (y + steps * in_y)
    bound = 2 * (y * off_x + x * off_y + off_x * off_y)
    if pair.rest is not None:
        most = math.prod(pair.norms) * radius * reach
        lost = _longest(items, s.mean, pair.rest[0], most)
        bound += 2 * lost * _longest(queries, None, pair.rest[1], 1.0)
    if stats.metric.is_distance:
        bound += off_sphere(s)
    return bound


@halving
def _longest(
    rows: Array | None, center: np.ndarray | None, matrix: np.ndarray, most: float
) -> float:
    """Return the length of the longest mapped row, or `most` where there are no rows."""
    if rows is None:
        return most
    side = AffineMap(len(matrix), center=center, left=matrix, residual=False)
    longest = 0.0
    xp = namespace(rows)
    for part in block_slices(*rows.shape):
        mapped = side(rows[part, :])
        longest = max(longest, float(xp.max(xp.vecdot(mapped, mapped))))
    return math.sqrt(longest)


@halving
def _widest(
    rows: Array | None, center: np.ndarray | None, matrix: np.ndarray, most: float
) -> float:
    """Return the largest root of sum_j z_j^2 |row j of the matrix|^2, at most `most` in |z|."""
    weights = np.einsum("ij,ij->i", matrix, matrix)
    if rows is None:
        return most * math.sqrt(float(np.max(weights)))
    xp, largest = namespace(rows), 0.0
    like = as_float64(rows[:1, :])
    shares = asarray_like(weights, like)
    origin = None if center is None else asarray_like(center, like)
    for part in block_slices(*rows.shape):
        block = as_float64(rows[part, :])
        if origin is not None:
            block = block - origin
        largest = max(largest, float(xp.max(xp.matmul(block * block, shares))))
    return math.sqrt(largest)


def _warn_off_sphere(s: Setting) -> None:
    if s.stats.metric.is_distance and off_sphere(s) > s.stats.resolution:
        warnings.warn(
            "`balanced` compares by inner product, but the gallery's rows have lengths from "
            f"{s.stats.gallery.shortest:.3g} to {s.stats.gallery.longest:.3g}, so rankings by distance "
            "may change; lift both sides first (closers.lift_gallery, closers.lift_queries) and fit by ip",
            ClosureWarning,
            stacklevel=5,
        )
