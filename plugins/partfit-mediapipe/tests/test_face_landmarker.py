import numpy as np
import pytest
from skimage import data

import partfit
from partfit.errors import ConfigError, InputError
from partfit.landmarks import Region
from partfit_mediapipe.face_landmarker import FaceLandmarker
from partfit_mediapipe.face_scheme import contour_points, mediapipe468

# the astronaut's face by eye, pixels
BY_EYE = {
    "right_eye_outer_corner": (193, 101),
    "left_eye_outer_corner": (259, 104),
    "nose_tip": (223, 127),
    "right_mouth_corner": (202, 140),
    "left_mouth_corner": (245, 141),
    "chin": (222, 178),
}


def face_size(face):
    return np.sqrt(np.prod(face.box[2:] - face.box[:2]))


def distance(points, others):
    """Mean distance of corresponding points."""
    return np.hypot(*(points - others).T).mean()


def test_points_lie_on_the_features(face):
    assert face.scheme is mediapipe468()
    for name, expected in BY_EYE.items():
        assert np.hypot(*(face.points[face.scheme.names.index(name)] - expected)) < 4, name


def test_every_point_has_a_scale_and_a_confidence(face):
    assert face.score > 0.95
    assert np.all(face.confidence == face.score)
    expected = np.full((468, 2), 0.013 * face_size(face))
    expected[contour_points()] *= 2
    np.testing.assert_allclose(face.scale, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("motion", "tolerance"),
    [
        ({"angle": np.pi / 6}, 0.015),
        ({"angle": -np.pi / 6}, 0.015),
        ({"shift": (31.5, -22.25)}, 0.006),
        ({"scale": 1.7, "shape": (800, 900)}, 0.01),
        ({"scale": 0.5, "shape": (300, 260)}, 0.015),
        ({"angle": np.pi / 6, "scale": 1.3, "shape": (900, 900), "shift": (40.0, 20.0)}, 0.015),
    ],
)
def test_landmarks_move_with_the_picture(locate, face, moved, motion, tolerance):
    picture = moved(**motion)
    (found,) = locate(picture.image)
    assert distance(found.points, picture.map(face.points)) < tolerance * face_size(face) * picture.scale


def test_a_flipped_picture_shows_the_mirrored_landmarks(locate, face, astronaut):
    (flipped,) = locate(astronaut[:, ::-1])
    back = flipped.points[face.scheme.mirror]
    back[:, 0] = 511 - back[:, 0]
    assert distance(back, face.points) < 0.02 * face_size(face)


def test_the_second_look_forgives_a_poor_region(face, astronaut):
    poor = Region(np.add(face.points.mean(axis=0), [9, -8]), (115, 115), angle=0.3)
    (once,), (twice,) = (
        FaceLandmarker(FaceLandmarker.Config(refine=refine)).locate([astronaut], [[poor]])[0]
        for refine in (False, True)
    )
    assert distance(twice.points, face.points) < 0.5 * distance(once.points, face.points)
    assert distance(twice.points, face.points) < 0.02 * face_size(face)


def several_looks(**options):
    return FaceLandmarker(FaceLandmarker.Config(looks=8, **options))


@pytest.fixture(scope="module")
def looked_around(detector, astronaut):
    """The astronaut's face after eight looks."""
    (found,) = several_looks().locate([astronaut], detector.detect([astronaut]))[0]
    return found


def test_several_looks_agree_on_the_features(looked_around, face):
    assert distance(looked_around.points, face.points) < 0.01 * face_size(face)
    for name, expected in BY_EYE.items():
        assert np.hypot(*(looked_around.points[face.scheme.names.index(name)] - expected)) < 4, name


def test_several_looks_keep_the_score(looked_around, face):
    assert looked_around.score == pytest.approx(face.score, abs=1e-6)


def test_the_spread_of_the_looks_adds_to_the_scale(detector, astronaut, looked_around):
    bare = several_looks(relative_error=1e-9).locate([astronaut], detector.detect([astronaut]))[0][0]
    floor = np.full((468, 1), 0.013 * face_size(looked_around))
    floor[contour_points()] *= 2
    assert (bare.scale > 0.001 * face_size(bare)).all()
    np.testing.assert_allclose(looked_around.scale, np.hypot(bare.scale, floor), rtol=1e-6)


def test_confidence_falls_with_the_scale(looked_around):
    sigma = np.sqrt((looked_around.scale**2).mean(axis=1)) / face_size(looked_around)
    expected = looked_around.score * (1 - sigma / 0.1).clip(0, 1)
    np.testing.assert_allclose(looked_around.confidence, expected, rtol=1e-6)
    assert looked_around.confidence[4] > looked_around.confidence[contour_points()].mean()  # tip of the nose


