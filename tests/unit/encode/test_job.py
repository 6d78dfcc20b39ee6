"""Embedding a collection: what lands in the folder, what is skipped, and what a killed run leaves."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
PIL = pytest.importorskip("PIL.Image")

from tiny_onnx import save_onnx  # noqa: E402

from modgap import datasets, encode  # noqa: E402
from modgap.datasets import Item  # noqa: E402
from modgap.encode.encoder import Card, Encoder  # noqa: E402
from modgap.errors import ArgumentError, DataError, FormatError, ModelError  # noqa: E402
from modgap.io import read_array  # noqa: E402

HERE = Path(__file__).resolve().parent


class Shelf:
    """Pictures in memory with captions and labels."""

    kind = "shelf"
    choices = False

    def __init__(self, items: list[Item], classes: tuple[str, ...] | None = None) -> None:
        self._items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self._items)

    def items(self, start: int, stop: int) -> Iterator[Item]:
        yield from self._items[start:stop]

    def digest(self) -> str:
        return hashlib.sha256(repr(self._items).encode()).hexdigest()


def png(seed: int) -> bytes:
    import io

    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    PIL.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def shelf(count: int = 23, broken: tuple[int, ...] = ()) -> Shelf:
    """Items with one or two captions; some that are no pictures."""
    items = [
        Item(
            key=f"{i:03}.png",
            image=b"no picture" if i in broken else png(i),
            texts=("a photo of a cat", "red") if i % 2 else ("a blue dog",),
            label=i % 3,
        )
        for i in range(count)
    ]
    return Shelf(items, ("cat", "dog", "bird"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("towers"))


@pytest.fixture
def encoder(model: Path) -> Encoder:
    return encode.load(str(model), batch=4)


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_lies_in_the_folder(encoder: Encoder, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    broken = (0, 7, 22)
    seen: list[int] = []
    done = encode.embed(
        encoder, shelf(broken=broken), tmp_path / "out", shard_rows=10, thumbnails=True,
        progress=seen.append,
    )  # fmt: skip
    kept = [item for i, item in enumerate(shelf().items(0, 23)) if i not in broken]
    assert (done.images, done.skipped, done.shards, done.resumed) == (20, 3, 3, 0)
    assert sum(seen) == 23
    images = read_array(f"{tmp_path / 'out'}:img_emb")
    np.testing.assert_allclose(images, encoder.encode_images([i.image for i in kept]), atol=1e-6)
    texts = [text for item in kept for text in item.texts]
    np.testing.assert_allclose(
        read_array(f"{tmp_path / 'out'}:text_emb"), encoder.encode_texts(texts), atol=1e-6
    )
    owners = read_array(f"{tmp_path / 'out'}:owners")
    assert owners.tolist() == [i for i, item in enumerate(kept) for _ in item.texts]
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [item.label for item in kept]
    table = parquet.read_table(tmp_path / "out" / "metadata")
    assert table["image_path"].to_pylist() == [item.key for item in kept]
    assert table["class"][0].as_py() == "dog"
    assert table["thumbnail"][0].as_py()[:2] == b"\xff\xd8"  # a JPEG
    with (tmp_path / "out" / "skipped.csv").open() as handle:
        rows = list(csv.reader(handle))
    assert rows[1] == ["000.png", "not a picture of a known format"]
    assert [row[0] for row in rows[1:]] == ["000.png", "007.png", "022.png"]
    record = json.loads((tmp_path / "out" / "embed.json").read_text())
    assert record["counts"] == {"images": 20, "texts": len(texts), "skipped": 3}
    for shard in record["shards"]:
        for name, entry in shard["files"].items():
            data = (tmp_path / "out" / name).read_bytes()
            assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_second_run_makes_nothing_again(encoder: Encoder, tmp_path: Path) -> None:
    encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=10)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "img_emb" / ".img_emb_1.npy.0123abcd.tmp.npy").write_bytes(
        b"left by a killed run"
    )
    again = encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=10)
    assert (again.resumed, again.shards) == (3, 3)
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "img_emb" / "img_emb_1.npy").unlink()
    mended = encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=10)
    assert mended.resumed == 1  # the shards after a missing one are numbered anew
    assert contents(tmp_path / "out") == before


def test_a_shard_without_a_picture_leaves_no_hole(encoder: Encoder, tmp_path: Path) -> None:
    done = encode.embed(
        encoder, shelf(9, broken=(3, 4, 5)), tmp_path / "out", shard_rows=3, texts=False
    )
    assert done.images == 6
    assert read_array(tmp_path / "out" / "img_emb").shape == (6, 6)
    with pytest.raises(
        DataError, match=r"none of the 2 pictures can be read; the first, `000.png`"
    ):
        encode.embed(encoder, shelf(2, broken=(0, 1)), tmp_path / "none", texts=False)
    with pytest.raises(DataError, match=r"`001.png` cannot be read: not a picture"):
        encode.embed(encoder, shelf(3, broken=(1,)), tmp_path / "strict", strict=True)


def test_another_job_does_not_go_on_with_this_one(
    encoder: Encoder, model: Path, tmp_path: Path
) -> None:
    encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=10)
    with pytest.raises(ArgumentError, match="made otherwise: shard_rows 10, now 5"):
        encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=5)
    other = save_onnx(tmp_path / "other")
    (other / "config.json").write_text('{"model_type": "clip", "logit_scale": 10.0}')
    with pytest.raises(ArgumentError, match="model model"):
        encode.embed(encode.load(str(other), batch=4), shelf(), tmp_path / "out", shard_rows=10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"holds `notes.txt`, which no run of embed wrote"):
        encode.embed(encoder, shelf(), tmp_path / "full")
    with pytest.raises(DataError, match="is empty"):
        encode.embed(encoder, shelf(0), tmp_path / "empty")


def test_items_that_changed_are_encoded_again(encoder: Encoder, tmp_path: Path) -> None:
    encode.embed(encoder, shelf(), tmp_path / "out", shard_rows=10)
    items = list(shelf().items(0, 23))
    items[12] = Item(key="new.png", image=png(99), texts=("red",), label=0)
    done = encode.embed(
        encoder, Shelf(items, ("cat", "dog", "bird")), tmp_path / "out", shard_rows=10
    )
    assert done.resumed == 1
    fresh = encode.embed(
        encoder, Shelf(items, ("cat", "dog", "bird")), tmp_path / "new", shard_rows=10
    )
    assert fresh.resumed == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_job import shelf
from modgap import encode

encoder = encode.load(sys.argv[2], batch=4)
slow = encoder._towers["image"].prepare
class Slow:
    def prepare(self, item):
        time.sleep(0.01)
        return slow(item)
    run = encoder._towers["image"].run
encoder._towers["image"] = Slow()
print("ready", flush=True)
encode.embed(encoder, shelf(60), sys.argv[3], shard_rows=7)
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    encoder: Encoder, model: Path, tmp_path: Path
) -> None:
    encode.embed(encoder, shelf(60), tmp_path / "whole", shard_rows=7)
    out = tmp_path / "out"
    for wait in (0.05, 0.2, 0.12):
        command = [sys.executable, "-c", RUN, str(HERE), str(model), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            time.sleep(wait)
            run.send_signal(signal.SIGKILL)
            run.wait()
            assert run.returncode == -signal.SIGKILL
    before = json.loads((out / "embed.json").read_text()) if (out / "embed.json").exists() else None
    done = encode.embed(encoder, shelf(60), out, shard_rows=7)
    assert done.resumed == (0 if before is None else len(before["shards"]))
    assert contents(out) == contents(tmp_path / "whole")


def test_two_runs_do_not_write_into_one_folder(encoder: Encoder, tmp_path: Path) -> None:
    from modgap.io.lock import sole_writer

    (tmp_path / "out").mkdir()
    with (
        sole_writer(tmp_path / "out"),
        pytest.raises(FormatError, match="is being written by another run"),
    ):
        encode.embed(encoder, shelf(), tmp_path / "out")


class Narrow:
    """A tower that has memory for three items."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, []  # type: ignore[var-annotated]

    def prepare(self, item: Any) -> Any:
        return item

    def run(self, prepared: Any) -> np.ndarray:
        self.sizes.append(len(prepared))
        if len(prepared) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return np.array([[float(len(text)), 1.0] for text in prepared])


