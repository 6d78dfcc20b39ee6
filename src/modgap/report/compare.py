"""Several finished studies beside one another, as one plain dictionary."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap._core.json import plain, stamp
from modgap.errors import ArgumentError, FormatError
from modgap.io._guard import check_file, reading, shown

__all__ = ["compare", "comparison_csv", "comparison_latex", "comparison_table", "read_study"]


def read_study(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a finished study: what `modgap report --json` or `modgap evaluate --json` printed, or a cell.

    Raises
    ------
    FormatError
        No such file, no JSON, or no study.
    """
    file = Path(path)
    check_file(file)
    with reading(file, "json"):
        found = json.loads(file.read_text(encoding="utf-8"))
    kinds = ({"report"}, {"problems", "task"}, {"closers", "task"})
    if not isinstance(found, dict) or not any(kind <= set(found) for kind in kinds):
        raise FormatError(
            f"`{shown(file)}` is no finished study; give what modgap report --json or modgap evaluate "
            "--json printed, or a cell of modgap bench"
        )
    return found


def compare(
    studies: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> dict[str, Any]:
    """Return a row for each problem of each study, the figures before and after closing side by side.

    Parameters
    ----------
    studies : sequence of dict
        Of `summarize`, of `Study.to_dict`, or cells of a benchmark; see `read_study`.
    names : sequence of str, optional
        One a study; by default its title, or model and data set.
    title : str, optional

    Returns
    -------
    dict
        `rows`, each with `name`, `problem`, sizes, `gap`, `bits`, `closer`, `exact`, `agreement`,
        `accuracy` and, under `noises`, `before`, `after` and `stderr` (of `after`) by noise; and `noises`,
        those that any study has, in order. After is the closer that a report speaks of; of an evaluation
        the exact one whose answers survive best. Absent figures are None.

    Raises
    ------
    ArgumentError
        No studies, or not one name a study.
    """
    if not studies:
        raise ArgumentError("give at least one study to compare")
    if names is not None and len(names) != len(studies):
        raise ArgumentError(f"give one name a study; got {len(names)} for {len(studies)}")
    rows: list[dict[str, Any]] = []
    for i, study in enumerate(studies):
        name = names[i] if names is not None else _name(study, i)
        rows += [{"name": name, **row} for row in _rows(study)]
    noises = list(dict.fromkeys(noise for row in rows for noise in row["noises"]))
    found: dict[str, Any] = plain(
        {**stamp(), "title": title or "Studies compared", "rows": rows, "noises": noises}
    )
    return found


def comparison_table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows flat: two columns a noise, before and after."""
    flat = []
    for row in found["rows"]:
        out = {key: value for key, value in row.items() if key != "noises"}
        for noise in found["noises"]:
            cell = row["noises"].get(noise, {})
            out[f"{noise} before"] = cell.get("before")
            out[f"{noise} after"] = cell.get("after")
        flat.append(out)
    return flat


def comparison_latex(found: Mapping[str, Any]) -> str:
    """Return the rows as a LaTeX table of the package booktabs: before and after closing, by noise."""
    noises = list(found["noises"])
    head = ["study", "gap", "bits", "closer", "agreement", *noises]
    lines = [
        f"\\begin{{tabular}}{{ll{'r' * (len(head) - 1)}}}",
        "\\toprule",
        " & ".join(_tex(word) for word in ["study", "problem", *head[1:]]) + " \\\\",
        "\\midrule",
    ]
    for row in found["rows"]:
        cells = [
            row["name"],
            row["problem"],
            _three(row["gap"]),
            _three(row["bits"]),
            row["closer"],
        ]
        cells += [_three(row["agreement"])]
        for noise in noises:
            cell = row["noises"].get(noise)
            cells.append(
                "--" if cell is None else f"{_three(cell['before'])}/{_three(cell['after'])}"
            )
        lines.append(" & ".join(_tex(str(cell)) for cell in cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def comparison_csv(found: Mapping[str, Any]) -> str:
    """Return `comparison_table` as CSV."""
    rows = comparison_table(found)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _name(study: Mapping[str, Any], number: int) -> str:
    if "report" in study:
        return f"{study['model']['model']} / {study['dataset']['name']}"
    return str(study.get("title") or f"study {number + 1}")


def _rows(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "report" in study:
        study = study["report"]
    task = study["task"]
    common = {
        "kind": task["kind"], "queries": task["queries"], "items": task["gallery"],
        "dimension": task["dimension"], "metric": task["metric"],
    }  # fmt: skip
    if "problems" in study:
        return [
            {**common, **_of_problem(problem, study["closer"]["label"])}
            for problem in study["problems"]
        ]
    names = dict.fromkeys(row["problem"] for row in study["closers"])
    return [{**common, **_of_evaluation(study, name)} for name in names]


def _of_problem(problem: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the figures of one problem of a report."""
    gap = {entry["name"]: entry["value"] for entry in problem["gap"]}
    bits = problem["bits"]
    return {
        "problem": problem["name"],
        "rank": problem["rank"],
        "gap": gap.get("centroid_gap"),
        "bits": None if not bits else bits["reached"],
        **_between(problem["closers"], label),
    }


def _of_evaluation(study: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the figures of one problem of an evaluation, after its best exact closer."""
    rows = [row for row in study["closers"] if row["problem"] == name]
    exact = [row for row in rows if row["exact"]] or rows
    best = max(exact, key=_survival)
    gap: Mapping[str, Any] = next((gap for gap in study["gaps"] if gap["problem"] == name), {})
    return {
        "problem": name,
        "rank": gap.get("rank"),
        "gap": gap.get("centroid_gap"),
        "bits": None,
        **_between(rows, best["label"]),
    }


def _survival(row: Mapping[str, Any]) -> float:
    values = [noise["retention"] for noise in row["noises"] if noise["retention"] is not None]
    return sum(values) / len(values) if values else 0.0


def _between(rows: Sequence[Mapping[str, Any]], label: str) -> dict[str, Any]:
    """Return what changes from the first row, nothing closed, to a closer's."""
    before = next((row for row in rows if row["method"] == "none"), rows[0])
    after = next((row for row in rows if row["label"] == label), before)
    noises = {}
    for one, other in zip(before["noises"], after["noises"], strict=True):
        word = one["noise"] if one["side"] == "gallery" else f"{one['noise']}@{one['side']}"
        noises[word] = {
            "before": one["retention"],
            "after": other["retention"],
            "stderr": other["stability_stderr"],
        }
    return {
        "closer": after["label"],
        "exact": after["exact"],
        "agreement": after["agreement"],
        "accuracy": {"before": before["clean_accuracy"], "after": after["clean_accuracy"]},
        "noises": noises,
    }


def _three(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}".replace("0.", ".", 1).replace("-.", "-.")


_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
}  # fmt: skip


def _tex(text: str) -> str:
    """Return text as LaTeX shows it."""
    return "".join(_TEX.get(c, c) for c in text)
