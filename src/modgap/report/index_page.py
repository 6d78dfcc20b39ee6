"""A study of indexes as one self-contained HTML page: words, pictures, tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.charts import index_study as charts
from modgap.charts import theme
from modgap.report.charts import fresh_ids
from modgap.report.pages import filled, write_page
from modgap.report.words import printable

if TYPE_CHECKING:
    from modgap.index.records import IndexStudy

__all__ = ["write_index_page"]

_TEMPLATE = "index_study.html.j2"


def write_index_page(
    study: IndexStudy, path: str | Path, *, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write a study of indexes as one HTML file, and return its path.

    The page needs no network and no script: charts are inline SVG, styles are inline. It appears
    whole or not at all.

    Parameters
    ----------
    study : IndexStudy
    path : str or Path
    inputs : dict, optional
        Where queries and gallery come from.

    Raises
    ------
    MissingExtraError
        The extra `report` is not installed; the message holds the pip command.
    FormatError
        The folder is missing or cannot be written.
    """
    return write_page(_page(printable(study.to_dict()), printable(dict(inputs or {}))), path)


def _page(document: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    done = [row for row in document["rows"] if row["failed"] is None]
    depths = document["setting"]["depths"]
    depth = str(max(k for k in depths if k <= 10))
    failures = {
        (row["engine"] + (":" + row["codec"] if row["codec"] else "")): row["failed"]
        for row in document["rows"]
        if row["failed"] is not None
    }
    values = {
        **document,
        "inputs": inputs,
        "done": done,
        "depth": depth,
        "failures": failures,
        "recall": _svg(charts.bytes_chart(done, depth=depth, width=440, height=300)),
        "work": [(name, _svg(chart)) for name, chart in charts.work_charts(done)],
    }
    return filled(_TEMPLATE, values)


def _svg(chart: Any) -> str:
    return fresh_ids(theme.svg(chart))
