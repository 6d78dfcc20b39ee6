"""The compact dual encoder: its checkpoint comes back, and encodes as the network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
PIL = pytest.importorskip("PIL.Image")

from modgap import encode  # noqa: E402
from modgap.encode.dual_encoder import (  # noqa: E402
    DualEncoder,
    Shape,
    sigmoid_loss,
    softmax_loss,
    vocabulary_of,
)
from modgap.errors import ModelError  # noqa: E402

TEXTS = ["a photo of a cat.", "a red dog", "a CAT.", "something, unseen"]


def network(*, sigmoid: bool = False) -> DualEncoder:
    torch.manual_seed(0)
    words = vocabulary_of(TEXTS[:3])
    assert words == (".", "a", "cat", "dog", "of", "photo", "red")
    return DualEncoder(Shape(words, dim=8, width=4, length=6, sigmoid=sigmoid)).eval()


def test_a_checkpoint_encodes_as_the_network_does(tmp_path: Path) -> None:
    model = network(sigmoid=True)
    encoder = encode.load(str(model.save(tmp_path / "model")), batch=2)
    assert encoder.card.backend == "dual"
    assert (encoder.card.sigmoid, encoder.card.logit_bias) == (True, -10.0)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        images = model.embed_images(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
        texts = model.embed_texts(model.tokens(TEXTS)).numpy()
    np.testing.assert_allclose(encoder.encode_images(pixels), images, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-6)
    large = PIL.fromarray(np.repeat(np.repeat(pixels[0], 3, 0), 3, 1))
    assert float(encoder.encode_images([large])[0] @ images[0]) > 0.9  # scaled down to its pixels


def test_a_text_does_not_depend_on_its_neighbours() -> None:
    model = network()
    with torch.inference_mode():
        together = model.embed_texts(model.tokens(TEXTS))
        alone = torch.cat([model.embed_texts(model.tokens([text])) for text in TEXTS])
        empty = model.embed_texts(model.tokens(["", "a " * 50]))
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert torch.isfinite(empty).all()


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    folder = network().save(tmp_path / "model")
    (folder / "dual_encoder.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="holds no checkpoint of a dual encoder"):
        encode.load(f"dual:{folder}")
    with pytest.raises(ModelError, match="holds no checkpoint"):
        encode.load(f"dual:{tmp_path / 'absent'}")


def test_the_losses_of_published_models() -> None:
    """Against their definitions, pair by pair; two texts of four are equal."""
    torch.manual_seed(0)
    logits = torch.randn(4, 4, dtype=torch.float64)
    same = torch.eye(4, dtype=torch.float64)
    direct = torch.nn.functional.cross_entropy
    expected = (direct(logits, torch.arange(4)) + direct(logits.T, torch.arange(4))) / 2
    torch.testing.assert_close(softmax_loss(logits, same), expected)
    same[0, 1] = same[1, 0] = 1
    both = logits.log_softmax(1) + logits.log_softmax(0)
    expected = -(both[:2, :2].sum() / 2 + both[2, 2] + both[3, 3]) / 8
    torch.testing.assert_close(softmax_loss(logits, same), expected)
    answers = torch.nn.functional.binary_cross_entropy_with_logits(logits, same, reduction="sum")
    torch.testing.assert_close(sigmoid_loss(logits, same), answers / 4)
