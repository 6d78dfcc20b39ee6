"""Figure 2: accuracy when the texts move along the full gap."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap._core.arrays import normalize_rows
from modgap.charts import theme
from modgap.decisions.neighbors import nearest
from modgap.paper.figures.record import Figure
from modgap.paper.figures.sources import EMBED, Sources

__all__ = ["figure"]

CLAIM = (
    "moving the texts by alpha along the full gap changes accuracy without a clear rule: some "
    "datasets gain from a smaller gap, some from the gap as it is, some from a larger one"
)
ALPHAS = tuple(np.round(np.arange(-0.5, 1.51, 0.125), 3).tolist())
#: Accuracy must change by this to count as a gain or a loss.
_NOTABLE = 0.005


def figure(sources: Sources) -> Figure:
    """Return the figure; alpha 0 is the gap as it is, 1 closes it, below 0 widens it."""
    lines: list[dict[str, Any]] = []
    for data in sources.labelled:
        for i, template in enumerate(data.templates[:4]):
            found = _sweep(
                data.images, data.texts[i], data.images, data.texts[i], data.labels, True
            )
            name = template if len(data.templates) > 1 else "class names"
            lines.append({"dataset": data.name, "line": name, "accuracy": found})
    for pair in sources.pairs:
        own = np.arange(len(pair.images))
        for name, texts_move in (("image to text", True), ("text to image", False)):
            queries, gallery = (
                (pair.images, pair.texts) if texts_move else (pair.texts, pair.images)
            )
            found = _sweep(pair.images, pair.texts, queries, gallery, own, texts_move)
            lines.append({"dataset": pair.name, "line": name, "accuracy": found})
    zero, one = ALPHAS.index(0.0), ALPHAS.index(1.0)
    for line in lines:
        line["best_alpha"] = ALPHAS[int(np.argmax(line["accuracy"]))]
        line["change_when_closed"] = line["accuracy"][one] - line["accuracy"][zero]
    best = [line["best_alpha"] for line in lines]
    change = [line["change_when_closed"] for line in lines]
    gains = sum(c > _NOTABLE for c in change)
    losses = sum(c < -_NOTABLE for c in change)
    holds = _no_rule(best, gains, losses, len(lines))
    verdict = (
        f"Over {len(lines)} settings the best alpha lies between {min(best):g} and {max(best):g}; closing "
        f"fully (alpha 1) gains accuracy in {gains}, loses it in {losses}, and changes it by "
        f"{min(change):+.3f} to {max(change):+.3f}."
    )
    return Figure(
        2, "Accuracy along the full gap", CLAIM, holds, verdict, {"alphas": list(ALPHAS), "lines": lines},
        _chart(lines), tuple(dict.fromkeys(line["dataset"] for line in lines)),
        (f"The paper also shows ImageNet and more models. {EMBED}",),
    )  # fmt: skip


def _no_rule(best: list[float], gains: int, losses: int, count: int) -> bool | str:
    """No rule: the best alphas lie on both sides of the gap as it is, or closing cuts both ways."""
    if count < 2:
        return "partly"
    differ = max(best) - min(best) >= 0.25
    return True if differ and losses > 0 else "partly" if differ else False


def _sweep(
    images: np.ndarray,
    texts: np.ndarray,
    queries: np.ndarray,
    gallery: np.ndarray,
    labels: np.ndarray,
    texts_searched: bool,
) -> list[float]:
    """Return the accuracy at each alpha, by cosine, the texts renormalised after they moved."""
    gap = images.mean(axis=0, dtype=np.float64) - texts.mean(axis=0, dtype=np.float64)
    found = []
    for alpha in ALPHAS:
        moved = normalize_rows(np.asarray(texts, dtype=np.float64) + alpha * gap)
        pair = (queries.astype(np.float64), moved) if texts_searched else (moved, gallery)
        decided = nearest(pair[0], np.asarray(pair[1], dtype=np.float64), metric="cosine").indices[
            :, 0
        ]
        found.append(float((decided == labels).mean()))
    return found


def _chart(lines: list[dict[str, Any]]) -> Any:
    alt = theme.altair()
    charts = []
    for name in dict.fromkeys(line["dataset"] for line in lines):
        own = [line for line in lines if line["dataset"] == name]
        rows = [
            {"alpha": a, "accuracy": v, "line": line["line"]}
            for line in own
            for a, v in zip(ALPHAS, line["accuracy"], strict=True)
        ]
        order = [line["line"] for line in own]
        base = alt.Chart(theme.table(rows)).encode(
            x=alt.X("alpha:Q", title="alpha (0: as it is, 1: closed)", scale=alt.Scale(nice=False)),
            y=alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(zero=False)),
            **theme.keyed("line", order, by="strokeDash", columns=1),
        )
        rule = (
            alt.Chart(theme.table([{"alpha": 0.0}, {"alpha": 1.0}]))
            .mark_rule(color=theme.MUTED, strokeWidth=1, opacity=0.6)
            .encode(x="alpha:Q")
        )
        layers = alt.layer(rule, base.mark_line(strokeWidth=2.2))
        charts.append(layers.properties(width=300, height=200, title=name))
    apart = {"color": "independent", "strokeDash": "independent"}
    twos = [
        alt.hconcat(*charts[i : i + 2]).resolve_scale(**apart) for i in range(0, len(charts), 2)
    ]
    return alt.vconcat(*twos).resolve_scale(**apart)
