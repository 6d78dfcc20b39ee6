"""`study`: every codec on rows under every map, each index built once, judged, and let go of."""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_count
from modgap.closers import Closure
from modgap.errors import (
    ArgumentError,
    CodeError,
    CodeWarning,
    EngineError,
    MissingExtraError,
    ModgapError,
)
from modgap.index.apart import Apart, on_disk
from modgap.index.choosing import LENGTHS, Pair, chosen_codecs, is_file, of_signs, opened
from modgap.index.engine import Engine, Index
from modgap.index.ground import Ground, Maps, closures, make_ground
from modgap.index.judging import bare_scores, right_among, shares_by_depth
from modgap.index.records import CodecRow, Effort, IndexStudy
from modgap.index.served import Served
from modgap.index.storing import Asked, Make, work

__all__ = ["MAPS", "study"]

#: What a study tries unasked.
MAPS = ("none", "recenter", "balanced", f"balanced{LENGTHS}")


def study(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    engines: Sequence[str | Engine] = (),
    codecs: Sequence[str] = (),
    maps: Sequence[str | Closure | Served] = MAPS,
    fit_queries: Float[Array, "f d"] | None = None,
    labels: Any = None,
    item_labels: Any = None,
    rescore: Sequence[int] = (1, 2, 4),
    reference: int | None = None,
    sample: int | None = None,
    metric: str = "cosine",
    seed: int = 0,
    on_row: Callable[[CodecRow], None] = lambda row: None,
) -> IndexStudy:
    """Return what real indexes find of the exact float answers, before closing the gap and after.

    Every codec stores the gallery once per map (maps that leave it alone share one index), and is
    searched with queries that no map was fitted to, and with rows of the gallery's own kind: what those
    find more is the cost of the gap. One index is held at a time.

    Parameters
    ----------
    queries, gallery : array (m, d), (n, d), floating
        What searches, and what is searched.
    engines : sequence of str or Engine
        Each tries its own codecs, or those of it in `codecs` where there are any; `faiss` by default.
    codecs : sequence of str
        ENGINE:CODEC or presets: `faiss:OPQ64,IVF256,PQ64`, `qdrant-binary`, `faiss:trained.index` (a file,
        searched as it is, under maps that
        need no other rows in it).
    maps : sequence of str, Closure or Served
        Closers by name, or fitted closures. With `+lengths` after a name codecs that keep signs alone store
        what `Served.with_lengths` learns too; other codecs leave such a map out.
    fit_queries : array (f, d), optional
        What maps are fitted to. By default one half of the queries at random; the other half judges.
    labels : array (m,) of int, optional
        The right gallery row of each query; with `item_labels` its label.
    item_labels : array (n,) of int, optional
        Labels of the gallery's rows: each row with a query's own label is right.
    rescore : sequence of int
        Factors of oversampling: so many times as many candidates are put in order by their floats.
    reference : int, optional
        Rows of the gallery held out of it as queries of its own kind, a tenth of the rows at most; by
        default a third of `sample`. With an index file nothing can be held out, and each such row is left
        out of its own answers instead.
    sample : int, optional
        Most queries that judge, drawn at random; by default 1,000, and fewer past 30,000 rows: as many as
        make 30 million pairs with them, and 200 at least.
    metric : {"cosine", "ip"}
    seed : int
    on_row : callable
        Called with each row as it is done.

    Raises
    ------
    ArgumentError, ClosureError, DataError, FormatError, ShapeError
        The inputs cannot be used, or a word names no engine, codec or map.
    CodeError, MissingExtraError
        Not one codec could be built; otherwise one that cannot is a row that says why.

    Notes
    -----
    Cost, beside the engines': (m + r) n d for the exact answers, n d^2 a map. Memory: the gallery twice (as
    it is and mapped), and one index; nothing of a map is left when the next is made. LanceDB and Qdrant,
    which keep memory when an index is closed, run in a process of their own, which maps the gallery from a
    file under the system's temporary folder, and ends with each index of more than 16 MiB of rows. An
    engine that is handed over as an object runs in this process.
    """
    factors = _factors(rescore)
    pairs = chosen_codecs(engines, codecs)
    maps = _useful(maps, pairs)
    ground = make_ground(
        queries,
        gallery,
        maps=maps,
        fit_queries=fit_queries,
        labels=labels,
        item_labels=item_labels,
        reference=reference,
        sample=sample,
        hold_out=not any(map(is_file, pairs)),
        metric=metric,
        seed=seed,
    )
    found = closures(ground, maps)
    rows = list(_rows(ground, found, pairs, factors, seed, on_row))
    if all(row.failed is not None for row in rows):
        reasons = "; ".join(dict.fromkeys(str(row.failed) for row in rows))
        absent = all(not row.codec for row in rows)
        raise (MissingExtraError if absent else CodeError)(reasons)
    order = {(engine.name, codec): place for place, (engine, codec) in enumerate(pairs)}
    rows.sort(key=lambda row: order.get((row.engine, row.codec), len(order)))
    return IndexStudy(
        tuple(rows), _setting(ground, found, factors, len(queries), len(gallery), seed)
    )


