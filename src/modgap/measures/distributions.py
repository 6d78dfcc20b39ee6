"""Two clouds as distributions: how far apart as Gaussians, how well a plane tells them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, Float, asarray_like, namespace, to_numpy
from modgap._core.checks import check_count, check_number
from modgap._core.clouds import squared_length
from modgap._core.moments import Moments, principal_axes
from modgap._core.opening import open_clouds

__all__ = ["FrechetDistance", "frechet_distance", "linear_separability"]

#: Slope of a row's loss, in units of the rows' root mean square, at which the probe's fit ends.
_SLOPE = 1e-11


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
    ours, theirs = open_clouds(queries, gallery, normalize=normalize)
    centroid = squared_length(ours.center.mean - theirs.center.mean)
    spread = ours.center.variance + theirs.center.variance
    shape = max(spread - 2 * _fidelity(ours.moments, theirs.moments), 0.0)
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
    Logistic regression with an L2 penalty (not on the intercept), fitted by L-BFGS to convergence;
    both clouds weigh the same, whatever their sizes, as with scikit-learn's
    class_weight="balanced". Used for the modality gap by Shi et al., 2023, and Fahim et al., 2024.
    Cost: 4 (m + n) d for each of some thirty steps, with m and n after the draw.

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
    clouds = open_clouds(queries, gallery, normalize=normalize, min_rows=2)
    train, test = [], []
    for side, cloud in enumerate(clouds):
        rows = cloud.sample(sample, seed).block(slice(None))
        xp = namespace(rows)
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
    and c_i the total row count over twice that of the row's cloud. The rows stay where they are;
    SciPy sees the d + 1 weights.
    """
    from scipy import optimize

    xp = namespace(queries, gallery)
    m, n = int(queries.shape[0]), int(gallery.shape[0])
    rows = xp.concat([queries, gallery], axis=0)
    # About their mean, which the intercept takes up, and of size one: L-BFGS minds scales.
    origin = xp.mean(rows, axis=0)
    rows = rows - origin
    size = math.sqrt(squared_length(xp.reshape(rows, (-1,))) / (m + n)) or 1.0
    sign = asarray_like(np.repeat([1.0, -1.0], [m, n]), rows)
    signed = xp.concat([rows / size, xp.ones_like(sign)[:, None]], axis=1) * sign[:, None]
    share = asarray_like(np.repeat([(m + n) / (2 * m), (m + n) / (2 * n)], [m, n]), rows)
    ridge = np.append(np.full(rows.shape[1], penalty / size**2), 0.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = xp.matmul(signed, asarray_like(weights, rows))
        losses = xp.logaddexp(xp.zeros_like(margins), -margins)
        value = float(xp.sum(share * losses))
        wrong = xp.exp(-margins - losses)  # 1 / (1 + exp(margin)), without overflow
        pull = to_numpy(xp.matmul(signed.T, share * wrong))
        return value + float(ridge @ weights**2) / 2, ridge * weights - pull

    options = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 20, "ftol": 0.0}
    found = optimize.minimize(
        loss,
        np.zeros(ridge.shape[0]),
        jac=True,
        method="L-BFGS-B",
        options={**options, "gtol": _SLOPE * (m + n)},
    )
    weights = asarray_like(found.x[:-1] / size, rows)
    intercept = asarray_like(found.x[-1:], rows) - xp.sum(weights * origin)
    return xp.concat([weights, intercept])
