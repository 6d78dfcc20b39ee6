"""What a study of indexes comes to, in words: computed, and only what is beyond its error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modgap.index.choosing import LENGTHS
from modgap.index.records import TARGET, CodecRow, IndexStudy, standard_error

__all__ = ["sentences"]

_ERRORS = 2.0
_DEPTH = "10"
#: Losses that are named one by one.
_NAMED = 4


@dataclass(frozen=True)
class _Change:
    """Recall of one codec with nothing closed and under a map, on the same queries."""

    bare: CodecRow
    row: CodecRow
    gain: float
    error: float

    @property
    def is_gain(self) -> bool:
        return self.gain > _ERRORS * self.error

    @property
    def is_loss(self) -> bool:
        return self.gain < -_ERRORS * self.error


def sentences(study: IndexStudy) -> Iterator[str]:
    """Yield what there is to say: cost of the gap, gains, losses, work, rescoring, failures."""
    bare = {row.label: row for row in study.done if row.map == "none"}
    depth = _depth(study)
    yield from _cost(list(bare.values()), depth)
    by_map = {name: _changes(study, bare, name, depth) for name in study.maps if name != "none"}
    yield from _gains(by_map, list(bare.values()), depth)
    yield from _losses(by_map, depth)
    yield from _work(study, bare)
    yield from _failures(study)


def _depth(study: IndexStudy) -> str:
    """Return the depth that is spoken of: ten, or the largest below."""
    depths = study.setting.get("depths") or [10]
    return str(max(k for k in depths if k <= int(_DEPTH)))


def _of_100(row: CodecRow, depth: str, factor: int = 1) -> str:
    return f"{100 * row.recall_after(factor)[depth]:.0f}"


def _two(before: CodecRow, after: CodecRow, depth: str) -> tuple[str, str]:
    """Return two recalls as answers of 100, with a decimal where they would look the same."""
    pair = (100 * before.recall[depth], 100 * after.recall[depth])
    digits = 0 if f"{pair[0]:.0f}" != f"{pair[1]:.0f}" else 1
    return f"{pair[0]:.{digits}f}", f"{pair[1]:.{digits}f}"


def _nearest(depth: str) -> str:
    return "the exact nearest" if depth == "1" else f"the exact {depth} nearest"


def _changes(study: IndexStudy, bare: dict[str, CodecRow], name: str, depth: str) -> list[_Change]:
    changes = []
    for row in study.done:
        if row.map == name and row.label in bare:
            before = bare[row.label]
            gain = row.found["1"][depth] - before.found["1"][depth]
            changes.append(_Change(before, row, float(gain.mean()), _finite(standard_error(gain))))
    return changes


def _finite(error: float) -> float:
    return error if np.isfinite(error) else float("inf")


def _cost(bare: list[CodecRow], depth: str) -> Iterator[str]:
    """Say for which codec the other kind of queries costs most."""
    costs = []
    for row in bare:
        if row.own is None:
            continue
        cost = float(row.own[depth].mean() - row.found["1"][depth].mean())
        own, other = (standard_error(each[depth]) for each in (row.own, row.found["1"]))
        if cost > _ERRORS * _finite(float(np.hypot(own, other))):
            costs.append((cost, row))
    if costs:
        _, row = max(costs, key=lambda pair: pair[0])
        assert row.own is not None  # it has a cost
        yield (
            f"The gap costs {row.label} most: it finds {_of_100(row, depth)} of 100 of {_nearest(depth)}, "
            f"and {100 * row.own[depth].mean():.0f} where queries are of the gallery's own kind."
        )
    elif any(row.own is not None for row in bare):
        yield "Queries of the gallery's own kind find no more, beyond the error, in any of these codecs."


def _gains(by_map: dict[str, list[_Change]], bare: list[CodecRow], depth: str) -> Iterator[str]:
    """Say the largest gain, what it is worth in bytes and after rescoring; and how many codecs gain."""
    gains = [one for changes in by_map.values() for one in changes if one.is_gain]
    if not gains:
        if any(by_map.values()):
            names = " or ".join(f"`{name}`" for name in by_map)
            yield f"In none of these codecs does {names} find more than nothing closed, beyond the error."
        return
    top = max(gains, key=lambda one: one.gain)
    beaten = _beaten(top.row, bare, depth)
    today, then = _two(top.bare, top.row, depth)
    more = ""
    if beaten is not None:
        more = (
            f", more than {beaten.label} finds today ({_of_100(beaten, depth)}) in "
            f"{_bytes(beaten)} bytes a vector instead of {_bytes(top.row)}"
        )
    yield (
        f"Your {top.row.label} index finds {today} of 100 of {_nearest(depth)} today; with "
        f"`{top.row.map}` {then}{more}."
    )
    factor = max((int(f) for f in top.row.found), default=1)
    if factor > 1:
        yield (
            f"With {factor} times as many candidates rescored on the floats it finds "
            f"{_of_100(top.bare, depth, factor)} today, {_of_100(top.row, depth, factor)} with "
            f"`{top.row.map}`."
        )
    for name, changes in by_map.items():
        count = sum(one.is_gain for one in changes)
        if len(changes) > 1 and count:
            yield f"`{name}` finds more, beyond the error, in {count} of {len(changes)} codecs."


def _beaten(row: CodecRow, bare: list[CodecRow], depth: str) -> CodecRow | None:
    """Return the largest code with nothing closed that finds less, beyond the error, in more bytes."""
    beaten = []
    for other in bare:
        gain = row.found["1"][depth] - other.found["1"][depth]
        if (other.bytes_per_vector or 0) > (row.bytes_per_vector or 0) and (
            gain.mean() > _ERRORS * _finite(standard_error(gain))
        ):
            beaten.append(other)
    return max(beaten, key=lambda one: one.bytes_per_vector or 0, default=None)


def _bytes(row: CodecRow) -> str:
    return f"{row.bytes_per_vector:,.0f}"


def _losses(by_map: dict[str, list[_Change]], depth: str) -> Iterator[str]:
    """Say where a map finds less, codec by codec."""
    for name, changes in by_map.items():
        lost = sorted((one for one in changes if one.is_loss), key=lambda one: one.gain)
        if not lost:
            continue
        longer = {one.row.label: one for one in by_map.get(f"{name}{LENGTHS}", ()) if one.is_gain}
        named = "; ".join(_loss(one, longer.get(one.row.label), depth) for one in lost[:_NAMED])
        rest = f"; and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        yield f"`{name}` loses in {len(lost)} of {len(changes)} codecs: {named}{rest}. Leave it out there."


def _loss(one: _Change, longer: _Change | None, depth: str) -> str:
    today, then = _two(one.bare, one.row, depth)
    remedy = (
        "" if longer is None else f" (but {_of_100(longer.row, depth)} with `{longer.row.map}`)"
    )
    return f"{one.row.label} finds {today} of 100 today and {then} with it{remedy}"


def _work(study: IndexStudy, bare: dict[str, CodecRow]) -> Iterator[str]:
    """Say what the same recall takes on graphs and inverted lists."""
    for row in study.done:
        if not row.sweep or row.map == "none" or row.label not in bare:
            continue
        before = bare[row.label]
        over = row.work_over(before)
        if over is None:
            if (row.work_at() is None) != (before.work_at() is None):
                who = f"with `{row.map}`" if before.work_at() is None else "with nothing closed"
                yield f"{row.label} reaches a recall of {TARGET:g} only {who}."
            continue
        ratio, error = over
        if abs(ratio - 1) <= _ERRORS * _finite(error):
            continue
        if row.counted:
            yield (
                f"{row.label} takes {before.work_at():,.0f} distance computations a query for a recall "
                f"of {TARGET:g}; with `{row.map}` {row.work_at():,.0f}, {ratio:.2f} ± {error:.2f} times "
                f"as many.{_own_work(before, row)}"
            )
        else:
            yield (
                f"{row.label} takes an effort of {before.effort_at():,.0f} for a recall of {TARGET:g}; "
                f"with `{row.map}` {row.effort_at():,.0f}, {ratio:.2f} ± {error:.2f} times as much."
            )


def _own_work(before: CodecRow, row: CodecRow) -> str:
    """Return what queries of the gallery's own kind pay, where that is more."""
    own = (before.work_at(own=True), row.work_at(own=True))
    if own[0] is None or own[1] is None or own[1] < 1.1 * own[0]:
        return ""
    return f" Queries of the gallery's own kind take {own[1] / own[0]:.1f} times as many."


def _failures(study: IndexStudy) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for row in study.rows:
        if row.failed is not None:
            reasons.setdefault(row.failed, []).append(row.label)
    for reason, labels in reasons.items():
        yield f"{', '.join(dict.fromkeys(labels))} failed: {reason}."
