"""`modgap report`: the main job, as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    AlphasOption,
    AnswersOption,
    ClassesOption,
    CompanionsOption,
    DrawsOption,
    JsonOption,
    LabelsOption,
    MethodsOption,
    MetricOption,
    NoiseOption,
    OwnersOption,
    PairedOption,
    PartnersOption,
    SeedOption,
    TemplateOption,
    TemplatesOption,
)

if TYPE_CHECKING:
    from modgap.tasks import Task


def report(
    queries: Annotated[
        str | None, typer.Argument(metavar="[QUERIES]", help="What searches, (m, d).")
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Argument(metavar="[GALLERY]", help="What is searched, (n, d) or (t, n, d)."),
    ] = None,
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
    """Write one page that measures the gap, closes it, and shows what that does to the answers.

    Without arguments it reports on the sample that ships with modgap: images and class texts of
    CIFAR-10 from a small dual encoder. The page is one file and needs no network.

    \b
    Examples:
      modgap report
      modgap report images.npy texts.npy --labels labels.npy --out clip.html
      modgap report images.npy captions.npy --paired --noise int8
    """
    from modgap import report as report_module
    from modgap.cli._console import print_json, progress, say
    from modgap.cli._inputs import (
        check_out,
        load_task,
        parse_alphas,
        parse_methods,
        parse_noises,
        read_classes,
    )
    from modgap.errors import ArgumentError

    if (queries is None) != (gallery is None):
        raise ArgumentError("give both QUERIES and GALLERY, or neither for the sample")
    inputs = {
        "labels": labels,
        "paired": paired,
        "owners": owners,
        "answers": answers,
        "companions": companions,
        "partners": partners,
        "templates": templates,
    }
    target = check_out(out, queries, gallery, suffixes=(".html", ".htm"))
    settings: dict[str, Any] = {}
    if methods is not None:
        settings["methods"] = parse_methods(methods)
    if alphas is not None:
        settings["alphas"] = parse_alphas(alphas)
    if noise is not None:
        settings["noises"] = parse_noises(noise)
    if queries is None or gallery is None:
        task, title, names = _sample(template, metric, {**inputs, "classes": classes})
    else:
        names = read_classes(classes)
        title = f"{queries} against {gallery}"
        task = load_task(
            queries, gallery, metric=metric, template=template, classes=names, **inputs
        )
    with progress("reporting", unit="draws", shown=not json) as advance:
        summary = report_module.summarize(
            task, title=title, classes=names, draws=draws, seed=seed, progress=advance, **settings
        )
        written = report_module.write_report(summary, target)
    if json:
        print_json(summary)
        return
    for sentence in summary["headline"][:3]:
        say(f"* {sentence}")
    say(f"Report: {written}")


def _sample(
    template: int | None, metric: str, inputs: dict[str, Any]
) -> tuple[Task, str, list[str]]:
    """Return the task of the sample; options that name inputs do not go with it."""
    from modgap._validate import check_metric
    from modgap.errors import ArgumentError
    from modgap.samples import load_sample

    given = [name for name, value in inputs.items() if value]
    if given:
        raise ArgumentError(f"`--{given[0]}` needs QUERIES and GALLERY; the sample has its own")
    sample = load_sample()
    task = sample.task(template=template or 0, metric=check_metric(metric))
    return task, "The sample: CIFAR-10 and a small dual encoder", sample.classes
