"""Backgrounds that differ, and a camera that moves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as subpixel_shift

from partfit.errors import InputError, ShapeError
from partfit_synthetic import photo
from partfit_synthetic.backgrounds import PictureFolder, background, linear
from partfit_synthetic.photo import photograph
from partfit_synthetic.tiles import TILE, TILES, at, curl_tile, fractal_tile, smooth_curve, strand_tile


def texture(side: int) -> np.ndarray:
    """Smooth stains, (side, side, 3) linear RGB, with structure of several pixels."""
    smooth = gaussian_filter(np.random.default_rng(5).normal(size=(side, side)), side / 32, mode="wrap")
    grey = np.clip(0.3 + 0.1 * smooth / smooth.std(), 0.02, 1)[..., None]
    return (grey * [1.1, 1.0, 0.9]).astype(np.float32)


def shift(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far the content of the second picture lies from that of the first, (x, y) in pixels.

    The least-squares solution of second(p) = a first(p) + b - d . grad first(p), repeated.
    """
    first, second = (np.asarray(p, dtype=float).mean(axis=2) for p in (first, second))
    # without what changes slowly, as the darkness of corners does
    first, second = (
        gaussian_filter(p, 1.5) / (gaussian_filter(p, 10) + 5e-3 * p.max()) for p in (first, second)
    )
    dy, dx = np.gradient(first)
    inside = (slice(12, -12), slice(12, -12))
    columns = np.stack(
        [first[inside].ravel(), np.ones(first[inside].size), -dx[inside].ravel(), -dy[inside].ravel()], 1
    )
    solution = np.linalg.lstsq(columns, second[inside].ravel(), rcond=None)[0]
    return solution[2:] / solution[0]


def test_the_shift_is_measured() -> None:
    """The measure itself finds a known shift."""
    image = texture(128)
    moved = subpixel_shift(image, (-0.3, 0.4, 0), order=3, mode="wrap")
    np.testing.assert_allclose(shift(image, moved), [0.4, -0.3], atol=0.03)


def test_a_camera_moves_nothing() -> None:
    """The content stays where it was: each picture's shift is noise, about nothing, and small."""
    light = texture(256)
    plain = photo.srgb(light.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3)))
    shifts = []
    for seed in range(60):
        picture = photograph(light, np.random.default_rng(seed), 128)
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.uint8
        shifts.append(shift(plain, picture))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.015
    assert np.quantile(np.abs(shifts), 0.95) < 0.08


@pytest.mark.parametrize(
    "effect",
    [
        lambda pixels: photo.compressed(pixels, 30),
        lambda pixels: photo.sharpened(pixels, 1.0, 1.0),
        photo.grey,
        lambda pixels: photo.resized(
            photo.resized(pixels, 47, Image.Resampling.HAMMING), 128, Image.Resampling.BICUBIC
        ),
        lambda pixels: photo.resized(
            photo.resized(pixels, 61, Image.Resampling.BILINEAR), 128, Image.Resampling.BILINEAR
        ),
    ],
    ids=["JPEG", "sharpening", "grey", "down and up", "down and up, bilinear"],
)
def test_effects_on_pixels_move_nothing(effect) -> None:
    pixels = (photo.srgb(texture(128)) * 255).astype(np.uint8)
    changed = effect(pixels)
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert np.abs(shift(pixels, changed)).max() < 0.05


@pytest.mark.parametrize(
    "effect",
    [
        lambda light: photo.blurred(light, 2.0),
        lambda light: photo.smeared(light, 5.0, 0.6),
        lambda light: photo.resized_light(light, 51),
    ],
    ids=["defocus", "motion", "resolution"],
)
def test_effects_on_light_move_nothing(effect) -> None:
    light = texture(128)
    changed = effect(light)
    assert changed.dtype == np.float32
    assert changed.mean() == pytest.approx(light.mean(), rel=0.02)
    if len(changed) != len(light):
        changed = np.stack(
            [
                np.asarray(Image.fromarray(changed[..., c]).resize((128, 128), Image.Resampling.BICUBIC))
                for c in range(3)
            ],
            axis=-1,
        )
    assert np.abs(shift(light, changed)).max() < 0.05


@given(st.floats(0.5, 12), st.floats(0, np.pi))
def test_motion_blur_is_symmetric(length: float, angle: float) -> None:
    """The kernel's sum is 1 and its centre of gravity the middle."""
    point = np.zeros((31, 31, 3), dtype=np.float32)
    point[15, 15] = 1
    kernel = photo.smeared(point, length, angle)[..., 0]
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


