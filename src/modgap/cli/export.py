"""`modgap export`: a closure's maps for another runtime."""

from __future__ import annotations

from typing import Annotated

import typer

from modgap.cli._inputs import JsonOption

#: The keys of `modgap.exports.TARGETS`, written down because help must load nothing heavy.
TARGET_NAMES = "onnx|faiss|npz|sql|torch|json"


def export(
    closure: Annotated[
        str, typer.Argument(metavar="CLOSURE", help="A file that modgap close wrote.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar=TARGET_NAMES, help="What the maps are to run in.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The file to write: .onnx, .faiss, .npz, .sql, .safetensors (torch) or .json. Where a "
            "file holds one map (onnx, faiss) and both are asked for, FILE.queries.onnx and so on.",
        ),
    ],
    side: Annotated[
        str, typer.Option("--side", metavar="queries|gallery|both", help="Which maps.")
    ] = "both",
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            metavar="NAME",
            help="Of a mixed collection: the one modality whose map is wanted.  [default: all]",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a closure's maps for another runtime, which then needs no modgap.

    onnx: one graph a map, any number of rows. faiss: the map as transforms before an empty index. npz and
    json: the arrays, with the formula in words. sql: PostgreSQL functions over pgvector. torch: buffers
    in one safetensors file, nothing to unpickle. All are float32, and equal to modgap apply up to its
    rounding.

    Examples
    --------
      modgap export closure.safetensors --to onnx --out closure.onnx --side queries
      modgap export closure.safetensors --to sql --out closure.sql
    """
    from modgap._core.checks import check_choice
    from modgap.cli._console import print_json, say
    from modgap.cli._inputs import check_out
    from modgap.closers.closure import Closure
    from modgap.exports import TARGETS
    from modgap.exports import export as write

    check_choice(to, "--to", tuple(TARGETS))
    target = check_out(out, suffixes=TARGETS[to].suffixes)
    fitted = Closure.load(closure)
    files = write(fitted, target, to=to, side=side, modality=modality)
    names = [str(file) for file in files]
    if json:
        print_json({"out": names, "to": to, "side": side, "comparison": fitted.comparison})
        return
    say(f"Wrote {', '.join(names)}. Compare mapped rows by {fitted.comparison.words}.")
    say(f"To use: {TARGETS[to].hint}")
