"""Names that want to be more than text: none opens a dialog, runs, or breaks the layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.paper.dynamics import Simulation, film, film_steps, simulate
from modgap.report import compare, summarize, write_comparison, write_report
from modgap.report.simulation_page import write_simulation_page

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>document.title = 'ran'</script><!--",
    "<img src=x onerror=alert(2)>",
    "\"' onload='alert(3)' x=\"&quot;&lt;b&gt;{{ 7 * 7 }}",
    "\u202e\u2066gnp.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u202c",
    "a\0b\x1b[31m\x07\x85\ud800\uffff\r\n",
    "\U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea " * 3,
    "W" * 10_000,
    "\u6f22" * 10_000,
)
#: What a reader must find of some of them.
SEEN = (HOSTILE[0], HOSTILE[2], r"\u202e\u2066gnp.exe", r"a\x00b\x1b[31m\x07\x85\ud800\uffff")


def hostile_report() -> dict[str, Any]:
    """Return a report in which every name is hostile."""
    rng = np.random.default_rng(3)
    n = len(HOSTILE)
    items, labels = rng.normal(size=(n, 12)), np.arange(4 * n) % n
    queries = items[labels] + 0.6 * rng.normal(size=(4 * n, 12)) + 1
    galleries = np.stack([items + 0.3 * rng.normal(size=items.shape) for _ in HOSTILE])
    task = modgap.ZeroShot(queries, galleries, labels, templates=list(HOSTILE))
    return summarize(
        task, title=" ".join(HOSTILE), names=(HOSTILE[0], HOSTILE[7]), classes=HOSTILE,
        query_names=[HOSTILE[(3 * i) % n] for i in range(4 * n)], methods=(), alphas=(0, 1),
        noises=[modgap.Bins(4)],
    )  # fmt: skip


def write(kind: str, folder: Path) -> Path:
    """Write a page in which every name that a user can give is hostile."""
    path = folder / "page.html"
    if kind == "report":
        found = hostile_report()
        assert json.loads(json.dumps(found)) == found
        found["inputs"] = [
            {"what": "queries", "file": name, "sha256": "0" * 64} for name in HOSTILE
        ]
        return write_report(found, path)
    if kind == "comparison":
        rng = np.random.default_rng(3)
        task = modgap.PairedRetrieval(
            rng.normal(size=(12, 20)), rng.normal(size=(12, 20)) + 1, names=(HOSTILE[0], HOSTILE[4])
        )
        study = modgap.evaluate(task, ["affine"], noises=[modgap.Bins(4)]).to_dict()
        names = [*HOSTILE, HOSTILE[7] + "!"]
        return write_comparison(compare([study] * len(names), names, title=" ".join(HOSTILE)), path)
    assert kind == "simulation"
    run = simulate(Simulation(n=5, steps=10, rate=0.001), snapshots=film_steps(10))
    words = " ".join(HOSTILE)
    return write_simulation_page(film(run), path, title=words, command=HOSTILE[1] + HOSTILE[7])


@pytest.mark.parametrize("kind", ["report", "comparison", "simulation"])
def test_hostile_names_are_text(visit: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    file = write(kind, tmp_path)
    opened = visit(file, bypass_csp=True)  # what escaped would run
    page = opened.page
    opened.unfold()
    assert "ran" not in page.title().split()
    text = page.inner_text("body")
    for part in SEEN[: 1 if kind == "simulation" else None]:  # one headline, its middle left out
        assert part in text, part
    assert page.locator("img[src=x], [onload], [onerror], header script, td script").count() == 0
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\ufffd]", text)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert opened.wider() == [], width
    assert page.locator("body").bounding_box()["height"] < 90_000
    assert opened.said == []
