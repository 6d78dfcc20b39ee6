"""Draw the pictures of the front pages, docs/pictures/*.svg, from the sample and from a simulation.

python docs/reference/make_pictures.py            writes them
python docs/reference/make_pictures.py --out DIR  writes them elsewhere

Nothing is drawn by hand: points are embeddings, and every number in a picture is computed when it is
drawn. The pictures of the guides to indexes come from `benchmarks/pictures.py`, that of real training
from `training/gap_formation.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import modgap
from modgap.charts import sketch
from modgap.charts.theme import FONT, GALLERY, GRID, INK, MUTED, QUERIES
from modgap.paper.dynamics import PAPER_RUN, film, film_steps, simulate

FOLDER = Path(__file__).parents[1] / "pictures"
GREEN = "#009E73"
DOT, DIAMOND, SQUARE = "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "M0-6 6 0 0 6-6 0Z", "M-4-4H4V4H-4Z"
NOISES = {
    "gaussian:0.022": "noise, σ .022",
    "gaussian:0.04": "noise, σ .04",
    "bins:16": "16 levels",
    "bins:8": "8 levels",
    "sign": "sign bits",
}


def closing() -> str:
    """Return the sample's two clouds, before and after `affine`, in one plane and on one scale."""
    sample = modgap.load_sample()
    images, texts = (_unit(rows) for rows in (sample.images, sample.texts[0]))
    closure = modgap.fit("affine", images, texts)
    study = modgap.evaluate(sample.task(), ["none", closure], noises="sign")
    before, after = study.rows
    kept = [row.under("sign").retention for row in (before, after)]
    pairs = [(images, texts), (closure.apply_queries(images), closure.apply_gallery(texts))]
    along = images.mean(axis=0) - texts.mean(axis=0)
    along /= np.linalg.norm(along)
    rest = pairs[1][0] - pairs[1][0].mean(axis=0)
    rest -= np.outer(rest @ along, along)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    across *= np.sign(across[np.argmax(np.abs(across))])  # one of two signs, the same everywhere
    axes = np.stack([along, across])
    shown = np.random.default_rng(0).choice(len(images), 400, replace=False)
    flat = []
    for queries, gallery in pairs:
        # each panel about the middle of its two means: where the origin lies decides nothing
        middle = (queries.mean(axis=0) + gallery.mean(axis=0)) / 2
        flat.append(((queries[shown] - middle) @ axes.T, (gallery - middle) @ axes.T))
    plane = sketch.plane(np.concatenate([p for pair in flat for p in pair]), width=325.0,
                         heights=(250.0, 290.0), margin=20.0)  # fmt: skip
    apart = [np.asarray(q.mean(axis=0) - x.mean(axis=0)) for q, x in pairs]
    titles = (
        f"as they are: means {np.linalg.norm(apart[0]):.2f} apart",
        f"after affine: {np.linalg.norm(apart[1]):.2f} apart, {abs(apart[1] @ along):.2f} this way",
    )
    panels = [
        _panel(plane, 16 + 343 * i, titles[i], queries, gallery)
        for i, (queries, gallery) in enumerate(flat)
    ]
    same = round(after.agreement * len(images))
    foot = (
        f"{same:,} of {len(images):,} answers stay. Stored as sign bits {_share(kept[1])} survive, "
        f"{_share(kept[0])} before."
    )
    said = (
        f"The sample: {len(shown)} of {len(images):,} pictures and 10 class texts of CIFAR-10.",
        "Left to right: along the gap as it was. Upwards: most of the rest.",
    )
    label = f"{'; '.join(titles)}. {foot}"
    return _framed(plane.height, [_legend(20, 24), *panels], foot, said, label)


def forming() -> str:
    """Return a gap forming: start, half the way and end of the paper's simulation."""
    run = simulate(PAPER_RUN, snapshots=film_steps(PAPER_RUN.steps))
    made = film(run)
    frames, gaps = made["frames"], made["records"]["gap"]
    picked = [0, next(i for i, f in enumerate(frames) if f["step"] >= 30), len(frames) - 1]
    clouds = [[np.asarray(frames[i][side]) for side in ("y", "x")] for i in picked]
    plane = sketch.plane(np.concatenate([p for pair in clouds for p in pair]), width=215.0,
                         heights=(200.0, 250.0), margin=14.0)  # fmt: skip
    titles = [f"step {frames[i]['step']:,}: gap {gaps[i]:.2f}" for i in picked]
    panels = [
        _panel(plane, 16 + 227 * i, titles[i], *clouds[i], joined=30) for i in range(len(picked))
    ]
    share = made["records"]["aligned"][-1]
    foot = (
        f"Loss {made['records']['loss'][0]:.1f} to {made['records']['loss'][-1]:.4f}, {share:.0%} of "
        "partners nearest: the gap is still there."
    )
    said = (
        "A simulation: 100 pairs in 10 dimensions move freely.",
        "Left to right: along the gap. Lines join partners.",
    )
    legend = _legend(20, 24, ("y, the queries", "x, the gallery"))
    return _framed(plane.height, [legend, *panels], foot, said, f"{'; '.join(titles)}. {foot}")


