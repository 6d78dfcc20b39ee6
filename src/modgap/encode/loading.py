"""From a model's name to its encoder: which library it belongs to, and loading it."""

from __future__ import annotations

import importlib
from pathlib import Path

from modgap.encode.encoder import Encoder
from modgap.encode.wanted import Wanted
from modgap.errors import ArgumentError, ModelError

__all__ = ["BACKENDS", "load", "parse"]

#: What stands before the colon in a model's name, and the module that loads it.
BACKENDS = {
    "hf": "modgap.encode.transformers_models",
    "openclip": "modgap.encode.openclip_models",
    "st": "modgap.encode.sentence_models",
    "onnx": "modgap.encode.onnx_models",
    "dual": "modgap.encode.dual_models",
}
#: How a local folder is told: a file that only models of one library have, the surest first.
_MARKS = (
    ("dual_encoder.json", "dual"),
    ("open_clip_config.json", "openclip"),
    ("modules.json", "st"),
    ("vision_model.onnx", "onnx"),
    ("onnx/vision_model.onnx", "onnx"),
    ("config.json", "hf"),
)


def load(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    offline: bool = False,
    batch: int | None = None,
    workers: int | None = None,
) -> Encoder:
    """Return the encoder of a model.

    Parameters
    ----------
    model : str
        `LIBRARY:NAME`: `hf:openai/clip-vit-base-patch32` (transformers), `openclip:ViT-B-32/openai`,
        `st:clip-ViT-B-32` (sentence-transformers), `onnx:FOLDER`, `dual:FOLDER` (the training example's).
        Without a library, a local folder is known by its files, and another name is one of the hub for
        transformers.
    revision : str, optional
        Branch, tag or commit of the hub.
    device : str
        `auto` takes CUDA, then MPS, then the processor.
    dtype : {"float32", "float16", "bfloat16"}
        In which the model computes; embeddings come out as float32.
    offline : bool
        Fetch nothing: take files at hand only.
    batch, workers : int, optional
        As `Encoder`.

    Raises
    ------
    ArgumentError
        No such library, device or number type.
    MissingExtraError
        The library is not installed; the message holds the pip command.
    ModelError
        The model cannot be loaded.
    """
    backend, name = parse(model)
    module = importlib.import_module(BACKENDS[backend])
    how = Wanted(revision, device, dtype, offline, batch, workers)
    encoder: Encoder = module.load(name, how)
    return encoder


def parse(model: str) -> tuple[str, str]:
    """Return the backend and the name that a word such as `openclip:ViT-B-32/openai` means."""
    backend, colon, name = str(model).partition(":")
    if colon and backend in BACKENDS:
        if not name:
            raise ArgumentError(f"`model` {model!r} names no model after the colon")
        return backend, name
    folder = Path(model)
    if str(model).strip() and folder.is_dir():
        for mark, found in _MARKS:
            if (folder / mark).is_file():
                return found, str(model)
        raise ModelError(
            f"`{model}` holds no model that modgap knows; it looks for "
            f"{', '.join(mark for mark, _ in _MARKS)}"
        )
    if not str(model).strip() or (colon and backend != "hf-hub"):
        raise ArgumentError(
            f"`model` must be LIBRARY:NAME with one of {', '.join(BACKENDS)}, a folder, or a name of "
            f"the hub; got {model!r}"
        )
    return ("openclip", str(model)) if colon else ("hf", str(model))
