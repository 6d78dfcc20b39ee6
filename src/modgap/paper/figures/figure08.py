"""Figure 8: robustness and clean accuracy against the share of the gap that is closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.evaluation.study import evaluate
from modgap.paper.figures.record import Figure, judge, listed
from modgap.paper.figures.sources import EMBED, Labelled, Sources
from modgap.robustness.noise import Gaussian

__all__ = ["figure"]

CLAIM = (
    "robustness rises as the gap is closed, at every noise level, while clean accuracy does not move; "
    "past full closing robustness is no longer monotone"
)
SIGMAS = (0.005, 0.022, 0.040)
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
#: A fall of stability, or a move of accuracy, below this is rounding.
_SLACK = 1e-5


def figure(
    sources: Sources, *, sigmas: Sequence[float] = SIGMAS, alphas: Sequence[float] = ALPHAS
) -> Figure:
    """Return the figure, by exact integration: stability is the paper's Rob."""
    found = [_dataset(data, sigmas, alphas) for data in sources.labelled]
    rises = {d["dataset"]: [_rises(line, alphas) for line in d["stability"]] for d in found}
    flat = {d["dataset"]: bool(np.ptp(d["clean_accuracy"]) <= _SLACK) for d in found}
    turns = {d["dataset"]: [_turns(line) for line in d["stability"]] for d in found}
    one = list(alphas).index(1.0)
    verdict = " ".join(
        f"{d['dataset']}: stability goes from {listed(line[0] for line in d['stability'])} to "
        f"{listed(line[one] for line in d['stability'])} at alpha 1 (affine "
        f"{listed(d['affine'])}) under noise of {listed(sigmas, 'g')}; clean accuracy "
        f"{d['clean_accuracy'][0]:.3f} throughout."
        if flat[d["dataset"]]
        else f"{d['dataset']}: clean accuracy moves by {np.ptp(d['clean_accuracy']):.4f}."
        for d in found
    )
    verdict += (
        " Stability rises up to alpha 1 in "
        f"{sum(map(sum, rises.values()))} of {len(found) * len(sigmas)} curves and turns down past it in "
        f"{sum(map(sum, turns.values()))}."
    )
    parts = [*(r for rise in rises.values() for r in rise), *flat.values()]
    return Figure(
        8, "Robustness and clean accuracy against alpha", CLAIM, judge(parts), verdict,
        {"alphas": list(alphas), "sigmas": list(sigmas), "datasets": found, "rises": rises,
         "flat": flat, "turns": turns},
        _chart(found, sigmas, alphas), tuple(d["dataset"] for d in found),
        (f"The paper shows CIFAR-10 and CIFAR-100 with more models. {EMBED}",),
    )  # fmt: skip


def _dataset(data: Labelled, sigmas: Sequence[float], alphas: Sequence[float]) -> dict[str, Any]:
    noises = [Gaussian(sigma) for sigma in sigmas]
    template = _best_template(data)
    study = evaluate(data.task(template), ["orthogonal", "affine"], alphas, noises)
    rows = [row for row in study.to_dict()["closers"] if row["method"] == "orthogonal"]
    affine = next(
        row
        for row in study.to_dict()["closers"]
        if row["method"] == "affine" and row["alpha"] == 1.0
    )
    return {
        "dataset": data.name,
        "template": data.templates[template],
        "clean_accuracy": [row["clean_accuracy"] for row in rows],
        "agreement": [row["agreement"] for row in rows],
        "stability": [[row["noises"][j]["stability"] for row in rows] for j in range(len(sigmas))],
        "affine": [noise["stability"] for noise in affine["noises"]],
    }


def _best_template(data: Labelled) -> int:
    """Return the template in plain use: the first that speaks of a photo, else the first."""
    return next((i for i, name in enumerate(data.templates) if "photo" in name), 0)


def _rises(line: Sequence[float], alphas: Sequence[float]) -> bool:
    closing = [value for value, alpha in zip(line, alphas, strict=True) if alpha <= 1.0]
    return bool((np.diff(closing) >= -_SLACK).all() and closing[-1] > closing[0])


def _turns(line: Sequence[float]) -> bool:
    return bool((np.diff(line) < -_SLACK).any())


def _chart(found: list[dict[str, Any]], sigmas: Sequence[float], alphas: Sequence[float]) -> Any:
    alt = theme.altair()
    names = [f"stability, noise {sigma:g}" for sigma in sigmas]
    domain, colors = [*names, "clean accuracy"], [*theme.CYCLE[: len(names)], theme.MUTED]
    scale = alt.Scale(domain=domain, range=colors)
    panels = []
    for data in found:
        curves = dict(zip(domain, [*data["stability"], data["clean_accuracy"]], strict=True))
        rows = [
            {"alpha": a, "value": v, "line": name}
            for name, values in curves.items()
            for a, v in zip(alphas, values, strict=True)
        ]
        base = alt.Chart(theme.table(rows)).encode(
            x=alt.X(
                "alpha:Q", title="alpha (1: closed)", axis=alt.Axis(values=[0, 0.5, 1, 1.5, 2])
            ),
            y=alt.Y("value:Q", title="share of queries", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("line:N", title=None, scale=scale),
            shape=alt.Shape("line:N", title=None, scale=alt.Scale(domain=domain)),
        )
        levels = [{"value": v, "line": n} for n, v in zip(names, data["affine"], strict=True)]
        rules = alt.Chart(theme.table(levels)).mark_rule(strokeDash=[5, 4], strokeWidth=1.4)
        rules = rules.encode(y="value:Q", color=alt.Color("line:N", title=None, scale=scale))
        title = alt.TitleParams(
            data["dataset"], subtitle=f"template: {data['template']}; dashed: affine"
        )
        marks = base.mark_point(filled=True, size=45)
        panels.append(
            alt.layer(rules, base.mark_line(strokeWidth=2), marks).properties(
                width=250, height=230, title=title
            )
        )
    return alt.hconcat(*panels)
