"""Softmax masses from tiles of logits: the one implementation, for measures and for the theory.

The matrix of logits is never held: a source makes its tiles anew for every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from modgap._core.arrays import Array, namespace

__all__ = ["TileSource", "log_normalizers", "softmax_masses"]

#: Makes the tiles of a matrix of logits anew for every pass: (rows, columns, logits), rows by rows.
TileSource: TypeAlias = Callable[[], Iterator[tuple[slice, slice, Array]]]


def log_normalizers(source: TileSource) -> tuple[Array, Array]:
    """Return the logs of the softmaxes' sums: of each row over all columns, of each column over rows.

    Log-sum-exp throughout, so no logit is too large. One pass.
    """
    of_rows, of_columns = _normalizers(source)
    return _joined(of_rows), _joined(of_columns)


def softmax_masses(source: TileSource) -> tuple[Array, Array]:
    """Return the mass each row gets from all columns' softmaxes, each column from all rows'.

    Each softmax sums to one over its own side, so the masses of m rows add up to n, and those of n
    columns to m. Two passes.
    """
    of_rows, of_columns = _normalizers(source)
    row_masses: dict[int, Array] = {}
    column_masses: dict[int, Array] = {}
    for rows, columns, logits in source():
        xp = namespace(logits)
        i, j = rows.start, columns.start
        given = xp.sum(xp.exp(logits - of_columns[j][None, :]), axis=1)
        taken = xp.sum(xp.exp(logits - of_rows[i][:, None]), axis=0)
        row_masses[i] = row_masses.get(i, 0.0) + given
        column_masses[j] = column_masses.get(j, 0.0) + taken
    return _joined(row_masses), _joined(column_masses)


def _normalizers(source: TileSource) -> tuple[dict[int, Array], dict[int, Array]]:
    of_rows: dict[int, Array] = {}
    of_columns: dict[int, Array] = {}
    for rows, columns, logits in source():
        _add(of_rows, rows.start, _log_sum_exp(logits, 1))
        _add(of_columns, columns.start, _log_sum_exp(logits, 0))
    return of_rows, of_columns


def _add(logs: dict[int, Array], start: int, part: Array) -> None:
    known = logs.get(start)
    logs[start] = part if known is None else namespace(part).logaddexp(known, part)


def _joined(parts: dict[int, Array]) -> Array:
    found = [parts[start] for start in sorted(parts)]
    return found[0] if len(found) == 1 else namespace(found[0]).concat(found)


def _log_sum_exp(values: Array, axis: int) -> Array:
    xp = namespace(values)
    top = xp.max(values, axis=axis, keepdims=True)
    total = xp.log(xp.sum(xp.exp(values - top), axis=axis, keepdims=True)) + top
    return xp.squeeze(total, axis=axis)
