"""Vector stores on real rows, inside the process or on a private server: what each codec finds by map."""

from __future__ import annotations

from typing import Any

from _engines import Case, document

#: Stores ask one query at a time, and train their product codes for minutes: fewer queries and maps.
ALL: dict[str, Any] = {
    "engines": ["lancedb", "qdrant", "pgvector"],
    "maps": ["none", "balanced", "balanced+lengths"],
    "sample": 200,
    "reference": 60,
}
QUICK = {"codecs": ["qdrant-binary", "qdrant-scalar"], "maps": ["none", "balanced"]}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    case = Case(quick=quick)
    return document(case, [case.study(**(QUICK if quick else ALL))])
