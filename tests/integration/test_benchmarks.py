"""The benchmarks run, say what they must, and their table follows from them; no time is asserted."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _subjects import SPEED, SUBJECTS  # noqa: E402

from modgap.index.records import CodecRow, Effort  # noqa: E402

KEYS = {
    "subject", "about", "date", "commit", "quick", "seed", "machine", "load_average", "versions",
    "ratios", "setting", "rows", "details",
}  # fmt: skip

for package in ("faiss", "sklearn", "threadpoolctl"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the benchmarks compare with {package}", allow_module_level=True)
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("the benchmarks read memory from Linux's /proc", allow_module_level=True)


def script(name, *words):
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, *words], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    done = script("run.py", "--quick", "--threads", "1", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("subject", SUBJECTS)
class TestQuickRun:
    @pytest.fixture
    def result(self, results, subject):
        return json.loads((results / f"{subject}.json").read_text(encoding="utf-8"))

    def test_says_where_it_comes_from(self, result, subject):
        assert set(result) == KEYS
        assert (result["subject"], result["quick"], result["seed"]) == (subject, True, 0)
        assert set(result["machine"]) == {
            "cpu", "cores", "threads", "memory_gib", "system", "accelerator",
        }  # fmt: skip
        assert {"python", "numpy", "scipy", "modgap", "faiss-cpu", "scikit-learn"} <= set(
            result["versions"]
        )

    def test_its_rows_are_finite_and_judged_by_their_bars(self, result, subject):
        assert result["rows"]
        for row in result["rows"]:
            assert math.isfinite(row["value"])
            sense, bar = row["bar"].split()
            assert row["holds"] == (
                row["value"] >= float(bar) if sense == ">=" else row["value"] <= float(bar)
            )
            ratio = row.get("ratio")
            if ratio is not None:
                assert all(math.isfinite(x) and x > 0 for x in ratio["rounds"])
                assert ratio["ratio_of_minima"] > 0

    def test_names_no_host_and_no_folder(self, result, subject):
        text = json.dumps(result)
        assert str(BENCHMARKS.parent) not in text
        assert str(Path.home()) + "/" not in text
        assert "/tmp/" not in text

    def test_errors_are_small_even_where_times_mean_nothing(self, result, subject):
        errors = [
            row for row in result["rows"] if "error" in row["work"] or "difference" in row["work"]
        ]
        assert all(row["holds"] for row in errors)


class TestTable:
    @pytest.fixture
    def page(self, tmp_path):
        path = tmp_path / "speed.md"
        path.write_text("above\n\n<!-- benchmarks:start -->\n<!-- benchmarks:end -->\n\nbelow\n")
        return path

    def test_stands_between_the_markers_and_is_checked(self, results, page):
        options = ["--results", results, "--page", page]
        assert script("table.py", "--check", *options).returncode == 1
        assert script("table.py", *options).returncode == 0
        text = page.read_text()
        assert text.startswith("above\n")
        assert text.endswith("\nbelow\n")
        rows = sum(len(json.loads((results / f"{s}.json").read_text())["rows"]) for s in SPEED)
        assert text.count("\n|") == rows + 2
        assert script("table.py", "--check", *options).returncode == 0
        assert script("table.py", *options).returncode == 0
        assert page.read_text() == text
        page.write_text(text.replace("| <= 1.5x |", "| <= 15x |"))
        stale = script("table.py", "--check", *options)
        assert stale.returncode == 1
        assert "out of date" in stale.stderr

    def test_needs_the_markers(self, results, tmp_path):
        bare = tmp_path / "speed.md"
        bare.write_text("no markers\n")
        done = script("table.py", "--results", results, "--page", bare)
        assert done.returncode == 1
        assert "benchmarks:start" in done.stderr

    def test_needs_results(self, tmp_path, page):
        done = script("table.py", "--results", tmp_path, "--page", page)
        assert done.returncode == 1
        assert "run.py" in done.stderr


class TestPage:
    """Tables of quality: in the pages that speak of them, from the committed results."""

    def test_the_committed_pages_say_what_the_results_say(self):
        done = script("pages.py", "--check")
        assert done.returncode == 0, done.stderr

    def test_a_figure_changed_by_hand_is_found_and_put_right(self, tmp_path):
        for page in (*BENCHMARKS.parent.glob("docs/**/*.md"), BENCHMARKS.parent / "README.md"):
            copy = tmp_path / page.relative_to(BENCHMARKS.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
        page = tmp_path / "docs" / "guide" / "indexing.md"
        text = page.read_text(encoding="utf-8")
        cell = re.search(r"\*\*\.\d{3}\*\*", text)
        page.write_text(text.replace(cell.group(), "**.999**", 1), encoding="utf-8")
        stale = script("pages.py", "--check", "--root", tmp_path)
        assert stale.returncode == 1
        assert "docs/guide/indexing.md" in stale.stderr
        assert script("pages.py", "--root", tmp_path).returncode == 0
        assert page.read_text(encoding="utf-8") == text


def test_pictures_of_the_guides_are_drawn_from_the_results(tmp_path):
    pytest.importorskip("altair", reason="the report extra draws")
    done = script("pictures.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {"indexing_codes.svg", "indexing_graphs.svg", "mixed.svg"}
    for name in drawn:
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<svg")
        assert (BENCHMARKS.parent / "docs" / "guide" / name).is_file()


def test_each_half_of_the_texts_judges_what_the_other_one_fitted():
    stores = importlib.import_module("engine_stores")

    def found(share):
        shares = {"10": np.full(3, share)}
        sweep = (Effort(16, np.full(3, share), share, None),)
        return CodecRow("e", "c", "balanced", found={"1": shares}, sweep=sweep)

    fitted_to_first = np.array([True, False, False])
    one = stores._of_unseen(found(0.2), found(0.8), fitted_to_first)
    assert one.found["1"]["10"].tolist() == [0.8, 0.2, 0.2]
    assert one.sweep[0].shares.tolist() == [0.8, 0.2, 0.2]
    assert one.sweep[0].seconds == pytest.approx(0.5)
