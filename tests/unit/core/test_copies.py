"""Equal rows, against a dictionary of their values."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core import copies


def by_dictionary(x):
    seen = {}
    return [seen.setdefault(tuple((row + 0).tolist()), i) for i, row in enumerate(x)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_first_copies_are_those_of_a_dictionary(dtype, rng):
    x = rng.integers(-2, 3, size=(400, 3)).astype(dtype) / 2
    x[x == 0] *= -1  # zeros of both signs
    expected = by_dictionary(x)
    assert 100 < len(set(expected)) < 130
    assert copies.first_copies(x).tolist() == expected


def test_every_library_finds_the_same(rng, to_xp):
    x = rng.normal(size=(20, 4))
    x[[7, 15]] = x[3]
    found = copies.first_copies(to_xp(x))
    assert found.tolist() == [*range(7), 3, *range(8, 15), 3, *range(16, 20)]


def test_one_bit_makes_another_row(rng):
    x = np.repeat(rng.normal(size=(1, 64)), 3, axis=0)
    x[1, 5] = np.nextafter(x[1, 5], 9)
    assert copies.first_copies(x).tolist() == [0, 1, 0]


def test_equal_hashes_are_compared_before_they_count(rng):
    x = rng.normal(size=(5, 3))
    x[4] = x[1]
    same = np.zeros(5, dtype=np.uint64)  # as if all hashes collided
    found = copies.first_copies(x, same)
    assert found[:4].tolist() == [0, 1, 2, 3]
    assert found[4] in (1, 4)  # a collision in between may hide a copy, and never invents one
    assert copies.in_both(x[:2], x[2:3], (same[:2], same[:1])).tolist() == [False, False]


def test_rows_of_both_clouds(rng):
    a, b = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    b[8], b[2] = a[0], a[5]
    keys = copies.row_keys(a), copies.row_keys(b)
    assert copies.in_both(a, b, keys).tolist() == [True, False, False, False, False, True]


def test_blocks_of_rows_do_not_matter(rng, monkeypatch):
    x = rng.integers(0, 2, size=(50, 4)).astype(float)
    expected = copies.first_copies(x)
    slices = copies.block_slices
    monkeypatch.setattr(copies, "block_slices", lambda rows, d: slices(rows, d, elements=12))
    np.testing.assert_array_equal(copies.first_copies(x), expected)
