"""What a fitter is."""

from __future__ import annotations

from abc import abstractmethod

from partfit.component import Component
from partfit.fitting.gradients import IMPLICIT, Backward, fit_with_gradients
from partfit.fitting.problem import FitProblem
from partfit.fitting.result import FitResult


class Fitter(Component):
    """Solves fit problems."""

    kind = "fitter"

    @abstractmethod
    def fit(self, problem: FitProblem) -> FitResult:
        """Fit every item of the problem. Items never influence one another.

        An item that cannot be fitted gets `FitStatus.FAILED` and a message; it raises nothing.
        """

    def fit_with_gradients(self, problem: FitProblem, backward: Backward = IMPLICIT) -> FitResult:
        """The same, and the result's x has derivatives by the tensors of the problem that ask for them.

        These are points, scales, confidences, focal lengths and principal points, weights of priors, 3D
        points, and with `unrolled` the start. See `partfit.fitting.gradients`; a fitter may have ways of its
        own.
        """
        return fit_with_gradients(self.fit, problem, backward)
