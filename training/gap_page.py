"""The pages about how the gap forms, written from the results of `gap_formation.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import median
from typing import Any

from gap_criteria import (
    CRITERIA,
    HALF,
    LEAST_WAY,
    LOST,
    NO_GAP,
    SETTLED,
    STILL,
    Run,
    Still,
    findings,
    groups,
    half_way,
    mass_deviation,
    pick,
    settled_at,
    temperature_of,
)
from gap_picture import PICTURE_BATCH

CLASSES = 10
LONG_TABLE_FROM = 100  # the first steps of the long runs are those of the grid
HEADINGS = {
    "grid": "On many images",
    "by heart": "Learned by heart",
    "long": "Longer, on many images",
}


TEXT = """\
# How the gap forms in real training

The theory of the gap (Chowers et al. 2026, theorems 3.1 and 3.2) predicts two phases for gradient
descent on free points: first each cloud loses its variance along the gap, then, once both softmax
matrices are doubly stochastic, the gap stands still while everything else aligns. Here a small dual
encoder of images and captions is trained {run_count} times, and both phases are looked for. The
theory does not speak of what differs here: points that share the weights of two networks, Adam in
place of gradient descent, batches in place of the whole set, a sigmoid loss in some of the runs.

## What was found

{answer}

### Training on many images

{grid_steps} steps on {grid_images:,} images, captions drawn at random; several images of a batch share a
caption, and no caption belongs to one image alone. Measured on held-out pairs.

{grid_table}

### The same, learned by heart

{heart_steps} steps on {heart_images} images that each keep one caption of their own, the whole set
in every batch: the loss can go to zero, as in the theory. Measured on those pairs.

{heart_table}

