"""Each loss of this distribution, with its options, keeps the contract of losses."""

import pytest

import partfit
from partfit.testing.conformance import LossConformance

CASES = {
    "ngll": {},
    "laplace": {},
    "l1": {},
    "l2": {"scale": 0.1},
    "resll": {},
    "resll-exp": {"base": "gaussian"},
    "resll-exp-rle": {"counting": "rle"},
    "resll-alone": {"residual": False, "layers": 5, "hidden": 8},
    "vertex-edge": {},
}


@pytest.mark.parametrize("case", CASES)
class TestLosses(LossConformance):
    @pytest.fixture(autouse=True)
    def _chosen(self, case):
        self.case = case

    def make(self):
        name = self.case.removesuffix("-rle").removesuffix("-alone")
        return partfit.create("loss", name, **CASES[self.case])
