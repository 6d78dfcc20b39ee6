"""Small drawings as plain numbers: positions for inline SVG that a template writes, no library.

Pages that move draw with these instead of with Vega: the same positions go into the picture that is
printed and into the script that moves it, so that the two cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Line", "Plane", "line", "plane", "ticks"]

#: Below this a logarithmic scale ends: what lies lower is drawn there.
_FLOOR = 1e-8
#: A scale is logarithmic where the largest value is more than this many times the smallest.
_DECADES = 30.0


@dataclass(frozen=True)
class Plane:
    """A picture of points, with one scale for both axes.

    Attributes
    ----------
    width, height : float
        Of the picture.
    scale : float
        Units of the picture per unit of the data.
    left, top : float
        Where the data's (0, 0) lies.
    """

    width: float
    height: float
    scale: float
    left: float
    top: float

    def place(self, point: Sequence[float]) -> tuple[float, float]:
        """Return where a point lies, to a tenth."""
        across, up = point
        return round(self.left + self.scale * across, 1), round(self.top - self.scale * up, 1)


def plane(
    points: Iterable[Sequence[float]],
    *,
    width: float = 640.0,
    heights: tuple[float, float] = (300.0, 520.0),
    margin: float = 54.0,
) -> Plane:
    """Return a picture that holds all points, as tall as they need between two heights.

    Examples
    --------
    >>> made = plane([(-1.0, 0.0), (1.0, 0.5)], width=200.0, heights=(80.0, 300.0), margin=10.0)
    >>> made.height, made.place((-1.0, 0.0)), made.place((1.0, 0.5))
    (80.0, (10.0, 62.5), (190.0, 17.5))
    """
    columns = list(zip(*points, strict=True))
    (low_a, high_a), (low_b, high_b) = ((min(values), max(values)) for values in columns)
    span_a, span_b = max(high_a - low_a, 1e-9), max(high_b - low_b, 1e-9)
    inner = width - 2 * margin
    height = min(max(inner * span_b / span_a + 2 * margin, heights[0]), heights[1])
    scale = min(inner / span_a, (height - 2 * margin) / span_b)
    return Plane(
        width=width,
        height=round(height, 1),
        scale=scale,
        left=width / 2 - scale * (low_a + high_a) / 2,
        top=height / 2 + scale * (low_b + high_b) / 2,
    )


@dataclass(frozen=True)
class Line:
    """A curve as an SVG path, its points, and whether it is drawn on a logarithmic scale.

    Points are None where the figure is not defined.
    """

    path: str
    points: tuple[tuple[float, float] | None, ...]
    logarithmic: bool


def line(
    values: Sequence[float | None],
    shares: Sequence[float],
    *,
    logarithmic: bool = False,
    width: float = 240.0,
    height: float = 56.0,
    margin: float = 5.0,
) -> Line:
    """Return a curve from zero upwards; `shares` (0 to 1) say how far to the right each value stands.

    With `logarithmic` the scale is one of factors where the values span more than a factor of thirty
    and none is below zero; it ends at the smallest of them, and never below 1e-8.

    Examples
    --------
    >>> drawn = line([1.0, None, 0.5], [0.0, 0.5, 1.0], width=110.0, height=20.0)
    >>> drawn.points
    ((5.0, 5.0), None, (105.0, 10.0))
    """
    known = [value for value in values if value is not None]
    logarithmic = logarithmic and _spans_decades(known)
    heights = [None if value is None else _height(value, logarithmic) for value in values]
    found = [value for value in heights if value is not None]
    low = min(found, default=0.0) if logarithmic else min([0.0, *found])
    high = max(found, default=0.0)
    points: list[tuple[float, float] | None] = []
    for value, share in zip(heights, shares, strict=True):
        if value is None:
            points.append(None)
            continue
        up = (value - low) / (high - low) if high > low else 0.0
        across = margin + share * (width - 2 * margin)
        points.append((round(across, 1), round(height - margin - up * (height - 2 * margin), 1)))
    path, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        path.append(f"{pen}{point[0]:g} {point[1]:g}")
        pen = "L"
    return Line("".join(path), tuple(points), logarithmic)


def _spans_decades(values: Sequence[float]) -> bool:
    if not values or min(values) < 0:
        return False
    return max(values) > _DECADES * max(min(values), _FLOOR)


def _height(value: float, logarithmic: bool) -> float:
    return math.log(max(value, _FLOOR)) if logarithmic else value


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about `count` round numbers between two.

    Examples
    --------
    >>> ticks(-0.93, 0.88)
    [-0.5, 0.0, 0.5]
    """
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) + 0.0 for k in range(first, last + 1)]
