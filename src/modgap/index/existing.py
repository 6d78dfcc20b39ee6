"""What a closure can do for an index that stands: the query side alone, where that is enough."""

from __future__ import annotations

import numpy as np

from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure
from modgap.errors import ClosureError

__all__ = ["map_for_existing"]


def map_for_existing(closure: Closure) -> AffineMap:
    """Return the map of queries for an index of the gallery as it was before closing.

    A gallery that is only shifted by s need not be written anew: by inner product the shift is one
    constant per query, and by distance the queries take it the other way, |y - (x + s)| = |(y - s) - x|.
    Rankings are those of the closure, and so is what noise on the stored rows does to them; what a
    code's range gains from shifted rows is not. By cosine the index must hold rows of unit length.

    Raises
    ------
    ClosureError
        The closure changes more of the gallery than its place, or nothing of the queries.

    Examples
    --------
    >>> from modgap import closers
    >>> closure = closers.fit("affine", np.eye(4), np.eye(4)[:2])
    >>> map_for_existing(closure)(np.eye(4)[2:]).tolist()  # no item lies in these directions
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    gallery, queries, comparison = closure.gallery, closure.queries, closure.comparison
    shift = np.zeros(gallery.width) if isinstance(closure, MixedClosure) else gallery.offset
    reencodes = (
        isinstance(closure, MixedClosure)
        or gallery.left is not None
        or gallery.scale is not None
        or gallery.normalize_output
        or (shift.any() and (comparison.needs_directions or queries.normalize_output))
    )
    if reencodes:
        raise ClosureError(
            f"`{closure.method}` changes the stored rows by more than a shift, so an index of the rows as "
            "they are does not serve it: map the gallery (closure.apply_gallery, or modgap apply "
            "--gallery) and build the index anew"
        )
    if comparison.is_distance and shift.any():
        queries = queries.then(AffineMap(queries.output_width, shift=-shift))
    if not any(each.any() for each in queries.constants.values()):
        raise ClosureError(
            f"`{closure.method}` moves no query against the rows as they are, so an index that stands "
            "gains nothing from it: build it anew from the mapped gallery, or use affine"
        )
    return queries
