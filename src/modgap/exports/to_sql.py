"""PostgreSQL: one function a map over pgvector's `vector`, its weights in a table beside it.

Constants in the function's text would be parsed anew in every session, megabytes of them; in a table of
one row for each coordinate that comes out, pgvector's own inner product is the loop. The function
reads a table, so it is STABLE: right in queries, where an index on the stored rows is used as usual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from modgap.closers.closure import Closure
from modgap.decisions.metric import Metric
from modgap.errors import ClosureError
from modgap.exports.form import Form, Side, describe
from modgap.exports.to_json import shortest

__all__ = ["function_name", "write"]

#: Most coordinates of pgvector's `vector`.
_MOST = 16_000
#: PostgreSQL cuts longer names off.
_LONGEST_NAME = 63
_WEIGHTS = "_weights"


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write one script that makes every function, in one transaction; run again it replaces them."""
    about = describe(closure)
    lines = [
        f"-- {about['method']} of modgap {about['modgap']}: compare mapped rows by "
        f"{closure.comparison.words}, {_operator(closure.comparison)} in pgvector (0.7 or later).",
        "BEGIN;",
        "CREATE EXTENSION IF NOT EXISTS vector;",
    ]
    for side in sides:
        lines += _side(side, function_name(name, side))
    path.write_text("\n".join([*lines, "COMMIT;", ""]), encoding="utf-8")


def function_name(name: str, side: Side) -> str:
    """Return what the function of a side is called: the file's name, and the side's."""
    word = re.sub(r"[^0-9a-z]+", "_", f"{name}_{side.name}".lower()).strip("_")
    word = f"map_{word}" if word[0].isdigit() else word
    return word[-(_LONGEST_NAME - len(_WEIGHTS)) :].lstrip("_0123456789")


def _operator(comparison: Metric) -> str:
    if comparison.is_distance:
        return "<->"
    return "<=>" if comparison.needs_directions else "<#>"


def _side(side: Side, name: str) -> Iterator[str]:
    form = side.form
    if max(form.width, form.output_width) > _MOST:
        raise ClosureError(
            f"a map from {form.width} to {form.output_width} dimensions is more than pgvector's "
            f"`vector` holds, {_MOST}; reduce it (n_components, reduce)"
        )
    table = name + _WEIGHTS
    products = [
        (part, matrix)
        for part, matrix in (("matrix", form.matrix), ("left", form.left), ("right", form.right))
        if matrix is not None
    ]
    of = "" if side.modality is None else f", modality {_comment(side.modality)}"
    yield f"-- {side.name}{of}: vector({form.width}) to vector({form.output_width})"
    yield f"DROP TABLE IF EXISTS {table};"
    if products:
        yield (
            f"CREATE TABLE {table} (part text, place integer, weights vector NOT NULL, "
            "PRIMARY KEY (part, place));"
        )
        # Rows past two kilobytes would be fetched from a table of their own each time.
        yield f"ALTER TABLE {table} ALTER COLUMN weights SET STORAGE MAIN;"
        for part, matrix in products:
            rows = (f"('{part}', {j}, {_vector(column)})" for j, column in enumerate(matrix.T))
            yield f"INSERT INTO {table} VALUES\n" + ",\n".join(rows) + ";"
    yield f"CREATE OR REPLACE FUNCTION {name}(embedding vector) RETURNS vector"
    yield "LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$"
    yield f"SELECT {_body(form, table)}"
    yield f"FROM (SELECT {_start(form)} AS z) AS rows"
    yield "$$;"


def _start(form: Form) -> str:
    rows = "l2_normalize(embedding)" if form.normalize_input else "embedding"
    return f"{rows} - {_vector(form.center)}" if form.center.any() else rows


def _body(form: Form, table: str) -> str:
    terms = []
    if form.matrix is not None:
        terms.append(_product("z", table, "matrix"))
    if form.left is not None:
        terms.append(_product(_product("z", table, "left"), table, "right"))
    if form.scale is not None:
        terms.append(f"z * {_vector(form.scale)}")
    terms = terms or ["z"]
    if form.offset.any():
        terms.append(_vector(form.offset))
    total = "\n  + ".join(terms)
    return f"l2_normalize({total})" if form.normalize_output else total


def _product(rows: str, table: str, part: str) -> str:
    """Return rows times a matrix: pgvector's <#> is the inner product with a minus before it."""
    return (
        f"(SELECT array_agg(-(weights <#> once.rows) ORDER BY place)::vector FROM {table}, "
        f"(SELECT {rows} AS rows OFFSET 0) AS once WHERE part = '{part}')"
    )


def _vector(values: np.ndarray) -> str:
    return f"'[{','.join(shortest(values).tolist())}]'::vector"


def _comment(text: str) -> str:
    """Return a text that cannot end the comment that it stands in."""
    return ascii(text)
