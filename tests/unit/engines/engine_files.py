"""What the tests of engines share: shards, a closure to map them with, and runs that can be killed."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from modgap.closers.maps import AffineMap

WIDTH = 24


def save_shards(folder, count, rows=500, *, seed=0, width=WIDTH):
    """Write `count` shards whose rows lie away from the origin, and return all rows."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    whole = rng.standard_normal((count * rows, width)).astype(np.float32) + 0.5
    for i, part in enumerate(np.array_split(whole, count)):
        np.save(folder / f"img_emb_{i}.npy", part)
    return whole


def a_map(width=WIDTH):
    """Return an affine map with every part that closers make."""
    rng = np.random.default_rng(7)
    left = np.linalg.qr(rng.standard_normal((width, width)))[0]
    return AffineMap(width, left=left, residual=False, shift=rng.standard_normal(width))


def hashes(folder):
    """Return the SHA-256 of every file that is no record, by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).iterdir())
        if path.name != "modgap.json"
    }


def recorded(folder):
    """Return the SHA-256 of every file as the record of the folder has it."""
    files = json.loads((Path(folder) / "modgap.json").read_text())["files"]
    return {name: entry["sha256"] for name, entry in sorted(files.items())}


#: The command line where every shard is a task, and every task is kept at once.
_PROGRAM = (
    "import sys; from modgap.io import streams; streams._TASK_BYTES = 1; "
    "from modgap.engines import checkpoint; checkpoint._SAVE_S = checkpoint._SAVE_SHARE = 0; "
    "from modgap.cli import main; sys.exit(main(sys.argv[1:]))"
)


def command(*words):
    """Return a command whose tasks are single shards."""
    return [sys.executable, "-c", _PROGRAM, *map(str, words)]


def run(*words, **options):
    """Run a command to its end."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, timeout=120, **options
    )


def killed_when(condition, *words):
    """Kill a run (SIGKILL) as soon as `condition()` holds; return whether it was still going.

    Its output is read to the end, which comes when no process of the run lives any more.
    """
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.communicate(timeout=60)
    return process.returncode != 0


def environment(**more):
    """Return the variables of a process of its own."""
    return {**os.environ, **more}
