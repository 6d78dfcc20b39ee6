"""The exact stability sweep against the plain Monte Carlo loop, on a dense gallery."""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import SEED, seconds
from scipy import integrate, special, stats

from modgap import closers
from modgap.gaussian import win_probability
from modgap.neighbors import nearest

SIGMAS = (0.005, 0.022, 0.040)
ALPHAS = tuple(round(0.1 * i, 1) for i in range(11))
DRAWS = 100


def run(quick: bool) -> list[dict[str, Any]]:
    m, n, d = (60, 40, 32) if quick else (10_000, 1_000, 512)
    queries, gallery = dense_clouds(m, n, d)
    return [sweep(queries, gallery, metric, quick) for metric in ("ip", "euclidean")]


def dense_clouds(m: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows with a gap of about .9, items close enough that hundreds compete."""
    rng = np.random.default_rng(SEED)
    centre = rng.normal(size=d) / np.sqrt(d)
    gallery = unit(centre + 0.45 * rng.normal(size=(n, d)) / np.sqrt(d))
    own = gallery[rng.integers(0, n, m)]
    queries = unit(-0.2 * centre + 0.5 * own + 0.7 * rng.normal(size=(m, d)) / np.sqrt(d))
    return queries, gallery


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sweep(queries: np.ndarray, gallery: np.ndarray, metric: str, quick: bool) -> dict[str, Any]:
    systems = []
    for alpha in ALPHAS:
        closure = closers.fit(
            "orthogonal", queries, gallery, metric=metric, alpha=alpha, n_components=0.9
        )
        systems.append((closure.apply_queries(queries), closure.apply_gallery(gallery)))

    def exact() -> list[np.ndarray]:
        found = []
        for y, x in systems:
            decided = nearest(y, x, metric=metric).indices[:, 0]
            found.append(win_probability(y, x, decided, SIGMAS, metric=metric))
        return found

    draws = 2 if quick else 3
    rng = np.random.default_rng(SEED)

    def plain() -> None:
        y, x = systems[5]
        decided = nearest(y, x, metric=metric).indices[:, 0]
        for _ in range(draws):
            noisy = x + 0.022 * rng.standard_normal(x.shape, dtype=np.float32)
            losses = -(y @ noisy.T)
            if metric == "euclidean":
                losses = 2 * losses + (noisy * noisy).sum(axis=1)
            (losses.argmin(axis=1) == decided).mean()

    cells = len(ALPHAS) * len(SIGMAS)
    pairs = []
    for _ in range(1 if quick else 3):
        ours = seconds(exact)
        pairs.append((ours, seconds(plain) / draws * DRAWS * cells))
    speedups = sorted(theirs / ours for ours, theirs in pairs)
    return {
        "work": f"exact stability sweep, {metric}",
        "size": f"{len(queries)} x {len(gallery)} x {gallery.shape[1]}, 11 alphas x 3 sigmas",
        "bar": ">= 30x" if metric == "ip" else ">= 15x",
        "speedup": speedups[len(speedups) // 2],
        "speedups": speedups,
        "ours_s": min(ours for ours, _ in pairs),
        "theirs_s": min(theirs for _, theirs in pairs),
        "theirs": f"{draws} draws of the loop timed, scaled to {DRAWS} draws x {cells} cells",
        "competitors_within_reach": reach(queries, gallery, metric),
        "largest_error": largest_error(systems, metric, 2 if quick else 12),
    }


def reach(queries: np.ndarray, gallery: np.ndarray, metric: str) -> float:
    """Return how many items lie within six noise units of the nearest, at sigma .04, on average."""
    y, x = queries[:200].astype(float), gallery.astype(float)
    if metric == "ip":
        loss, unit_of = -(y @ x.T), 0.04 * np.linalg.norm(y, axis=1)
    else:
        loss = ((y * y).sum(1)[:, None] - 2 * y @ x.T) + (x * x).sum(1)
        unit_of = 2 * 0.04 * np.sqrt(loss.min(axis=1) + x.shape[1] * 0.04**2 / 2)
    behind = (loss - loss.min(axis=1, keepdims=True)) / unit_of[:, None]
    return float((behind < 6).sum(axis=1).mean())


def largest_error(systems: list[tuple[np.ndarray, np.ndarray]], metric: str, count: int) -> float:
    """Return the largest difference from adaptive quadrature over a few queries and all sigmas."""
    y, x = systems[5]
    y = y[:count]
    decided = nearest(y, x, metric=metric).indices[:, 0]
    found = win_probability(y, x, decided, SIGMAS, metric=metric)
    worst = 0.0
    for i in range(count):
        for j, sigma in enumerate(SIGMAS):
            truth = quadrature(y[i].astype(float), x.astype(float), int(decided[i]), sigma, metric)
            worst = max(worst, abs(float(found[j, i]) - truth))
    return worst


def quadrature(y: np.ndarray, x: np.ndarray, target: int, sigma: float, metric: str) -> float:
    d = x.shape[1]
    if metric == "ip":
        scores = x @ y
        ahead = (scores[target] - np.delete(scores, target)) / (sigma * np.linalg.norm(y))

        def integrand(t: float) -> float:
            return float(
                np.exp(-t * t / 2 + special.log_ndtr(t + ahead).sum()) / np.sqrt(2 * np.pi)
            )

        return integrate.quad(integrand, -9, 9, epsabs=1e-8, limit=200)[0]
    noncentral = ((y - x) ** 2).sum(axis=1) / sigma**2
    own, others = noncentral[target], np.delete(noncentral, target)
    others = others[np.sqrt(others) < np.sqrt(own + d) + 16]

    def radial(r: float) -> float:
        t = r * r
        return float(2 * r * stats.ncx2.pdf(t, d, own) * np.prod(stats.ncx2.sf(t, d, others)))

    middle = np.sqrt(own + d)
    return integrate.quad(radial, middle - 8, middle + 8, epsabs=1e-7, limit=100)[0]
