"""Fitting: from landmarks in a picture to the parameters of a model."""

from partfit.fitting.base import FitProblem, FitResult, FitStatus, Fitter, Stage
from partfit.fitting.lm import LevenbergMarquardt

__all__ = ["FitProblem", "FitResult", "FitStatus", "Fitter", "LevenbergMarquardt", "Stage"]
