import numpy as np
import pytest
from skimage import data

import partfit
from partfit.errors import ConfigError, InputError
from partfit_mediapipe.face_detector import FaceDetector

# the astronaut's face by eye, pixels
EYES_MIDDLE, FACE_WIDTH = (224, 115), 95


def summary(region):
    return np.array([*region.center, *region.size, region.angle, region.score])


def test_it_finds_the_one_face(detector, astronaut):
    (region,) = detector.detect([astronaut])[0]
    assert np.hypot(*np.subtract(region.center, EYES_MIDDLE)) < 0.25 * FACE_WIDTH
    assert region.size[0] == pytest.approx(FACE_WIDTH, rel=0.25)
    assert region.size[0] == pytest.approx(region.size[1], rel=1e-2)
    assert abs(region.angle) < 0.2
    assert region.score > 0.8


@pytest.mark.parametrize(
    "motion",
    [
        {"angle": 0.5},
        {"angle": -0.5},
        {"shift": (31.5, -22.25)},
        {"scale": 1.7, "shape": (800, 900)},
        {"scale": 0.5, "shape": (300, 260)},
    ],
)
def test_regions_move_with_the_picture(detector, astronaut, moved, motion):
    (original,) = detector.detect([astronaut])[0]
    picture = moved(**motion)
    (region,) = detector.detect([picture.image])[0]
    expected = picture.map(np.array([original.center]))[0]
    width = original.size[0] * picture.scale
    assert np.hypot(*(region.center - expected)) < 0.1 * width
    assert region.size[0] == pytest.approx(width, rel=0.15)
    assert region.angle - original.angle == pytest.approx(picture.angle, abs=0.15)


def test_it_finds_several_faces_best_first(detector, collage):
    image, places = collage
    regions = detector.detect([image])[0]
    assert len(regions) == len(places)
    scores = [region.score for region in regions]
    assert scores == sorted(scores, reverse=True)
    centers = np.array([region.center for region in regions])
    for x, y, step in places:
        expected = np.array([x, y]) + (np.array([224, 118]) - [100, 20]) / step
        assert np.hypot(*(centers - expected).T).min() < 0.25 * FACE_WIDTH / step


def test_tiles_find_a_face_that_is_small_in_its_picture(astronaut):
    canvas = np.full((1000, 1000, 3), 120, np.uint8)
    portrait = astronaut[20:240:3, 110:340:3]
    canvas[600 : 600 + portrait.shape[0], 150 : 150 + portrait.shape[1]] = portrait
    (region,) = FaceDetector().detect([canvas])[0]
    expected = np.array([150, 600]) + (np.array([224, 118]) - [110, 20]) / 3
    assert np.hypot(*(region.center - expected)) < 0.25 * FACE_WIDTH / 3
    assert FaceDetector(FaceDetector.Config(tiles=False)).detect([canvas])[0] == []


def test_pictures_of_mixed_sizes_are_independent(detector, astronaut, collage, moved):
    images = [
        astronaut,
        collage[0],
        np.zeros((40, 30, 3), np.uint8),
        moved(scale=0.5, shape=(300, 260)).image,
    ]
    together = detector.detect(images)
    assert [len(regions) for regions in together] == [1, 4, 0, 1]
    for image, regions in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        for one, other in zip(regions, alone, strict=True):
            np.testing.assert_allclose(summary(one), summary(other), atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (333, 500), (1000, 1000)])
def test_noise_has_no_face(detector, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 1), dtype=np.uint8)
    assert detector.detect([np.repeat(noise, 3, axis=2)]) == [[]]


def test_a_cat_and_a_rocket_have_no_face(detector):
    assert detector.detect([data.chelsea(), data.rocket()]) == [[], []]


def test_no_pictures_give_no_lists(detector):
    assert detector.detect([]) == []


def test_views_of_pictures_are_welcome(detector, astronaut):
    mirrored = astronaut[:, ::-1]
    mirrored.setflags(write=False)
    (region,) = detector.detect([mirrored])[0]
    (original,) = detector.detect([astronaut])[0]
    assert region.center[0] == pytest.approx(511 - original.center[0], abs=0.03 * FACE_WIDTH)
    assert region.angle == pytest.approx(-original.angle, abs=0.05)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((5, 5), np.uint8), r"uint8 \(5, 5\)"),
        (np.zeros((5, 5, 4), np.uint8), r"uint8 \(5, 5, 4\)"),
        (np.zeros((5, 5, 3)), r"float64 \(5, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), "at least one pixel"),
        ("photo.jpg", "found str"),
    ],
)
def test_other_than_rgb_pictures_are_refused(detector, image, found):
    with pytest.raises(InputError, match=found):
        detector.detect([image])


@pytest.mark.parametrize("threshold", [0.0, 1.0, -3.0])
def test_thresholds_outside_their_range_are_refused(threshold):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        FaceDetector.Config(threshold=threshold)


def test_a_threshold_decides(astronaut):
    strict = partfit.create("detector", "mediapipe-face", threshold=0.99)
    assert strict.detect([astronaut]) == [[]]
