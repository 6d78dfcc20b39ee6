"""Figure 6: the softmax matrices become doubly stochastic late in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.dynamics import PAPER_RUN, Simulation, descend, initial_clouds, simulate
from modgap.paper.figures.figure04 import lines
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import Sources
from modgap.paper.theory import softmax_matrices

__all__ = ["figure"]

CLAIM = "the softmax matrices become doubly stochastic late in training"
STAGES = (0, 20, 6000)
_SHOWN = 40
#: Sums within this of one count as one; late means after 99 % of the loss is gone.
_ONE, _LOSS_LEFT = 0.01, 0.01


def figure(
    sources: Sources, *, settings: Simulation = PAPER_RUN, stages: tuple[int, ...] = STAGES
) -> Figure:
    """Return the figure. It is a simulation, and needs no data.

    What the paper's right panel shows is not known here; this one shows the deviation of the row
    and column sums from one over training, which is what the claim is about.
    """
    matrices = _matrices(settings, stages)
    run = simulate(replace(settings, steps=stages[-1], record_every=max(1, stages[-1] // 600)))
    peak = int(np.argmax(run.deviation))
    above = np.flatnonzero(run.deviation >= _ONE)
    place = int(above[-1]) + 1 if above.size else 0
    settled = int(run.step[place]) if place < len(run.step) else None
    left = float(run.loss[min(place, len(run.loss) - 1)] / run.loss[0])
    end = float(run.deviation[-1])
    verdict = (
        f"The sums deviate from one by {run.deviation[0]:.2f} at the start, by "
        f"{run.deviation[peak]:.2f} at most (step {int(run.step[peak]):,}) and by {end:.1e} after "
        f"{stages[-1]:,} steps. They come within {_ONE:g} for good "
        + (
            "never."
            if settled is None
            else f"at step {settled:,}, where {left:.1%} of the loss is left."
        )
        + (
            " That is early in this run, not late."
            if settled is not None and left > _LOSS_LEFT
            else ""
        )
        + " The paper's right panel is not known here; ours shows this deviation over training."
    )
    numbers = {
        "matrices": matrices,
        "step": run.step,
        "deviation": run.deviation,
        "loss": run.loss,
        "settled_at": settled,
        "loss_left": left,
    }
    made = (
        f"a simulation: {settings.n} pairs in {settings.dimension} dimensions, seed {settings.seed}"
    )
    return Figure(
        6, "Softmax matrices become doubly stochastic", CLAIM,
        judge([end < _ONE, settled is not None and left <= _LOSS_LEFT]), verdict, numbers, _chart(numbers),
        (made,),
    )  # fmt: skip


def _matrices(settings: Simulation, stages: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the softmax over x at each stage, its first rows and columns, and all row sums."""
    clouds = initial_clouds(settings)
    found = []
    for first, last in zip((0, *stages), stages, strict=False):
        if last > first:
            steps = last - first
            run = descend(*clouds, replace(settings, steps=steps, record_every=steps))
            clouds = (np.asarray(run.final_x), np.asarray(run.final_y))
        over_x = np.asarray(softmax_matrices(*clouds, temperature=settings.temperature).over_x)
        found.append(
            {
                "step": last,
                "matrix": np.round(over_x[:_SHOWN, :_SHOWN], 4),
                "row_sums": np.round(over_x.sum(axis=1), 4),
            }
        )
    return found


def _chart(numbers: dict[str, Any]) -> Any:
    alt = theme.altair()
    panels = []
    for found in numbers["matrices"]:
        rows: list[dict[str, Any]] = [
            {"i": i, "k": k, "mass": float(value)}
            for k, row in enumerate(found["matrix"])
            for i, value in enumerate(row)
        ]
        sums = found["row_sums"]
        title = alt.TitleParams(
            f"step {found['step']:,}", subtitle=f"row sums {sums.min():.2f} to {sums.max():.2f}"
        )
        panels.append(
            alt.Chart(theme.table(rows), title=title)
            .mark_rect()
            .encode(
                x=alt.X("i:O", title="y_i", axis=alt.Axis(labels=False, ticks=False, grid=False)),
                y=alt.Y("k:O", title="x_k", axis=alt.Axis(labels=False, ticks=False, grid=False)),
                color=alt.Color(
                    "mass:Q", title="softmax over x",
                    scale=alt.Scale(scheme="viridis", type="sqrt", domain=[0, 1]),
                ),
            )
            .properties(width=190, height=190)
        )  # fmt: skip
    names = {"deviation": "deviation of the sums from one", "loss": "loss"}
    rows = [
        {"step": int(s), "value": max(float(v), 1e-8), "what": label}
        for key, label in names.items()
        for s, v in zip(numbers["step"], numbers[key], strict=True)
    ]
    below = lines(rows, list(names.values()), steps="sqrt").properties(width=660, height=180)
    return alt.vconcat(alt.hconcat(*panels), below).resolve_scale(
        color="independent", strokeDash="independent"
    )
