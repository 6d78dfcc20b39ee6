"""The report: a task as a plain dictionary (`summarize`), and that as one HTML page (`write_report`).

README.md beside this file explains the design.
"""

from modgap.report.render import write_report
from modgap.report.summarize import summarize, table

__all__ = ["summarize", "table", "write_report"]