def surviving() -> str:
    """Return which share of the sample's answers survives, under five noises and three closers."""
    sample = modgap.load_sample()
    marks = {"none": (DOT, MUTED), "orthogonal": (SQUARE, GALLERY), "affine": (DIAMOND, QUERIES)}
    study = modgap.evaluate(sample.task(), list(marks), noises=list(NOISES))
    kept = {
        name: [study[name].under(noise).retention for noise in NOISES] for name in marks
    }  # fmt: skip
    low, left, right = 0.84, 150.0, 670.0

    def at(share: float) -> float:
        return left + (share - low) / (1 - low) * (right - left)

    parts = [
        f'<line x1="{at(v):.1f}" x2="{at(v):.1f}" y1="44" y2="226" stroke="{GRID}"/>'
        + _text(at(v), 248, f"{v:.2f}", anchor="middle")
        for v in (0.85, 0.90, 0.95, 1.00)
    ]
    for i, words in enumerate(NOISES.values()):
        y = 66 + 36 * i
        parts.append(_text(left - 16, y + 5, words, anchor="end", color=INK))
        parts += [
            f'<path d="{mark}" fill="{color}" transform="translate({at(kept[name][i]):.1f} {y})"/>'
            for name, (mark, color) in marks.items()
        ]
    names = {"none": "nothing closed", "orthogonal": "orthogonal (the paper's)", "affine": "affine"}
    for i, (name, (mark, color)) in enumerate(marks.items()):
        x = 24 + (0, 170, 410)[i]
        parts.append(f'<path d="{mark}" fill="{color}" transform="translate({x} 22)"/>')
        parts.append(_text(x + 12, 27, names[name], color=INK))
    said = "Share of the answers from before closing that survive; the axis begins at .84."
    parts.append(_text(20, 278, said))
    label = "; ".join(
        f"{words}: " + ", ".join(f"{names[name]} {_share(kept[name][i])}" for name in marks)
        for i, words in enumerate(NOISES.values())
    )
    return _svg(700, 296, parts, label)


PICTURES = {"closing.svg": closing, "forming.svg": forming, "surviving.svg": surviving}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _framed(height: float, parts: Sequence[str], foot: str, said: Sequence[str], label: str) -> str:
    """Return panels with a sentence and a caption below them."""
    top = 68 + height
    words = [_text(20, top + 28, foot, size=18, weight=600)]
    words += [_text(20, top + 54 + 22 * i, line) for i, line in enumerate(said)]
    return _svg(700, top + 90, [*parts, *words], label)


def _panel(
    plane: sketch.Plane,
    left: float,
    title: str,
    queries: np.ndarray,
    gallery: np.ndarray,
    joined: int = 0,
) -> str:
    """Return both clouds in a frame, with a title above it."""
    small = len(gallery) > 50
    parts = [
        f'<rect width="{plane.width:g}" height="{plane.height:g}" rx="6" fill="none" stroke="{GRID}"/>',
        _text(2, -9, title, color=INK, size=17),
    ]
    for i in range(joined):
        (a, b), (c, d) = plane.place(queries[i]), plane.place(gallery[i])
        parts.append(f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}" stroke="{MUTED}" opacity=".3"/>')
    looks = (
        (queries, "dot", QUERIES, 0.55),
        (gallery, "small" if small else "diamond", GALLERY, 0.9),
    )
    for rows, mark, color, veil in looks:
        placed = (plane.place(row) for row in rows)
        uses = "".join(f'<use href="#{mark}" x="{a}" y="{b}"/>' for a, b in placed)
        parts.append(f'<g fill="{color}" fill-opacity="{veil}">{uses}</g>')
    return f'<g transform="translate({left} 68)">{"".join(parts)}</g>'


def _legend(x: float, y: float, names: Sequence[str] = ("pictures", "texts")) -> str:
    second = x + 44 + 10 * len(names[0])
    return (
        f'<use href="#dot" x="{x + 4}" y="{y - 5}" fill="{QUERIES}"/>'
        f"{_text(x + 16, y, names[0], color=INK)}"
        f'<use href="#diamond" x="{second}" y="{y - 5}" fill="{GALLERY}"/>'
        f"{_text(second + 12, y, names[1], color=INK)}"
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", color: str = MUTED, size: int = 17,
    weight: int = 400,
) -> str:  # fmt: skip
    color = INK if weight > 400 else color
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" font-size="{size}" '
        f'font-weight="{weight}">{words}</text>'
    )


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" font-family="{FONT}"><title>{label}</title>'
        f'<defs><path id="dot" d="{DOT}"/><path id="diamond" d="{DIAMOND}"/>'
        f'<path id="small" d="M0-4 4 0 0 4-4 0Z"/></defs><rect width="{width:g}" height="{height:g}" '
        f'rx="10" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> int:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (out / name).write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
