"""Losses and closed gradients against loops, autograd and finite differences."""

import importlib
import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from modgap._core.arrays import block_slices, to_numpy
from modgap.measures.matching import doubly_stochastic_deviation
from modgap.paper import theory
from modgap.paper.theory import _scores

SETTINGS = [
    pytest.param("euclidean", False, id="euclidean"),
    pytest.param("euclidean", True, id="euclidean-sphere"),
    pytest.param("ip", False, id="ip"),
    pytest.param("ip", True, id="ip-sphere"),
]
TEMPERATURE, BIAS = 0.7, -0.3


@pytest.fixture
def clouds(rng):
    return rng.normal(size=(12, 5)), rng.normal(size=(12, 5)) + 1.0


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of five rows or so, so that small clouds already span several."""
    monkeypatch.setattr(_scores, "block_slices", partial(block_slices, elements=64))


def scores_by_loop(x, y, metric, sphere):
    if sphere:
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    if metric == "ip":
        return np.array([[a @ b for b in y] for a in x])
    return np.array([[-np.sum((a - b) ** 2) for b in y] for a in x])


def contrastive_by_loop(x, y, metric, sphere, temperature=TEMPERATURE):
    logits = scores_by_loop(x, y, metric, sphere) / temperature
    over_x = np.diag(logits) - logsumexp(logits, axis=0)
    over_y = np.diag(logits) - logsumexp(logits, axis=1)
    return -np.mean(over_x + over_y)


def sigmoid_by_loop(x, y, metric, sphere, temperature=TEMPERATURE, bias=BIAS):
    logits = scores_by_loop(x, y, metric, sphere) / temperature + bias
    signs = 2 * np.eye(len(x)) - 1
    return -np.sum(np.log(expit(signs * logits))) / len(x)


def torch_gradients(x, y, metric, sphere, loss):
    torch = pytest.importorskip("torch")
    leaves = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in (x, y, np.log(TEMPERATURE), BIAS)
    ]
    a, b = (v / v.norm(dim=1, keepdim=True) if sphere else v for v in leaves[:2])
    scores = a @ b.T if metric == "ip" else -((a[:, None] - b[None]) ** 2).sum(-1)
    logits = scores / leaves[2].exp()
    if loss == "softmax":
        parts = torch.log_softmax(logits, 0).diagonal() + torch.log_softmax(logits, 1).diagonal()
        value = -parts.mean()
    else:
        signs = 2 * torch.eye(len(x), dtype=torch.float64) - 1
        value = -torch.nn.functional.logsigmoid(signs * (logits + leaves[3])).sum() / len(x)
    value.backward()
    return [leaf.grad.numpy() if leaf.grad is not None else 0.0 for leaf in leaves]


def jax_gradients(x, y, metric, sphere, loss):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = importlib.import_module("jax.numpy")

    def value(a, b, log_temperature, bias):
        if sphere:
            a, b = (v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        scores = a @ b.T if metric == "ip" else -((a[:, None] - b[None]) ** 2).sum(-1)
        logits = scores / jnp.exp(log_temperature)
        if loss == "softmax":
            parts = jax.nn.log_softmax(logits, 0) + jax.nn.log_softmax(logits, 1)
            return -jnp.mean(jnp.diagonal(parts))
        signs = 2 * jnp.eye(len(x)) - 1
        return -jnp.sum(jax.nn.log_sigmoid(signs * (logits + bias))) / len(x)

    found = jax.grad(value, argnums=(0, 1, 2, 3))(
        jnp.asarray(x), jnp.asarray(y), jnp.log(TEMPERATURE), jnp.asarray(BIAS)
    )
    return [np.asarray(part) for part in found]


def closed_gradients(x, y, metric, sphere, loss):
    options = {"temperature": TEMPERATURE, "metric": metric, "sphere": sphere}
    if loss == "softmax":
        found = theory.contrastive_gradient(x, y, **options)
        return [found.x, found.y, found.log_temperature, 0.0]
    found = theory.sigmoid_gradient(x, y, bias=BIAS, **options)
    return [found.x, found.y, found.log_temperature, found.bias]


@pytest.mark.parametrize(("metric", "sphere"), SETTINGS)
class TestAgainstDefinitions:
    def test_contrastive_loss_is_the_definition(self, metric, sphere, clouds):
        expected = contrastive_by_loop(*clouds, metric, sphere)
        found = theory.contrastive_loss(
            *clouds, temperature=TEMPERATURE, metric=metric, sphere=sphere
        )
        assert found == pytest.approx(expected, rel=1e-13)
        gradient = theory.contrastive_gradient(
            *clouds, temperature=TEMPERATURE, metric=metric, sphere=sphere
        )
        assert gradient.loss == pytest.approx(expected, rel=1e-13)

    def test_sigmoid_loss_is_the_definition(self, metric, sphere, clouds):
        expected = sigmoid_by_loop(*clouds, metric, sphere)
        options = {"temperature": TEMPERATURE, "bias": BIAS, "metric": metric, "sphere": sphere}
        assert theory.sigmoid_loss(*clouds, **options) == pytest.approx(expected, rel=1e-13)
        assert theory.sigmoid_gradient(*clouds, **options).loss == pytest.approx(
            expected, rel=1e-13
        )

    @pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
    def test_gradients_equal_torch_autograd(self, metric, sphere, loss, clouds):
        expected = torch_gradients(*clouds, metric, sphere, loss)
        for found, wanted in zip(
            closed_gradients(*clouds, metric, sphere, loss), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
    def test_gradients_equal_jax_autograd(self, metric, sphere, loss, clouds):
        expected = jax_gradients(*clouds, metric, sphere, loss)
        for found, wanted in zip(
            closed_gradients(*clouds, metric, sphere, loss), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
    def test_gradients_equal_central_differences(self, metric, sphere, loss, clouds, rng):
        by_loop = contrastive_by_loop if loss == "softmax" else sigmoid_by_loop
        found = closed_gradients(*clouds, metric, sphere, loss)
        step = 1e-5  # truncation ~ step^2 and rounding ~ 1e-16 / step are both near 1e-10
        for side in (0, 1):
            for _ in range(4):
                towards = rng.normal(size=clouds[side].shape)
                ends = []
                for sign in (1, -1):
                    moved = [*clouds]
                    moved[side] = moved[side] + sign * step * towards
                    ends.append(by_loop(*moved, metric, sphere))
                slope = (ends[0] - ends[1]) / (2 * step)
                assert np.sum(found[side] * towards) == pytest.approx(slope, rel=1e-6)
        hot, cold = (
            by_loop(*clouds, metric, sphere, TEMPERATURE * np.exp(s)) for s in (step, -step)
        )
        assert found[2] == pytest.approx((hot - cold) / (2 * step), rel=1e-6)
        if loss == "sigmoid":
            ends = [by_loop(*clouds, metric, sphere, TEMPERATURE, BIAS + s) for s in (step, -step)]
            assert found[3] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)

    def test_matrices_and_sums_are_softmaxes(self, metric, sphere, clouds):
        options = {"temperature": TEMPERATURE, "metric": metric, "sphere": sphere}
        logits = scores_by_loop(*clouds, metric, sphere) / TEMPERATURE
        matrices = theory.softmax_matrices(*clouds, **options)
        np.testing.assert_allclose(
            matrices.over_x, np.exp(logits - logsumexp(logits, 0)), rtol=1e-12
        )
        np.testing.assert_allclose(
            matrices.over_y, np.exp(logits - logsumexp(logits, 1)[:, None]), rtol=1e-12
        )
        sums = theory.softmax_sums(*clouds, **options)
        np.testing.assert_allclose(sums.x, matrices.over_x.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(sums.y, matrices.over_y.sum(axis=0), rtol=1e-12)
        gradient = theory.contrastive_gradient(*clouds, **options)
        np.testing.assert_allclose(gradient.sums.x, sums.x, atol=1e-14)
        np.testing.assert_allclose(gradient.sums.y, sums.y, atol=1e-14)

    def test_blocks_change_nothing(self, metric, sphere, clouds, request):
        options = {"temperature": TEMPERATURE, "metric": metric, "sphere": sphere}
        functions = (
            theory.contrastive_gradient,
            theory.sigmoid_gradient,
            theory.softmax_sums,
            theory.softmax_matrices,
        )
        whole = [function(*clouds, **options) for function in functions]
        loss = theory.contrastive_loss(*clouds, **options)
        request.getfixturevalue("small_blocks")
        pair = _scores.checked_scores(*clouds, **options)
        assert len(list(_scores.logit_blocks(pair))) == 3
        for function, expected in zip(functions, whole, strict=True):
            found = function(*clouds, **options)
            for name, value in vars(expected).items():
                if name == "sums":
                    np.testing.assert_allclose(found.sums.x, value.x, atol=1e-14)
                    np.testing.assert_allclose(found.sums.y, value.y, atol=1e-14)
                else:
                    np.testing.assert_allclose(getattr(found, name), value, rtol=1e-11, atol=1e-14)
        assert theory.contrastive_loss(*clouds, **options) == pytest.approx(loss, rel=1e-13)


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_riemannian_gradient_is_tangent(metric, clouds):
    found = theory.contrastive_gradient(
        *clouds, temperature=TEMPERATURE, metric=metric, sphere=True
    )
    np.testing.assert_allclose(np.sum(found.y * clouds[1], axis=1), 0.0, atol=1e-14)


class TestArrays:
    def test_every_library_gives_the_same(self, clouds, xp, to_xp):
        expected = theory.contrastive_gradient(*clouds, temperature=TEMPERATURE)
        found = theory.contrastive_gradient(*map(to_xp, clouds), temperature=TEMPERATURE)
        assert isinstance(found.x, type(to_xp(clouds[0])))
        assert found.y.dtype == xp.float64
        np.testing.assert_allclose(to_numpy(found.y), expected.y, rtol=1e-12)
        assert found.loss == pytest.approx(expected.loss, rel=1e-13)
        sigmoid = theory.sigmoid_gradient(*map(to_xp, clouds), temperature=TEMPERATURE, bias=BIAS)
        wanted = theory.sigmoid_gradient(*clouds, temperature=TEMPERATURE, bias=BIAS)
        np.testing.assert_allclose(to_numpy(sigmoid.x), wanted.x, rtol=1e-12)
        sums = theory.softmax_sums(*map(to_xp, clouds), temperature=TEMPERATURE)
        assert sums.deviation == pytest.approx(expected.sums.deviation, rel=1e-12)
        assert sums.max_deviation == pytest.approx(expected.sums.max_deviation, rel=1e-12)

    @pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
    def test_short_floats_are_computed_in_float32(self, clouds, dtype, tolerance):
        expected = theory.contrastive_gradient(*clouds, temperature=TEMPERATURE)
        short = [cloud.astype(dtype) for cloud in clouds]
        found = theory.contrastive_gradient(*short, temperature=TEMPERATURE)
        assert found.x.dtype == np.float32
        np.testing.assert_allclose(found.x, expected.x, atol=tolerance)

    def test_never_holds_the_matrix(self, rng, monkeypatch):
        n = 3000
        monkeypatch.setattr(_scores, "block_slices", partial(block_slices, elements=1 << 17))
        x, y = rng.normal(size=(2, n, 4))
        tracemalloc.start()
        theory.contrastive_gradient(x, y, temperature=TEMPERATURE)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < n * n * 8 / 6  # 72 MB would be the matrix; a block is 1 MB


class TestEdges:
    def test_safe_at_extreme_logits(self, clouds):
        for temperature in (1e-12, 1e12):
            found = theory.contrastive_gradient(*clouds, temperature=temperature)
            assert np.isfinite(found.loss)
            assert np.isfinite(found.x).all()
            sigmoid = theory.sigmoid_gradient(*clouds, temperature=temperature, sphere=False)
            assert np.isfinite(sigmoid.loss)
            assert np.isfinite(sigmoid.x).all()

    def test_distances_keep_their_digits_far_from_zero(self, clouds):
        far = [cloud + 1e6 for cloud in clouds]
        expected = theory.contrastive_loss(*clouds, temperature=TEMPERATURE)
        # 1e6 takes ten of sixteen digits from the input itself
        found = theory.contrastive_loss(*far, temperature=TEMPERATURE)
        assert found == pytest.approx(expected, rel=1e-8)

    def test_one_pair_has_nothing_to_tell_apart(self):
        found = theory.contrastive_gradient([[1.0, 2.0]], [[0.0, 1.0]], temperature=0.1)
        assert found.loss == 0.0
        assert not found.x.any()

    def test_equal_points_cost_two_log_n(self):
        same = np.ones((7, 3))
        assert theory.contrastive_loss(same, same, temperature=0.1) == pytest.approx(2 * np.log(7))

    def test_deviation_is_the_gap_modules(self, clouds):
        sums = theory.softmax_sums(*clouds, temperature=TEMPERATURE)
        other = doubly_stochastic_deviation(
            clouds[1], clouds[0], temperature=TEMPERATURE, normalize=False
        )
        assert sums.deviation == pytest.approx((other.gallery_mean + other.queries_mean) / 2)
        assert sums.max_deviation == pytest.approx(max(other.gallery_max, other.queries_max))
