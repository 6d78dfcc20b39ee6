"""Train a compact dual encoder on image-text Parquet, if wanted without a modality gap.

    python examples/train_dual_encoder.py --data train.parquet --prompts prompts.json --out model
    modgap embed --model dual:model --images test.parquet --out embeddings

Columns: `image` (bytes of files, or structs that hold them as `bytes`), and captions (`text`, `caption`
or `captions`: strings or lists of them) or a `label`, whose classes and caption templates `--prompts`
names in JSON. Without `--data` it paints a hundred squares and learns their colours, to show that it runs.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from modgap.encode.dual_encoder import DualEncoder, Shape, sigmoid_loss, softmax_loss, vocabulary_of
from modgap.nn import bits_lost


@dataclass(frozen=True)
class Settings:
    """All that fixes a training, together with its pairs."""

    loss: str = "softmax"  # CLIP's, or SigLIP's "sigmoid"
    balance: float = 0.0  # weight of the bits that the gap costs; 0 is plain training
    steps: int = 3000
    batch: int = 256
    rate: float = 2e-3  # of learning, at its highest
    decay: float = 0.05  # of matrices and kernels; biases, norms and the temperature are left alone
    temperature: float = 0.07  # at the start
    dim: int = 128
    width: int = 32
    pixels: int = 32
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"  # of the products; "bfloat16" where the device is fast at it


@dataclass(frozen=True)
class Pairs:
    """Pictures of one size, and the texts that each may be shown with."""

    pixels: Tensor  # (n, p, p, 3), bytes
    texts: list[list[str]]


#: Changes pixels (n, 3, p, p) in [0, 1] as the texts (n) beside them say.
View = Callable[[Tensor, list[str]], Tensor]


def read_pairs(path: str, prompts: str | None, pixels: int) -> Pairs:
    """Return the pairs of a Parquet file, its pictures decoded and scaled once."""
    table = pq.read_table(path)
    column = next((c for c in ("text", "caption", "captions") if c in table.column_names), None)
    if column is not None:
        texts = [t if isinstance(t, list) else [t] for t in table[column].to_pylist()]
    elif prompts is not None and "label" in table.column_names:
        known = json.loads(Path(prompts).read_text(encoding="utf-8"))
        of_class = [[t.format(name) for t in known["templates"]] for name in known["classes"]]
        texts = [of_class[label] for label in table["label"].to_pylist()]
    else:
        raise SystemExit(
            f"{path}: give it a column `text`, `caption` or `captions`, or a `label` and --prompts"
        )
    pictures = np.empty((len(table), pixels, pixels, 3), dtype=np.uint8)
    row = 0
    for batch in table.select(["image"]).to_batches(max_chunksize=1000):
        for value in batch.column(0).to_pylist():
            data = value["bytes"] if isinstance(value, dict) else value
            image = Image.open(io.BytesIO(data)).convert("RGB")
            pictures[row] = (
                image if image.size == (pixels, pixels) else image.resize((pixels, pixels), 3)
            )
            row += 1
    return Pairs(torch.from_numpy(pictures), texts)


def cropped(images: Tensor, draw: torch.Generator, margin: int) -> Tensor:
    """Return pictures (n, p, p, 3), each moved by up to `margin` pixels and mirrored half the time."""
    n, p = images.shape[:2]
    padded = torch.nn.functional.pad(
        images.permute(0, 3, 1, 2).float(), (margin,) * 4, mode="reflect"
    )
    top, left = torch.randint(2 * margin + 1, (2, n, 1), generator=draw).to(images.device)
    steps = torch.arange(p, device=images.device)
    mirror = (torch.rand(n, 1, generator=draw) < 0.5).to(images.device)
    rows, columns = top + steps, left + torch.where(mirror, steps.flip(0), steps)
    item = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]]


def batches(count: int, size: int, steps: int, draw: torch.Generator) -> Iterator[Tensor]:
    """Yield the row numbers of each step, shuffled anew for every pass."""
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=draw)])
        yield order[:size]
        order = order[size:]


def rate_at(step: int, settings: Settings) -> float:
    """Return the learning rate: a linear rise for a tenth of the steps, then half a cosine to zero."""
    rise = max(1, settings.steps // 10)
    if step < rise:
        return settings.rate * (step + 1) / rise
    return (
        settings.rate / 2 * (1 + math.cos(math.pi * (step - rise) / max(1, settings.steps - rise)))
    )


def optimizer_of(model: torch.nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    """Return AdamW; biases, norms and the temperature do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def losses_of(
    model: DualEncoder, pixels: Tensor, texts: list[str], low: bool
) -> tuple[Tensor, Tensor]:
    """Return a batch's loss, and the bits that the gap costs it, the mean of both directions.

    Pairs whose texts are word for word equal are true ones; equal texts are encoded once.
    """
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    own = torch.tensor([numbers[text] for text in texts], device=pixels.device)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=low):
        images = model.embed_images(pixels)
        rows = model.embed_texts(model.tokens(list(numbers)))[own]
    same = (own[:, None] == own).float()
    loss = sigmoid_loss if model.shape.sigmoid else softmax_loss
    bits = (bits_lost(rows, images) + bits_lost(images, rows)) / 2
    return loss(model.logits(images, rows), same), bits


