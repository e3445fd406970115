import numpy as np
import pytest
from skimage import data

import partfit
from partfit.errors import ConfigError, InputError
from partfit.landmarks import Region
from partfit_mediapipe.hand_landmarker import HandLandmarker
from partfit_mediapipe.hand_scheme import hand21

WRIST, THUMB_TIP = 0, 4
MIDDLE_JOINTS = [name.endswith(("_pip", "_dip")) for name in hand21().names]


def size(points):
    """Geometric mean of the width and height of the points' box."""
    return np.sqrt(np.prod(np.ptp(points, axis=0)))


def distance(points, others):
    """Mean distance of corresponding points."""
    return np.linalg.norm(points - others, axis=1).mean()


def centred(points):
    return points - points.mean(axis=0)


def whole(image):
    height, width = image.shape[:2]
    return Region(((width - 1) / 2, (height - 1) / 2), (float(width), float(height)))


def test_points_lie_on_the_rendered_hand(hand, hand_truth):
    assert hand.scheme is hand21()
    assert hand.score > 0.95
    # joints of the model and of the network are not quite the same places
    fingers = slice(1, None)
    assert distance(hand.points[fingers], hand_truth.points[fingers]) < 0.04 * size(hand_truth.points)
    assert np.hypot(*(hand.points[WRIST] - hand_truth.points[WRIST])) < 0.15 * size(hand_truth.points)


def test_points_in_metres_have_the_axes_and_the_size_of_the_hand(hand, hand_truth):
    found, expected = centred(hand.points_3d), centred(hand_truth.points_3d)
    scale = (found * expected).sum() / (found**2).sum()
    assert scale == pytest.approx(1, abs=0.15)
    assert distance(found[:, :2], expected[:, :2]) < 0.015
    for axis in range(2):
        assert np.corrcoef(found[:, axis], expected[:, axis])[0, 1] > 0.95


def test_depth_grows_away_from_the_camera(hand, hand_truth):
    # the hand is turned so that the thumb's side is the nearer one
    little = hand.scheme.names.index("little_mcp")
    for points in (hand_truth.points_3d, hand.points_3d):
        assert points[THUMB_TIP, 2] < points[little, 2] - 0.01


def test_the_side_is_that_of_the_hand(locate_hands, hand, hand_picture):
    assert hand.side == "right"
    (flipped,) = locate_hands(hand_picture[:, ::-1])
    assert flipped.side == "left"


def test_a_flipped_picture_shows_the_flipped_points(locate_hands, hand, hand_picture):
    (flipped,) = locate_hands(hand_picture[:, ::-1])
    mirrored = hand.points * [-1, 1] + [hand_picture.shape[1] - 1, 0]
    assert distance(flipped.points, mirrored) < 0.03 * size(hand.points)
    assert distance(centred(flipped.points_3d), centred(hand.points_3d * [-1, 1, 1])) < 0.015


@pytest.mark.parametrize(
    "motion",
    [
        {"angle": 0.7},
        {"angle": -2.0},
        {"angle": np.pi},
        {"scale": 1.6, "shape": (800, 900)},
        {"scale": 0.5, "shape": (300, 260)},
    ],
)
def test_landmarks_move_with_the_picture(locate_hands, hand, moved_hand, motion):
    picture = moved_hand(**motion)
    found = locate_hands(picture.image)[0]
    assert distance(found.points, picture.map(hand.points)) < 0.03 * size(hand.points) * picture.scale
    c, s = np.cos(picture.angle), np.sin(picture.angle)
    turned = hand.points_3d @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    assert distance(centred(found.points_3d), centred(turned)) < 0.008
    assert found.scale[WRIST, 0] == pytest.approx(hand.scale[WRIST, 0] * picture.scale, rel=0.05)


