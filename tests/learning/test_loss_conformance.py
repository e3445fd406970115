"""The core's loss, and a plain likelihood, pass the suite of losses. Losses with one fault each do not."""

import pytest
import torch

import partfit
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.losses import Likelihood, Loss, weighted_mean
from partfit.testing.conformance import LossConformance


class TestVisibility(LossConformance):
    def make(self):
        return partfit.create("loss", "visibility")


class Plain(Likelihood):
    """A Gaussian likelihood, made of parts that the faults below replace."""

    def forward(self, distribution, targets):
        unused = (targets.weight <= 0)[..., None]
        error = (targets.points - distribution.mean).masked_fill(unused, 0)
        log_scale = distribution.log_scale.to(error).masked_fill(unused, 0)
        return self.reduced(self.nats(error, log_scale).sum(dim=-1), targets.weight)

    def nats(self, error, log_scale):
        return (error * (-log_scale).exp()).square() / 2 + log_scale

    def reduced(self, nats, weight):
        return weighted_mean(nats, weight)

    def log_scale(self, raw):
        return raw.clamp(-15, 15).to(torch.promote_types(raw.dtype, torch.float32))

    def deviation(self):
        return torch.ones(2)


class TestPlain(LossConformance):
    def make(self):
        return loss_of(Plain)


class PerItem(Plain):
    def reduced(self, nats, weight):
        return (weight * nats).sum(dim=1) / weight.sum(dim=1)


class Constant(Plain):
    def nats(self, error, log_scale):
        return 0 * (error + log_scale)


class Unweighted(Plain):
    def forward(self, distribution, targets):
        return super().forward(distribution, LandmarkTargets(targets.points, torch.ones_like(targets.weight)))


class Multiplied(Plain):
    """0 times NaN is NaN."""

    def forward(self, distribution, targets):
        nats = self.nats(targets.points - distribution.mean.float(), distribution.log_scale.float())
        return (targets.weight * nats.sum(dim=-1)).sum() / targets.weight.sum()


class Masked(Plain):
    def reduced(self, nats, weight):
        return weighted_mean(nats, (weight > 0).float())


class FirstItem(Plain):
    def reduced(self, nats, weight):
        return weighted_mean(nats[:1], weight[:1])


class HalfDetached(Plain):
    def nats(self, error, log_scale):
        return (error * (-log_scale.detach()).exp()).square() / 2 + log_scale


class Unbounded(Plain):
    def log_scale(self, raw):
        return raw.float()


class Rounded(Plain):
    def forward(self, distribution, targets):
        mean, log_scale = (x.bfloat16().float() for x in (distribution.mean, distribution.log_scale))
        loss = super().forward(LandmarkDistribution(mean, log_scale), targets)
        return loss.to(distribution.mean.dtype)


class Noisy(Plain):
    def nats(self, error, log_scale):
        return super().nats(error, log_scale) + 1e-3 * torch.rand_like(error)


class InPlace(Plain):
    def forward(self, distribution, targets):
        loss = super().forward(distribution, targets)
        targets.points.add_(1e-3)
        return loss


class Forgetful(Plain):
    def __init__(self):
        super().__init__()
        self.factor = torch.rand(())

    def nats(self, error, log_scale):
        return self.factor * super().nats(error, log_scale)


class Precision(Plain):
    """Its scale outputs mean the logarithm of 1 / scale."""

    def log_scale(self, raw):
        return -super().log_scale(raw)


class NoDeviation(Plain):
    def deviation(self):
        return torch.zeros(2)


class Repelled(Plain):
    def nats(self, error, log_scale):
        return 1 / (1 + super().nats(error, log_scale).exp())


FAULTS = {
    "test_it_is_a_number_that_learns": (PerItem, Constant),
    "test_landmarks_without_weight_do_not_matter": (Unweighted, Multiplied),
    "test_a_batch_without_weight_has_the_loss_0": (Unweighted, Multiplied),
    "test_importance_counts": (Masked,),
    "test_the_order_of_items_does_not_matter": (FirstItem,),
    "test_gradients_are_true": (HalfDetached,),
    "test_extreme_numbers_are_finite": (Unbounded,),
    "test_half_precision_is_finite": (Rounded,),
    "test_equal_inputs_give_equal_losses": (Noisy, InPlace),
    "test_its_state_round_trips": (Forgetful,),
    "test_a_likelihood_says_what_its_scales_mean": (Precision, NoDeviation),
    "test_a_likelihood_prefers_the_truth": (Repelled,),
}


@pytest.mark.parametrize(("test", "fault"), [(test, fault) for test in FAULTS for fault in FAULTS[test]])
def test_a_loss_with_a_fault_fails(test, fault):
    class Suite(LossConformance):
        def make(self):
            return loss_of(fault)

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()


def test_every_test_of_the_suite_can_fail():
    tests = {name for name in dir(LossConformance) if name.startswith("test_")}
    assert tests == {*FAULTS, "test_its_configuration_round_trips"}


def loss_of(module_class):
    class Made(Loss):
        def module(self, scheme):
            return module_class()

    return Made()
