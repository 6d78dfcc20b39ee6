"""Checkpoints of the training example as encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.encode._torch import device_of, digest_of, dtype_of, to_rows
from modgap.encode.encoder import Card, Encoder, Tower
from modgap.encode.pictures import as_rgb
from modgap.encode.wanted import Wanted
from modgap.errors import ArgumentError

__all__ = ["load"]


def load(model: str, how: Wanted) -> Encoder:
    """Return the encoder of a checkpoint's folder; arguments and errors as `modgap.encode.load`."""
    if how.revision is not None:
        raise ArgumentError("a checkpoint's folder has no revision; leave `revision` out")
    from modgap.encode.dual_encoder import DualEncoder

    where, number = device_of(how.device), dtype_of(how.dtype)
    network = DualEncoder.load(model).to(where, number)
    shape = network.shape
    card = Card(
        backend="dual",
        model=str(model),
        revision=digest_of(Path(model)),
        dimension=shape.dim,
        modalities=("image", "text"),
        logit_scale=float(network.log_scale.detach().float().exp()),
        logit_bias=float(network.bias.detach()) if shape.sigmoid else None,
        sigmoid=shape.sigmoid,
        preprocessing={"image": {"pixels": shape.pixels, "resample": "bicubic"}},
        dtype=how.dtype,
    )
    towers: dict[str, Tower] = {
        "image": _Images(network, shape.pixels, where, number),
        "text": _Texts(network),
    }
    return Encoder(card, towers, batch=how.batch, workers=how.workers)


@dataclass(frozen=True, eq=False)
class _Images:
    network: Any
    pixels: int
    device: Any
    dtype: Any

    def prepare(self, item: Any) -> np.ndarray:
        image = as_rgb(item)
        if image.size != (self.pixels, self.pixels):
            image = image.resize((self.pixels, self.pixels), resample=3)
        return np.asarray(image)

    def run(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        torch = require("torch", "torch")
        with torch.inference_mode():
            whole = torch.from_numpy(np.stack(prepared)).to(self.device).permute(0, 3, 1, 2)
            pixels = whole.to(self.dtype, memory_format=torch.contiguous_format).div_(255)
            return to_rows(self.network.images(pixels))


@dataclass(frozen=True, eq=False)
class _Texts:
    network: Any

    def prepare(self, item: Any) -> str:
        return str(item)

    def run(self, prepared: Sequence[str]) -> np.ndarray:
        with require("torch", "torch").inference_mode():
            return to_rows(self.network.texts(self.network.tokens(prepared)))
