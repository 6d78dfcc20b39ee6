"""`modgap advise`: one paragraph, and the command to run next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modgap.cli._inputs import (
    DrawsOption,
    Gallery,
    JsonOption,
    NoiseOption,
    Queries,
    SeedOption,
)
from modgap.cli._task import TaskInputs, takes_task_inputs

if TYPE_CHECKING:
    from modgap.evaluation.tasks import Task


@takes_task_inputs
def advise(
    queries: Queries,
    gallery: Gallery,
    inputs: TaskInputs,
    noise: NoiseOption = None,
    answers_may_change: Annotated[
        bool,
        typer.Option(
            "--answers-may-change",
            help="Also consider closers that change some noise-free answers.",
        ),
    ] = False,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Say which closer to use, why, and which command to run next.

    The advice rests on these embeddings: how many dimensions the gallery spans, which side the
    noise acts on, and, where answers may change, closers fitted on half of the queries and judged
    on the other half. Of several galleries or directions the first one is judged.

    Examples
    --------
      modgap advise --queries images.npy --gallery texts.npy --noise int8
      modgap advise --queries images.npy --gallery captions.npy --paired --answers-may-change
    """
    from modgap.cli._console import print_json, progress, say, say_command
    from modgap.cli._inputs import fill_in, parse_noises
    from modgap.evaluation import advice

    noises = parse_noises(noise)
    task = inputs.load(queries, gallery)
    wanted = "may-change" if answers_may_change else "same"
    with progress("looking", unit="", shown=not json):
        found = advice.advise(_queries_first(task), noises, answers=wanted, draws=draws, seed=seed)
    extra = _gallery_option(task, inputs)
    command = fill_in(found.command + extra, {"QUERIES": queries, "GALLERY": gallery})
    if json:
        print_json({**found.to_dict(), "command": command})
        return
    say(found.text)
    say()
    say_command(command)


def _queries_first(task: Task) -> Task:
    """Return the task with the direction that the caller named first."""
    from modgap.evaluation import tasks

    if task.problems[0].name != "gallery -> queries":
        return task
    return tasks.Task(task.kind, task.metric, task.problems[::-1])


def _gallery_option(task: Task, inputs: TaskInputs) -> str:
    """Return what the next command needs in order to take the gallery that was judged."""
    if task.problems[0].gallery.ndim == 3:
        return " --pool"
    if inputs.template is None and (inputs.both_ways or len(task.problems) == 1):
        return ""
    return f" --template {inputs.template or 0}"
