"""A closure as layers of PyTorch: constants as buffers, so that they move, save and compile with a model.

    from modgap.nn import MapModule

    encoder = torch.nn.Sequential(encoder, MapModule(closure.queries))

Needs the extra `torch`. A closure applies to tensors without this too; then its constants come from
the host with every batch.
"""

from __future__ import annotations

from typing import Any

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_choice
from modgap._core.extras import require
from modgap.closers import AffineMap, Closure, MixedClosure
from modgap.closers.maps import apply_constants
from modgap.errors import ClosureError

torch: Any = require("torch", "torch")

__all__ = ["ClosureModule", "MapModule", "MixedClosureModule"]


class MapModule(torch.nn.Module):  # type: ignore[misc]
    """One side of a closure as a layer: rows (..., d) to rows (..., e).

    It has buffers and no parameters: gradients pass through it, and an optimiser leaves it alone.
    It computes, and answers, in the wider dtype of the rows' and its buffers': half floats come back
    as float32, as from the map itself, unless the module is made half too.

    Parameters
    ----------
    fitted : AffineMap
        `closure.queries`, or `closure.gallery`.
    dtype : torch.dtype, optional
        Of the buffers, float32 by default; half ones keep three digits of the map, whatever the rows are.

    Examples
    --------
    >>> import numpy as np, torch
    >>> layer = MapModule(AffineMap(width=2, shift=np.array([1.0, 0.0])))
    >>> layer(torch.zeros(1, 2))
    tensor([[1., 0.]])
    """

    def __init__(self, fitted: AffineMap, *, dtype: Any = None) -> None:
        super().__init__()
        self.in_features = fitted.width
        self.out_features = fitted.output_width
        self.normalize_input = fitted.normalize_input
        self.normalize_output = fitted.normalize_output
        constants = fitted.constants or {"offset": fitted.offset}
        self._names = tuple(constants)
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values.copy()).to(dtype or torch.float32))

    def forward(self, rows: Float[Array, "... d"]) -> Float[Array, "... e"]:
        """Return the mapped rows, on the device of `rows`."""
        dtype = torch.promote_types(rows.dtype, self.offset.dtype)
        out = rows.to(dtype)
        if self.normalize_input:
            out = _unit_rows(out)
        out = apply_constants(out, {name: getattr(self, name).to(dtype) for name in self._names})
        if self.normalize_output:
            out = _unit_rows(out)
        return out

    def extra_repr(self) -> str:
        """Return what stands between the brackets of the module's line."""
        ends = {"normalize_input": self.normalize_input, "normalize_output": self.normalize_output}
        words = [f"{name}=True" for name, there in ends.items() if there]
        return ", ".join([f"{self.in_features}, {self.out_features}", *words])


class ClosureModule(torch.nn.Module):  # type: ignore[misc]
    """Both sides of a closure as layers, `queries` and `gallery`; called, it maps queries.

    Parameters
    ----------
    closure : Closure
        With one map for the gallery; `MixedClosureModule` holds several.
    dtype : torch.dtype, optional
        As `MapModule` takes it.

    Examples
    --------
    >>> import torch
    >>> from modgap import fit
    >>> clouds = torch.eye(4), torch.eye(4)[:2]
    >>> closed = ClosureModule(fit("affine", *clouds))
    >>> closed(clouds[0]).shape, closed.gallery(clouds[1]).shape
    (torch.Size([4, 4]), torch.Size([2, 4]))
    """

    def __init__(self, closure: Closure, *, dtype: Any = None) -> None:
        if isinstance(closure, MixedClosure):
            raise ClosureError(
                "a closure of a mixed collection has several gallery maps; use MixedClosureModule"
            )
        super().__init__()
        self.queries = MapModule(closure.queries, dtype=dtype)
        self.gallery = MapModule(closure.gallery, dtype=dtype)

    def forward(self, queries: Float[Array, "... d"]) -> Float[Array, "... e"]:
        """Return the queries after closing."""
        return self.queries(queries)


class MixedClosureModule(torch.nn.Module):  # type: ignore[misc]
    """A closure of a mixed collection as layers; called, it maps queries.

    Parameters
    ----------
    closure : MixedClosure
    dtype : torch.dtype, optional
        As `MapModule` takes it.

    Examples
    --------
    >>> import torch
    >>> from modgap.closers import calibrate
    >>> eye = torch.eye(4)
    >>> module = MixedClosureModule(calibrate(eye, {"image": eye[:2], "text": eye[1:]}))
    >>> module(eye).shape, module.gallery(eye[1:], "text").shape
    (torch.Size([4, 4]), torch.Size([3, 4]))
    """

    def __init__(self, closure: MixedClosure, *, dtype: Any = None) -> None:
        super().__init__()
        self.modalities = closure.modalities
        self.queries = MapModule(closure.queries, dtype=dtype)
        self.galleries = torch.nn.ModuleList(
            MapModule(each, dtype=dtype) for each in closure.galleries.values()
        )

    def forward(self, queries: Float[Array, "... d"]) -> Float[Array, "... e"]:
        """Return the queries after closing."""
        return self.queries(queries)

    def gallery(self, rows: Float[Array, "... d"], modality: str) -> Float[Array, "... e"]:
        """Return items of one modality after closing.

        Raises
        ------
        ArgumentError
            The closure was fitted to no such modality.
        """
        check_choice(modality, "modality", self.modalities)
        return self.galleries[self.modalities.index(modality)](rows)


def _unit_rows(rows: Array) -> Array:
    """Return unit rows, zero ones as they are; without a namespace, whose look-up compilers trace."""
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(lengths > 0, lengths, 1.0)
