import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.transform import AffineTransform, warp

from partfit_mediapipe.face_detector import FaceDetector
from partfit_mediapipe.face_landmarker import FaceLandmarker
from partfit_mediapipe.hand_detector import HandDetector
from partfit_mediapipe.hand_landmarker import HandLandmarker

DATA = Path(__file__).parent / "data"


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


@pytest.fixture(scope="session")
def hand_picture():
    """A rendered right hand, 320 x 400 pixels; see data/make_hand.py."""
    return np.asarray(Image.open(DATA / "hand.png"))


@pytest.fixture(scope="session")
def hand_truth():
    """Where its points are: `points` (21, 2) pixels, `points_3d` (21, 3) metres in the camera's frame."""
    truth = json.loads((DATA / "hand.json").read_text())
    return SimpleNamespace(**{name: np.array(values) for name, values in truth.items()})


@pytest.fixture(scope="session")
def hand_mask(hand_picture):
    """Where the picture shows skin."""
    red, _, blue = np.moveaxis(hand_picture.astype(int), -1, 0)
    return red - blue > 25


@pytest.fixture(scope="session")
def hand_detector():
    return HandDetector()


@pytest.fixture(scope="session")
def hand_landmarker():
    return HandLandmarker()


@pytest.fixture(scope="session")
def locate_hands(hand_detector, hand_landmarker):
    """Detector and landmarker in a row, on one picture."""
    return lambda image: hand_landmarker.locate([image], hand_detector.detect([image]))[0]


@pytest.fixture(scope="session")
def hand(locate_hands, hand_picture):
    """The landmarks of the rendered hand."""
    (hand,) = locate_hands(hand_picture)
    return hand


@pytest.fixture(scope="session")
def moved_hand(hand_picture):
    """The rendered hand, rotated by `angle` around the picture's middle and scaled, as `moved`."""

    def make(angle=0.0, scale=1.0, shape=(512, 512)):
        middle = (np.array(hand_picture.shape[1::-1]) - 1) / 2
        motion = (
            AffineTransform(translation=-middle)
            + AffineTransform(rotation=angle, scale=scale)
            + AffineTransform(translation=(np.array(shape[::-1]) - 1) / 2)
        )
        picture = warp(hand_picture, motion.inverse, output_shape=shape, order=1, preserve_range=True)
        return SimpleNamespace(image=np.rint(picture).astype(np.uint8), map=motion, angle=angle, scale=scale)

    return make
