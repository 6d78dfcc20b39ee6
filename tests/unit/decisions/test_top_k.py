"""The k largest of each row against a full sort, on every library."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core.arrays import to_numpy
from modgap.decisions.top_k import top_k


@pytest.mark.parametrize("k", [1, 3, 7])
def test_largest_first(k, to_xp, rng):
    values = rng.permuted(np.tile(np.arange(7.0), (5, 1)), axis=1)
    found, columns = top_k(to_xp(values), k)
    np.testing.assert_array_equal(to_numpy(columns), np.argsort(-values, axis=1)[:, :k])
    np.testing.assert_array_equal(to_numpy(found), -np.sort(-values, axis=1)[:, :k])


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("width", [64, 333, 1000])
def test_groups_of_columns_lose_nothing(k, width, rng):
    # Wide rows go through the maxima of groups of 32 columns, with a tail outside all groups.
    values = rng.normal(size=(20, width))
    found, columns = top_k(values, k)
    np.testing.assert_array_equal(columns, np.argsort(-values, axis=1)[:, :k])
    np.testing.assert_array_equal(found, np.take_along_axis(values, columns, axis=1))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_ties_fall_to_the_first_column_and_the_input_stays(k, rng):
    values = rng.integers(0, 4, size=(30, 200)).astype(np.float32)
    before = values.copy()
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top_k(values, k)[1], expected)
    np.testing.assert_array_equal(values, before)
    values.flags.writeable = False
    np.testing.assert_array_equal(top_k(values, k)[1], expected)


@pytest.mark.parametrize("width", [20, 64, 500])
def test_what_lies_above_a_bar_is_found_and_the_rest_never_beats_it(width, rng):
    values = rng.normal(size=(50, width)).astype(np.float32)
    above = rng.normal(size=50).astype(np.float32)
    above[:2] = values[:2].max(axis=1)  # nothing lies above these
    found, columns = top_k(values, 5, above=above)
    for row, bar, top, at in zip(values, above, found, columns, strict=True):
        expected = -np.sort(-row[row > bar])[:5]
        np.testing.assert_array_equal(top[: expected.size], expected)
        np.testing.assert_array_equal(row[at[: expected.size]], expected)
        assert np.all(top[expected.size :] <= bar)


def test_a_bar_that_is_no_number_hides_nothing():
    values = np.arange(100.0, dtype=np.float32)[None, :]
    _, columns = top_k(values, 3, above=np.array([np.nan], dtype=np.float32))
    assert columns.tolist() == [[99, 98, 97]]


def test_the_tail_beyond_the_groups_is_searched():
    values = np.zeros((1, 32 * 9 + 5))
    values[0, -1] = 1.0
    assert top_k(values, 2)[1][0, 0] == values.shape[1] - 1
