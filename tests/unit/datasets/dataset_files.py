"""Small collections in the published layouts, written as their authors' own tools lay them out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CIFAR_NAMES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip


def picture(i: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(i: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(i)).save(out, format="PNG")
    return out.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def folder(root: Path) -> Path:
    for i, name in enumerate(("cat/b.png", "cat/a.png", "dog/x/1.png", "dog/2.png", "ant/é.png")):
        put(root / name, png(i))
    return root


def captioned(root: Path) -> Path:
    for i in range(3):
        put(root / f"{i:05d}.png", png(i))
        put(root / f"{i:05d}.txt", f"a caption of {i}\nanother of {i}\n")
        put(root / f"{i:05d}.json", "{}")
    return root


def imagenet(root: Path) -> Path:
    put(root / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius\n"
        "n01484850 great white shark, white shark\n")  # fmt: skip
    for i, synset in enumerate(("n01443537", "n01440764")):
        put(root / f"ILSVRC/Data/CLS-LOC/train/{synset}/{synset}_{i}.JPEG", png(i))
        put(root / f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{i + 1}.JPEG", png(i + 2))
    put(root / "LOC_val_solution.csv", "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n01484850 1 2 3 4 n01484850 1 2 3 4\n"
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4\n")  # fmt: skip
    return root / "ILSVRC/Data/CLS-LOC/train"


def cifar10(root: Path) -> Path:
    put(root / "batches.meta.txt", "\n".join(CIFAR_NAMES) + "\n\n")
    for name, first in (*((f"data_batch_{i}.bin", i) for i in range(1, 6)), ("test_batch.bin", 6)):
        rows = [bytes([(first + i) % 10]) + planes(first * 10 + i) for i in range(3)]
        put(root / name, b"".join(rows))
    return root


def cifar100(root: Path) -> Path:
    put(root / "fine_label_names.txt", "\n".join(f"fine_{i}" for i in range(100)) + "\n\n")
    put(root / "coarse_label_names.txt", "\n".join(f"coarse {i}" for i in range(20)) + "\n\n")
    for name in ("train.bin", "test.bin"):
        put(root / name, b"".join(bytes([i, 97 + i]) + planes(i) for i in range(3)))
    return root


def planes(i: int) -> bytes:
    return picture(i, 32).transpose(2, 0, 1).tobytes()


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def webdataset(root: Path) -> Path:
    for shard in range(2):
        members = []
        for i in range(3):
            key = f"{shard:05d}{i:04d}"
            members += [(f"{key}.png", png(i)), (f"{key}.txt", f"caption {i}".encode())]
            members += [(f"{key}.json", json.dumps({"label": i, "width": 6}).encode())]
        tar(root / f"{shard:05d}.tar", members)
    put(root / "00000_stats.json", "{}")
    return root


def parquet(root: Path) -> Path:
    """As the datasets library writes it: structs of bytes and path, names of classes in the metadata."""
    features = {
        "image": {"_type": "Image"},
        "captions": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "label": {"names": ["cat", "dog", "ant"], "_type": "ClassLabel"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), ("captions", pa.list_(pa.string())), ("label", pa.int64())],
        metadata={b"huggingface": json.dumps({"info": {"features": features}}).encode()},
    )
    for shard, count in enumerate((70, 5)):
        rows = [
            {
                "image": {"bytes": png(i), "path": f"{i}.png"},
                "captions": [f"{shard} {i}", "again"],
                "label": i % 3,
            }
            for i in range(count)
        ]
        root.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, root / f"test-{shard:05d}-of-00002.parquet", row_group_size=33)
    return root


def coco(root: Path) -> Path:
    names = {139: "000000000139.jpg", 285: "000000000285.jpg", 632: "000000000632.jpg"}
    for i, name in enumerate(names.values()):
        put(root / "val2017" / name, png(i))
    document = {
        "info": {},
        "images": [{"id": i, "file_name": name, "height": 6} for i, name in names.items()],
        "annotations": [
            {"image_id": 285, "id": 1, "caption": "a bear"},
            {"image_id": 139, "id": 2, "caption": "a room "},
            {"image_id": 285, "id": 3, "caption": "a big bear"},
        ],
    }
    return put(root / "annotations/captions_val2017.json", json.dumps(document))


def flickr(root: Path) -> Path:
    for i in range(3):
        put(root / f"Flicker8k_Dataset/{i}_a.jpg", png(i))
    lines = [f"{i}_a.jpg#{j}\tcaption {j} of {i} ." for i in range(3) for j in range(2)]
    put(root / "Flickr_8k.testImages.txt", "2_a.jpg\n0_a.jpg\n")
    return put(root / "Flickr8k.token.txt", "\n".join(lines) + "\n")


def karpathy(root: Path) -> Path:
    images = []
    for i, split in enumerate(("train", "test", "test")):
        put(root / f"images/val2014/{i}.jpg", png(i))
        sentences = [{"tokens": ["a"], "raw": f"sentence {j} of {i}"} for j in range(2)]
        images.append({"filepath": "val2014", "filename": f"{i}.jpg", "split": split,
                       "sentences": sentences, "imgid": i})  # fmt: skip
    return put(root / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))


def aokvqa(root: Path) -> Path:
    questions: list[dict[str, Any]] = []
    for i, choices in enumerate((["red", "blue", "{question}", "4"], ["yes", "no"])):
        put(root / f"val2017/{7 * i:012d}.jpg", png(i))
        questions.append(
            {"split": "val", "image_id": 7 * i, "question_id": f"q{i}", "question": f"What is {i}?",
             "choices": choices, "correct_choice_idx": 1, "direct_answers": ["red"]}
        )  # fmt: skip
    return put(root / "aokvqa_v1p0_val.json", json.dumps(questions))


#: Every layout: who writes it, and how many items it then has.
LAYOUTS: dict[str, tuple[Callable[[Path], Path], int]] = {
    "folder": (folder, 5),
    "imagenet": (imagenet, 2),
    "cifar10": (cifar10, 3),
    "cifar100": (cifar100, 3),
    "webdataset": (webdataset, 6),
    "parquet": (parquet, 75),
    "coco": (coco, 3),
    "flickr": (flickr, 3),
    "karpathy": (karpathy, 2),
    "aokvqa": (aokvqa, 2),
}
