"""Pages of every kind, each made once, and a real browser that opens them and listens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.report import compare, summarize, write_comparison, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

#: What sticks out of the window, to the left or to the right, unless it is hidden or scrolls in a box.
WIDER = """() => {
  const root = document.documentElement, most = root.clientWidth;
  const boxed = (e) => {
    for (; e && e !== root; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.clipPath !== "none" || style.overflowX !== "visible" || e.tagName === "svg") return true;
    }
    return false;
  };
  const out = [...document.body.querySelectorAll("*")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > most + 1 || box.left < -1) && !boxed(e);
  });
  const found = out.map((e) => `${e.tagName} ${e.className} to ${e.getBoundingClientRect().right}`);
  return root.scrollWidth > most ? [`page ${root.scrollWidth} of ${most}`, ...found] : found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser a module: while playwright is open, no other loop of asyncio can run in its thread."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("MODGAP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found; install one, or name it in MODGAP_CHROMIUM")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """An open page, and what it did beside being shown."""

    page: Any
    file: Path
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def wider(self) -> list[str]:
        """Return what is wider than the window."""
        found: list[str] = self.page.evaluate(WIDER)
        return found

    def unfold(self) -> None:
        """Open every fold."""
        self.page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
        )


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """A function that opens a file in a context of its own."""
    contexts = []

    def go(file: Path, width: int = 1280, **options: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        made = Visit(page, file)
        page.on("console", lambda word: made.said.append(f"{word.type}: {word.text}"))
        page.on("pageerror", lambda error: made.said.append(f"error: {error}"))
        page.on("request", lambda request: made.asked.append(request.url))

        def dismiss(dialog: Any) -> None:
            made.said.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.goto(file.as_uri())
        return made

    yield go
    for context in contexts:
        context.close()


class Pages:
    """Every kind of page from small inputs, and the dictionaries that they show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, kind: str) -> Path:
        """Return the file of a page."""
        pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
        return self._made(kind)

    @cache  # noqa: B019  (lives as long as the session)
    def _made(self, kind: str) -> Path:
        path = self.folder / f"{kind}.html"
        if kind in ("sample", "pairs"):
            return write_report(self.summary(kind), path)
        if kind == "comparison":
            found = compare([self.summary(kind) for kind in ("sample", "pairs")])
            return write_comparison(found, path)
        if kind == "simulation":
            from modgap.paper.dynamics import film
            from modgap.report.simulation_page import write_simulation_page

            return write_simulation_page(film(self.run()), path, command="modgap simulate")
        if kind == "index":
            from modgap.report.index_page import write_index_page

            return write_index_page(index_study(), path, inputs={"queries": "te.npy"})
        assert kind == "figures"
        from modgap.paper.figures import make

        return make([9], self.folder / "figures").folder / "index.html"

    @cache  # noqa: B019
    def summary(self, kind: str) -> dict[str, Any]:
        """Return the report on the sample with its names, or on pairs without any."""
        small: dict[str, Any] = {
            "noises": [modgap.Gaussian(0.04), modgap.Bins(8)],
            "methods": ("mean-shift",),
            "alphas": (0, 0.5, 1, 1.25),
            "max_points": 50,
            "draws": 5,
        }
        if kind == "sample":
            sample = modgap.load_sample()
            task = modgap.ZeroShot(
                sample.images[:200],
                sample.texts[:3],
                sample.labels[:200],
                templates=sample.templates[:3],
            )
            names = {"names": ("image", "text"), "classes": sample.classes}
            return summarize(task, title="CIFAR-10", **names, **small)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 8))
        y = x + rng.normal(size=x.shape) + 1
        task = modgap.PairedRetrieval(y, x, names=("image", "text"))
        return summarize(task, title="Pairs", names=("image", "text"), **small)

    @cache  # noqa: B019
    def run(self) -> Any:
        """Return a short run of the paper's dynamics."""
        from modgap.paper.dynamics import Simulation, film_steps, simulate

        settings = Simulation(n=20, steps=1000, rate=0.002, seed=5)
        return simulate(settings, snapshots=film_steps(1000))


def index_study() -> Any:
    """Return a study of a small gallery in the codecs of FAISS."""
    pytest.importorskip("faiss", reason="FAISS is not installed")
    from modgap import index

    sample = modgap.load_sample()
    texts = sample.texts.reshape(-1, sample.texts.shape[-1])
    codecs = ["faiss:SQ4", "faiss:HNSW16"]
    return index.study(texts, sample.images[:300], codecs=codecs, maps=("none", "balanced"))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Pages by kind: sample, pairs, comparison, simulation, index, figures."""
    return Pages(tmp_path_factory.mktemp("pages"))
