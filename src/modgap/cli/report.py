"""`modgap report`: the main job, as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    AlphasOption,
    DrawsOption,
    JsonOption,
    MethodsOption,
    NoiseOption,
    SeedOption,
)
from modgap.cli._task import TaskInputs, takes_task_inputs

if TYPE_CHECKING:
    from modgap.closers.closure import Closure
    from modgap.evaluation.tasks import Task


@takes_task_inputs
def report(
    queries: Annotated[
        str | None, typer.Argument(metavar="[QUERIES]", help="What searches, (m, d).")
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Argument(metavar="[GALLERY]", help="What is searched, (n, d) or (t, n, d)."),
    ] = None,
    *,
    inputs: TaskInputs,
    methods: MethodsOption = None,
    alphas: AlphasOption = None,
    noise: NoiseOption = None,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The page to write, .html.")
    ] = "report.html",
    json: JsonOption = False,
) -> None:
    """Write one page: the gap, closed, and what that does.

    The page measures the gap, closes it in several ways, and shows what that does to the answers,
    clean and under noise, with advice for these embeddings.

    Without arguments it reports on the sample that ships with modgap: images and class texts of
    CIFAR-10 from a small dual encoder. The page is one file and needs no network.

    Examples
    --------
      modgap report
      modgap report images.npy texts.npy --labels labels.npy --out clip.html
      modgap report images.npy captions.npy --paired --noise int8
    """
    from modgap import report as report_module
    from modgap.cli._console import print_json, progress, say
    from modgap.cli._inputs import (
        check_out,
        parse_alphas,
        parse_methods,
        parse_noises,
    )
    from modgap.errors import ArgumentError
    from modgap.io._guard import shown

    if (queries is None) != (gallery is None):
        raise ArgumentError("give both QUERIES and GALLERY, or neither for the sample")
    target = check_out(out, suffixes=(".html", ".htm"))
    settings: dict[str, Any] = {}
    if methods is not None:
        settings["methods"] = _names(parse_methods(methods))
    if alphas is not None:
        settings["alphas"] = parse_alphas(alphas)
    if noise is not None:
        settings["noises"] = parse_noises(noise)
    names: list[str] | None
    if queries is None or gallery is None:
        _refuse(inputs)
        task, title, names = _sample(inputs)
    else:
        title, names = f"{shown(queries)} against {shown(gallery)}", inputs.class_names()
        task = inputs.load(queries, gallery)
    printable = None if names is None else [shown(name) for name in names]
    with progress("reporting", unit="draws", shown=not json) as advance:
        summary = report_module.summarize(
            task,
            title=title,
            classes=printable,
            draws=draws,
            seed=seed,
            progress=advance,
            **settings,
        )
        written = report_module.write_report(summary, target)
    if json:
        print_json(summary)
        return
    for sentence in summary["headline"][:3]:
        say(f"* {sentence}")
    say(f"Report: {written}")


def _names(methods: list[str | Closure]) -> list[str]:
    """Return the methods; a report fits its own closures."""
    from modgap.errors import ArgumentError

    names = [method for method in methods if isinstance(method, str)]
    if len(names) < len(methods):
        raise ArgumentError(
            "`--methods` of a report must name closers, which it fits itself; saved closures go to "
            "modgap evaluate"
        )
    return names


def _refuse(inputs: TaskInputs) -> None:
    """Raise an ArgumentError for inputs that come without QUERIES and GALLERY."""
    from modgap.errors import ArgumentError

    if inputs != TaskInputs(metric=inputs.metric, template=inputs.template):
        raise ArgumentError(
            "options that name inputs need QUERIES and GALLERY before them; without these the "
            "report is about the sample, which has its own"
        )


def _sample(inputs: TaskInputs) -> tuple[Task, str, list[str]]:
    from modgap.samples import load_sample

    sample = load_sample()
    task = sample.task(template=inputs.template or 0, metric=inputs.metric)
    return task, "The sample: CIFAR-10 and a small dual encoder", sample.classes
