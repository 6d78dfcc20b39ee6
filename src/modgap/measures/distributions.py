"""Two clouds as distributions: how far apart as Gaussians, how well a plane tells them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, asarray_like, device, namespace, to_numpy
from modgap._core.checks import check_clouds, check_count, check_number
from modgap._core.clouds import cloud_moments, float64_rows, squared_length, subsample
from modgap._core.moments import Moments, principal_axes

__all__ = ["FrechetDistance", "frechet_distance", "linear_separability"]

_NEWTON_STEPS = 100


@dataclass(frozen=True)
class FrechetDistance:
    """Squared Fréchet distance of two Gaussians, and its two parts.

    Attributes
    ----------
    squared : float
        The sum of the two parts, >= 0.
    centroid : float
        |g|^2, the part that a shift of one cloud removes.
    shape : float
        What remains between the covariances after the shift, >= 0.
    """

    squared: float
    centroid: float
    shape: float

    @property
    def distance(self) -> float:
        """The distance itself, the square root of `squared`."""
        return math.sqrt(self.squared)


def frechet_distance(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> FrechetDistance:
    """Return the squared Fréchet distance between the clouds, taken as Gaussians, and its split.

    The 2-Wasserstein distance of two normal distributions with the clouds' means and covariances.
    Embeddings are not normal, so it is a lower bound of the clouds' own Wasserstein distance. With
    fewer rows than dimensions the shape part comes mostly from the sample: compare equal counts.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        The clouds do not fit together, hold NaN or infinity, or a row to be normalised has no
        direction.

    Notes
    -----
    |g|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2) with A, B the population covariances, sums
    over n rather than n - 1 (Dowson & Landau, "The Fréchet distance between multivariate normal
    distributions", 1982; used for images by Heusel et al., 2017, with n - 1). The last trace is
    the sum of the singular values of A^1/2 B^1/2, which needs no inverse and takes singular
    covariances. Cost: (m + n) d^2 + d^3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> found = frechet_distance(3 * x + [2.0, 0.0], x, normalize=False)
    >>> round(found.squared, 6), round(found.centroid, 6), round(found.shape, 6)
    (8.0, 4.0, 4.0)
    """
    queries, gallery = check_clouds(queries, gallery, zero_rows=not normalize)
    return frechet_of(
        cloud_moments(queries, normalize=normalize), cloud_moments(gallery, normalize=normalize)
    )


def frechet_of(queries: Moments, gallery: Moments) -> FrechetDistance:
    """Return the Fréchet distance from the two clouds' moments."""
    centroid = squared_length(queries.mean - gallery.mean)
    spread = queries.total_variance + gallery.total_variance
    shape = max(spread - 2 * _fidelity(queries, gallery), 0.0)
    return FrechetDistance(squared=centroid + shape, centroid=centroid, shape=shape)


def _fidelity(first: Moments, second: Moments) -> float:
    """Return tr((A^1/2 B A^1/2)^1/2) = the nuclear norm of A^1/2 B^1/2, A and B the covariances."""
    a, b = principal_axes(first), principal_axes(second)
    if not a.variances.shape[0] or not b.variances.shape[0]:
        return 0.0
    xp = namespace(a.axes, b.axes)
    left = xp.sqrt(a.variances / first.count)[:, None]
    right = xp.sqrt(b.variances / second.count)[None, :]
    core = left * xp.matmul(a.axes.T, b.axes) * right
    return float(xp.sum(xp.linalg.svdvals(core)))


def linear_separability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    normalize: bool = True,
    test_share: float = 0.25,
    penalty: float = 1.0,
    sample: int | None = 5000,
    seed: int = 0,
) -> float:
    """Return the held-out balanced accuracy of a linear probe between the clouds, in [0, 1].

    1/2 where no plane separates the modalities, 1 where one does. Any gap that is large against
    the clouds' spread along it gives 1, so the figure soon saturates: it says that there is a gap,
    not how large. In few rows and many dimensions the held-out rows are few, so a test share of
    1/n is the smallest step.

    Parameters
    ----------
    queries : array (m, d), floating
        m >= 2.
    gallery : array (n, d), floating
        n >= 2.
    normalize : bool
        Scale the rows to unit length first.
    test_share : float
        Share of each cloud that is held out, in (0, 1]; one row at least stays on either side.
    penalty : float
        Weight of |w|^2 / 2 against the sum of the rows' losses, > 0: the inverse of scikit-learn's
        C.
    sample : int, optional
        Use at most this many rows of each cloud, drawn without replacement; None for all.
    seed : int
        Seed of the draw and of the split.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        An option is out of range, the clouds do not fit together, have one row, hold NaN or
        infinity, or a row to be normalised has no direction.

    Notes
    -----
    Logistic regression with an L2 penalty (not on the intercept), fitted by Newton's method to
    convergence; both clouds weigh the same, whatever their sizes, as with scikit-learn's
    class_weight="balanced". Used for the modality gap by Shi et al., 2023, and Fahim et al., 2024.
    Cost: (m + n) d^2 + d^3 for each of about ten steps, with m and n after the draw.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(80, 4))
    >>> linear_separability(x + [5.0, 0, 0, 0], x, normalize=False) > 0.95
    True
    """
    test_share = check_number(test_share, "test_share", low=0.0, high=1.0, open_low=True)
    penalty = check_number(penalty, "penalty", low=0.0, open_low=True)
    check_count(seed, "seed", low=0)
    queries, gallery = check_clouds(queries, gallery, min_rows=2, zero_rows=not normalize)
    xp = namespace(queries, gallery)
    train, test = [], []
    for side, cloud in enumerate((queries, gallery)):
        rows = float64_rows(subsample(cloud, sample, seed), normalize=normalize)
        order = np.random.default_rng((seed, side)).permutation(rows.shape[0])
        held = min(max(round(test_share * len(order)), 1), len(order) - 1)
        test.append(xp.take(rows, asarray_like(order[:held], rows), axis=0))
        train.append(xp.take(rows, asarray_like(order[held:], rows), axis=0))
    weights = fit_probe(train[0], train[1], penalty=penalty)
    recalls = [
        float(np.mean(sign * to_numpy(probe_scores(rows, weights)) > 0))
        for rows, sign in zip(test, (1.0, -1.0), strict=True)
    ]
    return sum(recalls) / 2


