"""Probabilities on the command line: what is asked for, and the table of what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modgap.evaluation.reliability import Calibrations


def check_scale(scale: float | None, bias: float | None, *, csv: bool) -> None:
    """Raise an ArgumentError for options of probabilities that say nothing together."""
    from modgap.errors import ArgumentError

    if bias is not None and scale is None:
        raise ArgumentError("`--logit-bias` needs `--logit-scale`, which it is added after")
    if csv and scale is not None:
        raise ArgumentError(
            "`--csv` is a table of closers and noises; take --json for `--logit-scale`"
        )


def print_calibration(found: Calibrations) -> None:
    """Print one table a problem: how well probabilities agree with what comes true."""
    from modgap.cli._console import figure, print_table, say
    from modgap.io._guard import shown

    columns = [("closer", "name"), ("scale", "number"), ("confi-\ndence", "number")]
    columns += [("accu-\nracy", "number"), ("error", "number"), ("±", "number")]
    columns += [("by\nchance", "number"), ("log\nloss", "number"), ("Brier", "number")]
    for problem in dict.fromkeys(row.problem for row in found):
        cells = []
        for row in found:
            if row.problem == problem:
                fitted = "" if row.scale == "given" else " fitted"
                values = (row.confidence, row.accuracy, row.ece, row.ece_stderr, row.ece_chance)
                cells.append(
                    [row.label + fitted, f"{row.logit_scale:.4g}"]
                    + [figure(value) for value in (*values, row.nll, row.brier)]
                )
        print_table(
            columns, cells, title=f"{shown(problem)}: probabilities against what comes true"
        )
    say(
        f"Error: the mean of |accuracy - confidence| over {found.settings['bins']} bins of equally many "
        "queries, its standard error, and what chance alone would make of it. Fitted: the scale that suits "
        "one half of the queries, judged on the other, both ways round."
    )
