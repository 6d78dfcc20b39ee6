"""Random numbers where they are needed: the host's generator, or that of the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from modgap._core.arrays import (
    Array,
    asarray_like,
    device,
    is_cupy_array,
    is_numpy_array,
    is_torch_array,
    namespace,
)

__all__ = ["Draws", "as_drawn", "draws_for"]


class Draws(Protocol):
    """A source of independent random numbers; NumPy's `Generator` is one."""

    def standard_normal(self, size: tuple[int, ...], dtype: Any = ...) -> Any:
        """Return normal values of mean 0 and variance 1."""
        ...

    def random(self, size: tuple[int, ...], dtype: Any = ...) -> Any:
        """Return uniform values in [0, 1)."""
        ...


def draws_for(rows: Array, seed: Sequence[int]) -> Draws:
    """Return a generator of one seed for noise on `rows`.

    Rows of PyTorch or CuPy on a GPU have one of their device, so that nothing travels: it gives other
    numbers than the host's, the same in every run on one kind of device. All others have NumPy's.
    """
    if is_torch_array(rows) and rows.device.type not in ("cpu", "meta"):
        return _TorchDraws(_one_number(seed), rows.device)
    if is_cupy_array(rows):
        import cupy

        generator: Draws = cupy.random.default_rng(_one_number(seed))
        return generator
    return np.random.default_rng(tuple(seed))


def as_drawn(values: Any, rows: Array) -> Array:
    """Return what was drawn for `rows` in their library, on their device and of their dtype."""
    if is_numpy_array(values):
        return asarray_like(values, rows, dtype=rows.dtype)
    xp = namespace(values)
    assert device(values) == device(rows)
    return xp.astype(values, rows.dtype, copy=False)


class _TorchDraws:
    """A generator of PyTorch on a device."""

    def __init__(self, seed: int, where: Any) -> None:
        import torch

        self._torch = torch
        self._options = {
            "generator": torch.Generator(device=where).manual_seed(seed),
            "device": where,
            "dtype": torch.float32,
        }

    def standard_normal(self, size: tuple[int, ...], dtype: Any = None) -> Any:
        """Return normal values, float32."""
        return self._torch.randn(size, **self._options)

    def random(self, size: tuple[int, ...], dtype: Any = None) -> Any:
        """Return uniform values in [0, 1), float32."""
        return self._torch.rand(size, **self._options)


def _one_number(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(tuple(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1))
