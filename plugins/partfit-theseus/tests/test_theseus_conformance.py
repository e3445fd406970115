"""The fitter `theseus` passes the suite of fitters, whatever its method."""

from partfit.testing.conformance import FitterConformance
from partfit_theseus.fitter import TheseusFitter


class TestLevenbergMarquardt(FitterConformance):
    def make(self):
        return TheseusFitter()


class TestGaussNewton(FitterConformance):
    def make(self):
        return TheseusFitter(TheseusFitter.Config(optimizer="gauss-newton", linear_solver="lu-dense"))


class TestDogleg(FitterConformance):
    def make(self):
        return TheseusFitter(TheseusFitter.Config(optimizer="dogleg"))


class TestAutodiff(FitterConformance):
    def make(self):
        return TheseusFitter(TheseusFitter.Config(cost="autodiff"))


class TestAdditiveDamping(FitterConformance):
    def make(self):
        return TheseusFitter(TheseusFitter.Config(damping="additive"))