def test_every_point_has_a_scale_and_a_confidence(hand):
    assert np.all(hand.confidence == hand.score)
    inner = hand.scale[MIDDLE_JOINTS]
    assert np.allclose(inner, inner[0, 0])
    assert 0.02 < inner[0, 0] / size(hand.points) < 0.03
    np.testing.assert_allclose(hand.scale[THUMB_TIP], 1.5 * inner[0, 0])
    np.testing.assert_allclose(hand.scale[WRIST], 2.5 * inner[0, 0])
    np.testing.assert_allclose(hand.scale_3d[MIDDLE_JOINTS], [[0.0055, 0.0055, 0.00715]] * 8)


def test_errors_are_options(hand, hand_detector, hand_picture):
    bold = HandLandmarker(HandLandmarker.Config(relative_error=0.013, error_3d=0.011))
    (other,) = bold.locate([hand_picture], hand_detector.detect([hand_picture]))[0]
    np.testing.assert_allclose(other.scale, hand.scale / 2)
    np.testing.assert_allclose(other.scale_3d, hand.scale_3d * 2)


def test_the_lite_network_agrees(hand, hand_detector, hand_picture):
    lite = partfit.create("landmarker", "mediapipe-hand", variant="lite")
    (other,) = lite.locate([hand_picture], hand_detector.detect([hand_picture]))[0]
    assert other.side == "right"
    assert 0 < distance(other.points, hand.points) < 0.04 * size(hand.points)


def test_the_second_look_forgives_a_poor_region(hand, hand_picture):
    poor = Region(np.add(hand.points.mean(axis=0), [-50, -30]), (300, 300), angle=0.5)
    (once,), (twice,) = (
        HandLandmarker(HandLandmarker.Config(refine=refine)).locate([hand_picture], [[poor]])[0]
        for refine in (False, True)
    )
    assert distance(twice.points, hand.points) < 0.5 * distance(once.points, hand.points)
    assert distance(twice.points, hand.points) < 0.03 * size(hand.points)


@pytest.fixture(scope="module")
def look_around(hand_detector, hand_picture):
    """The hands in a picture after eight looks at each."""

    def look(image=hand_picture, **options):
        several = HandLandmarker(HandLandmarker.Config(looks=8, **options))
        return several.locate([image], hand_detector.detect([image]))[0]

    return look


@pytest.fixture(scope="module")
def looked_around(look_around):
    """The rendered hand after eight looks."""
    (found,) = look_around()
    return found


def test_several_looks_agree_with_one(looked_around, hand):
    assert 0 < distance(looked_around.points, hand.points) < 0.02 * size(hand.points)
    assert 0 < distance(centred(looked_around.points_3d), centred(hand.points_3d)) < 0.006
    middles = looked_around.points_3d.mean(axis=0), hand.points_3d.mean(axis=0)
    np.testing.assert_allclose(*middles, atol=0.0003)
    assert looked_around.score == pytest.approx(hand.score, abs=1e-6)
    assert looked_around.side == "right"


def test_several_looks_tell_a_left_hand(look_around, looked_around, hand_picture):
    (flipped,) = look_around(hand_picture[:, ::-1])
    assert flipped.side == "left"
    assert distance(centred(flipped.points_3d), centred(looked_around.points_3d * [-1, 1, 1])) < 0.01


@pytest.mark.parametrize("angle", [0.0, 2.0])
def test_flipped_looks_see_the_same_hand(look_around, moved_hand, angle):
    """Without fixed errors the scale is the spread: points of all looks are back in the picture's axes."""
    (bare,) = look_around(moved_hand(angle).image, relative_error=1e-9, error_3d=1e-9)
    assert np.median(bare.scale) < 0.02 * size(bare.points)
    assert np.median(bare.scale_3d, axis=0).max() < 0.005


