"""`modgap advise`: one paragraph, and the command to run next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modgap.cli._inputs import (
    AnswersOption,
    ClassesOption,
    CompanionsOption,
    DrawsOption,
    Gallery,
    JsonOption,
    LabelsOption,
    MetricOption,
    NoiseOption,
    OwnersOption,
    PairedOption,
    PartnersOption,
    Queries,
    SeedOption,
    TemplateOption,
    TemplatesOption,
)

if TYPE_CHECKING:
    from modgap.tasks import Task


def advise(
    queries: Queries,
    gallery: Gallery,
    labels: LabelsOption = None,
    paired: PairedOption = False,
    owners: OwnersOption = None,
    answers: AnswersOption = None,
    companions: CompanionsOption = None,
    partners: PartnersOption = None,
    metric: MetricOption = "euclidean",
    template: TemplateOption = None,
    classes: ClassesOption = None,
    templates: TemplatesOption = None,
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
    from modgap import advice
    from modgap.cli._console import print_json, progress, say, say_command
    from modgap.cli._inputs import fill_in, load_task, parse_noises, read_classes

    noises = parse_noises(noise)
    task = load_task(
        queries,
        gallery,
        labels=labels,
        paired=paired,
        owners=owners,
        answers=answers,
        companions=companions,
        partners=partners,
        metric=metric,
        template=template,
        classes=read_classes(classes),
        templates=templates,
    )
    wanted = "may-change" if answers_may_change else "same"
    with progress("looking", unit="", shown=not json):
        found = advice.advise(_queries_first(task), noises, answers=wanted, draws=draws, seed=seed)
    extra = _gallery_option(task, template, len(task.problems) > 1 and not (paired or owners))
    command = fill_in(found.command + extra, {"QUERIES": queries, "GALLERY": gallery})
    if json:
        print_json({**found.to_dict(), "command": command})
        return
    say(found.text)
    say()
    say_command(command)


def _queries_first(task: Task) -> Task:
    """Return the task with the direction that the caller named first."""
    from modgap import tasks

    if task.problems[0].name != "gallery -> queries":
        return task
    return tasks.Task(task.kind, task.metric, task.problems[::-1])


def _gallery_option(task: Task, template: int | None, several: bool) -> str:
    """Return what the next command needs in order to take the gallery that was judged."""
    if task.problems[0].gallery.ndim == 3:
        return " --pool"
    if template is None and not several:
        return ""
    return f" --template {template or 0}"
