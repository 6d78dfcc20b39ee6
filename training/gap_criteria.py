"""What to look for in a run: the two phases of the gap's formation as criteria with thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HALF = 0.5  # "first": below half of the start; half of the way
STILL = 0.05  # the gap stands still while its range is at most this share of its mean
LEAST_WAY = 0.25  # ... and the other quantity makes at least this share of its way meanwhile
LOST = 0.1  # a gap that is kept loses no more than this share of its length
SETTLED = 0.01  # doubly stochastic: the mean of |S-1| is below this
NO_GAP = 0.05  # below this length the gap has no direction worth the name

Run = dict[str, Any]
Log = dict[str, list[Any]]


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
    gap_left: float | None  # gap at the end over the gap when both variances had halved

    @property
    def gap_kept(self) -> bool:
        """Whether the gap hardly shrinks once both variances have halved."""
        return self.gap_left is not None and self.gap_left >= 1 - LOST


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
    `NO_GAP`. The rise is a share of that from the least value of `other` to its largest.
    """
    way = max(other) - min(other)
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


def findings(log: Log) -> Findings:
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
        gap_left=gaps[-1] / both if both else None,
    )


def mass_deviation(log: Log, row: int) -> float:
    """Return the larger of the two clouds' mean |S-1| in a row of a log."""
    return max(float(log[f"{cloud}_mass_deviation"][row]) for cloud in ("image", "text"))


def settled_at(log: Log) -> int | None:
    """Return the first row at which the softmax matrices are nearly doubly stochastic."""
    return next(
        (row for row in range(len(log["step"])) if mass_deviation(log, row) < SETTLED), None
    )


CRITERIA: dict[str, Callable[[Findings], bool]] = {
    "variance first": lambda found: found.variance_first,
    "still while the loss falls": lambda found: found.while_loss_falls.enough,
    "still while the rest aligns": lambda found: found.while_aligning.enough,
    "kept": lambda found: found.gap_kept,
}


def temperature_of(run: Run) -> str:
    """Return the temperature of a run as the tables name it."""
    return "learned" if run["learn_temperature"] else f"{run['temperature']:g}"


def groups(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs by loss and temperature."""
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run["loss"], temperature_of(run)), []).append(run)
    return grouped


def pick(runs: Sequence[Run], **wanted: object) -> list[Run]:
    """Return the runs with these settings; `temperature` is named as in the tables."""
    return [
        run
        for run in runs
        if all(
            (temperature_of(run) if key == "temperature" else run[key]) == value
            for key, value in wanted.items()
        )
    ]
