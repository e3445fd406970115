"""The head `spiral` passes the suite of heads, of other sizes too."""

import partfit
from partfit.testing.conformance import HeadConformance


class TestSpiralHead(HeadConformance):
    def make(self):
        return partfit.create("head", "spiral")


class TestFewLevelsAndWideSpirals(HeadConformance):
    def make(self):
        return partfit.create("head", "spiral", channels=[8, 12, 4], length=12, dilation=2)


class TestWithoutDecimation(HeadConformance):
    def make(self):
        return partfit.create("head", "spiral", channels=[6])
