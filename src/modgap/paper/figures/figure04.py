"""Figure 4: two tight clusters under gradient descent, in the open space and on the sphere."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.paper.dynamics import PAPER_RUN, Simulation, Trajectory, descend, initial_clouds
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import Sources

__all__ = ["figure"]

CLAIM = (
    "from two tight clusters descent ends with almost no loss and a gap that is orthogonal to both "
    "clouds, in the open space and on the sphere"
)
#: Steps between the pictures; the paper's own are not known.
STAGES = (0, 200, 1500, 6000)
_LOSS, _RATIO, _ALIGNED, _STILL = 0.05, 0.01, 0.99, 0.01


def figure(
    sources: Sources, *, settings: Simulation = PAPER_RUN, stages: tuple[int, ...] = STAGES
) -> Figure:
    """Return the figure. It is a simulation, and needs no data."""
    runs = []
    for name, sphere in (("open space", False), ("unit sphere", True)):
        runs.append({"name": name, **_run(replace(settings, sphere=sphere), stages)})
    checks = {run["name"]: _checks(run) for run in runs}
    parts = [value for check in checks.values() for value in check.values()]
    verdict = " ".join(_told(run, stages[-1]) for run in runs)
    made = (
        f"a simulation: {settings.n} pairs in {settings.dimension} dimensions, temperature "
        f"{settings.temperature:g}, seed {settings.seed}"
    )
    return Figure(
        4, "A gap that stays while the loss goes", CLAIM, judge(parts), verdict,
        {"runs": runs, "checks": checks, "stages": list(stages)}, _chart(runs), (made,),
    )  # fmt: skip


def _told(run: dict[str, Any], steps: int) -> str:
    end, before, fall = run["end"], _late(run), _late_fall(run)
    still = (
        "stands still"
        if abs(fall) < 1e-3
        else f"still falls ({fall:.1%} since step {before['step']:,})"
    )
    return (
        f"In the {run['name']}, after {steps:,} steps: loss {end['loss']:.1e}, gap {end['gap']:.2f} (from "
        f"{run['start']['gap']:.2f}), which {still} and {'parts' if run['separated'] else 'does not part'} "
        f"the clouds; variance along it {end['variance_ratio']:.1e} of the average, "
        f"{end['aligned']:.0%} of partners nearest."
    )


def _late(run: dict[str, Any]) -> dict[str, Any]:
    """Return the record ten before the last."""
    records: list[dict[str, Any]] = run["records"]
    return records[-11 if len(records) > 11 else 0]


def _late_fall(run: dict[str, Any]) -> float:
    """Return the share of the gap that the last ten records lose."""
    before: float = _late(run)["gap"]
    return (before - float(run["end"]["gap"])) / before


def _checks(run: dict[str, Any]) -> dict[str, bool]:
    end = run["end"]
    return {
        "loss": end["loss"] < _LOSS,
        "gap": run["separated"],
        "converged": abs(_late_fall(run)) < _STILL,
        "orthogonal": end["variance_ratio"] < _RATIO,
        "aligned": end["aligned"] >= _ALIGNED,
    }


def _run(settings: Simulation, stages: tuple[int, ...]) -> dict[str, Any]:
    """Descend stage by stage; each stage starts where the last one ended."""
    x, y = initial_clouds(settings)
    clouds = [(np.asarray(x), np.asarray(y))]
    records: list[dict[str, float]] = []
    for first, last in pairwise(stages):
        every = max(1, (last - first) // 40)
        run = descend(*clouds[-1], replace(settings, steps=last - first, record_every=every))
        records += _records(run, first)[1 if records else 0 :]
        clouds.append((np.asarray(run.final_x), np.asarray(run.final_y)))
    return {
        "records": records,
        "start": records[0],
        "end": records[-1],
        "separated": _separated(*clouds[-1]),
        "pictures": _pictures(clouds, stages),
    }


def _separated(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether every y lies beyond every x along the gap."""
    gap = y.mean(axis=0) - x.mean(axis=0)
    return bool((y @ gap).min() > (x @ gap).max())


def _records(run: Trajectory, first: int) -> list[dict[str, float]]:
    return [
        {
            "step": int(run.step[i]) + first,
            "loss": float(run.loss[i]),
            "gap": float(run.gap[i]),
            "variance_ratio": float(max(run.variance_ratio_x[i], run.variance_ratio_y[i])),
            "aligned": float(min(run.alignment_x[i], run.alignment_y[i])),
        }
        for i in range(len(run.step))
    ]


def _pictures(clouds: list[Any], stages: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return every stage on two fixed axes: the last gap, and the last first principal axis."""
    x, y = clouds[-1]
    gap = y.mean(axis=0) - x.mean(axis=0)
    along = gap / np.linalg.norm(gap)
    rows = np.vstack([x - x.mean(axis=0), y - y.mean(axis=0)])
    rows -= np.outer(rows @ along, along)
    axes = np.stack([along, np.linalg.svd(rows, full_matrices=False)[2][0]])
    return [
        {"step": step, "x": np.round(a @ axes.T, 4), "y": np.round(b @ axes.T, 4)}
        for step, (a, b) in zip(stages, clouds, strict=True)
    ]


def _chart(runs: list[dict[str, Any]]) -> Any:
    alt = theme.altair()
    rows = alt.vconcat(*(_row(run) for run in runs))
    return rows.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def _row(run: dict[str, Any]) -> Any:
    alt = theme.altair()
    panels = []
    every = np.vstack([p[side] for p in run["pictures"] for side in ("x", "y")])
    low, high = every.min(axis=0) - 0.1, every.max(axis=0) + 0.1
    for picture in run["pictures"]:
        rows = [
            {"a": float(p[0]), "b": float(p[1]), "side": side}
            for side in ("x", "y")
            for p in picture[side]
        ]
        panels.append(
            alt.Chart(theme.table(rows), title=f"step {picture['step']:,}")
            .mark_point(filled=True, size=16, opacity=0.75)
            .encode(
                x=alt.X("a:Q", title="along the gap", scale=_fixed(low[0], high[0])),
                y=alt.Y("b:Q", title="across it", scale=_fixed(low[1], high[1])),
                **theme.keyed("side", ["x", "y"], colors=(theme.GALLERY, theme.QUERIES)),
            )
            .properties(width=165, height=165)
        )
    names = {"loss": "loss", "gap": "gap", "variance_ratio": "variance along the gap / average"}
    rows = [
        {"step": r["step"], "value": max(r[key], 1e-8), "what": label}
        for r in run["records"]
        for key, label in names.items()
    ]
    curves = lines(rows, list(names.values())).properties(width=250, height=165)
    title = alt.TitleParams(run["name"], fontSize=15)
    row = alt.hconcat(alt.hconcat(*panels), curves).properties(title=title)
    return row.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def lines(rows: list[dict[str, Any]], order: list[str], *, steps: str = "linear") -> Any:
    """Return curves over steps, values on a logarithmic scale; `steps` is the scale of the steps."""
    alt = theme.altair()
    return (
        alt.Chart(theme.table(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(
                "step:Q",
                title="step" if steps == "linear" else "step (square-root scale)",
                scale=alt.Scale(type=steps),
                axis=alt.Axis(tickCount=4),
            ),
            y=alt.Y(
                "value:Q",
                title=None,
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~e", tickCount=5),
            ),
            **theme.keyed("what", order, by="strokeDash", columns=1),
        )
    )


def _fixed(low: float, high: float) -> Any:
    return theme.altair().Scale(domain=[round(float(low), 2), round(float(high), 2)], nice=False)
