import numpy as np
import pytest

import partfit
from partfit.geometry.crops import Crop
from partfit.testing.conformance import LandmarkerConformance
from partfit_mediapipe.face_detector import FaceDetector
from partfit_mediapipe.face_iris_landmarker import FaceIrisLandmarker
from partfit_mediapipe.face_scheme import mediapipe478
from partfit_mediapipe.networks import LiteRTNetwork, TorchNetwork, litert_installed
from partfit_mediapipe.pictures import network_inputs

# the astronaut's irises by eye, pixels
BY_EYE = {
    "right_iris_center": (203, 101),
    "right_iris_outer": (199, 100.5),
    "right_iris_inner": (207, 100.5),
    "left_iris_center": (246, 103),
    "left_iris_outer": (250, 103),
    "left_iris_inner": (242, 103),
}
# where her lids meet, pixels: left, top, right, bottom of the eyes
EYES = ((190, 94, 217, 109), (233, 95, 261, 111))


class TestConformance(LandmarkerConformance):
    @pytest.fixture(autouse=True)
    def _pictures(self, astronaut):
        self.pictures = [astronaut, astronaut[20:280, 100:360]]

    def make(self):
        return FaceIrisLandmarker()

    def make_pictures(self):
        return self.pictures

    def make_regions(self, pictures):
        return FaceDetector().detect(pictures)


@pytest.fixture(scope="module")
def locate_irises(detector):
    landmarker = partfit.create("landmarker", "mediapipe-face-iris")
    return lambda image: landmarker.locate([image], detector.detect([image]))[0]


@pytest.fixture(scope="module")
def irises(locate_irises, astronaut):
    (found,) = locate_irises(astronaut)
    return found


def named(found, name):
    return found.points[found.scheme.names.index(name)]


def eye_width(found):
    sides = ("right", "left")
    corners = [(named(found, f"{s}_eye_outer_corner"), named(found, f"{s}_eye_inner_corner")) for s in sides]
    return max(np.hypot(*(outer - inner)) for outer, inner in corners)


def closed(image, sides):
    """The picture with a lid over an eye: a smooth patch of skin with a dark line."""
    image = image.copy()
    for left, top, right, bottom in (EYES[side] for side in sides):
        image[top:bottom, left:right] = image[bottom : bottom + 1, left:right]
        middle = (top + bottom) // 2 + 2
        image[middle, left + 3 : right - 3] = 60
    return image


def test_irises_lie_on_the_irises(irises):
    assert irises.scheme is mediapipe478()
    for name, expected in BY_EYE.items():
        assert np.hypot(*(named(irises, name) - expected)) < 1.5, name


def test_rims_go_around_the_centres(irises):
    for side in ("right", "left"):
        x, y = named(irises, f"{side}_iris_center")
        assert named(irises, f"{side}_iris_top")[1] < y - 2
        assert named(irises, f"{side}_iris_bottom")[1] > y + 2
        towards_nose = np.sign(named(irises, "nose_tip")[0] - x)
        assert towards_nose * (named(irises, f"{side}_iris_inner")[0] - x) > 2
        assert towards_nose * (named(irises, f"{side}_iris_outer")[0] - x) < -2


def test_the_mesh_is_that_of_the_face_landmarker(irises, face):
    for array in ("points", "scale", "confidence"):
        np.testing.assert_allclose(getattr(irises, array)[:468], getattr(face, array), rtol=1e-6)
    assert irises.score == pytest.approx(face.score)
    np.testing.assert_allclose(irises.box, face.box)


def test_iris_points_have_scales_in_eye_widths(irises):
    np.testing.assert_allclose(irises.scale[468:], 0.05 * eye_width(irises), rtol=1e-6)
    np.testing.assert_allclose(irises.confidence[468:], irises.score)


def test_a_flipped_picture_shows_the_mirrored_irises(locate_irises, irises, astronaut):
    (flipped,) = locate_irises(astronaut[:, ::-1])
    back = flipped.points[irises.scheme.mirror]
    back[:, 0] = 511 - back[:, 0]
    assert np.linalg.norm(back - irises.points, axis=1)[468:].max() < 0.04 * eye_width(irises)


@pytest.mark.parametrize("motion", [{"angle": 0.5}, {"angle": -0.5}, {"scale": 1.7, "shape": (800, 900)}])
def test_irises_move_with_the_picture(locate_irises, irises, moved, motion):
    picture = moved(**motion)
    (found,) = locate_irises(picture.image)
    distances = np.linalg.norm(found.points - picture.map(irises.points), axis=1)[468:]
    assert distances.max() < 0.08 * eye_width(irises) * picture.scale


def test_irises_follow_the_eyes_not_the_lids(locate_irises, irises, astronaut):
    """The middle of an eye, copied three pixels to the side within its lids, takes its iris along."""
    image = astronaut.copy()
    image[96:107, 200:212] = astronaut[96:107, 197:209]
    (found,) = locate_irises(image)
    shift = named(found, "right_iris_center") - named(irises, "right_iris_center")
    assert shift[0] == pytest.approx(3, abs=1)
    still = named(found, "left_iris_center") - named(irises, "left_iris_center")
    assert np.abs(still).max() < 0.5


@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_closed_eyes_hide_their_irises(locate_irises, astronaut, sides):
    (found,) = locate_irises(closed(astronaut, sides))
    for side in (0, 1):
        own = slice(468 + 5 * side, 473 + 5 * side)
        assert np.isinf(found.scale[own]).all() == (side in sides)
        assert (found.confidence[own] == 0).all() == (side in sides)
    assert np.isfinite(found.points).all()
    assert found.usable[:468].all()


def test_each_face_of_a_collage_has_its_irises(locate_irises, irises, collage):
    image, places = collage
    faces = locate_irises(image)
    assert len(faces) == len(places)
    for x, y, step in places:
        expected = (irises.points - [100, 20])[468:] / step + [x, y]
        nearest = min(np.linalg.norm(found.points[468:] - expected, axis=1).mean() for found in faces)
        assert nearest < 0.1 * eye_width(irises) / step


def test_pictures_without_a_face_among_others(detector, astronaut):
    landmarker = FaceIrisLandmarker()
    images = [np.zeros((30, 20, 3), np.uint8), astronaut, np.zeros((5, 5, 3), np.uint8)]
    assert [len(found) for found in landmarker.locate(images, detector.detect(images))] == [0, 1, 0]
    assert landmarker.locate([], []) == []


def test_options_reach_the_mesh(detector, astronaut, irises):
    landmarker = partfit.create("landmarker", "mediapipe-face-iris", looks=4, relative_error=0.1)
    (found,) = landmarker.locate([astronaut], detector.detect([astronaut]))[0]
    assert (found.scale[:468] > 5 * irises.scale[:468].min()).all()
    np.testing.assert_allclose(found.scale[468:], irises.scale[468:], rtol=0.05)


@pytest.mark.skipif(not litert_installed(), reason="ai-edge-litert is not installed")
def test_both_backends_answer_alike(astronaut):
    inputs = network_inputs(astronaut, [Crop((204, 101), 43, resolution=64)], low=0.0)
    for own, other in zip(
        TorchNetwork("iris_landmark")(inputs), LiteRTNetwork("iris_landmark")(inputs), strict=True
    ):
        assert np.abs(own).max() > 30
        np.testing.assert_allclose(own, other, atol=1e-2)
