"""Train the small dual encoder and write the sample embeddings that ship with the package.

    python training/make_sample.py            # trains, writes the arrays and their card
    python training/make_sample.py --card     # writes the card again from the arrays
    python training/make_sample.py --check    # recomputes the card's numbers from the arrays

Needs torch, pyarrow and pillow, and the CIFAR-10 images (see `dual_encoder.data_folder`). The check
needs only the shipped files, NumPy and safetensors.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

SAMPLES = Path(__file__).resolve().parent.parent / "src" / "modgap" / "samples"
ARRAYS = SAMPLES / "cifar10_dual_encoder.safetensors"
CARD = SAMPLES / "README.md"
COMMAND = "python training/make_sample.py"
IMAGES_PER_CLASS = 100

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """The shipped arrays and what their file's header says of them."""

    images: Floats  # (n, d)
    texts: Floats  # (t, c, d)
    labels: NDArray[np.int64]  # (n,)
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    provenance: dict[str, Any]


# --------------------------------------------------------------------------------------- measure


def decisions(images: NDArray[np.float64], texts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the nearest text of (c, d), by distance, for each image of (n, d)."""
    squared = np.square(texts).sum(1) - 2 * images @ texts.T
    return np.asarray(squared.argmin(1), dtype=np.int64)


def measures(sample: Sample) -> dict[str, Any]:
    """Every number on the card, computed in float64 from the arrays alone."""
    images, texts = sample.images.astype(np.float64), sample.texts.astype(np.float64)
    chosen = [decisions(images, gallery) for gallery in texts]
    centre, text_centre = images.mean(0), texts[0].mean(0)
    gap = centre - text_centre
    cosine = centre @ text_centre / (np.linalg.norm(centre) * np.linalg.norm(text_centre))
    differences = texts[0] - text_centre
    inside = np.linalg.svd(differences, full_matrices=False)[2][: len(differences) - 1]
    outside = gap - inside.T @ (inside @ gap)
    return {
        "accuracy": [float((c == sample.labels).mean()) for c in chosen],
        "flips": [float((c != chosen[0]).mean()) for c in chosen],
        "image_gaps": [float(np.linalg.norm(centre - t.mean(0))) for t in texts],
        "centroid_gap": float(np.linalg.norm(gap)),
        "cosine_of_means": float(cosine),
        "gap_outside_the_class_texts": float(np.linalg.norm(outside) / np.linalg.norm(gap)),
        "rank_of_the_class_texts": int(np.linalg.matrix_rank(differences)),
        "largest_deviation_from_unit_length": float(
            max(np.abs(np.linalg.norm(a, axis=-1) - 1).max() for a in (images, texts))
        ),
    }


# ------------------------------------------------------------------------------------------ card


PAGE = """\
# CIFAR-10 sample

`cifar10_dual_encoder.safetensors`: embeddings of images and of class texts by a small dual encoder
that was trained for this package, so that it can show itself without a download. They have a
modality gap of their own; they are no benchmark, and the model behind them is no good classifier
by today's measure.

| array | shape | dtype | what |
| --- | --- | --- | --- |
| `images` | {images_shape} | float32 | test images of CIFAR-10, {per_class} a class, unchanged |
| `texts` | {texts_shape} | float32 | the class names ({c}) under each caption template ({t}) |
| `labels` | {labels_shape} | int64 | the class of each image |

All rows have unit length (to {unit}). The file's header holds, as JSON strings, `classes`,
`templates` and `provenance` (settings, seed, versions).

## How it was made

    {command}

{training}

- The image tower is a residual network of {image_parameters:,} weights on 32 x 32 pixels, the text
  tower a transformer of two layers over words with {text_parameters:,} weights. The embedding has
  {d} dimensions. The start is the usual random one: two narrow cones and a gap between them.
- Each training image gets a random caption template around its class name, and is shown as the
  caption says: blurred, grey, of low or high contrast, coarse ("bad"), small or big in the frame.
  So the text tower has a reason to tell the templates apart. "A" and "the", and "good", change
  nothing. The test images of the sample are plain.
- Several images of a batch share a class, and some share the whole caption. Pairs whose captions
  are word for word equal count as true pairs, with the target spread evenly over them; every
  other pair of the batch, the same class under another template included, counts as wrong.
- The steps, the temperature's start and the rest were set by watching these test images in a few
  trial runs, and nothing was selected among seeds. The accuracy below is not a fair estimate.

## The gap

Of the images against the class texts of template 0, "{first}":

| measure | value |
| --- | --- |
| centroid gap, length of mean(images) - mean(texts) | {gap:.4f} |
| cosine of the two means | {cosine:.4f} |
| rank of the centred class texts | {rank} |
| share of the gap's length outside their span | {outside:.4f} |

## Zero-shot accuracy

The nearest class text by Euclidean distance. "Changed" is the share of the images whose decision
differs from the one under template 0; "gap" is the centroid gap to that template's texts. The
images are shown plain, so the gap to a template that claims more ("blurry", "small") holds that
mismatch too; the templates that claim nothing (0, 6, 9, 15) have the modality gap alone.

| | template | accuracy | changed | gap |
| --- | --- | --- | --- | --- |
{rows}

## Sources and licences

- Images: CIFAR-10, from A. Krizhevsky, "Learning multiple layers of features from tiny images",
  2009. Its authors ask for this citation and give no formal licence. No image is shipped.
- Class names and caption templates: the CIFAR-10 prompts of OpenAI's CLIP repository (MIT).
- The arrays were made by the script above and come under this package's own licence.

This page is written by `{command}`; the same with `--check` recomputes its numbers
from the arrays.
"""


def _shape(array: NDArray[Any]) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "") + ")"


def render_card(sample: Sample) -> str:
    """Return the card as Markdown; every number in it comes from `sample`."""
    found, made = measures(sample), sample.provenance
    settings = made["settings"]
    columns = zip(
        sample.templates, found["accuracy"], found["flips"], found["image_gaps"], strict=True
    )
    rows = "\n".join(
        f"| {i} | {template} | {accuracy:.3f} | {flips:.3f} | {gap:.4f} |"
        for i, (template, accuracy, flips, gap) in enumerate(columns)
    )
    learned = "learned, from" if settings["learn_temperature"] else "fixed at"
    training = textwrap.fill(
        f"{settings['steps']:,} steps of {settings['batch_size']} images and captions from the "
        f"{made['training_images']:,} training images, seed {settings['seed']}, "
        f"{settings['loss']} loss, temperature {learned} {settings['temperature']:g} "
        f"(at the end {made['final_temperature']:.4f}), torch {made['torch'].split('+')[0]} on "
        f"{made['device']}, one thread, the image tower's products in {settings['precision']}. "
        "The seed fixes the result on one machine; another processor or version of torch gives a "
        "slightly different one.",
        width=100,
    )
    return PAGE.format(
        images_shape=_shape(sample.images),
        texts_shape=_shape(sample.texts),
        labels_shape=_shape(sample.labels),
        per_class=len(sample.labels) // len(sample.classes),
        t=len(sample.templates),
        c=len(sample.classes),
        d=sample.images.shape[1],
        unit=f"{10 ** np.ceil(np.log10(found['largest_deviation_from_unit_length'])):.0e}",
        command=COMMAND,
        training=training,
        image_parameters=made["image_parameters"],
        text_parameters=made["text_parameters"],
        first=sample.templates[0],
        gap=found["centroid_gap"],
        cosine=found["cosine_of_means"],
        rank=found["rank_of_the_class_texts"],
        outside=found["gap_outside_the_class_texts"],
        rows=rows,
    )


# ----------------------------------------------------------------------------------------- files


def write_sample(sample: Sample, arrays: Path, card: Path) -> None:
    """Write the safetensors file and its card."""
    from safetensors.numpy import save_file

    arrays.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {"images": sample.images, "texts": sample.texts, "labels": sample.labels},
        arrays,
        metadata={
            "classes": json.dumps(sample.classes),
            "templates": json.dumps(sample.templates),
            "provenance": json.dumps(sample.provenance, sort_keys=True),
        },
    )
    arrays.chmod(0o644)  # safetensors leaves it to its owner alone
    card.write_text(render_card(sample), encoding="utf-8")


def read_sample(arrays: Path) -> Sample:
    """Return the sample as shipped."""
    with safe_open(arrays, framework="numpy") as file:
        header = file.metadata()
        return Sample(
            images=file.get_tensor("images"),
            texts=file.get_tensor("texts"),
            labels=file.get_tensor("labels"),
            classes=tuple(json.loads(header["classes"])),
            templates=tuple(json.loads(header["templates"])),
            provenance=json.loads(header["provenance"]),
        )


NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?")


def disagreements(written: str, computed: str) -> list[str]:
    """Lines of two cards that differ by more than one unit in a number's last place."""
    left, right = written.splitlines(), computed.splitlines()
    if len(left) != len(right):
        return [f"the card has {len(left)} lines, {len(right)} were computed"]
    return [f"{a!r} should be {b!r}" for a, b in zip(left, right, strict=True) if not _same(a, b)]


def _same(a: str, b: str) -> bool:
    """Whether two lines agree, the last digit of each decimal fraction given or taken."""
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True):
        places = len(x.partition(".")[2]) if "." in x and "e" not in x else None
        allowed = 0.0 if places is None else 1.01 * 10.0**-places
        if abs(float(x.replace(",", "")) - float(y.replace(",", ""))) > allowed:
            return False
    return True


