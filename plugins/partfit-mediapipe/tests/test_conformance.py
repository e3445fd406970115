import pytest

from partfit.testing.conformance import DetectorConformance, LandmarkerConformance
from partfit_mediapipe.face_detector import FaceDetector
from partfit_mediapipe.face_landmarker import FaceLandmarker
from partfit_mediapipe.hand_detector import HandDetector
from partfit_mediapipe.hand_landmarker import HandLandmarker


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


class _RenderedHand:
    """One hand in two pictures of different sizes, a right and a left one."""

    @pytest.fixture(autouse=True)
    def _pictures(self, hand_picture):
        self.pictures = [hand_picture, hand_picture[:350, 40:][:, ::-1]]

    def make_pictures(self):
        return self.pictures


class TestHandDetector(_RenderedHand, DetectorConformance):
    def make(self):
        return HandDetector()


class TestHandLandmarker(_RenderedHand, LandmarkerConformance):
    def make(self):
        return HandLandmarker()

    def make_regions(self, pictures):
        return HandDetector().detect(pictures)
