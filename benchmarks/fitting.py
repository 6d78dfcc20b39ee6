"""What `balanced` needs to know of the queries: how many, what of them, and what if they are wrong.

One bit a coordinate, the share of the exact ten nearest that it finds; the rival is the best one-bit
code of recentred or bare rows. Queries that search were never fitted to.
"""

from __future__ import annotations

from typing import Any

import _sets
import numpy as np
from _harness import SEED, row

from modgap import closers
from modgap._core.moments import Moments
from modgap.closers import Closure

CODE = "sign:lengths"
RIVALS = ("sign", "sign:lengths", "bits:1:dimension:clipped", "bits:1:dimension:clipped:lengths")
CAUTIOUS = 0.6  # shrinkage for queries that may not be those to come
COUNTS = (25, 50, 100, 250)
DRAWS = {25: 6, 50: 4, 100: 3, 250: 2}


class Gallery:
    """Items, their moments, and what one bit finds of them with nothing known of the queries."""

    def __init__(self, items: np.ndarray, searches: np.ndarray) -> None:
        self.items, self.searches = items, searches
        self.moments = _moments(items)
        self.truth = _sets.truth_of(searches, items)
        centred = items - items.mean(axis=0)
        rivals = {
            f"{label}, {word}": shares
            for label, rows in (("none", items), ("recenter", centred))
            for word, shares in _sets.under_codes(RIVALS, self.truth, searches, rows).items()
        }
        self.rival = _sets.best(rivals)
        self.base = rivals[self.rival]

    def shares(self, closure: Closure) -> np.ndarray:
        """Return what the code finds after a closure, query by query."""
        items = closure.apply_gallery(self.items)
        queries = closure.apply_queries(self.searches)
        return _sets.under_codes([CODE], self.truth, queries, items)[CODE]

    def fitted(self, rows: np.ndarray, shrinkage: float | None = None) -> np.ndarray:
        """Return what the code finds after fitting to these queries."""
        return self.shares(closers.balance(self.moments, _thirds(rows), shrinkage=shrinkage))

    def line(self, name: str, shares: np.ndarray, **more: Any) -> dict[str, Any]:
        """Return a line with the paired difference to the rival."""
        return {"fitted_to": name, **more, **_sets.figure(shares, rival=self.base)}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    data = _sets.sets(quick=quick)
    rows, details = [], {"rival": {}, "counts": {}, "wrong": {}, "kinds": {}}
    for name, (images, texts) in data.items():
        fit, unseen = _sets.halves(texts)
        gallery = Gallery(images, unseen)
        details["rival"][name] = {"form": gallery.rival, **_sets.figure(gallery.base)}
        counts, all_of_them = _counts(gallery, fit, quick=quick)
        details["counts"][name] = counts
        few = counts[2]
        rows.append(
            row(
                f"{name}: share of the gain that {few['queries']} queries to fit reach",
                few["over_rival"]["difference"] / max(float(np.mean(all_of_them - gallery.base)), 1e-9),
                ">= 0.75", queries_in_all=len(fit),
            )
        )  # fmt: skip
    for name, (items, searches, wrong) in _wrong(data, quick=quick).items():
        gallery = Gallery(items, searches)
        lines = [
            gallery.line(what, gallery.fitted(queries, share), shrinkage=share)
            for what, queries in wrong.items()
            for share in (None, CAUTIOUS)
        ]
        details["wrong"][name] = lines
        for line in lines:
            gain = line["over_rival"]
            if line["shrinkage"] is None:
                continue
            rows.append(
                row(
                    f"{name}, fitted to {line['fitted_to']}, shrinkage {CAUTIOUS}: recall@10 over the best "
                    "without, in errors",
                    gain["difference"] / max(gain["stderr"], 1e-9), ">= -2",
                )
            )  # fmt: skip
    for name, (images, texts) in data.items():
        details["kinds"][name] = _kinds(images, texts, held_out=20 if quick else len(images) // 25)
    return {
        "setting": {
            **_sets.setting(data),
            "code": CODE,
            "rival": f"the best of {', '.join(RIVALS)} on bare and on recentred rows",
            "draws": {str(count): draws for count, draws in DRAWS.items()},
        },
        "rows": rows,
        "details": details,
    }


def _counts(
    gallery: Gallery, fit: np.ndarray, *, quick: bool
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return a line for each number of queries to fit, none first; and the shares with all of them."""
    lines = [
        gallery.line("nothing", gallery.shares(closers.balance(gallery.moments)), queries=0),
        gallery.line(
            "their mean",
            gallery.shares(closers.balance(gallery.moments, query_mean=fit.mean(axis=0))),
            queries=0,
        ),
    ]
    rng = np.random.default_rng(SEED)
    for count in (10,) if quick else COUNTS:
        if count < len(fit):
            draws = [
                gallery.fitted(fit[rng.choice(len(fit), count, replace=False)])
                for _ in range(DRAWS.get(count, 1))
            ]
            spread = float(np.std([d.mean() for d in draws], ddof=1)) if len(draws) > 1 else None
            mean = np.mean(draws, axis=0)
            lines.append(gallery.line("queries", mean, queries=count, spread_of_draws=spread))
    shares = gallery.fitted(fit)
    lines.append(gallery.line("queries", shares, queries=len(fit), spread_of_draws=None))
    cautious = gallery.fitted(fit, CAUTIOUS)
    lines.append(
        gallery.line(
            f"queries, shrinkage {CAUTIOUS}", cautious, queries=len(fit), spread_of_draws=None
        )
    )
    return lines, shares


def _wrong(
    data: dict[str, tuple[np.ndarray, np.ndarray]], *, quick: bool
) -> dict[str, tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Return galleries, what searches them, and queries of another kind, set or model to fit to."""
    if quick:
        images, texts = data["made"]
        noise = np.random.default_rng(SEED).normal(size=(30, images.shape[1]))
        return {"made": (images, texts, {"noise": noise.astype(np.float32)})}
    photos, names = data["photos_clip_vitb32"]
    coco, captions = data["coco_clip_vitb16"]
    caltech = _sets.load("caltech101_clip_vitb32", "images")
    prompts = _sets.load("caltech101_clip_vitb32", "texts").reshape(-1, photos.shape[1])
    return {
        "photos, searched with names": (photos, _sets.halves(names)[1], {
            "prompts of another set": prompts,
            "images of another set": caltech,
            "the gallery itself": photos,
            "captions of another model": captions,
        }),
        "Caltech-101, searched with prompts": (caltech, prompts, {
            "names of another set": names,
            "images of another set": photos[::8],
            "captions of another model": captions,
        }),
        "COCO, searched with captions": (coco, captions, {
            "the gallery itself": coco,
            "names of another model": names,
        }),
    }  # fmt: skip


def _kinds(images: np.ndarray, texts: np.ndarray, *, held_out: int) -> list[dict[str, Any]]:
    """Return what maps fitted to texts, to images, to both do for each kind that searches."""
    order = np.random.default_rng(SEED).permutation(len(images))
    asking, known, items = np.split(images[order], [held_out, 2 * held_out])
    fit, unseen = _sets.halves(texts)
    galleries = {"texts": Gallery(items, unseen), "images": Gallery(items, asking)}
    parts = _thirds(fit), _thirds(known)
    moments = galleries["texts"].moments
    maps = {
        "texts": closers.balance(moments, parts[0]),
        "images": closers.balance(moments, parts[1]),
        "both, half and half": closers.balance(moments, [(parts[0], 0.5), (parts[1], 0.5)]),
    }
    return [
        gallery.line(what, gallery.shares(closure), searched_with=kind)
        for kind, gallery in galleries.items()
        for what, closure in maps.items()
    ]


def _moments(rows: np.ndarray) -> Moments:
    wide = rows.astype(np.float64)
    return Moments.from_rows(
        wide / np.linalg.norm(wide, axis=1, keepdims=True), precision="float64"
    )


def _thirds(rows: np.ndarray) -> list[Moments]:
    """Return the moments of three parts, which choose the shrinkage."""
    return [_moments(rows[k::3]) for k in range(3)]
