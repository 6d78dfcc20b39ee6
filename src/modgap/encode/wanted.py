"""How a model is asked for, whichever library it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Wanted"]


@dataclass(frozen=True)
class Wanted:
    """What stands beside a model's name; the meaning is that of `modgap.encode.load`."""

    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    offline: bool = False
    batch: int | None = None
    workers: int | None = None
