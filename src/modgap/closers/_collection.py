"""The items of a mixed collection by modality: checked once, with moments that several fits share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modgap._core.arrays import Array
from modgap._core.checks import check_cloud, check_same_width
from modgap._core.moments import Moments
from modgap.decisions.metric import Metric
from modgap.errors import ArgumentError, DataError, ShapeError

__all__ = ["Collection", "check_several", "check_spread", "check_widths", "checked_queries"]


@dataclass(frozen=True, eq=False)
class Collection:
    """The items of each modality as a metric sees them, and their moments: what several fits share."""

    metric: Metric
    items: Mapping[str, Array]
    moments: Mapping[str, Moments]

    @classmethod
    def of(cls, galleries: Mapping[str, Array], metric: Metric) -> Collection:
        """Return a collection whose modalities were checked: two or more, each with rows that differ."""
        items = _checked_items(galleries, metric)
        moments = {n: Moments.from_rows(rows, precision="float64") for n, rows in items.items()}
        check_spread(moments)
        return cls(metric, items, moments)


def checked_queries(queries: Array, metric: Metric) -> Array:
    """Return the queries as the metric sees them, checked."""
    strict = not metric.needs_directions
    return metric.prepare(check_cloud(queries, "queries", min_rows=2, zero_rows=strict))


def _checked_items(galleries: Mapping[str, Array], metric: Metric) -> dict[str, Array]:
    """Return the items as the metric sees them, checked."""
    if not isinstance(galleries, Mapping):
        raise ArgumentError(
            "`galleries` must be a mapping of modality to rows, such as "
            f'{{"image": images, "text": texts}}; got {type(galleries).__name__}'
        )
    check_several(tuple(galleries))
    items = {}
    for name, rows in galleries.items():
        label = f"galleries[{str(name)!r}]"
        found = check_cloud(rows, label, zero_rows=not metric.needs_directions)
        items[str(name)] = metric.prepare(found)
    return items


def check_widths(queries: Array, collection: Collection) -> None:
    for name, rows in collection.items.items():
        check_same_width(queries, "queries", rows, f"galleries[{name!r}]")


def check_several(names: tuple[Any, ...]) -> None:
    if len(names) < 2:
        raise ArgumentError(
            f"`galleries` must hold two modalities or more; got {len(names)} "
            f"({', '.join(map(str, names)) or 'none'}), and one list needs no merging"
        )


def check_spread(moments: Mapping[str, Moments]) -> None:
    """Raise an error for a modality of one row, or whose rows are all equal."""
    for name, each in moments.items():
        if each.count < 2:
            raise ShapeError(
                f"`galleries[{name!r}]` must have at least 2 rows, whose spread is measured; got "
                f"{each.count}; leave this modality out, or add to it"
            )
        if math.sqrt(max(each.total_variance, 0.0)) <= each.eps * each.longest:
            raise DataError(
                f"`galleries[{name!r}]` holds {each.count} rows that are all equal, which have no spread "
                "to be scaled by; leave this modality out"
            )
