"""The gap in bits, predicted from second moments, against the answers that noise and codes really cost.

Half of the queries fit `balanced`, the other half search. Noise in proportion to what is stored is
raised until so many of the answers are lost; the bits measured are by how many doublings `balanced`
bears more of it than the rows as they are. Answers are nearest items by inner product of unit rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import SEED, clouds, row
from scipy import optimize

from modgap import Bins, Gaussian, fit, gap_in_bits, stability
from modgap.closers import Closure

#: Shares of the answers that are lost where the two are compared.
LOST = (0.1, 0.3, 0.5)
LEVELS, ROTATIONS = 64, 5
DATA = Path(os.environ.get("MODGAP_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
#: Folder, queries, gallery, and what it is; of several caption templates the last one.
SETS = (
    ("coco_clip_vitb16", "texts", "images", "500 COCO photos by caption, CLIP ViT-B/16"),
    ("coco_clip_vitb16", "images", "texts", "500 COCO captions by photo, CLIP ViT-B/16"),
    ("photos_clip_vitb32", "texts", "images", "15,692 photos by class name, CLIP ViT-B/32"),
    ("caltech101_clip_vitb32", "images", "texts", "38 Caltech classes by photo, CLIP ViT-B/32"),
    ("cifar10_openclip_vitb32_laion2b", "images", "texts", "10 CIFAR classes by photo, OpenCLIP"),
)


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    found = [_compared(*one) for one in (_made_up() if quick else _real())]
    rows = [
        row(f"bits that the gap costs, predicted against measured: {one['set']}", one["off"], "<= 0.15",
            unit="bits", predicted=one["predicted"]["reached"], measured=one["measured"]["balanced"])
        for one in found
    ]  # fmt: skip
    return {
        "setting": {"lost": LOST, "levels": LEVELS, "rotations": ROTATIONS, "split": "halves"},
        "rows": rows,
        "details": {"sets": found},
    }


def _real() -> list[tuple[str, np.ndarray, np.ndarray]]:
    found = []
    for folder, queries, gallery, name in SETS:
        if not (DATA / folder).is_dir():
            raise SystemExit(f"{folder} is not in {DATA}; MODGAP_TEST_DATA names another folder")
        pair = (np.load(DATA / folder / f"{side}.npy") for side in (queries, gallery))
        asked, items = (rows if rows.ndim == 2 else rows[-1] for rows in pair)
        found.append((name, asked, items))
    return found


def _made_up() -> list[tuple[str, np.ndarray, np.ndarray]]:
    queries, gallery, _ = clouds(80, 20, 16)
    return [("made-up clouds", queries, gallery)]


def _compared(name: str, queries: np.ndarray, gallery: np.ndarray) -> dict[str, Any]:
    queries, gallery = _unit(queries), _unit(gallery)
    predicted = gap_in_bits(queries, gallery, seed=SEED)
    order = np.random.default_rng(SEED).permutation(len(queries))
    half = len(queries) // 2
    known, unseen = queries[order[:half]], queries[order[half:]]
    closures = {
        label: fit(label, known, gallery, metric="ip") for label in ("none", "recenter", "balanced")
    }

    def lost(closure: Closure, noise: Any) -> float:
        found = stability(unseen, gallery, noise, metric="ip", closure=closure)
        return 1 - float(np.mean(found.retention))

    borne = {
        label: [_borne(lost, closure, gallery, share) for share in LOST]
        for label, closure in closures.items()
    }
    measured = {
        label: [math.log2(a / b) for a, b in zip(borne[label], borne["none"], strict=True)]
        for label in ("recenter", "balanced")
    }
    return {
        "set": name,
        "predicted": predicted.one_range.__dict__,
        "range_per_dimension": predicted.range_per_dimension.__dict__,
        "measured": measured,
        "off": max(abs(bits - predicted.reached) for bits in measured["balanced"]),
        "codes": {kind: _code_bits(lost, closures, kind) for kind in ("global", "dimension")},
    }


def _borne(
    lost: Callable[[Closure, Any], float], closure: Closure, gallery: np.ndarray, share: float
) -> float:
    """Return the noise, relative to the stored rows' root mean square, under which so many answers go."""
    size = float(np.sqrt(np.mean(closure.apply_gallery(gallery) ** 2)))

    def off(doublings: float) -> float:
        return lost(closure, Gaussian(size * 2.0**doublings)) - share

    return float(2.0 ** optimize.brentq(off, -14, 6, xtol=2e-3))


def _code_bits(
    lost: Callable[[Closure, Any], float], closures: dict[str, Closure], kind: str
) -> float | None:
    """Return the same for a uniform code of many levels, by the levels that `balanced` does as well with.

    One range goes with a rotation, and the loss is its mean over several; a range a dimension meets the
    rows as they are stored.
    """
    seeds = range(1, 1 + ROTATIONS) if kind == "global" else [0]

    def mean(label: str, levels: int) -> float:
        codes = [Bins(levels, kind, rotated=kind == "global", seed=seed) for seed in seeds]
        return float(np.mean([lost(closures[label], code) for code in codes]))

    target = mean("none", LEVELS)
    low, high = 2, LEVELS
    while high - low > 1:  # the fewest levels that lose no more
        middle = (low + high) // 2
        low, high = (middle, high) if mean("balanced", middle) > target else (low, middle)
    return math.log2((LEVELS - 1) / (high - 1))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
