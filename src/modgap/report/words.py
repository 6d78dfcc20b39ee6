"""How a report says numbers and noises."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed", "said", "share"]

_SIDES = {"gallery": "the stored items", "queries": "the queries", "both": "both sides"}
_FLAGS = {"rotated": "rotated", "lengths": "lengths kept", "dimension": "a range per dimension",
          "clipped": "range clipped", "global": "one range",
          "before": "ahead of the closure's map"}  # fmt: skip


def share(value: float) -> str:
    """Return a fraction as a reader wants it; never rounds to all or to none what is not."""
    for digits in (1, 2, 3):
        text = f"{value:.{digits}%}"
        if value in (0.0, 1.0) or text.rstrip("%").strip("0.") not in ("", "1"):
            break
    return text.replace(".0%", "%") if value in (0.0, 1.0) else text


def said(label: str) -> str:
    """Return a noise's label as a reader says it, short; the side where it is not the gallery."""
    word, _, side = label.partition("@")
    name, *settings = word.split(":")
    first = settings[0] if settings else ""
    leading = {
        "gaussian": f"Gaussian noise of {first}",
        "uniform": f"uniform noise of {first}",
        "bins": f"{first}-level storage",
        "bits": f"{first}-bit storage",
        "dims": f"the first {first} dimensions",
        "faiss": f"{':'.join(settings)} storage by FAISS",
        "paraphrase": f"the template {':'.join(settings)}",
    }
    if name in ("faiss", "paraphrase"):
        text, rest = leading[name], []
    elif name in leading:
        text, rest = leading[name], settings[1:]
    else:
        text, rest = ("1-bit" if name == "sign" else name) + " storage", settings
    if "relative" in rest:
        text += " times the stored rows' spread"
        rest = [setting for setting in rest if setting != "relative"]
    if rest:
        text += f" ({', '.join(_FLAGS.get(setting, setting) for setting in rest)})"
    return f"{text} on {_SIDES.get(side, side)}" if side else text


def listed(parts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts))