def test_the_spread_of_the_looks_adds_to_the_scales(look_around, looked_around, hand):
    (bare,) = look_around(relative_error=1e-9, error_3d=1e-9)
    assert np.median(bare.scale) > 0.002 * size(bare.points)
    assert np.median(bare.scale_3d) > 0.0005
    np.testing.assert_allclose(looked_around.scale_3d, np.hypot(bare.scale_3d, hand.scale_3d), rtol=1e-6)
    floor = np.sqrt(looked_around.scale**2 - bare.scale**2)
    np.testing.assert_allclose(floor / floor[WRIST], hand.scale / hand.scale[WRIST], rtol=1e-6)
    np.testing.assert_allclose(
        floor, hand.scale, rtol=0.05
    )  # the size of the median hand is a little another


def test_confidence_falls_with_the_scale(look_around, looked_around):
    sigma = np.sqrt((looked_around.scale**2).mean(axis=1))
    lost = 1 - looked_around.confidence / looked_around.score
    np.testing.assert_allclose(lost / sigma, lost[WRIST] / sigma[WRIST], rtol=1e-6)
    assert looked_around.confidence[MIDDLE_JOINTS].min() > looked_around.confidence[WRIST] > 0.5
    (vague,) = look_around(relative_error=0.15)
    assert vague.confidence[WRIST] == 0
    assert (vague.confidence[MIDDLE_JOINTS] > 0).all()


def test_a_covered_finger_is_less_certain(hand_picture, hand_detector, looked_around, hand):
    covered = hand_picture.copy()
    names = hand.scheme.names
    index = [names.index(f"index_{joint}") for joint in ("pip", "dip", "tip")]
    little = [names.index(f"little_{joint}") for joint in ("pip", "dip", "tip")]
    low, high = hand.points[index].min(axis=0) - 20, hand.points[index].max(axis=0) + 20
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), high.astype(int)
    covered[y0:y1, x0:x1] = 90
    several = HandLandmarker(HandLandmarker.Config(looks=8))
    (found,) = several.locate([covered], hand_detector.detect([hand_picture]))[0]
    growth, growth_3d = found.scale / looked_around.scale, found.scale_3d / looked_around.scale_3d
    assert growth[index].mean() > 1.3 * growth[little].mean()
    assert growth_3d[index].mean() > growth_3d[little].mean()
    assert found.confidence[index].mean() < looked_around.confidence[index].mean()


def test_several_looks_at_several_hands(hand_detector, hand_picture, looked_around):
    pictures = [hand_picture[:, ::-1], np.zeros((30, 20, 3), np.uint8), hand_picture]
    several = HandLandmarker(HandLandmarker.Config(looks=8))
    (flipped,), none, (alone,) = several.locate(pictures, hand_detector.detect(pictures))
    assert (flipped.side, none, alone.side) == ("left", [], "right")
    np.testing.assert_allclose(alone.points, looked_around.points, atol=1e-3)
    np.testing.assert_allclose(alone.scale, looked_around.scale, atol=1e-3)
    np.testing.assert_allclose(alone.points_3d, looked_around.points_3d, atol=1e-6)


def test_overlapping_hands_of_different_sides_both_survive(
    locate_hands, hand, hand_picture, hand_mask, moved_hand
):
    shift, width = 120, hand_picture.shape[1]
    canvas = np.full((400, 520, 3), 90, np.uint8)
    canvas[:, :width] = hand_picture
    canvas[:, shift : shift + width][hand_mask[:, ::-1]] = hand_picture[:, ::-1][hand_mask[:, ::-1]]
    found = {detection.side: detection for detection in locate_hands(canvas)}
    assert set(found) == {"left", "right"}
    mirrored = hand.points * [-1, 1] + [width - 1 + shift, 0]
    assert distance(found["left"].points, mirrored) < 0.05 * size(hand.points)
    # the right hand's thumb lies behind the left hand
    assert distance(found["right"].points[5:], hand.points[5:]) < 0.05 * size(hand.points)


