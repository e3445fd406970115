"""The flow: invertible, with a true determinant, and samples of its own density."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit_likelihoods.flow import RealNVP


def stirred(layers=6, hidden=16, seed=0, spread=0.3):
    """A flow that is far from the identity, in float64."""
    generator = torch.Generator().manual_seed(seed)
    flow = RealNVP(layers, hidden).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return flow.requires_grad_(False)


def test_a_new_flow_is_the_identity():
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    for layers in (1, 5, 6):
        flow = RealNVP(layers, 8)
        for moved, log_det in (flow(z), flow.inverse(z)):
            assert torch.equal(moved, z)
            assert not log_det.any()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 7),
    st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 2), min_size=1, max_size=8),
)
def test_inverse_and_forward_undo_each_other(seed, layers, points):
    flow = stirred(layers, seed=seed)
    z = torch.tensor(points, dtype=torch.float64)
    x, forward = flow(z)
    back, inverse = flow.inverse(x)
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse, -forward, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layers", [1, 2, 5, 6])
def test_the_determinant_is_that_of_automatic_differentiation(layers):
    flow = stirred(layers)
    assert max((flow(z)[0] - z).abs().max() for z in [torch.randn(9, 2)]) > 0.1
    points = 3 * torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for direction in (flow, flow.inverse):
        _, log_det = direction(points)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda z, f=direction: f(z[None])[0][0]))(points)
        torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)


def test_samples_match_the_density():
    """Frequencies in bins of 400,000 samples, against the density integrated over each bin."""
    flow = stirred(spread=0.4)
    z = torch.randn(400_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, _ = flow(z)
    edges = [np.quantile(x[:, axis], [0.02, 0.98]) for axis in (0, 1)]
    bins = [np.linspace(low, high, 16) for low, high in edges]
    found, *_ = np.histogram2d(x[:, 0], x[:, 1], bins=bins)
    fine = [np.linspace(low, high, 15 * 16 + 1) for low, high in edges]
    middles = [(axis[1:] + axis[:-1]) / 2 for axis in fine]
    grid = torch.tensor(np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)).reshape(-1, 2)
    back, log_det = flow.inverse(grid)
    density = (log_det - 0.5 * back.square().sum(dim=1)).exp() / (2 * np.pi)
    mass = density.numpy().reshape(15, 16, 15, 16).sum(axis=(1, 3))
    expected = mass * (fine[0][1] - fine[0][0]) * (fine[1][1] - fine[1][0]) * len(x)
    filled = expected > 20
    assert filled.sum() > 50
    assert (((found - expected) ** 2 / expected)[filled]).mean() == pytest.approx(1, abs=0.35)


def test_it_computes_in_float32_whatever_surrounds_it():
    flow = stirred().float()
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    expected, expected_det = flow.inverse(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, found_det = flow.inverse(x)
    assert torch.equal(found, expected)
    assert torch.equal(found_det, expected_det)
    halved, _ = flow.half().inverse(x.half())
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, expected, rtol=0.02, atol=0.02)


def test_points_far_out_are_stretched_by_a_bounded_amount():
    flow = stirred(layers=6, spread=3.0)
    far = 1e12 * torch.eye(2, dtype=torch.float64)
    for moved, log_det in (flow(far), flow.inverse(far)):
        assert torch.isfinite(moved).all()
        assert (log_det.abs() <= 6).all()
        assert (moved.norm(dim=1) <= 1e12 * np.exp(3) * 1.01).all()
