"""Fitting: from landmarks in a picture to the parameters of a model."""

from partfit.fitting.base import Fitter
from partfit.fitting.lm import LevenbergMarquardt
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitResult, FitStatus

__all__ = ["FitProblem", "FitResult", "FitStatus", "Fitter", "LevenbergMarquardt", "Stage"]
