import numpy as np
import pytest
from skimage import data

from partfit.landmarks import Region
from partfit.testing.conformance import LandmarkerConformance
from partfit_dense.landmarker import DenseLandmarker

#: What the detector `mediapipe-face` says of the astronaut's face.
FACE = Region((224.4, 118.7), (105.6, 105.6), 0.075)


class TestDenseLandmarker(LandmarkerConformance):
    def make(self):
        return DenseLandmarker()

    def make_pictures(self):
        portrait = data.astronaut()
        return [portrait, portrait[20:280, 100:360]]

    def make_regions(self, pictures):
        moved = Region((FACE.center[0] - 100, FACE.center[1] - 20), FACE.size, FACE.angle)
        return [[FACE], [moved]]


@pytest.fixture(scope="module")
def face():
    (face,) = DenseLandmarker().locate([data.astronaut()], [[FACE]])[0]
    return face


def test_face_ears_and_irises_are_located(face):
    assert len(face.points) == 2666
    assert face.score > 0.7
    width, height = face.points.max(axis=0) - face.points.min(axis=0)
    assert 90 < width < 150
    assert 120 < height < 180


def test_what_a_hand_would_cover_is_less_certain(face):
    """A grey patch over a quarter of the face: there confidence falls and scales grow more than elsewhere."""
    picture = data.astronaut()
    right, low = face.points.mean(axis=0).round().astype(int)
    picture[low : low + 90, right - 5 : right + 70] = 120
    covered = (face.points[:, 0] > right) & (face.points[:, 1] > low)
    (now,) = DenseLandmarker().locate([picture], [[FACE]])[0]
    lost = face.confidence - now.confidence
    assert lost[covered].mean() > 0.2
    assert lost[covered].mean() > 3 * abs(lost[~covered].mean())
    growth = (now.scale / face.scale).mean(axis=1)
    assert np.median(growth[covered]) > np.median(growth[~covered])


def test_a_picture_without_a_face_gives_none():
    assert DenseLandmarker().locate([data.brick()[..., None].repeat(3, axis=2)], [[FACE]]) == [[]]
