"""The one form in which maps leave modgap: a sum of products that any runtime can compute in float32."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.checks import check_choice
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure
from modgap.errors import ArgumentError, ClosureError

__all__ = ["FORMULA", "PARTS", "SIDES", "Form", "Side", "describe", "sides_of"]

SIDES = ("queries", "gallery", "both")
#: The arrays of a form, in the order in which they act.
PARTS = ("center", "matrix", "left", "right", "diagonal", "offset")
FORMULA = (
    "z = rows / |rows| if normalize_input else rows; z = z - center; "
    "out = z @ matrix + z @ left @ right + z * diagonal + offset, of these the terms that are there; "
    "out / |out| if normalize_output"
)


@dataclass(frozen=True, eq=False)
class Form:
    """A map as float32 arrays: ``z @ matrix + z @ left @ right + z * diagonal + offset``.

    z are the rows less `center`. Of the three terms one or two are there, never none.

    Attributes
    ----------
    center : ndarray (d,)
        Zeros unless the gallery lies far from the origin: taken off first, it keeps its digits.
    offset : ndarray (e,)
    matrix : ndarray (d, e), optional
    left, right : ndarray (d, r) and (r, e), optional
        In the place of a matrix where two products are cheaper than one.
    diagonal : ndarray (d,), optional
    normalize_input, normalize_output : bool
        Scale the rows to unit length before, after.
    """

    center: np.ndarray
    offset: np.ndarray
    matrix: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    diagonal: np.ndarray | None = None
    normalize_input: bool = False
    normalize_output: bool = False

    @classmethod
    def of(cls, fitted: AffineMap) -> Form:
        """Return the form of a map.

        Raises
        ------
        ClosureError
            A constant of the map is too large for float32.
        """
        parts = dict(fitted.constants)
        parts.setdefault("center", np.zeros(fitted.width))
        parts.setdefault("offset", np.zeros(fitted.output_width))
        if "matrix" not in parts and "left" not in parts:
            parts.setdefault("diagonal", np.ones(fitted.width))
        with np.errstate(over="ignore"):
            narrow = {name: np.ascontiguousarray(each, np.float32) for name, each in parts.items()}
        for name, each in narrow.items():
            if not np.isfinite(each).all():
                raise ClosureError(
                    f"`{name}` of this map holds {np.max(np.abs(parts[name])):.3g}, and exports are "
                    "float32, up to 3.4e38; scale the embeddings and fit again"
                )
        return cls(
            **narrow,
            normalize_input=fitted.normalize_input,
            normalize_output=fitted.normalize_output,
        )

    @property
    def width(self) -> int:
        """Embedding dimension that goes in, d."""
        return len(self.center)

    @property
    def output_width(self) -> int:
        """Embedding dimension that comes out, e."""
        return len(self.offset)

    @property
    def scale(self) -> np.ndarray | None:
        """The diagonal, or None where rows keep their size."""
        if self.diagonal is None or (self.matrix is None and bool(np.all(self.diagonal == 1))):
            return None if self.left is None else self.diagonal
        return self.diagonal

    @property
    def is_linear(self) -> bool:
        """Whether products or a scale stand between `center` and `offset`."""
        return self.matrix is not None or self.left is not None or self.scale is not None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that are there, by the names of `PARTS`."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: each for name, each in found.items() if each is not None}


@dataclass(frozen=True, eq=False)
class Side:
    """One map of a closure on its way out.

    Attributes
    ----------
    name : str
        "queries", "gallery", or "gallery_image" of a mixed collection: letters, digits and underscores,
        for files, tensors and functions.
    modality : str or None
        What the closure calls the modality.
    form : Form
    """

    name: str
    modality: str | None
    form: Form


def sides_of(closure: Closure, side: str = "both", modality: str | None = None) -> list[Side]:
    """Return the maps that are asked for, in order: queries, then the gallery's.

    Raises
    ------
    ArgumentError
        There is no such side or modality.
    ClosureError
        A map does not fit into float32.
    """
    check_choice(side, "side", SIDES)
    galleries: dict[str | None, AffineMap] = {None: closure.gallery}
    if isinstance(closure, MixedClosure):
        galleries = dict(closure.galleries.items())
    if modality is not None:
        if side == "queries" or not isinstance(closure, MixedClosure):
            raise ArgumentError(
                "`modality` chooses among the gallery maps of a mixed collection; leave it out"
            )
        check_choice(modality, "modality", closure.modalities)
        galleries = {modality: galleries[modality]}
    found = []
    if side != "gallery":
        found.append(Side("queries", None, Form.of(closure.queries)))
    if side != "queries":
        words = _words(galleries)
        found += [Side(words[name], name, Form.of(each)) for name, each in galleries.items()]
    return found


def describe(closure: Closure) -> dict[str, Any]:
    """Return what every export says of itself: where it comes from and how mapped rows are compared."""
    import modgap

    return {
        "modgap": modgap.__version__,
        "method": closure.method,
        "metric": str(closure.metric),
        "comparison": str(closure.comparison),
        "exact": closure.exact,
        "formula": FORMULA,
    }


def _words(modalities: Iterable[str | None]) -> dict[str | None, str]:
    """Return a word for each modality's map that files, tensors and functions can be called."""
    found: dict[str | None, str] = {}
    for name in modalities:
        word = "gallery" if name is None else "gallery_" + re.sub(r"[^0-9A-Za-z]+", "_", name)
        if word in found.values():  # names of another script leave nothing but underscores
            word = f"{word}_{len(found)}"
        found[name] = word
    return found
