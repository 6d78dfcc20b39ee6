"""The parts of a report that need computing: clouds, sweep, fragile queries, caption templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap._core.arrays import Array, as_float64, normalize_rows, to_numpy
from modgap.closers import fit
from modgap.closers.closure import Closure
from modgap.decisions.metric import as_metric
from modgap.decisions.neighbors import nearest, nearest_candidates
from modgap.evaluation.records import Study
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import Problem, Task
from modgap.robustness.noise import Bins, Gaussian, Noise

__all__ = ["clouds", "fragile", "free_share", "gap_figures", "in_words", "sweep", "templates"]

_POINTS = 600


def in_words(noise: Noise) -> str:
    """Return a noise as a reader says it."""
    name = noise.label.partition("@")[0]
    if isinstance(noise, Gaussian):
        name = f"Gaussian noise, standard deviation {noise.scale:g} per coordinate"
    elif isinstance(noise, Bins):
        name = f"storage in {noise.bins} evenly spaced levels per value"
    side = {"gallery": "on the gallery", "queries": "on the queries", "both": "on both sides"}
    return f"{name}, {side[noise.side]}"


def gap_figures(problem: Problem, measured: dict[str, Any], free_share: float | None) -> list[Any]:
    """Return the figures of the gap with one line of meaning each; absent ones are left out."""
    ratio = measured["gap_variance_ratio"] or {}
    probe = measured["linear_separability"]
    frechet = measured["frechet_distance"]
    rows = [
        ("centroid_gap", "Gap, length", measured["centroid_gap"],
         "distance between the mean query and the mean gallery item, rows of unit length"),
        ("centroid_gap_floor", "Length by chance", measured["centroid_gap_floor"],
         "about what two samples of one cloud of this spread and size would show"),
        ("centroid_cosine", "Cosine of the means", measured["centroid_cosine"],
         "1: both clouds point the same way; 0: at right angles"),
        ("free_share", "Share of the gap no answer depends on", free_share,
         "part of its length outside the directions that the gallery spans"),
        ("variance_ratio_queries", "Spread of the queries along the gap", ratio.get("queries"),
         "over their average spread per direction (variances); far below 1: gap orthogonal to them"),
        ("variance_ratio_gallery", "Spread of the gallery along the gap", ratio.get("gallery"),
         "the same for the gallery"),
        ("relative_modality_gap", "Relative modality gap", measured["relative_modality_gap"],
         "dissimilarity of true pairs against that within each side, 0 to 1; "
         "0.5: pairs are as far apart as strangers of one side"),
        ("paired_cosine", "Cosine of true pairs", measured["paired_cosine"], "mean over the pairs"),
        ("linear_separability", "Told apart by a linear probe", probe,
         "accuracy on rows it was not fitted to; 0.5 is a coin, 1 means fully separated clouds"),
        ("frechet_distance", "Fréchet distance", frechet and float(frechet["squared"] ** 0.5),
         "difference of both mean and shape, as if the clouds were Gaussian"),
        ("mean_cosine_queries", "Cone of the queries", measured["queries"]["mean_cosine"],
         "mean cosine between two queries; high: a narrow cone"),
        ("mean_cosine_gallery", "Cone of the gallery", measured["gallery"]["mean_cosine"],
         "mean cosine between two gallery items"),
        ("effective_rank_queries", "Effective rank of the queries",
         measured["queries"]["effective_rank"], "directions in real use, from the spectrum's entropy"),
    ]  # fmt: skip
    return [
        {"name": name, "label": label, "value": value, "meaning": meaning}
        for name, label, value, meaning in rows
        if value is not None
    ]


def clouds(problem: Problem, metric: str, closure: Closure | None, seed: int) -> dict[str, Any]:
    """Return both clouds in two coordinates, before closing and after, at most 600 points each.

    x runs along the gap, y along the first principal axis of both clouds, each about its own mean,
    orthogonal to the gap. The gallery's mean is the origin of both pictures.
    """
    queries, gallery = _unit(problem.queries, metric), _unit(problem.gallery_rows, metric)
    rng = np.random.default_rng(seed)
    chosen = [_draw(rng, cloud.shape[0]) for cloud in (queries, gallery)]
    gap = queries.mean(axis=0) - gallery.mean(axis=0)
    axes = _axes(gap, queries[chosen[0]], gallery[chosen[1]])
    origin = gallery.mean(axis=0)
    found: dict[str, Any] = {
        "before": _points((queries[chosen[0]], gallery[chosen[1]]), origin, axes),
        "after": None,
        "shown": {"queries": len(chosen[0]), "gallery": len(chosen[1])},
        "of": {"queries": int(queries.shape[0]), "gallery": int(gallery.shape[0])},
    }
    if closure is not None:
        moved = closure.gallery(gallery)
        pair = (closure.queries(queries[chosen[0]]), moved[chosen[1]])
        found["after"] = _points(pair, moved.mean(axis=0), axes)
        found["method"] = closure.method
    return found


def _unit(cloud: Array, metric: str) -> np.ndarray:
    rows = np.asarray(to_numpy(as_float64(cloud)))
    return normalize_rows(rows) if metric == "cosine" else rows


def _draw(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.sort(rng.permutation(rows)[:_POINTS])


def _axes(gap: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the two axes as (2, d); a missing gap gives way to a principal axis."""
    rows = np.vstack([queries - queries.mean(axis=0), gallery - gallery.mean(axis=0)])
    length = float(np.linalg.norm(gap))
    size = float(np.abs(rows).max(initial=0.0))
    along = gap / length if length > 1e-9 * max(size, 1e-300) else _first_axis(rows)
    return np.stack([along, _first_axis(rows - np.outer(rows @ along, along))])


