import math

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partfit.errors import InputError, ShapeError
from partfit.geometry.crops import Crop, extract_crops
from partfit.landmarks import Region
from partfit.testing.strategies import crops

pixels = hnp.arrays(np.float64, (5, 2), elements=st.floats(-1e3, 1e3, allow_subnormal=False))
deviations = hnp.arrays(np.float64, (5, 2), elements=st.floats(1e-3, 1e3))


def noise_image(height, width, channels=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (channels, height, width)))


def ramp(height, width):
    """A picture (2, H, W) that holds its own pixel coordinates x and y."""
    x, y = np.meshgrid(np.arange(float(width)), np.arange(float(height)))
    return torch.from_numpy(np.stack([x, y]))


def whole(size, resolution, **options):
    """The crop that covers a square picture of `size` pixels exactly."""
    return Crop(((size - 1) / 2, (size - 1) / 2), size, resolution=resolution, **options)


def extract(image, crop, **options):
    return extract_crops(image, [crop], **options)[0].numpy()


def crop_pixels(crop):
    """The centres (R, R, 2) of a crop's pixels, in crop pixels."""
    x, y = np.meshgrid(np.arange(float(crop.resolution)), np.arange(float(crop.resolution)))
    return np.stack([x, y], axis=-1)


# -- points


@given(crops(), pixels)
def test_from_image_inverts_to_image(crop, points):
    np.testing.assert_allclose(crop.from_image(crop.to_image(points)), points, atol=1e-6)


@given(crops(), pixels)
def test_to_image_inverts_from_image(crop, points):
    np.testing.assert_allclose(crop.to_image(crop.from_image(points)), points, atol=1e-9)


@given(crops(), pixels)
def test_to_image_is_a_rotation_a_scale_and_a_shift(crop, points):
    x, y = (points - (crop.resolution - 1) / 2).T * crop.size / crop.resolution
    if crop.mirror:
        x = -x
    c, s = math.cos(crop.angle), math.sin(crop.angle)
    expected = np.stack([c * x - s * y, s * x + c * y], axis=-1) + crop.center
    np.testing.assert_allclose(crop.to_image(points), expected, atol=1e-8)


def test_the_middle_of_a_crop_is_its_centre():
    np.testing.assert_allclose(
        Crop((3.5, 7.25), 10, 0.3, resolution=8).to_image(np.array([3.5, 3.5])), [3.5, 7.25]
    )


def test_a_half_size_crop_has_the_half_pixel_convention():
    x = np.array([[0.0, 3.0], [17.0, 31.0]])
    np.testing.assert_allclose(whole(32, 16).from_image(x), (x + 0.5) * 0.5 - 0.5)


def test_a_positive_angle_turns_x_towards_y():
    crop = Crop((0, 0), 4, math.pi / 2, resolution=4)
    np.testing.assert_allclose(crop.to_image(np.array([2.5, 1.5])), [0, 1], atol=1e-12)


@given(crops(), pixels)
def test_a_mirrored_crop_is_the_crop_flipped(crop, points):
    mirrored = attrs.evolve(crop, mirror=not crop.mirror)
    flipped = np.stack([crop.resolution - 1 - points[:, 0], points[:, 1]], axis=-1)
    np.testing.assert_allclose(mirrored.to_image(flipped), crop.to_image(points), atol=1e-8)


@given(crops())
def test_corners_are_the_outline(crop):
    corners = crop.corners()
    sides = np.roll(corners, -1, axis=0) - corners
    np.testing.assert_allclose(np.linalg.norm(sides, axis=1), crop.size)
    np.testing.assert_allclose(corners.mean(axis=0), crop.center, atol=1e-9)
    turn = sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0]
    assert (turn < 0) == crop.mirror


def test_around_encloses_the_region():
    crop = Crop.around(Region((10, 20), (30, 40), 0.5), scale=1.5, resolution=64)
    assert crop == Crop((10, 20), 60, 0.5, resolution=64)


# -- scales


@given(crops(), deviations)
def test_scale_is_the_diagonal_of_the_covariance(crop, scale):
    A = crop.matrix[:, :2]
    expected = [np.sqrt(np.diag(A @ np.diag(s**2) @ A.T)) for s in scale]
    np.testing.assert_allclose(crop.scale_to_image(scale), expected)
    B = np.linalg.inv(A)
    expected = [np.sqrt(np.diag(B @ np.diag(s**2) @ B.T)) for s in scale]
    np.testing.assert_allclose(crop.scale_from_image(scale), expected)


