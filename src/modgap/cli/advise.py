"""`modgap advise`: one paragraph, and the command to run next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modgap.cli._inputs import (
    DrawsOption,
    JsonOption,
    NoiseOption,
    OptionalGallery,
    OptionalQueries,
    SeedOption,
)
from modgap.cli._task import TaskInputs, takes_task_inputs
from modgap.cli.embed import DeviceOption, EncoderOption, ImagesOption, OfflineOption

if TYPE_CHECKING:
    from modgap.evaluation.tasks import Task


@takes_task_inputs
def advise(
    *,
    queries: OptionalQueries = None,
    gallery: OptionalGallery = None,
    inputs: TaskInputs,
    images: ImagesOption = None,
    model: EncoderOption = None,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
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

    Every sensible closer is measured on these embeddings under the noise, doing nothing and comparing
    in another way among them; the advice is the simplest that the best does not beat beyond its
    error, or to leave it. Where answers may change, closers are judged on queries they were not
    fitted to, by accuracy if there are labels. Of several caption templates the first one counts.

    Examples
    --------
      modgap advise --queries images.npy --gallery texts.npy --noise int8
      modgap advise --queries images.npy --gallery captions.npy --paired --answers-may-change
      modgap advise --images photos --classes classes.txt --model hf:openai/clip-vit-base-patch32
    """
    from modgap.cli._console import print_json, progress, say, say_command
    from modgap.cli._inputs import fill_in, parse_noises
    from modgap.cli._pictures import sides
    from modgap.errors import ArgumentError
    from modgap.evaluation import advice

    noises = parse_noises(noise)
    queries, gallery, inputs = sides(
        queries, gallery, images, model, inputs, device=device, offline=offline, shown=not json
    )
    if queries is None or gallery is None:
        raise ArgumentError("give `--queries` and `--gallery`, or `--images` and `--model`")
    task = inputs.load(queries, gallery)
    wanted = "may-change" if answers_may_change else "same"
    with progress("looking", unit="", shown=not json):
        found = advice.advise(task, noises, answers=wanted, draws=draws, seed=seed)
    command = fill_in(found.command, {"QUERIES": queries, "GALLERY": gallery})
    command += rest_of_command(task, inputs, found.method)
    if json:
        print_json({**found.to_dict(), "command": command})
        return
    for remark in found.evidence["remarks"]:
        say(remark)
    say(found.text)
    say()
    say_command(command)


def rest_of_command(task: Task, inputs: TaskInputs, method: str) -> str:
    """Return what the next command needs besides queries and gallery."""
    if method == "none":  # a report: the same task again
        words = inputs.words()
        return f" {words}" if words else ""
    if inputs.mixed:
        return " " + inputs.words_of("companions", "modalities")
    if task.problems[0].gallery.ndim == 3:
        return " --pool" if inputs.owners is None else ""
    if inputs.template is None and (inputs.both_ways or len(task.problems) == 1):
        return ""
    return f" --template {inputs.template or 0}"
