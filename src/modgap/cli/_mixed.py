"""`modgap close` for mixed collections: a closure with one map for each modality of the gallery."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from modgap._core.moments import Moments
    from modgap.cli._engine import EngineChoice
    from modgap.closers.mixed import MixedClosure
    from modgap.decisions.metric import Metric
    from modgap.io import Source

#: Ways of `calibrate` that moments can tell, so that inputs are read block by block.
_STREAMED = {"calibrate": "rms", "calibrate:means": "means"}


@dataclass(frozen=True)
class MixedInputs:
    """Where queries and items are: a gallery and companions, or one gallery with a modality per row."""

    queries: str
    gallery: str
    companions: str | None
    modalities: str | None

    def sources(self) -> dict[str, Source]:
        """Return what is read, by the option that names it."""
        from modgap.io import open_source

        named = {"queries": self.queries, "gallery": self.gallery, "companions": self.companions}
        return {name: open_source(spec) for name, spec in named.items() if spec is not None}


def close_mixed(
    method: str,
    inputs: MixedInputs,
    metric: Metric,
    given: dict[str, Any],
    target: Path,
    choice: EngineChoice,
    *,
    json: bool,
) -> None:
    """Fit a closure to a mixed collection, save it, and print it.

    Raises
    ------
    ModgapError
        Options that a mixed collection has no use for, or inputs that do not fit.
    """
    from modgap.cli._console import print_json, progress
    from modgap.engines import Checkpoint

    _check(method, inputs, given)
    if method not in _STREAMED:
        choice.refuse_for(f"{method} needs all rows at once")
    checkpoint = Checkpoint.beside(target)
    with choice.opened() as engine, progress("reading", unit="rows", shown=not json) as job:
        how = {"engine": engine, "checkpoint": checkpoint, "tell": job}
        closure = _fit(method, inputs, metric, how)
    found = replace(
        closure,
        info={**closure.info, "queries_source": inputs.queries, "gallery_source": inputs.gallery},
    )
    found.save(target)
    checkpoint.remove()
    if json:
        names = ("method", "metric", "comparison", "exact", "modalities", "scales")
        document = {name: getattr(found, name) for name in names}
        print_json({"out": str(target), **document, "info": dict(found.info)})
    else:
        _print(found, str(target), inputs)


def _check(method: str, inputs: MixedInputs, given: dict[str, Any]) -> None:
    from modgap.closers.calibrate import MIXED_METHODS, is_mixed_method
    from modgap.errors import ArgumentError

    if inputs.companions is not None and inputs.modalities is not None:
        raise ArgumentError(
            "`--companions` and `--modalities` say the same in two ways; give one of them"
        )
    if not is_mixed_method(method):
        raise ArgumentError(
            f"`--method` must be one of {', '.join(MIXED_METHODS)} for a mixed collection; got {method!r}"
        )
    if ":pairs" in method:
        raise ArgumentError(
            "`calibrate:pairs` learns from answers, which modgap close is not told; use "
            "closers.calibrate in Python, or another scale"
        )
    for name, value in given.items():
        if value not in (None, False):
            raise ArgumentError(
                f"`--{name.replace('_', '-')}` has no meaning for a mixed collection; leave it out"
            )


def _fit(method: str, inputs: MixedInputs, metric: Metric, how: dict[str, Any]) -> MixedClosure:
    """Fit to sources; `how` has engine, checkpoint and tell."""
    from modgap import closers
    from modgap.cli.close import check_sources

    sources = inputs.sources()
    for name in sources:
        if name != "queries":
            check_sources(sources["queries"], sources[name], names=("queries", name), axes=(2,))
    names = None if inputs.modalities is None else _names_of(inputs.modalities, sources["gallery"])
    if method in _STREAMED:
        queries = _moments(sources["queries"], "queries", None, metric, how)["queries"]
        parts = _moments(sources["gallery"], "gallery", names, metric, how)
        if "companions" in sources:
            parts |= _moments(sources["companions"], "companions", None, metric, how)
        return closers.calibrate_moments(queries, parts, scale=_STREAMED[method], metric=metric)
    rows = {name: source.read() for name, source in sources.items()}
    asked = rows.pop("queries")
    if names is not None:
        whole = rows["gallery"]
        rows = {name: whole[names == name] for name in dict.fromkeys(names.tolist())}
    return closers.fit_mixed(method, asked, rows, metric=metric)


def _names_of(spec: str, gallery: Source) -> np.ndarray:
    """Return the modality of each gallery row."""
    import numpy as np

    from modgap.cli._task import read_names
    from modgap.errors import ShapeError

    names = np.asarray(read_names(spec))
    if len(names) != gallery.rows:
        raise ShapeError(
            f"`--modalities` must name the modality of each of the {gallery.rows} gallery rows; got "
            f"{len(names)}"
        )
    return names


def _moments(
    source: Source, name: str, names: np.ndarray | None, metric: Metric, how: dict[str, Any]
) -> dict[str, Moments]:
    """Return the moments of each modality in a source; of all rows under its name without `names`."""
    from modgap.engines import Reading, read_moments

    how["tell"].stage(f"reading {name}", total=source.rows)
    found = read_moments(source, Reading(name, metric), names=names, **how)
    return found if names is not None else {name: found["0"]}


def _print(closure: MixedClosure, out: str, inputs: MixedInputs) -> None:
    from modgap.cli._console import figure, print_table, say, say_command
    from modgap.io._guard import shown

    rows = [(shown(name), figure(closure.scales.get(name))) for name in closure.modalities]
    kept = "rankings within a modality change too"
    if closure.scales:
        kept = "no ranking within a modality changes"
    columns = [("modality", "name"), ("scale", "number")]
    print_table(columns, rows, title=f"{closure.method}, {closure.metric}; {kept}")
    words = closure.comparison.words
    say(f"Wrote {out}. Map both sides with it, and compare them by {words}:")
    say_command(
        shlex.join(["modgap", "apply", out, "--queries", inputs.queries, "--out", "closed-queries"])
    )
    if inputs.companions is None:
        say_command(
            "# each modality from a file of its own: modgap apply ... --gallery FILE --modality NAME"
        )
        return
    for name, spec in (("gallery", inputs.gallery), ("companions", inputs.companions)):
        words = f"--modality {name} --out closed-{name}"
        say_command(f"{shlex.join(['modgap', 'apply', out, '--gallery', spec])} {words}")
