"""The page of the figures in a browser: names are text, drawings fit the ground, nothing is too wide."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from modgap.charts import theme
from modgap.paper.figures import Finding, Sources, draw, page
from modgap.paper.figures.drawing import darkened

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--allow-file-access-from-files", "--virtual-time-budget=10000",
)  # fmt: skip
HOSTILE = "<script>document.title = 'run'</script>\"'" + "x" * 10_000

#: A page that holds the other in a frame as wide as a phone, and says what it saw.
DRIVER = """<iframe id=f width=390 height=900 src=index.html></iframe><pre id=seen></pre><script>
f.onload = () => {
  const page = f.contentDocument, image = page.querySelector("img");
  document.getElementById("seen").textContent = JSON.stringify({
    title: page.title, width: page.documentElement.scrollWidth, image: image.naturalWidth,
    source: image.currentSrc, scripts: page.scripts.length, links: page.links.length,
  });
};
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = os.environ.get("MODGAP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found; install one, or name it in MODGAP_CHROMIUM")
    return found


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
        ("frame.html", DRIVER),
        ("figure03.svg", drawing),
        ("figure03_dark.svg", darkened(drawing)),
    ):
        (made / name).write_text(content, encoding="utf-8")
    return made


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_names_are_text_and_no_part_is_wider_than_a_phone(
    browser: str, folder: Path, tmp_path: Path, dark: bool
) -> None:
    run = subprocess.run(
        [
            browser, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r"<pre id=\"seen\">(\{.*?\})</pre>", run.stdout)
    assert found is not None, run.stdout[:500]
    seen = json.loads(found[1])
    assert seen["title"] == "Figures, modgap"
    assert seen["scripts"] == 0
    assert seen["width"] <= 390
    assert seen["image"] > 100
    assert seen["source"].endswith("figure03_dark.svg" if dark else "figure03.svg")
    assert seen["links"] >= 9  # the figure in the table, its files, LaTeX and Markdown
