"""Every example runs to its end and prints something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = [
    *sorted((Path(__file__).parents[2] / "examples").glob("*.py")),
    Path(__file__).with_name("outside_program.py"),
]
#: What makes an example short that takes longer than what it shows needs.
SHORT = {"train_dual_encoder.py": ["--steps", "10"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path), *SHORT.get(path.name, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