def test_too_large_a_batch_is_halved() -> None:
    card = Card("test", "narrow", 2, ("text",), unit=False)
    tower = Narrow(3)
    encoder = Encoder(card, {"text": tower}, batch=16)
    texts = ["x" * i for i in range(1, 30)]
    rows = encoder.encode_texts(texts)
    assert rows[:, 0].tolist() == [float(i) for i in range(1, 30)]
    assert encoder.batch <= 3
    assert tower.sizes[0] == 16
    with pytest.raises(ModelError, match="one item needs more memory than there is for `narrow`"):
        Encoder(card, {"text": Narrow(0)}).encode_texts(texts)
    with pytest.raises(ArgumentError, match="put the one text into a list"):
        encoder.encode_texts("one")


def test_class_texts_are_one_gallery_a_template(encoder: Encoder, tmp_path: Path) -> None:
    files = encode.embed_classes(encoder, ["cat", "dog"], ["a photo of a {} .", "red {}"], tmp_path)
    rows = np.load(tmp_path / files["class_texts"])
    assert rows.shape == (2, 2, 6)
    np.testing.assert_allclose(rows[1, 1], encoder.encode_texts(["red dog"])[0], atol=1e-6)
    with pytest.raises(ArgumentError, match=r"has no \{\} where the class goes"):
        encode.embed_classes(encoder, ["cat"], ["a photo"], tmp_path)
    # Texts and classes may go where embeddings of pictures go.
    encode.embed(encoder, datasets.Lines(["a red cat", "dog"]), tmp_path)
    assert read_array(tmp_path / "text_emb").shape == (2, 6)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: i.convert("CMYK"),
        lambda i: i.convert("L"),
        lambda i: i.quantize(64),
        lambda i: PIL.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257),
        lambda i: i.convert("RGBA"),
    ],
)
def test_pictures_of_every_mode(make: Any) -> None:
    image = PIL.fromarray(np.tile(np.arange(0, 250, 10, dtype=np.uint8)[:, None, None], (1, 25, 3)))
    out = np.asarray(encode.as_rgb(make(image))).astype(int)
    assert out.shape == (25, 25, 3)
    assert np.abs(out - np.asarray(image).astype(int)).max() <= 3  # palettes and CMYK round


