"""Draw figures and write them: SVG, PNG, CSV and JSON of each, and a page and a table over all."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from modgap._core.json import plain, stamp
from modgap.charts import theme
from modgap.errors import ArgumentError, ClosureWarning, SimulationWarning
from modgap.io.atomic import atomic_path
from modgap.io.manifest import make_folder
from modgap.paper.dynamics import PAPER_RUN
from modgap.paper.dynamics.settings import checked
from modgap.paper.figures.drawing import darkened
from modgap.paper.figures.latex import latex
from modgap.paper.figures.page import file_name, index, markdown
from modgap.paper.figures.record import Figure, Rows
from modgap.paper.figures.runs import TUNED, Tuning
from modgap.paper.figures.sources import Excluded, Sources, find_sources

__all__ = ["FIGURES", "Drawn", "draw", "make"]

#: The module of each figure; every one has `figure(sources) -> Figure`.
FIGURES = {number: f"modgap.paper.figures.figure{number:02d}" for number in range(1, 11)}


@dataclass(frozen=True)
class Drawn:
    """Figures that were drawn, the sets that took no part, and where the files are."""

    figures: tuple[Figure, ...]
    excluded: tuple[Excluded, ...]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return what was found and which files were written, without the numbers."""
        return {
            **stamp(),
            "figures": [
                {**_described(figure), "files": [name for name, _ in _files(figure, drawn=False)]}
                for figure in self.figures
            ],
            "excluded": plain(self.excluded),
        }


def make(
    numbers: Sequence[int] | None,
    out: str | Path,
    *,
    data: str | Path | None = None,
    temperature: float | None = None,
    rate: float | None = None,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """Draw figures, and return what each says about the paper's claims.

    Writes `figureNN.svg` (and `figureNN_dark.svg` for the page on dark screens), `figureNN.pdf`,
    `figureNN.png`, `figureNN.json` (the findings and their numbers) and one `figureNN_TABLE.csv` for each
    table that is drawn; and over all `index.html`, `figures.md`, and `figures.tex` with captions.

    Parameters
    ----------
    numbers : sequence of int, or None
        Figures to draw, 1 to 10; all by default.
    out : str or Path
        Folder; made if missing.
    data : str or Path, optional
        Folder of datasets, as in `find_sources`.
    temperature : float, optional
        Of the losses of figures 3 to 6, > 0; each has its own by default.
    rate, seed : float, int, optional
        Step size per pair, and the start, of the simulations of figures 4 to 6. Steps so long that tight
        clusters overshoot along the gap are warned of, here and among the figure's notes.
    progress : callable, optional
        Called with 1 after each figure.

    Raises
    ------
    ArgumentError
        A figure that does not exist; a setting outside its range, or of no figure that is drawn; a
        simulation that diverges.
    FormatError
        Data that cannot be read, or a folder that cannot be written.
    MissingExtraError
        The extra `report` is not installed.
    """
    wanted = sorted(FIGURES) if numbers is None else list(dict.fromkeys(int(n) for n in numbers))
    unknown = [n for n in wanted if n not in FIGURES]
    if unknown:
        raise ArgumentError(f"`numbers` must lie between 1 and {max(FIGURES)}; got {unknown}")
    tuning = _tuned(Tuning(temperature, rate, seed), wanted)
    theme.altair()
    sources = find_sources(data)
    folder = Path(out)
    make_folder(folder)
    figures = []
    for number in wanted:
        figure = draw(number, sources, tuning=tuning)
        for name, content in _files(figure):
            _put(folder / name, content)
        figures.append(figure)
        if progress is not None:
            progress(1)
    _put(folder / "index.html", index(figures, sources.excluded))
    _put(folder / "figures.md", markdown(figures, sources.excluded))
    _put(folder / "figures.tex", latex(figures))
    return Drawn(tuple(figures), sources.excluded, folder)


def _tuned(tuning: Tuning, wanted: Sequence[int]) -> Tuning:
    """Return the settings of a caller's, each within its range and of some figure that is drawn."""
    for name in tuning.given:
        if not set(TUNED[name]) & set(wanted):
            some = TUNED[name]
            raise ArgumentError(
                f"`{name}` is of the simulated figures, {some[0]} to {some[-1]}, and none of them is "
                "drawn; leave it out"
            )
    checked(tuning.of(PAPER_RUN))
    return tuning


def draw(number: int, sources: Sources, *, tuning: Tuning | None = None, **options: Any) -> Figure:
    """Return one figure; what closers and simulations warned of is among its notes."""
    module: Callable[..., Figure] = import_module(FIGURES[number]).figure
    if tuning is not None and number in TUNED["temperature"]:
        options["tuning"] = tuning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClosureWarning)
        warnings.simplefilter("always", SimulationWarning)
        figure = module(sources, **options)
    noted = (ClosureWarning, SimulationWarning)
    told = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, noted))
    for other in caught:
        if other.category is not ClosureWarning:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return replace(figure, notes=(*figure.notes, *told))


def _described(figure: Figure) -> dict[str, Any]:
    return {
        "figure": figure.number,
        "title": figure.title,
        "claim": figure.claim,
        "findings": plain(figure.findings),
        "sources": list(figure.sources),
        "notes": list(figure.notes),
    }


def _files(figure: Figure, *, drawn: bool = True) -> list[tuple[str, str | bytes]]:
    """Return the names of a figure's files, and what is in them (nothing unless `drawn`)."""
    document = {**stamp(), **_described(figure), "numbers": plain(figure.numbers)}
    drawn_svg = cache(lambda: theme.svg(figure.chart))
    makers: list[tuple[str, Callable[[], str | bytes]]] = [
        (file_name(figure, "svg"), drawn_svg),
        (file_name(figure, "svg", "dark"), lambda: darkened(drawn_svg())),
        (file_name(figure, "pdf"), lambda: theme.pdf(figure.chart)),
        (file_name(figure, "png"), lambda: theme.png(figure.chart)),
        (file_name(figure, "json"), lambda: json.dumps(document, indent=1, allow_nan=False)),
    ]
    for table, rows in figure.tables.items():
        makers.append((file_name(figure, "csv", table), lambda rows=rows: _csv(rows)))  # type: ignore[misc]
    return [(name, maker() if drawn else "") for name, maker in makers]


def _csv(rows: Rows) -> str:
    out = io.StringIO()
    fields = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return out.getvalue()


def _put(path: Path, content: str | bytes) -> None:
    raw = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(raw)
