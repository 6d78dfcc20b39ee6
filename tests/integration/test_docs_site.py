"""The documentation as a site: built strictly, offline, with a place for every public name.

One test, since building takes as long as reading all sources does: about ten seconds of one core.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "measures", "closers", "evaluation", "robustness", "decisions", "index", "exports", "encode",
    "datasets", "bench", "io", "engines", "report", "samples", "paper.theory", "paper.dynamics",
    "paper.figures", "nn", "sklearn",
)  # fmt: skip


def test_the_site_builds_strictly_and_asks_for_nothing(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f" {page.relative_to(ROOT / 'docs').as_posix()}\n" in listed, page.name
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    for path, text in pages.items():
        asked = re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="((?:https?:)?//[^"]+)"', text
        )
        assert asked == [], path.name
    places = set(re.findall(r'id="modgap\.([\w.]+)"', "".join(pages.values())))
    for room in ROOMS:
        module = importlib.import_module(f"modgap.{room}")
        for name in module.__all__:
            if callable(getattr(module, name)):  # constants stand with what takes them
                # a function named as its file is stands under the name of both
                assert {f"{room}.{name}", f"{room}.{name}.{name}"} & places, f"modgap.{room}.{name}"
    # the test can fail: a link that leads nowhere stops the build
    shutil.rmtree(tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One page\n\n[nowhere](missing.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: one\ntheme: {name: material, font: false}\n")
    broken = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert broken.returncode != 0