def test_scale_agrees_with_samples():
    crop = Crop((50, 40), 300, 0.6, resolution=100, mirror=True)
    scale = np.array([2.0, 0.5])
    samples = np.random.default_rng(0).normal(size=(200_000, 2)) * scale
    np.testing.assert_allclose(crop.scale_to_image(scale), crop.to_image(samples).std(axis=0), rtol=0.01)
    np.testing.assert_allclose(crop.scale_from_image(scale), crop.from_image(samples).std(axis=0), rtol=0.01)


@given(crops(), deviations)
def test_equal_scales_only_change_unit(crop, scale):
    round_scale = scale[:, [0, 0]]
    step = crop.size / crop.resolution
    np.testing.assert_allclose(crop.scale_to_image(round_scale), step * round_scale)
    np.testing.assert_allclose(crop.scale_from_image(round_scale), round_scale / step)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_an_unknown_scale_stays_unknown(angle):
    crop = Crop((5, 5), 20, angle, resolution=10)
    unknown = np.array([[np.inf, np.inf], [1, 1]])
    np.testing.assert_allclose(crop.scale_to_image(unknown), [[np.inf, np.inf], [2, 2]])
    np.testing.assert_allclose(crop.scale_from_image(unknown), [[np.inf, np.inf], [0.5, 0.5]])


def test_a_scale_unknown_along_one_axis():
    crop = Crop((5, 5), 20, resolution=10)
    np.testing.assert_allclose(crop.scale_to_image(np.array([np.inf, 1])), [np.inf, 2])


# -- pixels


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_the_identity_crop_is_the_picture(size):
    image = noise_image(size, size)
    np.testing.assert_allclose(extract(image, whole(size, size)), image, atol=1e-9)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_equal_rot90(turns):
    image = noise_image(16, 16)
    turned = np.rot90(image.numpy(), turns, axes=(1, 2))  # anticlockwise, as if the crop had turned clockwise
    np.testing.assert_allclose(extract(image, whole(16, 16, angle=turns * math.pi / 2)), turned, atol=1e-9)


def test_a_mirrored_crop_equals_a_flip():
    image = noise_image(16, 16)
    np.testing.assert_allclose(
        extract(image, whole(16, 16, mirror=True)), image.numpy()[:, :, ::-1], atol=1e-9
    )


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_whole_reduction_is_the_mean_of_blocks(factor):
    image = noise_image(12 * factor, 12 * factor)
    blocks = image.numpy().reshape(3, 12, factor, 12, factor).mean(axis=(2, 4))
    np.testing.assert_allclose(extract(image, whole(12 * factor, 12)), blocks, atol=1e-9)


@pytest.mark.parametrize("corner", [(0, 0), (7, 10), (33, 20), (40, 43)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_reduced_part_is_the_mean_of_its_own_blocks(factor, corner):
    image = noise_image(70, 64)
    side = 7 * factor
    x, y = corner
    crop = Crop((x + (side - 1) / 2, y + (side - 1) / 2), side, resolution=7)
    part = image.numpy()[:, y : y + side, x : x + side]
    np.testing.assert_allclose(
        extract(image, crop), part.reshape(3, 7, factor, 7, factor).mean(axis=(2, 4)), atol=1e-9
    )


@given(
    st.tuples(st.floats(35, 60), st.floats(35, 60)),
    st.floats(1, 40),
    st.floats(-math.pi, math.pi),
    st.integers(1, 30),
    st.booleans(),
)
def test_a_ramp_shows_the_coordinates(center, size, angle, resolution, mirror):
    crop = Crop(center, size, angle, resolution=resolution, mirror=mirror)
    # the averages are exact up to where pixels outside the picture come in
    x, y = extract(ramp(300, 300)[:, :200], crop)
    expected = crop.to_image(crop_pixels(crop))
    known = (expected > 2 + crop.size / resolution).all(axis=-1)
    np.testing.assert_allclose(np.stack([x, y], axis=-1)[known], expected[known], atol=1e-8)


@given(crops(), st.integers(0, 40), st.integers(0, 40))
def test_padding_the_picture_with_fill_changes_nothing(crop, left, top):
    image = noise_image(50, 60, channels=1)
    padded = torch.full((1, 150, 150), 7.0, dtype=torch.float64)
    padded[:, top : top + 50, left : left + 60] = image
    shifted = attrs.evolve(crop, center=(crop.center[0] + left, crop.center[1] + top))
    np.testing.assert_allclose(extract(padded, shifted, fill=7.0), extract(image, crop, fill=7.0), atol=1e-6)


@pytest.mark.parametrize("size", [8, 40, 400])
@pytest.mark.parametrize("direction", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1)])
def test_outside_the_picture_is_fill(size, direction):
    center = 5 + (size + 10) * np.array(direction)
    crop = Crop(center, size, 0.2, resolution=8)
    np.testing.assert_array_equal(extract(noise_image(11, 11), crop, fill=3.0), np.full((3, 8, 8), 3.0))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_border_is_sharp(factor):
    """A crop whose pixels end with the picture shows fill from there on, on each side."""
    n = 10 * factor
    crop = Crop(((n - 1) / 2, (n - 1) / 2), 14 * factor, resolution=14)
    expected = np.zeros((1, 14, 14))
    expected[:, 2:12, 2:12] = 100.0
    image = torch.full((1, n, n), 100.0, dtype=torch.float64)
    np.testing.assert_allclose(extract(image, crop), expected, atol=1e-9)


