"""A report as an object: shown by notebooks, saved as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from modgap.evaluation.tasks import Task
from modgap.report.render import report_page, write_report
from modgap.report.summarize import summarize, table

__all__ = ["Report", "report"]

#: Of the frame that a notebook shows the page in, in pixels.
_HEIGHT = 900


@dataclass(frozen=True, repr=False)
class Report:
    """What `summarize` found; notebooks show it as the page.

    Attributes
    ----------
    summary : dict
        As `summarize` returns it.
    """

    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The one sentence that says it all."""
        return str(self.summary["verdict"])

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path; see `write_report`."""
        return write_report(self.summary, path)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a plain dict."""
        return dict(self.summary)

    def table(self) -> list[dict[str, Any]]:
        """Return the figures as flat rows, one per problem, closer and noise."""
        return table(self.summary)

    def __repr__(self) -> str:
        return f"Report({self.summary['title']!r}: {self.verdict})"

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own: its style and script touch nothing else."""
        page = escape(report_page(self.summary), quote=True)
        return (
            f'<iframe srcdoc="{page}" title="modgap report" sandbox="allow-scripts" '
            f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
        )


def report(task: Task, **options: Any) -> Report:
    """Return the report of a task; `modgap.report(task)` is short for it.

    Parameters
    ----------
    task : Task
    **options
        As `summarize` takes them: title, names, classes, query_names, noises, and so on.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        As `summarize`.

    Examples
    --------
    >>> from modgap import load_sample
    >>> sample = load_sample()
    >>> found = report(sample.task(), classes=sample.classes, noises=(), alphas=())
    >>> found.summary["task"]["rank"]
    9
    """
    return Report(summarize(task, **options))
