"""Every component passes the suite of its kind."""

import pytest

from partfit.testing.conformance import (
    DetectorConformance,
    EmbeddingConformance,
    LandmarkerConformance,
    ModelConformance,
    RecipeConformance,
)
from partfit_foot.foot import Foot
from partfit_foot.markers import left_markers, right_markers
from partfit_foot.photograph import example_state, photograph
from partfit_foot.recipe import FOOT
from partfit_foot.stickers import StickerDetector, StickerLandmarker


def foot(side):
    return Foot(Foot.Config(side))


@pytest.fixture(scope="module")
def photographs():
    """A right and a left foot, in pictures of different sizes."""
    right, left = foot("right"), foot("left")
    return [
        photograph(right, example_state(right), (320, 240)),
        photograph(left, example_state(left), (260, 280)),
    ]


class TestRightFoot(ModelConformance):
    def make(self):
        return foot("right")


class TestLeftFoot(ModelConformance):
    def make(self):
        return foot("left")


class TestRightMarkers(EmbeddingConformance):
    def make(self):
        return right_markers()

    def make_model(self):
        return foot("right")


class TestLeftMarkers(EmbeddingConformance):
    def make(self):
        return left_markers()

    def make_model(self):
        return foot("left")


class _Photographs:
    @pytest.fixture(autouse=True)
    def _taken(self, photographs):
        self.photographs = photographs

    def make_pictures(self):
        return self.photographs


class TestStickerDetector(_Photographs, DetectorConformance):
    def make(self):
        return StickerDetector()


class TestStickerLandmarker(_Photographs, LandmarkerConformance):
    def make(self):
        return StickerLandmarker()

    def make_regions(self, pictures):
        return StickerDetector().detect(pictures)


class TestFoot(RecipeConformance):
    def make(self):
        return FOOT
