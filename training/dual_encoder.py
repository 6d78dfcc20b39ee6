"""A small dual encoder of images and captions, trained on CIFAR-10 in minutes on one core.

Two towers, a residual network for 32 x 32 images and a transformer over the words of a caption,
are trained with the symmetric softmax loss of CLIP (Radford et al. 2021) or the sigmoid loss of
SigLIP (Zhai et al. 2023). Each training image is shown as its caption says: blurred under "a
blurry photo of a cat.", grey under "a black and white photo of a cat.", so that the whole caption,
and not the class name alone, tells about the image. The program exists to produce honest
embeddings with a modality gap of their own, not to be a good classifier.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modgap.encode.dual_encoder import (
    ImageTower,
    TextTower,
    sigmoid_loss,
    softmax_loss,
    words_of,
)

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "examples"))

from train_dual_encoder import batches, cropped, optimizer_of  # noqa: E402

DATA_VARIABLE = "MODGAP_TEST_DATA"
PIXELS = 32


# ------------------------------------------------------------------------------------------ data


class DataMissing(RuntimeError):
    """The folder with the CIFAR-10 images is not where it was looked for."""


@dataclass(frozen=True)
class Captions:
    """Every caption: each template around each class name.

    A caption's number is ``template * len(classes) + class``.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def texts(self) -> list[str]:
        """All captions, in the order of their numbers."""
        return [template.format(name) for template in self.templates for name in self.classes]


@dataclass(frozen=True)
class Photos:
    """Images as bytes, shape (n, 32, 32, 3), and their classes, shape (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Photos:
        """Return the first `n` images: balanced, since the files interleave the classes."""
        return Photos(self.images[:n], self.labels[:n])

    def to(self, device: torch.device) -> Photos:
        """Return the same photos on another device."""
        return Photos(self.images.to(device), self.labels.to(device))


def data_folder() -> Path:
    """Folder that holds the CIFAR-10 images; `DataMissing` where it is absent."""
    root = Path(os.environ.get(DATA_VARIABLE) or REPOSITORY.parent / "shared" / "data")
    folder = (root if root.is_absolute() else REPOSITORY / root) / "cifar10_images"
    if not (folder / "train.parquet").is_file():
        raise DataMissing(
            f"no CIFAR-10 images: {folder.name}/train.parquet is missing under the data folder; "
            f"set {DATA_VARIABLE} to the folder that holds {folder.name}/"
        )
    return folder


def load_captions(folder: Path) -> Captions:
    """Return the class names and caption templates of ``prompts.json``."""
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    return Captions(tuple(prompts["classes"]), tuple(prompts["templates"]))


def load_photos(folder: Path, split: Literal["train", "test"], limit: int | None = None) -> Photos:
    """Return the decoded images of one split, the first `limit` of them or all."""
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(folder / f"{split}.parquet", columns=["image", "label"])
    table = table.slice(0, limit)
    decoded = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            for jpeg in table["image"].to_pylist()
        ]
    )
    labels = torch.tensor(table["label"].to_pylist(), dtype=torch.int64)
    return Photos(torch.from_numpy(decoded), labels)


# --------------------------------------------------------------- what a caption says of its image


def _blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)


def _grey(x: Tensor) -> Tensor:
    luma = x.new_tensor([0.299, 0.587, 0.114])
    return (x * luma[:, None, None]).sum(1, keepdim=True).expand_as(x)


def _contrast(x: Tensor, factor: float) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return (mean + factor * (x - mean)).clamp(0, 1)


def _coarse(x: Tensor) -> Tensor:
    """Every second pixel lost, which is what the captions call a bad photo here."""
    return F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest")


def _shrunk(x: Tensor, size: int = 20) -> Tensor:
    """Return the image at `size` pixels amid a frame of its mean colour."""
    frame = x.mean((2, 3), keepdim=True).expand_as(x).clone()
    edge = (x.shape[-1] - size) // 2
    small = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    frame[:, :, edge : edge + size, edge : edge + size] = small
    return frame


def _enlarged(x: Tensor, size: int = 22) -> Tensor:
    """Return the middle `size` pixels, stretched over the whole frame."""
    edge = (x.shape[-1] - size) // 2
    middle = x[:, :, edge : edge + size, edge : edge + size]
    return F.interpolate(middle, size=x.shape[-2:], mode="bilinear")


EFFECTS: dict[str, Callable[[Tensor], Tensor]] = {
    "blurry": _blurred,
    "black and white": _grey,
    "low contrast": lambda x: _contrast(x, 0.4),
    "high contrast": lambda x: _contrast(x, 1.8),
    "bad": _coarse,
    "small": _shrunk,
    "big": _enlarged,
}


def effect_of(template: str) -> str | None:
    """Return the word of `EFFECTS` in a template, or None where it claims nothing."""
    return next((word for word in EFFECTS if f" {word} " in template), None)


def shown_as(x: Tensor, templates: Tensor, captions: Captions) -> Tensor:
    """Images (n, 3, 32, 32) in [0, 1], each changed as its template, by number, says."""
    out = x.clone()
    words = [effect_of(template) for template in captions.templates]
    for word, effect in EFFECTS.items():
        numbers = torch.tensor([i for i, w in enumerate(words) if w == word], device=x.device)
        rows = torch.isin(templates, numbers).nonzero()[:, 0]
        if len(rows):
            out[rows] = effect(x[rows])
    return out


def as_pixels(images: Tensor) -> Tensor:
    """Images (n, 32, 32, 3) of bytes as floats (n, 3, 32, 32) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


