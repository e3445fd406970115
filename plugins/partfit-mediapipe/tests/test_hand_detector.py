import numpy as np
import pytest
from PIL import Image
from skimage import data

import partfit
from partfit.errors import ConfigError, InputError
from partfit_mediapipe.hand_detector import HandDetector
from partfit_mediapipe.search import cell_middles

WRIST, MIDDLE_KNUCKLE = 0, 9


def test_the_region_holds_the_hand_and_points_along_it(hand_detector, hand_picture, hand_truth):
    (region,) = hand_detector.detect([hand_picture])[0]
    assert region.score > 0.9
    assert region.side is None
    assert region.size[0] == region.size[1]
    across, down = hand_truth.points[MIDDLE_KNUCKLE] - hand_truth.points[WRIST]
    assert region.angle == pytest.approx(np.arctan2(across, -down), abs=0.15)
    reach = np.abs(hand_truth.points - region.center).max()
    assert reach < 0.55 * region.size[0] < 1.7 * reach


@pytest.mark.parametrize(
    "motion",
    [
        {"angle": 0.7},
        {"angle": -2.0},
        {"angle": np.pi},
        {"scale": 1.6, "shape": (800, 900)},
        {"scale": 0.4, "shape": (240, 200)},
    ],
)
def test_regions_move_with_the_picture(hand_detector, hand_picture, moved_hand, motion):
    (original,) = hand_detector.detect([hand_picture])[0]
    picture = moved_hand(**motion)
    region = hand_detector.detect([picture.image])[0][0]
    expected = picture.map(np.array([original.center]))[0]
    side = original.size[0] * picture.scale
    assert np.hypot(*(region.center - expected)) < 0.15 * side
    assert region.size[0] == pytest.approx(side, rel=0.2)
    turn = region.angle - original.angle - picture.angle
    assert abs(np.angle(np.exp(1j * turn))) < 0.25


def test_tiles_find_a_hand_that_is_small_in_its_picture(hand_detector, hand_picture, hand_truth):
    factor, corner = 0.3, np.array([150, 550])
    canvas = np.asarray(Image.fromarray(data.rocket()).resize((1000, 800))).copy()
    small = np.asarray(Image.fromarray(hand_picture).resize((96, 120), Image.Resampling.BOX))
    canvas[corner[1] : corner[1] + 120, corner[0] : corner[0] + 96] = small
    expected = (hand_truth.points.mean(axis=0) + 0.5) * factor - 0.5 + corner
    plain = HandDetector(HandDetector.Config(tiles=False))
    nearest, without = (
        min(
            (np.hypot(*(region.center - expected)) for region in detector.detect([canvas])[0]), default=np.inf
        )
        for detector in (hand_detector, plain)
    )
    assert nearest < 25
    assert without > 50


def test_noise_and_grey_have_no_hand(hand_detector):
    noise = np.random.default_rng(0).integers(0, 256, (333, 500, 3), dtype=np.uint8)
    assert hand_detector.detect([noise, np.full((400, 300, 3), 128, np.uint8)]) == [[], []]


def test_other_than_rgb_pictures_are_refused(hand_detector):
    with pytest.raises(InputError, match="RGB uint8"):
        hand_detector.detect([np.zeros((5, 5), np.uint8)])


@pytest.mark.parametrize("threshold", [0.0, 1.0, -3.0])
def test_thresholds_outside_their_range_are_refused(threshold):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        HandDetector.Config(threshold=threshold)


def test_a_threshold_decides(hand_picture):
    strict = partfit.create("detector", "mediapipe-hand", threshold=0.999)
    assert strict.detect([hand_picture]) == [[]]


def test_cells_go_row_by_row_and_repeat_for_each_answer():
    middles = cell_middles(64, answers=2)
    assert middles.shape == (18, 2)
    assert middles[:4].tolist() == [[32, 32], [32, 32], [96, 32], [96, 32]]
    assert middles[-1].tolist() == [160, 160]
