"""The report: a task as a plain dictionary (`summarize`), and that as one HTML page (`write_report`).

README.md beside this file explains the design.
"""

from modgap.report.compare import (
    compare,
    comparison_csv,
    comparison_latex,
    comparison_table,
    read_study,
)
from modgap.report.render import write_comparison, write_report
from modgap.report.summarize import summarize, table

__all__ = [
    "compare",
    "comparison_csv",
    "comparison_latex",
    "comparison_table",
    "read_study",
    "summarize",
    "table",
    "write_comparison",
    "write_report",
]
