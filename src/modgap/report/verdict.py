"""What a report says first, in plain sentences with numbers: made from its own dictionary alone.

So no sentence can say what the tables do not, and all of them speak of the advice's closer.
"""

from __future__ import annotations

from typing import Any

from modgap.report.words import listed, said, share

__all__ = ["due", "verdict", "when_not"]

Found = dict[str, Any]
#: What a mixed collection is judged by.
_MERGED = {
    "ndcg": "the NDCG of the first ten on queries that it was not fitted to",
    "shown": "the share of the modality least seen among the first ten, over its share of the collection,",
}
_METRICS = {"cosine": "cosine", "euclidean": "Euclidean distance", "ip": "inner product"}


def verdict(found: Found) -> str:
    """Return the one sentence that says it all."""
    advice, closer = found["advice"], found["closer"]
    figures = {entry["label"]: entry for entry in advice["evidence"]["closers"]}
    none, chosen = figures.get("none"), figures.get(advice["method"])
    if chosen is None or none is None or chosen is none:
        return "Leave the embeddings as they are: closing the gap does nothing here."
    what = _judged_words(advice, bool(found["settings"]["noises"]))
    name = _figure_of(advice["evidence"])
    before, after = none[name], chosen[name]
    change = f"{what} goes from {before:.3f} to {after:.3f}"
    if not closer["recommended"]:
        how = _METRICS[advice["method"].partition(":")[2]]
        return f"Close nothing, and compare by {how}: {change}."
    if chosen["exact"]:
        return f"Closing the gap with {advice['method']} keeps every answer, and {change}."
    return (
        f"Closing the gap with {advice['method']} changes {share(1 - chosen['agreement'])} of the "
        f"answers, and {change}."
    )


def _figure_of(evidence: Found) -> str:
    """Return the name of the figure that the sentences speak of."""
    judge = evidence["judged_by"]
    return judge if judge in ("accuracy", "recall", *_MERGED) else "retention"


def _judged_words(advice: Found, noisy: bool) -> str:
    if advice["evidence"]["judged_by"] in _MERGED:
        return _MERGED[advice["evidence"]["judged_by"]]
    under = " under noise" if noisy else ""
    if advice["evidence"]["judged_by"] == "recall":
        return f"the recall of the exact ten nearest{under}"
    if advice["evidence"]["judged_by"] == "accuracy":
        return f"the accuracy{under} on queries that it was not fitted to"
    return "the share of answers that survive noise" if noisy else "the share of answers kept"


def due(found: Found) -> str | None:
    """Say what is due to comparing by inner product, and what to closing; None without both."""
    closer, evidence = found["closer"], found["advice"]["evidence"]
    figures = {entry["label"]: entry for entry in evidence["closers"]}
    bare, none, chosen = (figures.get(label) for label in ("none:ip", "none", closer["label"]))
    if bare is None or none is None or chosen is None or not found["settings"]["noises"]:
        return None
    name = _figure_of(evidence)
    metric, label = _METRICS[found["task"]["metric"]], closer["label"]
    return (
        f"By {metric}, as it is: {none[name]:.3f}. By inner product, nothing closed: {bare[name]:.3f}, so "
        f"{bare[name] - none[name]:+.3f} is due to the comparison. Closed with {label}: "
        f"{chosen[name]:.3f}, so {chosen[name] - bare[name]:+.3f} is due to closing."
    )


def when_not(found: Found) -> list[str]:
    """Return the three lines on what closing does not do here."""
    return [_queries(found), _other_gallery(found), *_others(found)][:3]


def _queries(found: Found) -> str:
    name = found["closer"]["label"]
    if not found["closer"]["exact"]:
        return (
            f"When no answer may change: {name} gives other answers even without noise, so judge it by "
            "what is right, not by what is stable."
        )
    return (
        f"Against noise on the queries: {name} changes no answer of any query, so it cannot help there, "
        "however large the gap."
    )


def _other_gallery(found: Found) -> str:
    text = "On other items than these: a closure belongs to the gallery that it was fitted to"
    templates = found["templates"]
    if templates is None:
        return f"{text}; fit it again when the items change, which takes seconds."
    worst = max(row["flips"] for row in templates["rows"])
    closed = max(row["flips_closed"] for row in templates["rows"])
    return (
        f"{text}. Another caption template is another gallery: it changes up to {share(worst)} of the "
        f"answers, {share(closed)} with the same closure."
    )


def _others(found: Found) -> list[str]:
    rows = [row for problem in found["problems"][:1] for row in problem["closers"]]
    loose = [row for row in rows if row["folds"] and row["agreement"] < 1]
    found_lines = []
    if loose:
        changes = [f"{row['label']} {share(1 - row['agreement'])}" for row in loose]
        line = f"With what renormalises: other answers even without noise ({listed(changes)})"
        wide = [row["stored_spread"] for row in loose if (row["stored_spread"] or 0) > 1.05]
        if wide:
            line += (
                f", and items up to {max(wide):.1f} times as spread out, beside which noise of a fixed "
                "size looks small"
            )
        found_lines.append(line + ".")
    none = next(row for row in rows if row["label"] == "none")
    for row in rows:
        for before, after in zip(none["noises"], row["noises"], strict=True):
            if row["exact"] and after["retention"] < before["retention"] - 0.01:
                return [
                    *found_lines,
                    f"Not every exact closer helps: {row['label']} lowers the share that survives "
                    f"{said(before['noise'])} from {before['retention']:.3f} to "
                    f"{after['retention']:.3f}.",
                ]
    if not found_lines:
        return [
            "For better answers: an exact closer makes answers steadier, never more often right."
        ]
    return found_lines
