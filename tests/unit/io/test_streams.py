"""Rows of shards as streams: half floats widened, parts counted, reading ahead of what is looked at."""

import numpy as np
import pytest

from modgap.errors import DataError, FormatError
from modgap.io import open_source, streams


def parts_of(shards, first, *, zero_rows, prepare=lambda rows, squares: rows):
    return streams.checked_parts(shards, first, "in", "queries", prepare, zero_rows=zero_rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parts_are_the_blocks_in_pieces_and_count_rows_from_the_start(
    tmp_path, monkeypatch, rng, dtype
):
    monkeypatch.setattr(streams, "_READ_ROWS", 30)
    monkeypatch.setattr(streams, "cache_elements", lambda x: 7 * x.shape[1])
    rows = rng.normal(size=(130, 5)).astype(dtype)
    for i, part in enumerate(np.split(rows, [50, 90])):
        np.save(tmp_path / f"img_emb_{i}.npy", part)
    shards = open_source(tmp_path).shards
    parts = list(parts_of(shards, 1000, zero_rows=True))
    assert {len(part) for part in parts[:4]} == {7}
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    blocks = list(streams.checked_blocks(shards, 1000, "in", "queries", zero_rows=True))
    assert [len(block) for block in blocks] == [50, 40, 40]
    assert {part.dtype for part in [*parts, *blocks]} == {
        np.dtype(np.result_type(dtype, np.float32))
    }
    rows[101, 2] = np.nan
    np.save(tmp_path / "img_emb_2.npy", rows[90:])
    with pytest.raises(DataError, match=r"`queries` \(in\) row 1101 holds NaN"):
        list(parts_of(shards, 1000, zero_rows=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_has_no_direction_is_found_at_second_sight(tmp_path, dtype):
    """The first look is at the lengths of the rows: zeros are fine where others follow."""
    rows = np.ones((9, 3), dtype)
    rows[2, 0] = 0
    rows[4] = 0
    np.save(tmp_path / "a.npy", rows)
    shards = open_source(tmp_path / "a.npy").shards
    (part,) = parts_of(shards, 0, zero_rows=True)
    np.testing.assert_array_equal(part, rows)
    with pytest.raises(DataError, match=r"`queries` \(in\) row 4 is all zeros"):
        list(parts_of(shards, 0, zero_rows=False))
    rows[4, 1] = 1
    np.save(tmp_path / "a.npy", rows)
    (part,) = parts_of(shards, 0, zero_rows=False)
    np.testing.assert_array_equal(part, rows)
    rows[4, 1] = np.inf
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(DataError, match=r"`queries` \(in\) row 4 holds NaN or infinity"):
        list(parts_of(shards, 0, zero_rows=True))


@pytest.mark.parametrize(
    ("dtype", "size", "known"),
    [
        (np.float16, 300.0, True),
        (np.float16, 60_000.0, False),  # as long as infinity would be: looked at again
        (np.float32, 1e14, True),
        (np.float32, 1e-14, True),
        (np.float32, 9e-19, False),
        (np.float32, 1e15, False),
        (np.float64, 1e60, True),
    ],
)
def test_lengths_come_along_where_their_squares_are_in_range(tmp_path, dtype, size, known):
    rows = np.full((4, 3), size, dtype)
    rows[1, 1] = -0.5 * size
    np.save(tmp_path / "a.npy", rows)
    shards = open_source(tmp_path / "a.npy").shards
    seen = []
    (part,) = parts_of(
        shards, 0, zero_rows=False, prepare=lambda rows, squares: seen.append(squares) or 2 * rows
    )
    np.testing.assert_array_equal(part, 2 * rows.astype(part.dtype))
    if known:
        wide = rows.astype(np.float64)
        np.testing.assert_allclose(seen[0], np.sum(wide * wide, axis=1), rtol=1e-6)
    else:
        assert seen == [None]


def test_what_breaks_while_reading_ahead_is_told_where_it_is_waited_for(tmp_path):
    np.save(tmp_path / "img_emb_0.npy", np.ones((10, 3), np.float32))
    np.save(tmp_path / "img_emb_1.npy", np.ones((10, 3), np.float32))
    shards = open_source(tmp_path).shards
    (tmp_path / "img_emb_1.npy").write_bytes((tmp_path / "img_emb_1.npy").read_bytes()[:-8])
    parts = parts_of(shards, 0, zero_rows=True)
    assert len(next(parts)) == 10
    with pytest.raises(FormatError, match=r"`.*img_emb_1.npy` is cut short"):
        next(parts)
