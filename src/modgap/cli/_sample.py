"""Which queries a command judges on, and what it says of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import checked_draws

if TYPE_CHECKING:
    from modgap.evaluation.tasks import Task

SampleOption = Annotated[
    str | None,
    typer.Option(
        "--sample",
        metavar="N|all",
        help="Queries to judge on, drawn at random; the gallery stays whole.  [default: all, fewer where "
        "the gallery is large, which is said]",
    ),
]
FewerDrawsOption = Annotated[
    int | None,
    typer.Option(
        "--draws",
        metavar="N",
        callback=checked_draws,
        help="Draws for noise that has to be sampled.  [default: 100, fewer where the gallery is large]",
    ),
]


def drawn_of(task: Task, word: str | None, seed: int) -> tuple[Task, dict[str, Any] | None]:
    """Return the task with the queries to judge on, and what is to be said of them, None for all.

    Raises
    ------
    ArgumentError
        `word` is neither a number of queries, at least 2, nor "all".
    """
    from modgap._core.checks import check_count
    from modgap.evaluation.effort import affordable_queries, sample_of

    text = "" if word is None else word.strip()
    if word is None:
        count = affordable_queries(task)
    elif text == "all":
        return task, None
    else:
        count = check_count(int(text) if text.isdecimal() else text, "--sample", low=2)
    drawn = task.judged_on(count, seed=check_count(seed, "seed", low=0))
    return drawn, sample_of(drawn, task, seed)


def say_sample(sample: dict[str, Any] | None) -> None:
    """Say on how many queries everything was judged, and what error that brings."""
    from modgap.cli._console import figure, say

    if sample is not None:
        say(
            f"Judged on {sample['queries']:,} of {sample['of']:,} queries, drawn with seed "
            f"{sample['seed']}: standard error of a share at most {figure(sample['largest_stderr'])}, less "
            "for differences, since all closers answer the same queries; --sample says how many."
        )


def row_of_all(task: Task, row: int) -> int:
    """Return the place among all queries of one that is judged on."""
    rows = task.problems[0].judged_rows
    return row if rows is None else int(rows[row])
