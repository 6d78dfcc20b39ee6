"""The layers of PyTorch against the maps they are made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import modgap
from modgap.closers import METHODS, AffineMap
from modgap.nn import ClosureModule, MapModule

pytestmark = pytest.mark.filterwarnings("ignore::modgap.errors.ClosureWarning")


@pytest.fixture
def clouds(rng):
    return rng.normal(size=(12, 16)) + 2, rng.normal(size=(12, 16))


def fitted(method, clouds):
    queries, gallery = clouds
    return modgap.fit(method, queries, gallery if method == "procrustes" else gallery[:5])


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_maps_as_the_closure_does(method, clouds):
    closure = fitted(method, clouds)
    for side in ("queries", "gallery"):
        layer = MapModule(getattr(closure, side), dtype=torch.float64)
        rows = torch.from_numpy(clouds[0])
        expected = getattr(closure, side)(clouds[0])
        assert layer.out_features == expected.shape[1]
        # Sums of sixteen products in another order, of numbers that grow to some tens.
        np.testing.assert_allclose(layer(rows).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "eps"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_half_floats_come_back_as_float32_unless_the_layer_is_half(dtype, eps, clouds):
    closure = fitted("affine", clouds)
    layer = MapModule(closure.queries)
    rows = torch.from_numpy(clouds[0]).to(getattr(torch, dtype))
    expected = closure.queries(rows.double())  # of the rows as they were rounded
    found = layer(rows)
    assert found.dtype == torch.float32
    # Sums of sixteen products of numbers below 1: rows of unit length, projected.
    assert (found.double() - expected).abs().max() <= 32 * 2**-23
    half = layer.to(rows.dtype)(rows)
    assert half.dtype == rows.dtype
    assert (half.double() - expected).abs().max() <= 32 * eps


def test_buffers_travel_and_nothing_is_learned(clouds, tmp_path):
    closure = fitted("erase", clouds)
    layer = MapModule(closure.queries)
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == {"offset", "left", "right", "diagonal"}
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = MapModule(fitted("erase", (clouds[0] + 1, clouds[1])).queries)
    rows = torch.from_numpy(clouds[0]).float()
    assert not torch.equal(other(rows), layer(rows))
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(other(rows), layer(rows))


def test_gradients_pass_through(clouds):
    rows = torch.from_numpy(clouds[0]).requires_grad_()
    layer = MapModule(fitted("center", clouds).queries, dtype=torch.float64)
    assert torch.autograd.gradcheck(layer, (rows[:2],))


@pytest.mark.parametrize("method", ["none", "affine", "center", "erase"])
def test_it_is_one_graph_without_breaks(method, clouds):
    layer = MapModule(fitted(method, clouds).queries)
    rows = torch.from_numpy(clouds[0]).float()
    exported = torch.export.export(layer, (rows,)).module()
    assert torch.equal(exported(rows), layer(rows))


def test_it_compiles(clouds):
    layer = MapModule(fitted("center", clouds).queries)
    rows = torch.from_numpy(clouds[0]).float()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(rows), layer(rows))


def test_a_closure_goes_to_a_device_as_a_module(clouds):
    closure = fitted("affine", clouds)
    there = closure.to("meta", torch.bfloat16)  # a device that every machine has
    assert isinstance(there, ClosureModule)
    rows = torch.empty(3, 16, device="meta")
    assert there(rows).device.type == there.gallery(rows).device.type == "meta"
    assert there.queries.offset.dtype == torch.bfloat16
    here = closure.to("cpu")
    rows = torch.from_numpy(clouds[0]).float()
    assert torch.equal(here(rows), here.queries(rows))
    assert here.queries.offset.dtype == torch.float32


def test_it_takes_stacks_and_says_what_it_is():
    layer = MapModule(
        AffineMap(width=3, left=np.eye(3)[:, :2], residual=False, normalize_input=True)
    )
    assert layer(torch.ones(2, 5, 3)).shape == (2, 5, 2)
    assert repr(layer) == "MapModule(3, 2, normalize_input=True)"
