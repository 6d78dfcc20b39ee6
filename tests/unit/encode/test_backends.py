"""Every backend against its own library, on tiny models saved by it: equal to 1e-5."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import (  # noqa: E402
    TEXTS,
    mend_torchvision,
    pictures,
    save_openclip,
    save_transformers,
)

from modgap import encode  # noqa: E402
from modgap.encode._torch import to_rows  # noqa: E402
from modgap.errors import ArgumentError, DataError, ModelError  # noqa: E402

mend_torchvision()
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own remarks


def unit(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "model"
            made[kind] = (
                save_openclip if kind == "openclip" else lambda f: save_transformers(kind, f)
            )(folder)
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "chinese_clip", "align"])
def test_transformers_gives_what_the_whole_model_gives(kind: str, folders: Any) -> None:
    import transformers

    folder = folders(kind)
    encoder = encode.load(str(folder), batch=2)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    length = {"siglip": 12, "siglip2": 64, "align": 64}.get(kind)
    padding = {"padding": "max_length", "max_length": length} if length else {"padding": True}
    with torch.no_grad():
        whole = model(
            **processor(
                text=TEXTS, images=pictures(), return_tensors="pt", truncation=True, **padding
            )
        )
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), unit(whole.text_embeds), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_images(pictures()), unit(whole.image_embeds), atol=1e-5
    )
    # The scores of the model's own head, from the card's scale and bias.
    logits = (
        encoder.card.logit_scale * encoder.encode_texts(TEXTS) @ encoder.encode_images(pictures()).T
    ) + (encoder.card.logit_bias or 0.0)
    if kind != "align":  # whose head of this width compares lengths too
        np.testing.assert_allclose(logits, whole.logits_per_text.numpy(), rtol=1e-4, atol=1e-4)
    assert encoder.card.sigmoid == kind.startswith("siglip")


def test_clap_gives_what_the_whole_model_gives(folders: Any) -> None:
    import transformers

    folder = folders("clap")
    encoder = encode.load(f"hf:{folder}")
    clips = [np.sin(np.arange(8000) * f).astype(np.float32) for f in (0.01, 0.05, 0.3)]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        sound = processor.feature_extractor(clips, sampling_rate=8000, return_tensors="pt")
        ours = to_rows(model.get_audio_features(**sound))
    np.testing.assert_allclose(encoder.encode_audio(clips), unit(ours), atol=1e-5)
    assert encoder.card.modalities == ("audio", "text")
    with pytest.raises(ArgumentError, match="encodes audio and text, not image"):
        encoder.encode_images(pictures(1))


def test_a_wav_file_is_its_samples(folders: Any) -> None:
    encoder = encode.load(str(folders("clap")))
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    out = io.BytesIO()
    with wave.open(out, "wb") as clip:
        clip.setnchannels(2)
        clip.setsampwidth(2)
        clip.setframerate(8000)
        clip.writeframes(np.repeat(np.round(samples * 2**15).astype("<i2"), 2).tobytes())
    both = encoder.encode_audio([samples, out.getvalue()])
    np.testing.assert_allclose(both[0], both[1], atol=1e-3)  # 16 bits a sample
    with pytest.raises(DataError, match="audio 0 cannot be read: no WAV file"):
        encoder.encode_audio([b"no sound"])


def test_open_clip_gives_what_its_own_calls_give(folders: Any) -> None:
    open_clip = pytest.importorskip("open_clip")
    folder = folders("openclip")
    encoder = encode.load(str(folder))
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.no_grad():
        texts = model.encode_text(tokens)
        images = model.encode_image(torch.stack([transform(image) for image in pictures()]))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), unit(texts), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(pictures()), unit(images), atol=1e-5)
    assert encoder.card.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    assert encoder.card.backend == "openclip"


def test_open_clip_takes_an_architecture_with_a_file_of_weights(
    folders: Any, tmp_path: Path
) -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(ModelError, match="needs a pretrained tag, as in ViT-B-32/"):
        encode.load("openclip:ViT-B-32")
    with pytest.raises(ModelError, match="cannot load `ViT-B-32/nobody`"):
        encode.load("openclip:ViT-B-32/nobody", offline=True)


def test_sentence_transformers_gives_what_it_gives(folders: Any, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    modules = importlib.import_module("sentence_transformers.models")
    clip = modules.CLIPModel(str(folders("clip")))
    model = library.SentenceTransformer(modules=[clip], device="cpu")
    model.save(str(tmp_path / "st"))
    encoder = encode.load(str(tmp_path / "st"))
    assert encoder.card.backend == "st"
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), unit(model.encode(TEXTS)), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_images(pictures()), unit(model.encode(pictures())), atol=1e-5
    )


@pytest.fixture(scope="module")
def towers(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers of the tiny CLIP, exported in the layout of such exports."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import transformers

    folder = tmp_path_factory.mktemp("onnx") / "model"
    shutil.copytree(folders("clip"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "onnx").mkdir()
    model = transformers.AutoModel.from_pretrained(
        folders("clip"), attn_implementation="eager"
    ).eval()
    if not (folder / "preprocessor_config.json").is_file():  # transformers 5 keeps it with the rest
        settings = json.loads((folder / "processor_config.json").read_text())["image_processor"]
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Any:
            return self.model.visual_projection(self.model.vision_model(pixel_values).pooler_output)

    class Text(Vision):
        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            out = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask)
            return self.model.text_projection(out.pooler_output)

    tokens = torch.ones(2, 5, dtype=torch.int64)
    for module, args, name, inputs, output, axes in (
        (
            Vision(),
            (torch.zeros(2, 3, 30, 30),),
            "vision_model",
            ["pixel_values"],
            "image_embeds",
            [0],
        ),
        (
            Text(),
            (tokens, tokens),
            "text_model",
            ["input_ids", "attention_mask"],
            "text_embeds",
            [0, 1],
        ),
    ):
        torch.onnx.export(
            module, args, str(folder / "onnx" / f"{name}.onnx"), dynamo=False, input_names=inputs,
            output_names=[output],
            dynamic_axes={i: {a: f"axis{a}" for a in axes} for i in inputs} | {output: {0: "axis0"}},
        )  # fmt: skip
    return folder


def test_onnx_towers_give_what_the_model_gives(towers: Path, folders: Any) -> None:
    import transformers

    encoder = encode.load(str(towers))
    assert encoder.card.backend == "onnx"
    model = transformers.AutoModel.from_pretrained(folders("clip")).eval()
    processor = transformers.CLIPProcessor.from_pretrained(folders("clip"), use_fast=False)
    with torch.no_grad():
        whole = model(**processor(text=TEXTS, images=pictures(), return_tensors="pt", padding=True))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), unit(whole.text_embeds), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_images(pictures()), unit(whole.image_embeds), atol=1e-4
    )


def test_names_of_models() -> None:
    assert encode.loading.parse("hf:openai/clip") == ("hf", "openai/clip")
    assert encode.loading.parse("openai/clip") == ("hf", "openai/clip")
    assert encode.loading.parse("openclip:ViT-B-32/openai") == ("openclip", "ViT-B-32/openai")
    assert encode.loading.parse("hf-hub:org/name") == ("openclip", "hf-hub:org/name")
    for wrong in ("nobody:model", "", "hf:"):
        with pytest.raises(ArgumentError):
            encode.loading.parse(wrong)


def test_what_is_no_model_is_one_line(tmp_path: Path, folders: Any) -> None:
    with pytest.raises(ModelError, match="holds no model that modgap knows"):
        encode.load(str(tmp_path))
    with pytest.raises(ModelError, match="not at hand and no hub may be asked"):
        encode.load("nobody/no-such-model", offline=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="'bert', which has no two encoders"):
        encode.load(str(tmp_path))
    with pytest.raises(ArgumentError, match="`device` 'toaster' cannot be used here"):
        encode.load(str(folders("clip")), device="toaster")
    broken = tmp_path / "broken"
    shutil.copytree(folders("clip"), broken)
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot load") as caught:
        encode.load(str(broken))
    assert "\n" not in str(caught.value)


def test_the_card_names_what_embeddings_depend_on(folders: Any, tmp_path: Path) -> None:
    first = encode.load(str(folders("clip"))).card
    again = encode.load(str(folders("clip"))).card
    half = encode.load(str(folders("clip")), dtype="bfloat16").card
    assert first.fingerprint == again.fingerprint != half.fingerprint
    other = tmp_path / "other"
    shutil.copytree(folders("clip"), other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert encode.load(str(other)).card.revision != first.revision
    json.dumps(first.to_dict(), allow_nan=False)
