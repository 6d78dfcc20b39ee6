"""Models of the transformers library, versions 4.57 and 5: CLIP and its kin, and CLAP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.encode._torch import device_of, digest_of, dtype_of, joined, loading, to_rows
from modgap.encode.encoder import Card, Encoder, Tower
from modgap.encode.pictures import as_rgb
from modgap.encode.sounds import as_samples
from modgap.encode.wanted import Wanted
from modgap.errors import ModelError

__all__ = ["KINDS", "load"]

_TO_LONGEST: dict[str, Any] = {"padding": True}
_TO_LENGTH: dict[str, Any] = {"padding": "max_length"}
_TO_64: dict[str, Any] = {"padding": "max_length", "max_length": 64}


@dataclass(frozen=True)
class _Kind:
    """How a family of models wants its texts padded, and what comes of them.

    `first_token`: the text is its first token, which transformers 4.57's own call does not take.
    """

    text: Mapping[str, Any]
    modalities: tuple[str, ...] = ("image", "text")
    sigmoid: bool = False
    first_token: bool = False


#: Model types of the library that have encoders of two modalities in one space. Padding is as their cards
#: ask: SigLIP and ALIGN were trained on texts of one length.
KINDS: dict[str, _Kind] = {
    "clip": _Kind(_TO_LONGEST),
    "metaclip_2": _Kind(_TO_LONGEST),
    "chinese_clip": _Kind(_TO_LONGEST, first_token=True),
    "align": _Kind(_TO_64),
    "siglip": _Kind(_TO_LENGTH, sigmoid=True),
    "siglip2": _Kind(_TO_64, sigmoid=True),
    "clap": _Kind(_TO_LONGEST, modalities=("audio", "text")),
}


def load(model: str, how: Wanted) -> Encoder:
    """Return the encoder of a model on the hub or in a local folder.

    Parameters
    ----------
    model : str
        Name on the hub, or folder that `save_pretrained` wrote.
    how : Wanted
        `offline` takes only files that are at hand; the variable HF_HUB_OFFLINE does the same.

    Raises
    ------
    ModelError
        It cannot be loaded, or is of a type without two encoders.
    MissingExtraError
        transformers is not installed.
    """
    library = require("transformers", "hf")
    where, number = device_of(how.device), dtype_of(how.dtype)
    options = {"revision": how.revision, "local_files_only": how.offline}
    with loading(model, offline=how.offline), _without_bars(library):
        config = library.AutoConfig.from_pretrained(model, **options)
        kind = _kind(model, config.model_type)
        network = library.AutoModel.from_pretrained(model, dtype=number, **options)
        processor = library.AutoProcessor.from_pretrained(model, **options)
    network = network.eval().to(where)
    towers: dict[str, Tower] = {
        "image": _Images(network, processor, where, number),
        "text": _Texts(network, processor, where, kind),
        "audio": _Sounds(network, processor, where, number),
    }
    scale, bias = _scale(network)
    card = Card(
        backend="hf",
        model=str(model),
        revision=_revision(model, config, how.revision),
        dimension=int(network.config.projection_dim)
        if hasattr(network.config, "projection_dim")
        else int(network.config.text_config.hidden_size),
        modalities=kind.modalities,
        logit_scale=scale,
        logit_bias=bias,
        sigmoid=kind.sigmoid,
        preprocessing=_preprocessing(processor, kind),
        dtype=how.dtype,
    )
    kept = {name: towers[name] for name in kind.modalities}
    return Encoder(card, kept, batch=how.batch, workers=how.workers)


@contextmanager
def _without_bars(library: Any) -> Iterator[None]:
    """Keep the library's progress bars off the screen, which shows one of ours."""
    logs = library.utils.logging
    shown = logs.is_progress_bar_enabled()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logs.enable_progress_bar()


def _kind(model: str, model_type: str) -> _Kind:
    if model_type not in KINDS:
        raise ModelError(
            f"`{model}` is of type {model_type!r}, which has no two encoders of one space that modgap "
            f"knows; types it knows: {', '.join(KINDS)}"
        )
    return KINDS[model_type]


def _revision(model: str, config: Any, asked: str | None) -> str | None:
    if Path(model).is_dir():
        return digest_of(Path(model))
    found = getattr(config, "_commit_hash", None)
    return found or asked


def _scale(network: Any) -> tuple[float | None, float | None]:
    """Return what cosines are multiplied by, and what is added to them."""
    if hasattr(network, "temperature"):  # ALIGN divides
        return 1.0 / float(network.temperature.detach()), None
    for name in ("logit_scale", "logit_scale_a"):
        if hasattr(network, name):
            bias = getattr(network, "logit_bias", None)
            scale = float(getattr(network, name).detach().float().exp())
            return scale, None if bias is None else float(bias.detach())
    return None, None


def _preprocessing(processor: Any, kind: _Kind) -> dict[str, Any]:
    found: dict[str, Any] = {"text": dict(kind.text)}
    for modality, part in (("image", "image_processor"), ("audio", "feature_extractor")):
        if modality in kind.modalities:
            settings = getattr(processor, part).to_dict()
            found[modality] = {k: v for k, v in sorted(settings.items()) if _is_plain(v)}
    return found


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


@dataclass(frozen=True, eq=False)
class _Images(Tower):
    network: Any
    processor: Any
    device: Any
    dtype: Any

    def prepare(self, item: Any) -> Any:
        return dict(self.processor.image_processor(images=[as_rgb(item)], return_tensors="pt"))

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        with require("torch", "torch").inference_mode():
            batch = joined(prepared, self.device, self.dtype)
            return to_rows(self.network.get_image_features(**batch))


@dataclass(frozen=True, eq=False)
class _Texts(Tower):
    network: Any
    processor: Any
    device: Any
    kind: _Kind

    def prepare(self, item: Any) -> Any:
        return str(item)

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        with require("torch", "torch").inference_mode():
            batch = self.processor.tokenizer(
                list(prepared), truncation=True, return_tensors="pt", **self.kind.text
            )
            taken = {
                name: value.to(self.device)
                for name, value in batch.items()
                if name in ("input_ids", "attention_mask")
            }
            if self.kind.first_token:
                hidden = self.network.text_model(**taken)[0]
                return to_rows(self.network.text_projection(hidden[:, 0, :]))
            return to_rows(self.network.get_text_features(**taken))


@dataclass(frozen=True, eq=False)
class _Sounds(Tower):
    network: Any
    processor: Any
    device: Any
    dtype: Any

    def prepare(self, item: Any) -> Any:
        extractor = self.processor.feature_extractor
        samples = as_samples(item, extractor.sampling_rate)
        out = extractor([samples], sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return {
            name: value for name, value in out.items() if name in ("input_features", "is_longer")
        }

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        with require("torch", "torch").inference_mode():
            batch = joined(prepared, self.device, self.dtype)
            return to_rows(self.network.get_audio_features(**batch))