def test_srgb_is_the_standard_curve() -> None:
    values = np.array([0.0, 0.002, 0.0031308, 0.18, 0.5, 1.0, 2.0], dtype=np.float32)
    expected = [0.0, 0.02584, 0.04045, 0.46135, 0.73536, 1.0, 1.0]
    np.testing.assert_allclose(photo.srgb(values), expected, atol=2e-3)
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(photo.srgb(linear(codes)) * 255, codes, atol=0.5)


def test_the_same_generator_takes_the_same_picture() -> None:
    light = texture(256)
    first, second = (photograph(light, np.random.default_rng(9), 128) for _ in range(2))
    assert np.array_equal(first, second)
    pictures = [photograph(light, np.random.default_rng(seed), 128) for seed in range(6)]
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_camera_exposes_for_what_it_sees() -> None:
    """Dark and bright scenes become pictures of middling brightness."""
    for factor in (0.02, 1.0, 30.0):
        means = [photograph(texture(64) * factor, np.random.default_rng(s), 64).mean() for s in range(12)]
        assert 50 < np.mean(means) < 200


def test_light_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="light"):
        photograph(np.zeros((100, 100, 3), dtype=np.float32), np.random.default_rng(0), 64)


@pytest.mark.parametrize("size", [64, 128, 200])
def test_drawn_backgrounds_cover_and_differ(size: int) -> None:
    pictures = [background(np.random.default_rng(seed), size) for seed in range(60)]
    for picture in pictures:
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert np.unique(means.round(3), axis=0).shape[0] > 50
    assert means.std(axis=0).min() > 0.1
    assert np.mean([picture.std(axis=(0, 1)).max() > 0.03 for picture in pictures]) > 0.5
    again = background(np.random.default_rng(7), size)
    assert np.array_equal(again, pictures[7])


def test_backgrounds_are_mostly_modest() -> None:
    """Seldom is one colour channel far from the others."""
    pictures = [background(np.random.default_rng(seed), 32) for seed in range(200)]
    means = np.array([photo.srgb(picture).mean(axis=(0, 1)) for picture in pictures])
    assert np.quantile(np.ptp(means, axis=1), 0.8) < 0.25


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("L", (40, 200), 128).save(tmp_path / "more" / "grey.JPG")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [file.name for file in PictureFolder(tmp_path).files] == ["grey.JPG", "red.png"]
    crops = [background(np.random.default_rng(seed), 48, tmp_path) for seed in range(12)]
    found = {tuple((photo.srgb(crop[24, 24]) * 255).round().astype(int)) for crop in crops}
    assert (255, 0, 0) in found
    assert len(found) == 2
    assert all(crop.shape == (48, 48, 3) and crop.dtype == np.float32 for crop in crops)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="is not a folder"):
        background(rng, 32, tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"no picture in .*expected files ending in \.jpg"):
        background(rng, 32, tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "bad.png").write_bytes(b"no picture at all")
    with pytest.raises(InputError, match=r"bad\.png cannot be read"):
        background(rng, 32, broken)


@pytest.mark.parametrize("tile", [fractal_tile(0), fractal_tile(TILES - 1), strand_tile(), curl_tile()])
def test_tiles_have_no_seams(tile: np.ndarray) -> None:
    assert tile.shape == (TILE, TILE)
    assert tile.dtype == np.float32
    assert tile.mean() == pytest.approx(0, abs=1e-4)
    assert tile.std() == pytest.approx(1, rel=1e-4)
    for axis in (0, 1):
        across = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis)).mean()
        inside = np.abs(np.diff(tile, axis=axis)).mean()
        assert across < 1.5 * inside


@given(st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_tiles_repeat(across: float, along: float) -> None:
    tile = fractal_tile(3)
    here = at(tile, np.array([across]), np.array([along]))
    there = at(tile, np.array([across + TILE]), np.array([along - 2 * TILE]))
    np.testing.assert_allclose(here, there, atol=1e-3)
    assert tile.min() - 1e-5 <= here[0] <= tile.max() + 1e-5


def test_curves_have_their_period() -> None:
    places = np.linspace(0, 3, 40)
    first, second = (smooth_curve(np.random.default_rng(1), places + offset, 4, 3.0) for offset in (0.0, 3.0))
    np.testing.assert_allclose(first, second, atol=1e-9)
    spread = [smooth_curve(np.random.default_rng(s), places, 4, 3.0) for s in range(300)]
    assert np.std(spread) == pytest.approx(1, rel=0.15)