def _useful(
    maps: Sequence[str | Closure | Served], pairs: Sequence[Pair]
) -> Sequence[str | Closure | Served]:
    """Return the maps without those that only codecs of signs take, where there is none.

    Raises
    ------
    ArgumentError
        None is left.
    """
    if not maps:
        raise ArgumentError("`maps` must name at least one; none leaves the rows as they are")
    if any(of_signs(codec) for _, codec in pairs):
        return maps
    useful = [one for one in maps if not (isinstance(one, str) and one.endswith(LENGTHS))]
    if not useful:
        raise ArgumentError(
            f"`maps` {maps[0]} is for codecs that keep signs alone, such as faiss-1bit, and none is among "
            "the codecs; leave the lengths out"
        )
    return useful


def _factors(rescore: Iterable[int]) -> tuple[int, ...]:
    """Return the factors of oversampling, 1 among them."""
    return tuple(sorted({1, *(check_count(one, "rescore", low=1, high=100) for one in rescore)}))


def _rows(
    ground: Ground,
    found: Maps,
    pairs: Sequence[Pair],
    factors: tuple[int, ...],
    seed: int,
    on_row: Callable[[CodecRow], None],
) -> Iterable[CodecRow]:
    """Yield all rows: by what is stored, then by codec, then by map."""
    with (
        ExitStack() as stack,
        tempfile.TemporaryDirectory(prefix="modgap-index-") as folder,
    ):
        ready, absent = opened(pairs, stack)
        for row in absent:
            on_row(row)
            yield row
        for make, codecs in work(ready, found, ground):
            for row in _under(make, codecs, ground, factors, seed, Path(folder)):
                on_row(row)
                yield row


def _under(
    make: Make,
    codecs: Sequence[Pair],
    ground: Ground,
    factors: tuple[int, ...],
    seed: int,
    folder: Path,
) -> Iterator[CodecRow]:
    """Yield the rows of one set of stored rows, which lives no longer than this."""
    stored, asked = make()
    with ExitStack() as stack:
        if any(isinstance(engine, Apart) for engine, _ in codecs):
            with contextlib.suppress(EngineError):  # no room: the engines that need it will say so
                stored = stack.enter_context(on_disk(stored, folder))
        for engine, codec in codecs:
            yield from _judged(engine, codec, stored, asked, ground, factors, seed, folder)


def _judged(
    engine: Engine,
    codec: str,
    stored: np.ndarray,
    asked: Sequence[Asked],
    ground: Ground,
    factors: tuple[int, ...],
    seed: int,
    folder: Path,
) -> Iterable[CodecRow]:
    """Yield a row a map of one index: built once, searched under each, ended whatever happens."""
    start = time.perf_counter()
    notes: tuple[str, ...] = ()
    index: Index | None = None
    shared = False
    try:
        index, notes = _standing(engine, codec, stored, seed, folder)
        seconds = getattr(index, "build_seconds", time.perf_counter() - start)
        for one in asked:
            row = _figures(CodecRow(engine.name, codec, one.map), index, one, ground, factors)
            yield replace(row, build_seconds=seconds, shared=shared, notes=notes)
            shared = True
    except Exception as error:  # what a package raises is its own; a study goes on without it
        for one in asked:
            yield CodecRow(engine.name, codec, one.map, failed=_reason(error), notes=notes)
    finally:
        if index is not None:
            index.close()


