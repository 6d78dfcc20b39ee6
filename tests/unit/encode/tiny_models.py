"""Tiny models with random weights, each saved as its own library saves it."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = [
    "a", "photo", "of", "the", "cat", "dog", "small", "red", "blurry", "and", "bird", ".", ",", "ship",
    "frog", "##s", "truck",
]  # fmt: skip
PIXELS = 30
_KEPT: list[Any] = []


def mend_torchvision() -> None:
    """Name torchvision's operators where its build has other ones than PyTorch's own build here.

    The transforms that open_clip and transformers take from it are Python; only importing it fails.
    """
    if importlib.util.find_spec("torchvision") is None or _KEPT:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        spec = importlib.util.find_spec("torchvision")
        assert spec is not None
        assert spec.submodule_search_locations
        source = Path(spec.submodule_search_locations[0]) / "_meta_registrations.py"
        found = re.findall(
            r'register_meta\("(\w+)"|register_fake\("torchvision::(\w+)"', source.read_text()
        )
        library = torch.library.Library("torchvision", "DEF")
        for names in found:
            library.define(f"{names[0] or names[1]}(Tensor x) -> Tensor")
        _KEPT.append(library)


def seed() -> None:
    torch.manual_seed(0)


def tokenizer(length: int, kind: str = "words") -> Any:
    """A tokenizer of words, of BERT's kind, or of RoBERTa's, made from files as a model's folder has them.

    Of words: the end is the last token, as CLIP's pooling expects.
    """
    import transformers as t

    if kind == "words":
        return t.PreTrainedTokenizerFast(
            tokenizer_object=_words(),
            pad_token="[PAD]",
            unk_token="[UNK]",
            bos_token="[BOS]",
            eos_token="[EOS]",
            model_max_length=length,
            model_input_names=["input_ids", "attention_mask"],
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "bert":
            special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]))
            found = t.BertTokenizerFast.from_pretrained(folder, model_max_length=length)
        else:
            special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
            letters = [chr(i) for i in range(33, 127)] + ["\u0120"]  # a space, in byte-level words
            vocab = {word: i for i, word in enumerate([*special, *letters])}
            (folder / "vocab.json").write_text(json.dumps(vocab))
            (folder / "merges.txt").write_text("#version: 0.2\n")
            found = t.RobertaTokenizerFast.from_pretrained(folder, model_max_length=length)
        return found


def _words() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[BOS]", *WORDS, "[EOS]"])}
    found = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]",
        special_tokens=[("[BOS]", vocab["[BOS]"]), ("[EOS]", vocab["[EOS]"])],
    )
    return found


def _text(vocab: int, length: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": length, "pad_token_id": 0, **more,
    }  # fmt: skip


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": PIXELS, "patch_size": 10, **more,
    }  # fmt: skip


def _parts(kind: str) -> tuple[Any, Any]:
    """Return a model and its processor, of one type of transformers."""
    import transformers as t

    vocab = len(WORDS) + 5
    size = {"height": PIXELS, "width": PIXELS}
    if kind == "clip":
        end = {"eos_token_id": len(WORDS) + 3, "bos_token_id": 2}
        config = t.CLIPConfig(
            text_config=_text(vocab, 12, projection_dim=8, **end),
            vision_config=_vision(projection_dim=8),
            projection_dim=8,
        )
        pixels = t.CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=size)
        return t.CLIPModel(config), t.CLIPProcessor(pixels, tokenizer(12))
    if kind == "siglip":
        config = t.SiglipConfig(text_config=_text(vocab, 12), vision_config=_vision())
        pixels = t.SiglipImageProcessor(size=size)
        return t.SiglipModel(config), t.SiglipProcessor(pixels, tokenizer(12))
    if kind == "siglip2":
        config = t.Siglip2Config(
            text_config=_text(vocab, 64),
            vision_config={
                k: v
                for k, v in _vision(num_patches=256, patch_size=16).items()
                if k != "image_size"
            },
        )
        pixels = t.Siglip2ImageProcessor(patch_size=16, max_num_patches=256)
        return t.Siglip2Model(config), t.Siglip2Processor(pixels, tokenizer(64))
    if kind == "chinese_clip":
        config = t.ChineseCLIPConfig(
            text_config=_text(vocab, 12), vision_config=_vision(projection_dim=8), projection_dim=8
        )
        pixels = t.ChineseCLIPImageProcessor(size=size, crop_size=size)
        return t.ChineseCLIPModel(config), t.ChineseCLIPProcessor(pixels, tokenizer(12, "bert"))
    if kind == "align":
        config = t.AlignConfig(
            text_config=_text(vocab, 64),
            vision_config={
                "image_size": 32, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 16,
                "depth_divisor": 8, "kernel_sizes": [3], "in_channels": [32], "out_channels": [16],
                "strides": [1], "num_block_repeats": [1], "expand_ratios": [1], "depthwise_padding": [],
            },
            projection_dim=16,
        )  # fmt: skip
        pixels = t.EfficientNetImageProcessor(size=size)
        return t.AlignModel(config), t.AlignProcessor(pixels, tokenizer(64, "bert"))
    assert kind == "clap", kind
    config = t.ClapConfig(
        text_config={**_text(110, 40, pad_token_id=1), "type_vocab_size": 1},
        audio_config={
            "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_hidden_layers": 2,
            "num_attention_heads": [2, 2], "spec_size": 64, "num_mel_bins": 16, "window_size": 4,
            "patch_size": 4, "patch_stride": [4, 4], "projection_hidden_size": 16,
        },
        projection_dim=8, hidden_size=16,
    )  # fmt: skip
    extractor = t.ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, hop_length=80, max_length_s=1, fft_window_size=256,
        frequency_min=50, frequency_max=4000, truncation="rand_trunc",
    )  # fmt: skip
    return t.ClapModel(config), t.ClapProcessor(extractor, tokenizer(38, "roberta"))


def save_transformers(kind: str, folder: Path) -> Path:
    """Save a tiny model of one type of transformers."""
    seed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, processor = _parts(kind)
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def save_openclip(folder: Path) -> Path:
    """Save a tiny model of open_clip: its config, and weights as safetensors."""
    import open_clip
    from safetensors.torch import save_file

    seed()
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": PIXELS, "layers": 1, "width": 16, "patch_size": 10, "head_width": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }  # fmt: skip
    model = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "model_cfg": config,
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def pictures(count: int = 5) -> list[Any]:
    """Pictures of several shapes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    shapes = [(40, 30), (30, 30), (64, 37), (31, 80), (24, 20)]
    return [
        Image.fromarray(rng.integers(0, 256, (*shapes[i % 5], 3), dtype=np.uint8))
        for i in range(count)
    ]


TEXTS = [
    "a photo of a cat .",
    "the small red bird",
    "dog",
    "a blurry photo of the ship and the truck",
]