Counts are of the runs of a row: {start_count} starts, and in the first table two batch sizes.
The gap and S (the larger of the two clouds' mean |S-1|) are ranges over those runs; the low end
of the gap at first is the matched start. The criteria stand further below.

![The gap, the variance along it, the alignment and the softmax masses over the steps of \
training](gap_formation.svg)

Softmax loss; on the left training on many images with batches of {picture_batch}, on the right the
same learned by heart, one column per temperature. Solid lines are the images, dashed ones the
texts; gap and alignment have one line. Steps on a scale that is linear up to 1 and logarithmic
after it. The variance along the gap ends where the gap does.

### What agrees with the theory

{for_theory}

### What does not

{against_theory}

### Longer training

{long_steps} steps on {long_images:,} images, softmax loss, batches of {long_batch}, default start;
[the table](gap_formation_runs.md) has them step by step.

{long_answer}

## How it was measured

The dual encoder is that of `training/dual_encoder.py`, {width} channels wide at its first layer,
{d} dimensions, AdamW with a constant rate of {rate} after a linear rise over the first tenth of the
steps, images of CIFAR-10 (Krizhevsky 2009) under captions from {templates} templates, seed {seed}:
one run a setting, so single cells of the tables can be luck. The learned temperature begins at
{begun} and ends between {learned}. Starts:

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

The criteria were not laid down in advance. They were settled after a look at the softmax runs on
many images, and "its way" was then put for "its whole fall", because the sigmoid loss does not fall
steadily; no threshold was changed after a count:

- *variance first*: at the step where the alignment of the rest has made half of its whole rise,
  both clouds' variance along the gap is below half of its first value. From the matched start that
  is easily met, because the first gap there forms along a direction in which the images vary most
  (up to {matched_first:.0f} times the average);
- *still while the loss falls*: there is a stretch of steps in which the range of the gap is at most
  {still} of its mean, and the loss makes at least {least} of its way from its highest value to its
  lowest;
- *still while the rest aligns*: the same, with the rise of the alignment of the rest;
- *kept*: from the step at which both variances have been below half of their first value to the
  last step, the gap loses no more than {lost} of its length.

The temperature divides cosines. The paper's divides squared distances; on the unit sphere its
temperature is twice this one for the same loss.

[Every run](gap_formation_runs.md) is in the appendix.

Made with torch {torch}, NumPy {numpy}, Python {python} on {machine}. This page and its picture are
written by `python training/gap_formation.py` from `training/results/gap_formation.json`.
"""

APPENDIX = """\
# The gap in real training: every run

The tables behind [how the gap forms in real training](gap_formation.md), where the words are explained.

## The longer runs, step by step

{long_steps} steps on {long_images:,} images, softmax loss, batches of {long_batch}, default start.

{long_table}

## Every run

"Halved" is the first step at which the variance along the gap is below half of its first value,
where it need not stay. "Aligned" is the step at which half of the alignment is done. The stretches
are the best for their criterion, with the share of the way made in them, bold where the criterion
is met. "Kept" is the gap at last over that when both variances had halved.

{every_table}

Written by `python training/gap_formation.py` from `training/results/gap_formation.json`.
"""


def _range(values: Sequence[float], to: str = " to ", places: int = 2) -> str:
    low, high = f"{min(values):.{places}f}", f"{max(values):.{places}f}"
    return low if low == high else f"{low}{to}{high}"


def _count(runs: Sequence[Run], criterion: str) -> int:
    return sum(CRITERIA[criterion](findings(run["log"])) for run in runs)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def summary_table(runs: Sequence[Run]) -> str:
    """Return the short table: how many runs of a loss and temperature meet each criterion."""
    rows = []
    for (loss, temperature), members in groups(runs).items():
        logs = [run["log"] for run in members]
        rows.append(
            [
                loss,
                temperature,
                *(f"{_count(members, name)} of {len(members)}" for name in CRITERIA),
                _range([log["gap"][0] for log in logs]),
                _range([log["gap"][-1] for log in logs]),
                _range([mass_deviation(log, -1) for log in logs]),
            ]
        )
    return table(["loss", "temperature", *CRITERIA, "gap at first", "at last", "S at last"], rows)


def _stretch(still: Still) -> str:
    mark = "**" if still.enough else ""
    return f"{mark}{still.start} to {still.end}: {still.share:.2f}{mark}"


def run_table(runs: Sequence[Run]) -> str:
    """Return the long table, a row for each run."""
    rows = []
    for run in runs:
        log, found = run["log"], findings(run["log"])
        rows.append(
            [
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
                "none" if found.gap_left is None else f"{found.gap_left:.2f}",
                f"{mass_deviation(log, 0):.2f} to {mass_deviation(log, -1):.2f}",
                f"{log['accuracy'][-1]:.2f}",
            ]
        )
    head = ["loss", "batch", "temperature", "start", "gap", "images halved", "texts halved"]
    head += ["aligned", *CRITERIA, "S", "accuracy"]
    return table(head, rows)


def course_table(runs: Sequence[Run], least: int) -> str:
    """Return the course of some runs from step `least` on."""
    rows = []
    for run in runs:
        log = run["log"]
        for row, step in enumerate(log["step"]):
            if step and step < least:
                continue
            columns = ("image_variance_along_gap", "text_variance_along_gap")
            along = [log[column][row] for column in columns]
            rows.append(
                [
                    temperature_of(run),
                    step,
                    f"{log['loss'][row]:.3f}",
                    f"{log['gap'][row]:.3f}",
                    *("none" if value is None else f"{value:.2f}" for value in along),
                    f"{log['centred_alignment'][row]:.3f}",
                    f"{mass_deviation(log, row):.2f}",
                    f"{log['accuracy'][row]:.3f}",
                ]
            )
    head = ["temperature", "step", "loss", "gap", "images' variance along it", "texts'"]
    return table([*head, "alignment of the rest", "S", "accuracy"], rows)


def _of(runs: Sequence[Run], criterion: str) -> str:
    """Return "k of n runs" that meet a criterion."""
    return f"{_count(runs, criterion)} of {len(runs)}"


def _ends(runs: Sequence[Run]) -> str:
    return _range([run["log"]["gap"][-1] for run in runs])


def _peaks(runs: Sequence[Run]) -> str:
    return _range([max(run["log"]["gap"]) for run in runs])


def _middle_mass(runs: Sequence[Run], row: int) -> str:
    return f"{median(mass_deviation(run['log'], row) for run in runs):.2g}"


def _bullets(statements: Sequence[tuple[bool, str]]) -> str:
    """Return the statements that hold as a list; each comes with whether it does."""
    kept = [
        textwrap.fill(" ".join(text.split()), 100, initial_indent="- ", subsequent_indent="  ")
        for holds, text in statements
        if holds
    ]
    return "\n".join(kept) or "- Nothing that these criteria can see."


def _most(runs: Sequence[Run], criterion: str) -> bool:
    return 2 * _count(runs, criterion) > len(runs)


def for_theory(parts: dict[str, Any]) -> str:
    """Return what agrees with the theory, each sentence only if the numbers bear it out."""
    many, heart = parts["grid"]["runs"], parts["by heart"]["runs"]
    cold = pick(many, temperature="0.01", loss="softmax")
    sigmoid = pick(many, temperature="0.01", loss="sigmoid")
    cold_heart = pick(heart, temperature="0.01")
    matched = pick(cold + cold_heart, start="matched")
    apart = [run for run in cold_heart if run["start"] != "matched"]
    return _bullets(
        [
            (
                _most(cold, "variance first"),
                f"""At temperature 0.01 with the softmax loss, the variance along the gap goes first
                in {_of(cold, "variance first")} runs on many images and in
                {_of(cold_heart, "variance first")} by heart; with the sigmoid loss, in
                {_of(sigmoid, "variance first")}.""",
            ),
            (
                min(max(run["log"]["gap"]) for run in matched) > 4 * NO_GAP,
                f"""A gap is made where there was none: from the matched start at temperature 0.01
                with the softmax loss it grows to {_peaks(matched)} before it shrinks.""",
            ),
            (
                max(mass_deviation(run["log"], -1) for run in apart) < 0.05
                and min(run["log"]["gap"][-1] for run in apart) > 4 * NO_GAP,
                f"""A gap and a loss of nearly zero go together: by heart at temperature 0.01, from
                the two starts with a gap, the loss ends at
                {max(run["log"]["loss"][-1] for run in apart):.1g} or less, the mean of |S-1| at
                {max(mass_deviation(run["log"], -1) for run in apart):.1g} or less, the accuracy at
                {_range([run["log"]["accuracy"][-1] for run in apart])}, and the gap at
                {_ends(apart)}.""",
            ),
            (
                _most(sigmoid, "kept"),
                f"""With the sigmoid loss at temperature 0.01 the gap is kept in
                {_of(sigmoid, "kept")} runs while the rest aligns; at last it is
                {_ends(sigmoid)}. The theory was not made for this loss.""",
            ),
            (
                float(_middle_mass(cold, -1)) < HALF * float(_middle_mass(cold, 0)),
                f"""The softmax matrices move towards doubly stochastic: at temperature 0.01 on many
                images the median over the runs of the mean |S-1| falls from
                {_middle_mass(cold, 0)} to {_middle_mass(cold, -1)}.""",
            ),
        ]
    )


def against_theory(parts: dict[str, Any]) -> str:
    """Return what does not agree with the theory, each sentence only if the numbers say so."""
    many, heart = parts["grid"]["runs"], parts["by heart"]["runs"]
    soft = pick(many, loss="softmax")
    cold = pick(soft, temperature="0.01")
    warm = [run for run in soft if temperature_of(run) != "0.01"]
    warm_heart = [run for run in heart if temperature_of(run) != "0.01"]
    gone = pick(heart, temperature="0.07")
    failed = pick(many, loss="sigmoid", temperature="0.5")
    apart = [run for run in pick(heart, temperature="0.01") if run["start"] != "matched"]
    at_half = [run["log"]["gap"][half_way(run["log"]["centred_alignment"])] for run in apart]
    settled = [(run["log"]["gap"], settled_at(run["log"])) for run in apart]
    return _bullets(
        [
            (
                not _most(warm, "variance first"),
                f"""At the other temperatures the first phase does not show: the variance goes first
                in {_of(warm, "variance first")} softmax runs on many images and in
                {_of(warm_heart, "variance first")} by heart
                ({_count(pick(warm + warm_heart, start="matched"), "variance first")} of
                those from the matched start, where the criterion is easily met). The texts'
                variance often dips early, and has come back by the time the rest has half
                aligned.""",
            ),
            (
                not _most(soft, "kept"),
                f"""On many images the gap does not stay: it is kept in {_of(soft, "kept")} softmax
                runs. At temperature 0.01 it stands still while the loss falls in
                {_of(cold, "still while the loss falls")} runs, and then shrinks, slowly, while the
                rest aligns.""",
            ),
            (
                not _most(warm, "still while the rest aligns"),
                f"""At the other temperatures the gap shrinks together with the alignment of the
                rest, not before or after it: it stands still while the rest aligns in
                {_of(warm, "still while the rest aligns")} softmax runs, and ends at
                {_ends(warm)}.""",
            ),
            (
                max(run["log"]["gap"][-1] for run in gone) < 0.2,
                f"""That the softmax matrices become doubly stochastic is not enough to keep the
                gap. By heart at temperature 0.07 they do as well (mean |S-1| at last
                {max(mass_deviation(run["log"], -1) for run in gone):.1g} or less), but only after the gap
                has gone (at last {_ends(gone)}).""",
            ),
            (
                all(row is not None for _, row in settled),
                f"""Nor does the gap stop at once where they do. By heart at temperature 0.01, from
                the two starts with a gap, it is {_range(at_half)} when the rest has half aligned,
                {_range([gaps[row] for gaps, row in settled if row is not None])} when the mean of
                |S-1| is first below {SETTLED}, and {_ends(apart)} at the last step. Adam divides
                its steps by the size of the gradient, so that a vanishing gradient need not mean a
                vanishing step; whether that is the reason was not tested.""",
            ),
            (
                float(_middle_mass(cold, -1)) > 0.1,
                f"""On many images at temperature 0.01 they do not become doubly stochastic: the
                median over the softmax runs of the mean |S-1| is {_middle_mass(cold, -1)} at the
                last step. So the premise of theorem 3.2 is not met, and these runs do not
                contradict it. Captions that several images share, and images that the towers
                cannot tell apart, are the likely reason.""",
            ),
            (
                max(run["log"]["accuracy"][-1] for run in failed) < 0.2,
                f"""The sigmoid loss at the fixed temperature 0.5 learns nothing here (accuracy
                {_range([run["log"]["accuracy"][-1] for run in failed])}, chance is 0.10); those
                runs say nothing either way.""",
            ),
        ]
    )


def answer(parts: dict[str, Any]) -> str:
    """Return the finding in a few sentences."""
    many, heart = parts["grid"]["runs"], parts["by heart"]["runs"]
    shown = [
        f"{loss} loss at {temperature}"
        for (loss, temperature), runs in groups(many).items()
        if _most(runs, "variance first")
    ]
    kept = [
        f"{loss} loss at {temperature}"
        for (loss, temperature), runs in groups(many).items()
        if _most(runs, "kept")
    ]
    text = f"""It depends on the temperature and the loss. (CLIP starts at 0.07 and ends at 0.01,
        Radford et al. 2021.) In training on many images, most runs
        lose the variance along the gap before the rest aligns in these settings:
        {", ".join(shown) or "none"}; and most runs keep the gap from then on in these:
        {", ".join(kept) or "none"}. Over all, the variance goes first in
        {_of(many, "variance first")} runs, the gap stands still during a good part of the alignment
        in {_of(many, "still while the rest aligns")}, and is kept to the end in
        {_of(many, "kept")}. Learned by heart, which is nearest to what the theory is about, those
        are {_of(heart, "variance first")}, {_of(heart, "still while the rest aligns")} and
        {_of(heart, "kept")}."""
    return textwrap.fill(" ".join(text.split()), width=100)


def long_answer(runs: Sequence[Run]) -> str:
    """Return what the gap of each long run does after a tenth of its steps."""
    texts = []
    for run in runs:
        log = run["log"]
        row = next(row for row, step in enumerate(log["step"]) if 10 * step >= log["step"][-1])
        gaps = log["gap"][row:]
        along = [
            value
            for cloud in ("image", "text")
            for value in log[f"{cloud}_variance_along_gap"][row:]
            if value is not None
        ]
        text = f"""At temperature {temperature_of(run)}, after step {log["step"][row]} the gap goes
            from {gaps[0]:.2f} to {gaps[-1]:.2f} (between {_range(gaps, " and ")}), while the loss
            falls from {log["loss"][row]:.2f} to {log["loss"][-1]:.2f} and the alignment of the rest
            rises from {log["centred_alignment"][row]:.2f} to {log["centred_alignment"][-1]:.2f}.
            The median variance along the gap is {median(along):.2g} times the average."""
        if median(along) > 1 and max(gaps) - min(gaps) < 0.25 * max(gaps):
            text += """ So a gap stands still, within its fluctuations, although the clouds vary along
                it more than on average, which the premise of theorem 3.2 excludes."""
        texts.append(textwrap.fill(" ".join(text.split()), width=100))
    return "\n\n".join(texts)


def render_page(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    parts = results["parts"]
    plans = {name: part["plan"] for name, part in parts.items()}
    runs = {name: part["runs"] for name, part in parts.items()}
    grid = plans["grid"]
    captions = plans["by heart"]["images"]
    learned = [run for run in runs["grid"] if run["learn_temperature"]]
    return TEXT.format(
        run_count=sum(map(len, runs.values())),
        answer=answer(parts),
        grid_steps=grid["steps"],
        grid_images=grid["images"],
        grid_table=summary_table(runs["grid"]),
        heart_steps=plans["by heart"]["steps"],
        heart_images=plans["by heart"]["images"],
        heart_table=summary_table(runs["by heart"]),
        start_count=len(grid["starts"]),
        picture_batch=PICTURE_BATCH,
        for_theory=for_theory(parts),
        against_theory=against_theory(parts),
        long_steps=f"{plans['long']['steps']:,}",
        long_images=plans["long"]["images"],
        long_batch=plans["long"]["batch_sizes"][0],
        long_answer=long_answer(runs["long"]),
        width=grid["width"],
        d=results["dimension"],
        rate=grid["learning_rate"],
        templates=captions // CLASSES,
        captions=captions,
        probe=captions * results["pairs_per_caption"],
        seed=grid["seed"],
        begun=learned[0]["log"]["temperature"][0],
        learned=_range([run["log"]["temperature"][-1] for run in learned], " and ", 3),
        matched_first=max(
            next(value for value in run["log"]["image_variance_along_gap"] if value is not None)
            for run in pick(runs["grid"], start="matched")
            if run["log"]["gap"][-1] >= NO_GAP
        ),
        no_gap=NO_GAP,
        still=STILL,
        least=LEAST_WAY,
        lost=LOST,
        torch=results["torch"],
        numpy=results["numpy"],
        python=results["python"],
        machine=results["machine"],
    )


def render_appendix(results: dict[str, Any]) -> str:
    """Return the page of all runs as Markdown."""
    runs = {name: part["runs"] for name, part in results["parts"].items()}
    plan = results["parts"]["long"]["plan"]
    return APPENDIX.format(
        long_steps=f"{plan['steps']:,}",
        long_images=plan["images"],
        long_batch=plan["batch_sizes"][0],
        long_table=course_table(runs["long"], LONG_TABLE_FROM),
        every_table="\n\n".join(
            f"{HEADINGS[name]}:\n\n{run_table(members)}" for name, members in runs.items()
        ),
    )
