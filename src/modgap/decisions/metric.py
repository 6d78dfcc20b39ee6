"""How the nearest item is found: three metrics, each an object with its own methods.

A metric is a `str`, so it prints, compares and goes into JSON as its name. What the rest of the
package asks of it are its methods: nobody else compares names.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    namespace,
    normalize_rows,
    row_norms,
    scale_range,
    working_float,
)
from modgap.errors import ArgumentError

__all__ = [
    "COSINE",
    "EUCLIDEAN",
    "INNER_PRODUCT",
    "METRICS",
    "Metric",
    "as_metric",
]


class Metric(str):
    """A way to find the nearest item; use `EUCLIDEAN`, `INNER_PRODUCT`, `COSINE` or `as_metric`.

    Attributes
    ----------
    words : str
        The name in a sentence.
    largest_first : bool
        Whether the nearest item has the largest score.
    needs_directions : bool
        Whether rows of length zero have no place in it.
    is_distance : bool
        Whether the lengths of the items count: scores are distances.
    """

    __slots__ = ()

    words: ClassVar[str]
    largest_first: ClassVar[bool] = True
    needs_directions: ClassVar[bool] = False
    is_distance: ClassVar[bool] = False

    def prepare(self, rows: Array, squares: Array | None = None) -> Array:
        """Return the rows as the metric sees them: by cosine of unit length, float32 at least.

        `squares` (n,) are their squared lengths where they are known, and within the dtype's range.
        """
        return rows

    def pair_scores(self, queries: Array, items: Array) -> Array:
        """Return float64 scores (m, k) of each query's own items, queries (m, d), items (m, k, d)."""
        xp = namespace(queries)
        queries = self.prepare(as_float64(queries))
        # Row by row, so that equal items have equal scores wherever they stand.
        return xp.vecdot(as_float64(items), xp.expand_dims(queries, axis=1))

    def search_form(self, rows: Array, pivot: Array, side: str) -> Array:
        """Return rows (n, d') whose largest inner product is the nearest item.

        Euclidean distance needs one more coordinate: with everything about `pivot`, which keeps
        distances and saves digits, |y - x|^2 = |y|^2 - 2 (y, 1).(x, -|x|^2 / 2).
        """
        return rows

    def item_offset(self, items: Array) -> Array:
        """Return c (n,), float64, such that the nearest item maximises y.x + c, of prepared rows."""
        xp = namespace(items)
        return xp.zeros_like(as_float64(items[:, 0]))


class InnerProduct(Metric):
    """The largest inner product."""

    __slots__ = ()
    words = "inner product"


class Cosine(Metric):
    """The largest cosine: the inner product of unit rows."""

    __slots__ = ()
    words = "cosine"
    needs_directions = True

    def prepare(self, rows: Array, squares: Array | None = None) -> Array:
        """Return unit rows."""
        if squares is not None:
            return rows / namespace(squares).sqrt(squares)[:, None]
        return normalize_rows(working_float(rows))

    def pair_scores(self, queries: Array, items: Array) -> Array:
        """Return cosines (m, k): products over the items' lengths, which saves copies of unit length."""
        wide = as_float64(items)
        xp = namespace(wide)
        with np.errstate(over="ignore"):
            lengths = row_norms(wide)
        low, high = scale_range(wide)
        if not (low <= float(xp.min(lengths)) and float(xp.max(lengths)) <= high):
            return super().pair_scores(queries, normalize_rows(wide))
        return super().pair_scores(queries, wide) / lengths

    def search_form(self, rows: Array, pivot: Array, side: str) -> Array:
        """Return unit rows."""
        return normalize_rows(rows)


class Euclidean(Metric):
    """The smallest Euclidean distance."""

    __slots__ = ()
    words = "Euclidean distance"
    largest_first = False
    is_distance = True

    def pair_scores(self, queries: Array, items: Array) -> Array:
        """Return distances (m, k)."""
        xp = namespace(queries)
        step = as_float64(items) - xp.expand_dims(as_float64(queries), axis=1)
        return xp.sqrt(xp.sum(step * step, axis=-1))

    def search_form(self, rows: Array, pivot: Array, side: str) -> Array:
        """Return (y, 1) or (x, -|x|^2 / 2), about the pivot."""
        xp = namespace(rows)
        rows = rows - pivot
        if side == "queries":
            last = xp.ones_like(rows[:, :1])
        else:
            last = -0.5 * xp.expand_dims(xp.vecdot(rows, rows), axis=1)
        return xp.concat([rows, last], axis=1)

    def item_offset(self, items: Array) -> Array:
        """Return -|x|^2 / 2."""
        xp = namespace(items)
        wide = as_float64(items)
        return -0.5 * xp.sum(wide * wide, axis=-1)


COSINE = Cosine("cosine")
INNER_PRODUCT = InnerProduct("ip")
EUCLIDEAN = Euclidean("euclidean")

#: Every metric by its name.
METRICS: dict[str, Metric] = {str(m): m for m in (COSINE, INNER_PRODUCT, EUCLIDEAN)}
_ALIASES = {
    "cos": "cosine",
    "angular": "cosine",
    "dot": "ip",
    "inner": "ip",
    "inner_product": "ip",
    "inner-product": "ip",
    "innerproduct": "ip",
    "l2": "euclidean",
    "l2sq": "euclidean",
}


def as_metric(name: str) -> Metric:
    """Return the metric of a name, one that other tools use for it included (dot, l2, cos).

    Raises
    ------
    ArgumentError
        No metric has this name.

    Examples
    --------
    >>> as_metric("dot"), as_metric("L2").largest_first
    ('ip', False)
    """
    if isinstance(name, Metric):
        return name
    word = str(name).strip().lower()
    found = METRICS.get(_ALIASES.get(word, word))
    if found is None:
        raise ArgumentError(f"`metric` must be one of {', '.join(METRICS)}; got {name!r}")
    return found