def test_a_border_within_a_block_is_averaged_with_fill():
    image = torch.full((1, 5, 5), 100.0, dtype=torch.float64)
    crop = Crop((3.5, 3.5), 8, resolution=4)
    line = np.array([1, 1, 0.5, 0])
    np.testing.assert_allclose(extract(image, crop)[0], 100 * np.outer(line, line), atol=1e-9)


def test_bytes_keep_their_range():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8))
    crop = extract_crops(image, [whole(20, 20)])
    assert crop.dtype == torch.float32
    np.testing.assert_allclose(crop[0], image, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_keep_their_type(dtype):
    assert extract_crops(torch.zeros(1, 4, 4, dtype=dtype), [whole(4, 2)]).dtype == dtype


@given(st.lists(crops().map(lambda crop: attrs.evolve(crop, resolution=9)), min_size=1, max_size=4))
def test_crops_do_not_influence_one_another(several):
    image = noise_image(50, 60)
    together = extract_crops(image, several)
    assert together.shape == (len(several), 3, 9, 9)
    for crop, alone in zip(several, together, strict=True):
        np.testing.assert_array_equal(extract(image, crop), alone)


def test_extraction_does_not_change_the_picture():
    image = noise_image(20, 20)
    before = image.clone()
    extract(image, Crop((5, 5), 40, resolution=8), fill=9.0)
    torch.testing.assert_close(image, before, rtol=0, atol=0)


# -- errors


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 0), 0),
        ((0, 0), -1),
        ((math.nan, 0), 1),
        ((0, math.inf), 1),
        ((0, 0), math.nan),
        ((0, 0), 1, math.inf),
    ],
)
def test_impossible_crops_are_refused(arguments):
    with pytest.raises(InputError, match="needs a finite centre and angle, size > 0"):
        Crop(*arguments)


def test_a_crop_without_pixels_is_refused():
    with pytest.raises(InputError, match="resolution >= 1"):
        Crop((0, 0), 1, resolution=0)


@pytest.mark.parametrize("shape", [(20, 20), (1, 3, 20, 20)])
def test_other_picture_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"image: expected shape \(channels, height, width\)"):
        extract_crops(torch.zeros(shape), [whole(4, 4)])


def test_mixed_resolutions_are_refused():
    with pytest.raises(InputError, match=r"one resolution, found \[4, 8\]"):
        extract_crops(torch.zeros(1, 9, 9), [whole(8, 8), whole(8, 4)])


def test_no_crop_is_refused():
    with pytest.raises(InputError, match=r"one resolution, found \[\]"):
        extract_crops(torch.zeros(1, 9, 9), [])


@pytest.mark.parametrize("method", ["to_image", "from_image", "scale_to_image", "scale_from_image"])
def test_points_that_are_no_pairs_are_refused(method):
    with pytest.raises(ShapeError, match=r"expected shape \(\.\.\., 2\), found \(4, 3\)"):
        getattr(whole(4, 4), method)(np.zeros((4, 3)))
