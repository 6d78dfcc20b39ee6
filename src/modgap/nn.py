"""PyTorch: a closure as layers, whose constants are buffers; and the gap in bits as a loss.

    from modgap.nn import MapModule

    encoder = torch.nn.Sequential(encoder, MapModule(closure.queries))
    loss = loss + weight * (bits_lost(texts, images) + bits_lost(images, texts)) / 2

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

__all__ = ["ClosureModule", "MapModule", "MixedClosureModule", "bits_lost"]


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


def bits_lost(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, means: bool = True
) -> Float[Array, ""]:
    """Return the bits a coordinate that the gap costs a code of the gallery, as a loss to train with.

    The number is `gap_in_bits(queries, gallery, metric="ip").cost` of the same rows. It sees these rows
    alone, so on a batch it comes out higher than on all rows, the more so the smaller the batch is.

    Parameters
    ----------
    queries : tensor (m, d)
        The batch's rows of one side; of unit length where the model is compared by cosine.
    gallery : tensor (n, d)
        Its rows of the other side, n >= 2.
    means : bool
        Whether the gallery's mean counts: without, the cost is that of the shapes, which is 0 where the
        queries' second moments are a multiple of the gallery's covariance.

    Returns
    -------
    tensor ()
        Bits, >= 0; infinite where no query tells two items apart. It has first derivatives only.

    Notes
    -----
    With X the gallery (n, d), X_c its rows about their mean, Y the queries (m, d), C = X_c^T X_c / n and
    S = Y^T Y / m, the root fidelity F(C, S) = tr (C^1/2 S C^1/2)^1/2 is the nuclear norm of C^1/2 S^1/2,
    whose singular values are those of X_c Y^T over sqrt(m n). Both counts cancel in

        b = 1/2 log2(E|x|^2 E|y|^2 / F^2) = log2(|X| |Y| / |X_c Y^T|_*)

    with Frobenius norms above and the nuclear norm below; without the means |X_c| takes the place of
    |X|, and b >= 0 by Cauchy-Schwarz. The nuclear norm is the largest <U V^T, X_c Y^T> over matrices with
    orthonormal columns, and at the largest its derivative is that of this product with U and V held
    fixed: so gradients need no derivative of a decomposition, and stay finite where singular values
    vanish or agree. Cost: (m + n) d^2, and d^3. Derived in docs/theory_balanced.md.

    Examples
    --------
    >>> import torch
    >>> rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> print(f"{bits_lost(rows * torch.tensor([4.0, 1.0]), rows):.3f}")
    0.222
    """
    gallery, queries = (
        rows.to(torch.promote_types(rows.dtype, torch.float32)) for rows in (gallery, queries)
    )
    centred = gallery - gallery.mean(0)
    with torch.no_grad():
        ours, theirs = torch.linalg.qr(centred), torch.linalg.qr(queries)
        u, values, vh = torch.linalg.svd(ours.R @ theirs.R.T, full_matrices=False)
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[0]
        u, v = ours.Q @ (u * kept), theirs.Q @ vh.T
    nuclear = ((u.T @ centred) * (v.T @ queries)).sum()
    stored = gallery if means else centred
    return torch.log2(stored.norm() * queries.norm() / nuclear)


def _unit_rows(rows: Array) -> Array:
    """Return unit rows, zero ones as they are; without a namespace, whose look-up compilers trace."""
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(lengths > 0, lengths, 1.0)