def test_two_regions_of_one_hand_give_one_detection(hand_detector, hand_landmarker, hand_picture):
    (region,) = hand_detector.detect([hand_picture])[0]
    other = Region(np.add(region.center, [35, -20]), (300, 300), angle=region.angle - 0.4)
    assert len(hand_landmarker.locate([hand_picture], [[region, other]])[0]) == 1


@pytest.mark.parametrize(
    "cut", [np.s_[:, 100:], np.s_[:, :220], np.s_[:220], np.s_[140:]], ids=["left", "right", "bottom", "top"]
)
def test_a_hand_cut_by_the_border_is_still_a_hand(locate_hands, hand_picture, cut):
    for detection in (*locate_hands(hand_picture[cut]), *locate_hands(hand_picture[cut][:, ::-1])):
        assert detection.usable.all()
        assert np.isfinite(detection.points_3d).all()
    (detection,) = locate_hands(hand_picture[cut])
    assert detection.side == "right"


def mitten(colour):
    """A hand-like blob without fingers, on grey."""
    y, x = np.mgrid[:400, :320]
    palm = ((x - 150) / 75) ** 4 + ((y - 170) / 120) ** 4 < 1
    along, across = 0.8 * (x - 235) + 0.6 * (y - 230), 0.8 * (y - 230) - 0.6 * (x - 235)
    thumb = (along / 60) ** 2 + (across / 25) ** 2 < 1
    image = np.full((400, 320, 3), 110, np.uint8)
    image[palm | thumb | ((abs(x - 150) < 50) & (y > 250))] = colour
    return image


@pytest.mark.parametrize("colour", [(150, 40, 40), (224, 172, 140)], ids=["red", "skin"])
def test_a_mitten_is_no_trouble(locate_hands, colour):
    image = mitten(colour)
    willing = HandLandmarker(HandLandmarker.Config(threshold=0.0))
    (forced,) = willing.locate([image], [[Region((160, 190), (390, 390))]])[0]
    for detection in (forced, *locate_hands(image)):
        assert detection.usable.all()
        assert np.isfinite(detection.points_3d).all()
        assert 0 <= detection.score <= 1


def test_pictures_without_a_hand_have_no_landmarks(locate_hands):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    grey = np.full((300, 300, 3), 128, np.uint8)
    for image in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), noise, grey):
        assert locate_hands(image) == []


def test_a_region_without_a_hand_is_dropped(hand_landmarker):
    portrait = data.astronaut()[0:200, 120:320]
    assert hand_landmarker.locate([portrait], [[whole(portrait)]]) == [[]]


def test_the_threshold_decides():
    portrait = data.astronaut()[0:200, 120:320]
    willing = partfit.create("landmarker", "mediapipe-hand", threshold=0.0)
    (found,) = willing.locate([portrait], [[whole(portrait)]])[0]
    assert found.score < 0.5


def test_batches_give_what_single_pictures_give(hand_detector, hand_landmarker, hand_picture, moved_hand):
    images = [hand_picture, np.zeros((30, 20, 3), np.uint8), moved_hand(angle=0.5).image]
    regions = hand_detector.detect(images)
    together = hand_landmarker.locate(images, regions)
    assert [len(hands) for hands in together] == [1, 0, 1]
    for image, own, hands in zip(images, regions, together, strict=True):
        (alone,) = hand_landmarker.locate([image], [own])
        for one, other in zip(hands, alone, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=1e-3)
            np.testing.assert_allclose(one.points_3d, other.points_3d, atol=1e-6)


def test_regions_must_go_with_the_pictures(hand_landmarker, hand_picture):
    with pytest.raises(InputError, match="found 1 pictures and 0 lists"):
        hand_landmarker.locate([hand_picture], [])


@pytest.mark.parametrize(
    "options",
    [{"threshold": 1.5}, {"relative_error": 0.0}, {"error_3d": -1.0}, {"looks": 0}, {"variant": "tiny"}],
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(ConfigError, match="found"):
        HandLandmarker.Config(**options)
