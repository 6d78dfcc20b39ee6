"""Rows that stay where they are, and blocks that shrink where memory ends."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import modgap
from modgap import closers
from modgap._core import arrays
from modgap._core.memory import block_elements, halving, is_out_of_memory
from modgap.errors import DataError, RoomError

M, N, D = 3000, 2000, 16


def rows(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, D)) + np.eye(D)[seed]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def travelled(monkeypatch):
    """Count the values that leave the pretended device, but for what every GPU library does on it."""
    count = [0]
    move = arrays.to_device

    def counted(x, where):
        names = set()
        frame = sys._getframe(1)
        for _ in range(3):
            frame = frame.f_back
            names.add(frame.f_code.co_name)
        if not names & {"bincount", "bytes_as_integers"}:
            count[0] += int(np.prod(x.shape))
        return move(x, where)

    monkeypatch.setattr(arrays, "to_device", counted)
    return count


def fitted(queries, gallery):
    return closers.fit("affine", queries, gallery)


WORK = {
    "moments": lambda y, x: modgap.Moments.from_rows(x),
    "nearest": lambda y, x: modgap.nearest(y, x, k=3),
    "certified radius": lambda y, x: modgap.certified_radius(y[:1500, :], x[:500, :]),
    "stability": lambda y, x: modgap.stability(
        y[:1500, :], x[:500, :], modgap.Gaussian(0.02), metric="ip"
    ),
    "measure": lambda y, x: modgap.measure(y, x).centroid_gap,
    "apply": lambda y, x: fitted(y[:500, :], x[:500, :]).apply_gallery(x),
    "drift": lambda y, x: modgap.drift(fitted(y[:500, :], x[:500, :]), y[:100, :], x),
    **{f"fit {name}": lambda y, x, name=name: closers.fit(name, y[:N, :], x) for name in closers.METHODS},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::modgap.errors.ClosureWarning")
@pytest.mark.parametrize("name", WORK)
def test_rows_stay_on_their_device(name, travelled, to_other_device):
    queries, gallery = to_other_device(rows(M, 0)), to_other_device(rows(N, 1))
    WORK[name](queries, gallery)
    # A few numbers a row may be looked at, and matrices of the dimension; the rows are
    # 48,000 and 32,000, and never fewer than 32,000 together.
    assert travelled[0] <= 3 * M + 24 * D * D


def test_a_map_moves_its_constants_once(monkeypatch, to_other_device):
    closure = closers.fit("balanced", rows(M, 0), rows(N, 1))
    moved = []
    from modgap.closers import maps

    keep = maps.constant_like
    monkeypatch.setattr(
        maps, "constant_like", lambda v, like: moved.append(v.shape) or keep(v, like)
    )
    gallery = to_other_device(rows(N, 1))
    first = closure.apply_gallery(gallery)
    assert moved
    moved.clear()
    again = closure.apply_gallery(gallery)
    assert not moved
    np.testing.assert_array_equal(arrays.to_numpy(first), arrays.to_numpy(again))


class TestFullMemory:
    """What happens where a block has no room."""

    def test_blocks_shrink_until_they_fit(self, monkeypatch):
        from modgap.decisions import neighbors

        queries, gallery = rows(M, 0), rows(N, 1)
        expected = modgap.nearest(queries, gallery, k=3)
        real, refused, largest = neighbors.top_k, [], 200_000

        def small(scores, k, **options):
            if scores.size > largest:
                refused.append(scores.size)
                raise MemoryError("unable to allocate")
            return real(scores, k, **options)

        monkeypatch.setattr(neighbors, "top_k", small)
        found = modgap.nearest(queries, gallery, k=3)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-12)
        assert sorted(refused, reverse=True) == refused
        assert len(set(refused)) > 2
        assert block_elements(100) == 100  # other work is not held back

    def test_one_line_says_that_nothing_fits(self, monkeypatch):
        from modgap.decisions import neighbors

        def full(*args, **options):
            raise MemoryError("unable to allocate 3 GiB")

        monkeypatch.setattr(neighbors, "top_k", full)
        with pytest.raises(RoomError, match=r"memory is full.*unable to allocate 3 GiB") as caught:
            modgap.nearest(rows(30, 0), rows(20, 1))
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, MemoryError)

    def test_the_smaller_size_stays_for_what_follows(self):
        seen = []

        @halving
        def inner():
            seen.append(block_elements(64))
            if seen[-1] > 16:
                raise MemoryError

        @halving
        def outer():
            inner()
            inner()

        outer()
        assert seen == [64, 32, 16, 16]

    def test_other_errors_pass(self):
        calls = []

        @halving
        def wrong():
            calls.append(1)
            raise DataError("no")

        with pytest.raises(DataError):
            wrong()
        assert len(calls) == 1

    def test_errors_of_every_library_are_known(self):
        class OutOfMemoryError(RuntimeError):
            """As those of PyTorch and CuPy are called."""

        known = [
            OutOfMemoryError("CUDA out of memory"),
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        ]
        assert all(is_out_of_memory(error) for error in known)
        assert not is_out_of_memory(RoomError("full"))
        assert not is_out_of_memory(RuntimeError("shapes differ"))
