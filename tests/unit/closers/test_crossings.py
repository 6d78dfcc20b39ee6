"""Fit in one array library, apply in another."""

from __future__ import annotations

import numpy as np
import pytest

from modgap import closers
from modgap._core.arrays import namespace, to_numpy


@pytest.mark.filterwarnings("ignore::modgap.errors.ClosureWarning")
@pytest.mark.parametrize("method", closers.METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_closure_serves_every_library(method, dtype, libraries, rng):
    # Few rows, so that maps have two factors; but fewer pairs than dimensions fix no rotation.
    size = (40 if method == "procrustes" else 4, 16)
    queries, gallery = rng.normal(size=size) + 1, rng.normal(size=size)
    rows = (rng.normal(size=(7, 16)) + 1).astype(dtype)
    home = closers.fit(method, queries, gallery)
    expected = home.apply_queries(rows), home.apply_gallery(rows)
    # Applying rounds a few sums of sixteen terms; the fits differ by float64 rounding times the condition
    # of their statistics, some hundreds here.
    largest = max(1.0, *(float(np.abs(side).max()) for side in expected))
    tolerance = largest * (32 * np.finfo(dtype).eps + 1e4 * np.finfo(np.float64).eps)
    for fitted_in in libraries:
        closure = closers.fit(method, fitted_in.asarray(queries), fitted_in.asarray(gallery))
        for applied_in in libraries:
            there = applied_in.asarray(rows)
            for found, host in zip(
                (closure.apply_queries(there), closure.apply_gallery(there)), expected, strict=True
            ):
                assert namespace(found) is namespace(there)
                assert found.dtype == there.dtype
                np.testing.assert_allclose(to_numpy(found), host, rtol=0, atol=tolerance)
