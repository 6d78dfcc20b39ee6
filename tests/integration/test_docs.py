"""Documentation is run: Python blocks and `modgap` lines of pages; docstrings run with their modules."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap import load_sample
from modgap.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    if "reference" not in path.parts
)
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
#: Reports that a page has had written already: each takes seconds, and nothing on a page reads it.
REPORTED: set[tuple[str, ...]] = set()
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall((ROOT / page).read_text()) if kind == language]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    sample = load_sample()
    np.save(tmp_path / "images.npy", sample.images)
    np.save(tmp_path / "texts.npy", sample.texts[0])
    np.save(tmp_path / "templates.npy", sample.texts)
    np.save(tmp_path / "labels.npy", sample.labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Printed:
    """`print` of a block, which keeps what each line of it said last."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}

    def __call__(self, *values: object, **options: Any) -> None:
        self.lines[sys._getframe(1).f_lineno] = " ".join(map(str, values))
        print(*values, **options)


def says(remark: str, printed: str) -> bool:
    """Whether a remark behind a `print` is how its line begins; what follows a colon explains it.

    Fractions may be off by two in the last digit that is written (graphs, and products of another machine),
    and what is rounding may be other rounding.
    """
    told, found = re.split(r": |; | \.\.\.", remark)[0].split(), printed.split()
    return len(told) <= len(found) and all(map(_is_said, told, found))


def _is_said(told: str, found: str) -> bool:
    figure = re.fullmatch(r"\d+\.(\d+)|\de-\d+", told)
    if figure is None:
        return told == found.rstrip(":,;") or told == found
    if figure[1] is None:
        return abs(float(found)) < 1e-6 and float(told) < 1e-6
    return abs(float(told) - float(found)) <= 2.01 * 10 ** -len(figure[1])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_blocks_run_and_print_what_they_say(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(blocks(page, "python")):
        scope["print"] = printed = Printed()
        exec(compile(code, f"{page} block {number}", "exec"), scope)
        for place, line in enumerate(code.splitlines(), 1):
            remark = re.search(r"^\s*print\(.*\)  # (.+)$", line)
            if remark:
                assert says(remark[1], printed.lines[place]), (
                    f"{line} printed {printed.lines[place]}"
                )
    capsys.readouterr()


@pytest.mark.parametrize(
    ("remark", "printed", "right"),
    [
        ("0.972", "0.974", True),
        ("0.972", "0.977", False),
        ("(1000, 128) (1000, 9)", "(1000, 128) (1000, 9)", True),
        ("(1000, 128) (1000, 9)", "(1000, 128) (1000, 14)", False),
        ("2e-07", "9e-08", True),
        ("2e-07", "0.001", False),
        ("True ip: no answer changes", "False ip", False),
    ],
)
def test_a_remark_that_is_wrong_is_found(remark: str, printed: str, right: bool) -> None:
    assert says(remark, printed) == right


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=str)
def test_modgap_commands_run(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("modgap ")]
    for command in commands:
        if command[1] == "report" and tuple(command) in REPORTED:
            continue  # the same page from the same files
        if command[1] == "report":
            REPORTED.add(tuple(command))
        assert main(command[1:]) == 0, f"{shlex.join(command)}\n{capsys.readouterr().err}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in LINK.findall((ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_pictures_say_what_the_sample_says() -> None:
    """Words and numbers, not places: another BLAS may move a point by a tenth of a pixel."""
    maker = runpy.run_path(str(ROOT / "docs" / "reference" / "make_pictures.py"))
    for name in ("closing.svg", "surviving.svg"):  # the third is a run of 6,000 steps
        committed = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
        words = re.compile(r"<(?:text|title)[^>]*>([^<]*)<")
        assert words.findall(maker["PICTURES"][name]()) == words.findall(committed), name


def test_the_guide_to_the_report_names_its_folds() -> None:
    page = (ROOT / "docs" / "guide" / "reading_the_report.md").read_text(encoding="utf-8")
    template = ROOT / "src" / "modgap" / "report" / "templates" / "report.html.j2"
    folds = re.findall(r"<summary>(.*?)</summary>", template.read_text(encoding="utf-8"))
    told = re.findall(r"^\| ([^|]+) \|", page.partition("| fold |")[2], re.MULTILINE)[1:]
    assert told == folds


def test_the_ten_minutes_quote_the_advice() -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    advice = modgap.advise(load_sample().task())
    assert f"use `{advice.method}`" in text
    for figure in re.findall(r"0(\.\d{3})", advice.text):
        assert figure in text, advice.text


def test_sources_cited_in_the_code_are_in_the_bibliography() -> None:
    known = set(re.findall(r"@\w+\{([^,]+),", (ROOT / "docs" / "references.bib").read_text()))
    from modgap.closers import METHODS

    cited = {method.source for method in METHODS.values() if method.source}
    assert cited <= known
