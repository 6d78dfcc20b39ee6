"""Queries and the items that compete for them, as the exact integral asks for them: block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    cache_elements,
    gather_rows,
    namespace,
    row_norms,
)
from modgap.decisions.metric import Metric

__all__ = ["Competition", "OwnCandidates", "SharedGallery"]

#: Scores per matrix product: more than a cache holds, for a product's threads wait for each other.
_PRODUCT_ELEMENTS = 1024 * 1024
#: Queries in a block where the gallery is large: enough for a product, few enough for its bins.
_LEAST_QUERIES = 256
#: Elements of a gallery whose float64 form is kept for all blocks: 32 MiB.
_FORM_ELEMENTS = 4 * 1024 * 1024


class Competition(ABC):
    """Queries, their leaders, and the losses of their items, in float64; inputs are never copied whole.

    A loss is the negative inner product, or the squared distance. For distances everything is about
    the items' mean, where squares keep their digits.

    Attributes
    ----------
    queries : array (m, d)
    gallery : array (n, d) or (m, c, d)
    metric : Metric
    leaders : array (m,)
        The item that is nearest without noise.
    """

    def __init__(self, queries: Array, gallery: Array, metric: Metric, leaders: Array) -> None:
        self.queries = queries
        self.gallery = gallery
        self.metric = metric
        self.leaders = leaders

    @property
    def items(self) -> int:
        """Items that compete for a query."""
        return int(self.gallery.shape[-2])

    @property
    def width(self) -> int:
        """The embedding dimension."""
        return int(self.queries.shape[1])

    @property
    def elements(self) -> int:
        """Elements that one part of the losses may hold."""
        return max(cache_elements(self.queries), _PRODUCT_ELEMENTS)

    @property
    @abstractmethod
    def step(self) -> int:
        """Queries in a block."""

    @abstractmethod
    def own_items(self, rows: slice, columns: Array) -> Array:
        """Return the items (q, k, d) at columns (q, k) of a block of queries."""

    @abstractmethod
    def losses(self, rows: slice, y: Array) -> Iterator[Array]:
        """Yield losses (q, width) of a block of queries, part by part of the items.

        Squared distances lack |y|^2 where `lacks_query_norm` says so.
        """

    lacks_query_norm = False

    def block(self, rows: slice) -> Array:
        """Return a block of queries, float64."""
        return self._centred(self.queries[rows, :])

    def own_loss(self, rows: slice, y: Array, columns: Array) -> Array:
        """Return the loss (q, k) of single items, from differences: exact where a loss is zero."""
        scores = self.metric.pair_scores(y, self.own_items(rows, columns))
        return scores * scores if self.metric.is_distance else -scores

    def leader_loss(self, rows: slice) -> Array:
        """Return the leaders' losses (q,)."""
        columns = namespace(self.queries).expand_dims(self.leaders[rows], axis=1)
        return self.own_loss(rows, self.block(rows), columns)[:, 0]

    @cached_property
    def largest(self) -> float:
        """The largest squared length of an item."""
        xp = namespace(self.gallery)
        return max(float(xp.max(row_norms(part))) for part in self._centred_parts()) ** 2

    @cached_property
    def longest_query(self) -> float:
        """The largest length of a query."""
        xp = namespace(self.queries)
        parts = block_slices(*self.queries.shape)
        return max(float(xp.max(row_norms(self.block(rows)))) for rows in parts)

    @cached_property
    def _pivot(self) -> Array | None:
        if not self.metric.is_distance:
            return None
        xp = namespace(self.gallery)
        flat = xp.reshape(self.gallery, (-1, self.width))
        total = xp.zeros_like(as_float64(flat[0, :]))
        for part in block_slices(*flat.shape):
            total = total + xp.sum(as_float64(flat[part, :]), axis=0)
        return total / flat.shape[0]

    def _centred(self, rows: Array) -> Array:
        wide = as_float64(rows)
        return wide if self._pivot is None else wide - self._pivot

    def _centred_parts(self) -> Iterator[Array]:
        flat = namespace(self.gallery).reshape(self.gallery, (-1, self.width))
        return (self._centred(flat[part, :]) for part in block_slices(*flat.shape))


class SharedGallery(Competition):
    """One gallery (n, d) for all queries."""

    @property
    def step(self) -> int:
        """Queries in a block."""
        return min(max(self.elements // self.items, _LEAST_QUERIES), 4096)

    @property
    def lacks_query_norm(self) -> bool:  # type: ignore[override]
        """|y|^2 is one constant for all items."""
        return self.metric.is_distance

    def own_items(self, rows: slice, columns: Array) -> Array:
        """Return the items (q, k, d) at columns (q, k)."""
        return self._centred(gather_rows(self.gallery, columns))

    def losses(self, rows: slice, y: Array) -> Iterator[Array]:
        """Yield losses (q, width): -y.x, or |x|^2 - 2 y.x, one matrix product each."""
        xp = namespace(y)
        form = -y
        if self.metric.is_distance:
            form = xp.concat([-2.0 * y, xp.ones_like(y[:, :1])], axis=1)
        width = max(1, self.elements // max(1, y.shape[0]))
        for part in block_slices(self.items, 1, elements=width):
            yield xp.matmul(form, self._item_form(part).T)

    def _item_form(self, part: slice) -> Array:
        if self._whole_form is not None:
            return self._whole_form[part, :]
        return self._form(self.gallery[part, :])

    @cached_property
    def _whole_form(self) -> Array | None:
        small = self.items * self.width <= _FORM_ELEMENTS
        return self._form(self.gallery) if small else None

    def _form(self, items: Array) -> Array:
        xp = namespace(items)
        x = self._centred(items)
        if not self.metric.is_distance:
            return x
        return xp.concat([x, xp.sum(x * x, axis=1, keepdims=True)], axis=1)


class OwnCandidates(Competition):
    """A set of items (c, d) for each query; `present` (m, c) marks those that are there, or None."""

    def __init__(
        self,
        queries: Array,
        gallery: Array,
        metric: Metric,
        leaders: Array,
        present: np.ndarray | None = None,
    ) -> None:
        super().__init__(queries, gallery, metric, leaders)
        self.present = present

    @property
    def step(self) -> int:
        """Queries in a block."""
        return max(16, min(self.elements // (self.items * self.width), 4096))

    def own_items(self, rows: slice, columns: Array) -> Array:
        """Return the items (q, k, d) at columns (q, k)."""
        xp = namespace(self.gallery)
        block = self.gallery[rows, :, :]
        place = xp.broadcast_to(xp.expand_dims(columns, axis=-1), (*columns.shape, block.shape[2]))
        return self._centred(xp.take_along_axis(block, place, axis=1))

    def losses(self, rows: slice, y: Array) -> Iterator[Array]:
        """Yield the losses (q, c); those of absent items are infinite."""
        xp = namespace(y)
        own = self._centred(self.gallery[rows, :, :])
        if self.metric.is_distance:
            step = own - xp.expand_dims(y, axis=1)
            found = xp.sum(step * step, axis=-1)
        else:
            found = -xp.sum(own * xp.expand_dims(y, axis=1), axis=-1)
        if self.present is not None:
            there = asarray_like(self.present[rows], found)
            found = xp.where(there, found, xp.full_like(found, xp.inf))
        yield found
