"""The page in a real browser: no errors, no requests, something to see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import modgap
from modgap.report import summarize, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> str:
    found = os.environ.get("MODGAP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found; install one, or name it in MODGAP_CHROMIUM")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    sample = modgap.load_sample()
    found = summarize(sample.task(), title="Sample page", classes=sample.classes, max_points=80)
    return write_report(found, tmp_path_factory.mktemp("page") / "report.html")


def visit(
    browser: str, page: Path, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [browser, *QUIET, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def complaints(run: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_opens_without_complaint(browser: str, page: Path, tmp_path: Path) -> None:
    run = visit(browser, page, tmp_path, "--dump-dom")
    assert complaints(run) == []
    assert "<title>Sample page – modality gap</title>" in run.stdout
    assert run.stdout.count("<svg") >= 4
    # the test can fail: a page that asks for a file elsewhere is stopped, and says so
    leaky = tmp_path / "leaky.html"
    image = '<img src="http://localhost:9/pixel.png"></main>'
    leaky.write_text(page.read_text(encoding="utf-8").replace("</main>", image), encoding="utf-8")
    assert any(
        "pixel.png" in line for line in complaints(visit(browser, leaky, tmp_path, "--dump-dom"))
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_there_is_something_to_see(browser: str, page: Path, tmp_path: Path, width: int) -> None:
    shot = tmp_path / f"{width}.png"
    visit(browser, page, tmp_path, f"--screenshot={shot}", f"--window-size={width},2400")
    assert shot.stat().st_size > 60_000  # an empty page of this size takes under 10 kB


def test_no_part_is_wider_than_a_phone(browser: str, page: Path, tmp_path: Path) -> None:
    """Wide tables scroll in their own box; the page itself does not."""
    probe = tmp_path / "probe.html"
    text = re.sub(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8")
    )
    frame = tmp_path / "frame.html"
    frame.write_text(text, encoding="utf-8")
    script = (
        "<iframe id=f width=400 height=900 src=frame.html></iframe><script>"
        "f.onload = () => { const e = f.contentDocument.documentElement;"
        "document.title = e.scrollWidth + ' of ' + e.clientWidth; }</script>"
    )
    probe.write_text(script, encoding="utf-8")
    run = visit(
        browser, probe, tmp_path, "--dump-dom", "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
    )  # fmt: skip
    found = re.search(r"<title>(\d+) of (\d+)</title>", run.stdout)
    assert found is not None, run.stdout[:500]
    assert int(found[1]) <= int(found[2])
