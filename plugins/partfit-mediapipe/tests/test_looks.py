import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partfit.geometry.crops import Crop
from partfit_mediapipe.looks import agreement, certainty, jittered, look_around

numbers = st.floats(-500, 500)
crops = st.builds(
    Crop,
    st.tuples(numbers, numbers),
    st.floats(0.1, 1e4),
    st.floats(-np.pi, np.pi),
    resolution=st.sampled_from([64, 192, 224]),
    mirror=st.booleans(),
)


@given(crops, st.integers(1, 20))
def test_the_first_look_is_the_crop_and_half_are_flipped(crop, looks):
    found = jittered(crop, looks)
    assert len(found) == looks
    np.testing.assert_allclose(found[0].matrix, crop.matrix, atol=1e-9)
    assert [look.mirror != crop.mirror for look in found] == [bool(i % 2) for i in range(looks)]


@given(crops)
def test_looks_are_small_changes_that_differ(crop):
    looks = jittered(crop, 16)
    assert len(set(looks)) == 16
    for look in looks:
        assert np.abs(np.subtract(look.center, crop.center)).max() <= 0.1 * np.sqrt(2) * crop.size * (
            1 + 1e-9
        )
        assert abs(np.log(look.size / crop.size)) <= 0.1 + 1e-9
        assert abs(look.angle - crop.angle) <= 0.3 + 1e-9
        assert look.resolution == crop.resolution


@given(crops)
def test_the_changes_do_not_depend_on_the_crop(crop):
    """In the crop's own frame each look lies where it lies for a plain crop."""
    plain = Crop((0.0, 0.0), 1.0, resolution=crop.resolution)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * crop.resolution
    own = Crop(crop.center, crop.size, crop.angle, resolution=crop.resolution)
    for look, other in zip(jittered(own, 6), jittered(plain, 6), strict=True):
        expected = plain.from_image(other.to_image(corners))
        np.testing.assert_allclose(
            own.from_image(look.to_image(corners)), expected, atol=1e-6 * crop.resolution
        )


def test_more_looks_begin_as_fewer_do():
    crop = Crop((3.0, -4.0), 20.0, 0.4)
    assert jittered(crop, 12)[:5] == jittered(crop, 5)


def test_the_looks_are_spread_evenly():
    looks = jittered(Crop((0.0, 0.0), 1.0), 64)
    changes = np.array([[*look.center, np.log(look.size), look.angle] for look in looks]) / [
        0.1,
        0.1,
        0.1,
        0.3,
    ]
    assert np.abs(changes.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(changes.std(axis=0), 1 / np.sqrt(3), rtol=0.1)


@given(st.lists(st.lists(crops, max_size=3), max_size=3), st.integers(1, 5))
def test_each_crop_gets_the_answers_to_its_own_looks(crops_of_pictures, looks):
    def look(shown):
        assert [len(own) for own in shown] == [looks * len(own) for own in crops_of_pictures]
        return [(picture, crop) for picture, own in enumerate(shown) for crop in own]

    found = look_around(look, crops_of_pictures, looks)
    expected = [
        [(picture, look) for look in jittered(crop, looks)]
        for picture, own in enumerate(crops_of_pictures)
        for crop in own
    ]
    assert found == expected


def test_certainty_falls_with_the_scale_to_nothing():
    scale = np.array([[0.0, 0.0], [1.0, 1.0], [np.sqrt(2), 0.0], [2.0, 2.0], [9.0, 9.0], [np.inf, 1.0]])
    np.testing.assert_allclose(certainty(scale, 2.0, looks=8), [1, 0.5, 0.5, 0, 0, 0], atol=1e-12)


def test_a_single_look_is_certain():
    assert np.array_equal(certainty(np.array([[0.0, 0.0], [9.0, 9.0]]), 2.0, looks=1), [1, 1])


def test_spread_is_a_standard_deviation_of_normal_answers():
    answers = np.random.default_rng(0).normal(5.0, [0.5, 2.0], (20000, 2))
    median, spread = agreement(answers)
    np.testing.assert_allclose(median, 5.0, atol=0.05)
    np.testing.assert_allclose(spread, [0.5, 2.0], rtol=0.03)


def test_one_failed_look_does_not_move_the_median():
    answers = np.zeros((8, 3, 2))
    answers[::2] += 0.1
    failed = answers.copy()
    failed[0] = 50.0
    median, spread = agreement(failed)
    assert median.shape == spread.shape == (3, 2)
    assert np.abs(median).max() <= 0.1
    assert (spread < failed.std(axis=0)).all()


def test_a_single_look_is_its_own_median_without_a_spread():
    answers = np.random.default_rng(0).normal(size=(1, 4, 3))
    median, spread = agreement(answers)
    assert np.array_equal(median, answers[0])
    assert not spread.any()
