"""The report: a task as a plain dictionary (`summarize`), and that as one HTML page (`write_report`).

The room can be called, as a notebook would: `modgap.report(task)` is a `Report`, which shows the page and
saves it. README.md beside this file explains the design.
"""

import sys
from types import ModuleType
from typing import Any

from modgap.report.compare import (
    compare,
    comparison_csv,
    comparison_latex,
    comparison_table,
    read_study,
)
from modgap.report.notebook import Report, report
from modgap.report.render import report_page, write_comparison, write_report
from modgap.report.summarize import summarize, table

__all__ = [
    "Report",
    "compare",
    "comparison_csv",
    "comparison_latex",
    "comparison_table",
    "read_study",
    "report",
    "report_page",
    "summarize",
    "table",
    "write_comparison",
    "write_report",
]


class _Room(ModuleType):
    """The module of this room, which can be called too."""

    def __call__(self, task: Any, **options: Any) -> Report:
        """Return the report of a task; see `notebook.report`."""
        return report(task, **options)


sys.modules[__name__].__class__ = _Room
