"""Encoding: JPEGs into a folder of embeddings, beside the bare network on decoded pixels; its memory."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _sets
import numpy as np
from _harness import SEED, blas_threads, extra_memory, in_fresh_process, in_turns, ratio_row, row

PICTURES = 10_000
SHARD = 2_000
BATCH = 64


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    rounds = rounds or (1 if quick else 5)
    count, width = (60, 4) if quick else (PICTURES // rounds, 32)
    with tempfile.TemporaryDirectory() as folder:
        seconds, difference = _times(Path(folder), count, width, rounds, quick=quick)
    sizes = (60, 60) if quick else (SHARD, PICTURES)
    grown = {n: in_fresh_process("encoding", "memory", n, 4) for n in dict.fromkeys(sizes)}
    return {
        "setting": {
            "pictures": "the JPEGs of CIFAR-10's test set, 32 x 32 pixels, in one Parquet file",
            "network": f"the compact dual encoder of the training example, {width} channels wide",
            "bare": "the same network on decoded pixels that lie in memory, in batches of the same size",
            "batch": BATCH,
            "rounds": f"{rounds}, of {count:,} pictures each",
            "memory": f"growth of a fresh process at its largest; files of 50 kB, shards of {SHARD:,}",
        },
        "rows": [
            ratio_row(
                f"{count * rounds:,} pictures from files to shards: rate over the bare network's",
                seconds["bare"], seconds["embed"], ">= 0.8",
            ),
            row(
                f"memory of encoding {sizes[1]:,} pictures, beyond that of {sizes[0]:,}",
                grown[sizes[1]] - grown[sizes[0]], "<= 16", unit="MiB",
            ),
            row("largest difference of an embedding to the bare network's", difference, "<= 1e-5"),
        ],
        "details": {
            "seconds": seconds,
            "pictures_a_second": {k: count / float(np.median(v)) for k, v in seconds.items()},
            "memory_mib": {str(n): mib for n, mib in grown.items()},
        },
    }  # fmt: skip


def memory(count: int, width: int) -> float:
    """Return by how many MiB embedding a collection makes this process grow at its largest."""
    from modgap.encode.job import embed

    with tempfile.TemporaryDirectory() as folder:
        encoder, _ = _encoder(Path(folder) / "model", width)
        embed(encoder, Copies(SHARD // 10), Path(folder) / "before")
        return extra_memory(
            lambda: embed(encoder, Copies(count), Path(folder) / "out", shard_rows=SHARD)
        )


class Copies:
    """A collection of copies of one picture, each with bytes of its own, as files of 50 kB have."""

    kind, classes, choices = "copies", None, False

    def __init__(self, count: int) -> None:
        self.count = count
        self.data = _jpeg(0) + bytes(50_000)  # decoders stop at the end mark

    def __len__(self) -> int:
        return self.count

    def items(self, start: int, stop: int) -> Iterator[Any]:
        """Yield items start to stop."""
        from modgap.datasets import Item

        for number in range(start, stop):
            yield Item(str(number), bytes(bytearray(self.data)))

    def digest(self) -> str:
        """Return a word for all of them."""
        return f"{self.count} copies"


def _times(
    folder: Path, count: int, width: int, rounds: int, *, quick: bool
) -> tuple[dict[str, list[float]], float]:
    """Return seconds of both sides, and the largest difference between what they make."""
    import torch
    from PIL import Image

    from modgap.datasets import open_collection
    from modgap.encode.job import embed

    torch.set_num_threads(blas_threads())
    encoder, network = _encoder(folder / "model", width)
    pictures = open_collection(_parquet(folder, count, quick=quick))
    decoded = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(item.image)).convert("RGB"))
            for item in pictures.items(0, count)
        ]
    )
    pixels = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous() / 255
    outputs = (folder / f"out{i}" for i in itertools.count())

    def bare() -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([network.embed_images(p).numpy() for p in pixels.split(BATCH)])

    seconds = in_turns(
        rounds, bare=bare, embed=lambda: embed(encoder, pictures, next(outputs)), warm_up=quick
    )
    made = np.load(folder / "out0" / "img_emb" / "img_emb_0.npy")
    return seconds, float(np.abs(made - bare()).max())


def _encoder(folder: Path, width: int) -> tuple[Any, Any]:
    """Return an encoder with the example's settings, and the network in it; speed asks for no training."""
    import torch

    from modgap import encode
    from modgap.encode.dual_encoder import DualEncoder, Shape

    torch.manual_seed(SEED)
    network = DualEncoder(Shape(("a", "photo"), width=width)).eval()
    return encode.load(f"dual:{network.save(folder)}", device="cpu", batch=BATCH), network


def _parquet(folder: Path, count: int, *, quick: bool) -> Path:
    """Write pictures into one file: the first of CIFAR-10's test set, or noise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / "pictures.parquet"
    if quick:
        table = pa.table({"image": [_jpeg(i) for i in range(count)]})
    else:
        table = pq.read_table(_sets.folder() / "cifar10_images" / "test.parquet", columns=["image"])
    pq.write_table(table.slice(0, count), target)
    return target


def _jpeg(number: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG")
    return out.getvalue()
