"""Figure 5: softmax mass falls with the distance; an isotropic start shrinks along the gap first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from modgap.charts import theme
from modgap.paper.dynamics import Simulation, Trajectory, initial_clouds
from modgap.paper.figures import runs
from modgap.paper.figures.drawing import curves, fixed, linked_clouds, point_rows
from modgap.paper.figures.record import Case, Figure, Finding, Rows, findings
from modgap.paper.figures.sources import Sources
from modgap.paper.theory import softmax_sums

__all__ = ["figure"]

CLAIM = (
    "the mass S_i that a point gets falls with its distance to the other modality, so training, even "
    "from isotropic clouds, first removes the variance along the gap"
)
#: The plane of the upper pictures, and its temperatures.
PLANE = Simulation(n=150, dimension=2, start="clusters", spread=0.15, start_gap=1.6, seed=1)
_TEMPERATURES = (1.0, 0.3)
#: The runs below: a rate at which no start overshoots, and clouds of half and of a whole gap's width.
RUN = Simulation(start="isotropic", rate=0.0005, record_every=4)
STAGES = (0, 12, 24, 48, 120, 400)
STARTS = (0, 1, 2, 3, 4)
_WIDE = 0.32
_CORRELATION, _SHRUNK, _ALIGNED, _GAP = -0.8, 0.1, 0.99, 0.8


def figure(
    sources: Sources,
    *,
    plane: Simulation = PLANE,
    settings: Simulation = RUN,
    stages: tuple[int, ...] = STAGES,
    starts: tuple[int, ...] = STARTS,
    tuning: runs.Tuning = runs.UNTUNED,
) -> Figure:
    """Return the figure. It is a simulation, and needs no data."""
    settings = tuning.of(settings)
    starts = tuple(seed + (tuning.seed or 0) for seed in starts)
    masses = [_masses(replace(plane, temperature=t)) for t in _TEMPERATURES]
    usual = [runs.run(replace(settings, seed=seed), stages) for seed in starts]
    wide = [runs.run(replace(settings, seed=seed, spread=_WIDE), stages) for seed in starts]
    events = {"usual": [_events(run) for run in usual], "wide": [_events(run) for run in wide]}
    tables: dict[str, Rows] = {
        "masses": [row for m in masses for row in m["rows"]],
        "points": _points(usual[0]),
        "curves": runs.logged(usual[0], "loss", "gap", "variance_ratio"),
    }
    found = [{k: v for k, v in m.items() if k != "rows"} for m in masses]
    return Figure(
        5, "Mass falls with distance, variance along the gap goes first", CLAIM,
        _told(masses, events), {"masses": found, **events}, tables, _chart(tables),
        (f"a plane: {plane.n} pairs, seed {plane.seed}",
         f"{runs.described(replace(settings, seed=starts[0]))}, and {len(starts) - 1} more starts"),
    )  # fmt: skip


def _told(masses: list[dict[str, Any]], events: dict[str, Any]) -> tuple[Finding, ...]:
    falls = [
        Case(f"temperature {m['temperature']:g}", m["correlation"] < _CORRELATION,
             f"rank correlation {m['correlation']:.2f} over {m['points']} points")
        for m in masses
    ]  # fmt: skip
    usual, wide = events["usual"], events["wide"]
    left = [e["end_gap"] / e["start_gap"] for e in usual]
    return (
        *findings("S_i falls with the distance to the other modality", falls),
        *findings("from isotropic clouds the variance along the gap goes first", [_order(usual)]),
        *findings("and the gap stays", [Case("", min(left) > _GAP,
            f"{min(left):.0%} to {max(left):.0%} of it are left in {len(usual)} starts, loss at most "
            f"{max(e['end_loss'] for e in usual):.1e}")]),
        *findings("the same from clouds twice as wide, about as wide as the gap", [_order(wide)]),
    )  # fmt: skip


def _order(events: list[dict[str, Any]]) -> Case:
    """Return which comes first: a tenth of the variance along the gap, or all pairs aligned."""
    first = [
        e["shrunk_at"] is not None and (e["aligned_at"] is None or e["shrunk_at"] < e["aligned_at"])
        for e in events
    ]
    when = {}
    for key in ("shrunk_at", "aligned_at"):
        steps = [e[key] for e in events if e[key] is not None]
        when[key] = f"at step {min(steps)} to {max(steps)}" if steps else "never"
        when[key] += (
            f" (never in {len(events) - len(steps)})" if 0 < len(steps) < len(events) else ""
        )
    told = (
        f"in {sum(first)} of {len(events)} starts; below a tenth of the average {when['shrunk_at']}, "
        f"99 % of partners nearest {when['aligned_at']}"
    )
    return Case("", all(first), told)


def _masses(settings: Simulation) -> dict[str, Any]:
    """Return the start's clouds, S_i of y, and its correlation with the distance to mean(x)."""
    x, y = initial_clouds(settings)
    sums = np.asarray(softmax_sums(x, y, temperature=settings.temperature).y)
    distance = np.linalg.norm(y - x.mean(axis=0), axis=1)
    rows = point_rows(np.round(x, 4), np.round(y, 4), temperature=settings.temperature)
    for row in rows:
        row["mass"] = float(sums[row["pair"]]) if row["side"] == "y" else None
    return {
        "temperature": settings.temperature,
        "points": settings.n,
        "correlation": float(spearmanr(distance, sums).statistic),
        "rows": rows,
    }