def test_pictures_that_are_none(tmp_path: Path) -> None:
    whole = png(3)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    (tmp_path / "bomb.png").write_bytes(bomb + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for item, reason in (
        (tmp_path / "absent.png", "no such file"),
        (tmp_path / "cut.png", "truncated"),
        (tmp_path / "bomb.png", "400000000 pixels"),
        (b"words", "not a picture of a known format"),
        (np.zeros((3, 3, 3)), "must be uint8"),
        (7, "no picture: a int"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            encode.as_rgb(item)
        assert "\n" not in str(caught.value)


def test_a_picture_is_upright_and_an_animation_its_first_frame(tmp_path: Path) -> None:
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, :10, 0] = 255
    image = PIL.fromarray(pixels)
    exif = PIL.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert encode.as_rgb(tmp_path / "turned.jpg").size == (10, 20)
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[PIL.fromarray(255 - pixels)])
    first = np.asarray(encode.as_rgb(tmp_path / "moving.gif"))
    assert first[5, 2, 0] > 200


class Held(bytes):
    """Bytes that count how many of them there are."""

    alive = most = 0

    def __new__(cls, data: bytes) -> Held:
        Held.alive += 1
        Held.most = max(Held.most, Held.alive)
        return super().__new__(cls, data)

    def __del__(self) -> None:
        Held.alive -= 1


class Streamed(Shelf):
    """Pictures that are made as they are asked for."""

    def items(self, start: int, stop: int) -> Iterator[Item]:
        for item in self._items[start:stop]:
            yield Item(item.key, Held(item.image), item.texts, item.label)


def test_a_shard_holds_few_pictures_at_a_time(model: Path, tmp_path: Path) -> None:
    encoder = encode.load(f"onnx:{model}", batch=4)
    pictures = Streamed(shelf(120)._items)
    Held.most = Held.alive
    for resumed in (0, 1):  # a second run looks at the items, and holds none
        assert encode.embed(encoder, pictures, tmp_path / "out").resumed == resumed
        assert (
            0 < Held.most <= 4 * 4
        )  # the batch that runs, those on their way, and one beside them
    assert Held.alive == 0
