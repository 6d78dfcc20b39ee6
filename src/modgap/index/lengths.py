"""Lengths for codes that keep signs alone: a few more signs that count how long a row is.

A one-bit code keeps each row's direction and drops its length, and after `balanced` a query's answers
are among the longest rows. A score is y.x ~ |x| a, with a what the signs say: to first order about the
answers, a step of log |x| is worth as much as the same step of log a. So p coordinates more, of which the
t first are positive,

    t = p + (log |x| - top) / step,  rounded, within 0 and p,

and in a query all p: each of these signs that agrees adds to a what the length is worth. In the rows they
are so small that float scores stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, Float, normalize_rows, to_numpy
from modgap._core.checks import check_clouds, check_count
from modgap.decisions.metric import INNER_PRODUCT
from modgap.decisions.neighbors import nearest

__all__ = ["LengthBits"]

#: Four bytes a row, as a length in float32 would take.
_BITS = 32
#: Answers of each query that are looked at, and queries at most.
_ANSWERS, _QUERIES = 10, 1_000
#: Answers that are longer than `top`, and share the last sign.
_LONGER = 0.01
#: Share of the fitted queries' agreement with their answers that queries to come have. It says how far to
#: trust lengths: 1 finds .02 more with queries like those fitted to, .1 less with those of other classes.
_ALIKE = 0.7
#: The added coordinates of a row over its root mean square: what they add to a score is below its rounding.
_SMALL = 1e-6


@dataclass(frozen=True)
class LengthBits:
    """How a row's length becomes signs; four numbers, to be kept beside the closure.

    Attributes
    ----------
    bits : int
        Coordinates that are added, p.
    top : float
        Logarithm of the length from which on all of them are positive.
    step : float
        What one sign more means, in logarithms of lengths.
    weight : float
        The added coordinates of a query, over its length: for codes that keep queries in numbers.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(500, 32)) * rng.uniform(0.5, 2, size=(500, 1))
    >>> signs = LengthBits.of(rng.normal(size=(40, 32)), rows, bits=16)
    >>> signs.gallery(rows).shape, signs.queries(rows[:3]).shape
    ((500, 48), (3, 48))
    """

    bits: int
    top: float
    step: float
    weight: float

    @classmethod
    def of(
        cls, queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, bits: int = _BITS
    ) -> LengthBits:
        """Return the numbers for mapped rows, from what the queries' ten nearest items look like.

        Parameters
        ----------
        queries : array (m, d), floating
            Mapped queries of the kind that will search; a thousand of them, evenly spread, are used.
        gallery : array (n, d), floating
            Mapped items, or a fair sample of them.
        bits : int

        Raises
        ------
        ArgumentError, DataError, ShapeError
            The clouds do not fit together, hold NaN or rows of length zero, or `bits` is no count.

        Notes
        -----
        Cost: 1000 n d.
        """
        check_count(bits, "bits")
        queries, gallery = check_clouds(queries, gallery, zero_rows=False)
        asked = to_numpy(queries)[:: -(-queries.shape[0] // _QUERIES)].astype(np.float64)
        rows = to_numpy(gallery)
        k = min(_ANSWERS, len(rows))
        places = nearest(asked, rows.astype(np.float64), k=k, metric=INNER_PRODUCT).indices
        answers = rows[places].astype(np.float64)
        signs = _signs(answers)
        agreed = np.mean(np.einsum("md,mkd->mk", _signs(asked), signs))
        weighed = np.mean(np.einsum("md,mkd->mk", normalize_rows(asked), signs))
        agreed = max(float(agreed), 1.0)  # signs that tell nothing leave the order to lengths
        lengths = np.log(np.linalg.norm(answers, axis=2))
        top = float(np.quantile(lengths, 1 - _LONGER))
        return cls(int(bits), top, 2.0 / (_ALIKE * agreed), max(float(weighed), 0.0) / agreed)

    def gallery(self, rows: Float[Array, "n d"]) -> np.ndarray:
        """Return mapped items with the signs of their lengths behind them, (n, d + bits), float32."""
        found = to_numpy(rows).astype(np.float64)
        lengths = np.linalg.norm(found, axis=1)
        with np.errstate(divide="ignore"):
            count = np.round(self.bits + (np.log(lengths) - self.top) / self.step)
        positive = np.arange(self.bits) < np.clip(count, 0, self.bits)[:, None]
        small = _SMALL * lengths[:, None] / found.shape[1] ** 0.5
        return _joined(found, np.where(positive, small, -small))

    def queries(self, rows: Float[Array, "m d"]) -> np.ndarray:
        """Return mapped queries with as many positive coordinates behind them, float32."""
        found = to_numpy(rows).astype(np.float64)
        weight = self.weight * np.linalg.norm(found, axis=1, keepdims=True)
        return _joined(found, np.repeat(weight, self.bits, axis=1))


def _signs(rows: np.ndarray) -> np.ndarray:
    return np.where(rows > 0, 1.0, -1.0)


def _joined(rows: np.ndarray, added: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, added], axis=1).astype(np.float32)
