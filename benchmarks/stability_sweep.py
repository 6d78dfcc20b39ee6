"""A sweep over alphas and noise levels: the exact integral against a plain Monte Carlo loop.

The loop is what one writes first: for each cell (alpha, sigma) and each draw, add noise to the
gallery, score all queries by one float32 matrix product, and compare the best item with the one
without noise. It draws float32 normals and scores in place, so it is no straw man. Its time is
linear in the number of draws; a few draws in every cell are timed and scaled to 100.

Accuracy is checked against a dense quadrature of its own: SciPy's noncentral chi-square and normal
distribution, a direct sum over every competitor, float64. Both sides are given the decisions without
noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import SEED, clouds, in_turns, ratio_row, row
from scipy import special, stats

from modgap import closers
from modgap.robustness import tables
from modgap.robustness.binning import REACH
from modgap.robustness.integral import win_probability
from modgap.robustness.systems import System

SIGMAS = (0.005, 0.022, 0.040)
DRAWS = 100
BARS = {"ip": ">= 30", "euclidean": ">= 15"}
NAMES = {"ip": "inner product", "euclidean": "Euclidean"}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    m, n, d = (20, 20, 16) if quick else (10_000, 1_000, 512)
    alphas = np.linspace(0, 1, 2 if quick else 11)
    checked = 1 if quick else 24
    queries, gallery, _ = clouds(m, n, d)
    rows, details = [], {}
    for metric in ("ip", "euclidean"):
        systems = [_closed(queries, gallery, metric, alpha) for alpha in alphas]
        before = [systems[0].decisions] * len(systems)
        seconds = in_turns(
            rounds or (1 if quick else 3),
            loop=lambda s=systems, b=before, k=metric: _one_draw_per_cell(s, b, k),
            exact=lambda s=systems, b=before: _exact(s, b),
        )
        work = f"stability sweep, {NAMES[metric]}: exact integral against {DRAWS} draws a cell"
        rows.append(
            ratio_row(work, [DRAWS * t for t in seconds["loop"]], seconds["exact"], BARS[metric])
        )
        error = _largest_error(systems, before, metric, checked)
        rows.append(
            row(f"the same: largest error of {checked} queries' probabilities", error, "<= 1e-4")
        )
        details[metric] = {
            "seconds": seconds,
            "competitors": _competitors(systems[0], metric),
            "gpu": _on_gpu(systems[0], before[0], metric),
        }
    setting = {
        "queries": m, "gallery": n, "d": d, "alphas": alphas.tolist(), "sigmas": list(SIGMAS),
        "closer": "orthogonal, 0.95 of the gallery's variance, gallery moved",
        "timed": "one draw in every cell, scaled linearly to 100; the exact sweep whole, tables cold",
    }  # fmt: skip
    return {"setting": setting, "rows": rows, "details": details}


def _closed(queries: np.ndarray, gallery: np.ndarray, metric: str, alpha: float) -> System:
    closure = closers.fit(
        "orthogonal", queries, gallery,
        metric=metric, alpha=float(alpha), n_components=0.95, side="gallery",
    )  # fmt: skip
    return System(closure.apply_queries(queries), closure.apply_gallery(gallery), metric)


def _exact(systems: list[System], before: list[Any]) -> list[Any]:
    """Return stability (sigmas, queries) per alpha; tables of earlier rounds are thrown away."""
    tables.clear()
    return [
        win_probability(one.queries, one.gallery, decided, SIGMAS, metric=one.comparison)
        for one, decided in zip(systems, before, strict=True)
    ]


def _one_draw_per_cell(systems: list[System], before: list[np.ndarray], metric: str) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    share = np.empty((len(systems), len(SIGMAS)))
    for i, (system, decided) in enumerate(zip(systems, before, strict=True)):
        for j, sigma in enumerate(SIGMAS):
            noise = rng.standard_normal(system.gallery.shape, dtype=np.float32)
            items = system.gallery + np.float32(sigma) * noise
            scores = system.queries @ items.T
            if metric == "euclidean":
                scores -= 0.5 * np.sum(items * items, axis=1)
            share[i, j] = np.mean(np.argmax(scores, axis=1) == decided)
    return share


def _largest_error(
    systems: list[System], before: list[np.ndarray], metric: str, checked: int
) -> float:
    """Return the largest error over cells of the first, middle and last alpha, and some queries."""
    quadrature = _normal_quadrature if metric == "ip" else _chi_square_quadrature
    worst = 0.0
    some = np.random.default_rng(SEED).choice(before[0].size, checked, replace=False)
    for part, i in zip(np.array_split(some, 3), (0, len(systems) // 2, -1), strict=True):
        if not part.size:
            continue
        y, x = systems[i].queries[part], systems[i].gallery
        system = System(y, x, metric)
        found = _exact([system], [system.decisions])[0]
        for j, sigma in enumerate(SIGMAS):
            truth = [
                quadrature(query, x.astype(np.float64), target, sigma)
                for query, target in zip(y.astype(np.float64), system.decisions, strict=True)
            ]
            worst = max(worst, float(np.abs(found[j] - truth).max()))
    return worst


def _normal_quadrature(query: np.ndarray, items: np.ndarray, target: int, sigma: float) -> float:
    """P(target wins): 600 points of the trapezoid rule, one log cdf for every competitor."""
    scores = items @ query / (sigma * np.linalg.norm(query))
    t = np.linspace(-8.5, 8.5, 600)
    behind = scores[target] - np.delete(scores, target)
    log_survival = special.log_ndtr(t[None, :] + behind[:, None]).sum(axis=0)
    return float(np.trapezoid(np.exp(log_survival + stats.norm.logpdf(t)), t))


def _chi_square_quadrature(
    query: np.ndarray, items: np.ndarray, target: int, sigma: float
) -> float:
    """P(target wins): 240 points over its distance, one noncentral chi-square a competitor."""
    d = items.shape[1]
    shift = np.sum((items - query) ** 2, axis=1) / sigma**2
    middle = np.sqrt(shift[target] + d - 1)
    r = np.linspace(max(middle - 8.5, 1e-9), middle + 8.5, 240)
    density = 2 * r * stats.ncx2.pdf(r**2, d, shift[target])
    survival = stats.ncx2.sf(r[None, :] ** 2, d, np.delete(shift, target)[:, None])
    with np.errstate(divide="ignore"):  # a survival of zero leaves nothing of the product
        return float(np.trapezoid(density * np.exp(np.log(survival).sum(axis=0)), r))


def _competitors(system: System, metric: str) -> list[dict[str, float]]:
    """Return, per sigma, how many competitors of a median query lie how far behind the leader."""
    y, x = system.queries[:2000].astype(np.float64), system.gallery.astype(np.float64)
    loss = -y @ x.T if metric == "ip" else np.sum(x * x, axis=1) - 2 * y @ x.T
    behind = loss - loss.min(axis=1, keepdims=True)
    out = []
    for sigma in SIGMAS:
        if metric == "ip":
            unit = sigma * np.linalg.norm(y, axis=1)
        else:
            squared = loss.min(axis=1) + np.sum(y * y, axis=1)
            unit = 2 * sigma * np.sqrt(squared + y.shape[1] * sigma**2 / 2)
        steps = behind / unit[:, None]
        near, far = ((steps < limit).sum(axis=1) - 1 for limit in (4, REACH))
        out.append(
            {
                "sigma": sigma,
                "within_4_standard_deviations": float(np.median(near)),
                "within_reach": float(np.median(far)),
            }
        )
    return out


def _on_gpu(system: System, decided: np.ndarray, metric: str) -> dict[str, Any] | str:
    """Return the same ratio for one alpha on a CUDA device: PyTorch against a PyTorch loop."""
    try:
        import torch
    except ImportError:
        return "skipped: no torch"
    if not torch.cuda.is_available():
        return "skipped: no CUDA device"
    y, x = (torch.as_tensor(part, device="cuda") for part in (system.queries, system.gallery))
    best = torch.as_tensor(decided, device="cuda")
    moved = System(y, x, metric)

    def loop() -> None:
        for sigma in SIGMAS:
            items = x + sigma * torch.randn_like(x)
            scores = y @ items.T
            if metric == "euclidean":
                scores -= 0.5 * (items * items).sum(dim=1)
            (scores.argmax(dim=1) == best).float().mean()

    def waited(work: Callable[[], object]) -> Callable[[], None]:
        def timed() -> None:
            work()
            torch.cuda.synchronize()

        return timed

    seconds = in_turns(5, loop=waited(loop), exact=waited(lambda: _exact([moved], [decided])))
    found = ratio_row("one alpha on the GPU", [DRAWS * t for t in seconds["loop"]], seconds["exact"],
                      BARS[metric])  # fmt: skip
    return {"seconds": seconds, **found}
