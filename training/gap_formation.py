"""Watch the modality gap form in real training, over a grid of settings.

    python training/gap_formation.py             # trains the grid, writes results, page and picture
    python training/gap_formation.py --render    # writes page and picture from the results again

The theory (Chowers et al. 2026, theorems 3.1 and 3.2) is about gradient descent on free points:
the variance along the gap goes first, then the gap stands still while the rest aligns. This program
trains the small dual encoder of `dual_encoder.py` from many starts, measures both clouds on a fixed
probe of held-out image-caption pairs at steps that lie ever further apart, and says with criteria
that are fixed in the code whether the two phases show.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "gap_formation.json"
PAGE = ROOT.parent / "docs" / "gap_formation.md"
PICTURE = ROOT.parent / "docs" / "gap_formation.svg"

PAIRS_PER_CAPTION = 3

HALF = 0.5  # "first": below half of the start; half of the way
STILL = 0.05  # the gap stands still while its range is at most this share of its mean
LEAST_WAY = 0.25  # ... and the other quantity makes at least this share of its way meanwhile
LOST = 0.1  # a gap that is kept loses no more than this share of its length
NO_GAP = 0.05  # below this length the gap has no direction worth the name


# ------------------------------------------------------------------------------------- measures


def _variance_along(points: Any, direction: Any) -> float:
    """Return the variance of (n, d) points along a unit vector over that per direction."""
    centred = points - points.mean(0)
    total = float(centred.square().sum()) / points.shape[1]
    return float((centred @ direction).square().sum()) / total


def _softmax_masses(images: Any, texts: Any, temperature: float) -> tuple[Any, Any]:
    """Return, per image and per text, the softmax mass it gets from the other modality: S_i."""
    logits = images @ texts.T / temperature
    return logits.softmax(0).sum(1), logits.softmax(1).sum(0)


def _mean_cosine_with(points: Any, direction: Any) -> float:
    """Return the mean |cosine| of differences of points (n, d) with a unit vector.

    Rows i and i + n // 3 + 1 are compared; equal points have no direction and are left out.
    """
    differences = points - points.roll(len(points) // 3 + 1, 0)
    lengths = differences.norm(dim=1)
    kept = lengths > 1e-9
    return float(((differences[kept] @ direction).abs() / lengths[kept]).mean())


def cloud_measures(images: Any, texts: Any, temperature: float) -> dict[str, float | None]:
    """Return what is logged of two paired clouds of unit vectors (n, d), in float64.

    Figures along the gap are None while the gap is too short to have a direction.
    """
    images, texts = images.double(), texts.double()
    gap = images.mean(0) - texts.mean(0)
    length = float(gap.norm())
    direction = gap / length if length >= NO_GAP else None
    image_mass, text_mass = _softmax_masses(images, texts, temperature)
    a, b = images - images.mean(0), texts - texts.mean(0)
    centred = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)

    def along(measure: Callable[[Any, Any], float], points: Any) -> float | None:
        return None if direction is None else measure(points, direction)

    return {
        "gap": length,
        "image_variance_along_gap": along(_variance_along, images),
        "text_variance_along_gap": along(_variance_along, texts),
        "image_cosine_with_gap": along(_mean_cosine_with, images),
        "text_cosine_with_gap": along(_mean_cosine_with, texts),
        "image_mass_std": float(image_mass.std()),
        "text_mass_std": float(text_mass.std()),
        "image_mass_deviation": float((image_mass - 1).abs().mean()),
        "text_mass_deviation": float((text_mass - 1).abs().mean()),
        "alignment": float((images * texts).sum(1).mean()),
        "centred_alignment": float(centred.mean()),
        "image_spread": float(a.square().sum(1).mean().sqrt()),
        "text_spread": float(b.square().sum(1).mean().sqrt()),
    }


# --------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class Plan:
    """How long and on how much each run of one part trains, and what differs between its runs."""

    steps: int = 600
    images: int = 10_000
    losses: tuple[Literal["softmax", "sigmoid"], ...] = ("softmax", "sigmoid")
    batch_sizes: tuple[int, ...] = (64, 256)
    temperatures: tuple[float | None, ...] = (0.01, 0.07, 0.5, None)  # None: learned, from 0.07
    starts: tuple[Literal["default", "cone", "matched"], ...] = ("default", "cone", "matched")
    width: int = 16
    learning_rate: float = 1e-3
    by_heart: bool = False
    measurements: int = 30
    seed: int = 0

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the settings that differ between runs."""
        for loss, batch_size, temperature, start in product(
            self.losses, self.batch_sizes, self.temperatures, self.starts
        ):
            yield {
                "loss": loss,
                "batch_size": batch_size,
                "temperature": temperature or 0.07,
                "learn_temperature": temperature is None,
                "start": start,
            }