def _first_axis(rows: np.ndarray) -> np.ndarray:
    """Return the first principal axis, its largest entry positive; zeros where nothing varies."""
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    if sizes[0] <= 1e-12:
        return np.zeros(rows.shape[1])
    axis: np.ndarray = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    return axis


def _points(
    pair: tuple[np.ndarray, np.ndarray], origin: np.ndarray, axes: np.ndarray
) -> dict[str, list[list[float]]]:
    names = ("queries", "gallery")
    return {
        name: np.round((cloud - origin) @ axes.T, 5).tolist()
        for name, cloud in zip(names, pair, strict=True)
    }


def sweep(study: Study, name: str, affine: dict[str, Any] | None) -> dict[str, Any]:
    """Return the alpha sweep of one problem: one line per noise, and the level of `affine`."""
    rows = [row.to_dict() for row in study.of_problem(name)]
    levels = {} if affine is None else {(n["noise"], n["side"]): n for n in affine["noises"]}
    lines = []
    for j, noise in enumerate(rows[0]["noises"]):
        level = levels.get((noise["noise"], noise["side"]))
        lines.append(
            {
                "noise": noise["noise"],
                "stability": [row["noises"][j]["stability"] for row in rows],
                "noisy_accuracy": [row["noises"][j]["noisy_accuracy"] for row in rows],
                "affine": None if level is None else level["stability"],
            }
        )
    return {
        "method": rows[0]["method"],
        "alphas": [row["alpha"] for row in rows],
        "clean_accuracy": [row["clean_accuracy"] for row in rows],
        "agreement": [row["agreement"] for row in rows],
        "lines": lines,
    }


def fragile(
    study: Study, problem: Problem, metric: str, classes: Sequence[str] | None, k: int = 10
) -> list[dict[str, Any]]:
    """Return the queries whose answer is least stable without closing, the most fragile first."""
    rows = {row.method: row for row in study.of_problem(problem.name)}
    if not rows["none"].results:
        return []
    closed = rows.get("affine")
    second, radius = _margins(problem, metric)
    found = []
    for entry in rows["none"].fragile(k):
        i = entry["query"]
        right = None
        if problem.positives is not None:
            right = [_item(problem, int(p), classes) for p in problem.positives[i] if p >= 0]
        found.append(
            {
                "query": i,
                "answer": _item(problem, entry["decision"], classes),
                "runner_up": None if second is None else _item(problem, int(second[i]), classes),
                "right_answers": right,
                "is_right": entry["right"],
                "stability": entry["stability"],
                "stability_closed": closed and float(closed.results[0].outcome.stability[i]),
                "radius": None if radius is None else float(radius[i]),
            }
        )
    return found


def _item(problem: Problem, index: int, classes: Sequence[str] | None) -> str:
    items = problem.gallery.shape[-2]
    if problem.gallery.ndim == 3:
        return f"choice {index}"
    if index >= items:
        return f"companion {index - items}"
    if classes is not None and len(classes) == items:
        return str(classes[index])
    return f"item {index}"


def _margins(problem: Problem, metric: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return each query's second choice, and how far all items may move without a change."""
    system = problem.system(as_metric(metric))
    if system.gallery.shape[-2] < 2:
        return None, None
    queries, gallery = system.queries, system.gallery
    if metric == "cosine":  # the same decisions, and a certificate
        queries, gallery, metric = _unit(queries, metric), _unit(gallery, metric), "euclidean"
    search = nearest_candidates if system.own_candidates else nearest
    top = search(queries, gallery, k=2, metric=metric)
    scores = to_numpy(top.scores)
    radius = np.abs(scores[:, 1] - scores[:, 0]) / 2
    if metric == "ip":
        norms = np.linalg.norm(_unit(queries, metric), axis=1)
        radius = radius / np.where(norms > 0, norms, np.inf)
    return to_numpy(top.indices)[:, 1], radius


def templates(task: Task, noises: Sequence[Noise], draws: int, seed: int) -> dict[str, Any] | None:
    """Return what other caption templates do to the answers of the first; None with one template.

    The same closure for all (the reference's) and each template's own closure are both shown.
    """
    problem = task.problems[0]
    if not problem.rephrased:
        return None
    shared = evaluate(Task(task.kind, task.metric, (problem,)), ["none", "affine"], noises=(),
                      paraphrase=True)  # fmt: skip
    named = {problem.name: problem.gallery, **problem.rephrased}
    reworded = [Problem(n, problem.queries, g, problem.positives) for n, g in named.items()]
    own = evaluate(Task(task.kind, task.metric, tuple(reworded)), ["none", "affine"],
                   noises=noises[:1], draws=draws, seed=seed)  # fmt: skip
    flips = [{n.noise: 1 - n.stability for n in row.results} for row in shared]
    rows = []
    for i, name in enumerate(named):
        none, affine = own.rows[2 * i], own.rows[2 * i + 1]
        label = f"paraphrase:{name}"
        rows.append(
            {
                "template": name,
                "reference": i == 0,
                "accuracy": none.clean_accuracy,
                "flips": flips[0].get(label, 0.0),
                "flips_closed": flips[1].get(label, 0.0),
                "gap": own.gaps[i].centroid_gap,
                "stability": none.results[0].stability if noises else None,
                "stability_closed": affine.results[0].stability if noises else None,
            }
        )
    return {"noise": noises[0].label if noises else None, "rows": rows}


def free_share(problem: Problem, metric: str) -> float | None:
    """Return the share of the gap's length that no decision depends on; None in a mixed gallery."""
    if problem.companions is not None:
        return None
    closure = fit("orthogonal", problem.queries, problem.gallery_rows, metric=metric)
    share = closure.info.get("free_share")
    return None if share is None else float(share)
