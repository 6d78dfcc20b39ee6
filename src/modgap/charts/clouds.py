"""Two clouds on their way together, as one SVG that needs no library, and the frames that move it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from modgap.charts.sketch import ticks

__all__ = ["PATHS", "way_picture"]

#: Of the picture, in its own units, and the margins for ticks and titles.
WIDTH, HEIGHT = 1120, 860
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 16, 16, 92
#: Paths that a cloud is drawn with: where they overlap it looks denser, as single points would.
PATHS = 6
#: Points of an outline, which holds the second moments: a normal cloud has .63 of its points within.
_CORNERS = 48
_SIDES = ("queries", "gallery")
#: About so many numbers along an axis.
_TICKS = 7


def way_picture(clouds: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the picture at alpha 1, outlines of alpha 0 dashed, and the frames of all stops.

    Parameters
    ----------
    clouds : dict
        From a report's `clouds`.
    label : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    dict
        `svg`, text; `frames`, for each stop and each of `queries`, `gallery`, `queries_line` and
        `gallery_line` whole numbers x0, y0, x1, y1, ... in the units of the picture; `start`, the stop of
        alpha 1.
    """
    steps = clouds["steps"]
    lines = [{side: _outline(step["outlines"][side]) for side in _SIDES} for step in steps]
    spans = _spans(steps, lines)
    frames = [
        {
            **{side: _placed(step[side], spans) for side in _SIDES},
            **{f"{side}_line": _placed(line[side], spans) for side in _SIDES},
        }
        for step, line in zip(steps, lines, strict=True)
    ]
    start = clouds["alphas"].index(1.0)
    parts = [
        f'<svg class="clouds" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">',
        *_axes(spans),
        *(f'<path class="before {side}" d="{_closed(frames[0][side + "_line"])}"/>' for side in _SIDES),
        *(path for side in _ordered(frames[start]) for path in _dots(frames[start][side], side)),
        *(f'<path class="line {side}" data-line="{side}" d="{_closed(frames[start][side + "_line"])}"/>'
          for side in _SIDES),
        "</svg>",
    ]  # fmt: skip
    return {"svg": "".join(parts), "frames": frames, "start": start}


def _ordered(frame: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the sides, that of more points first: the few are drawn over the many."""
    return sorted(_SIDES, key=lambda side: -len(frame[side]))


def _outline(moments: Sequence[float]) -> np.ndarray:
    """Return the corners (k, 2) of the ellipse sqrt(2) roots of the second moments about the centre."""
    x, y, a, b, c = moments
    turn = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    circle = math.sqrt(2) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    corners: np.ndarray = np.array([x, y]) + circle @ np.array([[a, b], [b, c]])
    return corners


def _spans(steps: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, np.ndarray]]) -> Any:
    """Return the least and the largest value along both axes, of all stops, a little apart."""
    points = [np.asarray(step[side]).reshape(-1, 2) for step in steps for side in _SIDES]
    points += [line[side] for line in lines for side in _SIDES]
    every = np.concatenate(points)
    low, high = every.min(axis=0), every.max(axis=0)
    pad = np.where(high > low, 0.04 * (high - low), 0.5)
    return np.stack([low - pad, high + pad])


def _placed(points: Any, spans: Any) -> list[int]:
    """Return points in the units of the picture, as x0, y0, x1, y1, ..."""
    share = (np.asarray(points, dtype=np.float64).reshape(-1, 2) - spans[0]) / (spans[1] - spans[0])
    x = _LEFT + share[:, 0] * (WIDTH - _LEFT - _RIGHT)
    y = HEIGHT - _BOTTOM - share[:, 1] * (HEIGHT - _TOP - _BOTTOM)
    return [int(v) for v in np.rint(np.stack([x, y], axis=1)).ravel()]


def _dots(flat: Sequence[int], side: str) -> list[str]:
    """Return paths of strokes of no length, whose caps are the points: a few elements, however many."""
    paths = []
    for k in range(min(PATHS, len(flat) // 2)):
        own = "".join(f"M{flat[i]} {flat[i + 1]}h0" for i in range(2 * k, len(flat) - 1, 2 * PATHS))
        few = " few" if len(flat) < 200 else ""
        paths.append(f'<path class="dots {side}{few}" data-dots="{side}" d="{own}"/>')
    return paths


def _closed(flat: Sequence[int]) -> str:
    pairs = [f"{flat[i]} {flat[i + 1]}" for i in range(0, len(flat), 2)]
    return f"M{'L'.join(pairs)}Z"


def _axes(spans: Any) -> list[str]:
    """Return grid lines, their numbers, and the titles of both axes."""
    found = []
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for value in ticks(spans[0][0], spans[1][0], count=_TICKS):
        x = _placed([[value, spans[0][1]]], spans)[0]
        found.append(f'<path class="grid" d="M{x} {_TOP}V{bottom}"/>')
        found.append(f'<text x="{x}" y="{bottom + 34}" text-anchor="middle">{value:g}</text>')
    for value in ticks(spans[0][1], spans[1][1], count=_TICKS):
        y = _placed([[spans[0][0], value]], spans)[1]
        found.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        found.append(f'<text x="{_LEFT - 10}" y="{y + 9}" text-anchor="end">{value:g}</text>')
    middle = (_LEFT + right) // 2
    found.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">along the gap</text>'
        f'<text transform="translate(26 {(_TOP + bottom) // 2}) rotate(-90)" text-anchor="middle">'
        "across it</text>"
    )
    return found
