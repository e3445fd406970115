"""Heads: shapes, how they start, and what a bottleneck does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit.config import from_dict
from partfit.errors import ConfigError
from partfit.landmarks import LandmarkScheme
from partfit.learning.heads import RAW_SCALE, FeatureShape, Head, LinearHead, MLPHead, raw_start


def scheme(n: int) -> LandmarkScheme:
    return LandmarkScheme("dots", [f"dot{i}" for i in range(n)])


HEADS: list[Head] = [
    LinearHead(),
    LinearHead(LinearHead.Config(rank=3)),
    MLPHead(),
    MLPHead(MLPHead.Config(hidden=(16, 8), activation="gelu", dropout=0.5, squeeze=2, rank=3)),
    MLPHead(MLPHead.Config(hidden=(), squeeze=2, activation="silu")),
]
IDS = ["linear", "linear-rank", "mlp", "mlp-all", "mlp-flat"]


@pytest.mark.parametrize("head", HEADS, ids=IDS)
@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    n=st.integers(1, 12),
    outputs=st.integers(4, 6),
    batch=st.integers(1, 3),
)
def test_outputs_have_the_shape_that_was_asked_for(head, shape, n, outputs, batch):
    module = head.module(FeatureShape(*shape), scheme(n), outputs)
    assert module(torch.randn(batch, *shape)).shape == (batch, n, outputs)


@pytest.mark.parametrize("head", HEADS, ids=IDS)
def test_a_fresh_head_puts_out_about_the_start(head):
    torch.manual_seed(0)
    module = head.module(FeatureShape(32, 2, 2), scheme(50), 5).eval()
    raw = module(torch.randn(8, 32, 2, 2))
    assert (raw - raw_start(5)).abs().max() < 0.1
    assert raw.std(dim=0).max() > 0  # it sees the features


def test_the_start_is_sensible_for_both_ways_to_a_scale():
    start = raw_start(5)
    assert start[:2].tolist() == [0.0, 0.0]
    assert start[2:4].tolist() == [RAW_SCALE, RAW_SCALE]
    for scale in (math.exp(RAW_SCALE), 1 / (1 + math.exp(-RAW_SCALE))):
        assert 0.03 < scale < 0.1
    assert 0.5 < start[4].sigmoid() < 0.9


@pytest.mark.parametrize("head", HEADS, ids=IDS)
def test_an_initialised_head_puts_out_about_the_mean(head):
    torch.manual_seed(0)
    n = 40
    module = head.module(FeatureShape(32, 2, 2), scheme(n), 4).eval()
    mean = torch.rand(n, 2) - 0.5
    module.initialise(mean, 0.1 * torch.randn(6, n, 2))
    raw = module(torch.randn(8, 32, 2, 2))
    assert (raw[..., :2] - mean).abs().max() < 0.15
    assert (raw[..., 2:] - RAW_SCALE).abs().max() < 0.1


@pytest.mark.parametrize("head", [HEADS[1], HEADS[3]], ids=["linear-rank", "mlp-all"])
def test_a_bottleneck_starts_within_the_directions_of_the_data(head):
    """With as many directions as the bottleneck has numbers, positions are mean + sums of directions."""
    torch.manual_seed(0)
    n = 40
    module = head.module(FeatureShape(32, 2, 2), scheme(n), 4).eval()
    mean, directions = torch.rand(n, 2) - 0.5, 0.1 * torch.randn(7, n, 2)
    module.initialise(mean, directions)
    offsets = (module(20 * torch.randn(8, 32, 2, 2))[..., :2] - mean).flatten(1)
    basis = directions[:3].flatten(1)  # the largest come first
    solution = torch.linalg.lstsq(basis.T, offsets.T).solution
    torch.testing.assert_close(basis.T @ solution, offsets.T, rtol=0, atol=1e-5)
    assert offsets.abs().max() > 0.01


def test_a_head_asks_for_as_many_directions_as_its_bottleneck_has_numbers():
    modules = [head.module(FeatureShape(32, 2, 2), scheme(40), 4) for head in HEADS[:4]]
    assert [module.n_directions for module in modules] == [0, 3, 0, 3]


def test_more_numbers_than_directions_leave_the_others_free():
    torch.manual_seed(0)
    module = LinearHead(LinearHead.Config(rank=8)).module(FeatureShape(16), scheme(5), 4)
    module.initialise(torch.zeros(5, 2), torch.randn(2, 5, 2))
    assert torch.linalg.matrix_rank(module(torch.randn(64, 16, 1, 1))[..., :2].flatten(1)) > 2


def test_a_bottleneck_is_cheap_where_landmarks_are_many():
    def weights(head: Head) -> int:
        module = head.module(FeatureShape(1280), scheme(1609), 5)
        return sum(parameter.numel() for parameter in module.parameters())

    full = weights(LinearHead())
    assert full == (1280 + 1) * 1609 * 5
    low = weights(LinearHead(LinearHead.Config(rank=64)))
    assert low == 3 * (1280 + 1) * 64 + (64 + 1) * 1609 * 5
    assert low < full / 13


def test_a_squeeze_keeps_where_things_are():
    """Two feature maps that differ by where their one bright place is give different outputs."""
    torch.manual_seed(0)
    module = MLPHead(MLPHead.Config(hidden=(), squeeze=3)).module(FeatureShape(8, 4, 4), scheme(5), 4)
    features = torch.zeros(2, 8, 4, 4)
    features[0, :, 0, 1] = features[1, :, 3, 2] = 5.0
    one, other = module(features)
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("head", HEADS[:3], ids=IDS[:3])
def test_a_head_learns(head):
    """Positions that depend on the features along one direction are found by a few steps of Adam."""
    torch.manual_seed(0)
    n, features = 10, torch.randn(64, 12, 1, 1)
    mean, direction = torch.rand(n, 2) - 0.5, 0.2 * torch.randn(n, 2)
    truth = mean + torch.tanh(features[:, 0]) * direction
    module = head.module(FeatureShape(12), scheme(n), 4)
    module.initialise(mean, direction[None])
    before = (module(features)[..., :2] - truth).square().mean()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (module(features)[..., :2] - truth).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * before


@pytest.mark.parametrize("options", [{"rank": 0}, {"hidden": (8, 0)}, {"dropout": 1.0}, {"squeeze": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        from_dict(MLPHead.Config, options)
    if "rank" in options:
        with pytest.raises(ConfigError, match="rank"):
            from_dict(LinearHead.Config, options)
