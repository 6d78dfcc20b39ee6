"""The page of the figures in a browser: names are text, drawings fit the ground, nothing is too wide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modgap.charts import theme
from modgap.paper.figures import Finding, Sources, draw, page
from modgap.paper.figures.drawing import darkened

HOSTILE = "<script>document.title = 'run'</script>\"'" + "x" * 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one figure whose every word is hostile, beside its drawings."""
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    figure, made = draw(3, Sources(())), tmp_path_factory.mktemp("figures")
    told = Finding(HOSTILE, figure.findings[0].verdict, (HOSTILE,))
    named = replace(figure, title=HOSTILE, claim=HOSTILE, findings=(told,), sources=(HOSTILE,))
    drawing = theme.svg(figure.chart)
    for name, content in (
        ("index.html", page.index([named])),
        ("figure03.svg", drawing),
        ("figure03_dark.svg", darkened(drawing)),
    ):
        (made / name).write_text(content, encoding="utf-8")
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_are_text_and_no_part_is_wider_than_a_phone(
    visit: Callable[..., Any], folder: Path, scheme: str
) -> None:
    opened = visit(folder / "index.html", width=390, color_scheme=scheme, bypass_csp=True)
    page = opened.page
    assert opened.said == []
    assert opened.wider() == []
    assert page.title() == "Figures, modgap"
    assert page.evaluate("document.scripts.length") == 0
    image = page.locator("img")
    assert image.evaluate("(image) => image.naturalWidth") > 100
    source = image.evaluate("(image) => image.currentSrc")
    assert source.endswith("figure03_dark.svg" if scheme == "dark" else "figure03.svg")
    # the figure in the table, its files, LaTeX and Markdown
    assert page.evaluate("document.links.length") >= 9
