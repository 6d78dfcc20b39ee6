"""A compact dual encoder: a residual network over small pictures, a transformer over words.

The architecture that `examples/train_dual_encoder.py` trains in minutes on one core. A checkpoint is a
folder: weights as safetensors, and `dual_encoder.json` with the settings and the vocabulary. Needs the
extra `torch`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modgap._core.extras import require
from modgap.errors import ModelError
from modgap.io._guard import one_line, shown
from modgap.io.atomic import atomic_path
from modgap.io.manifest import make_folder

torch: Any = require("torch", "torch")

__all__ = [
    "MARK",
    "DualEncoder",
    "Shape",
    "sigmoid_loss",
    "softmax_loss",
    "vocabulary_of",
    "words_of",
]

#: The file that tells such a checkpoint.
MARK = "dual_encoder.json"
_WEIGHTS = "dual_encoder.safetensors"
_VERSION = 1


@dataclass(frozen=True)
class Shape:
    """What fixes the network, apart from its weights.

    Attributes
    ----------
    words : tuple of str
        The vocabulary; a word's number is its position plus 2. 0 is the end, 1 any other word.
    dim : int
        Width of the embeddings.
    pixels : int
        Side of the pictures, a multiple of 16.
    width : int
        Channels of the image tower's first layer.
    length : int
        Most words of a text; the rest is cut off.
    sigmoid : bool
        Whether the loss is a sigmoid of every pair, which has a bias.
    """

    words: tuple[str, ...]
    dim: int = 128
    pixels: int = 32
    width: int = 32
    length: int = 32
    sigmoid: bool = False


def words_of(text: str) -> list[str]:
    """Return the lower-case words of a text, its full stops words of their own."""
    return text.lower().replace(".", " .").replace(",", " ,").split()


def vocabulary_of(texts: Sequence[str], *, most: int = 20_000) -> tuple[str, ...]:
    """Return the most frequent words of texts, sorted."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in words_of(text):
            counts[word] = counts.get(word, 0) + 1
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:most]
    return tuple(sorted(frequent))


def _convolution(inputs: int, outputs: int) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class _Residual(torch.nn.Module):  # type: ignore[misc]
    """A convolution, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _convolution(width, width)

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


class ImageTower(torch.nn.Module):  # type: ignore[misc]
    """Pictures (n, 3, p, p) in [0, 1] to points (n, dim), not of unit length."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        nn = torch.nn
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),  # 2 x 2 pixels become channels: a quarter of the work
            _convolution(12, width),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            _convolution(2 * width, 4 * width),
            _Residual(4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 8 * width),
            _Residual(8 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, dim)

    def forward(self, pixels: Any) -> Any:
        """Return points (n, dim)."""
        return self.head(self.body((pixels - 0.47) / 0.25))


class TextTower(torch.nn.Module):  # type: ignore[misc]
    """Word numbers (n, length) to points (n, dim), not of unit length."""

    def __init__(self, dim: int, vocabulary: int, length: int, width: int = 64) -> None:
        super().__init__()
        nn = torch.nn
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, dim)

    def forward(self, tokens: Any) -> Any:
        """Return points (n, dim): the mean over the words, empty texts apart."""
        ended = tokens == 0
        places = self.places[: tokens.shape[1]]
        x = self.body(self.words(tokens) + places, src_key_padding_mask=ended)
        kept = (~ended)[:, :, None].to(x.dtype)
        return self.head(self.norm((x * kept).sum(1) / kept.sum(1).clamp(min=1)))


class DualEncoder(torch.nn.Module):  # type: ignore[misc]
    """Two towers with a learned temperature and, for the sigmoid loss, a bias.

    Parameters
    ----------
    shape : Shape
    temperature : float
        At the start; it is learned.
    """

    def __init__(self, shape: Shape, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.shape = shape
        self.images = ImageTower(shape.dim, shape.width)
        self.texts = TextTower(shape.dim, len(shape.words) + 2, shape.length)
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(temperature)))
        # Zhai et al. (2023) start where every pair is taken for a wrong one.
        self.bias = torch.nn.Parameter(torch.tensor(-10.0 if shape.sigmoid else 0.0))
        self.bias.requires_grad_(shape.sigmoid)
        self._numbers = {word: i + 2 for i, word in enumerate(shape.words)}

    def tokens(self, texts: Sequence[str]) -> Any:
        """Return word numbers (n, length), 0 where a text has ended."""
        split = [words_of(text)[: self.shape.length] or ["."] for text in texts]
        out = torch.zeros(len(split), max(map(len, split)), dtype=torch.int64)
        for row, words in enumerate(split):
            out[row, : len(words)] = torch.tensor([self._numbers.get(word, 1) for word in words])
        return out.to(self.log_scale.device)

    def embed_images(self, pixels: Any) -> Any:
        """Return unit rows (n, dim) of pictures (n, 3, p, p) in [0, 1]."""
        return torch.nn.functional.normalize(self.images(pixels).float(), dim=1)

    def embed_texts(self, tokens: Any) -> Any:
        """Return unit rows (n, dim) of word numbers (n, length)."""
        return torch.nn.functional.normalize(self.texts(tokens).float(), dim=1)

    def logits(self, images: Any, texts: Any) -> Any:
        """Return scaled cosines (n, m), plus the bias of the sigmoid loss."""
        return images @ texts.T * self.log_scale.exp() + self.bias

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint into a folder, made if need be: weights first, then the mark."""
        save_file = require("safetensors.torch", "torch").save_file
        target = Path(folder)
        make_folder(target)
        with atomic_path(target / _WEIGHTS) as temporary:
            save_file({k: v.contiguous().cpu() for k, v in self.state_dict().items()}, temporary)
        document = {"modgap_dual_encoder": _VERSION, **asdict(self.shape)}
        with atomic_path(target / MARK) as temporary:
            temporary.write_text(json.dumps(document), encoding="utf-8")
        return target

    @classmethod
    def load(cls, folder: str | Path) -> DualEncoder:
        """Read a checkpoint.

        Raises
        ------
        ModelError
            There is none, or it is damaged.
        """
        source = Path(folder)
        load_file = require("safetensors.torch", "torch").load_file
        try:
            found = json.loads((source / MARK).read_text(encoding="utf-8"))
            if found.pop("modgap_dual_encoder") != _VERSION:
                raise ValueError("another version")
            model = cls(Shape(**{**found, "words": tuple(found["words"])}))
            model.load_state_dict(load_file(source / _WEIGHTS))
        except Exception as error:  # JSON, safetensors and PyTorch have errors of their own
            raise ModelError(
                f"`{shown(source)}` holds no checkpoint of a dual encoder ({one_line(error)})"
            ) from None
        model.eval()
        return model


def softmax_loss(logits: Any, same: Any) -> Any:
    """Return CLIP's symmetric cross entropy (Radford et al., 2021) of logits (n, n).

    `same` (n, n) holds 1 where a pair is a true one; a row's target is spread evenly over its true pairs.
    """
    rows, columns = same / same.sum(1, keepdim=True), same / same.sum(0, keepdim=True)
    along_rows = -(rows * logits.log_softmax(1)).sum(1).mean()
    along_columns = -(columns * logits.log_softmax(0)).sum(0).mean()
    return (along_rows + along_columns) / 2


def sigmoid_loss(logits: Any, same: Any) -> Any:
    """Return SigLIP's loss (Zhai et al., 2023): every pair a question of its own, summed over a row."""
    return -torch.nn.functional.logsigmoid(logits * (2 * same - 1)).sum(1).mean()
