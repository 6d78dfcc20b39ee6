"""Large galleries: a quarter of a million vectors of a trained encoder, and a million made ones, in FAISS.

The encoder is trained here, on CIFAR-10, and encodes its 60,000 images and three augmentations of each;
captions of its classes search them. The million are clouds with a gap and a spectrum like CLIP's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _harness import HERE, row
from _sets import two_clouds

from modgap import index

sys.path.insert(0, str(HERE.parent / "examples"))

CODECS = ("faiss:1bit", "faiss:SQ4", "faiss:IVF,SQ4")
MAPS = ("none", "recenter", "balanced", "balanced+lengths")
STEPS, WIDTH, VIEWS = 500, 16, 4
#: Words before a class that training does not know: 18 templates x 10 classes are few queries.
WORDS = ("", "nice ", "dirty ", "cool ")


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    found = {}
    folder = _data()
    if folder is not None:
        found["encoded"] = _encoded(folder, quick=quick)
    found["made"] = _made(quick=quick)
    rows = []
    for name, part in found.items():
        for codec in CODECS:
            found_by = part["recall"][codec]
            ours = max((m for m in found_by if m.startswith("balanced")), key=found_by.__getitem__)
            bare = max(found_by["none"], found_by["recenter"])
            rows.append(
                row(
                    f"{part['vectors']:,} vectors ({name}), {codec}: recall@10 over the best without",
                    found_by[ours] - bare, ">= 0", best=ours,
                )
            )  # fmt: skip
        minutes = part["seconds"] / 60
        rows.append(
            row(f"{part['vectors']:,} vectors ({name}): minutes of a study", minutes, "<= 10")
        )
    return {
        "setting": {"codecs": list(CODECS), "maps": list(MAPS), "steps": STEPS, "views": VIEWS},
        "rows": rows,
        "details": found,
    }


def _data() -> Path | None:
    """Return the folder with the CIFAR-10 images, or None where it is absent."""
    root = Path(os.environ.get("MODGAP_TEST_DATA") or HERE.parent.parent / "shared" / "data")
    folder = root / "cifar10_images"
    return folder if (folder / "train.parquet").is_file() else None


def _encoded(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Return what is found among the vectors of images and their augmentations."""
    import torch
    from train_dual_encoder import Settings, coloured_squares, read_pairs, train

    prompts = folder / "prompts.json"
    if quick:
        with tempfile.TemporaryDirectory() as name:
            pairs = read_pairs(coloured_squares(Path(name)), None, 32)
        model = train(pairs, Settings(steps=3, width=4, batch=32, dim=32))
        pixels = pairs.pixels
    else:
        pairs = read_pairs(str(folder / "train.parquet"), str(prompts), 32)
        model = train(pairs, Settings(steps=STEPS, width=WIDTH), every=100)
        test = read_pairs(str(folder / "test.parquet"), str(prompts), 32)
        pixels = torch.cat([pairs.pixels, test.pixels])
    gallery = np.concatenate([_rows(model, pixels, view) for view in range(VIEWS)])
    known = json.loads(prompts.read_text(encoding="utf-8"))
    texts = [
        template.format(word + name)
        for word in WORDS
        for template in known["templates"]
        for name in known["classes"]
    ]
    with torch.inference_mode():
        queries = model.embed_texts(model.tokens(texts)).numpy()
    return _study(queries, gallery)


def _rows(model: Any, pixels: Any, view: int) -> np.ndarray:
    """Return unit rows of all images: as they are, mirrored, and cropped at two corners."""
    import torch

    out = []
    with torch.inference_mode():
        for part in pixels.split(1000):
            images = part.permute(0, 3, 1, 2).float() / 255
            if view == 1:
                images = images.flip(3)
            elif view > 1:
                padded = torch.nn.functional.pad(images, (4,) * 4, mode="reflect")
                at = 8 * (view - 2)
                images = padded[:, :, at : at + 32, at : at + 32]
            out.append(model.embed_images(images).numpy())
    return np.concatenate(out)


def _made(*, quick: bool) -> dict[str, Any]:
    """Return what is found among a million rows with a gap, both clouds with spectra of their own."""
    n, m, d = (4000, 100, 32) if quick else (1_000_000, 1200, 128)
    queries, gallery = two_clouds(n, m, d)
    return _study(queries, gallery)


def _study(queries: np.ndarray, gallery: np.ndarray) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = index.study(queries, gallery, codecs=CODECS, maps=MAPS, on_row=_say)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recall: dict[str, dict[str, Any]] = {codec: {} for codec in CODECS}
    for each in found:
        if each.failed is None:
            recall[each.label][each.map] = each.recall["10"]
    return {
        "vectors": len(gallery),
        "dimension": gallery.shape[1],
        "queries": len(queries),
        "seconds": seconds,
        "gallery_mib": gallery.nbytes / 2**20,
        "peak_over_gallery_mib": (peak - before) / 2**10,
        "recall": recall,
        "text": list(found.text),
        "study": found.to_dict(),
    }


def _say(line: Any) -> None:
    print(f"  {line.label} {line.map} {line.failed or line.recall}", file=sys.stderr, flush=True)
