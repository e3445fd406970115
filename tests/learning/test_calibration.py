"""Calibration: factors that are known are found, and make the errors as large as their scales."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from partfit.errors import ConfigError, InputError
from partfit.learning.calibration import Calibration, calibrate
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets

RESIDUAL = torch.tensor([2.0, 0.5])  # of the likelihood's density


class Told(nn.Module):
    """A network that says of each batch what it is told: the crops are the numbers of the batches."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.likelihood = types.SimpleNamespace(deviation=lambda: RESIDUAL)

    def forward(self, images):
        assert not self.training
        return self.answers[int(images.flatten()[0])]


def world(visible=(2.0, 3.0), hidden=(5.0, 7.0), logit=None, batches=4):
    """Predictions whose errors are known factors of what their scales say, and the truth."""
    generator = torch.Generator().manual_seed(0)
    answers, truth = [], []
    for k in range(batches):
        shape = (16, 500, 2)
        log_scale = 0.5 * torch.randn(shape, generator=generator) - 4
        seen = torch.rand(shape[:2], generator=generator) < 0.7
        factor = torch.where(seen[..., None], torch.tensor(visible), torch.tensor(hidden))
        error = torch.randn(shape, generator=generator) * log_scale.exp() * RESIDUAL * factor
        mean = torch.rand(shape, generator=generator) - 0.5
        told = None if logit is None else torch.where(seen, logit, -logit)
        answers.append(LandmarkDistribution(mean, log_scale, told))
        targets = LandmarkTargets(mean + error, torch.ones(shape[:2]), seen.float())
        truth.append(types.SimpleNamespace(images=torch.full((16, 3, 1, 1), k), targets=targets))
    return Told(answers).train(), truth


def ratio(network, calibration, batches):
    z = torch.cat(
        [
            (batch.targets.points - answer.mean) / calibration.deviation(answer, RESIDUAL)
            for batch, answer in zip(batches, network.answers, strict=True)
        ]
    )
    return z.square().mean(dim=(0, 1)).sqrt().tolist()


def test_factors_of_visible_and_hidden_landmarks_are_found():
    network, batches = world(logit=30.0)
    found = calibrate(network, batches)
    assert found.visible == pytest.approx((2, 3), rel=0.02)
    assert found.hidden == pytest.approx((5, 7), rel=0.02)
    assert ratio(network, found, batches) == pytest.approx((1, 1), rel=1e-4)
    assert network.training


def test_visibility_that_is_not_certain_still_gives_scales_that_are_right_overall():
    network, batches = world(logit=0.4)
    assert ratio(network, calibrate(network, batches), batches) == pytest.approx((1, 1), rel=1e-4)


def test_a_network_without_visibility_has_one_factor():
    network, batches = world(hidden=(2.0, 3.0))
    found = calibrate(network, batches)
    assert found.visible == found.hidden == pytest.approx((2, 3), rel=0.02)
    assert found.usual == pytest.approx(
        torch.cat([found.deviation(answer, RESIDUAL) for answer in network.answers]).median().item(), rel=0.1
    )


def test_shared_errors_inflate():
    """Independent errors have the factor 1; a shift of all landmarks by their scale has their number."""
    network, batches = world(hidden=(2.0, 3.0), batches=8)
    assert calibrate(network, batches).inflation == pytest.approx(1, rel=0.2)
    generator = torch.Generator().manual_seed(1)
    for batch, answer in zip(batches, network.answers, strict=True):
        shift = torch.randn((16, 1, 2), generator=generator) * answer.scale * RESIDUAL
        batch.targets.points[:] = answer.mean + shift
        batch.targets.weight[:, 300:] = 0
    assert calibrate(network, batches).inflation == pytest.approx(300, rel=0.05)


def test_landmarks_of_no_weight_do_not_matter():
    network, batches = world(logit=30.0)
    expected = calibrate(network, batches)
    for batch, answer in zip(batches, network.answers, strict=True):
        batch.targets.weight[:, :200] = 0
        answer.mean[:, :200] = 1e6
    assert calibrate(network, batches).visible == pytest.approx(expected.visible, rel=0.03)


def test_nothing_known_and_nothing_finite_are_refused():
    network, batches = world()
    network.answers[0].mean[0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="finite"):
        calibrate(network, batches)
    for batch in batches:
        batch.targets.weight[:] = 0
    with pytest.raises(InputError, match="none"):
        calibrate(network, batches)


@pytest.mark.parametrize(
    "options", [{"visible": (0.0, 1.0)}, {"hidden": (1.0, float("inf"))}, {"usual": -1.0}]
)
def test_impossible_factors_are_refused(options):
    with pytest.raises(ConfigError, match="finite factors above 0"):
        Calibration(**options)