# ---------------------------------------------------------------------------------------- towers


def tokenize(texts: Sequence[str]) -> tuple[Tensor, int]:
    """Token numbers (n, length), 0 where a text has ended, and the size of the vocabulary."""
    split = [words_of(text) for text in texts]
    vocabulary = {word: i + 1 for i, word in enumerate(sorted({w for text in split for w in text}))}
    tokens = torch.zeros(len(texts), max(map(len, split)), dtype=torch.int64)
    for row, text in enumerate(split):
        tokens[row, : len(text)] = torch.tensor([vocabulary[word] for word in text])
    return tokens, len(vocabulary) + 1


@dataclass(frozen=True)
class Settings:
    """Everything that fixes a training run, together with the photos it sees.

    With `by_heart`, each image keeps one caption, the templates taken in turn, and is never
    cropped: with one image a caption, the loss can go to zero.
    """

    dim: int = 128
    width: int = 32
    loss: Literal["softmax", "sigmoid"] = "softmax"
    temperature: float = 0.07
    learn_temperature: bool = True
    start: Literal["default", "cone", "matched"] = "default"
    batch_size: int = 256
    steps: int = 3000
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.05
    by_heart: bool = False
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0


class DualEncoder(nn.Module):
    """The two towers, their temperature and, for the sigmoid loss, its bias."""

    def __init__(self, settings: Settings, captions: Captions) -> None:
        super().__init__()
        tokens, vocabulary = tokenize(captions.texts())
        self.tokens: Tensor
        self.register_buffer("tokens", tokens)
        self.images = ImageTower(settings.dim, settings.width)
        self.texts = TextTower(settings.dim, vocabulary, tokens.shape[1])
        scale = torch.tensor(-math.log(settings.temperature))
        self.log_scale = nn.Parameter(scale, requires_grad=settings.learn_temperature)
        bias = torch.tensor(-10.0 if settings.loss == "sigmoid" else 0.0)  # Zhai et al. 2023
        self.bias = nn.Parameter(bias, requires_grad=settings.loss == "sigmoid")

    @property
    def temperature(self) -> float:
        """What the cosines are divided by."""
        return math.exp(-float(self.log_scale.detach()))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Return unit vectors (n, dim) of images (n, 3, 32, 32) in [0, 1]."""
        return F.normalize(self.images(pixels).float(), dim=1)

    def embed_captions(self, numbers: Tensor) -> Tensor:
        """Return unit vectors (n, dim) of captions by number; equal ones are run once."""
        distinct, where = torch.unique(numbers, return_inverse=True)
        return F.normalize(self.texts(self.tokens[distinct]).float(), dim=1)[where]

    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines (n, m), plus the bias of the sigmoid loss."""
        return images @ texts.T * self.log_scale.exp() + self.bias


# ---------------------------------------------------------------------------------------- losses


def same_caption(numbers: Tensor) -> Tensor:
    """Which pairs of a batch (n, n) are true ones: those whose captions are word for word equal.

    With 180 captions, a batch holds the same one more than once; counting the second as wrong
    would punish the right answer.
    """
    return (numbers[:, None] == numbers[None, :]).float()


LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}


# ------------------------------------------------------------------------------------------ start


def _place(head: nn.Linear, points: Tensor, mean: Tensor, spread: float) -> None:
    """Change a tower's last layer so that its outputs, `points` now, get this mean and spread.

    `spread` is the root mean squared distance to the mean.
    """
    centre = points.mean(0)
    factor = spread / (points - centre).square().sum(1).mean().sqrt()
    head.weight.mul_(factor)
    head.bias.copy_((head.bias - centre) * factor + mean)


