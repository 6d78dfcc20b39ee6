"""The shape of one cloud as a record: every figure made when it is asked for, and once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from modgap._core.clouds import Cloud
from modgap.errors import DataError, ShapeError
from modgap.measures import cloud as geometry

__all__ = ["SHAPE", "CloudShape", "defined"]

_Figure = TypeVar("_Figure")

#: Figures of one cloud in the order of the document.
SHAPE = (
    "average_norm",
    "mean_cosine",
    "total_variance",
    "rank",
    "effective_rank",
    "participation_ratio",
    "uniformity",
)


def defined(compute: Callable[[], _Figure]) -> _Figure | None:
    """Return a figure, or None where these clouds do not have it (0/0, one row, no direction).

    The clouds passed the door, so nothing else can be wrong with them.
    """
    try:
        return compute()
    except (DataError, ShapeError):
        return None


@dataclass(frozen=True, eq=False)
class CloudShape:
    """The shape of one cloud of a `Gap`; the figures are those of `modgap.measures.cloud`.

    None where the cloud does not have one: a single row, rows that are all equal, moments alone.

    Attributes
    ----------
    cloud, drawn : Cloud
        All rows, and those that the pairs of `uniformity` are taken from.
    """

    cloud: Cloud
    drawn: Cloud

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.cloud.count

    @cached_property
    def average_norm(self) -> float | None:
        """Mean length of the rows as they are stored."""
        return defined(lambda: geometry.average_norm(self.cloud))

    @cached_property
    def mean_cosine(self) -> float | None:
        """Mean cosine between two different rows."""
        return defined(lambda: geometry.mean_cosine(self.cloud))

    @cached_property
    def total_variance(self) -> float:
        """Mean squared distance of the rows to their mean."""
        return geometry.total_variance(self.cloud)

    @cached_property
    def rank(self) -> int:
        """Numerical rank of the centred rows: dimensions that the cloud spans."""
        return self.cloud.moments.full_axes.rank

    @cached_property
    def effective_rank(self) -> float | None:
        """How many dimensions the cloud fills, by the entropy of its singular values."""
        return defined(lambda: geometry.effective_rank(self.cloud))

    @cached_property
    def participation_ratio(self) -> float | None:
        """How many equal variances would be spread as the cloud's are."""
        return defined(lambda: geometry.participation_ratio(self.cloud))

    @cached_property
    def uniformity(self) -> float | None:
        """Logarithm of the mean Gaussian potential of the pairs of rows."""
        return defined(lambda: geometry.uniformity(self.drawn))
