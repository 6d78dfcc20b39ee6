"""A simulated run as one self-contained HTML page: the gap forming, with a slider for the time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap._core.json import stamp
from modgap.charts import sketch
from modgap.report.pages import figure_text, filled, page_script, write_page
from modgap.report.words import brief, printable

__all__ = ["write_simulation_page"]

_TEMPLATE, _SCRIPT = "simulation.html.j2", "simulation.js"
#: Pairs that a line joins; more are a thicket.
_JOINED = 30
#: What the figures of a run are called on the page, what they say, and whether factors count in them.
_FIGURES = {
    "loss": ("loss", "what descent lowers", True),
    "gap": ("gap", "distance between the two means", False),
    "variance_ratio": (
        "variance along the gap", "over that along an average direction: 1 is round, 0 is flat", True,
    ),
    "aligned": ("partners nearest", "share of points whose nearest across is their partner", False),
    "temperature": ("temperature", "learned on the way", False),
    "stability": ("stability", "answers that stay under noise on x", False),
}  # fmt: skip
#: A gap that keeps more than the first share of itself stays; one below the second closes.
_STAYS, _CLOSES = 0.8, 0.2
#: Shorter gaps are the means' own scatter, and have no direction to speak of.
_LEAST_GAP = 0.05


def write_simulation_page(
    film: Mapping[str, Any],
    path: str | Path,
    *,
    title: str = "How the gap forms",
    command: str | None = None,
) -> Path:
    """Write a run as one HTML file, and return its path.

    The page asks for nothing from elsewhere. Without its script it shows the start, the middle and the
    end, as it does in print. It appears whole or not at all.

    Parameters
    ----------
    film : dict
        From `modgap.paper.dynamics.film`.
    path : str or Path
    title : str
        Shown as text, whatever it holds.
    command : str, optional
        The line that makes this page again.

    Raises
    ------
    MissingExtraError
        The extra `report` is not installed; the message holds the pip command.
    FormatError
        The folder is missing or cannot be written.
    """
    script, allowed = page_script(_SCRIPT)
    values = {
        **_view(film),
        **stamp(),
        "title": brief(printable(title)),
        "command": printable(command),
        "settings": {k: v for k, v in film["settings"].items() if v is not None},
        "script": script,
        "allowed": allowed,
    }
    return write_page(filled(_TEMPLATE, values, charts=False), path)


def _view(film: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows, all of it made from the film."""
    frames, records = film["frames"], film["records"]
    steps = [frame["step"] for frame in frames]
    shares = [math.cbrt(step / steps[-1]) for step in steps]
    picture = sketch.plane(
        [point for frame in frames for side in ("x", "y") for point in frame[side]]
    )
    placed = [
        {side: [picture.place(p) for p in frame[side]] for side in ("x", "y")} for frame in frames
    ]
    figures = [_figure(name, records[name], shares) for name in _FIGURES if name in records]
    return {
        "frames": placed,
        "steps": steps,
        "figures": figures,
        "stills": sorted({0, _half_way(placed), len(steps) - 1}),
        "picture": picture,
        "grid": _grid(picture),
        "joined": min(_JOINED, film["shown"]),
        "pairs": film["pairs"],
        "shown": film["shown"],
        "turned": _turned(records),
        "verdict": _verdict(records, steps),
        "data": _data(placed, steps, figures),
    }


def _half_way(placed: Sequence[Mapping[str, Sequence[tuple[float, float]]]]) -> int:
    """Return the first frame in which the points have gone half as far as in the last."""
    gone = [
        sum(
            math.dist(p, q)
            for side in ("x", "y")
            for p, q in zip(frame[side], placed[0][side], strict=True)
        )
        for frame in placed
    ]
    return next(i for i, way in enumerate(gone) if way >= gone[-1] / 2)


def _figure(name: str, values: Sequence[float | None], shares: Sequence[float]) -> dict[str, Any]:
    title, meaning, factors = _FIGURES[name]
    return {
        "key": name,
        "title": title,
        "meaning": meaning,
        "text": [_number(value) for value in values],
        "line": sketch.line(values, shares, logarithmic=factors),
    }


def _number(value: float | None) -> str:
    """Return a figure as it is read aloud: small ones with two digits, without a power of ten."""
    if value is None or value == 0 or abs(value) >= 1e-3 or abs(value) < 1e-8:
        return figure_text(value)
    return f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"


def _grid(picture: sketch.Plane) -> dict[str, list[tuple[float, float]]]:
    """Return the round numbers of both axes, each with where it stands."""
    ranges = {
        "a": (-picture.left / picture.scale, (picture.width - picture.left) / picture.scale),
        "b": ((picture.top - picture.height) / picture.scale, picture.top / picture.scale),
    }
    ends = {"a": (20.0, picture.width - 12.0), "b": (14.0, picture.height - 32.0)}  # room for words
    found = {
        axis: [(value, picture.place((value, value))[axis == "b"]) for value in sketch.ticks(*span)]
        for axis, span in ranges.items()
    }
    return {
        axis: [(value, at) for value, at in marks if ends[axis][0] <= at <= ends[axis][1]]
        for axis, marks in found.items()
    }


def _turned(records: Mapping[str, Sequence[float | None]]) -> float:
    """Return by how many degrees the gap turns from the first axis, as long as there is one."""
    found = zip(records["turned"], records["gap"], strict=True)
    return max((t for t, gap in found if t is not None and gap and gap > _LEAST_GAP), default=0.0)


def _verdict(records: Mapping[str, Sequence[Any]], steps: Sequence[int]) -> str:
    """Return what happened, in a sentence made from the figures."""
    gaps, loss, aligned = records["gap"], records["loss"], records["aligned"]
    text = (
        f"In {steps[-1]:,} step{'s' if steps[-1] > 1 else ''} the loss goes from "
        f"{_number(loss[0])} to {_number(loss[-1])}, and "
        f"{aligned[-1]:.0%} of the partners are nearest in the end."
    )
    if gaps[0] < _LEAST_GAP:
        return f"{text} There was no gap to begin with: {_change(gaps)}."
    share = gaps[-1] / gaps[0]
    if share > 1 / _STAYS:
        word = "grows"
    else:
        word = "stays" if share > _STAYS else "closes" if share < _CLOSES else "shrinks"
    return f"{text} The gap {word}: {_change(gaps)}."


def _change(gaps: Sequence[float]) -> str:
    return f"{_number(gaps[0])} at the start, {_number(gaps[-1])} at the end"


def _data(
    placed: Sequence[Mapping[str, Any]], steps: Sequence[int], figures: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what the script moves, with the words it puts on the page."""
    return {
        "steps": [f"{step:,}" for step in steps],
        "points": [
            {side: [v for point in frame[side] for v in point] for side in ("x", "y")}
            for frame in placed
        ],
        "figures": [
            {"title": f["title"], "text": f["text"], "marks": f["line"].points} for f in figures
        ],
    }
