"""A closure inside FAISS: an index that takes raw rows on both sides, and is read by plain faiss.

    index = FaissIndex(closure, faiss.index_factory(512, "PQ64", faiss.METRIC_INNER_PRODUCT))
    index.add(images)
    index.write("photos.faiss")                  # faiss.read_index("photos.faiss").search(texts, 10)

An IndexPreTransform applies one chain to what is added and to what is searched, and a closure has two
maps. So what is written has the chain of the queries, and added rows go through the other map and into
the index behind the chain. An index that stands is another matter: see `over_existing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.arrays import block_slices, normalize_rows, to_numpy
from modgap._core.checks import check_cloud
from modgap._core.extras import require
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, ClosureError, FormatError, ShapeError
from modgap.exports import to_faiss
from modgap.exports.form import Form, sides_of
from modgap.index.existing import map_for_existing
from modgap.io._guard import one_line, shown
from modgap.io.atomic import atomic_path

__all__ = ["FaissIndex", "over_existing"]


class FaissIndex:
    """A new FAISS index behind a closure: rows go in as they are, on both sides.

    Parameters
    ----------
    closure : Closure
    index : faiss.Index
        Empty, of the width that mapped rows have, comparing as `closure.comparison` says; trained or
        not. It is filled in place.

    Raises
    ------
    ArgumentError, ClosureError, ShapeError
        The index holds rows already, or compares, or is as wide, as the mapped rows are not.
    MissingExtraError
        FAISS is not installed.
    """

    def __init__(self, closure: Closure, index: Any) -> None:
        self.closure = closure
        self.index = index
        _check(index, closure, closure.queries.output_width)
        if index.ntotal:
            raise ArgumentError(
                f"`index` must be empty; it holds {index.ntotal} rows: use over_existing for an index of "
                "rows as they are, and an empty one here"
            )
        self._chain = to_faiss.chain_of(Form.of(closure.queries), closure.comparison)
        self._served: Any = None

    def train(self, gallery: Any, modality: str | Sequence[str] | None = None) -> FaissIndex:
        """Train the index on gallery rows (n, d), mapped; return self.

        Raises
        ------
        ArgumentError, ClosureError, DataError, ShapeError
            As `closure.apply_gallery`.
        """
        self.index.train(self._mapped(gallery, modality))
        self._served = None
        return self

    def add(
        self,
        gallery: Any,
        modality: str | Sequence[str] | None = None,
        *,
        ids: Any = None,
    ) -> FaissIndex:
        """Add gallery rows (n, d) as they are; an untrained index is trained on them. Return self.

        Parameters
        ----------
        gallery : array (n, d), floating
        modality : str, or sequence of n str, optional
            Of a mixed collection. Train such an index on all modalities first.
        ids : array (n,), int64, optional
            For an index that takes ids.

        Raises
        ------
        ArgumentError, ClosureError, DataError, ShapeError
            As `closure.apply_gallery`; or there are more or fewer ids than rows.
        """
        if not self.index.is_trained:
            self.train(gallery, modality)
        names = None if ids is None else np.ascontiguousarray(ids, np.int64)
        if names is not None and names.shape != (len(gallery),):
            raise ShapeError(f"`ids` must have shape ({len(gallery)},); got {names.shape}")
        for part in block_slices(*gallery.shape):
            kind = modality if modality is None or isinstance(modality, str) else modality[part]
            rows = self._mapped(gallery[part], kind)
            if names is None:
                self.index.add(rows)
            else:
                self.index.add_with_ids(rows, names[part])
        self._served = None
        return self

    @property
    def served(self) -> Any:
        """The index with the queries' chain before it, plain faiss: search it, never add to it.

        Rows added to it would go through the map of the queries.
        """
        if self._served is None:
            self._served = _behind(self._chain, self.index)
        return self._served

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and rows (m, k) of queries (m, d) as they are, as `faiss.Index.search` does.

        Raises
        ------
        DataError, ShapeError
            The queries are no finite (m, d) array of the width that was fitted.
        """
        scores, rows = self.served.search(
            _float32(queries, "queries", self.closure.queries.width), k
        )
        return scores, rows

    def write(self, path: str | Path) -> tuple[Path, ...]:
        """Write the index for plain faiss, and the gallery's maps beside it; return the paths.

        "photos.faiss" takes raw queries. "photos.gallery.faiss" (one for each modality) holds the map of
        the gallery before an empty index, for rows to be added elsewhere without modgap: apply its
        chain, and add to the index behind that of "photos.faiss".

        Raises
        ------
        FormatError
            The folder is missing or cannot be written, or the disk is full.
        """
        faiss: Any = require("faiss", "faiss")
        target = Path(path)
        with atomic_path(target) as temporary:
            try:
                faiss.write_index(self.served, str(temporary))
            except RuntimeError as error:  # its only word for a full disk
                raise FormatError(f"cannot write `{shown(target)}`: {one_line(error)}") from None
        written = [target]
        for side in sides_of(self.closure, "gallery"):
            place = target.with_name(f"{target.stem}.{side.name}{target.suffix}")
            with atomic_path(place) as temporary:
                to_faiss.write(temporary, [side], self.closure, target.stem)
            written.append(place)
        return tuple(written)

    def _mapped(self, gallery: Any, modality: str | Sequence[str] | None) -> np.ndarray:
        named = () if modality is None else (modality,)
        rows = to_numpy(self.closure.apply_gallery(gallery, *named))
        if self.closure.comparison.needs_directions:  # as the chain of the queries ends
            rows = normalize_rows(rows)
        return np.ascontiguousarray(rows, np.float32)