def train(
    pairs: Pairs, settings: Settings, *, view: View | None = None, every: int = 0
) -> DualEncoder:
    """Return a trained model; a line is printed every so many steps."""
    torch.manual_seed(settings.seed)
    draw = torch.Generator().manual_seed(settings.seed)
    choose = np.random.default_rng(settings.seed)
    words = vocabulary_of(list(dict.fromkeys(text for texts in pairs.texts for text in texts)))
    shape = Shape(
        words, settings.dim, settings.pixels, settings.width, sigmoid=settings.loss == "sigmoid"
    )
    model: DualEncoder = DualEncoder(shape, temperature=settings.temperature).to(settings.device)
    model.images.to(memory_format=torch.channels_last)
    optimizer = optimizer_of(model, settings.rate, settings.decay)
    low = settings.precision == "bfloat16"
    started = time.perf_counter()
    for step, rows in enumerate(batches(len(pairs.texts), settings.batch, settings.steps, draw)):
        own = [pairs.texts[row] for row in rows.tolist()]
        texts = [several[choose.integers(len(several))] for several in own]
        pictures = cropped(pairs.pixels[rows].to(settings.device), draw, settings.pixels // 8)
        pixels = pictures.permute(0, 3, 1, 2) / 255
        pixels = pixels if view is None else view(pixels, texts)
        loss, bits = losses_of(model, pixels, texts, low)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, settings)
        optimizer.zero_grad(set_to_none=True)
        (loss + settings.balance * bits if settings.balance else loss).backward()
        optimizer.step()
        with torch.no_grad():
            model.log_scale.clamp_(max=math.log(100))  # as CLIP does
        if every and ((step + 1) % every == 0 or step + 1 == settings.steps):
            gone = time.perf_counter() - started
            left = gone / (step + 1) * (settings.steps - step - 1)
            print(
                f"step {step + 1:5d}  loss {loss.item():.3f}  gap {bits.item():.2f} bits  "
                f"temperature {math.exp(-model.log_scale.item()):.4f}  "
                f"{settings.batch * (step + 1) / gone:,.0f} pairs/s  {left:.0f} s left",
                flush=True,
            )
    model.eval()
    return model


def coloured_squares(folder: Path) -> str:
    """Write a hundred pictures of one colour each, with captions, and return the file's path."""
    colours = {
        "red": (200, 30, 30),
        "green": (30, 160, 40),
        "blue": (40, 50, 200),
        "grey": (128, 128, 128),
    }
    rng, rows = np.random.default_rng(0), []
    for name, colour in list(colours.items()) * 25:
        noisy = np.clip(rng.normal(colour, 25, size=(32, 32, 3)), 0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(noisy).save(data, format="PNG")
        rows.append({"image": data.getvalue(), "text": [f"a {name} square.", f"something {name}."]})
    path = folder / "squares.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def main() -> None:
    """Train on what the command line names, and save the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", metavar="FILE", help="Parquet of pictures with captions or labels"
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="JSON with the classes' names and templates"
    )
    parser.add_argument(
        "--out", default="dual_encoder", metavar="DIR", help="folder of the checkpoint"
    )
    parser.add_argument("--loss", choices=("softmax", "sigmoid"), default=Settings.loss)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="default: bfloat16 on CUDA"
    )
    for name in ("balance", "steps", "batch", "rate", "dim", "width", "pixels", "seed"):
        default = getattr(Settings, name)
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = vars(parser.parse_args())
    data, prompts, out = (options.pop(name) for name in ("data", "prompts", "out"))
    if options["precision"] is None:
        options["precision"] = "bfloat16" if options["device"].startswith("cuda") else "float32"
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = coloured_squares(Path(folder))
            options.update(steps=30, batch=64, width=4, dim=16)
        settings = Settings(**options)
        pairs = read_pairs(data, prompts, settings.pixels)
    print(f"{len(pairs.texts):,} pictures; {settings}")
    model = train(pairs, settings, every=max(1, min(50, settings.steps // 3)))
    print(f"checkpoint in {model.save(out)}; use it as --model dual:{out}")


if __name__ == "__main__":
    main()
