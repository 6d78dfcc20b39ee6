"""What a fit keeps of the shards it has read."""

import os

import numpy as np
import pytest
from engine_files import save_shards

from modgap.decisions.metric import as_metric
from modgap.engines import Checkpoint, Reading, checkpoint, fitting, moments_of, read_moments
from modgap.io import open_source, streams

READING = Reading("queries", as_metric("cosine"), "input", 2)


@pytest.fixture(autouse=True)
def single_shards(monkeypatch):
    """Every shard is a task, and every task is kept at once."""
    monkeypatch.setattr(streams, "_TASK_BYTES", 1)
    monkeypatch.setattr(checkpoint, "_SAVE_S", 0)
    monkeypatch.setattr(checkpoint, "_SAVE_SHARE", 0)


@pytest.fixture
def read(monkeypatch):
    """The first rows of the pieces that are really read; None in it stops the reading there."""
    seen, stop_at = [], []
    whole = fitting.ReadShards.__call__

    def counted(self, piece, tell):
        seen.append(piece.first)
        if piece.first in stop_at:
            raise KeyboardInterrupt
        return whole(self, piece, tell)

    monkeypatch.setattr(fitting.ReadShards, "__call__", counted)
    return seen, stop_at


def stopped(tmp_path, read, at):
    """Read until a row, where the run is interrupted; return the source."""
    save_shards(tmp_path / "in", 5, rows=100)
    source = open_source(tmp_path / "in")
    seen, stop_at = read
    stop_at.append(at)
    with pytest.raises(KeyboardInterrupt):
        moments_of(source, READING, checkpoint=Checkpoint.beside(tmp_path / "c.safetensors"))
    stop_at.clear()
    seen.clear()
    return source


def same(one, other):
    return all(np.array_equal(a.scatter, b.scatter) for a, b in zip(one, other, strict=True))


def test_a_fit_goes_on_behind_what_is_kept(tmp_path, read):
    source = stopped(tmp_path, read, 300)
    kept, told = Checkpoint.beside(tmp_path / "c.safetensors"), []
    found = moments_of(source, READING, checkpoint=kept, tell=told.append)
    assert read[0] == [300, 400]
    assert sum(told) == 500
    assert same(found, moments_of(source, READING))
    # Once more: all is there.
    read[0].clear()
    again = moments_of(source, READING, checkpoint=Checkpoint.beside(tmp_path / "c.safetensors"))
    assert read[0] == []
    assert same(found, again)
    kept.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("change", ["shard", "metric", "file", "later shard"])
def test_what_changed_is_read_anew(tmp_path, read, change):
    source = stopped(tmp_path, read, 300)
    reading = READING
    path = tmp_path / "in" / f"img_emb_{4 if change == 'later shard' else 1}.npy"
    if change == "metric":
        reading = Reading("queries", as_metric("euclidean"), "input", 2)
    elif change == "file":
        (tmp_path / ".c.safetensors.progress").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    else:
        np.save(path, np.load(path) + 1)
        stamp = path.stat().st_mtime_ns + 10**9  # some file systems count in seconds
        os.utime(path, ns=(stamp, stamp))
    kept = Checkpoint.beside(tmp_path / "c.safetensors")
    found = moments_of(source, reading, checkpoint=kept)
    assert read[0] == ([300, 400] if change == "later shard" else [0, 100, 200, 300, 400])
    assert same(found, moments_of(source, reading))


def test_names_of_rows_are_part_of_what_is_kept(tmp_path, read):
    save_shards(tmp_path / "in", 3, rows=100)
    source = open_source(tmp_path / "in")
    names = np.array(["image", "text", "text"] * 100)
    kept = Checkpoint.beside(tmp_path / "c.safetensors")
    found = read_moments(source, READING, names=names, checkpoint=kept)
    assert {name: moments.count for name, moments in found.items()} == {"image": 100, "text": 200}
    read[0].clear()
    names[0] = "text"
    kept = Checkpoint.beside(tmp_path / "c.safetensors")
    found = read_moments(source, READING, names=names, checkpoint=kept)
    assert read[0] == [0, 100, 200]
    assert found["image"].count == 99


def test_a_disk_without_room_for_it_stops_nothing(tmp_path):
    save_shards(tmp_path / "in", 2)
    source = open_source(tmp_path / "in")
    nowhere = Checkpoint.beside(tmp_path / "absent" / "c.safetensors")
    assert same(moments_of(source, READING, checkpoint=nowhere), moments_of(source, READING))
