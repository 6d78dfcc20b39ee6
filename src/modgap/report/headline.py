"""Three or four plain sentences with numbers: what a report says first.

Every sentence is made from the report's own dictionary, so none can say what the tables do not.
"""

from __future__ import annotations

from typing import Any

__all__ = ["headline", "said", "share"]

Row = dict[str, Any]


def headline(found: dict[str, Any]) -> list[str]:
    """Return the sentences, about the first problem of the task."""
    problem = found["problems"][0]
    sentences = [
        _gap(problem, found["task"]),
        _exact(problem, found["task"]),
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


def said(label: str) -> str:
    """Return a noise's label as a reader says it, short."""
    name, _, setting = label.partition(":")
    words = {
        "gaussian": f"Gaussian noise of {setting}",
        "uniform": f"uniform noise of {setting}",
        "bins": f"{setting.partition(':')[0]}-level storage",
        "faiss": f"{setting} storage by FAISS",
    }
    return words.get(name, f"{label} storage")


def _figure(problem: Row, name: str) -> float | None:
    return next((entry["value"] for entry in problem["gap"] if entry["name"] == name), None)


def _gap(problem: Row, task: Row) -> str:
    length, rank, width = _figure(problem, "centroid_gap"), problem["rank"], task["dimension"]
    if length is None:
        text = "The length of the gap is not defined here"
    else:
        text = f"The mean query lies {length:.3f} from the mean gallery item (rows of unit length)"
    free = _figure(problem, "free_share")
    if task["kind"] == "mixed-retrieval":
        return (
            f"{text}; in a gallery that holds both modalities that distance itself decides, because "
            "items of the queries' own modality lie nearer."
        )
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


def _exact(problem: Row, task: Row) -> str:
    none = problem["closers"][0]
    exact = [r for r in problem["closers"] if r["exact"] and r["method"] != "none"]
    if problem["items"] == 1:
        return "The gallery has one item, so every query has the same answer, whatever the gap."
    if not exact:
        return ""
    if not none["noises"]:
        kept = min(row["agreement"] for row in exact)
        return f"Closing the gap exactly keeps {share(kept)} of the noise-free answers."
    best = max(
        exact, key=lambda row: (round(_mean(row, "stability"), 4), row["method"] == "affine")
    )
    closes = best["method"] not in ("recenter", "none")
    lead = (
        "Closing it exactly" if closes else "Without changing answers no more can be done than to"
    )
    lead += f" ({best['method']})" if closes else f" {best['method']}, which"
    verb, parts = _moves(none, best)
    return (
        f"{lead} keeps {share(best['agreement'])} of the noise-free answers and {verb} their "
        f"stability, the chance that noise does not change an answer: {'; '.join(parts)}."
    )


def _moves(none: Row, best: Row) -> tuple[str, list[str]]:
    """Return the verb for what a closer does to stability, and the numbers, noise by noise."""
    parts, still, moves = [], [], set()
    for before, after in zip(none["noises"], best["noises"], strict=True):
        change = after["stability"] - before["stability"]
        name = said(before["noise"])
        if abs(change) < 5e-4:
            still.append(f"{name} ({before['stability']:.3f})")
        else:
            moves.add(change > 0)
            parts.append(f"from {before['stability']:.3f} to {after['stability']:.3f} under {name}")
    if still:
        parts.append("unchanged under " + _listed(still))
    if not moves:
        return "leaves", parts
    return "changes" if len(moves) == 2 else "raises" if True in moves else "lowers", parts


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
    noise = said(loose[0]["noises"][0]["noise"])
    kept = max(exact, key=lambda row: row["noises"][0]["retention"])
    other = max(loose, key=lambda row: row["noises"][0]["retention"])
    numbers = (other["noises"][0]["retention"], kept["noises"][0]["retention"])
    exactly = f"the best exact one ({kept['method']})"
    if kept["method"] == "none":
        exactly = "leaving the embeddings as they are"
    return (
        f" Under {noise} the best of them ({other['method']}) retains {share(numbers[0])} of the "
        f"original answers, {exactly} {share(numbers[1])}."
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
    return float(sum(values) / len(values))


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