def check(arrays: Path, card: Path) -> list[str]:
    """Return what is wrong with the shipped files; nothing if they agree."""
    sample = read_sample(arrays)
    counts = np.bincount(sample.labels, minlength=len(sample.classes))
    wrong = disagreements(card.read_text(encoding="utf-8"), render_card(sample))
    if len(set(counts)) != 1:
        wrong.append(f"the classes are not balanced: {counts.tolist()}")
    size = sum(file.stat().st_size for file in (arrays, card))
    if size > 1_000_000:
        wrong.append(f"the sample takes {size} bytes, more than a megabyte")
    return wrong


# ------------------------------------------------------------------------------------------ make


def make_sample(steps: int, seed: int) -> Sample:
    """Train with the default settings and embed the test images and every caption."""
    import torch
    from dual_encoder import (
        Settings,
        Step,
        data_folder,
        embed_photos,
        embed_texts,
        load_captions,
        load_photos,
        train,
    )

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = Settings(steps=steps, seed=seed)
    folder = data_folder()
    captions = load_captions(folder)
    photos = load_photos(folder, "train")
    tested = load_photos(folder, "test", IMAGES_PER_CLASS * len(captions.classes))

    def report(step: Step) -> None:
        if step.number % 100 == 0:
            print(
                f"step {step.number:5d}  loss {step.loss:.3f}  "
                f"temperature {step.model.temperature:.4f}",
                file=sys.stderr,
                flush=True,
            )

    model = train(settings, photos, captions, hook=report)
    return Sample(
        images=embed_photos(model, tested.images).numpy(),
        texts=embed_texts(model, captions).numpy(),
        labels=tested.labels.numpy(),
        classes=captions.classes,
        templates=captions.templates,
        provenance={
            "script": "training/make_sample.py",
            "settings": asdict(settings),
            "training_images": len(photos),
            "final_temperature": model.temperature,
            "image_parameters": sum(p.numel() for p in model.images.parameters()),
            "text_parameters": sum(p.numel() for p in model.texts.parameters()),
            "torch": torch.__version__,
            "device": "cpu",
        },
    )


def main() -> int:
    """Make the sample, or check the one there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the card with the arrays")
    parser.add_argument("--card", action="store_true", help="write the card again, train nothing")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.check:
        wrong = check(ARRAYS, CARD)
        print("\n".join(wrong) or "the card agrees with the arrays")
        return 1 if wrong else 0
    if options.card:
        CARD.write_text(render_card(read_sample(ARRAYS)), encoding="utf-8")
        return 0
    try:
        sample = make_sample(options.steps, options.seed)
    except RuntimeError as error:
        if type(error).__name__ != "DataMissing":
            raise
        print(error, file=sys.stderr)
        return 2
    write_sample(sample, ARRAYS, CARD)
    print(render_card(sample))
    return 0


if __name__ == "__main__":
    sys.exit(main())
