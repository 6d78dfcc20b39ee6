"""`modgap doctor CLOSURE`: a saved closure against the rows of today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from modgap.closers.closure import Closure
    from modgap.io import Source
    from modgap.measures.drift import Drift, SideDrift


def check_closure(
    closure: str | None,
    queries: str | None,
    gallery: str | None,
    template: int | None,
    modality: str | None,
    thresholds: list[str] | None,
    *,
    json: bool,
) -> bool:
    """Print whether a closure still fits, and return whether it has drifted.

    Raises
    ------
    ModgapError
        A word is missing or wrong, or the inputs do not fit.
    """
    from modgap.cli._console import print_json
    from modgap.closers.closure import Closure
    from modgap.errors import ArgumentError

    if closure is None or queries is None or gallery is None:
        raise ArgumentError(
            "a closure is checked against rows: give CLOSURE, `--queries` and `--gallery`; none of them "
            "to check this installation"
        )
    limits = _thresholds(thresholds)
    how = {"modality": modality, "thresholds": limits}
    found = _found(Closure.load(closure), queries, gallery, template, how, shown=not json)
    if json:
        document = {"closure": closure, "queries_source": queries, "gallery_source": gallery}
        print_json({**document, **found.to_dict(), "sentence": found.sentence})
    else:
        _print(found)
    return found.drifted


def _thresholds(words: list[str] | None) -> dict[str, float]:
    from modgap._core.checks import check_number
    from modgap.errors import ArgumentError
    from modgap.measures.drift import THRESHOLDS

    found = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or name not in THRESHOLDS:
            raise ArgumentError(
                f"`--threshold` must be NAME=VALUE with a name of {', '.join(THRESHOLDS)}; got {word!r}"
            )
        found[name] = check_number(value, f"--threshold {name}", low=0.0)
    return found


def _found(
    closure: Closure,
    queries: str,
    gallery: str,
    template: int | None,
    how: dict[str, Any],
    *,
    shown: bool,
) -> Drift:
    from modgap._core.checks import check_cloud
    from modgap.cli._console import progress
    from modgap.cli._task import check_template, one_gallery
    from modgap.cli.close import check_sources
    from modgap.io import open_source
    from modgap.measures.drift import drift_of_blocks

    left, right = open_source(queries), open_source(gallery)
    check_sources(left, right)
    check_template(right.shape, gallery, template)
    zero_rows = not closure.metric.needs_directions
    with progress("reading queries", total=left.rows, shown=shown) as job:
        rows = _some(left, zero_rows)
        job.stage("reading gallery", total=right.rows)

        def blocks() -> Iterator[np.ndarray]:
            if len(right.shape) == 3:
                items = one_gallery(right.read(), gallery, template)
                yield check_cloud(items, "gallery", zero_rows=zero_rows)
                return
            for block in _checked(right, "gallery", zero_rows):
                yield block
                job(len(block))

        return drift_of_blocks(closure, rows, blocks(), count=left.rows, **how)


def _checked(source: Source, name: str, zero_rows: bool) -> Iterator[np.ndarray]:
    from modgap.io._guard import shown
    from modgap.io.streams import checked_blocks

    return checked_blocks(source.shards, 0, shown(source.path), name, zero_rows=zero_rows)


def _some(source: Source, zero_rows: bool) -> np.ndarray:
    """Return as many queries as are looked at, evenly spread, each block checked."""
    import numpy as np

    from modgap.measures.drift import SAMPLE

    step = -(-source.rows // SAMPLE)
    start, kept = 0, []
    for block in _checked(source, "queries", zero_rows):
        kept.append(np.array(block[-start % step :: step]))
        start += len(block)
    return np.concatenate(kept)


def _print(found: Drift) -> None:
    from modgap.cli._console import figure, print_table, say

    rows = []
    bits, exactness = found.bits, found.exactness
    if bits is not None:
        now = f"{bits.now:.3f} ± {2 * bits.now_stderr:.3f}"
        rows.append(("bits saved", figure(bits.at_fit), now, "a coordinate of a stored code"))
        if bits.win is not None and bits.win_stderr is not None:
            win = f"{bits.win:.3f} ± {2 * bits.win_stderr:.3f}"
            rows.append(
                ("fitted again", "", win, _verdict(bits.drifted, "more, on queries held out"))
            )
    if exactness is not None:
        text = f"scores change by at most; ties below {exactness.resolution:.1e}"
        cells = (f"{exactness.bound:.1e}", f"{exactness.left_out:.1e}")
        rows.append(("exactness", *cells, _verdict(exactness.drifted, text)))
    for name, side in (("queries", found.queries), ("gallery", found.gallery)):
        if side is not None:
            rows += _side_rows(name, side)
    columns = [("figure", "name"), ("at fit", "number"), ("now", "number"), ("", "text")]
    print_table(columns, rows, title=f"{found.method}: does it still fit?")
    for line in found.missing:
        say(f"Not available: {line}.")
    say(found.sentence)


def _side_rows(name: str, side: SideDrift) -> list[tuple[str, str, str, str]]:
    mean = f"spreads, {side.mean_in_errors:.1f} standard errors"
    spread = f"of the largest variance; chance {side.spread_by_chance:.3f}"
    return [
        (name, f"{side.count_at_fit}", f"{side.count}", "rows"),
        ("  step of the mean", "", f"{side.mean:.3f}", _verdict(side.mean_moved, mean, "moved")),
        (
            "  second moments",
            "",
            f"{side.spread:.3f}",
            _verdict(side.spread_moved, spread, "moved"),
        ),
    ]


def _verdict(past: bool, text: str, word: str = "DRIFTED") -> str:
    return f"{word}: {text}" if past else text
