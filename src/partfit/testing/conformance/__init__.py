"""Conformance suites: what every component of a kind must do, as pytest classes to subclass.

    from partfit.testing.conformance import ModelConformance

    class TestMyModel(ModelConformance):
        def make(self):
            return MyModel()

Each suite needs a method `make`, which returns the component under test. Detectors and landmarkers need
`make_pictures` too, with pictures that show the part: a suite in which nothing is found fails.
"""

from __future__ import annotations

from partfit.testing.conformance.dataset import DatasetConformance, check_same_sample
from partfit.testing.conformance.detector import DetectorConformance
from partfit.testing.conformance.embedding import EmbeddingConformance
from partfit.testing.conformance.fitter import FitterConformance
from partfit.testing.conformance.head import HeadConformance
from partfit.testing.conformance.landmarker import LandmarkerConformance
from partfit.testing.conformance.loss import LossConformance
from partfit.testing.conformance.model import ModelConformance
from partfit.testing.conformance.recipe import RecipeConformance
from partfit.testing.conformance.states import random_rows

__all__ = [
    "DatasetConformance",
    "DetectorConformance",
    "EmbeddingConformance",
    "FitterConformance",
    "HeadConformance",
    "LandmarkerConformance",
    "LossConformance",
    "ModelConformance",
    "RecipeConformance",
    "check_same_sample",
    "random_rows",
]
