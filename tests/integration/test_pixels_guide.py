"""The guide from pixels to the page runs as it is written, on few real pictures and in few steps."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("PIL")

from modgap.cli import main  # noqa: E402

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


@pytest.fixture
def few(real_data, tmp_path: Path) -> Path:
    """Few pictures of each split, and the prompts."""
    prompts = real_data.path("cifar10_images", "prompts.json")
    for split, count in (("train", 128), ("test", 40)):
        table = parquet.read_table(prompts.with_name(f"{split}.parquet")).slice(0, count)
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    shutil.copy(prompts, tmp_path)
    return tmp_path


def test_every_line_of_it_runs(few: Path, monkeypatch, capsys) -> None:
    text = (ROOT / "docs" / "guide" / "pixels.md").read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["python", "printf", "modgap", "modgap", "modgap"]
    monkeypatch.chdir(few)
    monkeypatch.setenv("DATA", str(few))
    for line in lines:
        if line.startswith("modgap "):
            assert main(shlex.split(os.path.expandvars(line))[1:]) == 0, capsys.readouterr().err
            continue
        few_steps = line.replace("--steps 3000 --width 12", "--steps 4 --width 4 --batch 64")
        if line.startswith("python "):
            assert few_steps != line
        command = few_steps.replace("python examples", f"{sys.executable} {ROOT / 'examples'}")
        subprocess.run(command, shell=True, check=True, capture_output=True)
    assert np.load(few / "embeddings" / "texts.npy").shape == (18, 10, 128)
    assert np.load(few / "embeddings" / "labels.npy").shape == (40,)
    page = (few / "page.html").read_text(encoding="utf-8")
    assert "airplane" in page
    assert (few / "model" / "dual_encoder.json").is_file()
