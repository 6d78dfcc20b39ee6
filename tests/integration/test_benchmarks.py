"""Benchmarks run, and the README's table is the one of the committed results. No timing is judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["stability_sweep", "moments", "apply", "neighbors", "startup"])
def test_quick_runs_write_results(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), name, "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"rows", "machine", "versions", "commit", "seed"} <= set(document)
    for row in document["rows"]:
        value = row.get("speedup", row.get("ratio", row.get("seconds")))
        assert math.isfinite(value)
        assert value > 0
        assert {"work", "size", "bar"} <= set(row)
        assert row.get("largest_error", 0) <= 1e-4


def test_the_readme_shows_the_committed_results() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "table.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
