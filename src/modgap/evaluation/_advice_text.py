"""An advice in words: what to do, what it gains, and what it does not."""

from __future__ import annotations

from modgap.evaluation._candidates import LEAST, Candidate
from modgap.evaluation.tasks import Task
from modgap.robustness.noise import Noise

_WORDS = {
    "accuracy": "accuracy",
    "recall": "recall of the exact ten nearest",
    "retention": "share of answers that survive",
}


def text_of(
    task: Task,
    drawn: Task,
    candidates: list[Candidate],
    chosen: Candidate,
    judge: str,
    noises: tuple[Noise, ...],
    free: bool,
) -> str:
    none = candidates[0]
    words = _WORDS[judge]
    under = " under noise" if any(noise.side != "queries" for noise in noises) else ""
    if chosen is none:
        best = max(candidates[1:], key=lambda c: c.gain, default=none)
        text = (
            f"Leave it: closing does nothing here. The {words}{under} is {_figure(none, judge):.3f} as "
            f"it is"
        )
        if best is not none:
            text += (
                f"; the best other candidate, {best.label}, reaches {_figure(best, judge):.3f} "
                f"(difference {best.gain:+.4f}, standard error {best.gain_stderr:.4f})"
            )
        text += "."
    else:
        keeps = (
            "It keeps every noise-free answer."
            if chosen.exact
            else f"It changes {1 - chosen.agreement:.1%} of the noise-free answers."
        )
        text = (
            f"Use {chosen.label}. The {words}{under} goes from {_figure(none, judge):.3f} to "
            f"{_figure(chosen, judge):.3f} (+{chosen.gain:.3f}, standard error "
            f"{chosen.gain_stderr:.3f}). {keeps}{_recalled(none, chosen, judge)}"
            f"{_split(candidates, chosen, judge)}"
        )
    if free:
        text += " Closers that can change answers were judged on queries they were not fitted to."
    left = [noise.label for noise in noises if noise.side == "queries"]
    if left and not free:
        text += f" Against {', '.join(left)} no closer that keeps the answers can help."
    return text + sample_words(task, drawn)


def sample_words(task: Task, drawn: Task) -> str:
    """Say how much of the data was measured, if not all."""
    part, whole = drawn.describe(), task.describe()
    if part["queries"] == whole["queries"] and part["gallery"] == whole["gallery"]:
        return ""
    return f" Measured on a random sample: {part['queries']} queries, {part['gallery']} items."


def _recalled(none: Candidate, chosen: Candidate, judge: str) -> str:
    """Say what a search for ten finds of them, where there are codes; or whether the first is found."""
    if none.recall is None or chosen.recall is None:
        return ""
    if judge == "recall":
        return (
            f" The nearest survives in {none.retention:.3f} as it is, {chosen.retention:.3f} then."
        )
    return (
        f" Of the exact ten nearest items the codes find {none.recall:.3f} as it is, {chosen.recall:.3f} "
        "then."
    )


def _split(candidates: list[Candidate], chosen: Candidate, judge: str) -> str:
    """Say how much of a gain comes from the comparison alone, with nothing closed."""
    name, _, comparison = chosen.label.partition(":")
    bare = next((c for c in candidates if c.label == f"none:{comparison or 'ip'}"), None)
    if bare is None or name == "none" or abs(bare.gain) < LEAST:
        return ""
    return (
        f" Comparing by inner product alone, nothing closed, gives {_figure(bare, judge):.3f}; the rest "
        "is what closing does."
    )


def _figure(candidate: Candidate, judge: str) -> float:
    value = getattr(candidate, judge)
    return float("nan") if value is None else float(value)
