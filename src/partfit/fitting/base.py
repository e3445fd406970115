"""What a fitter is."""

from __future__ import annotations

from abc import abstractmethod

from partfit.component import Component
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
