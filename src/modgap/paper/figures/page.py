"""The page and the table over all figures: every sub-claim, its verdict, and the figures behind it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from modgap import __version__
from modgap.paper.figures.record import CONTRADICTED, SUPPORTED, UNTESTED, Figure, Finding
from modgap.paper.figures.sources import Excluded

__all__ = ["file_name", "index", "markdown"]

READING = (
    "Each claim of a figure is split until the data can say yes or no to it. “a ± b” is a mean over "
    "queries and its standard error; a difference counts beyond two of them, and one within them is "
    f"“{UNTESTED}”, as is what the data at hand cannot show. Decisions are by Euclidean distance, as "
    "in the paper, unless the line says otherwise."
)
_MARKS = {SUPPORTED: "✓", CONTRADICTED: "✗", UNTESTED: "–"}


def file_name(figure: Figure, ending: str, table: str | None = None) -> str:
    """Return the name of a figure's file."""
    return f"figure{figure.number:02d}{'' if table is None else '_' + table}.{ending}"


def markdown(figures: Sequence[Figure], excluded: Sequence[Excluded] = ()) -> str:
    """Return the table of all findings, and how each figure was made."""
    lines = [
        READING,
        "",
        "| figure | claim | verdict | figures and errors |",
        "| --- | --- | --- | --- |",
    ]
    for figure, finding in _all(figures):
        cells = (
            str(figure.number),
            finding.claim,
            f"**{finding.verdict}**",
            "; ".join(finding.evidence),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", *(_line(one) for one in excluded)]
    for figure in figures:
        lines += [
            "", f"## Figure {figure.number}: {figure.title}", "",
            f"The paper: {figure.claim}.", "", f"Made from {'; '.join(figure.sources)}.",
            *(f"\n* {note}" for note in figure.notes),
        ]  # fmt: skip
    # a name in angle brackets would be a tag in Markdown too
    return "\n".join(lines).rstrip().replace("&", "&amp;").replace("<", "&lt;") + "\n"


def _line(one: Excluded) -> str:
    return f"Left out: {one.name}, {one.reason}.\n"


def _all(figures: Sequence[Figure]) -> Iterator[tuple[Figure, Finding]]:
    for figure in figures:
        for finding in figure.findings:
            yield figure, finding


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --quiet: #5b6772; --line: #d9dee3; --back: #fff;
  --good: #00704f; --bad: #a63603; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --quiet: #a5b1bc; --line: #3b4650;
  --back: #14191e; --good: #4cc79c; --bad: #ff9b6a; } }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 60px; color: var(--ink);
  background: var(--back);
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { line-height: 1.2; } h2 { margin: 40px 0 6px; } a { color: inherit; }
p, li, h2, td { overflow-wrap: anywhere; } p { max-width: 78ch; }
.quiet { color: var(--quiet); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: 7px 10px 7px 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; } th:nth-child(2) { width: 27%; }
td:first-child { overflow-wrap: normal; }
td.verdict { white-space: nowrap; overflow-wrap: normal; font-weight: 650; }
.supported { color: var(--good); } .contradicted { color: var(--bad); } .untested { color: var(--quiet); }
figure { margin: 14px 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 720px) {
  thead { display: none; } tr { display: block; padding: 10px 0; border-bottom: 1px solid var(--line); }
  td { display: block; border: 0; padding: 1px 0; }
  td:first-child::before { content: "Figure "; } figure img { max-width: none; width: 860px; } }
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""


def index(figures: Sequence[Figure], excluded: Sequence[Excluded] = ()) -> str:
    """Return the page: the table of all findings on top, then every figure."""
    out = "".join(
        f"<li>{html.escape(one.name)}: {html.escape(one.reason)}</li>" for one in excluded
    )
    count = {v: sum(f.verdict == v for _, f in _all(figures)) for v in _MARKS}
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Figures, modgap</title><style>{_STYLE}</style></head><body><main>",
        "<h1>The paper's figures, on the data at hand</h1>",
        "<p>After Chowers, Naparstek, Barzelay and Weiss, “Is the Modality Gap a Bug or a Feature? "
        f"A Robustness Perspective” (CVPR 2026). {html.escape(READING)}</p>",
        "<p>" + ", ".join(f"{_mark(v)} {n}" for v, n in count.items()) + ".</p>",
        "<table><thead><tr><th>Figure</th><th>Claim</th><th>Verdict</th><th>Figures and errors</th>"
        "</tr></thead><tbody>",
        *(_row(figure, finding) for figure, finding in _all(figures)),
        "</tbody></table>",
        f'<p class="quiet">Left out of every figure:</p><ul class="quiet">{out}</ul>'
        if out
        else "",
        *(_section(figure) for figure in figures),
        '<p class="quiet">For LaTeX: <a href="figures.tex">figures.tex</a>, which captions the PDFs. The '
        f'table as Markdown: <a href="figures.md">figures.md</a>. modgap {__version__}</p>'
        "</main></body></html>",
    ]
    return "\n".join(parts)


def _mark(verdict: str) -> str:
    kind = "untested" if verdict == UNTESTED else verdict
    return f'<span class="{kind}">{_MARKS[verdict]} {verdict}</span>'


def _row(figure: Figure, finding: Finding) -> str:
    e = html.escape
    return (
        f'<tr><td><a href="#figure{figure.number:02d}">{figure.number}</a></td>'
        f'<td>{e(finding.claim)}</td><td class="verdict">{_mark(finding.verdict)}</td>'
        f"<td>{'<br>'.join(map(e, finding.evidence))}</td></tr>"
    )


def _section(figure: Figure) -> str:
    e = html.escape
    notes = "".join(f"<li>{e(note)}</li>" for note in figure.notes)
    files = [
        (ending.upper(), file_name(figure, ending)) for ending in ("svg", "pdf", "png", "json")
    ]
    files += [(f"CSV ({table})", file_name(figure, "csv", table)) for table in figure.tables]
    links = ", ".join(f'<a href="{name}">{e(word)}</a>' for word, name in files)
    alt = "; ".join(f"{f.claim}: {f.verdict}" for f in figure.findings)
    return (
        f'<section id="figure{figure.number:02d}"><h2>Figure {figure.number}: {e(figure.title)}</h2>'
        f"<p>The paper: {e(figure.claim)}.</p>"
        f'<figure tabindex="0"><picture><source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{file_name(figure, "svg", "dark")}">'
        f'<img src="{file_name(figure, "svg")}" alt="{e(alt)}"></picture></figure>'
        f'<p class="quiet">Made from {e("; ".join(figure.sources))}. {links}.</p>'
        + (f'<ul class="quiet">{notes}</ul>' if notes else "")
        + "</section>"
    )