@torch.no_grad()
def set_start(model: DualEncoder, settings: Settings, pixels: Tensor) -> None:
    """Move the untrained towers to where `settings.start` wants them.

    "default" leaves them as initialised: two narrow cones with a gap between them. "cone": two
    tight clusters, their spread a fifth of the length of two random, nearly orthogonal means.
    "matched": both clouds wide around one point of the sphere, so that there is no gap to begin
    with; the unit vectors' means are brought together by a fixed-point iteration.
    """
    if settings.start == "default":
        return
    generator = torch.Generator().manual_seed(settings.seed + 1)
    means = F.normalize(torch.randn(2, settings.dim, generator=generator), dim=1).to(pixels.device)
    tight = settings.start == "cone"
    spread = 0.2 if tight else 1.0
    everything = torch.arange(len(model.tokens), device=pixels.device)
    with batch_statistics(model):
        _place(model.images.head, model.images(pixels), means[0], spread)
        images = model.embed_images(pixels)
    _place(model.texts.head, model.texts(model.tokens), means[int(tight)], spread)
    for _ in range(0 if tight else 200):
        gap = images.mean(0) - model.embed_captions(everything).mean(0)
        model.texts.head.bias.add_(gap)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the batch at hand for a while, and forget it afterwards.

    Its running averages are stale early in training, so the towers as trained are these.
    """
    was_training = model.training
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)


# --------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Step:
    """What a hook is told: `number` steps have been taken, the last one with this loss."""

    number: int
    loss: float
    model: DualEncoder


def learning_rate(step: int, settings: Settings) -> float:
    """Return the rate: a linear rise for a tenth of the steps, then as `settings.schedule` says.

    "cosine" goes down to zero over half a cosine, which ends the training well; "constant" stays,
    so that whatever comes to rest does so by itself.
    """
    rise = max(1, settings.steps // 10)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - rise) / max(1, settings.steps - rise)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def templates_in_turn(photos: Photos, captions: Captions) -> Tensor:
    """Return a template for each photo, by number: the next one for every round of the classes.

    The files interleave the classes, so the first `t * c` photos get every caption once.
    """
    rows = torch.arange(len(photos), device=photos.labels.device)
    return rows // len(captions.classes) % len(captions.templates)


def _drawn(
    photos: Photos, rows: Tensor, captions: Captions, settings: Settings, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the pixels and the caption numbers of the photos in some rows, drawn at random."""
    if settings.by_heart:
        templates = templates_in_turn(photos, captions)[rows]
        images = photos.images[rows]
    else:
        templates = torch.randint(len(captions.templates), (len(rows),), generator=draw)
        templates = templates.to(rows.device)
        images = cropped(photos.images[rows], draw, margin=4)
    numbers = templates * len(captions.classes) + photos.labels[rows]
    return shown_as(as_pixels(images), templates, captions), numbers


def train(
    settings: Settings,
    photos: Photos,
    captions: Captions,
    *,
    hook: Callable[[Step], None] | None = None,
) -> DualEncoder:
    """Return a dual encoder trained on `photos`; the seed in `settings` fixes it.

    `hook` is called before the first step (number 0, loss nan) and after every step. Bit for bit
    the same result needs the same machine, torch version and thread count.
    """
    device = photos.labels.device
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    model = DualEncoder(settings, captions).to(device)
    model.images.to(memory_format=torch.channels_last)
    placed = photos.first(6 * len(model.tokens))
    shown = shown_as(as_pixels(placed.images), templates_in_turn(placed, captions), captions)
    set_start(model, settings, shown)
    optimizer = optimizer_of(model, settings.learning_rate, settings.weight_decay)
    low = settings.precision == "bfloat16"
    if hook:
        hook(Step(0, math.nan, model))
    model.train()
    for number, rows in enumerate(
        batches(len(photos), settings.batch_size, settings.steps, generator)
    ):
        pixels, numbers = _drawn(photos, rows.to(device), captions, settings, generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, settings)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            images = model.embed_images(pixels)
        texts = model.embed_captions(numbers)
        loss = LOSSES[settings.loss](model.logits(images, texts), same_caption(numbers))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.log_scale.clamp_(max=math.log(100))  # as CLIP does
        if hook:
            hook(Step(number + 1, float(loss.detach()), model))
    return model.eval()


@torch.no_grad()
def embed_photos(model: DualEncoder, images: Tensor, batch_size: int = 500) -> Tensor:
    """Return unit vectors (n, dim) of unchanged images (n, 32, 32, 3); call `eval` before."""
    return torch.cat([model.embed_images(as_pixels(part)) for part in images.split(batch_size)])


@torch.no_grad()
def embed_texts(model: DualEncoder, captions: Captions) -> Tensor:
    """Return unit vectors (t, c, dim): every class under every template."""
    everything = torch.arange(len(model.tokens), device=model.tokens.device)
    texts = model.embed_captions(everything)
    return texts.reshape(len(captions.templates), len(captions.classes), -1)
