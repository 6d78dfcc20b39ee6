"""A study as one compact table: closers down, noises across."""

from __future__ import annotations

from html import escape

from modgap.evaluation.records import NoiseResult, Row, Study

__all__ = ["compact_table", "html_table"]


def compact_table(rows: tuple[Row, ...]) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells: per closer what stays, and per noise the retention.

    Retention, the share of the answers from before closing that survive the noise, is the figure
    that stable wrong answers cannot raise. A star follows a method that is exact here.
    """
    labelled = any(row.clean_accuracy is not None for row in rows)
    headers = ["closer", "agreement", *(["accuracy"] if labelled else [])]
    headers += [result.noise for result in rows[0].results]
    cells = []
    for row in rows:
        cell = [row.label + ("*" if row.exact else ""), f"{row.agreement:.3f}"]
        if labelled:
            cell.append("" if row.clean_accuracy is None else f"{row.clean_accuracy:.3f}")
        cells.append([*cell, *(_retained(result) for result in row.results)])
    return headers, cells


def _retained(result: NoiseResult) -> str:
    return "-" if result.failed else f"{result.retention:.3f}"


def html_table(study: Study) -> str:
    """Return the study's tables as HTML, for notebooks."""
    parts = []
    for gap in study.gaps:
        headers, cells = compact_table(study.of_problem(gap.problem))
        head = "".join(f"<th>{escape(header)}</th>" for header in headers)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
        )
        title = f"{escape(gap.problem)}: retention under noise (* keeps every answer)"
        parts.append(
            f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )
    return "".join(parts)
