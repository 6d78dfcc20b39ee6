"""Watch the modality gap form in real training, over a grid of settings.

    python training/gap_formation.py             # trains the grid, writes results, page and picture
    python training/gap_formation.py --render    # writes page and picture from the results again

The theory (Chowers et al. 2026, theorems 3.1 and 3.2) is about gradient descent on free points:
the variance along the gap goes first, then the gap stands still while the rest aligns. This program
trains the small dual encoder of `dual_encoder.py` from many starts, measures both clouds on a fixed
probe of held-out image-caption pairs at steps that lie ever further apart, and says with criteria
that are fixed in the code whether the two phases show.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gap_criteria import NO_GAP
from gap_page import render_appendix, render_page
from gap_picture import draw

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "gap_formation.json"
PAGE = ROOT.parent / "docs" / "gap_formation.md"
APPENDIX = PAGE.with_name("gap_formation_runs.md")
PICTURE = ROOT.parent / "docs" / "gap_formation.svg"

PAIRS_PER_CAPTION = 3


# ------------------------------------------------------------------------------------- measures


def _variance_along(points: Any, direction: Any) -> float:
    """Return the variance of (n, d) points along a unit vector over that per direction."""
    centred = points - points.mean(0)
    total = float(centred.square().sum() / points.shape[1])
    return float((centred @ direction).square().sum() / total)


def _softmax_masses(images: Any, texts: Any, temperature: float) -> tuple[Any, Any]:
    """Return, per image and per text, the softmax mass it gets from the other modality: S_i."""
    logits = images @ texts.T / temperature
    return logits.softmax(0).sum(1), logits.softmax(1).sum(0)


def _mean_cosine_with(points: Any, direction: Any) -> float:
    """Return the mean |cosine| of differences of points (n, d) with a unit vector.

    Rows i and i + n // 3 + 1 are compared; equal points have no direction and are left out.
    """
    differences = points - points.roll(len(points) // 3 + 1, 0)
    lengths = differences.norm(dim=1)
    kept = lengths > 1e-9
    return float(((differences[kept] @ direction).abs() / lengths[kept]).mean())


def cloud_measures(images: Any, texts: Any, temperature: float) -> dict[str, float | None]:
    """Return what is logged of two paired clouds of unit vectors (n, d), in float64.

    Figures along the gap are None while the gap is too short to have a direction.
    """
    images, texts = images.double(), texts.double()
    gap = images.mean(0) - texts.mean(0)
    length = float(gap.norm())
    direction = gap / length if length >= NO_GAP else None
    image_mass, text_mass = _softmax_masses(images, texts, temperature)
    a, b = images - images.mean(0), texts - texts.mean(0)
    centred = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)

    def along(measure: Callable[[Any, Any], float], points: Any) -> float | None:
        return None if direction is None else measure(points, direction)

    return {
        "gap": length,
        "image_variance_along_gap": along(_variance_along, images),
        "text_variance_along_gap": along(_variance_along, texts),
        "image_cosine_with_gap": along(_mean_cosine_with, images),
        "text_cosine_with_gap": along(_mean_cosine_with, texts),
        "image_mass_std": float(image_mass.std()),
        "text_mass_std": float(text_mass.std()),
        "image_mass_deviation": float((image_mass - 1).abs().mean()),
        "text_mass_deviation": float((text_mass - 1).abs().mean()),
        "alignment": float((images * texts).sum(1).mean()),
        "centred_alignment": float(centred.mean()),
        "image_spread": float(a.square().sum(1).mean().sqrt()),
        "text_spread": float(b.square().sum(1).mean().sqrt()),
    }


# --------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class Plan:
    """How long and on how much each run of one part trains, and what differs between its runs."""

    steps: int = 600
    images: int = 10_000
    losses: tuple[Literal["softmax", "sigmoid"], ...] = ("softmax", "sigmoid")
    batch_sizes: tuple[int, ...] = (64, 256)
    temperatures: tuple[float | None, ...] = (0.01, 0.07, 0.5, None)  # None: learned, from 0.07
    starts: tuple[Literal["default", "cone", "matched"], ...] = ("default", "cone", "matched")
    width: int = 16
    learning_rate: float = 1e-3
    by_heart: bool = False
    measurements: int = 30
    seed: int = 0

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the settings that differ between runs."""
        for loss, batch_size, temperature, start in product(
            self.losses, self.batch_sizes, self.temperatures, self.starts
        ):
            yield {
                "loss": loss,
                "batch_size": batch_size,
                "temperature": temperature or 0.07,
                "learn_temperature": temperature is None,
                "start": start,
            }


PLANS = {
    "grid": Plan(),
    "by heart": Plan(
        steps=300,
        images=180,
        losses=("softmax",),
        batch_sizes=(180,),
        by_heart=True,
    ),
    "long": Plan(
        steps=2000,
        images=50_000,
        losses=("softmax",),
        batch_sizes=(256,),
        temperatures=(0.01, 0.07),
        starts=("default",),
    ),
}


def measured_steps(steps: int, count: int) -> list[int]:
    """Return the steps at which the probe is measured: 0, then evenly spaced in the logarithm."""
    return sorted({0, *np.geomspace(1, steps, count).round().astype(int).tolist()})


