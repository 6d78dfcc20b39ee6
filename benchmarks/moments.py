"""Moments of a cloud: against the one matrix product in them, and against IncrementalPCA."""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import SEED, in_turns, ratio_row, row
from sklearn.decomposition import IncrementalPCA

from modgap._core.moments import Moments


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, d = (600, 8) if quick else (200_000, 512)
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((n, d), dtype=np.float32)
    x *= np.float32(0.03)
    x += rng.standard_normal(d, dtype=np.float32) * np.float32(0.04)

    product = in_turns(
        rounds or (1 if quick else 15),
        moments=lambda: Moments.from_rows(x),
        product=lambda: x.T @ x,
    )
    fitted = in_turns(
        min(rounds or 3, 3),  # the slow side takes many seconds a round
        warm_up=False,
        pca=lambda: IncrementalPCA().fit(x),
        moments=lambda: Moments.from_rows(x),
    )
    error = _covariance_error(x)
    rows = [
        ratio_row(
            f"moments of {n:,} x {d}: their time over that of the product a.T @ a",
            product["moments"], product["product"], "<= 1.5",
        ),
        ratio_row(
            f"moments of {n:,} x {d}: how much faster than scikit-learn's IncrementalPCA",
            fitted["pca"], fitted["moments"], ">= 20",
        ),
        row(
            f"moments of {n:,} x {d}: largest error of the covariance, over its largest entry",
            error, "<= 1e-6",
        ),
    ]  # fmt: skip
    return {
        "setting": {"rows": n, "d": d, "dtype": "float32"},
        "rows": rows,
        "details": {"seconds": {"product": product, "pca": fitted}},
    }


def _covariance_error(x: np.ndarray) -> float:
    exact = np.cov(x, rowvar=False, bias=True, dtype=np.float64)
    return float(np.abs(Moments.from_rows(x).covariance - exact).max() / np.abs(exact).max())