def _events(run: Trajectory) -> dict[str, Any]:
    return {
        "seed": run.settings.seed,
        "shrunk_at": _first(run.step, runs.larger(run, "variance_ratio") < _SHRUNK),
        "aligned_at": _first(run.step, runs.aligned(run) >= _ALIGNED),
        "start_gap": float(run.gap[0]),
        "end_gap": float(run.gap[-1]),
        "end_loss": float(run.loss[-1]),
    }


def _first(steps: np.ndarray, reached: np.ndarray) -> int | None:
    return int(steps[np.argmax(reached)]) if reached.any() else None


def _points(run: Trajectory) -> Rows:
    """Return the stages along the gap at the start, and across it."""
    first = run.snapshots[0]
    gap = np.mean(first.y, axis=0) - np.mean(first.x, axis=0)
    along = gap / np.linalg.norm(gap)
    last = run.snapshots[-1]
    rest = np.asarray(last.x) - np.mean(last.x, axis=0)
    rest -= np.outer(rest @ along, along)
    axes = np.stack([along, np.linalg.svd(rest, full_matrices=False)[2][0]])
    return [
        row
        for kept in run.snapshots
        for row in point_rows(
            np.round(np.asarray(kept.x) @ axes.T, 4), np.round(np.asarray(kept.y) @ axes.T, 4),
            step=kept.step,
        )
    ]  # fmt: skip


def _chart(tables: dict[str, Rows]) -> Any:
    alt = theme.altair()
    above = alt.hconcat(*(_mass_panel(tables["masses"], t) for t in _TEMPERATURES))
    steps = list(dict.fromkeys(row["step"] for row in tables["points"]))
    spans = {axis: [row[axis] for row in tables["points"]] for axis in "ab"}
    x_scale, y_scale = (fixed(min(v) - 0.1, max(v) + 0.1) for v in spans.values())
    pictures: list[Any] = []
    for step in steps:
        own = [row for row in tables["points"] if row["step"] == step]
        axis = alt.Axis(tickCount=3)
        x = alt.X("a:Q", title="along the gap", scale=x_scale, axis=axis)
        y = alt.Y("b:Q", title=None if pictures else "across it", scale=y_scale, axis=axis)
        panel = linked_clouds(own, x, y, size=16)
        pictures.append(panel.properties(width=124, height=124, title=f"step {step:,}"))
    middle = alt.hconcat(*pictures, spacing=12).properties(
        title=alt.TitleParams("Descent from isotropic clouds", fontSize=15)
    )
    order = runs.named("loss", "gap", "variance_ratio")
    below = curves(tables["curves"], order, steps="sqrt").properties(width=970, height=180)
    apart = {"color": "independent", "shape": "independent", "strokeDash": "independent"}
    return alt.vconcat(above, middle, below).resolve_scale(**apart)


def _mass_panel(rows: Rows, temperature: float) -> Any:
    alt = theme.altair()
    own = [row for row in rows if row["temperature"] == temperature]
    # the plane lies on its side, one scale for both axes: what counts is the distance
    x, y = (
        letter(f"{axis}:Q", title=None, scale=fixed(min(v) - 0.05, max(v) + 0.05))
        for letter, axis, v in (
            (alt.X, "b", [row["b"] for row in rows]),
            (alt.Y, "a", [row["a"] for row in rows]),
        )
    )
    grey = alt.Chart(theme.table([r for r in own if r["side"] == "x"])).mark_point(
        shape="triangle", filled=True, size=26, color=theme.MUTED, opacity=0.6
    )
    dots = alt.Chart(theme.table([r for r in own if r["side"] == "y"])).mark_point(
        filled=True, size=34, opacity=0.95, stroke=theme.MUTED, strokeWidth=0.4
    )
    masses = [row["mass"] for row in rows if row["mass"] is not None]
    color = alt.Color(
        "mass:Q",
        title="S_i of y (logarithmic scale, the same for both)",
        scale=alt.Scale(scheme="viridis", type="log", domain=[min(masses), max(masses)]),
        legend=alt.Legend(gradientLength=300, titleLimit=400, format="~g"),
    )
    title = f"y by S_i, x grey; temperature {temperature:g}"
    panel = alt.layer(grey.encode(x=x, y=y), dots.encode(x=x, y=y, color=color))
    return panel.properties(width=445, height=233, title=title)
