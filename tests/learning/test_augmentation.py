import math

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit.config import from_dict, to_dict
from partfit.errors import ConfigError, InputError
from partfit.geometry.crops import extract_crops
from partfit.landmarks import LandmarkScheme
from partfit.learning.augmentation import (
    CUT_OFF,
    AugmentationConfig,
    CropGeometry,
    alter_colours,
    cut_out,
    degrade,
    draw_geometry,
    fixed_geometry,
    flip_sample,
    hide_outside,
    mirror_landmarks,
    sample_crops,
    to_crop_units,
)
from partfit.learning.crops import CropRule
from partfit.learning.distribution import LandmarkTargets
from partfit.testing.conformance import DatasetConformance
from partfit.testing.datasets import BlobDataset

NOTHING = AugmentationConfig(
    **dict.fromkeys(
        ("horizontal_flip", "rotation", "shift", "brightness", "contrast", "saturation", "hue", "gamma"), 0.0
    ),
    **dict.fromkeys(("grey", "blur", "noise", "cutout"), 0.0),
    scale=(1.0, 1.0),
)
RULE = CropRule(0.1, (0.05, 0.15))


def only(**options):
    return attrs.evolve(NOTHING, **options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def boxes(n=64, seed=0):
    """Random boxes (n, 4) of some 60 by 40 pixels."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(20, 60, (n, 2))
    return torch.tensor(np.concatenate([low, low + rng.uniform(30, 70, (n, 2))], axis=1))


@st.composite
def geometries(draw):
    number = st.floats(-60.0, 60.0, allow_subnormal=False)
    angle = st.one_of(st.sampled_from([0.0, 1e-8, math.pi, -math.pi / 2]), st.floats(-math.pi, math.pi))
    center = torch.tensor([[draw(number), draw(number)]], dtype=torch.float64)
    side, turn = draw(st.floats(5.0, 200.0)), draw(angle)
    flipped = torch.tensor([draw(st.booleans())])
    return CropGeometry(center, center.new_tensor([side]), center.new_tensor([turn]), flipped)


def corners_of(geometry):
    """The corners (B, 4, 2) of crops, stored pixels."""
    square = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]).to(geometry.side)
    M = geometry.matrix
    return square @ M[:, :, :2].mT + M[:, None, :, 2]


# -- geometry


@given(geometries(), st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=5))
def test_to_crop_units_inverts_the_matrix(geometry, units):
    units = torch.tensor([units], dtype=torch.float64)
    M = geometry.matrix
    stored = units @ M[:, :, :2].mT + M[:, None, :, 2]
    torch.testing.assert_close(to_crop_units(stored, M), units, atol=1e-9, rtol=0)


@given(geometries())
def test_the_matrix_is_a_similarity_that_reverses_handedness_exactly_for_flips(geometry):
    A = geometry.matrix[0, :, :2]
    side = geometry.side.item()
    torch.testing.assert_close(A.T @ A, side**2 * torch.eye(2, dtype=A.dtype), atol=1e-7, rtol=1e-12)
    assert (torch.linalg.det(A) < 0) == geometry.flipped.item()


@given(geometries(), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_flip_reverses_x_of_the_crop_alone_and_twice_is_nothing(geometry, x, y):
    flipped = attrs.evolve(geometry, flipped=~geometry.flipped)
    M = geometry.matrix
    stored = M[:, None, :, :2] @ torch.tensor([x, y], dtype=torch.float64)[None, None, :, None]
    stored = stored[..., 0] + M[:, None, :, 2]
    expected = torch.tensor([[[-x, y]]], dtype=torch.float64)
    torch.testing.assert_close(to_crop_units(stored, flipped.matrix), expected, atol=1e-9, rtol=0)
    again = attrs.evolve(flipped, flipped=~flipped.flipped)
    assert torch.equal(again.matrix, M)


def test_without_augmentation_the_crop_is_that_of_use():
    rule = CropRule(0.2, (0.2, 0.2))
    drawn = draw_geometry(NOTHING, rule, boxes(), generator())
    for k, box in enumerate(boxes().numpy()):
        crop = rule.crop(box, 100)
        # crop units u are crop pixels (u + 0.5) 100 - 0.5
        expected = crop.to_image(np.array([[-0.5, 99.5], [49.5, 0]]))
        units = torch.tensor([[-0.5, 0.5], [0.0, -0.495]], dtype=torch.float64)
        for geometry in (drawn, fixed_geometry(rule, boxes())):
            M = geometry.matrix[k]
            np.testing.assert_allclose(units @ M[:, :2].T + M[:, 2], expected, atol=1e-5)


def test_each_side_has_its_own_margin():
    box = boxes(4000)[:1].repeat(4000, 1)
    geometry = draw_geometry(NOTHING, CropRule(0.1, (-0.1, 0.3)), box, generator())
    size = (box[0, 2:] - box[0, :2]).numpy()
    middle = ((box[0, :2] + box[0, 2:]) / 2).numpy()
    moved = (geometry.center.numpy() - middle) / size
    # half the difference of two uniform numbers of width 0.4
    assert np.allclose(moved.std(axis=0), 0.4 / np.sqrt(24), rtol=0.05)
    assert np.abs(moved).max() <= 0.2
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.05
    assert 0.8 * size.max() <= geometry.side.min() < geometry.side.max() <= 1.6 * size.max()


def test_ranges_are_kept_and_reached():
    config = only(rotation=0.4, scale=(0.5, 2.0), shift=0.1, horizontal_flip=0.25)
    box = boxes(4000)
    geometry = draw_geometry(config, CropRule(0.0, (0.0, 0.0)), box, generator())
    angle = geometry.angle.numpy()
    assert 0.39 < np.abs(angle).max() <= 0.4
    scale = ((box[:, 2:] - box[:, :2]).amax(dim=1) / geometry.side).numpy()
    assert 0.5 <= scale.min() < 0.51
    assert 1.97 < scale.max() <= 2.0 + 1e-9
    assert abs(np.log(scale).mean()) < 0.03  # as often smaller as larger
    moved = ((geometry.center - (box[:, :2] + box[:, 2:]) / 2) / geometry.side[:, None]).numpy()
    assert 0.098 < np.abs(moved).max() <= 0.1 + 1e-9
    assert abs(geometry.flipped.float().mean() - 0.25) < 0.03


def test_the_jitter_of_regions_has_the_spread_that_is_asked_for():
    config = only(region_spread=(0.1, 0.05, 0.2))
    box = boxes(20000)
    geometry = draw_geometry(config, CropRule(0.0, (0.0, 0.0)), box, generator())
    longer = (box[:, 2:] - box[:, :2]).amax(dim=1)
    moved = (geometry.center - (box[:, :2] + box[:, 2:]) / 2) / longer[:, None]
    jitter = torch.cat([(geometry.side / longer).log()[:, None], moved], dim=1)
    # of a normal variable clamped at two deviations, all but 5% is as it was
    np.testing.assert_allclose(jitter.std(dim=0), [0.1, 0.05, 0.2], rtol=0.06)
    assert (jitter.abs().amax(dim=0) <= CUT_OFF * torch.tensor([0.1, 0.05, 0.2]) + 1e-6).all()


def test_a_vertical_flip_is_a_flip_and_half_a_turn():
    upright = draw_geometry(NOTHING, RULE, boxes(), generator())
    turned = draw_geometry(only(vertical_flip=1.0), RULE, boxes(), generator())
    u = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64).expand(64, 1, 2)
    M = upright.matrix
    stored = u @ M[:, :, :2].mT + M[:, None, :, 2]
    expected = torch.tensor([0.3, 0.2], dtype=torch.float64).expand(64, 1, 2)
    torch.testing.assert_close(to_crop_units(stored, turned.matrix), expected, atol=1e-6, rtol=0)
    assert turned.flipped.all()
    both = draw_geometry(only(vertical_flip=1.0, horizontal_flip=1.0), RULE, boxes(), generator())
    assert not both.flipped.any()  # half a turn, which no mirror is needed for


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, math.pi),
    st.tuples(st.floats(0.5, 1.0), st.floats(1.0, 2.0)),
    st.floats(0, 0.3),
    st.tuples(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 0.2)),
    st.tuples(st.floats(-0.1, 0.1), st.floats(0.1, 0.4)),
    st.integers(0, 100),
)
def test_every_crop_lies_within_the_stated_extent(rotation, scale, shift, spread, margins, seed):
    config = AugmentationConfig(
        rotation=rotation, scale=scale, shift=shift, region_spread=spread, vertical_flip=0.5
    )
    rule = CropRule(0.1, margins)
    box = boxes(500, seed)
    middle, longer = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).amax(dim=1)
    half = config.extent(rule) / 2 * longer
    for geometry in (draw_geometry(config, rule, box, generator(seed)), fixed_geometry(rule, box)):
        reach = (corners_of(geometry) - middle[:, None]).abs().amax(dim=(1, 2))
        assert (reach <= half + 1e-6).all()


def test_the_extent_is_no_larger_than_needed():
    config = AugmentationConfig(rotation=0.3, shift=0.1, scale=(0.8, 1.2))
    box = boxes(1)[:1].repeat(200000, 1)
    reach = (
        corners_of(draw_geometry(config, RULE, box, generator())) - (box[:, None, :2] + box[:, None, 2:]) / 2
    )
    longer = (box[0, 2:] - box[0, :2]).max()
    assert reach.abs().max() > 0.9 * config.extent(RULE) / 2 * longer


# -- pictures


def blob_picture(points, side=200, sigma=2.5):
    """A picture (1, 3, S, S) of blobs at points (L, 2), uint8."""
    axis = torch.arange(side, dtype=torch.float64)
    x, y = axis[None, None, :] - points[:, 0, None, None], axis[None, :, None] - points[:, 1, None, None]
    blobs = torch.exp(-(x**2 + y**2) / (2 * sigma**2)).sum(dim=0)
    return (255 * blobs).round().to(torch.uint8).expand(1, 3, -1, -1)


def centroid(image, near, reach):
    """Centre of the brightness of a picture (R, R) within `reach` pixels of a point."""
    axis = torch.arange(image.shape[-1], dtype=torch.float64)
    distance = (axis[None, :] - near[0]) ** 2 + (axis[:, None] - near[1]) ** 2
    weight = image.double() * (distance < reach**2)
    return torch.stack([(weight * axis[None, :]).sum(), (weight * axis[:, None]).sum()]) / weight.sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_blobs_stay_under_their_landmarks(seed):
    rng = np.random.default_rng(seed)
    points = torch.tensor([[84.0, 85.0], [116.0, 84.0], [84.0, 116.0], [115.0, 115.0]])
    points = points + torch.tensor(rng.uniform(-2, 2, (4, 2)))
    box = torch.tensor([[60.0, 60.0, 140.0, 140.0]], dtype=torch.float64)
    config = AugmentationConfig(horizontal_flip=0.5, vertical_flip=0.5, rotation=math.pi, scale=(0.8, 1.2))
    geometry = draw_geometry(config, RULE, box, generator(seed))
    crop = sample_crops(blob_picture(points), geometry.matrix.float(), 128)[0, 0]
    pixels = (to_crop_units(points[None], geometry.matrix)[0] + 0.5) * 128 - 0.5
    scale = 128 / geometry.side.item()
    for pixel in pixels:
        found = centroid(crop, pixel, 4.5 * 2.5 * scale)
        assert (found - pixel).norm() < 0.05


def test_crops_equal_those_of_use_where_nothing_is_averaged():
    picture = torch.randint(0, 256, (3, 90, 90), generator=generator(), dtype=torch.uint8)
    box = np.array([20.0, 25.0, 60.0, 70.0])
    rule = CropRule(0.1)
    matrix = fixed_geometry(rule, torch.tensor(box)[None]).matrix.float()
    expected = extract_crops(picture, [rule.crop(box, 64)]) / 255
    torch.testing.assert_close(sample_crops(picture[None], matrix, 64), expected, atol=2e-5, rtol=0)


def test_it_is_black_outside():
    white = torch.full((1, 3, 50, 50), 255, dtype=torch.uint8)
    geometry = CropGeometry(
        torch.tensor([[0.0, 24.5]]), torch.tensor([40.0]), torch.zeros(1), torch.tensor([False])
    )
    crop = sample_crops(white, geometry.matrix, 40)[0]
    assert (crop[:, :, :19] == 0).all()
    torch.testing.assert_close(crop[:, :, 21:], torch.ones(3, 40, 19))


# -- landmarks


def test_landmarks_of_flipped_crops_are_reordered_by_the_mirror():
    values = torch.arange(12.0).reshape(2, 3, 2)
    flipped = torch.tensor([False, True])
    mirrored = mirror_landmarks(values, flipped, np.array([2, 1, 0]))
    assert mirrored.tolist() == [values[0].tolist(), values[1].flip(0).tolist()]
    assert torch.equal(mirror_landmarks(mirrored, flipped, np.array([2, 1, 0])), values)


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        (LandmarkScheme("plain", ["a", "b"]), "'plain' has no mirror"),
        (
            LandmarkScheme("left", ["a", "b"], mirror=[0, 1], mirror_scheme="right"),
            "shows 'right' when flipped",
        ),
    ],
)
def test_schemes_without_a_mirror_refuse_flips(scheme, reason):
    for option in ("horizontal_flip", "vertical_flip"):
        with pytest.raises(ConfigError, match=f"{reason}.*Set horizontal_flip and vertical_flip to 0"):
            only(**{option: 0.1}).check_scheme(scheme)
    NOTHING.check_scheme(scheme)
    AugmentationConfig().check_scheme(LandmarkScheme("own", ["a", "b"], mirror=[1, 0], mirror_scheme="own"))


def test_landmarks_outside_are_hidden_but_stay_targets():
    points = torch.tensor([[[0.4, 0.5], [0.51, 0.0], [0.0, -0.6], [-0.7, 0.0], [9.0, 0.0]]])
    visible = torch.tensor([[1.0, 1.0, 1.0, 0.0, math.nan]])
    targets = hide_outside(LandmarkTargets(points, torch.ones(1, 5), visible))
    assert targets.visible[0, :4].tolist() == [1, 0, 0, 0]
    assert targets.visible[0, 4].isnan()
    assert torch.equal(targets.points, points)
    assert torch.equal(targets.weight, torch.ones(1, 5))


def test_cut_outs_hide_the_landmarks_that_they_cover_and_nothing_else():
    n, R = 40, 64
    axis = (torch.arange(R) + 0.5) / R - 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(1, -1, 2).expand(n, -1, 2)
    targets = LandmarkTargets(grid, torch.ones(n, R * R), torch.ones(n, R * R))
    images = torch.full((n, 3, R, R), -1.0)  # which no cut-out paints
    after = cut_out(images, targets, only(cutout=0.5, cutout_size=(0.2, 0.4)), generator())
    painted = (images != -1).any(dim=1)
    assert torch.equal(painted.flatten(1), after.visible == 0)
    assert torch.equal(painted, (images != -1).all(dim=1))
    assert (images[painted[:, None].expand_as(images)] >= 0).all()
    share = painted.float().mean(dim=(1, 2))
    assert 10 < (share > 0).sum() < 30
    sides = painted.any(dim=1).float().mean(dim=1)[share > 0]
    assert 0.2 - 1 / R <= sides.min() < sides.max() <= 0.4 + 1 / R
    assert torch.equal(after.points, grid)
    unknown = attrs.evolve(targets, visible=torch.full((n, R * R), math.nan))
    assert cut_out(images, unknown, only(cutout=1.0), generator()).visible.isnan().all()
    assert cut_out(images, attrs.evolve(targets, visible=None), only(cutout=1.0), generator()).visible is None


# -- colours


def pictures(n=200, R=16, seed=1):
    return torch.rand((n, 3, R, R), generator=generator(seed)) * 0.4 + 0.3


def luma(images):
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)


def test_strength_0_changes_no_colour():
    images = pictures()
    torch.testing.assert_close(alter_colours(images.clone(), NOTHING, generator()), images)
    assert torch.equal(degrade(images.clone(), NOTHING, generator()), images)


def test_brightness_multiplies():
    ratio = alter_colours(pictures(), only(brightness=0.3), generator()) / pictures()
    factor = ratio[:, :1, :1, :1]
    torch.testing.assert_close(ratio, factor.expand_as(ratio), atol=1e-5, rtol=0)
    assert 0.7 <= factor.min() < 0.72
    assert 1.28 < factor.max() <= 1.3


def test_contrast_keeps_the_mean_and_scales_what_differs_from_it():
    before, after = pictures(), alter_colours(pictures(), only(contrast=0.3), generator())
    mean = luma(before).mean(dim=(1, 2))[:, None, None, None]
    factor = (after - mean) / (before - mean)
    torch.testing.assert_close(luma(after).mean(dim=(1, 2)), luma(before).mean(dim=(1, 2)))
    near = (before - mean).abs() > 0.05
    spread = [values[chosen].std() for values, chosen in zip(factor, near, strict=True)]
    assert max(spread) < 1e-4


def test_saturation_and_grey_keep_the_luma():
    before = pictures()
    after = alter_colours(before.clone(), only(saturation=0.3, grey=0.5), generator())
    torch.testing.assert_close(luma(after), luma(before))
    colourless = (after.amax(dim=1) - after.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert 70 < colourless.sum() < 130


def test_hue_turns_about_the_grey_axis():
    before = pictures()
    after = alter_colours(before.clone(), only(hue=0.5), generator())
    torch.testing.assert_close(after.mean(dim=1), before.mean(dim=1))  # along the axis
    chroma = [images - images.mean(dim=1, keepdim=True) for images in (before, after)]
    torch.testing.assert_close(chroma[0].norm(dim=1), chroma[1].norm(dim=1))
    cosine = (chroma[0] * chroma[1]).sum(dim=1) / chroma[0].square().sum(dim=1)
    angle = cosine.clamp(-1, 1).acos()[:, 0, 0]
    assert 0.48 < angle.max() < 0.5 + 1e-3
    torch.testing.assert_close(cosine, cosine[:, :1, :1].expand_as(cosine), atol=1e-3, rtol=0)


def test_gamma_is_an_exponent():
    exponent = alter_colours(pictures(), only(gamma=0.5), generator()).log() / pictures().log()
    torch.testing.assert_close(exponent, exponent[:, :1, :1, :1].expand_as(exponent), atol=1e-4, rtol=0)
    assert 1 / 1.5 - 1e-4 <= exponent.min() < 0.7
    assert 1.45 < exponent.max() <= 1.5 + 1e-4


def test_blur_smooths_its_share_and_keeps_the_mean():
    flat = torch.rand((200, 3, 32, 32), generator=generator(3))
    after = degrade(flat.clone(), only(blur=0.4, blur_sigma=(0.03, 0.05)), generator())
    blurred = (after != flat).flatten(1).any(dim=1)
    assert 55 < blurred.sum() < 105
    # white noise through a Gaussian of sigma s loses all but 1 / (4 pi s^2) of its variance
    inner = after[blurred][:, :, 8:-8, 8:-8]
    shares = inner.var(dim=(1, 2, 3)) * 12
    assert (shares > 0.5 / (4 * math.pi * 1.6**2)).all()
    assert (shares < 1.8 / (4 * math.pi * 0.96**2)).all()
    torch.testing.assert_close(after.mean(), flat.mean(), atol=3e-3, rtol=0)


def test_noise_has_at_most_its_deviation():
    grey = torch.full((300, 3, 16, 16), 0.5)
    after = degrade(grey.clone(), only(noise=0.5, noise_sigma=0.06), generator())
    deviation = after.flatten(1).std(dim=1)
    noisy = deviation > 0
    assert 115 < noisy.sum() < 185
    assert 0.05 < deviation.max() < 0.065
    # uniform from 0
    assert abs(deviation[noisy].mean() - 0.03) < 0.005


def test_pictures_stay_between_0_and_1():
    wild = AugmentationConfig(
        brightness=1.0, contrast=1.0, saturation=1.0, hue=3.0, noise=1.0, noise_sigma=1.0
    )
    images = torch.rand((50, 3, 16, 16), generator=generator())
    for out in (alter_colours(images.clone(), wild, generator()), degrade(images.clone(), wild, generator())):
        assert out.isfinite().all()
        assert 0 <= out.min() < out.max() <= 1


# -- randomness


def test_the_generator_alone_decides():
    config = AugmentationConfig(vertical_flip=0.3, region_spread=(0.1, 0.1, 0.1))
    images = pictures(16, 32)
    targets = LandmarkTargets.of_points(torch.zeros(16, 1, 2))

    def everything(seed):
        g = generator(seed)
        geometry = draw_geometry(config, RULE, boxes(16), g)
        out = alter_colours(images.clone(), config, g)
        cut_out(out, targets, config, g)
        return torch.cat([geometry.matrix.flatten(), degrade(out, config, g).flatten()])

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = everything(5)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    torch.manual_seed(2)
    assert torch.equal(everything(5), first)
    assert not torch.equal(everything(6), first)


# -- configuration


@pytest.mark.parametrize(
    "option",
    [
        {"horizontal_flip": 1.1},
        {"grey": -0.1},
        {"rotation": 4.0},
        {"rotation": math.nan},
        {"scale": (0.0, 1.0)},
        {"scale": (1.2, 1.0)},
        {"region_spread": (0.1, -0.1, 0.1)},
        {"brightness": 1.5},
        {"shift": math.inf},
        {"blur_sigma": (0.0, 0.1)},
        {"cutout_size": (0.1, 1.2)},
    ],
)
def test_wrong_options_are_refused_by_name(option):
    (name,) = option
    with pytest.raises(ConfigError, match=rf"augmentation\.{name}: expected"):
        AugmentationConfig(**option)


def test_the_configuration_goes_to_toml_and_back():
    config = AugmentationConfig(scale=(0.8, 1.2), region_spread=(0.1, 0.02, 0.03))
    assert from_dict(AugmentationConfig, to_dict(config)) == config


# -- flips of whole samples


def blob_samples():
    return BlobDataset(BlobDataset.Config(hidden=0.3))


def projected(sample):
    pixels = sample.vertices @ sample.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


@pytest.mark.parametrize("vertical", [False, True])
@given(index=st.integers(0, 31))
def test_flipped_vertices_are_seen_where_flipped_landmarks_are(vertical, index):
    dataset = blob_samples()
    sample, mirror = dataset[index], dataset.scheme.mirror
    flipped = flip_sample(sample, dataset.scheme, vertical=vertical, vertex_mirror=mirror)
    np.testing.assert_allclose(projected(sample), sample.points, atol=1e-9)
    np.testing.assert_allclose(projected(flipped), flipped.points, atol=1e-9)
    # a mirror of space: distances stay, handedness does not
    triple = [np.linalg.det(s.vertices[[0, 5, 11]]) for s in (sample, flipped)]
    original = np.linalg.det(sample.vertices[mirror][[0, 5, 11]])
    np.testing.assert_allclose(triple[1], -original, rtol=1e-9)
    assert (flipped.vertices[:, 2] > 0).all()


@pytest.mark.parametrize("vertical", [False, True])
@given(index=st.integers(0, 31))
def test_flipped_landmarks_lie_on_their_blobs(vertical, index):
    dataset = blob_samples()
    flipped = flip_sample(dataset[index], dataset.scheme, vertical=vertical)
    height, width = flipped.image.shape[:2]
    for number, ((x, y), visible) in enumerate(zip(flipped.points, flipped.visible, strict=True)):
        if visible and 0 <= round(x) < width and 0 <= round(y) < height:
            red, _, blue = flipped.image[round(y), round(x)].astype(int)
            # what the mirrored plate has on its left half are the blue blobs of the right one
            assert (blue > red) == (number % 4 < 2)
    x0, y0, x1, y1 = flipped.box
    np.testing.assert_allclose([x0, y0], flipped.points.min(axis=0) - 8)
    np.testing.assert_allclose([x1, y1], flipped.points.max(axis=0) + 8)


class FlippedBlobs(BlobDataset):
    """Its own mirror: each sample upside down or left to right."""

    vertical = False

    def __getitem__(self, index):
        return flip_sample(
            super().__getitem__(index), self.scheme, vertical=self.vertical, vertex_mirror=self.scheme.mirror
        )


class FlippedUpsideDown(FlippedBlobs):
    vertical = True


@pytest.mark.parametrize("dataset", [BlobDataset, FlippedBlobs, FlippedUpsideDown])
def test_flipped_samples_are_as_the_suite_wants_all_samples(dataset):
    """Cameras with positive focal lengths, points in boxes, what is in sight in the picture."""

    class Suite(DatasetConformance):
        n_samples = 8

        def make(self):
            return dataset(BlobDataset.Config(hidden=0.3))

    suite = Suite()
    suite.test_the_camera_shows_the_landmarks()
    suite.test_boxes_are_around_the_landmarks()
    suite.test_what_is_in_sight_is_in_the_picture()


@pytest.mark.parametrize("vertical", [False, True])
def test_a_flip_is_its_own_inverse(vertical):
    dataset = blob_samples()
    sample, mirror = dataset[3], dataset.scheme.mirror
    sample = attrs.evolve(sample, occlusion=sample.image[..., 0] > 3)
    twice = sample
    for _ in range(2):
        twice = flip_sample(twice, dataset.scheme, vertical=vertical, vertex_mirror=mirror)
    for name in ("image", "points", "box", "visible", "occlusion", "vertices", "intrinsics"):
        np.testing.assert_allclose(getattr(twice, name), getattr(sample, name), atol=1e-9, err_msg=name)


def test_vertices_without_a_known_mirror_are_left_out():
    dataset = blob_samples()
    flipped = flip_sample(dataset[0], dataset.scheme)
    assert flipped.vertices is None
    assert flipped.intrinsics is None


def test_samples_with_parameters_are_not_flipped():
    dataset = blob_samples()
    sample = attrs.evolve(dataset[0], parameters={"betas": np.zeros(3)})
    with pytest.raises(InputError, match="'blobs-0': expected a sample without model parameters"):
        flip_sample(sample, dataset.scheme)


def test_samples_of_schemes_without_a_mirror_are_not_flipped():
    names = blob_samples().scheme.names
    with pytest.raises(ConfigError, match="'plain' has no mirror"):
        flip_sample(blob_samples()[0], LandmarkScheme("plain", names))
