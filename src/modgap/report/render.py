"""From the report's dictionary to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modgap.charts.clouds import PATHS, way_picture
from modgap.report import charts
from modgap.report.pages import figure_text, filled, page_script, write_page
from modgap.report.words import brief, printable, said

__all__ = ["report_page", "write_comparison", "write_report"]

_TEMPLATE = "report.html.j2"
_KINDS = {
    "zero-shot": "zero-shot classification",
    "search": "search without labels",
    "paired-retrieval": "retrieval between pairs",
    "multiple-choice": "multiple choice",
    "mixed-retrieval": "retrieval from a gallery of both modalities",
}
#: Tasks whose answers are lists: what codes find of ten says more there than the first of them.
_LISTS = ("search", "paired-retrieval", "mixed-retrieval")
_METRICS = {"euclidean": "Euclidean distance", "ip": "inner product", "cosine": "cosine"}


def write_report(summary: Mapping[str, Any], path: str | Path) -> Path:
    r"""Write a report as one HTML file, and return its path.

    The page needs no network: charts are inline SVG, style and script are inline, and without the script
    nothing is missing but what the slider moves. What is no visible character in a name is written out
    (``\x00``). It appears whole or not at all.

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
    return write_page(report_page(summary), path)


def write_comparison(found: Mapping[str, Any], path: str | Path) -> Path:
    """Write what `compare` found as one HTML file, and return its path; as `write_report` otherwise."""
    found = printable(found)
    for row in found["rows"]:
        row |= {key: brief(row[key]) for key in ("name", "problem")}
    panels = [
        {"noise": noise, "svg": chart, "words": charts.survival_words(found["rows"], noise)}
        for noise in found["noises"]
        if (chart := charts.survival_chart(found["rows"], noise)) is not None
    ]
    page = filled(
        "comparison.html.j2",
        {
            **found,
            "title": brief(found["title"]),
            "panels": panels,
            "studies": len({row["name"] for row in found["rows"]}),
        },
    )
    return write_page(page, path)


def report_page(summary: Mapping[str, Any]) -> str:
    """Return a report as the text of one HTML page; see `write_report`."""
    summary = printable(summary)
    templates, closer = summary["templates"], summary["closer"]
    listed = summary["task"]["kind"] in _LISTS
    values = dict(
        **{"inputs": [], "words": None, **summary},
        kind=_KINDS.get(summary["task"]["kind"], summary["task"]["kind"]),
        metric=_METRICS.get(summary["task"]["metric"], summary["task"]["metric"]),
        closed=_closed(closer),
        notes=[
            text.removeprefix("note: ") for text in summary["remarks"] if text.startswith("note: ")
        ],
        warnings=[text for text in summary["remarks"] if not text.startswith("note: ")],
        views=[_view(problem, closer, listed=listed) for problem in summary["problems"]],
        template_chart=templates and charts.template_chart(templates, closer["label"]),
        script=page_script("way.js"),
    )
    return filled(_TEMPLATE, values)


def _closed(closer: Mapping[str, Any]) -> str:
    """Return the page's closer as charts name it."""
    label: str = closer["label"]
    return label + ("" if closer["recommended"] else ", not recommended")


def _view(problem: Mapping[str, Any], closer: Mapping[str, Any], *, listed: bool) -> dict[str, Any]:
    """Return a problem's charts."""
    closed = _closed(closer)
    recall = listed and any(noise["recall_after"] is not None for noise in problem["noises"])
    return {
        "way": _way(problem, closed, listed=listed),
        "recall": recall,
        "noises": charts.noise_chart(problem["noises"], f"closed ({closed})", recall=recall),
        "moves": charts.moves_chart(problem["moves"]),
        "bits": problem["bits"] and charts.bits_panels(problem["bits"]),
    }


def _way(problem: Mapping[str, Any], closed: str, *, listed: bool) -> dict[str, Any]:
    """Return the picture with the slider: the clouds at each stop, and the figures beside them."""
    sides, way = problem["sides"], problem["way"]
    picture = way_picture(
        problem["clouds"],
        f"Scatter plot of {sides['queries']} (queries) and {sides['gallery']} (items), along the gap and "
        f"across it, closed with {closed}; dashed outlines: before",
    )
    figures = [
        (label, [figure_text(value) for value in values])
        for label, values in _readings(problem, listed=listed)
        if any(value is not None for value in values)
    ]
    stops = [_stop(alpha, closed) for alpha in way["alphas"]]
    return {
        "svg": picture["svg"],
        "figures": figures,
        "stops": stops,
        "start": picture["start"],
        "first": way["alphas"].index(0.0),
        "data": {
            "frames": picture["frames"],
            "start": picture["start"],
            "paths": PATHS,
            "stops": stops,
            "figures": [values for _, values in figures],
        },
    }


def _readings(problem: Mapping[str, Any], *, listed: bool) -> list[tuple[str, list[Any]]]:
    """Return the figures beside the picture: what each is, and its value at every stop."""
    way = problem["way"]
    found = [("of the answers stay, without noise", way["agreement"])]
    if way["noise"] is not None:
        found.append((f"of them survive {said(way['noise'])}", way["retention"]))
    if way["code"] is not None:
        code = said(way["code"])
        if listed and any(value is not None for value in way["code_recall"]):
            found.append((f"of the ten nearest are found under {code}", way["code_recall"]))
        else:
            found.append((f"of them survive {code}", way["code_retention"]))
    found.append(("of the answers are right, without noise", way["clean_accuracy"]))
    if way["bits_won"] is not None:
        found.append(("bits a coordinate won back", way["bits_won"]))
    return found


def _stop(alpha: float, closed: str) -> str:
    """Return what a stop is called."""
    if alpha == 0.0:
        return "as it is"
    if alpha == 1.0:
        return f"closed with {closed}"
    return f"{alpha:g} of the way" if 0 < alpha < 1 else f"alpha {alpha:g}"