PLANS = {
    "grid": Plan(),
    "long": Plan(
        steps=2000,
        images=50_000,
        losses=("softmax",),
        batch_sizes=(256,),
        temperatures=(0.01, 0.07),
        starts=("default",),
    ),
    "by heart": Plan(
        steps=300,
        images=180,
        losses=("softmax",),
        batch_sizes=(180,),
        by_heart=True,
    ),
}


def measured_steps(steps: int, count: int) -> list[int]:
    """Return the steps at which the probe is measured: 0, then evenly spaced in the logarithm."""
    return sorted({0, *np.geomspace(1, steps, count).round().astype(int).tolist()})


@dataclass(frozen=True)
class Probe:
    """Images, each shown as its caption says; every caption comes equally often."""

    pixels: Any  # (n, 3, 32, 32)
    numbers: Any  # (n,) the captions' numbers
    captions: int  # how many captions there are
    classes: int

    def measures(self, model: Any, loss: str) -> dict[str, float | None]:
        """Return all that is logged of a model; accuracy is among its own template's texts."""
        import torch
        from dual_encoder import LOSSES, batch_statistics, same_caption

        with torch.no_grad(), batch_statistics(model):
            images = model.embed_images(self.pixels)
            every = torch.arange(self.captions, device=self.numbers.device)
            every_text = model.embed_captions(every)
            texts = every_text[self.numbers]
            foreign = (self.numbers // self.classes)[:, None] != every // self.classes
            chosen = (images @ every_text.T).masked_fill(foreign, -math.inf).argmax(1)
            value = LOSSES[loss](model.logits(images, texts), same_caption(self.numbers))
        return {
            "loss": float(value),
            "temperature": model.temperature,
            "accuracy": float((chosen == self.numbers).double().mean()),
            **cloud_measures(images, texts, model.temperature),
        }


def make_probe(folder: Path, device: Any, *, by_heart: bool) -> Probe:
    """Return the probe: test images, or the very images that are learned by heart."""
    from dual_encoder import as_pixels, load_captions, load_photos, shown_as, templates_in_turn

    captions = load_captions(folder)
    c = len(captions.classes)
    count = c * len(captions.templates)
    photos = (
        load_photos(folder, "train", count)
        if by_heart
        else load_photos(folder, "test", PAIRS_PER_CAPTION * count)
    ).to(device)
    templates = templates_in_turn(photos, captions)
    pixels = shown_as(as_pixels(photos.images), templates, captions)
    return Probe(pixels, templates * c + photos.labels, count, c)


def train_plan(plan: Plan, save: Callable[[list[dict[str, Any]]], None]) -> None:
    """Train every run of a plan; hand all runs so far to `save` after each."""
    import torch
    from dual_encoder import Settings, Step, data_folder, load_captions, load_photos, train

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = data_folder()
    captions = load_captions(folder)
    probe = make_probe(folder, device, by_heart=plan.by_heart)
    photos = load_photos(folder, "train", plan.images).to(device)
    wanted = set(measured_steps(plan.steps, plan.measurements))
    done: list[dict[str, Any]] = []
    for varied in plan.runs():
        log: list[dict[str, float | None]] = []

        def measure(step: Step, log: list[Any] = log, loss: str = varied["loss"]) -> None:
            if step.number in wanted:
                log.append({"step": step.number, **probe.measures(step.model, loss)})

        settings = Settings(
            steps=plan.steps,
            width=plan.width,
            learning_rate=plan.learning_rate,
            by_heart=plan.by_heart,
            schedule="constant",  # so that whatever comes to rest does so by itself
            seed=plan.seed,
            **varied,
        )
        started = time.perf_counter()
        train(settings, photos, captions, hook=measure)
        done.append({**varied, "log": _columns(log)})
        save(done)
        _report(len(done), varied, log, time.perf_counter() - started)


def _report(
    number: int, varied: dict[str, Any], log: Sequence[dict[str, Any]], seconds: float
) -> None:
    """Say on the error stream that a run has ended, and how."""
    first, last = log[0], log[-1]
    print(
        f"{number:2d} {varied} {seconds:.0f} s  gap {first['gap']:.3f} -> {last['gap']:.3f}  "
        f"loss {last['loss']:.3f}  accuracy {last['accuracy']:.3f}",
        file=sys.stderr,
        flush=True,
    )


def _columns(log: Sequence[dict[str, float | None]]) -> dict[str, list[float | None]]:
    """Return the log by column, at five significant digits."""

    def short(value: float | None) -> float | None:
        return value if value is None or isinstance(value, int) else float(f"{value:.5g}")

    return {key: [short(row[key]) for row in log] for key in log[0]}


def environment() -> dict[str, Any]:
    """Return what the runs ran with."""
    import torch
    from dual_encoder import Settings

    return {
        "dimension": Settings.dim,
        "pairs_per_caption": PAIRS_PER_CAPTION,
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, "
        + (torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"),
    }


def save_json(results: dict[str, Any], path: Path) -> None:
    """Write the results, one line for each column of each run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(results, indent=1)
    lines = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", lines)
    path.write_text(lines + "\n", encoding="utf-8")


def make_results(names: Sequence[str]) -> None:
    """Train the named plans, keeping the other part of the results there may be."""
    import torch

    torch.set_num_threads(1)
    for name in names:
        plan = PLANS[name]

        def save(runs: list[dict[str, Any]], name: str = name, plan: Plan = plan) -> None:
            parts = read_results()["parts"] if RESULTS.is_file() else {}
            parts[name] = {"plan": asdict(plan), "runs": runs}
            save_json({**environment(), "parts": parts}, RESULTS)

        train_plan(plan, save)


def read_results() -> dict[str, Any]:
    """Return the results as written."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


# --------------------------------------------------------------------------------- the criteria


@dataclass(frozen=True)
class Still:
    """The stretch of steps in which the gap stands still while another quantity moves most."""

    start: int
    end: int
    share: float  # of the other quantity's whole way

    @property
    def enough(self) -> bool:
        """Whether the other quantity moves enough meanwhile to call the gap frozen."""
        return self.share >= LEAST_WAY


@dataclass(frozen=True)
class Findings:
    """What the criteria say of one run; steps are None where the event does not come."""

    image_halved: int | None
    text_halved: int | None
    aligned: int
    variance_first: bool
    while_loss_falls: Still
    while_aligning: Still
    gap_left: float | None  # gap at the end over gap at the start, None without a start
    gap_left_after: float | None  # ... over the gap when both variances had halved


def halved_at(steps: Sequence[int], values: Sequence[float | None]) -> int | None:
    """Return the first step at which a value is below half of the first one there is."""
    known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    return next((step for step, value in known if value < HALF * known[0][1]), None)


def half_way(values: Sequence[float]) -> int:
    """Return the row at which half of the rise from the first value to the largest is done."""
    goal = values[0] + HALF * (max(values) - values[0])
    return next(row for row, value in enumerate(values) if value >= goal)


def still_stretch(steps: Sequence[int], gaps: Sequence[float], other: Sequence[float]) -> Still:
    """Return the stretch in which the gap stands still and `other` rises most.

    The gap stands still where its range is at most `STILL` of its mean and it is longer than
    `NO_GAP`. The rise is a share of that from the first value of `other` to its largest.
    """
    way = max(other) - other[0]
    best = Still(steps[0], steps[0], 0.0)
    for first in range(len(gaps)):
        for last in range(first + 1, len(gaps)):
            part = gaps[first : last + 1]
            if max(part) - min(part) > STILL * np.mean(part) or min(part) < NO_GAP:
                break
            share = (other[last] - other[first]) / way if way > 0 else 0.0
            if share > best.share:
                best = Still(steps[first], steps[last], share)
    return best


def findings(log: dict[str, list[Any]]) -> Findings:
    """Return what the criteria say of one run's log."""
    steps, gaps = log["step"], log["gap"]
    aligned = half_way(log["centred_alignment"])
    columns = [log["image_variance_along_gap"], log["text_variance_along_gap"]]
    halved = [halved_at(steps, column) for column in columns]
    low = [
        column[aligned] is not None
        and column[aligned] < HALF * next(value for value in column if value is not None)
        for column in columns
    ]
    both = None if None in halved else gaps[steps.index(max(step or 0 for step in halved))]
    return Findings(
        image_halved=halved[0],
        text_halved=halved[1],
        aligned=steps[aligned],
        variance_first=all(low),
        while_loss_falls=still_stretch(steps, gaps, [-loss for loss in log["loss"]]),
        while_aligning=still_stretch(steps, gaps, log["centred_alignment"]),
        gap_left=gaps[-1] / gaps[0] if gaps[0] >= NO_GAP else None,
        gap_left_after=gaps[-1] / both if both else None,
    )


# --------------------------------------------------------------------------------------- the page


TEXT = """\
# How the gap forms in real training

The theory of the gap (Chowers et al. 2026, theorems 3.1 and 3.2) predicts two phases for gradient
descent on free points: first each cloud loses its variance along the gap, then, once both softmax
matrices are doubly stochastic, the gap stands still while everything else aligns. Here a small dual
encoder of images and captions is trained {run_count} times and both phases are looked for. The
theory does not speak of what differs here: points that share the weights of two networks, Adam in
place of gradient descent, batches in place of the whole set, a sigmoid loss in some of the runs.

## What was found

{answer}

### Training on many images

{grid_steps} steps on {grid_images:,} images, captions drawn at random; several images of a batch \
share a caption, and no caption tells its image from all others. Measured on held-out pairs.

{grid_table}

### The same, learned by heart

{heart_steps} steps on {heart_images} images that each keep one caption of their own, the whole set \
in every batch: the loss can go to zero, as in the theory. Measured on those pairs.

{heart_table}

In both tables, counts are of the runs of a row: {start_count} starts, times two batch sizes in the
first. The "gap" is the range over those runs, from the first to the last step; starts with no gap
are in its low end.

![The gap, the variance along it, the alignment and the softmax masses over the steps of \
training](gap_formation.svg)

Softmax loss; on the left training on many images with batches of {picture_batch}, on the right the \
same learned by heart, one column per temperature. Solid lines are the images, dashed ones the texts; \
alignment has one line. Steps on a scale that is linear up to 1 and logarithmic after it.

### What agrees with the theory

{for_theory}

### What does not

{against_theory}

### Longer training

{long_steps} steps on {long_images:,} images, softmax loss, batches of {long_batch}, the default start.

{long_table}

{long_answer}

## How it was measured

The dual encoder is that of `training/dual_encoder.py`, {width} channels wide at its first layer,
{d} dimensions, Adam with a constant rate of {rate} after a linear rise over the first tenth of the
steps, images of CIFAR-10 (Krizhevsky 2009) under captions from {templates} templates, seed {seed}:
one run a setting, so single cells of the tables can be luck. Starts:

- *default*: the networks as initialised, two cones with a gap between them;
- *cone*: two tight clusters around nearly orthogonal points, the setting of theorem 3.1;
- *matched*: both clouds wide around one point, so that there is no gap to begin with.

The probe holds each of the {captions} captions equally often, {probe} image-caption pairs held out
({captions} where they are learned by heart), and is measured at steps that are even in the
logarithm. Batch normalisation uses the probe's own statistics.

- *Variance along the gap*: of each cloud, along the gap at that step, over its average variance per
  direction, 1/{d} of its total. It has no value while the gap is shorter than {no_gap}.
- *Alignment of the rest*: mean cosine of the true pairs after each cloud's mean is taken off.
- *S*: the softmax mass that a point gets from the other modality, at the model's temperature. Both
  softmax matrices are doubly stochastic where all S are 1.
- *Accuracy*: share of probe images whose nearest text, among the class texts of the template they
  are shown under, is their own.

The file of results also has the cosine of differences within each cloud with the gap, the spread
of S, the plain alignment and the spread of both clouds at every measured step.

The criteria were fixed after a look at the first few runs and before the rest were made:

- *variance first*: at the step where the alignment of the rest has made half of its whole rise,
  both clouds' variance along the gap is below half of its first value;
- *still while the loss falls*: there is a stretch of steps in which the range of the gap is at most
  {still} of its mean, and the loss makes at least {least} of its whole fall;
- *still while the rest aligns*: the same, with the rise of the alignment of the rest;
- *kept*: from the step at which both variances have been below half of their first value to the
  last step, the gap loses no more than {lost} of its length.

The temperature divides cosines. The paper's divides squared distances; on the unit sphere its
temperature is twice this one for the same loss.

## Every run

"Halved" is the first step at which the variance along the gap is below half of its first value, \
which it need not stay. "Aligned" is the step of half the alignment. The stretches are the best \
for their criterion, with the share of the way made in them. "S" is the larger of the two \
clouds' mean |S - 1|.

{every_table}

Made with torch {torch}, NumPy {numpy}, Python {python} on {machine}. This page and its picture are
written by `python training/gap_formation.py` from `training/results/gap_formation.json`.
"""

Run = dict[str, Any]


def temperature_of(run: Run) -> str:
    """Return the temperature of a run as the tables name it."""
    return "learned" if run["learn_temperature"] else f"{run['temperature']:g}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _count(runs: Sequence[Run], holds: Callable[[Findings], bool]) -> int:
    return sum(holds(findings(run["log"])) for run in runs)


def both_phases(found: Findings) -> bool:
    """Whether the variance went first and the gap stood still while the rest aligned."""
    return found.variance_first and found.while_aligning.enough


CRITERIA: tuple[Callable[[Findings], bool], ...] = (
    lambda found: found.variance_first,
    lambda found: found.while_loss_falls.enough,
    lambda found: found.while_aligning.enough,
    both_phases,
)


def groups(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs by loss and temperature."""
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run["loss"], temperature_of(run)), []).append(run)
    return grouped


def summary_rows(runs: Sequence[Run]) -> str:
    """Return the short table: how many runs of a loss and temperature meet each criterion."""
    rows = []
    for (loss, temperature), members in groups(runs).items():
        counts = " | ".join(str(_count(members, holds)) for holds in CRITERIA)
        ends = _range([run["log"]["gap"][-1] for run in members])
        rows.append(f"| {loss} | {temperature} | {counts} | {ends} |")
    return "\n".join(rows)


def _mass(log: dict[str, list[Any]], row: int) -> float:
    return max(float(log[f"{cloud}_mass_deviation"][row]) for cloud in ("image", "text"))


def _stretch(still: Still) -> str:
    mark = "**" if still.enough else ""
    return f"{mark}{still.start} to {still.end}: {still.share:.2f}{mark}"


def run_rows(runs: Sequence[Run]) -> str:
    """Return the long table, a row for each run."""
    rows = []
    for run in runs:
        log, found = run["log"], findings(run["log"])
        cells = [
            run["loss"],
            run["batch_size"],
            temperature_of(run),
            run["start"],
            f"{log['gap'][0]:.2f} to {log['gap'][-1]:.2f}",
            "never" if found.image_halved is None else found.image_halved,
            "never" if found.text_halved is None else found.text_halved,
            found.aligned,
            "**yes**" if found.variance_first else "no",
            _stretch(found.while_loss_falls),
            _stretch(found.while_aligning),
            f"{_mass(log, 0):.2f} to {_mass(log, -1):.2f}",
            f"{log['accuracy'][-1]:.2f}",
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


# ------------------------------------------------------------------------------------ the picture

PICTURE_BATCH = 256
PANELS: dict[str, tuple[dict[str, str], str, float, float]] = {
    "gap": ({"gap": "images"}, "linear", 0, 1.5),
    "variance along the gap": (
        {"image_variance_along_gap": "images", "text_variance_along_gap": "texts"},
        "log",
        0.03,
        60,
    ),
    "alignment of the rest": ({"centred_alignment": "images"}, "linear", 0, 1),
    "mean of |S - 1|": (
        {"image_mass_deviation": "images", "text_mass_deviation": "texts"},
        "linear",
        0,
        1.6,
    ),
}
COLOURS = {"default": "#1b6ca8", "cone": "#c8541a", "matched": "#3f8f4f"}


def _points(runs: Sequence[Run], columns: dict[str, str]) -> list[dict[str, Any]]:
    """Return one record for each measured value of some columns."""
    return [
        {"start": run["start"], "step": step, "cloud": cloud, "value": value}
        for run in runs
        for column, cloud in columns.items()
        for step, value in zip(run["log"]["step"], run["log"][column], strict=True)
        if value is not None
    ]


def draw(runs: Sequence[Run]) -> Any:
    """Return the picture: a row for each measure, a column for each temperature."""
    import altair as alt

    chosen = [r for r in runs if r["loss"] == "softmax" and r["batch_size"] == PICTURE_BATCH]
    by_temperature = {t: members for (_, t), members in groups(chosen).items()}
    last = max(run["log"]["step"][-1] for run in chosen)
    rows = []
    for panel, (name, (columns, scale, low, high)) in enumerate(PANELS.items()):
        cells = []
        for column, (temperature, members) in enumerate(by_temperature.items()):
            heading = f"temperature {temperature}" if panel == 0 else ""
            below = "step" if panel == len(PANELS) - 1 else None
            cell = (
                alt.Chart(alt.Data(values=_points(members, columns)))
                .mark_line(strokeWidth=1.6, clip=True)
                .encode(
                    x=alt.X("step:Q", title=below)
                    .scale(type="symlog", constant=1, domain=[0, last], nice=False)
                    .axis(values=[0, 1, 10, 100, last], grid=False),
                    y=alt.Y("value:Q", title=None if column else name)
                    .scale(type=scale, domain=[low, high], nice=False)
                    .axis(tickCount=4, labels=column == 0, gridOpacity=0.5),
                    color=alt.Color("start:N", title="start").scale(
                        domain=list(COLOURS), range=list(COLOURS.values())
                    ),
                    strokeDash=alt.StrokeDash("cloud:N", title="cloud", legend=None).scale(
                        domain=["images", "texts"], range=[[1, 0], [5, 3]]
                    ),
                )
                .properties(width=165, height=115, title=heading)
            )
            cells.append(cell)
        rows.append(alt.hconcat(*cells, spacing=12))
    return (
        alt.vconcat(*rows, spacing=10)
        .configure(font="sans-serif", background="white")
        .configure_view(stroke="#cccccc")
        .configure_title(fontSize=12, fontWeight="normal")
        .configure_axis(labelFontSize=10, titleFontSize=11, titleFontWeight="normal")
        .configure_legend(orient="bottom", titleFontWeight="normal")
    )


def render(results: dict[str, Any]) -> None:
    """Write the page and the picture."""
    import vl_convert as vlc

    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render_page(results), encoding="utf-8")
    chart = draw(results["parts"]["grid"]["runs"])
    PICTURE.write_text(vlc.vegalite_to_svg(chart.to_json()), encoding="utf-8")


def main() -> int:
    """Train what is asked for and write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--render", action="store_true", help="train nothing, write the page again")
    parser.add_argument("--only", choices=list(PLANS), help="train one part, keep the other")
    options = parser.parse_args()
    if not options.render:
        from dual_encoder import DataMissing

        try:
            make_results([options.only] if options.only else list(PLANS))
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
    render(read_results())
    return 0


if __name__ == "__main__":
    sys.exit(main())
