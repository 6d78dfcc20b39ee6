"""The code that serves the page's closure: what to write into an index, and what to ask it with."""

from __future__ import annotations

from typing import Any

from modgap.closers.closure import Closure
from modgap.closers.mixed import MixedClosure

__all__ = ["recipe"]


def recipe(closure: Closure, queries: str, items: str) -> dict[str, Any]:
    """Return Python lines for an index behind a closure, and a sentence on an index that stands.

    Parameters
    ----------
    closure : Closure
    queries, items : str
        What the rows are, as variables are called.
    """
    from modgap.index.served import Served

    lines = ["import modgap", "", 'closure = modgap.load("closure.safetensors")']
    if isinstance(closure, MixedClosure):
        first = closure.modalities[0]
        lines += [
            f'index.add(closure.apply_gallery(rows, "{first}"))  # each modality by its own map',
            f"index.search(closure.apply_queries({queries}), 10)",
        ]
        return {"code": "\n".join(lines), "standing": None}
    served = Served(closure)
    word = closure.comparison.words
    if served.reencode:
        lines += [f"index.add(closure.apply_gallery({items}))  # written anew; compared by {word}"]
    else:
        lines += [f"# the index stays as it is; it compares by {word}"]
        lines += ["served = modgap.index.Served(closure, existing=True)"]
        return {
            "code": "\n".join([*lines, f"index.search(served.queries({queries}), 10)"]),
            "standing": served.note,
        }
    lines += [f"index.search(closure.apply_queries({queries}), 10)"]
    return {"code": "\n".join(lines), "standing": None}
