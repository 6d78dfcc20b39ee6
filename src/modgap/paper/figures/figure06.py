"""Figure 6: the softmax matrices become doubly stochastic late in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.dynamics import Trajectory
from modgap.paper.dynamics.trajectory import Snapshot
from modgap.paper.figures import runs
from modgap.paper.figures.drawing import curves
from modgap.paper.figures.record import UNTESTED, Case, Figure, Finding, Rows, findings
from modgap.paper.figures.sources import Sources
from modgap.paper.theory import softmax_matrices

__all__ = ["figure"]

CLAIM = "the softmax matrices become doubly stochastic late in training"
STAGES = (0, 20, 6000)
_SHOWN = 40
#: Sums within this of one count as one; late means after 99 % of the loss is gone.
_ONE, _LOSS_LEFT = 0.01, 0.01


def figure(
    sources: Sources,
    *,
    pairs: int | None = None,
    stages: Sequence[int] = STAGES,
    tuning: runs.Tuning = runs.UNTUNED,
) -> Figure:
    """Return the figure. It is a simulation, and needs no data.

    What the paper's right panel shows is not known here; this one shows the deviation of the row
    and column sums from one over training, which is what the claim is about.
    """
    run = runs.paper_run(stages, tuning, pairs=pairs)
    shown = {s.step: _over_x(s, run) for s in run.snapshots if s.step in stages}
    settled = _settled(run)
    tables: dict[str, Rows] = {
        "matrices": [row for step, matrix in shown.items() for row in _cells(step, matrix)],
        "curves": runs.logged(run, "deviation", "loss"),
    }
    return Figure(
        6, "Softmax matrices become doubly stochastic", CLAIM, _told(run, settled), settled, tables,
        _chart(tables, shown), (runs.described(run.settings),),
    )  # fmt: skip


def _settled(run: Trajectory) -> dict[str, Any]:
    """Return when the sums come within one for good, and how much of the loss is left then."""
    above = np.flatnonzero(run.deviation >= _ONE)
    place = int(above[-1]) + 1 if above.size else 0
    reached = place < len(run.step)
    return {
        "start": float(run.deviation[0]),
        "end": float(run.deviation[-1]),
        "end_loss": float(run.loss[-1]),
        "settled_at": int(run.step[place]) if reached else None,
        "loss_left": float(run.loss[place] / run.loss[0]) if reached else None,
    }


def _told(run: Trajectory, found: dict[str, Any]) -> tuple[Finding, ...]:
    steps = f"{int(run.step[-1]):,}"
    becomes = Case(
        "",
        found["end"] < _ONE,
        f"the sums deviate from one by {found['start']:.2f} at the start and by {found['end']:.1e} "
        f"after {steps} steps (mean over rows and columns)",
    )
    left = found["loss_left"]
    late = Case(
        "",
        None if left is None else left <= _LOSS_LEFT,
        f"the sums do not come within {_ONE:g} in {steps} steps"
        if left is None
        else f"they are within {_ONE:g} for good at step {found['settled_at']:,} already, where {left:.1%} "
        "of the loss is left",
    )
    return (
        *findings("the softmax matrices become doubly stochastic", [becomes]),
        *findings("they do so late, once almost all of the loss is gone", [late]),
        Finding("what the paper's right panel shows", UNTESTED, ("not among our sources",)),
    )


def _over_x(kept: Snapshot, run: Trajectory) -> np.ndarray:
    """Return the softmax over x of every y, (n, n): every column sums to one."""
    matrices = softmax_matrices(kept.x, kept.y, temperature=run.settings.temperature)
    return np.asarray(matrices.over_x)


def _cells(step: int, matrix: np.ndarray) -> Rows:
    return [
        {"step": step, "x": k, "y": i, "mass": round(float(value), 4)}
        for k, row in enumerate(matrix[:_SHOWN, :_SHOWN])
        for i, value in enumerate(row)
    ]


def _chart(tables: dict[str, Rows], shown: dict[int, np.ndarray]) -> Any:
    alt = theme.altair()
    panels = [_heat(tables["matrices"], step, m.sum(axis=1)) for step, m in shown.items()]
    order = runs.named("deviation", "loss")
    below = curves(tables["curves"], order, steps="sqrt").properties(width=860, height=180)
    return alt.vconcat(alt.hconcat(*panels), below).resolve_scale(
        color="independent", strokeDash="independent"
    )


def _heat(rows: Rows, step: int, sums: np.ndarray) -> Any:
    """Return one matrix; every cell has an outline of its own colour, or seams would show."""
    alt = theme.altair()
    title = alt.TitleParams(
        f"step {step:,}",
        subtitle=f"row sums of all {len(sums)}: {sums.min():.2f} to {sums.max():.2f}",
    )
    scale = alt.Scale(scheme="viridis", type="sqrt", domain=[0, 1])
    values = [0, 0.01, 0.1, 0.5, 1]
    legend = alt.Legend(values=values, gradientLength=230, format="~g", titleLimit=400)
    every = alt.Axis(values=list(range(0, _SHOWN + 1, 10)), labelAngle=0, grid=False)
    title_of_scale = "share of y_i's softmax that x_k gets (square-root scale)"
    return (
        alt.Chart(theme.table([row for row in rows if row["step"] == step]), title=title)
        .mark_rect(strokeWidth=1)
        .encode(
            x=alt.X("y:O", title="y_i", axis=every),
            y=alt.Y("x:O", title="x_k", axis=every),
            color=alt.Color("mass:Q", title=title_of_scale, scale=scale, legend=legend),
            stroke=alt.Stroke("mass:Q", scale=scale, legend=None),
        )
        .properties(width=240, height=240)
    )