@dataclass(frozen=True)
class Probe:
    """Images, each shown as its caption says; every caption comes equally often."""

    pixels: Any  # (n, 3, 32, 32)
    numbers: Any  # (n,) the captions' numbers
    captions: int  # how many captions there are
    classes: int

    def measures(self, model: Any, loss: str) -> dict[str, float | None]:
        """Return all that is logged of a model; accuracy is among its own template's texts."""
        import torch
        from dual_encoder import LOSSES, batch_statistics, same_caption

        with torch.no_grad(), batch_statistics(model):
            images = model.embed_images(self.pixels)
            every = torch.arange(self.captions, device=self.numbers.device)
            every_text = model.embed_captions(every)
            texts = every_text[self.numbers]
            foreign = (self.numbers // self.classes)[:, None] != every // self.classes
            chosen = (images @ every_text.T).masked_fill(foreign, -math.inf).argmax(1)
            value = LOSSES[loss](model.logits(images, texts), same_caption(self.numbers))
        return {
            "loss": float(value),
            "temperature": model.temperature,
            "accuracy": float((chosen == self.numbers).double().mean()),
            **cloud_measures(images, texts, model.temperature),
        }


def make_probe(folder: Path, device: Any, *, by_heart: bool) -> Probe:
    """Return the probe: test images, or the very images that are learned by heart."""
    from dual_encoder import as_pixels, load_captions, load_photos, shown_as, templates_in_turn

    captions = load_captions(folder)
    c = len(captions.classes)
    count = c * len(captions.templates)
    photos = (
        load_photos(folder, "train", count)
        if by_heart
        else load_photos(folder, "test", PAIRS_PER_CAPTION * count)
    ).to(device)
    templates = templates_in_turn(photos, captions)
    pixels = shown_as(as_pixels(photos.images), templates, captions)
    return Probe(pixels, templates * c + photos.labels, count, c)


def train_plan(plan: Plan, save: Callable[[list[dict[str, Any]]], None]) -> None:
    """Train every run of a plan; hand all runs so far to `save` after each."""
    import torch
    from dual_encoder import Settings, Step, data_folder, load_captions, load_photos, train

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = data_folder()
    captions = load_captions(folder)
    probe = make_probe(folder, device, by_heart=plan.by_heart)
    photos = load_photos(folder, "train", plan.images).to(device)
    wanted = set(measured_steps(plan.steps, plan.measurements))
    done: list[dict[str, Any]] = []
    for varied in plan.runs():
        log: list[dict[str, float | None]] = []

        def measure(step: Step, log: list[Any] = log, loss: str = varied["loss"]) -> None:
            if step.number in wanted:
                log.append({"step": step.number, **probe.measures(step.model, loss)})

        settings = Settings(
            steps=plan.steps,
            width=plan.width,
            learning_rate=plan.learning_rate,
            by_heart=plan.by_heart,
            schedule="constant",  # so that whatever comes to rest does so by itself
            seed=plan.seed,
            **varied,
        )
        started = time.perf_counter()
        train(settings, photos, captions, hook=measure)
        done.append({**varied, "log": _columns(log)})
        save(done)
        _report(len(done), varied, log, time.perf_counter() - started)


def _report(
    number: int, varied: dict[str, Any], log: Sequence[dict[str, Any]], seconds: float
) -> None:
    """Say on the error stream that a run has ended, and how."""
    first, last = log[0], log[-1]
    print(
        f"{number:2d} {varied} {seconds:.0f} s  gap {first['gap']:.3f} -> {last['gap']:.3f}  "
        f"loss {last['loss']:.3f}  accuracy {last['accuracy']:.3f}",
        file=sys.stderr,
        flush=True,
    )


def _columns(log: Sequence[dict[str, float | None]]) -> dict[str, list[float | None]]:
    """Return the log by column, at five significant digits."""

    def short(value: float | None) -> float | None:
        return value if value is None or isinstance(value, int) else float(f"{value:.5g}")

    return {key: [short(row[key]) for row in log] for key in log[0]}


def environment() -> dict[str, Any]:
    """Return what the runs ran with."""
    import torch
    from dual_encoder import Settings

    return {
        "dimension": Settings.dim,
        "pairs_per_caption": PAIRS_PER_CAPTION,
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, "
        + (torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"),
    }


def save_json(results: dict[str, Any], path: Path) -> None:
    """Write the results, one line for each column of each run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(results, indent=1)
    lines = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", lines)
    path.write_text(lines + "\n", encoding="utf-8")


def make_results(names: Sequence[str]) -> None:
    """Train the named plans, keeping the other part of the results there may be."""
    import torch

    torch.set_num_threads(1)
    for name in names:
        plan = PLANS[name]

        def save(runs: list[dict[str, Any]], name: str = name, plan: Plan = plan) -> None:
            parts = read_results()["parts"] if RESULTS.is_file() else {}
            parts[name] = {"plan": asdict(plan), "runs": runs}
            save_json({**environment(), "parts": parts}, RESULTS)

        train_plan(plan, save)


def read_results() -> dict[str, Any]:
    """Return the results as written."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def render(results: dict[str, Any]) -> None:
    """Write the page and the picture."""
    import vl_convert as vlc

    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render_page(results), encoding="utf-8")
    APPENDIX.write_text(render_appendix(results), encoding="utf-8")
    PICTURE.write_text(vlc.vegalite_to_svg(draw(results["parts"]).to_json()), encoding="utf-8")


def main() -> int:
    """Train what is asked for and write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--render", action="store_true", help="train nothing, write the page again")
    parser.add_argument("--only", choices=list(PLANS), help="train one part, keep the other")
    options = parser.parse_args()
    if not options.render:
        from dual_encoder import DataMissing

        try:
            make_results([options.only] if options.only else list(PLANS))
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
    render(read_results())
    return 0


if __name__ == "__main__":
    sys.exit(main())
