"""What a notebook shows: run in a kernel of its own, as Jupyter does."""

from __future__ import annotations

import html
import re

import pytest

CELLS = (
    "import modgap\n"
    "sample = modgap.load_sample()\n"
    "task = sample.task()\n"
    "modgap.evaluate(task, ['none', 'affine'], noises='int8')",
    "found = modgap.report(task, title='A <b>bold</b> title', classes=sample.classes, noises=('int8',),\n"
    "                      names=('image', 'text'), methods=())\n"
    "found",
    "print(repr(found)); print(found.save('page.html').name)",
    "modgap.report(task, draws=0)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = tmp_path_factory.mktemp("notebook")
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute()
    return [cell.outputs for cell in book.cells], folder


def test_a_study_is_a_table(outputs) -> None:  # type: ignore[no-untyped-def]
    ((shown,), *_), _ = outputs
    assert "<caption>" in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("Study(zero-shot")


def test_a_report_is_the_page_in_a_frame(outputs) -> None:  # type: ignore[no-untyped-def]
    (_, (shown,), printed, _), folder = outputs
    page = (folder / "page.html").read_text(encoding="utf-8")
    framed = re.search(r'srcdoc="([^"]*)"', shown.data["text/html"])
    assert framed is not None
    numbered = re.compile(r"\bc\d+-")  # ids of charts count on
    assert numbered.sub("", html.unescape(framed[1])) == numbered.sub("", page)
    assert "<b>bold" not in html.unescape(framed[1])
    assert "sandbox=" in shown.data["text/html"]
    text = "".join(part.text for part in printed)
    assert text.startswith("Report('A <b>bold</b> title': ")
    assert text.endswith("page.html\n")


def test_a_mistake_is_an_error_with_one_line(outputs) -> None:  # type: ignore[no-untyped-def]
    (*_, (error,)), _ = outputs
    assert (error.ename, "`draws` must be" in error.evalue) == ("ArgumentError", True)
