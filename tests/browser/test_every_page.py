"""Every kind of page in a real browser: nothing complains, nothing is asked for, nothing sticks out."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

KINDS = ("sample", "pairs", "comparison", "simulation", "index", "figures")
#: Without what would be looked at again and again: marks in pictures, and rows that are like those above.
AUDIT = """(rules) => axe.run({
  exclude: ["svg *", "tr:nth-child(n + 3):not(.changes)", "tr.changes + tr"],
}, {
  resultTypes: ["violations"], ...(rules ? { runOnly: { type: "rule", values: rules } } : {}),
}).then((found) => found.violations.flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.target}`)))"""


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="the axe audit is not installed")
    return (files(package) / "axe.min.js").read_text(encoding="utf-8")


def elsewhere(opened: Any) -> list[str]:
    """Return the requests for anything but the page and what it holds itself."""
    folder = opened.file.parent.as_uri() + "/"
    own = re.compile(r"data:|" + re.escape(folder) + r"[\w.]+$")
    return [url for url in opened.asked if not own.match(url)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_quiet_fits_and_can_be_used_by_all(
    visit: Callable[..., Any], pages: Any, axe: str, kind: str
) -> None:
    opened = visit(pages(kind), bypass_csp=True)  # the audit is a script of its own
    page = opened.page
    assert page.locator("h1").count() == 1
    opened.unfold()
    page.evaluate(axe)
    if kind != "pairs":  # in the dark: what it has beside the sample's page is in one audit
        assert page.evaluate(AUDIT, None) == []
    for width in (1280, 760, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert opened.wider() == [], width
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(AUDIT, None if kind == "pairs" else ["color-contrast"]) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 120
    assert opened.said == []
    if kind == "figures":  # a folder of files: pictures beside the page
        assert elsewhere(opened) == []
    else:
        assert [url for url in opened.asked if not url.startswith("data:")] == [
            pages(kind).as_uri()
        ]


def test_what_these_tests_look_for_they_find(
    visit: Callable[..., Any], pages: Any, axe: str, tmp_path: Path
) -> None:
    text = pages("comparison").read_text(encoding="utf-8")
    bad = (
        '<img src="http://localhost:9/pixel.png"><script>document.title = "ran"</script>'
        '<div style="width: 2000px; color: #ddd; background: #fff">wide and pale</div></main>'
    )
    leaky = tmp_path / "leaky.html"
    leaky.write_text(text.replace("</main>", bad), encoding="utf-8")
    opened = visit(leaky)
    assert "ran" not in opened.page.title()
    # the page's own policy stops what does not belong to it, and says so
    assert sum("Content Security Policy" in line for line in opened.said) == 2
    assert any(line.startswith("DIV ") for line in opened.wider())
    bare = visit(leaky, bypass_csp=True)
    assert bare.page.title() == "ran"
    assert len(elsewhere(bare)) == 1
    bare.page.evaluate(axe)
    found = {line.split(":")[0] for line in bare.page.evaluate(AUDIT, None)}
    assert found == {"color-contrast", "image-alt"}


@pytest.mark.parametrize("kind", ["sample", "pairs", "simulation"])
def test_print_shows_all_that_is_folded_and_nothing_to_press(
    visit: Callable[..., Any], pages: Any, kind: str
) -> None:
    opened = visit(pages(kind), width=800)
    page = opened.page
    page.emulate_media(media="print")
    assert opened.wider() == []
    assert page.locator("details[open]").count() == 0
    for table in page.locator("details table").all():
        assert table.bounding_box()["height"] > 20
    assert not any(button.is_visible() for button in page.locator("button, input").all())
    for title in page.locator(".tabs > section > h2").all():
        assert title.is_visible()
    assert page.locator(".tabs > section").count() == {"sample": 1, "pairs": 2}.get(kind, 0)


def test_without_a_script_picture_and_figures_are_there(
    visit: Callable[..., Any], pages: Any
) -> None:
    opened = visit(pages("pairs"), java_script_enabled=False)
    page, problem = opened.page, pages.summary("pairs")["problems"][0]
    assert page.locator("#problem-1 .clouds .dots").first.is_visible()
    assert page.locator("#problem-1 [data-now]").first.inner_text() == "1.000"
    kept = problem["way"]["retention"][problem["way"]["alphas"].index(1.0)]
    assert page.locator("#problem-1 [data-now]").nth(1).inner_text() == f"{kept:.3f}"
    assert not page.locator(".slide").first.is_visible()
    page.locator("label[for=tab-2]").click()
    assert page.locator("#problem-2 .clouds").is_visible()
    assert not page.locator("#problem-1").is_visible()
    film = visit(pages("simulation"), java_script_enabled=False)
    assert film.page.locator(".stills svg").count() == 3
    assert film.page.locator(".stills svg").first.is_visible()
    assert not film.page.locator("#play").is_visible()
    assert opened.said == film.said == []