def _standing(
    engine: Engine, codec: str, stored: np.ndarray, seed: int, folder: Path
) -> tuple[Index, tuple[str, ...]]:
    """Return the index of the rows, built or opened, and what its code warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if is_file((engine, codec)):
            count, width = stored.shape
            index: Index = engine.open(codec, count=count, width=width)  # type: ignore[attr-defined]
        else:
            index = engine.build(stored, codec, seed=seed, folder=folder)
    said = [str(one.message) for one in caught if issubclass(one.category, CodeWarning)]
    return index, tuple(dict.fromkeys(said))


def _figures(
    row: CodecRow, index: Index, asked: Asked, ground: Ground, factors: tuple[int, ...]
) -> CodecRow:
    """Return the row with all that its index finds."""
    depths, count = ground.depths, len(ground.gallery)
    depth = min(factors[-1] * depths[-1], count)
    found = index.search(asked.queries, depth)
    scores = bare_scores(ground.queries, ground.gallery, found.rows) if factors[-1] > 1 else None
    shares = {
        str(factor): shares_by_depth(ground.truth, found.rows, scores, depths, factor)
        for factor in factors
    }
    right = own = None
    if ground.labels is not None and ground.items is not None:
        right = right_among(found.rows, ground.labels, ground.items, depths)
    if len(asked.own):
        theirs = _own(index, asked.own, ground, depths[-1], None)[0]
        own = shares_by_depth(ground.own_truth, theirs, None, depths)
    return replace(
        row,
        bytes_per_vector=float(index.bytes_per_vector),
        seconds=found.seconds,
        computations=found.computations,
        found=shares,
        right=right,
        own=own,
        sweep=_sweep(index, asked.queries, ground, own=False),
        own_sweep=_sweep(index, asked.own, ground, own=True) if len(asked.own) else (),
    )


def _own(
    index: Index, queries: np.ndarray, ground: Ground, k: int, effort: int | None
) -> tuple[np.ndarray, float, float | None]:
    """Return what queries of the gallery's own kind find besides themselves, and its price."""
    spare = 0 if ground.own_rows is None else 1
    found = index.search(queries, min(k + spare, len(ground.gallery)), effort)
    return ground.without_self(found.rows, k), found.seconds, found.computations


def _sweep(index: Index, queries: np.ndarray, ground: Ground, *, own: bool) -> tuple[Effort, ...]:
    """Return what a search for ten finds at every setting of work."""
    k = min(10, ground.depths[-1])
    truth = (ground.own_truth if own else ground.truth)[:, :k]
    sweep = []
    for effort in index.efforts:
        if own:
            rows, seconds, computations = _own(index, queries, ground, k, effort)
        else:
            found = index.search(queries, k, effort)
            rows, seconds, computations = found.rows, found.seconds, found.computations
        (shares,) = shares_by_depth(truth, rows, None, (k,)).values()
        sweep.append(Effort(int(effort), shares, seconds, computations))
    return tuple(sweep)


def _reason(error: Exception) -> str:
    """Return why a codec has no figures, on one line."""
    said = " ".join(str(error).split())
    if isinstance(error, ModgapError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _setting(
    ground: Ground, found: Maps, factors: tuple[int, ...], asked: int, given: int, seed: int
) -> dict[str, Any]:
    """Return what it takes to get the same figures again."""
    right = None
    if ground.labels is not None and ground.items is not None:
        shares = right_among(ground.truth, ground.labels, ground.items, ground.depths)
        right = {k: float(each.mean()) for k, each in shares.items()}
    return {
        "metric": str(ground.metric),
        "queries": asked,
        "judged": len(ground.queries),
        "fit": len(ground.fit),
        "gallery": given,
        "stored": len(ground.gallery),
        "dimension": int(ground.gallery.shape[1]),
        "own_kind": len(ground.own),
        "own_kind_stored": ground.own_rows is not None,
        "maps": list(found),
        "depths": list(ground.depths),
        "rescore": list(factors),
        "right_exact": right,
        "seed": seed,
    }
