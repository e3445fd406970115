"""The core's heads pass the suite of heads. Heads with one fault each do not."""

import pytest
import torch
from torch import nn

import partfit
from partfit.learning.heads import Head, HeadModule, LinearHead
from partfit.testing.conformance import HeadConformance


class TestLinearHead(HeadConformance):
    def make(self):
        return partfit.create("head", "linear")


class TestLinearHeadOfLowRank(HeadConformance):
    def make(self):
        return partfit.create("head", "linear", rank=5)


class TestMLPHead(HeadConformance):
    def make(self):
        return partfit.create("head", "mlp", hidden=[64, 32], dropout=0.1)


class TestMLPHeadWithSqueeze(HeadConformance):
    def make(self):
        return partfit.create("head", "mlp", squeeze=3, activation="gelu", rank=6)


class Wrapped(HeadModule):
    """A linear head."""

    def __init__(self, features, scheme, outputs):
        super().__init__()
        self.inner = LinearHead().module(features, scheme, outputs)

    def forward(self, features):
        return self.inner(features)

    def initialise(self, mean, directions):
        self.inner.initialise(mean, directions)


class Transposed(Wrapped):
    def forward(self, features):
        return self.inner(features).transpose(1, 2)


class Four(Wrapped):
    def forward(self, features):
        return self.inner(features)[..., :4]


class Double(Wrapped):
    def forward(self, features):
        return self.inner(features).double()


class NotFinite(Wrapped):
    def forward(self, features):
        return self.inner(features).log()


class Uninitialised(Wrapped):
    def initialise(self, mean, directions):
        pass


class Wild(Wrapped):
    def forward(self, features):
        return self.inner(features) + features.flatten(1).sum(dim=1)[:, None, None]


class Detached(Wrapped):
    def __init__(self, features, scheme, outputs):
        super().__init__(features, scheme, outputs)
        self.unused = nn.Parameter(torch.ones(3))


class Stubborn(Wrapped):
    """Every parameter moves, but what it says does not."""

    def forward(self, features):
        raw = self.inner(features)
        return raw - raw.detach()


class OneFeature(Wrapped):
    def forward(self, features):
        return self.inner(features * (torch.arange(features.shape[1]) == 0)[:, None, None])


class MeanOfBatch(Wrapped):
    def forward(self, features):
        return self.inner(features - features.mean(dim=0))


class Noisy(Wrapped):
    def forward(self, features):
        raw = self.inner(features)
        return raw + 1e-3 * torch.randn_like(raw)


class Forgetful(Wrapped):
    def __init__(self, features, scheme, outputs):
        super().__init__(features, scheme, outputs)
        self.shift = torch.randn(len(scheme), 1)

    def forward(self, features):
        return self.inner(features) + 1e-3 * self.shift


class Overflowing(Wrapped):
    def forward(self, features):
        raw = self.inner(features)
        return raw * (float("inf") if raw.dtype == torch.bfloat16 else 1.0)


FAULTS = {
    "test_each_landmark_gets_its_numbers": (Transposed, Four, Double, NotFinite),
    "test_it_starts_from_the_mean_shape": (Uninitialised, Wild, NotFinite),
    "test_training_reaches_every_parameter": (Detached,),
    "test_it_learns": (Stubborn,),
    "test_every_feature_counts": (OneFeature,),
    "test_items_do_not_influence_one_another": (MeanOfBatch,),
    "test_equal_seeds_give_equal_heads": (Noisy,),
    "test_its_state_round_trips": (Forgetful,),
    "test_half_precision_is_finite": (Overflowing,),
}


@pytest.mark.parametrize(("test", "fault"), [(test, fault) for test in FAULTS for fault in FAULTS[test]])
def test_a_head_with_a_fault_fails(test, fault):
    class Faulty(Head):
        def module(self, features, scheme, outputs):
            return fault(features, scheme, outputs)

    class Suite(HeadConformance):
        def make(self):
            return Faulty()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()


def test_every_test_of_the_suite_can_fail():
    tests = {name for name in dir(HeadConformance) if name.startswith("test_")}
    assert tests == {*FAULTS, "test_its_configuration_round_trips"}
