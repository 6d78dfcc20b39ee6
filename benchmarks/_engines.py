"""Studies of real engines as benchmarks: half of the texts fit the maps, the other half search."""

from __future__ import annotations

import sys
from typing import Any

from _harness import row
from _sets import halves, sets, stderr

from modgap import index


class Case:
    """The photos, and halves of the texts: known to fit to, unseen to judge by."""

    def __init__(self, *, quick: bool) -> None:
        self.name, (self.images, texts) = next(iter(sets(quick=quick).items()))
        self.known, self.unseen = halves(texts)

    def study(self, **options: Any) -> index.IndexStudy:
        return index.study(self.unseen, self.images, fit_queries=self.known, on_row=say, **options)


def document(case: Case, studies: list[index.IndexStudy]) -> dict[str, Any]:
    """Return what a result says of studies."""
    return {
        "setting": {
            "set": case.name,
            "fit": len(case.known),
            "studies": [study.setting for study in studies],
        },
        "rows": [line for study in studies for line in _rows(study)],
        "details": {
            "text": [line for study in studies for line in study.text],
            "rows": [one for study in studies for one in _records(study)],
        },
    }


def _records(study: index.IndexStudy) -> list[dict[str, Any]]:
    """Return the figures of each row, and what it finds over nothing closed, query by query."""
    bare = {one.label: one for one in study.done if one.map == "none"}
    return [{**one.to_dict(), "over_none": _over(one, bare.get(one.label))} for one in study]


def _over(one: index.CodecRow, bare: index.CodecRow | None) -> dict[str, float] | None:
    if bare is None or one.failed is not None:
        return None
    gain = one.found["1"]["10"] - bare.found["1"]["10"]
    return {"difference": float(gain.mean()), "stderr": stderr(gain)}


def _rows(study: index.IndexStudy) -> list[dict[str, Any]]:
    """Return for each codec what `balanced` gains: never less, at the same bytes, is the bar."""
    lines = []
    bare = {one.label: one for one in study.done if one.map == "none"}
    for one in study.done:
        if one.map in ("balanced", "balanced+lengths") and one.label in bare:
            over = _over(one, bare[one.label]) or {}
            what = f"{one.label}: recall@10 of `{one.map}` over nothing closed"
            lines.append(row(what, over["difference"], ">= 0", unit="", stderr=over["stderr"]))
    return lines


def say(one: index.CodecRow) -> None:
    print(f"  {one.label} {one.map} {one.failed or one.recall}", file=sys.stderr, flush=True)
