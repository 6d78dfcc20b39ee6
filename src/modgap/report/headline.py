"""Three or four plain sentences with numbers: what a report says first.

Every sentence is made from the report's own dictionary, so none can say what the tables do not.
"""

from __future__ import annotations

from typing import Any

__all__ = ["headline"]

Row = dict[str, Any]


def headline(found: dict[str, Any]) -> list[str]:
    """Return the sentences, about the first problem of the task."""
    problem = found["problems"][0]
    sentences = [
        _gap(problem, found["task"]),
        _exact(problem),
        _approximate(problem),
        _cannot_help(problem, found["templates"]),
    ]
    return [sentence for sentence in sentences if sentence]


def share(value: float) -> str:
    """Return a fraction as a reader wants it; never rounds to all or to none what is not."""
    for digits in (1, 2, 3):
        text = f"{value:.{digits}%}"
        if value in (0.0, 1.0) or text.rstrip("%").strip("0.") not in ("", "1"):
            break
    return text.replace(".0%", "%") if value in (0.0, 1.0) else text


def _figure(problem: Row, name: str) -> float | None:
    return next((entry["value"] for entry in problem["gap"] if entry["name"] == name), None)


def _gap(problem: Row, task: Row) -> str:
    length, rank, width = _figure(problem, "centroid_gap"), problem["rank"], task["dimension"]
    text = f"The mean query lies {length:.3f} from the mean gallery item (rows of unit length)"
    free = _figure(problem, "free_share")
    if rank >= width:
        return (
            f"{text}; the gallery spans all {width} dimensions, so some answer depends on every part "
            "of that gap."
        )
    if free is None:
        return text + "."
    return (
        f"{text}; {share(free)} of the gap's length lies outside the {rank} of {width} dimensions "
        "that the gallery spans, where no answer depends on it."
    )


def _exact(problem: Row) -> str:
    none = problem["closers"][0]
    exact = [r for r in problem["closers"] if r["exact"] and r["method"] != "none"]
    if not exact:
        return ""
    if not none["noises"]:
        kept = min(row["agreement"] for row in exact)
        return f"Closing the gap exactly keeps {share(kept)} of the noise-free answers."
    best = max(exact, key=lambda row: (_mean(row, "stability"), row["method"] == "affine"))
    parts = [
        f"from {before['stability']:.3f} to {after['stability']:.3f} under {before['noise']}"
        for before, after in zip(none["noises"], best["noises"], strict=True)
    ]
    moved = _mean(best, "stability") - _mean(none, "stability")
    kept = f"keeps {share(best['agreement'])} of the noise-free answers"
    if abs(moved) < 5e-4:
        return (
            f"Closing it exactly ({best['method']}) {kept}, and leaves their stability as it is: "
            + "; ".join(parts)
            + "."
        )
    verb = "raises" if moved > 0 else "lowers"
    return (
        f"Closing it exactly ({best['method']}) {kept} and {verb} their stability, the chance that "
        f"noise does not change an answer: {'; '.join(parts)}."
    )


def _approximate(problem: Row) -> str:
    loose = [row for row in problem["closers"] if not row["exact"]]
    if not loose:
        return ""
    changed = [row for row in loose if row["agreement"] < 1.0]
    if not changed:
        names = _listed([row["method"] for row in loose])
        return f"On these data the approximate closers ({names}) happen to change no answer."
    parts = []
    for row in changed:
        part = f"{row['method']} changes {share(1 - row['agreement'])}"
        before = problem["closers"][0]["clean_accuracy"]
        if before is not None:
            part += f" (clean accuracy {before:.3f} to {row['clean_accuracy']:.3f})"
        parts.append(part)
    text = "Approximate closers give other answers even without noise: " + _listed(parts) + "."
    return text + _retained(problem, changed)


def _retained(problem: Row, loose: list[Row]) -> str:
    """Compare under noise what is kept of the original answers, whoever wins."""
    exact = [row for row in problem["closers"] if row["exact"]]
    if not exact or not loose[0]["noises"]:
        return ""
    noise = loose[0]["noises"][0]["noise"]
    kept = max(exact, key=lambda row: row["noises"][0]["retention"])
    other = max(loose, key=lambda row: row["noises"][0]["retention"])
    numbers = (other["noises"][0]["retention"], kept["noises"][0]["retention"])
    return (
        f" Under {noise} the best of them ({other['method']}) retains {share(numbers[0])} of the "
        f"original answers, the best exact one ({kept['method']}) {share(numbers[1])}."
    )


def _cannot_help(problem: Row, templates: Row | None) -> str:
    rows = problem["query_noise"]
    none = next(row for row in rows if row["method"] == "none")
    others = [row for row in rows if row["exact"] and row["method"] != "none"]
    parts = []
    if others:
        furthest = max(others, key=lambda row: abs(row["stability"] - none["stability"]))
        parts.append(
            f"Against noise on the queries exact closing cannot help: stability {none['stability']:.3f} "
            f"before, {furthest['stability']:.3f} after"
        )
    if templates is not None:
        worst = max(row["flips"] for row in templates["rows"])
        closed = max(row["flips_closed"] for row in templates["rows"])
        parts.append(
            f"nor is it a remedy for reworded captions, which are no random noise: another template "
            f"changes up to {share(worst)} of the answers, {share(closed)} with the same closure applied"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _mean(row: Row, name: str) -> float:
    values = [noise[name] for noise in row["noises"] if noise[name] is not None]
    return sum(values) / len(values)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
