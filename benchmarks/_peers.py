"""Other ways to compress an index, each as its source describes it: rotations, projections, quantizers."""

from __future__ import annotations

import faiss
import numpy as np
from _harness import SEED

#: Rounds of OPQ's rotation, as many as FAISS takes unasked; it learns from all rows.
OPQ_ROUNDS = 50


def principal(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the k strongest axes (d, k) of the rows' second moments."""
    _, axes = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    return axes[:, ::-1][:, :k]


def itq(rows: np.ndarray, steps: int = 30) -> np.ndarray:
    """Return the rotation (d, d) of iterative quantization, Gong and Lazebnik (2011), of centred rows.

    Principal axes first, then in turns: the signs of the turned rows, and the turn that brings the rows
    nearest to them (Procrustes).
    """
    axes = principal(rows, rows.shape[1]).astype(np.float32)
    rows = rows @ axes
    d = rows.shape[1]
    turn = np.linalg.qr(np.random.default_rng(SEED).normal(size=(d, d)))[0].astype(np.float32)
    for _ in range(steps):
        signs = np.where(rows @ turn > 0, np.float32(1), np.float32(-1))
        left, _, right = np.linalg.svd(rows.T @ signs)
        turn = left @ right
    return np.asarray(axes @ turn)


def leanvec_ood(
    items: np.ndarray, queries: np.ndarray, k: int, *, steps: int = 500, tolerance: float = 0.0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return LeanVec-OOD's matrices for items and queries, both (d, k), and the steps taken.

    Tepper, Bhati, Aguerrebere, Hildebrand, Willke (2023), algorithm 1: the mean square error of all
    scores, Frank-Wolfe over the convex hull of orthonormal frames, one matrix after the other, step
    1 / (t + 1)^.999. A tolerance ends it once the loss falls by less, relatively.
    """
    x, q = (side.T.astype(np.float64) @ side for side in (items, queries))
    qx, xq, total = q @ x, x @ q, float(np.sum(q * x))
    a, b = np.zeros((len(q), k)), np.zeros((len(x), k))
    last = np.inf
    for t in range(steps):
        step = (t + 1) ** -0.999
        xb = x @ b
        a += step * (_vertex(q @ (a @ (b.T @ xb)) - qx @ b) - a)
        qa = q @ a
        b += step * (_vertex(x @ (b @ (a.T @ qa)) - xq @ a) - b)
        if tolerance:
            loss = float(np.sum((a.T @ qa) * (b.T @ x @ b)) - 2 * np.sum(qa * (x @ b)) + total)
            if t > 1 and abs(loss - last) < tolerance * last:
                break
            last = loss
    return b, a, t + 1


def _vertex(gradient: np.ndarray) -> np.ndarray:
    """Return the orthonormal frame that a gradient points away from most."""
    left, _, right = np.linalg.svd(-gradient, full_matrices=False)
    return np.asarray(left @ right)


def quantizer(name: str, d: int) -> faiss.Index:
    """Return an untrained index of FAISS by inner product; queries stay floats in all of them."""
    metric = faiss.METRIC_INNER_PRODUCT
    if name.startswith("SQ"):
        return faiss.IndexScalarQuantizer(
            d, getattr(faiss.ScalarQuantizer, f"QT_{name[2:]}bit"), metric
        )
    if name.startswith("RaBitQ"):
        index = faiss.IndexRaBitQ(d, metric)
        index.qb = 8
        return _turned(index, d) if name.endswith("rotated") else index
    pieces = int(name.removeprefix("O").removeprefix("PQ"))
    index = faiss.IndexPQ(d, pieces, 8, metric)
    if not name.startswith("O"):
        return index
    matrix = faiss.OPQMatrix(d, pieces)
    matrix.niter = OPQ_ROUNDS
    return faiss.IndexPreTransform(matrix, index)


def _turned(index: faiss.Index, d: int) -> faiss.Index:
    turn = faiss.RandomRotationMatrix(d, d)
    turn.init(SEED + 1)
    return faiss.IndexPreTransform(turn, index)
