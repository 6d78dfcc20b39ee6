"""Exported towers in ONNX Runtime: no PyTorch, the folder layout that exports of transformers have.

`config.json`, `preprocessor_config.json`, `tokenizer.json`, `tokenizer_config.json`, and, beside them or in
a folder `onnx`, `vision_model.onnx` and `text_model.onnx`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.encode.encoder import Card, Encoder
from modgap.encode.pictures import as_rgb
from modgap.encode.wanted import Wanted
from modgap.errors import ArgumentError, ModelError
from modgap.io._guard import one_line, shown

__all__ = ["load"]

_TOWERS = {"image": "vision_model.onnx", "text": "text_model.onnx"}
_OUTPUTS = {"image": ("image_embeds", "pooler_output"), "text": ("text_embeds", "pooler_output")}
#: Model types whose texts are filled up to one length, and to which.
_TO_LENGTH = {"siglip": None, "siglip2": 64, "align": 64}
_SIGMOID = ("siglip", "siglip2")


def load(model: str, how: Wanted) -> Encoder:
    """Return the encoder of a folder of exported towers.

    Parameters
    ----------
    model : str
        The folder.
    how : Wanted
        Devices `auto` and `cuda` take CUDA where ONNX Runtime was built with it. The number type is that of
        the export, a folder has no revision, and nothing is fetched.

    Raises
    ------
    ModelError
        A file is missing, or ONNX Runtime cannot read it.
    """
    if how.revision is not None:
        raise ArgumentError("a folder of ONNX towers has no revision; leave `revision` out")
    if how.dtype != "float32":
        raise ArgumentError(
            "the number type of ONNX towers is that of their export; leave `dtype` out"
        )
    runtime = require("onnxruntime", "onnx")
    folder = Path(model)
    config = _json(folder / "config.json", needed=False)
    kind = str(config.get("model_type", "clip"))
    towers: dict[str, Any] = {}
    digest = hashlib.sha256()
    dimension = None
    for modality, name in _TOWERS.items():
        path = folder / name
        path = path if path.is_file() else folder / "onnx" / name
        if not path.is_file():
            raise ModelError(f"`{shown(folder)}` has no {name}; export both towers into one folder")
        session = _session(runtime, path, how.device)
        digest.update(path.read_bytes())
        output = _output(session, modality)
        tower_type = _Images if modality == "image" else _Texts
        towers[modality] = tower_type.of(folder, kind, session, output)
        width = {o.name: o.shape[-1] for o in session.get_outputs()}[output]
        dimension = width if isinstance(width, int) else dimension
    if dimension is None:
        dimension = int(towers["text"].run(["a"]).shape[1])
    card = Card(
        backend="onnx",
        model=str(model),
        revision=digest.hexdigest(),
        dimension=dimension,
        modalities=("image", "text"),
        logit_scale=_number(config, "logit_scale"),
        logit_bias=_number(config, "logit_bias"),
        sigmoid=kind in _SIGMOID,
        preprocessing={"image": dict(towers["image"].settings), "text": towers["text"].settings},
    )
    return Encoder(card, towers, batch=how.batch, workers=how.workers)


def _json(path: Path, *, needed: bool = True) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not needed:
            return {}
        raise ModelError(f"`{shown(path.parent)}` has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"`{shown(path)}` cannot be read ({one_line(error)})") from None
    if not isinstance(found, dict):
        raise ModelError(f"`{shown(path)}` holds no object")
    return found


def _number(config: Mapping[str, Any], key: str) -> float | None:
    """Return a number that an export may carry beside the model's own settings."""
    value = config.get(key)
    return float(value) if isinstance(value, int | float) else None


def _session(runtime: Any, path: Path, device: str) -> Any:
    at_hand = runtime.get_available_providers()
    providers = ["CPUExecutionProvider"]
    if device in ("auto", "cuda") and "CUDAExecutionProvider" in at_hand:
        providers.insert(0, "CUDAExecutionProvider")
    elif device not in ("auto", "cpu"):
        raise ArgumentError(f"`device` {device!r} is none of ONNX Runtime's here; take auto or cpu")
    try:
        return runtime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # the runtime has a class of its own for every way to fail
        raise ModelError(f"`{shown(path)}` cannot be loaded ({one_line(error)})") from None


