"""Figure 9: robustness when the gallery is stored in few levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.evaluation.records import Row
from modgap.evaluation.study import evaluate
from modgap.paper.figures.drawing import fixed, grid, marked_lines
from modgap.paper.figures.record import Case, Estimate, Figure, Finding, Rows, change, findings
from modgap.paper.figures.sources import EMBED, Labelled, Pairs, Search, Sources
from modgap.robustness.noise import Bins

__all__ = ["figure"]

CLAIM = "closing the gap makes answers more robust to quantization of the embeddings"
BINS = (32, 64, 128, 256)
METHODS = ("none", "recenter", "orthogonal", "affine")
_PRODUCTS = ("none", "affine")
#: Few answers that are lost must not look like many.
_LEAST_TOP = 0.1


def figure(sources: Sources, *, bins: Sequence[int] = BINS) -> Figure:
    """Return the figure: the gallery quantized after each closer's map, range of the whole cloud."""
    found = [row for data in sources.all() for row in _settings(data, bins)]
    tables: dict[str, Rows] = {"lost": [row for setting in found for row in setting["rows"]]}
    numbers = [{k: v for k, v in setting.items() if k != "rows"} for setting in found]
    return Figure(
        9, "Robustness to quantization", CLAIM, _told(found, bins),
        {"bins": list(bins), "settings": numbers}, tables,
        _chart(tables["lost"], bins), tuple(d.name for d in sources.all()),
        (f"The paper shows more models and datasets. {EMBED}",),
    )  # fmt: skip


def _settings(data: Labelled | Pairs | Search, bins: Sequence[int]) -> list[dict[str, Any]]:
    """Return what each closer keeps, for each direction of search."""
    noises = [Bins(n) for n in bins]
    distances = evaluate(data.task(), METHODS, noises=noises)
    products = evaluate(data.task(metric="ip"), _PRODUCTS, noises=noises)
    problems = list(dict.fromkeys(row.problem for row in distances))
    settings = []
    for problem in problems:
        kept = {row.method: _kept(row) for row in distances.of_problem(problem)}
        by_products = products.of_problem(problem)
        kept |= {f"{row.method}, inner product": _kept(row) for row in by_products}
        name = f"{data.name}, {problem}" if len(problems) > 1 else data.name
        settings.append(
            {
                "setting": name,
                "kept": {key: Estimate.of(rows.mean(axis=0)) for key, rows in kept.items()},
                "gain": {
                    key: Estimate.of((rows - kept["none"]).mean(axis=0))
                    for key, rows in kept.items()
                },
                "rows": [
                    _row(name, key, n, values)
                    for key, rows in kept.items()
                    for n, values in zip(bins, rows, strict=True)
                ],
            }
        )
    return settings


def _kept(row: Row) -> np.ndarray:
    """Return which answers stay, (bins, m)."""
    return np.stack([result.outcome.stability for result in row.results])


def _row(name: str, method: str, levels: int, kept: np.ndarray) -> dict[str, Any]:
    lost = Estimate.of(1.0 - kept)
    return {
        "setting": name,
        "method": method,
        "levels": levels,
        "lost": lost.value,
        "low": max(lost.value - lost.stderr, 0.0),
        "high": lost.value + lost.stderr,
    }


def _told(found: list[dict[str, Any]], bins: Sequence[int]) -> tuple[Finding, ...]:
    levels = ", ".join(map(str, bins))
    told: list[Finding] = []
    for method in ("orthogonal", "affine"):
        cases = [
            Case(
                s["setting"],
                s["gain"][method].beyond(),
                f"{change(s['kept']['none'], s['kept'][method], s['gain'][method])}, recentring alone "
                f"{s['kept']['recenter'].value:.3f}, nothing closed, by inner product "
                f"{s['kept']['none, inner product'].value:.3f}",
            )
            for s in found
        ]
        told += findings(f"{method} keeps more answers, on average over {levels} levels", cases)
    return tuple(told)


def _chart(rows: Rows, bins: Sequence[int]) -> Any:
    alt = theme.altair()
    highest = max((row["high"] for row in rows), default=1.0)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    panels = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        own = [{**row, "levels": str(row["levels"])} for row in rows if row["setting"] == setting]
        axis = {"title": "answers lost", "scale": fixed(0, max(highest * 1.03, _LEAST_TOP))}
        base = alt.Chart(theme.table(own)).encode(
            x=alt.X("levels:O", title="levels", sort=[str(n) for n in bins], axis=alt.Axis(labelAngle=0)),
            **theme.keyed("method", methods, columns=3),
        )  # fmt: skip
        title = alt.TitleParams(setting, limit=300)
        panels.append(
            alt.layer(*marked_lines(base, "lost", **axis)).properties(
                width=250, height=200, title=title
            )
        )
    return grid(panels, 3) if panels else alt.Chart(theme.table([])).mark_point()
