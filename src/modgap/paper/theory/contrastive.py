"""The softmax contrastive loss of CLIP, its closed gradient, and the softmax mass of every point.

Exact arithmetic on two paired clouds, row i of `x` belonging to row i of `y`. The (n, n) matrix of
logits is made in blocks of rows and never kept, except by `softmax_matrices`, which is for small n.
"""

from __future__ import annotations

from dataclasses import dataclass

from modgap._core.arrays import Array, Float, namespace
from modgap.measures.softmax import log_normalizers, softmax_masses
from modgap.paper.theory._scores import (
    Pair,
    accumulate,
    checked_scores,
    replayed,
    true_logits,
)

__all__ = [
    "ContrastiveGradient",
    "SoftmaxMatrices",
    "SoftmaxSums",
    "contrastive_gradient",
    "contrastive_loss",
    "softmax_matrices",
    "softmax_sums",
]


@dataclass(frozen=True)
class SoftmaxMatrices:
    """The two softmax matrices of a pair of clouds, entry (k, i) for x_k and y_i.

    Attributes
    ----------
    over_x : array (n, n)
        Qx: normalized over k, every column sums to one. What y_i gives to each x_k.
    over_y : array (n, n)
        Qy: normalized over i, every row sums to one. What x_k gives to each y_i.
    """

    over_x: Array
    over_y: Array


@dataclass(frozen=True)
class SoftmaxSums:
    """Softmax mass that each point receives from the other cloud (the paper's S_i).

    Attributes
    ----------
    x : array (n,)
        Row sums of Qx: mass that all y give to x_k.
    y : array (n,)
        Column sums of Qy: mass that all x give to y_i. Either side sums to n, so its mean is one;
        a point far from the other cloud gets little.
    """

    x: Array
    y: Array

    @property
    def deviation(self) -> float:
        """Mean of ``|sum - 1|`` over both sides, in [0, 2); zero iff both are doubly stochastic."""
        xp = namespace(self.x)
        return 0.5 * float(xp.mean(xp.abs(self.x - 1.0)) + xp.mean(xp.abs(self.y - 1.0)))

    @property
    def max_deviation(self) -> float:
        """Largest ``|sum - 1|`` of both sides, in [0, n - 1]."""
        xp = namespace(self.x)
        return max(float(xp.max(xp.abs(self.x - 1.0))), float(xp.max(xp.abs(self.y - 1.0))))


@dataclass(frozen=True)
class ContrastiveGradient:
    """The contrastive loss and all of its first derivatives.

    Attributes
    ----------
    loss : float
    x, y : array (n, d)
        Derivatives by the rows; on the sphere those of ``loss(x / |x|, y / |y|)``, which for unit
        rows are the Riemannian (tangent) gradients.
    log_temperature : float
        Derivative by the logarithm of the temperature.
    sums : SoftmaxSums
    """

    loss: float
    x: Array
    y: Array
    log_temperature: float
    sums: SoftmaxSums


def contrastive_loss(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    metric: str = "euclidean",
    sphere: bool = False,
) -> float:
    """Return the symmetric softmax contrastive loss of two paired clouds.

    ``L = -(1/n) sum_i [log Qx(i, i) + log Qy(i, i)]``, with Qx and Qy the softmaxes, over x and
    over y, of ``-||x_k - y_i||^2 / temperature`` or of ``x_k . y_i / temperature``. It is the sum
    of the two directions, twice the mean that most CLIP code prints.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together. Computed in their own precision (half floats in float32).
    temperature : float
        Greater than zero. On the sphere squared distances at temperature t are inner products at
        t / 2.
    metric : {"euclidean", "ip"}
    sphere : bool
        Compare rows scaled to unit length.

    Returns
    -------
    float
        In nats, zero or more; 2 log n where no point can be told from another. A loss near zero
        does not mean that there is no gap.

    Raises
    ------
    ShapeError
        The clouds do not pair row by row.
    DataError
        Values are not finite floats, or a row of zeros is to be put on the sphere.
    ArgumentError
        An option is outside its range.

    Notes
    -----
    Equations 2 and 6 of Chowers et al. (2026). Cost: n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> gap = np.array([0.0, 3.0])
    >>> round(contrastive_loss(x, x, temperature=0.1), 6)
    9.1e-05
    >>> round(contrastive_loss(x, x + gap, temperature=0.1), 6)
    9.1e-05
    """
    pair = checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    over_y, over_x = log_normalizers(replayed(pair))
    return _softmax_loss(pair, over_y, over_x)


