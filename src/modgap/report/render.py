"""From the report's dictionary to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from modgap._core.extras import require
from modgap.io.atomic import atomic_path
from modgap.report import charts
from modgap.report.words import said, share

__all__ = ["figure_text", "page_style", "write_comparison", "write_report"]

_TEMPLATE = "report.html.j2"
_KINDS = {
    "zero-shot": "zero-shot classification",
    "search": "search without labels",
    "paired-retrieval": "retrieval between pairs",
    "multiple-choice": "multiple choice",
    "mixed-retrieval": "retrieval from a gallery of both modalities",
}
_METRICS = {"euclidean": "Euclidean distance", "ip": "inner product", "cosine": "cosine"}


def write_report(summary: Mapping[str, Any], path: str | Path) -> Path:
    """Write a report as one HTML file, and return its path.

    The page needs no network and no script: charts are inline SVG, styles are inline. It appears
    whole or not at all.

    Parameters
    ----------
    summary : dict
        From `summarize`.
    path : str or Path

    Raises
    ------
    MissingExtraError
        The extra `report` is not installed; the message holds the pip command.
    FormatError
        The folder is missing or cannot be written.
    """
    target = Path(path)
    page = _page(summary)
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def write_comparison(found: Mapping[str, Any], path: str | Path) -> Path:
    """Write what `compare` found as one HTML file, and return its path; as `write_report` otherwise."""
    target = Path(path)
    panels = [
        {"noise": noise, "svg": chart, "words": charts.survival_words(found["rows"], noise)}
        for noise in found["noises"]
        if (chart := charts.survival_chart(found["rows"], noise)) is not None
    ]
    page = _rendered(
        "comparison.html.j2",
        {**found, "panels": panels, "studies": len({row["name"] for row in found["rows"]})},
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _rendered(name: str, values: Mapping[str, Any]) -> str:
    """Return a template of ours filled in; every value is escaped."""
    jinja2 = require("jinja2", "report")
    for module in ("altair", "vl_convert"):
        require(module, "report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(figure=figure_text, said=said, share=share)
    folder = files("modgap.report") / "templates"
    template = environment.from_string((folder / name).read_text(encoding="utf-8"))
    page: str = template.render(style=jinja2.utils.markupsafe.Markup(page_style()), **values)
    return page


def _page(summary: Mapping[str, Any]) -> str:
    templates, closer = summary["templates"], summary["closer"]
    values = dict(
        **{"inputs": [], "words": None, **summary},
        kind=_KINDS.get(summary["task"]["kind"], summary["task"]["kind"]),
        metric=_METRICS.get(summary["task"]["metric"], summary["task"]["metric"]),
        closed=_closed(closer),
        views=[_view(problem, closer) for problem in summary["problems"]],
        template_chart=templates and charts.template_chart(templates, closer["label"]),
    )
    return _rendered(_TEMPLATE, values)


def page_style() -> str:
    """Return the style element of the report's page, for other pages of the same look."""
    style = (files("modgap.report") / "templates" / "page.css").read_text(encoding="utf-8")
    return f"<style>\n{style}</style>"


def _closed(closer: Mapping[str, Any]) -> str:
    """Return the page's closer as charts name it."""
    label: str = closer["label"]
    return label + ("" if closer["recommended"] else ", not recommended")


def _view(problem: Mapping[str, Any], closer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem's charts."""
    closed = _closed(closer)
    sweep = problem["sweep"]
    return {
        "panels": charts.cloud_panels(
            problem["clouds"], problem["sides"], f"After closing ({closed})"
        ),
        "noises": charts.noise_chart(problem["noises"], f"closed ({closed})"),
        "moves": charts.moves_chart(problem["moves"]),
        "sweep": sweep and charts.sweep_chart(sweep),
        "bits": problem["bits"] and charts.bits_panels(problem["bits"]),
    }


def figure_text(value: Any, digits: int = 3) -> str:
    """Return a number for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != 0 and abs(value) < 10**-digits:
            return f"{value:.1e}"
        return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)
