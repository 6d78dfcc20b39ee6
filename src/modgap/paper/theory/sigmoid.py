"""The sigmoid loss of SigLIP, which judges every pair on its own, and its closed gradient."""

from __future__ import annotations

from dataclasses import dataclass

from modgap._core.arrays import Array, Float, namespace
from modgap._core.checks import check_number
from modgap.measures.softmax import TileSource
from modgap.paper.theory._scores import (
    Pair,
    accumulate,
    checked_scores,
    replayed,
    true_logits,
)

__all__ = ["SigmoidGradient", "sigmoid_gradient", "sigmoid_loss"]


@dataclass(frozen=True)
class SigmoidGradient:
    """The sigmoid loss and all of its first derivatives.

    Attributes
    ----------
    loss : float
    x, y : array (n, d)
        Derivatives by the rows; on the sphere those of ``loss(x / |x|, y / |y|)``.
    log_temperature, bias : float
        Derivatives by the logarithm of the temperature and by the bias.
    """

    loss: float
    x: Array
    y: Array
    log_temperature: float
    bias: float


def sigmoid_loss(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    bias: float = 0.0,
    metric: str = "ip",
    sphere: bool = True,
) -> float:
    """Return SigLIP's sigmoid loss: every pair judged on its own, true against false.

    ``L = -(1/n) sum_{k,i} log sigmoid(z_ki (s_ki / temperature + bias))`` with z = 1 on the true
    pairs and -1 elsewhere, s the inner product or minus the squared distance.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together.
    temperature : float
        Greater than zero; SigLIP's learned scale is its inverse, 10 at the start.
    bias : float
        SigLIP starts from -10.
    metric : {"euclidean", "ip"}
    sphere : bool
        Compare rows scaled to unit length, as SigLIP does.

    Returns
    -------
    float
        In nats per row, zero or more.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        As in `contrastive_loss`.

    Notes
    -----
    Zhai et al. (2023). Cost: n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> eye = np.eye(3)
    >>> round(sigmoid_loss(eye, eye, temperature=0.1, bias=-5.0), 4)
    0.0201
    """
    pair = checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    bias = check_number(bias, "bias")
    return _sigmoid_loss(pair, replayed(pair), bias)


def sigmoid_gradient(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    bias: float = 0.0,
    metric: str = "ip",
    sphere: bool = True,
) -> SigmoidGradient:
    """Return the sigmoid loss and its gradients in closed form.

    Parameters and errors as in `sigmoid_loss`. Cost: 4 n^2 d multiplications, O(block) memory.

    Notes
    -----
    With p = sigmoid of the logits, the derivative by a logit is (p - 1 on true pairs, p elsewhere)
    over n; what follows is the chain rule, in docs/theory.md.

    Examples
    --------
    >>> import numpy as np
    >>> eye = np.eye(3)
    >>> grad = sigmoid_gradient(eye, eye, temperature=0.1, bias=-5.0)
    >>> round(grad.bias, 5)  # more false pairs than true ones: the bias goes down
    0.00669
    """
    pair = checked_scores(x, y, temperature=temperature, metric=metric, sphere=sphere)
    return sigmoid_gradient_of(pair, check_number(bias, "bias"))


def sigmoid_gradient_of(pair: Pair, bias: float) -> SigmoidGradient:
    """Return the sigmoid loss and its gradients for a prepared pair (unchecked)."""
    source = replayed(pair)
    xp = namespace(pair.x)

    def weigh(rows: slice, logits: Array) -> Array:
        # exp(l - softplus(l)) is sigmoid(l) with all its digits, however negative l is
        return xp.exp(logits + bias - _softplus(logits + bias))

    total = accumulate(pair, source, weigh, 1.0)
    return SigmoidGradient(
        loss=_sigmoid_loss(pair, source, bias),
        x=total.x,
        y=total.y,
        log_temperature=-total.logits / pair.rows,
        bias=float(xp.sum(total.x_sums)) / pair.rows - 1.0,
    )


def _sigmoid_loss(pair: Pair, source: TileSource, bias: float) -> float:
    xp = namespace(pair.x)
    total = sum(float(xp.sum(_softplus(logits + bias))) for _, _, logits in source())
    # softplus(-l) = softplus(l) - l turns the true pairs' terms round
    return (total - float(xp.sum(true_logits(pair) + bias))) / pair.rows


def _softplus(values: Array) -> Array:
    xp = namespace(values)
    return xp.where(values > 0, values, xp.zeros_like(values)) + xp.log1p(xp.exp(-xp.abs(values)))
