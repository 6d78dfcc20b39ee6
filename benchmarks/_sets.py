"""Real sets, unseen queries and recall with its error: what benchmarks of quality share.

Figures here are no times, so they need no turns: they depend on the data, the seed and the package alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _harness import HERE, SEED, clouds

from modgap.robustness.noise import parse

#: Galleries of images, searched with texts; rows of unit length. The data's README says what they are.
NAMES = ("photos_clip_vitb32", "coco_clip_vitb16")
DEPTH = 10
#: Codes by bits a coordinate, in the notation of `modgap.robustness.parse`: every choice there is.
_PLACES = ("", ":dimension", ":rotated", ":dimension:rotated")
FULL_RANGES = {
    "1 bit": ("sign", "sign:lengths", "sign:rotated", "sign:rotated:lengths"),
    "2 bits": tuple(f"bits:2{place}{kept}" for place in _PLACES for kept in ("", ":lengths")),
    "4 bits": tuple(f"bits:4{place}{kept}" for place in _PLACES for kept in ("", ":lengths")),
}
CLIPPED = {
    name: tuple(
        f"bits:{bits}{place}:clipped{kept}" for place in _PLACES for kept in ("", ":lengths")
    )
    for bits, name in ((1, "1 bit"), (2, "2 bits"), (4, "4 bits"))
}


def sets(*, quick: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and texts by the set's name; made ones, tiny, where it is only to be seen to run."""
    if quick:
        images, texts, _ = clouds(400, 40, 32)
        return {"made": (images, texts)}
    return {name: (load(name, "images"), load(name, "texts")) for name in NAMES}


def others() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what is searched and what searches of sets that nothing was tuned to, by name."""
    import modgap

    sample, coco, caltech = modgap.load_sample(), NAMES[1], "caltech101_clip_vitb32"
    texts = load(caltech, "texts")
    return {
        "968 photos by class texts, CLIP ViT-B/32": (
            load(caltech, "images"), texts.reshape(-1, texts.shape[-1]),
        ),
        "500 captions by photo, CLIP ViT-B/16": (load(coco, "texts"), load(coco, "images")),
        "500 photos by caption, the same model untrained": (
            load(f"{coco}_untrained", "images"), load(f"{coco}_untrained", "texts"),
        ),
        "1,000 images of the sample by class texts": (
            sample.images, sample.texts.reshape(-1, sample.texts.shape[-1]),
        ),
    }  # fmt: skip


def load(name: str, array: str) -> np.ndarray:
    """Return rows of the real data at unit length, float32."""
    rows = stored(name, array).astype(np.float32)  # unit only to the precision they were stored in
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def stored(name: str, array: str) -> np.ndarray:
    """Return an array of the real data, which lies beside the checkout or where a variable says."""
    return np.asarray(np.load(folder() / name / f"{array}.npy"))


def folder() -> Path:
    """Return the folder of the real data."""
    return Path(os.environ.get("MODGAP_TEST_DATA", HERE.parents[1] / "shared" / "data"))


def halves(rows: np.ndarray, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Return two disjoint halves at random: to fit to, and to search with."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]


def nearest_of(queries: np.ndarray, items: np.ndarray, k: int = DEPTH) -> np.ndarray:
    """Return the k items of largest inner product, (m, k), in no order."""
    return _top(queries @ items.T, k)


def truth_of(queries: np.ndarray, items: np.ndarray, k: int = DEPTH) -> np.ndarray:
    """Return the k nearest by cosine, computed in float64: what every recall here is counted against."""
    sides = (rows.astype(np.float64) for rows in (queries, items))
    return nearest_of(*(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in sides), k)


def share_found(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return, for each query, the share of the true nearest that was found, (m,)."""
    same = truth[:, :, None] == found[:, None, :]
    return np.asarray(same.any(axis=2).mean(axis=1))


def under_codes(
    words: Iterable[str], truth: np.ndarray, queries: np.ndarray, items: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the shares found in items stored by each code; queries stay as they are.

    What is read back of a code without a number a row is also given the row's length, which for rows of
    unit length is the comparison by cosine and takes no space.
    """
    return {
        form: share_found(truth, _top(scores))
        for form, scores in scores_under(words, queries, items)
    }


def scores_under(
    words: Iterable[str], queries: np.ndarray, items: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the form and the scores (m, n) of items stored by each code, with lengths put back too."""
    own = np.linalg.norm(items, axis=1)
    for word in words:
        stored = parse(word).apply(items)
        scores = queries @ stored.T
        yield word, scores
        if word.startswith("bits:") and not word.endswith(":lengths"):
            kept = np.maximum(np.linalg.norm(stored, axis=1), 1e-30)
            yield f"{word}, its length put back", scores * (own / kept)


def _top(scores: np.ndarray, k: int = DEPTH) -> np.ndarray:
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def best(shares: dict[str, np.ndarray]) -> str:
    """Return the form with the largest mean; every map has the same choice of forms."""
    return max(shares, key=lambda form: shares[form].mean())


def figure(shares: np.ndarray, **over: np.ndarray) -> dict[str, Any]:
    """Return a mean over queries with its standard error, and paired differences to others."""
    found: dict[str, Any] = {"recall": float(shares.mean()), "stderr": stderr(shares)}
    for name, other in over.items():
        gain = shares - other
        found[f"over_{name}"] = {"difference": float(gain.mean()), "stderr": stderr(gain)}
    return found


def stderr(values: np.ndarray) -> float:
    """Return the standard error of a mean over queries."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def setting(data: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return the sizes of the sets and how queries are split."""
    return {
        "sets": {
            name: {"gallery": len(images), "queries": len(texts), "d": images.shape[1]}
            for name, (images, texts) in data.items()
        },
        "queries": "texts; one half at random to fit to, the other searches and is all that is counted",
        "truth": f"the {DEPTH} nearest by cosine in float64",
        "stderr": "over queries; of differences query by query",
    }


def two_clouds(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit queries (m, d) and gallery (n, d), float32: a gap, and a spectrum of its own for each."""
    rng = np.random.default_rng(SEED)
    decay = np.arange(1, d + 1, dtype=np.float32) ** -0.5
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0].astype(np.float32)
    centre = rng.normal(size=(2, d)).astype(np.float32)
    gallery = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, 100_000):
        part = gallery[start : start + 100_000]
        part[:] = rng.normal(size=part.shape).astype(np.float32) * decay + 0.3 * centre[0]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    queries = rng.normal(size=(m, d)).astype(np.float32) * decay @ turn + 0.3 * centre[1]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, gallery
