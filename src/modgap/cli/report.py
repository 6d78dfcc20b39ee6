"""`modgap report`: the main job, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    METHOD_NAMES,
    AlphasOption,
    CsvOption,
    JsonOption,
    SeedOption,
    checked_draws,
)
from modgap.cli._names import ItemNamesOption, QueryNamesOption, names_of
from modgap.cli._task import TaskInputs, takes_task_inputs
from modgap.cli.embed import DeviceOption, EncoderOption, ImagesOption, OfflineOption

if TYPE_CHECKING:
    from modgap.closers.closure import Closure
    from modgap.evaluation.tasks import Task

#: Options that name a file to be read, beside queries and gallery.
_FILES = ("labels", "owners", "answers", "companions", "modalities", "query_modalities",
          "partners", "item_labels", "classes", "templates")  # fmt: skip


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
    context: typer.Context,
    inputs: TaskInputs,
    images: ImagesOption = None,
    model: EncoderOption = None,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Headline of the page.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B", help="What queries and items are: image,text."),
    ] = None,
    query_names: QueryNamesOption = None,
    item_names: ItemNamesOption = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            metavar="M,M,...",
            help="Closers to measure beside the candidates of the advice; separated by commas, or "
            f"repeat the option. Names: {METHOD_NAMES}.  [default: mean-shift,center,standardize]",
        ),
    ] = None,
    alphas: AlphasOption = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="NOISE",
            help="As `modgap evaluate` takes it; repeat for several.  "
            "[default: gaussian:0.022, gaussian:0.04 and bins:16; of 100 items or more sign:lengths too]",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            metavar="N",
            callback=checked_draws,
            help="Draws for noise that has to be sampled.  [default: 100, fewer for large tasks]",
        ),
    ] = None,
    seed: SeedOption = 0,
    max_points: Annotated[
        int,
        typer.Option("--max-points", metavar="N", help="Most points of each cloud in a picture."),
    ] = 600,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The page to write, .html.")
    ] = "report.html",
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Write one page: what the gap costs, what closing it does and does not, and what to do.

    Every sensible closer and what users do instead are measured on these embeddings under the noise;
    the page says which one the advice is, and shows its picture, what survives before and after, ten
    answers by name, when not to, and the command to run. Large inputs are measured on a random
    sample, and the page says so. Pictures are encoded first where a folder of them and a model are
    named; their embeddings are kept and found again as long as neither changes. Answers are shown by the
    captions, file names and thumbnails beside embeddings of modgap embed, or by names from files.

    Without arguments it reports on the sample that ships with modgap: images and class texts of
    CIFAR-10 from a small dual encoder. The page is one file and needs no network.

    Examples
    --------
      modgap report --open
      modgap report images.npy texts.npy --labels labels.npy --names image,text --out clip.html
      modgap report images.npy captions.npy --paired --noise int8 --title "Our captions"
      modgap report --images photos --classes classes.txt --model hf:openai/clip-vit-base-patch32
    """
    from modgap import report as report_module
    from modgap.cli._console import print_csv, print_json, progress
    from modgap.cli._inputs import check_out
    from modgap.cli._pictures import sides
    from modgap.errors import ArgumentError
    from modgap.io._guard import shown

    queries, gallery, inputs = sides(
        queries, gallery, images, model, inputs,
        device=device, offline=offline, shown=not (json or csv),
    )  # fmt: skip
    names = names or (None if images is None else "image,text")
    if (queries is None) != (gallery is None):
        raise ArgumentError("give both QUERIES and GALLERY, or neither for the sample")
    if json and csv:
        raise ArgumentError("`--json` and `--csv` both print to stdout; give one of them")
    files = {name: getattr(inputs, name) for name in _FILES}
    files = {"queries": queries, "gallery": gallery, **files}
    target = check_out(out, suffixes=(".html", ".htm"))
    settings = {"names": _pair(names), **_settings(methods, alphas, noise)}
    if queries is None or gallery is None:
        _refuse(inputs, query_names, item_names)
        task, classes = _sample(inputs)
        settings["classes"] = classes
        title = title or "The sample: CIFAR-10 and a small dual encoder"
        settings["names"] = settings["names"] or ("image", "text")
    else:
        task = inputs.load(queries, gallery)
        settings |= names_of(task, inputs, queries, gallery, query_names, item_names)
    settings["names"] = settings["names"] or ("queries", "gallery")
    with progress("reading", unit="answers", shown=not (json or csv)) as advance:
        summary = report_module.summarize(
            task,
            title=None if title is None else shown(title),
            draws=draws,
            seed=seed,
            max_points=max_points,
            progress=advance,
            stage=advance.stage,
            **settings,
        )
        advance.stage("drawing the page")
        summary |= _provenance(context, summary, task, inputs, files)
        written = report_module.write_report(summary, target)
    if json:
        print_json(summary)
    elif csv:
        print_csv(report_module.table(summary))
    else:
        _say(summary, written)
    if open_page:
        typer.launch(written.resolve().as_uri())


