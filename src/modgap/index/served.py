"""A closure in front of an engine: what to write, what to ask with, and when to write anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from modgap._core.arrays import Array, Float, to_numpy
from modgap._core.checks import check_choice, check_count
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT, Metric
from modgap.errors import ArgumentError, ClosureError
from modgap.index.existing import map_for_existing
from modgap.index.lengths import LengthBits

__all__ = ["Served"]

#: What each engine calls a comparison. Cosine is no word for inner products here: engines scale rows to
#: length one for it, and mapped rows have lengths that count.
_WORDS: Mapping[Metric, Mapping[str, str]] = MappingProxyType(
    {
        INNER_PRODUCT: {
            "faiss": "METRIC_INNER_PRODUCT",
            "usearch": "ip",
            "hnswlib": "ip",
            "lancedb": "dot",
            "qdrant": "Dot",
            "pgvector": "vector_ip_ops",
        },
        EUCLIDEAN: {
            "faiss": "METRIC_L2",
            "usearch": "l2sq",
            "hnswlib": "l2",
            "lancedb": "l2",
            "qdrant": "Euclid",
            "pgvector": "vector_l2_ops",
        },
        COSINE: {
            "usearch": "cos",
            "hnswlib": "cosine",
            "lancedb": "cosine",
            "qdrant": "Cosine",
            "pgvector": "vector_cosine_ops",
        },
    }
)


@dataclass(frozen=True)
class Served:
    """A closure as an engine takes it: float32 rows of NumPy to write, and to ask with.

    Parameters
    ----------
    closure : Closure
    existing : bool
        The index stands and stays as it is: `queries` then does all of the work. It can where the
        gallery's map moves all items by one vector: by inner product that changes no ranking, by
        distance the queries move the other way.
    lengths : LengthBits, optional
        For codes that keep signs alone: what `with_lengths` learns. Rows are wider by its bits.

    Raises
    ------
    ArgumentError
        `existing` with `lengths`, which change what is stored.
    ClosureError
        `existing`, and the index has to be written anew for the closure to act.

    Examples
    --------
    >>> import numpy as np
    >>> from modgap import closers
    >>> from modgap.index import Served
    >>> rng = np.random.default_rng(0)
    >>> queries, gallery = rng.normal(size=(30, 4)) + 2, rng.normal(size=(40, 4))
    >>> served = Served(closers.fit("balanced", queries, gallery))
    >>> served.reencode, served.distance("qdrant"), served.gallery(gallery).dtype.name
    (True, 'Dot', 'float32')
    """

    closure: Closure
    existing: bool = False
    lengths: LengthBits | None = None

    def __post_init__(self) -> None:
        if not self.existing:
            return
        if self.lengths is not None:
            raise ArgumentError(
                "`lengths` are written beside the items; leave out `existing` and write the index anew"
            )
        if isinstance(self._standing, ClosureError):
            raise self._standing

    @property
    def reencode(self) -> bool:
        """Whether the items have to be written anew, mapped, for the closure to act."""
        return isinstance(self._standing, ClosureError)

    @property
    def note(self) -> str:
        """What has to be done to an index that stands, in one sentence."""
        if isinstance(self._standing, ClosureError):
            return str(self._standing)
        rows, word = "the rows that it was fitted to", self.closure.comparison.words
        if self.closure.gallery.normalize_input:
            rows = "rows of unit length"
            word = word if self.closure.comparison.is_distance else f"{word} or cosine"
        return (
            f"`{self.closure.method}` needs no item written anew: an index of {rows} that compares by "
            f"{word} stays, and the queries are mapped"
        )

    def gallery(
        self, rows: Float[Array, "n d"], modality: str | Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the items to write, shape (n, e), float32.

        In an index that stands they are what is in it: the rows, of unit length where the closure was
        fitted under cosine.

        Parameters
        ----------
        rows : array (n, d), floating
        modality : str, or sequence of n str
            For a mixed collection: of all the rows, or of each.

        Raises
        ------
        ArgumentError, ClosureError, DataError, ShapeError
            As `Closure.apply_gallery`; also a modality that the closure knows nothing of.
        """
        closure = self.closure
        if isinstance(closure, MixedClosure):
            return self._longer(closure.apply_gallery(rows, modality))
        if modality is not None:
            raise ArgumentError(
                f"`modality` goes with a closure of a mixed collection, and `{closure.method}` has one map "
                "for all items; leave it out"
            )
        if self.existing:
            unit = AffineMap(closure.gallery.width, normalize_input=closure.gallery.normalize_input)
            return _stored(unit(rows))
        return self._longer(closure.apply_gallery(rows))

    def blocks(
        self,
        rows: Float[Array, "n d"],
        modality: str | Sequence[str] | None = None,
        *,
        size: int = 10_000,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield where each block of items begins, and the block as `gallery` returns it.

        For collections larger than memory: `rows` may be a memory map.
        """
        check_count(size, "size")
        for first in range(0, len(rows), size):
            named = (
                modality
                if modality is None or isinstance(modality, str)
                else modality[first:][:size]
            )
            yield first, self.gallery(rows[first : first + size], named)

    def queries(self, rows: Float[Array, "m d"]) -> np.ndarray:
        """Return the queries to ask with, shape (m, e), float32.

        Raises
        ------
        ClosureError, DataError, ShapeError
            As `Closure.apply_queries`.
        """
        if self.existing:
            assert isinstance(self._standing, AffineMap)  # looked at when this was made
            return _stored(replace(self.closure, queries=self._standing).apply_queries(rows))
        asked = self.closure.apply_queries(rows)
        return _stored(asked) if self.lengths is None else self.lengths.queries(asked)

    def with_lengths(
        self,
        queries: Float[Array, "m d"],
        gallery: Float[Array, "n d"],
        modality: str | Sequence[str] | None = None,
        *,
        bits: int = 32,
    ) -> Served:
        """Return this with the lengths of items kept as signs: for pgvector's bit, Qdrant's binary, b1.

        Parameters
        ----------
        queries : array (m, d), floating
            Not mapped, of the kind that will search.
        gallery : array (n, d), floating
            Not mapped; the items, or a fair sample of them.
        modality : str, or sequence of n str
            As `gallery` takes it.
        bits : int
            Signs for the length, behind those of the dimensions.

        Raises
        ------
        ArgumentError
            Mapped rows are not compared by inner product, or as `LengthBits.of`.
        ClosureError, DataError, ShapeError
            As `gallery` and `queries`.
        """
        way = self.closure.comparison
        if way.is_distance or way.needs_directions:
            raise ArgumentError(
                f"lengths count by inner product, and `{self.closure.method}` is compared by {way.words}; "
                "leave them out"
            )
        plain = replace(self, lengths=None)
        mapped = plain.gallery(gallery, modality)
        return replace(self, lengths=LengthBits.of(plain.queries(queries), mapped, bits=bits))

    def distance(self, engine: str) -> str:
        """Return what an engine calls the comparison that mapped rows need.

        Raises
        ------
        ArgumentError
            No such engine, or it has no such comparison.
        """
        words = _WORDS[self.closure.comparison]
        check_choice(engine, "engine", tuple(_WORDS[INNER_PRODUCT]))
        if engine not in words:
            raise ArgumentError(
                f"`engine` {engine} has no {self.closure.comparison.words}; scale both sides to unit "
                "length and compare by inner product"
            )
        return words[engine]

    def _longer(self, rows: Array) -> np.ndarray:
        return _stored(rows) if self.lengths is None else self.lengths.gallery(rows)

    @cached_property
    def _standing(self) -> AffineMap | ClosureError:
        """The map of queries for an index that stands, or why there is none."""
        try:
            return map_for_existing(self.closure)
        except ClosureError as error:
            return error


def _stored(rows: Array) -> np.ndarray:
    return np.ascontiguousarray(to_numpy(rows), dtype=np.float32)
