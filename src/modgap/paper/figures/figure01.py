"""Figure 1: the two clouds in three dimensions, and an image whose class hangs on the caption."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap import measures
from modgap.charts import theme
from modgap.decisions.neighbors import nearest
from modgap.paper.figures.record import Figure, judge
from modgap.paper.figures.sources import EMBED, Labelled, Sources

__all__ = ["figure"]

CLAIM = (
    "images and texts of CLIP lie in two clearly separated regions, and rewording the caption can "
    "change an image's class and cost over 6 % of accuracy"
)
_POINTS = 300
_SEPARATED, _DROP = 0.99, 0.06


def figure(sources: Sources) -> Figure:
    """Return the figure."""
    data = sources.first()
    texts = data.texts[0] if data.texts.ndim == 3 else data.texts
    clouds = _projections(data.images, texts)
    probe = measures.linear_separability(data.images, texts)
    several = [d for d in sources.labelled if d.texts.shape[0] > 1]
    flips = [_flips(d) for d in several]
    worst = max(flips, key=lambda f: f["drop"], default=None)
    parts = [probe >= _SEPARATED]
    verdict = (
        f"A linear probe tells images from texts of {data.name} with accuracy {probe:.3f} on rows it "
        f"has not seen (gap {measures.centroid_gap(data.images, texts):.3f})."
    )
    if worst is not None:
        parts.append(worst["drop"] > _DROP)
        verdict += (
            f" The choice of the template costs up to {worst['drop']:.1%} of accuracy ({worst['dataset']}: "
            f"{worst['best']:.3f} to {worst['worst']:.3f}); image {worst['image']} gets "
            f"{worst['answers']} different classes from {len(worst['templates'])} templates."
        )
    numbers = {"clouds": clouds, "separability": probe, "templates": flips, "dataset": data.name}
    return Figure(
        1, "Two clouds, and a class that hangs on the caption", CLAIM, judge(parts), verdict, numbers,
        _chart(clouds, worst, data.name), tuple(dict.fromkeys([data.name, *(d.name for d in several)])),
        () if sources.pairs else (f"MS-COCO pairs would give the paper's own clouds. {EMBED}",),
    )  # fmt: skip


def _projections(images: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
    """Return both clouds on the first three principal components of their union."""
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(len(cloud))[:_POINTS]) for cloud in (images, texts)]
    rows = np.vstack([images[kept[0]], texts[kept[1]]]).astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows -= rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    points = np.round(rows @ axes[:3].T, 5)
    share = (sizes**2 / (sizes**2).sum())[:3]
    cut = len(kept[0])
    return {"images": points[:cut], "texts": points[cut:], "variance_share": share}


def _flips(data: Labelled) -> dict[str, Any]:
    """Return accuracy per template, and the image whose class changes most among the templates."""
    decided = np.stack(
        [nearest(data.images, texts, metric="cosine").indices[:, 0] for texts in data.texts]
    )
    accuracy = (decided == data.labels).mean(axis=1)
    kinds = np.array([len(set(column)) for column in decided.T])
    mixed = (decided == data.labels).mean(axis=0)
    image = int(np.lexsort((np.abs(mixed - 0.5), -kinds))[0])
    return {
        "dataset": data.name,
        "templates": list(data.templates),
        "accuracy": accuracy,
        "best": float(accuracy.max()),
        "worst": float(accuracy.min()),
        "drop": float(accuracy.max() - accuracy.min()),
        "image": image,
        "answers": int(kinds[image]),
        "image_label": data.classes[int(data.labels[image])],
        "image_classes": [data.classes[int(c)] for c in decided[:, image]],
        "changed": float((kinds > 1).mean()),
    }


def _chart(clouds: dict[str, Any], worst: dict[str, Any] | None, name: str) -> Any:
    alt = theme.altair()
    sides = theme.keyed("side", ["images", "texts"])
    rows = [
        {"side": side, "p1": float(p[0]), "p2": float(p[1]), "p3": float(p[2])}
        for side in ("images", "texts")
        for p in clouds[side]
    ]
    panels = []
    for across, up in (("1", "2"), ("1", "3"), ("2", "3")):
        panels.append(
            alt.Chart(theme.table(rows))
            .mark_point(filled=True, opacity=0.5, size=18)
            .encode(
                x=alt.X(f"p{across}:Q", title=f"principal component {across}"),
                y=alt.Y(f"p{up}:Q", title=f"principal component {up}"),
                **sides,
            )
            .properties(width=210, height=200)
        )
    left = alt.hconcat(*panels).properties(title=f"{name}: images and texts")
    if worst is None:
        return left
    return alt.vconcat(left, _decisions(worst)).resolve_scale(
        color="independent", shape="independent"
    )


def _decisions(worst: dict[str, Any]) -> Any:
    alt = theme.altair()
    right = worst["image_label"]
    rows = [
        {
            "template": t,
            "class": c,
            "accuracy": float(a),
            "kind": "right" if c == right else "wrong",
        }
        for t, c, a in zip(
            worst["templates"], worst["image_classes"], worst["accuracy"], strict=True
        )
    ]
    classes = len(set(worst["image_classes"]))
    y = alt.Y("template:N", title=None, sort=worst["templates"], axis=alt.Axis(labelLimit=260))
    decided = (
        alt.Chart(theme.table(rows), title=f"Class of image {worst['image']} (right: {right})")
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("class:N", title=None, axis=alt.Axis(labelAngle=0)),
            y=y,
            **theme.keyed("kind", ["right", "wrong"]),
        )
        .properties(width=max(160, 80 * classes), height=alt.Step(17))
    )
    accuracy = (
        alt.Chart(theme.table(rows), title="Accuracy over all images")
        .mark_point(filled=True, size=60, color=theme.INK)
        .encode(
            x=alt.X(
                "accuracy:Q",
                title="zero-shot accuracy",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=4),
            ),
            y=alt.Y("template:N", title=None, sort=worst["templates"], axis=alt.Axis(labels=False)),
        )
        .properties(width=200, height=alt.Step(17))
    )
    return alt.hconcat(decided, accuracy).resolve_scale(color="independent", shape="independent")
