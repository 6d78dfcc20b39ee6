"""Room for blocks: how large one may be, and what happens where memory has no room for it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from modgap.errors import ModgapError, RoomError

__all__ = ["block_elements", "halving"]

P = ParamSpec("P")
R = TypeVar("R")

#: By how much blocks are smaller than they would be; None outside of work that can begin again.
_SMALLER: ContextVar[int | None] = ContextVar("modgap_smaller_blocks", default=None)
_SMALLEST = 2**12
#: What libraries say in errors of other types.
_WORDS = ("RESOURCE_EXHAUSTED", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


def block_elements(elements: int) -> int:
    """Return how many elements a block may have that would have so many if memory were no matter."""
    return max(1, elements // (_SMALLER.get() or 1))


def halving(work: Callable[P, R]) -> Callable[P, R]:
    """Let work that goes through its rows in blocks begin again with half of them where memory ends.

    The smaller size stays for what the outermost such work does after that. Results are the same but for
    the order of sums.

    Raises
    ------
    RoomError
        Blocks of a few rows have no room either.
    """

    @functools.wraps(work)
    def with_room(*args: P.args, **options: P.kwargs) -> R:
        outermost = _SMALLER.get() is None
        if outermost:
            _SMALLER.set(1)
        try:
            while True:
                try:
                    return work(*args, **options)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    smaller = 2 * (_SMALLER.get() or 1)
                    if smaller > _SMALLEST:
                        raise RoomError(
                            "memory is full: not even blocks of a few rows have room beside the arrays; "
                            "free some, or give the rows in half precision or from the host "
                            f"({str(error).splitlines()[0][:120]})"
                        ) from None
                _SMALLER.set(smaller)  # the error is gone by here, and with it the blocks it held
                _release()
        finally:
            if outermost:
                _SMALLER.set(None)

    return with_room


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any array library says that memory is full."""
    if isinstance(error, ModgapError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return any(word in str(error) for word in _WORDS)


def _release() -> None:
    """Give back what the libraries of a GPU keep for later."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
