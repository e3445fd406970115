"""Fitting: from landmarks in a picture to the parameters of a model."""

from partfit.fitting.base import Fitter
from partfit.fitting.gradients import Backward
from partfit.fitting.layer import FitLayer
from partfit.fitting.lm import LevenbergMarquardt
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitResult, FitStatus

__all__ = [
    "Backward",
    "FitLayer",
    "FitProblem",
    "FitResult",
    "FitStatus",
    "Fitter",
    "LevenbergMarquardt",
    "Stage",
]