def _output(session: Any, modality: str) -> str:
    names = [output.name for output in session.get_outputs()]
    for name in _OUTPUTS[modality]:
        if name in names:
            return name
    raise ModelError(
        f"the {modality} tower has no output {' or '.join(_OUTPUTS[modality])}; it has {', '.join(names)}"
    )


@dataclass(frozen=True, eq=False)
class _Images:
    session: Any
    output: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, kind: str, session: Any, output: str) -> _Images:
        del kind
        return cls(session, output, _json(folder / "preprocessor_config.json"))

    def prepare(self, item: Any) -> np.ndarray:
        return pixels_of(as_rgb(item), self.settings)

    def run(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        name = self.session.get_inputs()[0].name
        rows: np.ndarray = self.session.run([self.output], {name: np.stack(prepared)})[0]
        return rows


@dataclass(frozen=True, eq=False)
class _Texts:
    session: Any
    output: str
    tokenizer: Any
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, kind: str, session: Any, output: str) -> _Texts:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"`{shown(folder)}` has no tokenizer.json")
        library = require("tokenizers", "onnx")
        try:
            tokenizer = library.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exceptions
            raise ModelError(f"`{shown(path)}` cannot be read ({one_line(error)})") from None
        config = _json(folder / "tokenizer_config.json", needed=False)
        most = config.get("model_max_length")
        most = int(most) if isinstance(most, int | float) and most < 1e6 else 77
        fill = (_TO_LENGTH[kind] or most) if kind in _TO_LENGTH else None
        pad = config.get("pad_token") or "[PAD]"
        pad = str(pad["content"] if isinstance(pad, dict) else pad)
        number = tokenizer.token_to_id(pad)
        tokenizer.enable_truncation(fill or most)
        tokenizer.enable_padding(length=fill, pad_id=0 if number is None else number, pad_token=pad)
        return cls(
            session, output, tokenizer, {"max_length": fill or most, "padded": fill is not None}
        )

    def prepare(self, item: Any) -> str:
        return str(item)

    def run(self, prepared: Sequence[str]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(list(prepared))
        at_hand = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
        }
        names = [i.name for i in self.session.get_inputs()]
        feed = {name: at_hand[name] for name in names if name in at_hand}
        rows: np.ndarray = self.session.run([self.output], feed)[0]
        return rows


def pixels_of(image: Any, settings: Mapping[str, Any]) -> np.ndarray:
    """Return float32 pixels (3, h, w) of an RGB picture, as a preprocessor_config.json says.

    Resized by Pillow, cropped about the middle, scaled, and normalised.
    """
    if settings.get("do_resize", True):
        size = _target(settings.get("size", 224), image.size)
        image = image.resize(size, resample=int(settings.get("resample", 3)))
    values: np.ndarray = np.asarray(image, dtype=np.float32)
    if settings.get("do_center_crop", False):
        values = _cropped(values, *_box(settings.get("crop_size", 224)))
    if settings.get("do_rescale", True):
        values = values * np.float32(settings.get("rescale_factor", 1 / 255))
    if settings.get("do_normalize", True):
        mean = np.asarray(settings["image_mean"], dtype=np.float32)
        values = (values - mean) / np.asarray(settings["image_std"], dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)


def _target(size: Any, now: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height to resize to: the shorter edge to a number, or a box."""
    edge = size if isinstance(size, int) else size.get("shortest_edge")
    if edge is None:
        return int(size["width"]), int(size["height"])
    width, height = now
    if width <= height:
        return int(edge), int(edge * height / width)
    return int(edge * width / height), int(edge)


def _box(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return int(size["height"]), int(size["width"])


def _cropped(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the middle of a picture (h, w, 3), with black around one that is too small."""
    missing = max(0, height - values.shape[0]), max(0, width - values.shape[1])
    if any(missing):
        pads = [(-(-m // 2), m // 2) for m in missing]
        values = np.pad(values, [*pads, (0, 0)])
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return values[top : top + height, left : left + width]
