from types import SimpleNamespace

import numpy as np
import pytest
from skimage import data
from skimage.transform import AffineTransform, warp

from partfit_mediapipe.face_detector import FaceDetector
from partfit_mediapipe.face_landmarker import FaceLandmarker


@pytest.fixture(scope="session")
def astronaut():
    return data.astronaut()


@pytest.fixture(scope="session")
def detector():
    return FaceDetector()


@pytest.fixture(scope="session")
def landmarker():
    return FaceLandmarker()


@pytest.fixture(scope="session")
def locate(detector, landmarker):
    """Detector and landmarker in a row, on one picture."""
    return lambda image: landmarker.locate([image], detector.detect([image]))[0]


@pytest.fixture(scope="session")
def face(locate, astronaut):
    """The landmarks of the astronaut's face."""
    (face,) = locate(astronaut)
    return face


@pytest.fixture(scope="session")
def moved(astronaut):
    """The astronaut, rotated by `angle` around the picture's middle, scaled and shifted.

    Pixels, in the sense of pixel centres at whole numbers; `map` takes points along.
    """

    def make(angle=0.0, scale=1.0, shift=(0.0, 0.0), shape=(512, 512)):
        middle = (np.array(astronaut.shape[1::-1]) - 1) / 2
        target = (np.array(shape[::-1]) - 1) / 2 + shift
        motion = (
            AffineTransform(translation=-middle)
            + AffineTransform(rotation=angle, scale=scale)
            + AffineTransform(translation=target)
        )
        picture = warp(astronaut, motion.inverse, output_shape=shape, order=1, preserve_range=True)
        return SimpleNamespace(image=np.rint(picture).astype(np.uint8), map=motion, angle=angle, scale=scale)

    return make


@pytest.fixture(scope="session")
def collage(astronaut):
    """Four faces of different sizes in one picture of 700 x 900 pixels, and where each copy's corner lies."""
    canvas = np.full((700, 900, 3), 90, np.uint8)
    places = [(20, 30, 1), (330, 20, 1), (640, 60, 2), (120, 400, 2)]
    portrait = astronaut[20:280, 100:360]
    for x, y, step in places:
        copy = portrait[::step, ::step]
        canvas[y : y + len(copy), x : x + len(copy)] = copy
    return canvas, places
