"""Draw figures and write them: SVG, PNG, the numbers as JSON, a page each, and an index."""

from __future__ import annotations

import html
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modgap._core.json import plain
from modgap.charts import theme
from modgap.errors import ArgumentError, ClosureWarning, FormatError
from modgap.io.atomic import atomic_path
from modgap.paper.figures.record import Figure, words
from modgap.paper.figures.sources import Sources, find_sources

__all__ = ["FIGURES", "make"]

#: The module of each figure; every one has `figure(sources) -> Figure`.
FIGURES = {number: f"modgap.paper.figures.figure{number:02d}" for number in range(1, 11)}


def make(
    numbers: Sequence[int] | None,
    out: str | Path,
    *,
    data: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Draw figures, and return what each says about the paper's claim.

    Writes `figureNN.svg`, `figureNN.png`, `figureNN.json` (the numbers) and `figureNN.md` (the
    verdict in words) for each, and `index.html` over all that were drawn.

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

    Returns
    -------
    list of dict
        Per figure "figure", "title", "claim", "holds" (True, False, "partly", or None), "verdict",
        "sources", "needs" (what to embed, and how, for a fuller figure; and what a closer warned of)
        and "files".

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
    entries = []
    for number in wanted:
        figure: Figure = _draw(number, sources)
        entries.append(_write(figure, folder))
        if progress is not None:
            progress(1)
    _put(folder / "index.html", _index(entries))
    return entries


def _draw(number: int, sources: Sources) -> Figure:
    """Draw one figure; that a closer had nothing to close is told on its page."""
    draw: Callable[[Sources], Figure] = import_module(FIGURES[number]).figure
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClosureWarning)
        figure = draw(sources)
    told = dict.fromkeys(str(w.message) for w in caught if w.category is ClosureWarning)
    for other in caught:
        if other.category is not ClosureWarning:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return replace(figure, needs=(*figure.needs, *told))


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"cannot make the folder `{out}`: {error.strerror or error}") from None
    return out


def _write(figure: Figure, folder: Path) -> dict[str, Any]:
    name = f"figure{figure.number:02d}"
    entry: dict[str, Any] = {
        "figure": figure.number,
        "title": figure.title,
        "claim": figure.claim,
        "holds": figure.holds,
        "verdict": figure.verdict,
        "sources": list(figure.sources),
        "needs": list(figure.needs),
        "files": [f"{name}.{ending}" for ending in ("svg", "png", "json", "md")],
    }
    document = {**entry, "modgap": version("modgap"), "numbers": plain(figure.numbers)}
    _put(folder / f"{name}.svg", theme.svg(figure.chart))
    _put(folder / f"{name}.png", theme.png(figure.chart))
    _put(folder / f"{name}.json", json.dumps(document, indent=1, allow_nan=False))
    _put(folder / f"{name}.md", _page(entry))
    return entry


def _put(path: Path, content: str | bytes) -> None:
    raw = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(raw)


def _page(entry: dict[str, Any]) -> str:
    name = f"figure{entry['figure']:02d}"
    lines = [
        f"# Figure {entry['figure']}: {entry['title']}", "",
        f"![{entry['title']}]({name}.svg)", "",
        f"**The paper's claim:** {entry['claim']}", "",
        f"**It {words(entry['holds'])}.** {entry['verdict']}", "",
        f"Made from: {'; '.join(entry['sources'])}. The numbers are in `{name}.json`.", "",
        *(f"* {need}" for need in entry["needs"]),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


_STYLE = """
body { margin: 0 auto; max-width: 1000px; padding: 24px; color: #1f2933; background: #fff;
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
section { border-top: 1px solid #d9dee3; margin-top: 32px; }
img { max-width: 100%; height: auto; display: block; margin: 12px 0; }
p { max-width: 78ch; } .quiet { color: #5b6772; font-size: .9rem; }
.mark { font-weight: 650; }
"""


def _index(entries: Sequence[dict[str, Any]]) -> str:
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Figures, modgap</title><style>{_STYLE}</style></head><body>",
        "<h1>The paper's figures, on the data at hand</h1>",
        "<p>After Chowers, Naparstek, Barzelay and Weiss, “Is the Modality Gap a Bug or a Feature? "
        "A Robustness Perspective” (CVPR 2026). Each verdict is computed from the numbers shown.</p>",
        *(_section(entry) for entry in entries),
        f'<p class="quiet">modgap {version("modgap")}</p></body></html>',
    ]
    return "\n".join(parts)


def _section(entry: dict[str, Any]) -> str:
    name, e = f"figure{entry['figure']:02d}", html.escape
    needs = "".join(f"<li>{e(need)}</li>" for need in entry["needs"])
    return (
        f'<section id="{name}"><h2>Figure {entry["figure"]}: {e(entry["title"])}</h2>'
        f'<img src="{name}.svg" alt="{e(entry["verdict"])}">'
        f"<p><b>The paper's claim:</b> {e(entry['claim'])}</p>"
        f'<p><span class="mark">It {words(entry["holds"])}.</span> {e(entry["verdict"])}</p>'
        f'<p class="quiet">Made from: {e("; ".join(entry["sources"]))}. Numbers: '
        f'<a href="{name}.json">{name}.json</a>; <a href="{name}.png">PNG</a>.</p>'
        + (f'<ul class="quiet">{needs}</ul>' if needs else "")
        + "</section>"
    )
