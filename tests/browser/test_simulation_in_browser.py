"""The page of a run in a real browser: the slider moves points, figures and marks; nothing is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modgap.paper.dynamics import Simulation, film, film_steps, simulate
from modgap.report.simulation_page import write_simulation_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--allow-file-access-from-files", "--virtual-time-budget=30000",
)  # fmt: skip

#: A page that holds the other in a frame as wide as a phone, uses it, and says what it saw.
DRIVER = """<iframe id=f width=390 height=900 src=run.html></iframe><pre id=seen></pre><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
f.onload = async () => {
  const page = f.contentDocument, time = page.getElementById("time");
  const look = () => ({
    step: page.getElementById("now").textContent,
    said: time.getAttribute("aria-valuetext"),
    loss: page.querySelector(".tiles .now").textContent,
    mark: page.querySelector(".tiles .mark").getAttribute("transform"),
    point: page.querySelector("#picture .x use").getAttribute("x"),
  });
  const seen = { first: look() };
  time.value = time.max;
  time.dispatchEvent(new Event("input"));
  seen.last = look();
  page.getElementById("play").click();
  // frames come as fast as this machine draws them: wait for some, not for a time
  for (let i = 0; i < 500 && !(time.value > 3 && time.value < time.max); i++) await wait(20);
  seen.playing = look();
  time.dispatchEvent(new KeyboardEvent("keydown", { key: " " }));
  seen.button = page.getElementById("play").textContent;
  seen.width = page.documentElement.scrollWidth;
  document.getElementById("seen").textContent = JSON.stringify(seen);
};
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = os.environ.get("MODGAP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found; install one, or name it in MODGAP_CHROMIUM")
    return found


def test_the_slider_and_the_button_move_the_run(browser: str, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    run = simulate(Simulation(n=20, steps=1000, rate=0.002, seed=5), snapshots=film_steps(1000))
    write_simulation_page(film(run), tmp_path / "run.html")
    driver = tmp_path / "driver.html"
    driver.write_text(DRIVER, encoding="utf-8")
    done = subprocess.run(
        [browser, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", driver.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout)
    assert found is not None, done.stdout[-500:]
    seen = json.loads(found[1])
    assert (seen["first"]["step"], seen["last"]["step"]) == ("0", "1,000")
    for moment, record in (("first", run.loss[0]), ("last", run.loss[-1])):
        assert float(seen[moment]["loss"]) == pytest.approx(record, rel=0.05)
        assert f"loss {seen[moment]['loss']}, gap" in seen[moment]["said"]
    for part in ("mark", "point"):
        assert seen["first"][part] != seen["last"][part]
    # from the end it plays from the start; a space on the slider stops it on the way
    assert seen["playing"]["point"] not in (seen["first"]["point"], seen["last"]["point"])
    assert seen["button"] == "Play"
    assert seen["width"] <= 390
