"""Two towers of a few numbers in ONNX, for tests that need an encoder and no library of models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "a", "photo", "of", "cat", "dog", "red", "blue", "picture", "."]
D = 6


def _save(path: Path, nodes: list, weights: dict, inputs: list, output: str) -> None:
    graph = helper.make_graph(
        nodes, "tower", inputs,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", D])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def save_onnx(folder: Path) -> Path:
    """Save towers: pixels times a matrix, and the sum of word vectors, of which padding has none."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(WORDS), D)).astype(np.float32)
    vectors[0] = 0.0
    folder.mkdir(parents=True, exist_ok=True)
    _save(
        folder / "vision_model.onnx",
        [
            helper.make_node("Flatten", ["pixel_values"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "w"], ["image_embeds"]),
        ],
        {"w": rng.normal(size=(3 * 8 * 8, D)).astype(np.float32)},
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 8, 8])],
        "image_embeds",
    )
    _save(
        folder / "text_model.onnx",
        [
            helper.make_node("Gather", ["v", "input_ids"], ["vectors"], axis=0),
            helper.make_node("ReduceSum", ["vectors", "axes"], ["text_embeds"], keepdims=0),
        ],
        {
            "v": vectors,
            "axes": np.array([1], dtype=np.int64),
        },
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "length"])],
        "text_embeds",
    )
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "do_resize": True, "size": {"height": 8, "width": 8}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "logit_scale": 20.0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8}))
    return folder