def test_a_covered_half_is_less_certain(detector, astronaut, looked_around):
    covered = astronaut.copy()
    covered[135:200, 180:270] = 128  # the mouth and the chin
    (found,) = several_looks().locate([covered], detector.detect([astronaut]))[0]
    mouth = [found.scheme.names.index(name) for name in ("right_mouth_corner", "left_mouth_corner", "chin")]
    eyes = [found.scheme.names.index(f"{side}_eye_outer_corner") for side in ("right", "left")]
    growth = found.scale / looked_around.scale
    assert growth[mouth].mean() > 1.3 * growth[eyes].mean()


def test_several_looks_at_several_faces(detector, astronaut, looked_around, collage):
    image, places = collage
    images = [image, astronaut]
    regions = detector.detect(images)
    many, (alone,) = several_looks().locate(images, regions)
    np.testing.assert_allclose(alone.points, looked_around.points, atol=1e-3)
    assert len(many) == len(places)
    for x, y, step in places:
        expected = (looked_around.points - [100, 20]) / step + [x, y]
        assert min(distance(found.points, expected) for found in many) < 0.03 * face_size(alone) / step


def test_each_face_of_a_collage_has_its_landmarks(locate, face, collage):
    image, places = collage
    faces = locate(image)
    assert len(faces) == len(places)
    for x, y, step in places:
        expected = (face.points - [100, 20]) / step + [x, y]
        nearest = min(distance(found.points, expected) for found in faces)
        assert nearest < 0.03 * face_size(face) / step


def test_batches_give_what_single_pictures_give(detector, landmarker, astronaut, collage, moved):
    images = [collage[0], np.zeros((30, 20, 3), np.uint8), astronaut, moved(angle=0.3).image]
    regions = detector.detect(images)
    together = landmarker.locate(images, regions)
    assert [len(faces) for faces in together] == [4, 0, 1, 1]
    for image, own, faces in zip(images, regions, together, strict=True):
        (alone,) = landmarker.locate([image], [own])
        for one, other in zip(faces, alone, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=1e-3)
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_faces_keep_the_order_of_their_regions(detector, landmarker, collage):
    image, _ = collage
    regions = detector.detect([image])[0][::-1]
    faces = landmarker.locate([image], [regions])[0]
    assert len(faces) == len(regions)
    for found, region in zip(faces, regions, strict=True):
        assert np.hypot(*(found.points.mean(axis=0) - region.center)) < 0.5 * region.size[0]


def test_two_regions_of_one_face_give_one_detection(detector, landmarker, astronaut):
    (region,) = detector.detect([astronaut])[0]
    other = Region(np.add(region.center, [10, 6]), (120, 120), angle=0.1)
    assert len(landmarker.locate([astronaut], [[region, other]])[0]) == 1


def test_a_region_without_a_face_is_dropped(landmarker, astronaut):
    flag, suit = Region((60, 200), (90, 90)), Region((300, 400), (90, 90))
    assert landmarker.locate([astronaut], [[flag, suit]]) == [[]]
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert landmarker.locate([noise], [[Region((100, 100), (80, 80))]]) == [[]]


def test_pictures_without_a_face_have_no_landmarks(locate):
    for image in (data.coffee(), data.chelsea(), data.rocket()):
        assert locate(image) == []


def test_one_pixel_has_no_face(landmarker):
    dot = np.full((1, 1, 3), 200, np.uint8)
    assert landmarker.locate([dot], [[Region((0, 0), (1, 1))]]) == [[]]


def test_the_threshold_decides(astronaut):
    suit = Region((300, 400), (90, 90))
    willing = partfit.create("landmarker", "mediapipe-face", threshold=0.0)
    (found,) = willing.locate([astronaut], [[suit]])[0]
    assert found.score < 0.5


def test_nothing_to_look_at(landmarker, astronaut):
    assert landmarker.locate([], []) == []
    assert landmarker.locate([astronaut, astronaut], [[], []]) == [[], []]


def test_regions_must_go_with_the_pictures(landmarker, astronaut):
    with pytest.raises(InputError, match="found 1 pictures and 0 lists"):
        landmarker.locate([astronaut], [])


def test_other_than_rgb_pictures_are_refused(landmarker):
    with pytest.raises(InputError, match="RGB uint8"):
        landmarker.locate([np.zeros((5, 5), np.uint8)], [[]])


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"relative_error": 0.0}, {"looks": 0}])
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(ConfigError, match="found"):
        FaceLandmarker.Config(**options)
