"""Codes and fewer dimensions: what still finds the exact ten nearest, before and after `balanced`.

Every map has the same choice of forms, and a cell of the table is the best of them on the unseen queries:
no baseline is held to a form that does not suit it. All forms stand in the details.
"""

from __future__ import annotations

from typing import Any

import _sets
import numpy as np
from _harness import row

from modgap import closers

MAPS = ("none", "recenter", "balanced")


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    data = _sets.sets(quick=quick)
    forms = {name: measure(images, texts) for name, (images, texts) in data.items()}
    table = {name: _table(found) for name, found in forms.items()}
    others = (
        {} if quick else {name: _table(measure(*both)) for name, both in _sets.others().items()}
    )
    return {
        "setting": {
            **_sets.setting(data),
            "cells": "the best form on the unseen queries, for every map alike",
            "clipped": "ranges narrowed to the least squared error, for all dimensions or for each",
            "forms": "lengths: one number a row is kept beside the code, as is a length put back",
        },
        "rows": [
            line for name, cells in {**table, **others}.items() for line in _rows(name, cells)
        ],
        "details": {
            "table": table,
            "others": others,
            "forms": {
                name: {
                    column: {
                        label: {form: _sets.figure(s) for form, s in shares.items()}
                        for label, shares in by_map.items()
                    }
                    for column, by_map in found.items()
                }
                for name, found in forms.items()
            },
        },
    }


def measure(images: np.ndarray, texts: np.ndarray) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Return the shares found, query by query, for each column, map and form."""
    fit, unseen = _sets.halves(texts)
    truth = _sets.truth_of(unseen, images)
    columns = {**_sets.FULL_RANGES, **{f"{k}, clipped": v for k, v in _sets.CLIPPED.items()}}
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {column: {} for column in columns}
    for label in MAPS:
        closure = closers.fit(label, fit, images)
        queries, items = closure.apply_queries(unseen), closure.apply_gallery(images)
        for column, words in columns.items():
            found[column][label] = _sets.under_codes(words, truth, queries, items)
        found["float"] = found.get("float", {})
        found["float"][label] = {"float32": _found(truth, queries, items)}
    k = images.shape[1] // 4
    found["a quarter of the dimensions"] = _short(images, fit, unseen, truth, k)
    return found


def _short(
    images: np.ndarray, fit: np.ndarray, unseen: np.ndarray, truth: np.ndarray, k: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return what k of d dimensions find: the first, principal ones about the origin or the mean, ours."""
    _, axes = np.linalg.eigh(images.T.astype(np.float64) @ images)
    axes = axes[:, ::-1][:, :k].astype(np.float32)
    centred = closers.fit("affine", fit, images, n_components=k, reduce=True)
    ours = closers.fit("balanced", fit, images, n_components=k, reduce=True)
    mean = images.mean(axis=0)
    return {
        "none": {
            "the first": _found(truth, unseen[:, :k], images[:, :k]),
            "principal, about the origin": _found(truth, unseen @ axes, images @ axes),
        },
        "recenter": {
            "the first": _found(truth, unseen[:, :k], (images - mean)[:, :k]),
            "principal": _mapped(centred, truth, unseen, images),
        },
        "balanced": {"the strongest": _mapped(ours, truth, unseen, images)},
    }


def _mapped(closure: Any, truth: np.ndarray, unseen: np.ndarray, images: np.ndarray) -> np.ndarray:
    return _found(truth, closure.apply_queries(unseen), closure.apply_gallery(images))


def _found(truth: np.ndarray, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    return _sets.share_found(truth, _sets.nearest_of(queries, items))


def _table(found: dict[str, dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Return, for each column and map, its best form, and what that gains over the best of the others."""
    table: dict[str, Any] = {}
    for column, by_map in found.items():
        top = {label: _sets.best(shares) for label, shares in by_map.items()}
        shares = {label: by_map[label][top[label]] for label in MAPS}
        rival = max(MAPS[:2], key=lambda label: shares[label].mean())
        table[column] = {
            label: {
                "form": top[label],
                **_sets.figure(
                    shares[label],
                    **({"best_without": shares[rival]} if label == "balanced" else {}),
                ),
            }
            for label in MAPS
        }
    return table


def _rows(name: str, table: dict[str, Any]) -> list[dict[str, Any]]:
    kept = table["float"]["balanced"]["recall"]
    lines = [row(f"{name}: recall@10 after balanced, nothing compressed", kept, ">= 0.9995")]
    for column, cells in table.items():
        if column != "float":
            gain = cells["balanced"]["over_best_without"]
            lines.append(
                row(
                    f"{name}, {column}: recall@10 after balanced less the best without it",
                    gain["difference"], ">= 0", stderr=gain["stderr"],
                )
            )  # fmt: skip
    return lines
