"""`modgap apply`: run one side of a closure over files, however large."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import INPUT, EngineOption, JsonOption, SchedulerOption, WorkersOption

if TYPE_CHECKING:
    from modgap.closers.closure import Closure
    from modgap.closers.maps import AffineMap
    from modgap.decisions.metric import Metric
    from modgap.io import Source
    from modgap.io.remote import AnyPath


def apply(
    closure: Annotated[
        str, typer.Argument(metavar="CLOSURE", help="A file that modgap close wrote.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the mapped files, or its URL in a store."
        ),
    ],
    queries: Annotated[
        str | None, typer.Option("--queries", metavar=INPUT, help="Map these as queries.")
    ] = None,
    gallery: Annotated[
        str | None, typer.Option("--gallery", metavar=INPUT, help="Map these as gallery items.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            metavar="NAME",
            help="Of a mixed collection: which modality the gallery items are; modgap close names them.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="input|float16|float32|float64",
            help="Number type of the output.  [default: the input's own, but float32 for float16, "
            "which is too coarse for what a map moves]",
        ),
    ] = None,
    hashes: Annotated[
        bool,
        typer.Option(
            "--hashes/--no-hashes",
            help="Keep the SHA-256 of every file in DIR/modgap.json.",
        ),
    ] = True,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
) -> None:
    """Map queries or a gallery with a saved closure, file by file.

    Every file or shard becomes one of the same name in DIR; .safetensors and .parquet stay what
    they are, all else becomes .npy. Memory does not grow with the rows.
    Files appear when they are complete, so a run that was stopped, however hard, is resumed by the same
    command: what is complete and unchanged is skipped. One run at a time writes into DIR; with --workers
    its shards are spread over processes.

    Examples
    --------
      modgap apply closure.safetensors --queries images.npy --out closed-queries
      modgap apply closure.safetensors --gallery embeddings:text_emb --out closed-gallery
      modgap apply mixed.safetensors --gallery img_emb --modality image --out closed-images
      modgap apply closure.safetensors --gallery img_emb --workers 8 --out closed-gallery
    """
    from modgap._core.checks import check_choice
    from modgap.cli._console import print_json
    from modgap.cli._engine import EngineChoice
    from modgap.closers.closure import Closure
    from modgap.errors import ArgumentError
    from modgap.io import open_source
    from modgap.io.apply import DTYPES

    if dtype is not None:
        check_choice(dtype, "--dtype", DTYPES)
    choice = EngineChoice(engine, workers, scheduler)
    fitted = Closure.load(closure)
    if (queries is None) == (gallery is None):
        raise ArgumentError("give exactly one of `--queries` and `--gallery`, the side to map")
    side, spec = ("queries", queries) if queries is not None else ("gallery", gallery)
    source = open_source(str(spec))
    mapping = _map_of(fitted, side, modality)
    _check(source, mapping, side, closure, out)
    started = time.perf_counter()
    prints = _fingerprint(closure, side if modality is None else f"{side} {modality}")
    checked = CheckedMap(mapping, side)
    with choice.opened() as chosen:
        options: dict[str, Any] = {"dtype": dtype, "hashes": hashes, "engine": chosen}
        report = _run(source, checked, out, prints, options, shown=not json)
    seconds = time.perf_counter() - started
    if json:
        print_json({"out": out, "side": side, "seconds": seconds, **report})
    else:
        _print(report, side, out, seconds, fitted.comparison)


def _map_of(fitted: Closure, side: str, modality: str | None) -> AffineMap:
    """Return the map of one side, of a mixed collection that of one modality."""
    from modgap._core.checks import check_choice
    from modgap.closers.mixed import MixedClosure
    from modgap.errors import ArgumentError

    if not isinstance(fitted, MixedClosure) or side == "queries":
        if modality is not None:
            raise ArgumentError(
                "`--modality` chooses among the maps of a mixed collection's gallery; leave it out"
            )
        found: AffineMap = getattr(fitted, side)
        return found
    if modality is None:
        raise ArgumentError(
            f"the closure maps each modality on its own; say which one these items are with --modality "
            f"({', '.join(fitted.modalities)})"
        )
    return fitted.galleries[check_choice(modality, "--modality", fitted.modalities)]


def _check(source: Source, mapping: AffineMap, side: str, closure: str, out: str) -> None:
    """Raise an error for anything that can be known before a byte is written."""
    from modgap.errors import ArgumentError, ClosureError
    from modgap.io.remote import RemotePath, output_folder

    target = output_folder(out, "--out")
    if len(source.shape) > 1 and source.width != mapping.width:
        raise ClosureError(
            f"`{closure}` was fitted for embeddings of dimension {mapping.width}; `{source.path}` "
            f"has dimension {source.width}; fit a closure to these {side}"
        )
    if isinstance(target, RemotePath):
        return
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"`--out` `{out}` is a file; name a folder")
    if os.path.realpath(target) == os.path.realpath(Path(closure).parent) and Path(
        closure
    ).name in {shard.name for shard in source.shards}:
        raise ArgumentError(f"`--out` `{out}` holds the closure itself; choose another folder")


def _fingerprint(closure: str, side: str) -> str:
    """Return what tells this map from any other: the closure's bytes and the side."""
    import hashlib

    return f"{hashlib.sha256(Path(closure).read_bytes()).hexdigest()} {side}"


