"""Figure 1: the two clouds in three dimensions, and an image whose class hangs on the caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from modgap import measures
from modgap.charts import theme
from modgap.decisions.neighbors import nearest
from modgap.paper.figures.drawing import fixed
from modgap.paper.figures.record import Case, Estimate, Figure, Rows, findings
from modgap.paper.figures.sources import EMBED, Labelled, Sources

__all__ = ["figure"]

CLAIM = (
    "images and texts of CLIP lie in two clearly separated regions, and rewording the caption can "
    "change an image's class and cost over 6 % of accuracy"
)
_POINTS = 300
_SEPARATED, _DROP, _HELD_OUT, _FEWEST = 0.99, 0.06, 0.25, 2
#: Where the name of an axis stands, against the middle of its edge.
_PLACES: dict[str, dict[str, Any]] = {
    "up": {"align": "right", "dx": -6},
    "left": {"align": "right", "dx": -4, "dy": 12},
    "right": {"align": "left", "dx": 8, "dy": 10},
}
#: Azimuths of the two views, in degrees, and their common elevation.
_SIDES, _ELEVATION = (30, 120), 20


def figure(sources: Sources) -> Figure:
    """Return the figure."""
    data = sources.all()[0]
    clouds = _projections(*data.clouds())
    several = [d for d in sources.labelled if d.texts.shape[0] > 1]
    flips = [_flips(d) for d in several]
    probes = {d.name: _probe(*d.clouds()) for d in sources.all()}
    told = (
        *findings("images and texts lie in two clearly separated regions", map(_apart, probes.items())),
        *findings("an image's class can change with the caption", map(_changes, flips), _ONE_TEMPLATE),
        *findings("over 6 % of accuracy can go with the caption", map(_costs, flips), _ONE_TEMPLATE),
    )  # fmt: skip
    shown = max(flips, key=lambda f: f["answers"], default=None)
    tables: dict[str, Rows] = {"clouds": _cloud_rows(clouds)}
    if shown is not None:
        tables["templates"] = _template_rows(shown)
    return Figure(
        1, "Two clouds, and a class that hangs on the caption", CLAIM, told,
        {"projected": data.name, "variance_share": clouds["share"], "probes": probes, "templates": flips},
        tables, _chart(clouds, tables, data.name, shown),
        tuple(d.name for d in sources.all()),
        (f"The paper's second part is ImageNet under many templates. {EMBED}",),
    )  # fmt: skip


_ONE_TEMPLATE = "no set at hand has several caption templates"


def _probe(images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """Return the accuracy of a linear probe on rows it has not seen, and how many those were."""
    rate = measures.linear_separability(images, texts, test_share=_HELD_OUT)
    held_out = [max(1, round(_HELD_OUT * len(cloud))) for cloud in (images, texts)]
    return {
        "accuracy": rate,
        "held_out": float(sum(held_out)),
        "fewest": float(min(held_out)),
        "gap": measures.centroid_gap(images, texts),
    }


def _apart(probe: tuple[str, dict[str, float]]) -> Case:
    name, found = probe
    enough = found["fewest"] >= _FEWEST  # one text that is missed tells nothing of the others
    return Case(
        name,
        found["accuracy"] >= _SEPARATED if enough else None,
        f"a linear probe is right on {found['accuracy']:.3f} of {found['held_out']:.0f} held-out rows, gap "
        f"{found['gap']:.3f}",
    )


def _changes(found: dict[str, Any]) -> Case:
    return Case(
        found["dataset"],
        True if found["changed"].value > 0 else None,
        f"{found['changed']:.3f} of the images change class among {len(found['templates'])} templates, "
        f"one gets {found['answers']} classes",
    )


def _costs(found: dict[str, Any]) -> Case:
    """Return what one set says: where less is lost, that says nothing of the set where more is."""
    drop = found["drop"]
    return Case(
        found["dataset"], True if drop.beyond(_DROP) else None, f"at most {drop:.3f} is lost"
    )


def _projections(images: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
    """Return both clouds on the first three principal components of their union."""
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(len(cloud))[:_POINTS]) for cloud in (images, texts)]
    rows = np.vstack([images[kept[0]], texts[kept[1]]]).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    axes = axes[:3] * np.sign(axes[:3, np.argmax(np.abs(axes[:3]), axis=1)].diagonal())[:, None]
    points = np.round(rows @ axes.T, 5)
    share = (sizes**2 / (sizes**2).sum())[:3]
    cut = len(kept[0])
    return {"images": points[:cut], "texts": points[cut:], "share": share}


def _flips(data: Labelled) -> dict[str, Any]:
    """Return accuracy per template, and the image whose class changes most among the templates."""
    decided = np.stack(
        [nearest(data.images, texts, metric="cosine").indices[:, 0] for texts in data.texts]
    )
    right = decided == data.labels
    accuracy = right.mean(axis=1)
    kinds = np.array([len(set(column)) for column in decided.T])
    image = int(np.lexsort((np.abs(right.mean(axis=0) - 0.5), -kinds))[0])
    best, worst = right[np.argmax(accuracy)], right[np.argmin(accuracy)]
    return {
        "dataset": data.name,
        "templates": list(data.templates),
        "accuracy": [Estimate.of(row) for row in right],
        "drop": Estimate.of(best.astype(float) - worst),
        "image": image,
        "answers": int(kinds[image]),
        "image_label": data.classes[int(data.labels[image])],
        "image_classes": [data.classes[int(c)] for c in decided[:, image]],
        "changed": Estimate.of(kinds > 1),
    }


def _cloud_rows(clouds: dict[str, Any]) -> Rows:
    return [
        {"side": side, "pc1": float(p[0]), "pc2": float(p[1]), "pc3": float(p[2])}
        for side in ("images", "texts")
        for p in clouds[side]
    ]


def _template_rows(found: dict[str, Any]) -> Rows:
    return [
        {
            "template": template,
            "class": name,
            "kind": "right" if name == found["image_label"] else "wrong",
            "accuracy": rate.value,
            "low": rate.value - rate.stderr,
            "high": rate.value + rate.stderr,
        }
        for template, name, rate in zip(
            found["templates"], found["image_classes"], found["accuracy"], strict=True
        )
    ]


def _chart(
    clouds: dict[str, Any], tables: dict[str, Rows], name: str, shown: dict[str, Any] | None
) -> Any:
    alt = theme.altair()
    corners = np.array(
        list(product(*zip(*(f(np.vstack([clouds["images"], clouds["texts"]]), axis=0)
                            for f in (np.min, np.max)), strict=True)))
    )  # fmt: skip
    views = [_view(tables["clouds"], corners, clouds["share"], side) for side in _SIDES]
    title = alt.TitleParams(
        f"{name}: three principal components of images and texts, from two sides",
        subtitle="all axes to one scale; nearer points are larger; the black line joins the two means",
    )
    above = alt.hconcat(*views, spacing=0).properties(title=title)
    if shown is None:
        return above
    return alt.vconcat(above, _decisions(tables["templates"], shown)).resolve_scale(
        color="independent", shape="independent", size="independent", opacity="independent"
    )


def _turned(points: np.ndarray, azimuth: float) -> np.ndarray:
    """Return where points (k, 3) are seen: across, up, and towards the reader."""
    a, e = math.radians(azimuth), math.radians(_ELEVATION)
    across = points[:, 0] * math.cos(a) + points[:, 1] * math.sin(a)
    back = -points[:, 0] * math.sin(a) + points[:, 1] * math.cos(a)
    up = points[:, 2] * math.cos(e) + back * math.sin(e)
    return np.stack([across, up, -back * math.cos(e) + points[:, 2] * math.sin(e)], axis=1)


def _view(rows: Rows, corners: np.ndarray, share: Sequence[float], azimuth: float) -> Any:
    """Return the clouds in their box, seen from one side."""
    alt = theme.altair()
    middle = corners.mean(axis=0)
    # one scale for both views, whatever is turned towards the reader
    every = np.stack([_turned(corners - middle, side) for side in _SIDES])
    reach = 1.08 * float(np.abs(every[:, :, 0]).max())
    rise = (1.08 * float(every[:, :, 1].min()), 1.02 * float(every[:, :, 1].max()))
    seen = _turned(np.array([[r["pc1"], r["pc2"], r["pc3"]] for r in rows]) - middle, azimuth)
    points = [
        {"side": r["side"], "a": float(p[0]), "b": float(p[1]), "depth": float(p[2])}
        for r, p in zip(rows, seen, strict=True)
    ]
    points.sort(key=lambda row: row["depth"])
    bottom, top = rise
    x = alt.X("a:Q", axis=None, scale=fixed(-reach, reach))
    y = alt.Y("b:Q", axis=None, scale=fixed(bottom, top))
    depth = [float(seen[:, 2].min()), float(seen[:, 2].max())]
    edges, labels = _box(_turned(corners - middle, azimuth), corners, share)
    frame = alt.Chart(theme.table(edges)).mark_rule(color=theme.MUTED, strokeWidth=0.8, opacity=0.6)
    means = [seen[[r["side"] == side for r in rows]].mean(axis=0) for side in ("images", "texts")]
    gap = alt.Chart(theme.table([_segment(*means)])).mark_rule(color=theme.INK, strokeWidth=2.5)
    words = (
        alt.Chart(theme.table([row for row in labels if row["side"] == where]))
        .mark_text(color=theme.INK, fontSize=11, **place)
        .encode(x=x, y=y, text="text:N")
        for where, place in _PLACES.items()
    )
    marks = alt.Chart(theme.table(points)).mark_point(filled=True)
    return alt.layer(
        frame.encode(x=x, y=y, x2="a2:Q", y2="b2:Q"),
        marks.encode(
            x=x, y=y,
            size=alt.Size("depth:Q", scale=alt.Scale(domain=depth, range=[9, 42]), legend=None),
            opacity=alt.Opacity("depth:Q", scale=alt.Scale(domain=depth, range=[0.35, 0.9]), legend=None),
            **theme.keyed("side", ["images", "texts"]),
        ),
        gap.encode(x=x, y=y, x2="a2:Q", y2="b2:Q"),
        *words,
    ).properties(width=400, height=round(400 * (top - bottom) / (2 * reach)))  # fmt: skip


def _box(
    turned: np.ndarray, corners: np.ndarray, share: Sequence[float]
) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """Return the edges of the box but for those before the points, and the names of its axes."""
    nearest_corner = int(np.argmax(turned[:, 2]))
    edges: list[dict[str, float]] = []
    named: dict[int, tuple[float, np.ndarray]] = {}
    for i, j in combinations(range(len(corners)), 2):
        axes = np.flatnonzero(corners[i] != corners[j])
        if len(axes) != 1:
            continue
        if nearest_corner not in (i, j):
            edges.append(_segment(turned[i], turned[j]))
        middle = (turned[i] + turned[j]) / 2
        # outermost: the lowest edge across, the leftmost edge upwards
        axis, rank = int(axes[0]), float(middle[0] if axes[0] == 2 else middle[1])
        if axis not in named or rank < named[axis][0]:
            named[axis] = (rank, middle)
    labels = [
        {
            "a": float(m[0]),
            "b": float(m[1]),
            "text": f"PC {axis + 1} ({share[axis]:.0%})",
            "side": "up" if axis == 2 else "right" if m[0] > 0 else "left",
        }
        for axis, (_, m) in sorted(named.items())
    ]
    return edges, labels


def _segment(start: np.ndarray, end: np.ndarray) -> dict[str, float]:
    return {"a": float(start[0]), "b": float(start[1]), "a2": float(end[0]), "b2": float(end[1])}


def _decisions(rows: Rows, shown: dict[str, Any]) -> Any:
    alt = theme.altair()
    classes = len(set(shown["image_classes"]))
    order = shown["templates"]
    title = f"Class of image {shown['image']} of {shown['dataset']} (right: {shown['image_label']})"
    decided = (
        alt.Chart(theme.table(rows), title=title)
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("class:N", title=None, axis=alt.Axis(labelAngle=0, labelLimit=80)),
            y=alt.Y("template:N", title=None, sort=order, axis=alt.Axis(labelLimit=260)),
            **theme.keyed("kind", ["right", "wrong"]),
        )
        .properties(width=max(160, 84 * classes), height=alt.Step(17))
    )
    base = alt.Chart(theme.table(rows), title="Accuracy over all images").encode(
        y=alt.Y("template:N", title=None, sort=order, axis=alt.Axis(labels=False))
    )
    x = alt.X("accuracy:Q", title="zero-shot accuracy, one standard error", scale=fixed(0, 1))
    accuracy = alt.layer(
        base.mark_rule(color=theme.INK).encode(x=alt.X("low:Q", scale=fixed(0, 1)), x2="high:Q"),
        base.mark_point(filled=True, size=16, color=theme.INK, opacity=1).encode(x=x),
    ).properties(width=220, height=alt.Step(17))
    return alt.hconcat(decided, accuracy).resolve_scale(color="independent", shape="independent")
