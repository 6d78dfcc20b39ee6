"""Draw figures and write them: SVG, PNG, CSV and JSON of each, and a page and a table over all."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from modgap._core.json import plain, stamp
from modgap.charts import theme
from modgap.errors import ArgumentError, ClosureWarning, FormatError
from modgap.io.atomic import atomic_path
from modgap.paper.figures.page import file_name, index, markdown
from modgap.paper.figures.record import Figure, Rows
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
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """Draw figures, and return what each says about the paper's claims.

    Writes `figureNN.svg`, `figureNN.png`, `figureNN.json` (the findings and their numbers) and one
    `figureNN_TABLE.csv` for each table that is drawn; and over all `index.html` and `figures.md`.

    Parameters
    ----------
    numbers : sequence of int, or None
        Figures to draw, 1 to 10; all by default.
    out : str or Path
        Folder; made if missing.
    data : str or Path, optional
        Folder of datasets, as in `find_sources`.
    progress : callable, optional
        Called with 1 after each figure.

    Raises
    ------
    ArgumentError
        A figure that does not exist.
    FormatError
        Data that cannot be read, or a folder that cannot be written.
    MissingExtraError
        The extra `report` is not installed.
    """
    wanted = sorted(FIGURES) if numbers is None else list(dict.fromkeys(int(n) for n in numbers))
    unknown = [n for n in wanted if n not in FIGURES]
    if unknown:
        raise ArgumentError(f"`numbers` must lie between 1 and {max(FIGURES)}; got {unknown}")
    theme.altair()
    sources = find_sources(data)
    folder = _folder(Path(out))
    figures = []
    for number in wanted:
        figure = draw(number, sources)
        for name, content in _files(figure):
            _put(folder / name, content)
        figures.append(figure)
        if progress is not None:
            progress(1)
    _put(folder / "index.html", index(figures, sources.excluded))
    _put(folder / "figures.md", markdown(figures, sources.excluded))
    return Drawn(tuple(figures), sources.excluded, folder)


def draw(number: int, sources: Sources, **options: Any) -> Figure:
    """Return one figure; that a closer had nothing to close is among its notes."""
    module: Callable[..., Figure] = import_module(FIGURES[number]).figure
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClosureWarning)
        figure = module(sources, **options)
    told = dict.fromkeys(str(w.message) for w in caught if w.category is ClosureWarning)
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
    makers: list[tuple[str, Callable[[], str | bytes]]] = [
        (file_name(figure, "svg"), lambda: theme.svg(figure.chart)),
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


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"cannot make the folder `{out}`: {error.strerror or error}") from None
    return out


def _put(path: Path, content: str | bytes) -> None:
    raw = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(raw)
