"""Measures of true pairs: row i of one cloud belongs to row i of the other.

An image with several captions takes part once per caption: repeat its row.
"""

from __future__ import annotations

from modgap._core.arrays import Array, Float, namespace
from modgap._core.checks import check_number
from modgap._core.clouds import Cloud, dot
from modgap._core.opening import open_pairs
from modgap.errors import DataError
from modgap.measures.cloud import mean_cosine

__all__ = [
    "alignment",
    "matched_mismatched_margin",
    "paired_cosine",
    "paired_distance",
    "relative_modality_gap",
]


def paired_distance(
    a: Float[Array, "n d"], b: Float[Array, "n d"], *, normalize: bool = True
) -> float:
    """Return the mean Euclidean distance of the true pairs, in [0, 2] for unit rows.

    Distance mixes the gap with how well pairs match beyond it: at least the length of the gap, by
    the triangle inequality.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        The clouds do not pair row by row, hold NaN or infinity, or a row to be normalised has no
        direction.

    Notes
    -----
    mean_i |a_i - b_i|. Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> paired_distance(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0]]),
    ...                 normalize=False)
    3.0
    """
    return alignment(a, b, alpha=1.0, normalize=normalize)


def alignment(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    alpha: float = 2.0,
    normalize: bool = True,
) -> float:
    """Return the mean distance of the true pairs to a power, in [0, 2^alpha] for unit rows.

    Lower is closer. A collapsed model, all rows equal, has alignment 0: read it with `uniformity`.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`.
    alpha : float
        Power of the distance, > 0.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        `alpha` is not positive; otherwise as for `paired_distance`.

    Notes
    -----
    mean_i |a_i - b_i|^alpha (Wang & Isola, "Understanding contrastive representation learning
    through alignment and uniformity on the hypersphere", 2020, with alpha = 2 as there). Cost: n
    d.

    Examples
    --------
    >>> import numpy as np
    >>> alignment(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    2.0
    """
    alpha = check_number(alpha, "alpha", low=0.0, open_low=True)
    first, second = open_pairs(a, b, normalize=normalize)
    squares = first.paired_with(second).squares
    return float(namespace(squares).mean(squares ** (alpha / 2)))


def paired_cosine(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> float:
    """Return the mean cosine of the true pairs, in [-1, 1].

    Only its distance to the cosine of wrong pairs decides retrieval: see
    `matched_mismatched_margin`.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`; no zero rows.

    Raises
    ------
    DataError, ShapeError
        The clouds do not pair row by row, hold NaN or infinity, or a row has no direction.

    Notes
    -----
    Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> paired_cosine(np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([[2.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return _mean_cosine(*open_pairs(a, b, directions=True))


def matched_mismatched_margin(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> float:
    """Return the mean cosine of true pairs minus that of wrong pairs, in [-2, 2].

    The gap hardly enters: one vector added to all rows of a side moves both terms alike (exactly so
    for inner products). A mean: a positive margin does not say that each query finds its partner.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`; n >= 2, no zero rows.

    Raises
    ------
    DataError, ShapeError
        As for `paired_cosine`; also where there is one pair only.

    Notes
    -----
    With unit rows u, w and s the sum of u_i.w_i: s / n - (n^2 mean(u).mean(w) - s) / (n (n - 1)),
    so all n (n - 1) wrong pairs count without being formed. Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> matched_mismatched_margin(np.eye(3), np.eye(3))
    1.0
    """
    first, second = open_pairs(a, b, directions=True, min_rows=2)
    n, matched = first.count, _mean_cosine(first, second)
    means = dot(first.unit_center.mean, second.unit_center.mean)
    return matched - (n * means - matched) / (n - 1)


def relative_modality_gap(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> float:
    """Return the relative modality gap, RMG, in [0, 1].

    The dissimilarity of true pairs against that within each modality: 0 where the partners
    coincide, 1/2 where partners differ as two items of one modality do on average. Being a ratio,
    it also rises when the modalities themselves contract: it is no length, and cannot be set
    beside `centroid_gap`.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`; n >= 2, no zero rows. An image with several captions
        is repeated; the repeats then count as different items within its modality.

    Raises
    ------
    DataError, ShapeError
        As for `paired_cosine`; also where there is one pair only, or all rows of both clouds point
        in one direction.

    Notes
    -----
    With D(c) = (1 - c) / 2 the cosine dissimilarity, p = mean_i D(cos(a_i, b_i)) and
    q = (mean_{i != j} D(cos(a_i, a_j)) + mean_{i != j} D(cos(b_i, b_j))) / 2, RMG = p / (p + q)
    (Schrodi et al., "Two effects, one trigger", ICLR 2025). Published reimplementations disagree:
    some keep the diagonal i = j, some divide the length of the gap by a spread. Computed from sums
    of rows. Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> relative_modality_gap(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]))
    0.5
    """
    first, second = open_pairs(a, b, directions=True, min_rows=2)
    between = (1.0 - _mean_cosine(first, second)) / 2
    within = (2.0 - mean_cosine(first) - mean_cosine(second)) / 4
    eps = max(first.unit_center.eps, second.unit_center.eps, 1.5e-8)
    if between + within <= 4 * eps**2:  # a cosine errs by eps^2
        raise DataError(
            "`a` and `b` hold one direction only, so the relative modality gap is 0/0; "
            "measure rows that differ"
        )
    return max(between, 0.0) / (max(between, 0.0) + max(within, 0.0))


def _mean_cosine(a: Cloud, b: Cloud) -> float:
    cosines = a.paired_with(b).cosines
    return float(namespace(cosines).mean(cosines))
