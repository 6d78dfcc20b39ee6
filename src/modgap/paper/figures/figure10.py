"""Figure 10: other caption templates, and multiple choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.charts import theme
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import MultipleChoice
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import EMBED, Labelled, Pairs, Sources
from modgap.robustness.noise import Gaussian

__all__ = ["figure"]

CLAIM = (
    "closing the gap makes answers more robust to another caption template, and to noise in multiple "
    "choice (A-OKVQA)"
)
METHODS = ("none", "orthogonal", "affine")
SIGMAS = (0.022, 0.040, 0.080)
_CHOICES = 4
_SLACK = 1e-4
_AOKVQA = (
    "A-OKVQA is not at hand. Embed each image as a query and its four answers, each written out with "
    "the question, as candidates (m, 4, d), and call modgap.evaluate(MultipleChoice(queries, candidates, "
    "answers)); with modgap evaluate, pass candidates as the gallery and --answers."
)


def figure(sources: Sources) -> Figure:
    """Return the figure: retention under each other template, and stability in multiple choice."""
    several: list[Labelled] = [data for data in sources.labelled if data.texts.shape[0] > 1]
    templates = [row for data in several for row in _templates(data)]
    choices = [row for pair in sources.pairs for row in _choice(pair)]
    means = _means(templates)
    parts = [row[m] >= row["none"] - _SLACK for row in means for m in METHODS[1:]]
    steady = [row["affine"] >= row["none"] - _SLACK for row in choices]
    verdict = " ".join(
        f"{row['dataset']}: under another template {row['none']:.3f} of the answers stay as the embeddings "
        f"are, {row['orthogonal']:.3f} with the first template's orthogonal closure on both, "
        f"{row['affine']:.3f} with its affine closure."
        for row in means
    )
    if choices:
        verdict += " In multiple choice made of captions, stability goes " + ", ".join(
            f"from {row['none']:.3f} to {row['affine']:.3f} (affine) under noise of {row['sigma']:g}"
            for row in choices
        ) + "."  # fmt: skip
    return Figure(
        10, "Other caption templates, and multiple choice", CLAIM, judge(parts + steady), verdict,
        {"templates": templates, "template_means": means, "multiple_choice": choices},
        _chart(templates, choices), (*(d.name for d in several), *(p.name for p in sources.pairs)),
        (_AOKVQA, *(() if sources.pairs else (f"Pairs of images and captions. {EMBED}",))),
    )  # fmt: skip


def _templates(data: Labelled) -> list[dict[str, Any]]:
    """Return, per other template, the share of answers it keeps before closing and after."""
    study = evaluate(data.task(), METHODS, noises=(), paraphrase=True)
    rows = []
    for row in study.to_dict()["closers"]:
        for noise in row["noises"]:
            rows.append(
                {
                    "dataset": data.name,
                    "reference": data.templates[0],
                    "template": noise["noise"].removeprefix("paraphrase:"),
                    "method": row["method"],
                    "retention": noise["retention"],
                    "accuracy": noise["noisy_accuracy"],
                }
            )
    return rows


def _means(templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": name,
            **{
                method: float(
                    np.mean([r["retention"] for r in templates
                             if r["dataset"] == name and r["method"] == method])
                )
                for method in METHODS
            },
        }
        for name in dict.fromkeys(row["dataset"] for row in templates)
    ]  # fmt: skip


def _choice(pair: Pairs) -> list[dict[str, Any]]:
    """Return stability where each image picks its caption among three of other images, drawn once."""
    rng = np.random.default_rng(0)
    rows = len(pair.images)
    if rows < _CHOICES:
        return []
    others = np.stack(
        [rng.permutation(np.delete(np.arange(rows), i))[: _CHOICES - 1] for i in range(rows)]
    )
    picks = np.hstack([np.arange(rows)[:, None], others])
    order = rng.permuted(np.tile(np.arange(_CHOICES), (rows, 1)), axis=1)
    picks = np.take_along_axis(picks, order, axis=1)
    answers = np.argmax(order == 0, axis=1)
    task = MultipleChoice(pair.images, pair.texts[picks], answers, metric="euclidean")
    study = evaluate(task, METHODS, noises=[Gaussian(sigma) for sigma in SIGMAS])
    return [
        {
            "dataset": pair.name,
            "sigma": sigma,
            "clean_accuracy": study.to_dict()["closers"][0]["clean_accuracy"],
            **{row["method"]: row["noises"][j]["stability"] for row in study.to_dict()["closers"]},
        }
        for j, sigma in enumerate(SIGMAS)
    ]


def _chart(templates: list[dict[str, Any]], choices: list[dict[str, Any]]) -> Any:
    alt = theme.altair()
    panels = []
    key = theme.keyed("method", METHODS)
    for name in dict.fromkeys(row["dataset"] for row in templates):
        rows = [row for row in templates if row["dataset"] == name]
        reference = rows[0]["reference"]
        order = [row["template"] for row in rows]
        title = alt.TitleParams(name, subtitle=f"closures of “{reference}” applied to:")
        panels.append(
            alt.Chart(theme.table(rows), title=title)
            .mark_point(filled=True, size=60)
            .encode(
                x=alt.X("retention:Q", title="answers kept", scale=alt.Scale(zero=False)),
                y=alt.Y(
                    "template:N", title=None, sort=order, axis=alt.Axis(labelLimit=240, grid=True)
                ),
                **key,
            )
            .properties(width=230, height=alt.Step(20))
        )
    if choices:
        panels.append(_choice_chart(choices, key))
    return alt.hconcat(*panels) if panels else alt.Chart(theme.table([])).mark_point()


def _choice_chart(choices: list[dict[str, Any]], key: dict[str, Any]) -> Any:
    alt = theme.altair()
    rows = [
        {"sigma": f"{row['sigma']:g}", "gain": row[method] - row["none"], "method": method}
        for row in choices
        for method in METHODS
    ]
    title = alt.TitleParams(
        f"{choices[0]['dataset']}: multiple choice",
        subtitle="own caption and three of other images; not A-OKVQA",
    )
    base = alt.Chart(theme.table(rows), title=title).encode(
        x=alt.X("sigma:O", title="Gaussian noise", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("gain:Q", title="stability gained by closing"),
        **key,
    )
    layers = alt.layer(base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=60))
    return layers.properties(width=230, height=220)
