"""Figures that pages quote in running text are those that were measured: the results under benchmarks/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PHOTOS, COCO = "photos_clip_vitb32", "coco_clip_vitb16"


@cache
def details(subject: str) -> Any:
    path = ROOT / "benchmarks" / "results" / f"{subject}.json"
    return json.loads(path.read_text(encoding="utf-8"))["details"]


def code(column: str, label: str) -> float:
    return details("codes")["table"][PHOTOS][column][label]["recall"]


def gain(column: str) -> float:
    return details("codes")["table"][PHOTOS][column]["balanced"]["over_best_without"]["difference"]


def peer(name: str, rows: str, data: str = PHOTOS) -> dict[str, Any]:
    (line,) = (
        one for one in details("peers")["lines"][data] if (one["peer"], one["rows"]) == (name, rows)
    )
    return line


def work(label: str) -> float:
    return details("graphs")["hnsw"][label]["images"]["at 0.95"]["work"]


def orphans(label: str) -> float:
    return 100 * details("graphs")["why"][label]["orphans"]


def fitted(where: str, to: str, shrinkage: float | None = None) -> float:
    (line,) = (
        one
        for one in details("fitting")["wrong"][where]
        if (one["fitted_to"], one["shrinkage"]) == (to, shrinkage)
    )
    return -line["over_rival"]["difference"]


def counted(to: str) -> dict[str, Any]:
    *_, line = (one for one in details("fitting")["counts"][PHOTOS] if one["fitted_to"] == to)
    return line


def ndcg(kind: str, closer: str) -> float:
    return details("mixed")["ndcg"][f"sample, {kind} ask"][closer]


def trained(figure: str) -> float:
    """What training with weight 1 and nothing closed has over plain training and `balanced`."""
    seeds = details("training")["by_seed"]
    (plain,) = (own for weight, own in seeds.items() if float(weight) == 0)
    (heavy,) = (own for weight, own in seeds.items() if float(weight) == 1)
    ours = [one["none"]["float"][figure] for one in heavy]
    return float(np.mean(ours) - np.mean([one["balanced"]["float"][figure] for one in plain]))


def indexed(subject: str, label: str, name: str, factor: int = 1) -> float:
    """What a codec of a real index finds of the exact ten nearest."""
    (line,) = (
        one
        for one in details(subject)["rows"]
        if (f"{one['engine']}:{one['codec']}", one["map"]) == (label, name)
    )
    return (line if factor == 1 else line["rescored"][str(factor)])["recall"]["10"]


def longer(label: str, times: int) -> float:
    return details("guides")["longer"][label][str(times)]["recall"]


def of_images() -> float:
    (line,) = (
        one
        for one in details("fitting")["kinds"][PHOTOS]
        if (one["fitted_to"], one["searched_with"]) == ("texts", "images")
    )
    return -line["over_rival"]["difference"]


NAMED = "photos, searched with names"
#: A page, a phrase of it with a mark for each figure, and where the figures come from.
QUOTED: list[tuple[str, str, list[Callable[[], float]]]] = [
    (
        "docs/limits.md",
        "two bits in ranges clipped dimension by dimension find {:.3f} of the exact ten nearest "
        "with nothing closed; one bit balanced finds {:.3f}",
        [lambda: code("2 bits, clipped", "none"), lambda: code("1 bit", "balanced")],
    ),
    (
        "docs/limits.md",
        "OPQ finds {:.3f} at 64 bytes bare and {:.3f} balanced, for {:.0f} times the time to fit",
        [
            lambda: peer("OPQ64", "none")["recall"],
            lambda: peer("OPQ64", "balanced")["recall"],
            lambda: peer("OPQ64", "none")["fit_over_balanced"],
        ],
    ),
    (
        "docs/limits.md",
        "product quantization of bare rows ({:.3f}) beats signs of balanced rows ({:.3f})",
        [
            lambda: peer("PQ64", "none", COCO)["recall"],
            lambda: peer("sign:lengths", "balanced", COCO)["recall"],
        ],
    ),
    (
        "docs/limits.md",
        "{:+.2f} at one bit, {:+.2f} at four",
        [lambda: gain("1 bit, clipped"), lambda: gain("4 bits, clipped")],
    ),
    (
        "docs/limits.md",
        "images need {:.0f} distance computations for a recall of .95 and {:.0f} on the bare one; a map "
        "for texts loses {:.2f} for image queries at one bit",
        [lambda: work("balanced"), lambda: work("none"), of_images],
    ),
    (
        "docs/limits.md",
        "it finds {:.3f} less than the best code with nothing closed, fitted to images {:.3f} less",
        [
            lambda: fitted(NAMED, "prompts of another set"),
            lambda: fitted(NAMED, "images of another set"),
        ],
    ),
    (
        "docs/limits.md",
        "with balanced rows it finds {:.3f} of the exact ten nearest where it finds {:.3f} of bare ones, "
        "and {:.3f} with the queries sixteen times as long",
        [lambda: longer("balanced", 1), lambda: longer("none", 1), lambda: longer("balanced", 16)],
    ),
    (
        "docs/limits.md",
        "costs {:.2f} with the right queries",
        [lambda: counted("queries")["recall"] - counted("queries, shrinkage 0.6")["recall"]],
    ),
    (
        "docs/limits.md",
        "{:.0f} % of the items get none at alpha 1.25, {:.0f} % at 1.5",
        [lambda: orphans("balanced 1.25"), lambda: orphans("balanced 1.5")],
    ),
    (
        "docs/limits.md",
        "(NDCG@10 {:.3f} against {:.3f} on the sample)",
        [lambda: ndcg("texts", "standardize"), lambda: ndcg("texts", "calibrate")],
    ),
    (
        "docs/limits.md",
        "`none` does better ({:.3f} against {:.3f})",
        [lambda: ndcg("images", "none"), lambda: ndcg("images", "calibrate")],
    ),
    (
        "docs/limits.md",
        "of the right class ({:+.3f}) and fewer pictures are named rightly ({:+.3f})",
        [lambda: trained("precision"), lambda: trained("accuracy")],
    ),
    (
        "docs/guide/index_study.md",
        "the lengths of balanced rows count: {:.3f} becomes {:.3f}",
        [
            lambda: indexed("engines", "usearch:i8", "none"),
            lambda: indexed("engines", "usearch:i8", "balanced"),
        ],
    ),
    (
        "docs/guide/index_study.md",
        "as they are, {:.3f} becomes {:.3f}",
        [
            lambda: indexed("engine_stores", "qdrant:binary:2", "none"),
            lambda: indexed("engine_stores", "qdrant:binary:2", "balanced"),
        ],
    ),
    (
        "docs/guide/index_study.md",
        "loses in LanceDB's `IVF_RQ` ({:.3f} to {:.3f})",
        [
            lambda: indexed("engine_stores", "lancedb:IVF_RQ", "none"),
            lambda: indexed("engine_stores", "lancedb:IVF_RQ", "recenter"),
        ],
    ),
    (
        "docs/guide/index_study.md",
        "finds {:.3f} of bare rows, {:.3f} after balancing",
        [
            lambda: indexed("engines", "faiss:RaBitQ", "none"),
            lambda: indexed("engines", "faiss:RaBitQ", "balanced"),
        ],
    ),
    (
        "docs/guide/index_study.md",
        "and {:.3f} with four times as many candidates rescored",
        [lambda: indexed("engines", "faiss:RaBitQ", "balanced", 4)],
    ),
    (
        "docs/guide/index_study.md",
        "as Qdrant and LanceDB have them, {:.2f} becomes {:.2f}, and {:.2f} becomes {:.2f}",
        [
            lambda: indexed("engine_stores", "qdrant:scalar", "none"),
            lambda: indexed("engine_stores", "qdrant:scalar", "balanced"),
            lambda: indexed("engine_stores", "lancedb:IVF_SQ", "none"),
            lambda: indexed("engine_stores", "lancedb:IVF_SQ", "balanced"),
        ],
    ),
    (
        "docs/faq.md",
        "finds about as much bare as signs do balanced, for {:.0f} times the time to fit",
        [lambda: peer("OPQ64", "none")["fit_over_balanced"]],
    ),
    (
        "docs/faq.md",
        "A map for texts costs image queries {:.2f} of recall at one bit",
        [of_images],
    ),
]


@pytest.mark.parametrize(
    ("page", "phrase", "figures"),
    QUOTED,
    ids=[f"{page}: {phrase[:40]}" for page, phrase, _ in QUOTED],
)
def test_a_page_quotes_what_was_measured(
    page: str, phrase: str, figures: list[Callable[[], float]]
) -> None:
    told = phrase.format(*(figure() for figure in figures))
    told = re.sub(r"(?<![\d.])0(?=\.\d)", "", told)  # pages write .64
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert told in text


def test_wrong_queries_lose_nothing_with_shrinkage_and_no_queries_win_four_tenths() -> None:
    """Two claims that the pages make in words."""
    for lines in details("fitting")["wrong"].values():
        assert all(line["over_rival"]["difference"] > 0 for line in lines if line["shrinkage"])
    for found in details("fitting")["counts"].values():
        gains = {one["fitted_to"]: one["over_rival"]["difference"] for one in found}
        assert gains["nothing"] > 0.4 * gains["queries"]
    own = {
        (one["fitted_to"], one["searched_with"]): one["recall"]
        for one in details("fitting")["kinds"][PHOTOS]
    }
    assert peer("OPQ64", "none")["recall"] == pytest.approx(code("1 bit", "balanced"), abs=0.02)
    assert own["both, half and half", "images"] > own["texts", "images"]