@dataclass(frozen=True)
class CheckedMap:
    """A map that looks at its rows first, in whichever process it works."""

    mapping: AffineMap
    side: str

    def __call__(self, rows: Any) -> Any:
        """Return mapped rows, or say which one cannot be mapped."""
        from modgap._core.checks import check_cloud

        zero_rows = not self.mapping.normalize_input
        return self.mapping(check_cloud(rows, self.side, zero_rows=zero_rows))


def _run(
    source: Source,
    mapping: CheckedMap,
    out: str,
    fingerprint: str,
    options: dict[str, Any],
    *,
    shown: bool,
) -> dict[str, int]:
    from modgap.cli._console import progress
    from modgap.errors import ModgapError
    from modgap.io import apply_to_source
    from modgap.io.remote import output_folder

    folder = output_folder(out, "--out")
    fresh = isinstance(folder, Path) and not folder.exists()
    try:
        title = f"mapping the {mapping.side}"
        with progress(title, total=source.rows, shown=shown) as advance:
            return apply_to_source(
                mapping, source, out, fingerprint=fingerprint, progress=advance, **options
            )
    except ModgapError as error:
        if fresh:
            _remove_empty(Path(folder))
        raise type(error)(str(error) + _what_stays(folder)) from None


def _what_stays(folder: AnyPath) -> str:
    """Return a clause on the complete files that a failed run leaves for the next one, or nothing."""
    from modgap.errors import ModgapError
    from modgap.io.manifest import Manifest

    if not folder.is_dir():
        return ""
    try:
        kept = Manifest.open(folder).complete
    except ModgapError:  # the error itself, then
        return ""
    if not kept:
        return ""
    files = "1 complete file" if kept == 1 else f"{kept} complete files"
    return f"; `{folder}` keeps {files} for the next run, delete it to start over"


def _remove_empty(folder: Path) -> None:
    """Remove a folder that a failed run made, unless it holds complete files."""
    from modgap.io.manifest import MANIFEST

    try:
        if [path.name for path in folder.iterdir()] == [MANIFEST]:
            (folder / MANIFEST).unlink()
        folder.rmdir()
    except OSError:
        return


def _print(report: dict[str, int], side: str, out: str, seconds: float, comparison: Metric) -> None:
    from modgap.cli._console import say

    skipped, shards = report["skipped"], report["shards"]
    say(f"{report['rows']:,} rows of {side} in {shards} file{'s' if shards > 1 else ''} -> {out}")
    if skipped == shards:
        say("All were complete already, made from these inputs with this closure: nothing to do.")
        return
    if skipped:
        say(f"{skipped} of the files were complete already and were skipped.")
    say(
        f"{report['bytes'] / 2**20:,.1f} MiB written in {seconds:.1f} s, "
        f"{report['rows'] / max(seconds, 1e-9):,.0f} rows/s"
        + (" (skipped rows included)." if skipped else ".")
    )
    say(f"Compare mapped queries with mapped items by {comparison.words}.")
