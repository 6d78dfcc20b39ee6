"""Figure 4: two tight clusters under gradient descent, in the open space and on the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.dynamics import Trajectory
from modgap.paper.figures import runs
from modgap.paper.figures.drawing import curves, fixed, grid, linked_clouds, point_rows
from modgap.paper.figures.record import Case, Figure, Finding, Rows, findings
from modgap.paper.figures.sources import Sources

__all__ = ["figure"]

CLAIM = (
    "from two tight clusters descent ends with almost no loss and a gap that is orthogonal to both "
    "clouds, in the open space and on the sphere"
)
STAGES = (0, 2, 5, 10, 50, 200, 6000)
_LOSS, _RATIO, _ALIGNED, _STILL = 0.05, 0.01, 0.99, 0.01
#: The share of the run, at its end, over which a gap must stand still to be at rest.
_LATE = 1 / 6


def figure(
    sources: Sources,
    *,
    pairs: int | None = None,
    stages: Sequence[int] = STAGES,
    tuning: runs.Tuning = runs.UNTUNED,
) -> Figure:
    """Return the figure. It is a simulation, and needs no data."""
    made = {
        name: runs.paper_run(stages, tuning, sphere=sphere, pairs=pairs)
        for name, sphere in (("open space", False), ("unit sphere", True))
    }
    ends = {name: _end(run) for name, run in made.items()}
    drawn = ("loss", "gap", "variance_ratio")
    tables: dict[str, Rows] = {
        "points": [row for name, run in made.items() for row in _points(name, run, stages)],
        "curves": [row for name, run in made.items() for row in runs.logged(run, *drawn, run=name)],
    }
    settings, longest = made["open space"].settings, runs.longest_rate(made["open space"])
    return Figure(
        4, "A gap that stays while the loss goes", CLAIM, _told(ends),
        {"ends": ends, "stages": list(stages), "rate": settings.rate, "longest_rate": longest}, tables,
        _chart(tables, stages),
        (f"{runs.described(settings)}; above {longest:.2g} n it would overshoot along the gap",),
    )  # fmt: skip


def _end(run: Trajectory) -> dict[str, Any]:
    """Return the last record, and how the gap came there."""
    late = int(np.argmax(run.step >= (1 - _LATE) * run.step[-1]))
    x, y = np.asarray(run.final_x), np.asarray(run.final_y)
    gap = y.mean(axis=0) - x.mean(axis=0)
    return {
        **runs.figures_of(run),
        "start": runs.figures_of(run, 0),
        "since": int(run.step[late]),
        "lost_since": float((run.gap[late] - run.gap[-1]) / run.gap[late]),
        "separated": bool((y @ gap).min() > (x @ gap).max()),
    }


def _told(ends: dict[str, dict[str, Any]]) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for name, end in ends.items():
        lead = f"{name}, after {end['step']:,} steps"
        checks = (
            ("almost no loss is left", end["loss"] < _LOSS, f"loss {end['loss']:.1e}"),
            ("all partners are nearest", end["aligned"] >= _ALIGNED, f"{end['aligned']:.1%}"),
            ("a gap still parts the clouds", end["separated"],
             f"gap {end['gap']:.2f}, from {end['start']['gap']:.2f}"),
            ("the gap has come to rest", abs(end["lost_since"]) < _STILL,
             f"it lost {end['lost_since']:.1%} since step {end['since']:,}"),
            ("the gap is orthogonal to both clouds", end["variance_ratio"] < _RATIO,
             f"variance along it {end['variance_ratio']:.1e} of the average direction's, from "
             f"{end['start']['variance_ratio']:.2f}"),
        )  # fmt: skip
        for claim, holds, evidence in checks:
            found += findings(f"{lead}: {claim}", [Case("", holds, evidence)])
    return tuple(found)


def _points(name: str, run: Trajectory, stages: Sequence[int]) -> Rows:
    """Return every stage on two fixed axes: the last gap, and the last first principal axis."""
    x, y = np.asarray(run.final_x), np.asarray(run.final_y)
    gap = y.mean(axis=0) - x.mean(axis=0)
    along = gap / np.linalg.norm(gap)
    rows = np.vstack([x - x.mean(axis=0), y - y.mean(axis=0)])
    rows -= np.outer(rows @ along, along)
    axes = np.stack([along, np.linalg.svd(rows, full_matrices=False)[2][0]])
    return [
        row
        for kept in run.snapshots
        if kept.step in stages
        for row in point_rows(
            np.round(np.asarray(kept.x) @ axes.T, 4), np.round(np.asarray(kept.y) @ axes.T, 4),
            run=name, step=kept.step,
        )
    ]  # fmt: skip


def _chart(tables: dict[str, Rows], stages: Sequence[int]) -> Any:
    alt = theme.altair()
    reach = 1.08 * max(1.0, *(abs(row[axis]) for row in tables["points"] for axis in "ab"))
    names = list(dict.fromkeys(row["run"] for row in tables["points"]))
    pictures = [
        alt.hconcat(*(_picture(tables["points"], name, step, reach) for step in stages), spacing=12)
        .properties(title=alt.TitleParams(name, fontSize=15))
        for name in names
    ]  # fmt: skip
    whole = [row["value"] for row in tables["curves"]]
    scale = alt.Scale(type="log", domain=[min(whole), max(whole)], nice=False)
    order = runs.named("loss", "gap", "variance_ratio")
    below = [
        curves([r for r in tables["curves"] if r["run"] == name], order, steps="sqrt", scale=scale)
        .properties(width=460, height=180, title=name)
        for name in names
    ]  # fmt: skip
    apart = {"color": "independent", "shape": "independent", "strokeDash": "independent"}
    return alt.vconcat(alt.vconcat(*pictures), grid(below, 2)).resolve_scale(**apart)


def _picture(points: Rows, name: str, step: int, reach: float) -> Any:
    """Return one stage: both clouds, their pairs, and on the sphere its outline."""
    alt = theme.altair()
    own = [row for row in points if row["run"] == name and row["step"] == step]
    scale = fixed(-reach, reach)
    axis = alt.Axis(tickCount=3)
    x = alt.X("a:Q", title="along the gap", scale=scale, axis=axis)
    y = alt.Y("b:Q", title="across it" if step == 0 else None, scale=scale, axis=axis)
    layers = [linked_clouds(own, x, y, size=16)]
    if name == "unit sphere":
        angle = np.linspace(0, 2 * np.pi, 91)
        ring = [
            {"a": float(np.cos(t)), "b": float(np.sin(t)), "order": i} for i, t in enumerate(angle)
        ]
        outline = alt.Chart(theme.table(ring)).mark_line(
            color=theme.INK, strokeWidth=0.9, opacity=0.5
        )
        layers.insert(0, outline.encode(x=x, y=y, order="order:Q"))
    return alt.layer(*layers).properties(width=118, height=118, title=f"step {step:,}")