def over_existing(closure: Closure, index: Any) -> Any:
    """Return an index that stands with a closure's query side before it, as plain faiss.

    Its rows stay as they are, which is enough where a closer moves the queries and at most shifts the
    gallery (`affine`, `orthogonal`, `scaled`). It shares the rows with `index`; search it, never
    add to it.

    Parameters
    ----------
    closure : Closure
    index : faiss.Index
        Of the gallery before closing; by cosine of rows of unit length.

    Raises
    ------
    ClosureError
        The gallery has to be mapped and written anew, or nothing is to be gained; or the index compares
        in another way than mapped rows are to be.
    MissingExtraError
        FAISS is not installed.
    ShapeError
        The index is of another width.
    """
    mapped = map_for_existing(closure)
    _check(index, closure, mapped.output_width)
    return _behind(to_faiss.chain_of(Form.of(mapped), closure.comparison), index)


def _check(index: Any, closure: Closure, width: int) -> None:
    faiss: Any = require("faiss", "faiss")
    if not isinstance(index, faiss.Index):
        raise ArgumentError(f"`index` must be a faiss.Index; got a {type(index).__name__}")
    if index.d != width:
        raise ShapeError(f"`index` must take rows of dimension {width}; its own is {index.d}")
    if index.metric_type != to_faiss.metric_of(closure.comparison):
        wanted = "METRIC_L2" if closure.comparison.is_distance else "METRIC_INNER_PRODUCT"
        raise ClosureError(
            f"rows mapped by this closure are compared by {closure.comparison.words}, and `index` compares "
            f"otherwise; make it with faiss.{wanted}"
        )


def _behind(chain: Sequence[Any], index: Any) -> Any:
    """Return an index with transforms before it, in one chain with those that it has itself."""
    faiss: Any = require("faiss", "faiss")
    index = faiss.downcast_index(index)
    own = []
    base = index
    if isinstance(index, faiss.IndexPreTransform):
        own = [faiss.downcast_VectorTransform(each) for each in _transforms(index)]
        base = faiss.downcast_index(index.index)
    served = faiss.IndexPreTransform(base)
    for transform in reversed([*chain, *own]):
        served.prepend_transform(transform)
    # Its rows are shared, and would go with the index that holds them.
    served.referenced_objects = [*getattr(served, "referenced_objects", ()), index]
    return served


def _transforms(index: Any) -> Iterator[Any]:
    for i in range(index.chain.size()):
        yield index.chain.at(i)


def _float32(rows: Any, name: str, width: int) -> np.ndarray:
    found = np.ascontiguousarray(to_numpy(check_cloud(rows, name)), np.float32)
    if found.shape[1] != width:
        raise ShapeError(f"`{name}` must have dimension {width}; got {found.shape}")
    return found
