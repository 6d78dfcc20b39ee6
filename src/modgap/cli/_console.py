"""What every command prints with: tables and sentences on stdout, progress on stderr, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

#: Set by ``modgap --quiet``.
QUIET: ContextVar[bool] = ContextVar("quiet", default=False)

#: Tables are laid out for this many columns; narrower terminals wrap lines themselves.
LEAST_WIDTH = 80


def console() -> Console:
    """Return a console on stdout: styled on a terminal, plain text in a pipe."""
    from rich.console import Console

    class Plain(Console):
        """A console that leaves a reader that went away to `main`; rich would exit with code 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    made = Plain(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if made.width < LEAST_WIDTH:
        made.width = LEAST_WIDTH
    return made


def print_json(document: Any) -> None:
    """Print one JSON document and nothing else."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as CSV with a header; absent figures are empty, numbers have all their digits."""
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def say(text: str = "") -> None:
    """Print a paragraph, wrapped on a terminal and on one line in a pipe."""
    out = console()
    out.print(text, soft_wrap=not out.is_terminal)


def say_command(words: str) -> None:
    """Print a command to copy: never wrapped."""
    console().print(f"  {words}", soft_wrap=True)


def print_table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Print a table whose figures are never cut.

    Parameters
    ----------
    columns : sequence of (header, kind)
        Kinds: "name" (left), "number" (right), "text" (left, the only kind that wraps).
    rows : sequence of sequence of str
    title, caption : str, optional
        A line above, a line below.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    wraps = any(kind == "text" for _, kind in columns)
    vertical: Literal["top", "bottom"] = "top" if wraps else "bottom"
    for header, kind in columns:
        table.add_column(
            header,
            justify="right" if kind == "number" else "left",
            no_wrap=kind != "text",
            overflow="fold",  # a long word goes on below, whole
            vertical=vertical,
        )
    for row in rows:
        table.add_row(*row)
    out = console()
    if title:
        out.print(title, style="bold", soft_wrap=not out.is_terminal)
    _print_plainly(out, table)
    if caption:
        out.print(caption, style="dim", soft_wrap=not out.is_terminal)
    out.print()


def _print_plainly(out: Console, table: Table) -> None:
    """Print a table, in a pipe without the blanks that fill up its last column."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def figure(value: Any) -> str:
    """Return a figure with three decimals; tiny ones with two digits, absent ones and NaN as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    number = float(value)
    if number != number:
        return "-"
    return f"{number:.1e}" if 0 < abs(number) < 0.0005 else f"{number:.3f}"


class Job:
    """Work that is under way: call it with what was just done, or name the stage that begins.

    This one draws nothing; `progress` yields one that does where somebody can see it.
    """

    def __call__(self, done: int) -> None:
        """Add to the work that is done."""

    def stage(self, text: str, *, total: int | None = None) -> None:
        """Begin another stage, from nothing done, of `total` if that is known."""

    def note(self, line: str) -> None:
        """Show a line that stays, above the bar."""


class _DrawnJob(Job):
    def __init__(self, bar: Progress, text: str, total: int | None) -> None:
        self._bar = bar
        self._task = bar.add_task(text, total=total)

    def __call__(self, done: int) -> None:
        self._bar.advance(self._task, done)

    def stage(self, text: str, *, total: int | None = None) -> None:
        self._bar.reset(self._task, description=text, total=total)

    def note(self, line: str) -> None:
        self._bar.console.print(line)


@contextmanager
def progress(
    text: str, *, total: int | None = None, unit: str = "rows", shown: bool = True
) -> Iterator[Job]:
    """Yield the job to tell of the work done; draws a bar on a terminal's stderr.

    The bar shows the stage, the share that is done, and the time that has passed and is left.

    Parameters
    ----------
    text : str
        What is being done.
    total : int, optional
        How much work there is; without it the bar only moves, and counts.
    unit : str
        What is counted.
    shown : bool
        False for ``--json``.
    """
    if not shown or QUIET.get() or not sys.stderr.isatty():
        yield Job()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Passed
    from rich.progress import TimeRemainingColumn as Left

    out = Console(stderr=True, markup=False, highlight=False)
    counted = TextColumn("{task.completed:,.0f} " + unit)
    share = TaskProgressColumn(show_speed=True)  # the speed where no share is known
    columns = [TextColumn("{task.description}"), BarColumn(), share, counted, Passed(), Left()]
    with Progress(*columns, console=out, transient=True) as bar:
        yield _DrawnJob(bar, text, total)
