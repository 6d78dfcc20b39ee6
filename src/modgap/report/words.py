"""How a report says numbers and noises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["brief", "listed", "printable", "said", "share"]

#: Longest name on a page: more is no name.
_LONGEST = 200
#: Control characters but tabs and line ends, characters that turn the direction of the text after them,
#: halves of surrogate pairs, which no file can hold, and what is no character.
_UNSEEN = re.compile("[\0-\b\v-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_SIDES = {"gallery": "the stored items", "queries": "the queries", "both": "both sides"}
_FLAGS = {"rotated": "rotated", "lengths": "lengths kept", "dimension": "a range per dimension",
          "clipped": "range clipped", "global": "one range",
          "before": "ahead of the closure's map"}  # fmt: skip


def brief(name: Any) -> str:
    """Return a name as a page has room for it: its middle is left out beyond 200 characters.

    Examples
    --------
    >>> len(brief("x" * 10_000)), brief("a red bus")
    (200, 'a red bus')
    """
    text = str(name)
    if len(text) <= _LONGEST:
        return text
    end = _LONGEST // 4
    return f"{text[: _LONGEST - end - 1]}…{text[-end:]}"


def printable(value: Any) -> Any:
    r"""Return a document whose texts can all be seen: what has no shape of its own is written out.

    Examples
    --------
    >>> printable({"names": ["a\0b", "\u202eabc"], "rank": 3})
    {'names': ['a\\x00b', '\\u202eabc'], 'rank': 3}
    """
    if isinstance(value, str):
        return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], value)
    if isinstance(value, Mapping):
        return {printable(key): printable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [printable(inner) for inner in value]
    return value


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
