"""Scores as inner products, and what noise on the stored rows does to them, metric by metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import to_numpy
from modgap._core.clouds import Cloud
from modgap._core.moments import Moments
from modgap.closers._transport import second_moment
from modgap.closers.lift import lift_gallery, lift_queries
from modgap.decisions.metric import Metric
from modgap.errors import DataError

__all__ = ["Scores", "scores_of"]

Rows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Scores:
    """Two clouds in a form in which scores are inner products, and as they are stored.

    Attributes
    ----------
    variances : ndarray (r,)
        Of the items in that form, along their principal axes.
    basis : ndarray (e, r)
        These axes.
    second : ndarray (e, e)
        Second moments of the queries in that form, not centred.
    form : callable
        Queries as they are, (m, d), to that form, (m, e).
    exposed : callable
        Queries to squares (m, d): how much noise of variance 1 on coordinate j of the stored items moves
        their scores, in the mean square over the items.
    exposure : ndarray (d,)
        Their mean over all queries.
    spread : ndarray (d,)
        Variance of each coordinate of the stored items.
    offset : float
        Squared length of their mean.
    width : int
        Coordinates that balanced rows have, e.
    """

    variances: np.ndarray
    basis: np.ndarray
    second: np.ndarray
    form: Rows
    exposed: Rows
    exposure: np.ndarray
    spread: np.ndarray
    offset: float
    width: int

    @property
    def dimension(self) -> int:
        """Coordinates of the rows as they are stored, d."""
        return len(self.spread)

    def one_range(self, exposed: np.ndarray) -> Any:
        """Return d times the noise of scores for noise in proportion to E|x|^2 / d, over (..., d)."""
        return (float(np.sum(self.spread)) + self.offset) * np.sum(exposed, axis=-1)

    def range_per_dimension(self, exposed: np.ndarray) -> Any:
        """Return d times the noise of scores for noise in proportion to each C_jj, over (..., d)."""
        return self.dimension * (exposed @ self.spread)


def scores_of(queries: Cloud, gallery: Cloud, metric: Metric) -> Scores:
    """Return two clouds as their scores see them.

    Raises
    ------
    DataError
        All items are equal; or distances are asked of moments of items of several lengths.
    """
    ours, theirs = queries.moments, gallery.moments
    if theirs.full_axes.rank == 0:
        raise DataError("`gallery` rows are all equal: no score differs, so no code can be judged")
    if not metric.is_distance:
        second = second_moment(ours)
        return _assembled(theirs, theirs, second, np.diagonal(second), lambda y: y, np.square)
    mean, spread = to_numpy(theirs.mean), np.diagonal(to_numpy(theirs.covariance))

    def exposed(y: np.ndarray) -> np.ndarray:  # the mean over the items of (y_j - x_j)^2
        return np.asarray((y - mean) ** 2 + spread)

    exposure = exposed(to_numpy(ours.mean)) + np.diagonal(to_numpy(ours.covariance))
    if _has_one_length(theirs):  # distances then rank as products do
        return _assembled(theirs, theirs, second_moment(ours), exposure, lambda y: y, exposed)
    return _lifted(queries, gallery, exposure, exposed)


def _assembled(
    stored: Moments,
    items: Moments,
    second: np.ndarray,
    exposure: np.ndarray,
    form: Rows,
    exposed: Rows,
) -> Scores:
    axes, mean = items.full_axes, to_numpy(stored.mean)
    return Scores(
        variances=to_numpy(axes.variances)[: axes.rank] / items.count,
        basis=to_numpy(axes.axes)[:, : axes.rank],
        second=second,
        form=form,
        exposed=exposed,
        exposure=np.asarray(exposure),
        spread=np.diagonal(to_numpy(stored.covariance)),
        offset=float(mean @ mean),
        width=items.width,
    )


def _lifted(queries: Cloud, gallery: Cloud, exposure: np.ndarray, exposed: Rows) -> Scores:
    if gallery.rows is None or queries.rows is None:
        raise DataError(
            "by Euclidean distance on items of several lengths the rows themselves are needed, whose "
            'squared lengths are lifted too; give the rows, or ask for metric="ip"'
        )
    stored = gallery.moments
    # In units of the items' spread, about their mean, the lifted coordinate is of the others' size.
    unit = math.sqrt(stored.total_variance)
    center = to_numpy(stored.mean) / unit
    items = Moments.from_blocks(
        (lift_gallery(to_numpy(block) / unit, center=center) for block in gallery.blocks()),
        precision="float64",
    )

    def form(y: np.ndarray) -> np.ndarray:  # scores in the units of the rows as they are stored
        return np.asarray(lift_queries(y / unit, center=center)) * unit**2

    asked = Moments.from_blocks(
        (form(to_numpy(block)) for block in queries.blocks()), precision="float64"
    )
    return _assembled(stored, items, second_moment(asked), exposure, form, exposed)


def _has_one_length(moments: Moments) -> bool:
    """Return whether all rows have one length, up to how they were rounded."""
    off = (moments.longest - moments.shortest) / moments.longest
    return off <= max(moments.eps, 4 * math.sqrt(moments.width) * moments.product_eps)