def _say(summary: dict[str, Any], written: Path) -> None:
    """Print what to look at first, the verdict, the command to run next, and where the page is."""
    from modgap.cli._console import say, say_command

    for remark in summary["remarks"]:
        if not remark.startswith("note: "):
            say(remark)
    say(summary["verdict"])
    if summary["advice"]["method"] != "none":
        say_command(summary["advice"]["command"])
    say(f"Report: {written}")


def _settings(
    methods: list[str] | None, alphas: list[str] | None, noise: list[str] | None
) -> dict[str, Any]:
    """Return what was asked for, as `summarize` takes it; what was not is left to it."""
    from modgap.cli._inputs import parse_alphas, parse_methods, parse_noises

    found: dict[str, Any] = {}
    if methods is not None:
        found["methods"] = _names(parse_methods(methods))
    if alphas is not None:
        found["alphas"] = parse_alphas(alphas)
    if noise is not None:
        found["noises"] = parse_noises(noise)
    return found


def _pair(names: str | None) -> tuple[str, str] | None:
    """Return the two names, or None where none were given."""
    from modgap.errors import ArgumentError
    from modgap.io._guard import shown

    if names is None:
        return None
    parts = [shown(part.strip()) for part in names.split(",")]
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise ArgumentError(
            f"`--names` must hold two different names, as in image,text; got {names!r}"
        )
    return parts[0], parts[1]


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


def _provenance(
    context: typer.Context,
    summary: dict[str, Any],
    task: Task,
    inputs: TaskInputs,
    files: dict[str, str | None],
) -> dict[str, Any]:
    """Return what only the command line knows: input files, and commands with the caller's paths."""
    from modgap.cli._inputs import fill_in
    from modgap.cli.advise import rest_of_command

    advice = dict(summary["advice"])
    if files["queries"] is not None and advice["method"] != "none":
        paths = {"QUERIES": files["queries"], "GALLERY": files["gallery"]}
        command = fill_in(advice["command"], paths)
        advice["command"] = _printable(command + rest_of_command(task, inputs, advice["method"]))
    return {
        "advice": advice,
        "inputs": [
            {"what": name, "file": _printable(spec), "sha256": _hash(spec)}
            for name, spec in files.items()
            if spec is not None
        ],
        "words": _printable(_line(context)),
    }


def _printable(text: str) -> str:
    """Return text with what no page can hold escaped; never cut, since commands are to be run."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _line(context: typer.Context) -> str:
    """Return the command line that gives these figures again."""
    import shlex

    words = ["modgap", "report"]
    for part in context.command.params:
        name = str(part.name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in ("open_page", "json", "csv"):
            continue
        value = context.params[name]
        if part.param_type_name == "argument":
            words.append(str(value))
        elif value is True:
            words.append(part.opts[0])
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for one in values for word in (part.opts[0], str(one))]
    return shlex.join(words)


def _hash(spec: str) -> str | None:
    """Return the SHA-256 of a file; None for a folder of shards."""
    import hashlib

    from modgap.io import parse_spec

    path = Path(parse_spec(spec)[0])
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse(inputs: TaskInputs, *names: str | None) -> None:
    """Raise an ArgumentError for inputs that come without QUERIES and GALLERY."""
    from modgap.errors import ArgumentError

    alone = TaskInputs(metric=inputs.metric, template=inputs.template)
    if inputs != alone or any(names):
        raise ArgumentError(
            "options that name inputs need QUERIES and GALLERY before them; without these the "
            "report is about the sample, which has its own"
        )


def _sample(inputs: TaskInputs) -> tuple[Task, list[str]]:
    from modgap.samples import load_sample

    sample = load_sample()
    return sample.task(template=inputs.template or 0, metric=inputs.metric), sample.classes
