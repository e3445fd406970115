import pytest

from partfit.testing.conformance import DetectorConformance, LandmarkerConformance
from partfit_mediapipe.face_detector import FaceDetector
from partfit_mediapipe.face_landmarker import FaceLandmarker


class _Astronaut:
    """One face in two pictures of different sizes."""

    @pytest.fixture(autouse=True)
    def _pictures(self, astronaut):
        self.pictures = [astronaut, astronaut[20:280, 100:360]]

    def make_pictures(self):
        return self.pictures


class TestFaceDetector(_Astronaut, DetectorConformance):
    def make(self):
        return FaceDetector()


class TestFaceLandmarker(_Astronaut, LandmarkerConformance):
    def make(self):
        return FaceLandmarker()

    def make_regions(self, pictures):
        return FaceDetector().detect(pictures)
