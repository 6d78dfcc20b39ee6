"""Damaged and hostile collections: one line that says what, where, and the fix; never a traceback."""

# ruff: noqa: E501  (a table)

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dataset_files as files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modgap.datasets import open_collection
from modgap.errors import ArgumentError, DataError, FormatError, ModgapError


def read_all(spec: str | Path, **options: Any) -> None:
    found = open_collection(spec, **options)
    for _ in found.items(0, len(found)):
        pass


def refusal(spec: Path) -> str:
    """What is said of a collection, nothing if it can be read; any other error passes through."""
    try:
        read_all(spec)
    except ModgapError as error:
        return str(error)
    return ""


def changed_json(path: Path, change: Callable[[Any], Any]) -> Path:
    loaded = json.loads(path.read_text())
    again = change(loaded)
    return files.put(path, json.dumps(loaded if again is None else again))


def raw_tar(path: Path, *infos: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for info, data in infos:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def linked(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def set_item(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(loaded: Any) -> None:
        for key in keys[:-1]:
            loaded = loaded[key]
        loaded[keys[-1]] = value

    return change


def loop(root: Path) -> Path:
    files.folder(root)
    (root / "cat/again").symlink_to(root)
    return root


def fifo(root: Path) -> Path:
    files.folder(root)
    os.mkfifo(root / "cat/pipe.png")
    return root


def named(root: Path, raw: bytes) -> Path:
    files.folder(root)
    with open(os.path.join(os.fsencode(root), raw), "wb") as handle:
        handle.write(b"x")
    return root


HOSTILE: dict[str, tuple[Callable[[Path], Any], type[ModgapError], str]] = {
    "no such kind": (lambda r: "mnist:x", ArgumentError, "one of folder, imagenet, webdataset"),
    "nothing there": (lambda r: r / "no", FormatError, "no file or folder at"),
    "kind without path": (lambda r: "coco:", ArgumentError, "names no path"),
    "blank": (lambda r: " ", ArgumentError, "must name a path"),
    "no such option": (lambda r: f"folder:{files.folder(r)}?split=x", ArgumentError, "its options: none"),
    "unknown file": (lambda r: files.put(r / "a.xyz", "x"), FormatError, "of no layout that can be told"),
    "a packed tar": (lambda r: files.put(r / "a.tar.gz", gzip.compress(b"x")), FormatError, "unpack it"),
    "json of nothing known": (lambda r: files.put(r / "a.json", "{}"), FormatError, "no layout"),
    "deep json": (lambda r: f"coco:{files.put(r / 'a.json', '[' * 10**6)}", FormatError, "too deep"),
    "json in another code": (
        lambda r: f"coco:{files.put(r / 'a.json', 'é'.encode('latin-1'))}", FormatError, "no UTF-8"),
    "empty folder": (lambda r: r, DataError, "holds no picture; check the path"),
    "folder of texts": (lambda r: files.put(r / "a.txt", "x").parent, DataError, "only 1 .txt"),
    "folder of splits": (
        lambda r: files.folder(r / "train") and files.folder(r / "test").parent, FormatError,
        "splits test, train; name one"),
    "folder that is a file": (
        lambda r: f"folder:{files.put(r / 'a.png', b'x')}", FormatError, "is no folder"),
    "link loop": (loop, FormatError, "link to a folder that holds it"),
    "pipe": (fifo, FormatError, "pipe or a device"),
    "name of bad bytes": (lambda r: named(r, b"\xff.png"), FormatError, "no UTF-8; rename"),
    "blank caption file": (
        lambda r: files.put(files.captioned(r) / "00001.txt", "").parent, FormatError, "is empty"),
    "synsets and others": (
        lambda r: files.put(files.imagenet(r) / "cats/a.png", "x") and f"imagenet:{r}/ILSVRC/Data/CLS-LOC/train",
        FormatError, "must be called by synsets"),
    "a synset without a name": (
        lambda r: files.put(files.imagenet(r) / "n00000001/a.png", "x").parents[1], DataError,
        "no name for the synset n00000001"),
    "names of another form": (
        lambda r: files.imagenet(r) and files.put(r / "LOC_synset_mapping.txt", "tench\n")
        and r / "ILSVRC/Data/CLS-LOC/train", FormatError, "line 1 is no synset"),
    "a picture without an answer": (
        lambda r: files.imagenet(r) and files.put(r / "ILSVRC/Data/CLS-LOC/val/x.JPEG", "x")
        and f"imagenet:{r}/ILSVRC/Data/CLS-LOC/val", DataError, "of the picture `x.JPEG`"),
    "cifar in python": (
        lambda r: files.put(r / "test_batch", b"\x80") and files.put(r / "batches.meta", b"\x80").parent,
        FormatError, "pickled and not opened; take the binary"),
    "cifar cut short": (
        lambda r: cut(files.cifar10(r) / "test_batch.bin", 5000), FormatError, "cut short, or not of cifar10"),
    "cifar with a wrong label": (
        lambda r: files.put(files.cifar10(r) / "test_batch.bin", bytes([10]) + bytes(3072)), DataError,
        "label 10, and there are 10 classes"),
    "cifar without a batch": (
        lambda r: (files.cifar10(r) / "data_batch_3.bin").unlink() or f"cifar10:{r}?split=train", FormatError,
        "lacks `data_batch_3.bin`"),
    "tar that is none": (lambda r: files.put(r / "a.tar", b"x" * 2000), FormatError, "no readable .tar"),
    "tar that is gzip": (
        lambda r: files.put(r / "a.tar", gzip.compress(b"x" * 999)), FormatError, "compressed (gzip)"),
    "tar cut in a picture": (
        lambda r: cut(files.tar(r / "a.tar", [("a.png", bytes(4000))]), 3000), FormatError, "cut short"),
    "tar cut between pictures": (
        lambda r: cut(files.tar(r / "a.tar", [("a.png", bytes(512)), ("b.png", bytes(512))]), 2048),
        FormatError, "no end mark"),
    "tar with a part twice": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.png", b"2")]), DataError, "two members"),
    "tar with an item twice": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("b.png", b"2"), ("a.txt", b"3")]), DataError,
        "item `a` twice"),
    "tar that leads out": (
        lambda r: files.tar(r / "a.tar", [("../../etc/a.png", b"1")]), DataError, "leads out"),
    "tar with an absolute name": (
        lambda r: files.tar(r / "a.tar", [("/etc/a.png", b"1")]), DataError, "leads out"),
    "tar with a link": (
        lambda r: raw_tar(r / "a.tar", (linked("a.png", tarfile.SYMTYPE, "/etc/passwd"), b"")), DataError,
        "a link or no plain file"),
    "tar with a name of bad bytes": (
        lambda r: raw_tar(r / "a.tar", (tarfile.TarInfo("\udcff.png"), b"x")), DataError, "no UTF-8"),
    "tar with a bad label": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.cls", b"seven")]), DataError, "label 'seven'"),
    "tar with a bad json": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.json", b"{")]), DataError, ".json that cannot"),
    "tar with a caption of numbers": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.json", b'{"caption": 3}')]), DataError,
        "its caption must be a text"),
    "tar with a text of bad bytes": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.txt", b"\xff\xfe\xff")]), DataError, "no UTF-8"),
    "tar with a text without end": (
        lambda r: files.tar(r / "a.tar", [("a.png", b"1"), ("a.txt", b"x" * 500_000)]), DataError,
        "at most 400,000"),
    "tar without pictures": (
        lambda r: files.tar(r / "a.tar", [("a.txt", b"1")]), DataError, "holds no picture"),
    "tars with a hole": (
        lambda r: (files.webdataset(r) / "00000.tar").rename(r / "00003.tar") and r, FormatError,
        "lacks shard 2"),
    "parquet that is none": (lambda r: files.put(r / "a.parquet", b"PAR1xxxx"), FormatError, "no readable"),
    "parquet cut short": (
        lambda r: cut(files.parquet(r) / "test-00001-of-00002.parquet", 900), FormatError, "no readable"),
    "parquet without pictures": (
        lambda r: pq.write_table(pa.table({"a": [1]}), r / "a.parquet") or r, FormatError,
        "choose one with `image`: a (int64)"),
    "parquet without such a column": (
        lambda r: f"{files.parquet(r)}?text=title", ArgumentError, "is not there; columns that can be it: captions"),
    "parquet with a label out of range": (
        lambda r: pq.write_table(pa.table({"image": [b"1"], "label": [-7]}), r / "a.parquet") or r, DataError,
        "label -7"),
    "parquet with a path that leads out": (
        lambda r: pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": "../x.png"}],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}), r / "a.parquet") or r, DataError,
        "no path below a folder"),
    "parquet of two kinds": (
        lambda r: (files.parquet(r) / "test-00001-of-00002.parquet").rename(r / "train.parquet") and r,
        FormatError, "kinds: test, train; choose one with `split`"),
    "parquet without its second part": (
        lambda r: (files.parquet(r) / "test-00001-of-00002.parquet").unlink() or r, FormatError,
        "has 1 of the 2 shards"),
    "coco of instances": (
        lambda r: changed_json(files.coco(r), set_item("annotations", value=[])), DataError, "no captions"),
    "coco with a picture twice": (
        lambda r: changed_json(files.coco(r), set_item("images", 0, "id", value=285)), DataError,
        "two pictures with the number 285"),
    "coco with a caption of nothing": (
        lambda r: changed_json(files.coco(r), set_item("annotations", 0, "image_id", value=9)), DataError,
        "annotation 0 belongs to the picture 9"),
    "coco with a wrong type": (
        lambda r: changed_json(files.coco(r), set_item("images", 0, "file_name", value=3)), DataError,
        "entry 0: `file_name` must be a text; got 3"),
    "coco with no list": (
        lambda r: changed_json(files.coco(r), set_item("images", value={"a": 1})), DataError, "must have a list"),
    "coco with a list of numbers": (
        lambda r: changed_json(files.coco(r), set_item("images", 1, value=5)), DataError, "must be an object"),
    "coco that leads out": (
        lambda r: changed_json(files.coco(r), set_item("images", 0, "file_name", value="/etc/passwd")),
        DataError, "no path below a folder"),
    "coco with half a character": (
        lambda r: changed_json(files.coco(r), set_item("annotations", 0, "caption", value="\ud800")),
        DataError, "half a character"),
    "karpathy with half a character": (
        lambda r: changed_json(files.karpathy(r), set_item("images", 1, "filename", value="\ud800")),
        DataError, "no path below a folder"),
    "imagenet with half a character": (
        lambda r: (files.imagenet(r) and (r / "LOC_synset_mapping.txt").unlink()) or (files.put(
            r / "Labels.json", '{"n01440764": "\\ud800", "n01443537": "x"}') and r / "ILSVRC/Data/CLS-LOC/train"),
        DataError, "half a character"),
    "coco without its folder": (
        lambda r: (files.coco(r), (r / "val2017").rename(r / "moved"))[0], FormatError, "name their folder"),
    "coco with a folder of others": (
        lambda r: (files.coco(r), [p.rename(p.with_suffix(".png")) for p in (r / "val2017").iterdir()])[0],
        FormatError, "none of the 3 pictures"),
    "flickr of another form": (lambda r: files.put(r / "a.txt", "a b c\n"), FormatError, "and must with"),
    "flickr with a torn line": (
        lambda r: files.put(r / "a.token", "a.jpg#0\tx\nb.jpg 0 y\n"), FormatError, "line 2 is no"),
    "flickr without pictures": (
        lambda r: files.put(r / "a.token", "a.jpg#0\tx\n"), FormatError, "none of the 1 pictures"),
    "karpathy without such a split": (
        lambda r: f"karpathy:{files.karpathy(r)}?split=dev", ArgumentError, "test, train; got 'dev'"),
    "questions with one choice": (
        lambda r: changed_json(files.aokvqa(r), set_item(0, "choices", value=["a"])), DataError,
        "question 0: `choices` must be a list of two"),
    "questions with a wrong answer": (
        lambda r: changed_json(files.aokvqa(r), set_item(1, "correct_choice_idx", value=2)), DataError,
        "must be a number below 2; got 2"),
    "questions twice": (
        lambda r: changed_json(files.aokvqa(r), set_item(1, "question_id", value="q0")), DataError,
        "two items `q0`"),
    "questions without pictures": (
        lambda r: changed_json(files.aokvqa(r), set_item(1, "image_id", value="x")), DataError,
        "`image_id` must be a number"),
    "no list of questions": (
        lambda r: f"aokvqa:{changed_json(files.aokvqa(r), lambda _: {'a': 1})}", DataError, "list of questions"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_one_clear_line(case: str, tmp_path: Path) -> None:
    make, kind, words = HOSTILE[case]
    spec = make(tmp_path)
    if case == "cifar cut short" or case == "cifar with a wrong label":
        spec = tmp_path
    if case == "parquet cut short":
        spec = tmp_path
    with pytest.raises(kind) as caught:
        read_all(spec)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 1000


def test_a_table_that_opens_to_far_more_than_it_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = pa.table({"image": [bytes(2**20)] * 4})
    pq.write_table(zeros, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    assert len(open_collection(tmp_path)) == 4
    monkeypatch.setenv("MODGAP_MAX_OPEN_BYTES", "1e6")
    with pytest.raises(FormatError, match=r"opens to 4,19\d,\d+, more than the 1,000,000"):
        open_collection(tmp_path)


def test_a_range_outside_is_refused(tmp_path: Path) -> None:
    found = open_collection(files.folder(tmp_path))
    for start, stop in ((0, 6), (3, 2), (-1, 2)):
        with pytest.raises(ArgumentError, match="must be"):
            list(found.items(start, stop))


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_damage_anywhere_in_a_file_is_one_line_or_none(kind: str, tmp_path: Path) -> None:
    """A byte turned over at any of forty places: an error of ours, or pictures that may be others."""
    write, _ = files.LAYOUTS[kind]
    root = write(tmp_path)
    path = sorted(root.glob("*.tar" if kind == "webdataset" else "*.parquet"))[1]
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        message = refusal(root)
        refused += bool(message)
        assert "\n" not in message
    assert refused
