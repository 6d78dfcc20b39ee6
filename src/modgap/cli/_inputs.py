"""Options that several commands share, and how words become methods, alphas, noises and paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from modgap.closers.closure import Closure
    from modgap.robustness.noise import Noise

INPUT = "PATH[:KEY]"
#: The keys of `modgap.closers.METHODS`, written down because help must load nothing heavy.
METHOD_NAMES = (
    "none, recenter, orthogonal, affine, scaled, balanced, mean-shift, center, standardize, realign, "
    "procrustes, erase"
)

#: What a mixed collection is looked at with.
MIXED_CLOSERS = ("none", "center", "standardize", "calibrate:means", "calibrate")

Queries = Annotated[
    str, typer.Option("--queries", metavar=INPUT, help="What searches: embeddings (m, d).")
]
Gallery = Annotated[
    str,
    typer.Option(
        "--gallery",
        metavar=INPUT,
        help="What is searched: embeddings (n, d), or (t, n, d) with one gallery per caption "
        "template.",
    ),
]
OptionalQueries = Annotated[
    str | None, typer.Option("--queries", metavar=INPUT, help="What searches: embeddings (m, d).")
]
OptionalGallery = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        metavar=INPUT,
        help="What is searched: embeddings (n, d), or (t, n, d) with one gallery per caption "
        "template.",
    ),
]
MetricOption = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="euclidean|ip|cosine",
        help="How the nearest item is found; ip is the inner product.",
    ),
]
TemplateOption = Annotated[
    int | None,
    typer.Option(
        "--template", metavar="I", help="Take gallery I (from 0) of a gallery of shape (t, n, d)."
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        metavar="M,M,...",
        help="Closers, or files of saved closures; separated by commas, or repeat the option. "
        f"Names: {METHOD_NAMES}. A comparison may follow, as in affine:ip. For mixed collections also "
        "calibrate, with :top, :quantile, :pairs, :share or :means after it, and +balanced.  "
        "[default: none,orthogonal,affine; mixed: none,center,standardize,calibrate:means,calibrate]",
    ),
]
AlphasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--alphas",
        metavar="A,A,...",
        help="Shares of the gap to close, for the methods that take one: 0 leaves it, 1 closes it, "
        "more overshoots.",
    ),
]
NoiseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--noise",
        metavar="NOISE",
        help="Repeat for several: gaussian:SIGMA (standard deviation per coordinate; :relative times the "
        "spread of the stored rows, :before ahead of the closure's map), uniform:W, "
        "bins:N, bits:B, sign, dims:K, int8, float16, bfloat16, float8_e4m3, faiss:FACTORY, or none; "
        "codes take :rotated, sign also :lengths. @queries or "
        "@both after it perturbs another side than the gallery.  [default: gaussian:0.022; mixed: none]",
    ),
]
ComponentsOption = Annotated[
    str | None,
    typer.Option(
        "--n-components",
        metavar="K",
        help="Principal components of the gallery to keep decisions along: a whole number, a share "
        "of the variance such as 0.9, or all. Fewer than all is approximate.  [default: all]",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|dask",
        help="Who reads and writes the shards: this machine, or a Dask cluster.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Processes, each with one thread, a shard at a time; results do not depend on N.  "
        "[default: this process alone, with all threads; dask: one a core]",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="dask: where the scheduler of a cluster listens.  [default: a cluster of this machine]",
    ),
]
#: More draws than this take days, and a standard error of a probability is below .0002 with it.
_MOST_DRAWS = 10_000_000


def checked_draws(value: int | None) -> int | None:
    """Return a number of draws that can be made, or None where it is left open."""
    from modgap._core.checks import check_count

    return None if value is None else check_count(value, "draws", high=_MOST_DRAWS)


DrawsOption = Annotated[
    int,
    typer.Option(
        "--draws",
        metavar="N",
        callback=checked_draws,
        help="Draws for noise that has to be sampled.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]

CsvOption = Annotated[bool, typer.Option("--csv", help="Print one table as CSV and nothing else.")]


def parse_methods(words: list[str] | None, *, mixed: bool = False) -> list[str | Closure]:
    """Return closers by name, and closures from files; by default those that suit the task."""
    from modgap.closers import METHODS, Closure, method_and_comparison
    from modgap.closers.calibrate import is_mixed_method
    from modgap.errors import ArgumentError

    found: list[str | Closure] = []
    for word in _split(words):
        if word.partition(":")[0] in METHODS:
            method_and_comparison(word)
            found.append(word)
        elif is_mixed_method(word):
            found.append(word)
        elif word.endswith(".safetensors") or Path(word).is_file():
            found.append(Closure.load(word))
        else:
            raise ArgumentError(
                f"`--methods` must name closers ({', '.join(METHODS)}) or files of saved closures; "
                f"got {word!r}"
            )
    if not found:
        return [*MIXED_CLOSERS] if mixed else ["none", "orthogonal", "affine"]
    return found


def parse_alphas(words: list[str] | None) -> list[float]:
    """Return the alphas, 1 by default."""
    from modgap._core.checks import check_number

    return [check_number(word, "--alphas", low=-100, high=100) for word in _split(words)] or [1.0]


def parse_noises(words: list[str] | None, *, mixed: bool = False) -> list[Noise]:
    """Return the noises; ``none`` alone for an empty list, as a mixed collection has by default."""
    from modgap.robustness.noise import Gaussian, parse

    if [word.strip() for word in words or ()] == ["none"] or (mixed and not words):
        return []
    return [parse(word.strip()) for word in words or ()] or [Gaussian(0.022)]


def parse_components(word: str | None) -> int | float | str | None:
    """Return `n_components` as the library takes it."""
    from modgap._core.checks import check_components
    from modgap.errors import ArgumentError

    if word is None:
        return None
    text = word.strip()
    for kind in (int, float):
        try:
            return check_components(kind(text))
        except ArgumentError:
            raise
        except ValueError:
            continue
    return check_components(text)


def _split(words: list[str] | None) -> list[str]:
    """Return words given by commas or by repetition; a file whose name has a comma stays whole."""
    parts: list[str] = []
    for word in words or ():
        parts += [word] if Path(word).is_file() else word.split(",")
    return [part.strip() for part in parts if part.strip()]


def check_out(out: str | Path, *, suffixes: tuple[str, ...]) -> Path:
    """Return the path of an output file that can be written; see `check_apart` for the inputs.

    Raises
    ------
    ArgumentError
        Its folder is missing, it is a folder, or has another suffix.
    FormatError
        Something else than a regular file lies there.
    """
    from modgap.errors import ArgumentError
    from modgap.io.atomic import check_target
    from modgap.io.remote import refuse_url

    refuse_url(out, "--out")
    target = Path(out)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(f"`--out` must end in {' or '.join(suffixes)}; got `{out}`")
    if target.is_dir():
        raise ArgumentError(f"`--out` `{out}` is a folder; name a file in it")
    if not target.parent.is_dir():
        raise ArgumentError(f"`--out` `{out}` lies in a folder that does not exist; make it first")
    check_target(target)
    return target


def check_apart(words: Mapping[str, Any]) -> None:
    """Raise an ArgumentError if the output of a command is a file or folder that another word names.

    Every word counts, not only those that are known to be inputs: what is named on the line is
    there to be read, whatever the command and however it is linked.

    Parameters
    ----------
    words : mapping
        The command's parameters by name; `out` is where it writes.
    """
    from modgap.errors import ArgumentError

    out = words.get("out")
    if not isinstance(out, str) or not os.path.exists(out):
        return
    for name, value in words.items():
        for word in [] if name == "out" else _file_words(value):
            if os.path.exists(word) and os.path.samefile(word, out):
                raise ArgumentError(
                    f"`--out` `{out}` is one of the inputs (`{name}`); choose another name"
                )


def _file_words(value: Any) -> Iterator[str]:
    """Yield what a parameter may name: paths, keyed paths, and both between commas."""
    from modgap.errors import ModgapError
    from modgap.io import parse_spec

    for word in value if isinstance(value, list | tuple) else [value]:
        for part in {word, *word.split(",")} if isinstance(word, str) else ():
            with contextlib.suppress(ModgapError):
                yield str(parse_spec(part)[0])


def fill_in(command: str, paths: dict[str, Any]) -> str:
    """Return a command with the caller's own paths in the place of words such as QUERIES."""
    import shlex

    words = [shlex.quote(str(paths[w])) if w in paths else w for w in command.split(" ")]
    return " ".join(words)