def softmax_matrices(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    metric: str = "euclidean",
    sphere: bool = False,
) -> SoftmaxMatrices:
    """Return both softmax matrices, each (n, n): for small n; `softmax_sums` is for large n.

    Parameters and errors as in `contrastive_loss`. Cost: n^2 d multiplications, O(n^2) memory.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> q = softmax_matrices(x, x + 0.5, temperature=1.0)
    >>> q.over_x.sum(axis=0).round(12).tolist(), q.over_y.sum(axis=1).round(12).tolist()
    ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """
    pair = checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    source = replayed(pair)
    over_y, over_x = log_normalizers(source)
    xp = namespace(pair.x)
    logits = xp.concat([block for _, _, block in source()])
    return SoftmaxMatrices(
        over_x=xp.exp(logits - over_x[None, :]), over_y=xp.exp(logits - over_y[:, None])
    )


def softmax_sums(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    metric: str = "euclidean",
    sphere: bool = False,
) -> SoftmaxSums:
    """Return the softmax mass that each point receives from the other cloud.

    Parameters and errors as in `contrastive_loss`. Cost: n^2 d multiplications, O(block) memory.

    Notes
    -----
    S_i of Chowers et al. (2026), the strength of the repulsion in their equation 7. All sums being
    one is what "Qx and Qy are doubly stochastic" says, and what Theorem 3.2 asks for.

    Examples
    --------
    A point of y that lies apart is given less than the others:

    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> y = np.array([[0.0], [1.0], [9.0]])
    >>> sums = softmax_sums(x, y, temperature=1.0)
    >>> sums.y.round(3).tolist(), round(sums.deviation, 3)
    ([1.047, 1.953, 0.0], 0.408)
    """
    return softmax_sums_of(
        checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    )


def contrastive_gradient(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    metric: str = "euclidean",
    sphere: bool = False,
) -> ContrastiveGradient:
    """Return the contrastive loss and its gradients in closed form.

    Parameters and errors as in `contrastive_loss`.

    Notes
    -----
    Equation 7 of Chowers et al. (2026), written out in docs/theory.md. For squared distances, with
    S_i and T_k the sums of `softmax_sums`,
    ``dL/dy_i = (2/(n t)) {sum_k (Qx + Qy)(k, i) x_k - 2 x_i + (1 - S_i) y_i}`` and
    ``dL/dx_k = (2/(n t)) {sum_i (Qx + Qy)(k, i) y_i - 2 y_k + (1 - T_k) x_k}``; for inner products
    ``dL/dy_i = (1/(n t)) {sum_k (Qx + Qy)(k, i) x_k - 2 x_i}``. Cost: 4 n^2 d multiplications,
    O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> grad = contrastive_gradient(x, x + np.array([0.0, 3.0]), temperature=0.1)
    >>> bool(abs(grad.y[:, 1]).max() < 1e-12)  # nothing pulls along the gap
    True
    """
    return contrastive_gradient_of(
        checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    )


def softmax_sums_of(pair: Pair) -> SoftmaxSums:
    """Return the softmax sums of a prepared pair (unchecked)."""
    return SoftmaxSums(*softmax_masses(replayed(pair)))


def contrastive_gradient_of(pair: Pair) -> ContrastiveGradient:
    """Return the softmax loss and its gradients for a prepared pair (unchecked)."""
    source = replayed(pair)
    over_y, over_x = log_normalizers(source)
    xp = namespace(pair.x)

    def weigh(rows: slice, logits: Array) -> Array:
        return xp.exp(logits - over_y[rows, None]) + xp.exp(logits - over_x[None, :])

    total = accumulate(pair, source, weigh, 2.0)
    return ContrastiveGradient(
        loss=_softmax_loss(pair, over_y, over_x),
        x=total.x,
        y=total.y,
        log_temperature=-total.logits / pair.rows,
        # rows of Qy and columns of Qx sum to one; rounding may leave less than nothing
        sums=SoftmaxSums(*(xp.clip(s - 1.0, min=0.0) for s in (total.x_sums, total.y_sums))),
    )


def _softmax_loss(pair: Pair, over_y: Array, over_x: Array) -> float:
    xp = namespace(pair.x)
    return float(xp.mean(over_y + over_x - 2.0 * true_logits(pair)))
