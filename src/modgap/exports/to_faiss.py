"""FAISS: a map as a chain of vector transforms before an empty index, read by plain faiss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.closers.closure import Closure
from modgap.decisions.metric import Metric
from modgap.exports.form import Form, Side

__all__ = ["chain_of", "metric_of", "write"]


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write an IndexPreTransform of one side over an empty flat index."""
    faiss: Any = require("faiss", "faiss")
    (side,) = sides
    inner = faiss.IndexFlat(side.form.output_width, metric_of(closure.comparison))
    index = faiss.IndexPreTransform(inner)
    for transform in reversed(chain_of(side.form, closure.comparison)):
        index.prepend_transform(transform)
    path.write_bytes(faiss.serialize_index(index).tobytes())


def metric_of(comparison: Metric) -> int:
    """Return the metric in which FAISS compares mapped rows; cosine is the product of unit rows."""
    faiss: Any = require("faiss", "faiss")
    return int(faiss.METRIC_L2 if comparison.is_distance else faiss.METRIC_INNER_PRODUCT)


def chain_of(form: Form, comparison: Metric) -> list[Any]:
    """Return the transforms that map rows, first to last.

    FAISS has no cosine, so that what is compared by it is scaled to unit length at the end. It has no
    scale by coordinate either: such a map is a product with a diagonal matrix.
    """
    faiss: Any = require("faiss", "faiss")
    chain: list[Any] = []
    if form.normalize_input:
        chain.append(faiss.NormalizationTransform(form.width, 2.0))
    if not form.is_linear:  # a shift alone
        chain += _centering(faiss, form.center - form.offset)
    else:
        chain += _centering(faiss, form.center)
        products = _products(form)
        for matrix in products[:-1]:
            chain.append(_linear(faiss, matrix, np.zeros(0, np.float32)))
        chain.append(_linear(faiss, products[-1], form.offset))
    moved = len(chain) > int(form.normalize_input)
    if form.normalize_output or (
        comparison.needs_directions and (moved or not form.normalize_input)
    ):
        chain.append(faiss.NormalizationTransform(form.output_width, 2.0))
    return chain


def _products(form: Form) -> list[np.ndarray]:
    """Return matrices whose product is the linear part: two where that is what the form has."""
    if form.left is not None and form.right is not None:
        if form.scale is None:
            return [form.left, form.right]
        whole = form.left.astype(np.float64) @ form.right
        return [(whole + np.diag(form.scale)).astype(np.float32)]
    if form.matrix is not None:
        return [form.matrix]
    assert form.scale is not None  # `is_linear`
    return [np.diag(form.scale)]


def _centering(faiss: Any, mean: np.ndarray) -> list[Any]:
    if not mean.any():
        return []
    transform = faiss.CenteringTransform(len(mean))
    faiss.copy_array_to_vector(np.ascontiguousarray(mean), transform.mean)
    transform.is_trained = True
    return [transform]


def _linear(faiss: Any, matrix: np.ndarray, offset: np.ndarray) -> Any:
    """Return rows times matrix, plus an offset where there is one."""
    transform = faiss.LinearTransform(*matrix.shape, bool(offset.any()))
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix.T).ravel(), transform.A)
    if offset.any():
        faiss.copy_array_to_vector(offset, transform.b)
    transform.is_trained = True
    return transform
