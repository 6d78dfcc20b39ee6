"""Figure 9: robustness when the gallery is stored in few levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import Task
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import EMBED, Sources
from modgap.robustness.noise import Bins

__all__ = ["figure"]

CLAIM = "closing the gap makes answers more robust to quantization of the embeddings"
BINS = (32, 64, 128, 256)
METHODS = ("none", "recenter", "orthogonal", "affine")
#: A whole curve counts as no worse if its mean is within this of the one before closing.
_SLACK = 5e-4


def figure(sources: Sources, *, bins: Sequence[int] = BINS) -> Figure:
    """Return the figure: the gallery quantized after each closer's map, range of the whole cloud."""
    found = []
    for data in sources.labelled:
        found += _rows(data.task(), data.name, bins)
    for pair in sources.pairs:
        found += _rows(pair.task(), pair.name, bins)
    means = [
        {
            "setting": s,
            **{r["method"]: float(np.mean(r["stability"])) for r in found if r["setting"] == s},
        }
        for s in dict.fromkeys(row["setting"] for row in found)
    ]
    better = {m: [row[m] >= row["none"] - _SLACK for row in means] for m in METHODS[1:]}
    verdict = " ".join(
        f"{row['setting']}: {row['none']:.3f} as it is, {row['orthogonal']:.3f} orthogonal, "
        f"{row['affine']:.3f} affine, {row['recenter']:.3f} with recentring alone."
        for row in means
    )
    verdict = (
        f"Mean share of answers kept over {', '.join(map(str, bins))} levels. {verdict} No worse than "
        f"before in {sum(better['orthogonal'])} of {len(means)} settings (orthogonal), "
        f"{sum(better['affine'])} (affine)."
    )
    return Figure(
        9, "Robustness to quantization", CLAIM, judge(better["orthogonal"] + better["affine"]), verdict,
        {"bins": list(bins), "rows": found, "means": means}, _chart(found, bins),
        tuple(dict.fromkeys(row["dataset"] for row in found)),
        (f"The paper shows more models and datasets. {EMBED}",),
    )  # fmt: skip


def _rows(task: Task, name: str, bins: Sequence[int]) -> list[dict[str, Any]]:
    study = evaluate(task, METHODS, noises=[Bins(n) for n in bins])
    several = len(task.problems) > 1
    return [
        {
            "dataset": name,
            "setting": f"{name}, {row['problem']}" if several else name,
            "method": row["method"],
            "stability": [noise["stability"] for noise in row["noises"]],
            "accuracy": [noise["noisy_accuracy"] for noise in row["noises"]],
            "clean_accuracy": row["clean_accuracy"],
        }
        for row in study.to_dict()["closers"]
    ]


def _chart(found: list[dict[str, Any]], bins: Sequence[int]) -> Any:
    alt = theme.altair()
    panels = []
    for setting in dict.fromkeys(row["setting"] for row in found):
        rows = [
            {"bins": str(n), "stability": value, "method": row["method"]}
            for row in found
            if row["setting"] == setting
            for n, value in zip(bins, row["stability"], strict=True)
        ]
        base = alt.Chart(theme.table(rows)).encode(
            x=alt.X(
                "bins:O", title="levels", sort=[str(n) for n in bins], axis=alt.Axis(labelAngle=0)
            ),
            y=alt.Y("stability:Q", title="answers kept", scale=alt.Scale(zero=False, padding=8)),
            **theme.keyed("method", METHODS),
        )
        layers = alt.layer(base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=55))
        panels.append(layers.properties(width=230, height=190, title=setting))
    return alt.vconcat(*(alt.hconcat(*panels[i : i + 3]) for i in range(0, len(panels), 3)))
