"""Half floats as float32, bit for bit what NumPy makes of them."""

import numpy as np
import pytest

from modgap._core import halves
from modgap._core.arrays import working_float


def bits(x):
    return x.view(np.uint32)


def test_halves_are_widened_as_numpy_widens_them(monkeypatch):
    monkeypatch.setattr(halves, "_PIECE", 1000)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(-1, 4)
    shapes = (
        finite,
        finite[::3, 1:3],
        finite.T,
        finite.reshape(4, -1, 2),
        finite[0, 0],
        finite[:0],
    )
    for rows in (*shapes, finite.astype(">f2").astype(np.float16)):
        found = working_float(np.asarray(rows))
        assert found.dtype == np.float32
        assert found.shape == rows.shape
        np.testing.assert_array_equal(bits(found), bits(rows.astype(np.float32)))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_what_it_is(odd):
    rows = np.array([[1, odd]], dtype=np.float16)
    np.testing.assert_array_equal(working_float(rows), rows.astype(np.float32))
    found = np.empty(rows.shape, np.float32)
    assert np.abs(halves.move_bits(rows, found)[0, 1]) >= halves.BEYOND_HALVES
