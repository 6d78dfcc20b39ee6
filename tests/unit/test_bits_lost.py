"""The gap in bits as a loss: the number of `gap_in_bits`, its gradient, and what descent makes of it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import modgap  # noqa: E402
from modgap.nn import bits_lost  # noqa: E402


def clouds(rng, m, n, d):
    """Rows of unit length, two cones of unlike shapes."""
    queries = rng.normal(size=(m, d)) * np.linspace(0.2, 2, d) + 1
    gallery = rng.normal(size=(n, d)) + rng.normal(size=d)
    return [
        torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (queries, gallery)
    ]


@pytest.mark.parametrize(("m", "n", "d"), [(50, 60, 8), (40, 12, 20), (9, 30, 12)])
def test_it_is_the_measure(rng, m, n, d):
    """Full rank, and fewer rows than dimensions on either side."""
    queries, gallery = clouds(rng, m, n, d)
    found = modgap.gap_in_bits(queries.numpy(), gallery.numpy())
    # Square roots of eigenvalues there, singular values here: half of float64's digits where one vanishes.
    assert float(bits_lost(queries, gallery)) == pytest.approx(found.cost, abs=1e-7)
    assert float(bits_lost(queries, gallery, means=False)) == pytest.approx(found.shapes, abs=1e-7)
    low = bits_lost(queries.bfloat16(), gallery.bfloat16())
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(found.cost, abs=0.02)  # rows of three digits


@pytest.mark.parametrize("means", [True, False])
@pytest.mark.parametrize(("m", "n"), [(7, 9), (3, 4)])
def test_its_gradient_is_that_of_finite_differences(rng, m, n, means):
    queries, gallery = (rows.requires_grad_() for rows in clouds(rng, m, n, 5))
    assert torch.autograd.gradcheck(lambda y, x: bits_lost(y, x, means=means), (queries, gallery))


def test_equal_rows_and_repeated_directions_have_finite_gradients(rng):
    queries, gallery = clouds(rng, 6, 8, 4)
    gallery = torch.cat([gallery, gallery]) * torch.tensor([1.0, 1.0, 0.0, 0.0])
    gallery.requires_grad_()
    bits_lost(queries, gallery).backward()
    assert torch.isfinite(gallery.grad).all()


def test_it_vanishes_where_second_moments_are_in_proportion():
    turned = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3).cos()).Q
    rows = (
        torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)]) @ turned
    )
    assert float(bits_lost(3 * rows, rows)) == pytest.approx(0, abs=1e-12)
    assert float(bits_lost(rows, rows + turned[0])) == pytest.approx(0.5, abs=1e-12)


def test_descent_on_it_closes_the_gap(rng):
    queries, gallery = clouds(rng, 40, 40, 6)
    before = modgap.gap_in_bits(queries.numpy(), gallery.numpy(), metric="ip")
    for _ in range(40):
        queries, gallery = (rows.detach().requires_grad_() for rows in (queries, gallery))
        loss = (bits_lost(queries, gallery) + bits_lost(gallery, queries)) / 2
        steps = torch.autograd.grad(loss, (queries, gallery))
        queries, gallery = (
            rows - 4 * step for rows, step in zip((queries, gallery), steps, strict=True)
        )
    after = modgap.gap_in_bits(queries.detach().numpy(), gallery.detach().numpy(), metric="ip")
    assert before.cost > 0.5
    assert after.cost < 0.05
