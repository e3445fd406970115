"""Networks: what they are made of, what comes out, and that they learn."""

from __future__ import annotations

import pytest
import torch

from partfit.errors import ComponentError, ConfigError
from partfit.landmarks import LandmarkScheme
from partfit.learning.backbones import BackboneConfig
from partfit.learning.distribution import LandmarkTargets
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.pipeline_config import Choice

SCHEME = LandmarkScheme("dots", [f"dot{i}" for i in range(7)])
SMALL = BackboneConfig("mobilenetv3_small_050")


def network(**options) -> LandmarkNetwork:
    torch.manual_seed(0)
    return LandmarkNetwork(NetworkConfig(SMALL, 32, **options), SCHEME)


@pytest.mark.parametrize("likelihood", ["ngll", "resll", "resll-exp"])
@pytest.mark.parametrize("visibility", [False, True])
def test_a_distribution_comes_out(likelihood, visibility):
    distribution = network(likelihood=Choice(likelihood), visibility=visibility).eval()(
        torch.rand(2, 3, 32, 32)
    )
    assert distribution.mean.shape == distribution.log_scale.shape == (2, 7, 2)
    assert (distribution.visibility is None) != visibility
    assert distribution.mean.abs().max() < 0.2
    assert (distribution.scale > 0.03).all()
    assert (distribution.scale < 0.1).all()
    if distribution.visibility is not None:
        assert distribution.visibility.shape == (2, 7)
        torch.testing.assert_close(distribution.visibility, torch.ones(2, 7), rtol=0, atol=0.1)


def test_positions_are_not_rounded_to_half_precision():
    net = network().eval()
    with torch.no_grad():
        net.head.initialise(torch.full((7, 2), 0.123456), torch.zeros(1, 7, 2))
    with torch.autocast("cpu", torch.bfloat16):
        mean = net(torch.rand(2, 3, 32, 32)).mean
    assert mean.dtype == torch.float32
    assert not torch.equal(mean, mean.bfloat16().float())


def test_it_learns_a_few_pictures_by_heart():
    net = network(visibility=True).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    targets = LandmarkTargets.of_points(torch.rand(8, 7, 2, generator=generator) - 0.5)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = net.likelihood(net(images), targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 3


def test_its_description_counts_every_parameter():
    net = network(head=Choice("mlp", {"hidden": [16]}), likelihood=Choice("resll"))
    about = net.describe()
    assert sum(about["parameters"].values()) == sum(p.numel() for p in net.parameters())
    assert about["parameters"]["head"] == (1024 + 1) * 16 + (16 + 1) * 7 * 4
    assert about["parameters"]["likelihood"] > 0
    assert {
        k: about[k] for k in ("backbone", "head", "likelihood", "landmarks", "features", "resolution")
    } == {
        "backbone": "mobilenetv3_small_050",
        "head": "mlp",
        "likelihood": "resll",
        "landmarks": 7,
        "features": [1024, 1, 1],
        "resolution": 32,
    }


def test_wrong_choices_are_named():
    with pytest.raises(
        ConfigError, match="likelihood: expected a loss that is a likelihood, found 'visibility'"
    ):
        network(likelihood=Choice("visibility"))
    with pytest.raises(ComponentError, match=r"No head named 'liner'\. Did you mean 'linear'"):
        network(head=Choice("liner"))
    with pytest.raises(ConfigError, match=r"linear\.rnak: unknown key"):
        network(head=Choice("linear", {"rnak": 3}))
    for size in (0, 2049):
        with pytest.raises(ConfigError, match=f"resolution: expected pixels, at most 2048, found {size}"):
            NetworkConfig(SMALL, size)
