"""Models of sentence-transformers that take images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.encode._torch import device_of, digest_of, dtype_of, loading
from modgap.encode.encoder import Card, Encoder
from modgap.encode.pictures import as_rgb
from modgap.encode.wanted import Wanted
from modgap.errors import ModelError

__all__ = ["load"]


def load(model: str, how: Wanted) -> Encoder:
    """Return the encoder of a hub name or a local folder; arguments and errors as `modgap.encode.load`.

    Rows come out at unit length where the model compares by cosine, and as they are where by product.
    """
    library = require("sentence_transformers", "st")
    where, number = device_of(how.device), dtype_of(how.dtype)
    with loading(model, offline=how.offline):
        network = library.SentenceTransformer(
            model,
            device=str(where),
            revision=how.revision,
            local_files_only=how.offline,
            model_kwargs={"dtype": number},
        )
    network = network.eval().to(number)
    modalities = _modalities(network)
    if not {"image", "text"} <= set(modalities):
        raise ModelError(
            f"`{model}` encodes {' and '.join(modalities)} alone; there is no gap to look at. Take a "
            "model of images and texts, such as clip-ViT-B-32"
        )
    towers = {"image": _Tower(network, as_rgb), "text": _Tower(network, str)}
    scale = _scale(network)
    card = Card(
        backend="st",
        model=model,
        revision=digest_of(Path(model)) if Path(model).is_dir() else how.revision,
        dimension=int(towers["text"].run(["a"]).shape[1]),
        modalities=("image", "text"),
        unit=(network.similarity_fn_name or "cosine") == "cosine",
        logit_scale=scale,
        preprocessing={"modules": [type(module).__name__ for module in network]},
        dtype=how.dtype,
    )
    return Encoder(card, towers, batch=how.batch, workers=how.workers)


def _modalities(network: Any) -> tuple[str, ...]:
    """Return what a model says it takes; older ones of the library are asked by their first module."""
    found = getattr(network, "modalities", None)
    if found:
        return tuple(str(name) for name in found if isinstance(name, str))
    return ("image", "text") if type(network[0]).__name__ == "CLIPModel" else ("text",)


def _scale(network: Any) -> float | None:
    inner = getattr(network[0], "model", None)
    scale = getattr(inner, "logit_scale", None)
    return None if scale is None else float(scale.detach().float().exp())


@dataclass(frozen=True, eq=False)
class _Tower:
    network: Any
    read: Any

    def prepare(self, item: Any) -> Any:
        return self.read(item)

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        rows: np.ndarray = self.network.encode(
            list(prepared),
            batch_size=len(prepared),
            show_progress_bar=False,
            convert_to_tensor=True,
            normalize_embeddings=False,
        )
        out: np.ndarray = rows.float().cpu().numpy()  # type: ignore[attr-defined]
        return out
