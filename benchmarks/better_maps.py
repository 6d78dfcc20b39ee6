"""Whether other exact maps lose fewer answers than `balanced`: queries weighted by margins, and descent.

For fixed weights of the queries the best map has a closed form: `balanced` with weighted second moments.
The expected flips under noise are no fixed weights, so they are iterated: each query weighs as much as
its flips grow with its noise. Last, the map itself is sought by descent on those expected flips.
"""

from __future__ import annotations

from typing import Any

import _sets
import numpy as np
from _harness import SEED, row
from scipy import special

from modgap.closers._transport import SecondMoments, random_frame, shrunk, transport

CODE = "sign:lengths"
RHO = (
    0.4  # noise over what is stored; by coordinate, relative to the root mean square about the mean
)
NEAR = 40
SHARES = (0.01, 0.03, 0.1)


class Case:
    """Items in their principal axes, queries to fit and unseen, and their margins about the tenth."""

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        items = images.astype(np.float64)
        items -= items.mean(axis=0)
        fit, unseen = _sets.halves(texts)
        self.variances, axes = np.linalg.eigh(items.T @ items / len(items))
        keep = self.variances > 1e-9 * self.variances[-1]
        self.variances, axes = self.variances[keep], axes[:, keep]
        self.items = items @ axes
        self.fit, self.unseen = fit @ axes, unseen @ axes
        self.gaps = {"fit": _gaps(self.fit, self.items), "unseen": _gaps(self.unseen, self.items)}
        self.truth = _sets.truth_of(unseen, images)

    def balanced(self, weights: np.ndarray, share: float) -> np.ndarray:
        """Return A (d, d), symmetric, the best map for queries of these weights."""
        rows = self.fit * np.sqrt(weights / weights.mean())[:, None]
        second = shrunk(rows.T @ rows / len(rows), share)
        found = transport(
            self.variances,
            SecondMoments(second, len(rows)),
            gallery_shrinkage=0.01,
            query_shrinkage=0.0,
        )
        return found.symmetric(1.0)[0]

    def noise(self, a: np.ndarray, side: str) -> np.ndarray:
        """Return the variance of each query's scores under noise in proportion to what A stores."""
        queries = np.linalg.solve(a.T, getattr(self, side).T).T
        stored = float(np.sum((a**2) * self.variances))
        return RHO**2 * stored / len(a) * np.einsum("ij,ij->i", queries, queries)

    def flips(self, a: np.ndarray, side: str) -> np.ndarray:
        """Return the expected pairs across the tenth place that noise turns round, for each query."""
        spread = np.sqrt(2 * self.noise(a, side))[:, None]
        return np.asarray(special.ndtr(-self.gaps[side] / spread).sum(axis=1))

    def slopes(self, a: np.ndarray) -> np.ndarray:
        """Return how fast each fitted query's expected flips grow with the variance of its noise."""
        spread = np.sqrt(2 * self.noise(a, "fit"))[:, None]
        z = self.gaps["fit"] / spread
        return np.asarray((z * np.exp(-(z**2) / 2)).sum(axis=1) / spread[:, 0] ** 2)

    def judge(self, a: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
        """Return expected flips of both sides, and the shares that one bit finds of unseen queries."""
        turn = random_frame(len(a), len(a), SEED)
        items = (self.items @ a.T @ turn).astype(np.float32)
        queries = (np.linalg.solve(a.T, self.unseen.T).T @ turn).astype(np.float32)
        shares = _sets.under_codes([CODE], self.truth, queries, items)[CODE]
        return {
            f"flips_{side}": float(self.flips(a, side).mean()) for side in ("fit", "unseen")
        }, shares


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    data = _sets.sets(quick=quick)
    details, rows = {}, []
    for name, clouds in data.items():
        case = Case(*clouds)
        lines, best = _compare(case, descent=(2,) if quick else (5, 20))
        details[name] = lines
        rows.append(
            row(
                f"{name}: recall@10 at one bit of the best other map less that of balanced, in errors",
                best["difference"] / max(best["stderr"], 1e-9), "<= 4",
            )
        )  # fmt: skip
    return {
        "setting": {
            **_sets.setting(data),
            "noise": f"normal, {RHO} of the root mean square of the mapped rows about their mean",
            "flips": f"expected pairs of the ten nearest and the {NEAR - 10} after them that change places",
            "shrinkage": f"for each map the best of {SHARES} by recall on the unseen: every map alike",
        },
        "rows": rows,
        "details": {"maps": details},
    }


def _compare(
    case: Case, *, descent: tuple[int, ...]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a line for each way of weighting and for descent, paired with the plain balanced."""
    margin = np.maximum(case.gaps["fit"].min(axis=1), 1e-4)
    even = np.ones(len(case.fit))
    makers = {
        "balanced": lambda share: case.balanced(even, share),
        "weights 1 / margin": lambda share: case.balanced(1 / margin, share),
        "weights 1 / margin^2": lambda share: case.balanced(margin**-2.0, share),
        "weights 1 / length^2": lambda share: case.balanced(
            1 / np.einsum("ij,ij->i", case.fit, case.fit), share
        ),
        "weights by slopes, iterated": lambda share: _iterated(case, share),
        **{
            f"descent on the flips, {steps} steps": lambda share, steps=steps: _descent(
                case, share, steps
            )
            for steps in descent
        },
    }
    lines: list[dict[str, Any]] = []
    plain: np.ndarray | None = None
    others = []
    for label, make in makers.items():
        tried = []
        for share in SHARES:
            flips, shares = case.judge(make(share))
            tried.append((shares, {"map": label, "shrinkage": share, **flips}))
        shares, line = max(tried, key=lambda pair: float(pair[0].mean()))
        plain = shares if plain is None else plain
        lines.append({**line, **_sets.figure(shares, balanced=plain)})
        if label != "balanced":
            others.append(lines[-1]["over_balanced"])
    return lines, max(others, key=lambda gain: gain["difference"])


def _iterated(case: Case, share: float, rounds: int = 8) -> np.ndarray:
    """Return the fixed point: the best map for the weights that it gives itself."""
    a = case.balanced(np.ones(len(case.fit)), share)
    for _ in range(rounds):
        a = case.balanced(case.slopes(a), share)
    return a


def _descent(case: Case, share: float, steps: int) -> np.ndarray:
    """Return A after steps of descent on the mean of log flips of the fitted queries, by its own gradient.

    From the balanced map, along the gradient in A A^T's own metric (steps multiply A, so it stays
    invertible), the length halved where a step does not help.
    """
    a, rate = case.balanced(np.ones(len(case.fit)), share), 0.1
    value = float(case.flips(a, "fit").mean())
    for _ in range(steps):
        weights = case.slopes(a)
        queries = np.linalg.solve(a.T, case.fit.T).T
        seen = (queries * (weights / weights.sum())[:, None]).T @ queries
        stored = (a * case.variances) @ a.T
        slope = stored / np.trace(stored) - seen / np.trace(seen)
        step = np.eye(len(a)) - rate * len(a) * slope
        tried = step @ a
        now = float(case.flips(tried, "fit").mean())
        if np.isfinite(now) and now < value:
            a, value, rate = tried, now, rate * 1.2
        else:
            rate /= 2
    return a


def _gaps(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the differences of scores between the ten nearest and those that follow, (m, pairs)."""
    scores = queries @ items.T
    near = min(NEAR, scores.shape[1])
    top = -np.sort(-np.partition(scores, -near, axis=1)[:, -near:], axis=1)
    return (top[:, :10, None] - top[:, None, 10:]).reshape(len(queries), -1)
