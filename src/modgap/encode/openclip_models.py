"""Models of open_clip: any architecture with any pretrained tag, a hub name, or a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.encode._torch import device_of, digest_of, dtype_of, loading, to_rows
from modgap.encode.encoder import Card, Encoder, Tower
from modgap.encode.pictures import as_rgb
from modgap.encode.wanted import Wanted
from modgap.errors import ModelError

__all__ = ["load"]

_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def load(model: str, how: Wanted) -> Encoder:
    """Return the encoder of `ARCHITECTURE/TAG`, of a hub name, or of a folder with open_clip_config.json.

    `ARCHITECTURE/FILE` takes the weights from a local file of tensors. Arguments and errors as
    `modgap.encode.load`; open_clip takes no revision.
    """
    library = require("open_clip", "openclip")
    if how.revision is not None:
        raise ModelError("open_clip takes no revision; name another pretrained tag")
    where = device_of(how.device)
    dtype_of(how.dtype)
    name, tag = _parts(model, library)
    with loading(model, offline=how.offline):
        network, _, transform = library.create_model_and_transforms(
            name, pretrained=tag, device=where, precision=_PRECISIONS[how.dtype]
        )
        tokenizer = library.get_tokenizer(name)
    network = network.eval()
    card = Card(
        backend="openclip",
        model=model,
        revision=_revision(model, tag),
        dimension=_dimension(network, tokenizer, where),
        modalities=("image", "text"),
        logit_scale=float(network.logit_scale.detach().float().exp()),
        logit_bias=_bias(network),
        sigmoid=_bias(network) is not None,
        preprocessing={
            "image": {"transform": [str(step) for step in transform.transforms]},
            "text": {"tokenizer": type(tokenizer).__name__},
        },
        dtype=how.dtype,
    )
    towers: dict[str, Tower] = {
        "image": _Images(network, transform, where, dtype_of(how.dtype)),
        "text": _Texts(network, tokenizer, where),
    }
    return Encoder(card, towers, batch=how.batch, workers=how.workers)


def _parts(model: str, library: Any) -> tuple[str, str | None]:
    """Return what open_clip calls the model's name, and its tag or file of weights."""
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "open_clip_config.json").is_file():
            raise ModelError(f"`{model}` has no open_clip_config.json; it is no model of open_clip")
        return f"local-dir:{folder}", None
    if model.startswith("hf-hub:"):
        return model, None
    architecture, _, tag = model.partition("/")
    if architecture not in library.list_models():
        return f"hf-hub:{model}", None
    if not tag:
        tags = library.list_pretrained_tags_by_model(architecture)
        raise ModelError(
            f"`{model}` needs a pretrained tag, as in {architecture}/{tags[0] if tags else 'FILE'}; "
            f"it has {', '.join(tags) or 'none: name a file of weights'}"
        )
    return architecture, tag


def _revision(model: str, tag: str | None) -> str | None:
    for path in (Path(model), Path(tag or "")):
        if path.is_dir() and tag is None:
            return digest_of(path)
    return None


def _bias(network: Any) -> float | None:
    bias = getattr(network, "logit_bias", None)
    return None if bias is None else float(bias.detach())


def _dimension(network: Any, tokenizer: Any, device: Any) -> int:
    with require("torch", "torch").inference_mode():
        return int(network.encode_text(tokenizer(["a"]).to(device)).shape[-1])


@dataclass(frozen=True, eq=False)
class _Images:
    network: Any
    transform: Any
    device: Any
    dtype: Any

    def prepare(self, item: Any) -> Any:
        return self.transform(as_rgb(item))

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        torch = require("torch", "torch")
        with torch.inference_mode():
            batch = torch.stack(list(prepared)).to(self.device, self.dtype)
            return to_rows(self.network.encode_image(batch))


@dataclass(frozen=True, eq=False)
class _Texts:
    network: Any
    tokenizer: Any
    device: Any

    def prepare(self, item: Any) -> Any:
        return str(item)

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        with require("torch", "torch").inference_mode():
            tokens = self.tokenizer(list(prepared)).to(self.device)
            return to_rows(self.network.encode_text(tokens))