def probe_scores(rows: Array, weights: Array) -> Array:
    """Return the signed scores of a probe, above zero on the side of the queries, shape (rows,)."""
    xp = namespace(rows, weights)
    return xp.matmul(rows, weights[:-1]) + weights[-1]


def fit_probe(queries: Array, gallery: Array, *, penalty: float) -> Array:
    """Return weights and intercept, shape (d + 1,), of a balanced L2-penalised logistic regression.

    Minimises penalty |w|^2 / 2 + sum_i c_i log(1 + exp(-s_i (x_i.w + b))), s = +1 for the queries,
    and c_i the total row count over twice that of the row's cloud.
    """
    xp = namespace(queries, gallery)
    m, n = int(queries.shape[0]), int(gallery.shape[0])
    rows = xp.concat([queries, -gallery], axis=0)
    intercept = asarray_like(np.repeat([1.0, -1.0], [m, n]), rows)
    signed = xp.concat([rows, intercept[:, None]], axis=1)
    share = asarray_like(np.repeat([(m + n) / (2 * m), (m + n) / (2 * n)], [m, n]), rows)
    ridge = asarray_like(np.append(np.full(rows.shape[1], penalty), 0.0), rows)
    return _newton(signed, share, ridge)


def _newton(signed: Array, share: Array, ridge: Array) -> Array:
    xp = namespace(signed)

    def loss(weights: Array) -> float:
        fit = xp.sum(share * _softplus(-xp.matmul(signed, weights)))
        return float(fit + xp.sum(ridge * weights * weights) / 2)

    weights = xp.zeros_like(ridge)
    value = loss(weights)
    for _ in range(_NEWTON_STEPS):
        gradient, hessian = _derivatives(signed, share, ridge, weights)
        step = xp.linalg.solve(hessian, gradient[:, None])[:, 0]
        decrement = float(xp.sum(step * gradient))
        if decrement <= 1e-20 * max(1.0, value):  # twice the distance to the minimum
            return weights
        size = 1.0
        while size > 1e-10 and loss(weights - size * step) > value - 1e-4 * size * decrement:
            size /= 2
        if size <= 1e-10:  # nothing but rounding is left to gain
            return weights
        weights = weights - size * step
        value = loss(weights)
    return weights


def _derivatives(signed: Array, share: Array, ridge: Array, weights: Array) -> tuple[Array, Array]:
    xp = namespace(signed)
    margins = xp.matmul(signed, weights)
    wrong = xp.exp(-_softplus(margins))  # 1 / (1 + exp(margin)), without overflow
    gradient = ridge * weights - xp.matmul(signed.T, share * wrong)
    curvature = share * wrong * (1 - wrong)
    hessian = xp.matmul(signed.T, curvature[:, None] * signed)
    size = int(ridge.shape[0])
    return gradient, hessian + ridge[:, None] * xp.eye(
        size, dtype=ridge.dtype, device=device(ridge)
    )


def _softplus(values: Array) -> Array:
    xp: Any = namespace(values)
    return xp.logaddexp(xp.zeros_like(values), values)
