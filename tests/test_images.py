"""Pictures of every kind a user may hand in, and the errors for what is none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from partfit.errors import InputError
from partfit.images import (
    MAX_INPUT_PIXELS,
    PICTURE_SUFFIXES,
    Picture,
    expand_inputs,
    load_or_error,
    load_picture,
)

ORIENTATION, EXIF_IFD, FILM_FOCAL = 0x0112, 0x8769, 0xA405


@pytest.fixture
def scene() -> np.ndarray:
    """(30, 40, 3) smooth colours without any symmetry."""
    y, x = np.mgrid[:30, :40]
    return np.stack([6 * x, 8 * y, 3 * x + 2 * y], axis=-1).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [s for s in PICTURE_SUFFIXES if s not in (".avif", ".jp2")])
def test_documented_formats_are_read(tmp_path: Path, scene: np.ndarray, suffix: str) -> None:
    picture = load_picture(save(tmp_path / f"a{suffix}", scene))
    assert picture.size == (40, 30)
    assert picture.reduction == 1
    assert picture.focal is None
    assert picture.source == str(tmp_path / f"a{suffix}")
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.writeable  # torch warns of arrays that are not
    tolerance = 40 if suffix in (".jpg", ".jpeg", ".gif", ".webp") else 0
    assert np.abs(picture.pixels.astype(int) - scene).max() <= tolerance


def test_paths_arrays_and_pil_images_agree(tmp_path: Path, scene: np.ndarray) -> None:
    path = save(tmp_path / "a.png", scene)
    for source in (path, str(path), scene, Image.fromarray(scene), scene[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(load_picture(source).pixels, scene)
    assert load_picture(scene).source == "array"
    assert load_picture(Image.fromarray(scene)).source == "PIL image"


def test_a_callers_array_is_not_shared(scene: np.ndarray) -> None:
    before = scene.copy()
    load_picture(scene).pixels[:] = 0
    np.testing.assert_array_equal(scene, before)


def test_a_single_pixel_is_a_picture() -> None:
    np.testing.assert_array_equal(load_picture(np.array([[[1, 2, 3]]], dtype=np.uint8)).pixels, [[[1, 2, 3]]])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_keep_the_top_eight(tmp_path: Path, suffix: str) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    path = save(tmp_path / f"a{suffix}", levels)
    expected = np.repeat((levels >> 8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_picture(path).pixels, expected)
    np.testing.assert_array_equal(load_picture(levels).pixels, expected)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 255, 65535]], dtype=np.int32), [0, 0, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 127.6, 255.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 257.0, 65535.0]], dtype=np.float32), [0, 1, 255]),
    ],
    ids=["I", "F to 1", "F to 255", "F to 65535"],
)
def test_deep_grey_files_are_scaled(tmp_path: Path, levels: np.ndarray, expected: list[int]) -> None:
    picture = load_picture(save(tmp_path / "a.tif", levels))
    np.testing.assert_array_equal(picture.pixels[0, :, 0], expected)


@pytest.mark.parametrize("level", [-1.0, 70000.0, np.nan])
def test_grey_levels_without_a_scale_are_refused(tmp_path: Path, level: float) -> None:
    path = save(tmp_path / "a.tif", np.array([[0.0, level]], dtype=np.float32))
    with pytest.raises(InputError, match=r"a\.tif: expected grey levels from 0 to 65535"):
        load_picture(path)


def test_float_arrays_in_the_unit_interval_are_scaled() -> None:
    array = np.array([[[0.0, 0.5, 1.0]]])
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(load_picture(array.astype(dtype)).pixels, [[[0, 128, 255]]])


def as_displayed(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF 2.32, "Orientation", says of the stored row 0 and column 0."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: stored[::-1].swapaxes(0, 1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: stored[:, ::-1].swapaxes(0, 1),
    }[orientation]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    white = Image.new("RGB", (5, 4), "white")
    picture = load_picture(
        Image.new("LAB", (5, 4), (255, 128, 128)) if mode == "LAB" else white.convert(mode)
    )
    assert picture.pixels.shape == (4, 5, 3)
    assert np.abs(picture.pixels.astype(int) - 255).max() <= 2


def test_transparent_pixels_are_laid_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], dtype=np.uint8)
    expected = np.array([[200, 0, 0], [255, 255, 255], [227, 127, 127]])
    grey_alpha = Image.fromarray(rgba).convert("LA")
    grey = np.asarray(Image.fromarray(rgba).convert("L"))[0, 0]
    for source in (rgba, save(tmp_path / "a.png", rgba), save(tmp_path / "a.tif", rgba)):
        assert np.abs(load_picture(source).pixels[0] - expected).max() <= 1
    np.testing.assert_array_equal(load_picture(grey_alpha).pixels[0, :2], [[grey] * 3, [255] * 3])


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png").pixels[0], [[255] * 3, [40, 50, 60]])


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, suffix: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = tmp_path / f"a{suffix}"
    red.save(path, save_all=True, append_images=[blue])
    with Image.open(path) as image:
        assert image.n_frames == 2
    pixel = load_picture(path).pixels[4, 4]
    assert pixel[0] > 240
    assert pixel[2] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_exif_orientation_is_applied(
    tmp_path: Path, scene: np.ndarray, orientation: int, suffix: str
) -> None:
    shown = as_displayed(scene, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = load_picture(save(tmp_path / f"a{suffix}", scene, exif=exif))
    assert picture.size == (shown.shape[1], shown.shape[0])
    assert np.abs(picture.pixels.astype(int) - shown).max() <= (40 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_focal_length_comes_from_exif(
    tmp_path: Path, scene: np.ndarray, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif.get_ifd(EXIF_IFD)[FILM_FOCAL] = 28
    picture = load_picture(save(tmp_path / f"a{suffix}", scene, exif=exif))
    # the 40 x 30 picture has a diagonal of 50 pixels, the film one of 43.2666 mm
    assert picture.focal == pytest.approx(28 * 50 / 43.2666, rel=1e-5)


def test_a_film_focal_length_of_zero_means_unknown(tmp_path: Path, scene: np.ndarray) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[FILM_FOCAL] = 0
    assert load_picture(save(tmp_path / "a.jpg", scene, exif=exif)).focal is None


def test_a_broken_exif_block_does_not_matter(tmp_path: Path, scene: np.ndarray) -> None:
    path = save(tmp_path / "a.jpg", scene, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12garbage")
    assert load_picture(path).size == (40, 30)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 2000 pixels already count as huge."""
    monkeypatch.setattr("partfit.images.MAX_PIXELS", 2000)


def block_means(image: np.ndarray, block: int) -> np.ndarray:
    """Means of whole blocks from the top-left corner on."""
    height, width = (side // block for side in image.shape[:2])
    whole = image[: height * block, : width * block].astype(float)
    return whole.reshape(height, block, width, block, 3).mean(axis=(1, 3))


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize(
    ("size", "reduction"), [((44, 46), 2), ((64, 48), 2), ((67, 45), 2), ((201, 111), 4), ((320, 240), 8)]
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_huge_pictures_are_reduced_by_blocks_from_the_displayed_corner(
    tmp_path: Path, size: tuple[int, int], reduction: int, suffix: str, orientation: int
) -> None:
    y, x = np.mgrid[: size[1], : size[0]]
    stored = np.stack([x * 250 // size[0], y * 250 // size[1], x % 2 * 9], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    quality = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    picture = load_picture(save(tmp_path / f"a{suffix}", stored, exif=exif, **quality))
    shown = as_displayed(stored, orientation)
    assert picture.reduction == reduction
    assert picture.size == (shown.shape[1], shown.shape[0])
    expected = block_means(shown, reduction)
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels - expected).max() <= (6 if suffix == ".jpg" else 0.51)


@pytest.mark.usefixtures("small_limit")
def test_huge_arrays_are_reduced_too() -> None:
    array = np.random.default_rng(0).integers(0, 256, (51, 90, 3)).astype(np.uint8)
    picture = load_picture(array)
    assert (picture.reduction, picture.size) == (2, (90, 51))
    assert np.abs(picture.pixels - block_means(array, 2)).max() <= 0.51


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_can_be_reduced(mode: str) -> None:
    top = {"I;16": 65535, "I": 65535, "F": 1.0}.get(mode)
    white = (
        Image.new("RGB", (64, 64), "white").convert(mode) if top is None else Image.new(mode, (64, 64), top)
    )
    picture = load_picture(white)
    assert picture.pixels.shape == (32, 32, 3)
    assert (picture.pixels >= 254).all()


@pytest.mark.usefixtures("small_limit")
def test_a_huge_strip_keeps_its_width() -> None:
    picture = load_picture(np.full((6001, 1), 7, dtype=np.uint8))
    assert picture.reduction == 2
    assert picture.pixels.shape == (3000, 1, 3)
    assert (picture.pixels == 7).all()


def test_points_map_between_the_reduced_and_the_full_picture() -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8), (8, 8), reduction=4)
    # pixel 0 covers full pixels 0 to 3, whose middle is 1.5
    np.testing.assert_array_equal(picture.to_full(np.array([[0.0, 1.0]])), [[1.5, 5.5]])
    np.testing.assert_array_equal(picture.to_pixels(np.array([[1.5, 5.5]])), [[0, 1]])


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_hundred_megapixels_take_little_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (12000, 9000), (90, 120, 150)).save(path, compress_level=1)
    # ru_maxrss would count the memory of the process that started this one
    code = (
        "import sys; from pathlib import Path; from partfit.images import load_picture\n"
        "picture = load_picture(sys.argv[1])\n"
        "assert (picture.size, picture.reduction) == ((12000, 9000), 4), picture\n"
        "peak = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "print(int(peak) / 1024, *picture.pixels[1000, 1000])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    peak, *colour = map(float, result.stdout.split())
    np.testing.assert_allclose(colour, [90, 120, 150], atol=2)
    assert peak < 700


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    Image.new("1", (20000, 10001)).save(path)
    assert MAX_INPUT_PIXELS < 20000 * 10001
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(
        InputError, match=r"vast\.png: expected at most 200 megapixels, found 20000 x 10001.*Resize"
    ):
        load_picture(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_between_pillows_limit_and_ours_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (16320, 12240), 1).save(path)
    picture = load_picture(path)
    assert picture.pixels.shape == (3060, 4080, 3)
    assert (picture.pixels == 255).all()


def test_bad_files_are_named_with_what_was_expected(tmp_path: Path, scene: np.ndarray) -> None:
    whole = save(tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    truncated = tmp_path / "truncated.jpg"
    truncated.write_bytes(whole.read_bytes()[:800])
    png = save(tmp_path / "whole.png", scene).read_bytes()
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(png[:60] + b"\x00" * 20 + png[80:])
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "notes.jpg"
    text.write_text("these are my notes")
    for path, found in [
        (truncated, "found a damaged JPEG .*truncated"),
        (damaged, "found a damaged PNG"),
        (empty, "found an empty file"),
        (text, "found a file of no format known here. Convert it"),
        (tmp_path / "none.png", "found no such file"),
        (tmp_path, "found a folder"),
    ]:
        with pytest.raises(InputError, match=f"{path.name}.*expected a .*picture, {found}"):
            load_picture(path)


@pytest.mark.parametrize("keep", range(0, 700, 23))
def test_a_file_cut_anywhere_is_an_input_error(tmp_path: Path, scene: np.ndarray, keep: int) -> None:
    for suffix in (".jpg", ".png", ".gif", ".tif", ".webp", ".bmp"):
        data = save(tmp_path / f"a{suffix}", scene).read_bytes()
        if keep >= len(data) - 24:
            continue
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[:keep])
        assert isinstance(load_or_error(cut), InputError), suffix


def with_vast_text(path: Path, scene: np.ndarray) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    save(path, scene, pnginfo=text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.ppm", b"P6\nforty 30\n255\n"),
        ("point.ppm", b"P6\n40 30.255\n"),
        ("depth.ppm", b"P6\n40 30\n99999\n"),
        ("kind.sgi", b"\x01\xda\x00\x01\x00\x03\x00\x28\x00\x1e\x00\x09" + b"\x00" * 600),
    ],
)
def test_bad_headers_are_input_errors(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = load_or_error(tmp_path / name)
    assert isinstance(error, InputError)
    assert f"{name}: expected a picture, found a file that cannot be read" in str(error)


def test_a_vast_text_in_a_png_is_an_input_error(tmp_path: Path, scene: np.ndarray) -> None:
    with_vast_text(tmp_path / "text.png", scene)
    with pytest.raises(InputError, match=r"text\.png: .*cannot be read \(.*too large"):
        load_picture(tmp_path / "text.png")


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0b.jpg", "file/below.jpg"])
def test_impossible_paths_are_input_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (path,) = expand_inputs([tmp_path / name])
    with pytest.raises(InputError, match="expected a picture, found"):
        load_picture(path)


def test_a_loop_of_links_is_an_input_error(tmp_path: Path) -> None:
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    assert expand_inputs([loop]) == [loop]
    assert isinstance(load_or_error(loop), InputError)


NO_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


@pytest.mark.parametrize(
    "image_format",
    [
        "PNG",
        "JPEG",
        "GIF",
        "TIFF",
        "WEBP",
        "BMP",
        "PPM",
        "SGI",
        "JPEG2000",
        pytest.param("AVIF", marks=NO_AVIF),
    ],
)
def test_flipped_bytes_give_a_picture_or_an_input_error(
    tmp_path: Path, scene: np.ndarray, image_format: str
) -> None:
    file = io.BytesIO()
    Image.fromarray(scene).save(file, format=image_format)
    whole = np.frombuffer(file.getvalue(), dtype=np.uint8)
    random = np.random.default_rng(0)
    errors = 0
    for _ in range(60):
        damaged = whole.copy()
        places = random.integers(0, min(len(whole), 200), 3)
        damaged[places] = random.integers(0, 256, 3)
        (tmp_path / "a").write_bytes(damaged.tobytes())
        result = load_or_error(tmp_path / "a")
        assert isinstance(result, Picture | InputError)
        errors += isinstance(result, InputError)
    assert errors > 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"channels last .*found shape \(3, 20, 30\)"),
        (np.zeros((20, 30, 1), np.uint8), r"found shape \(20, 30, 1\)"),
        (np.zeros((1, 20, 30, 3), np.uint8), r"found shape \(1, 20, 30, 3\)"),
        (np.zeros(20, np.uint8), r"found shape \(20,\)"),
        (np.zeros((0, 30, 3), np.uint8), r"found shape \(0, 30, 3\)"),
        (np.zeros((20, 30, 3), np.int64), "uint8, uint16 or floating point.*found int64"),
        (np.zeros((20, 30), bool), "found bool"),
        (np.full((20, 30, 3), 255.0), r"must lie in \[0, 1\], found 255\.0"),
        (np.full((20, 30, 3), np.nan), "found nan"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_picture(array)


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match=r"found list"):
        load_picture([[1, 2], [3, 4]])  # type: ignore[arg-type]


def test_load_or_error_returns_either(tmp_path: Path, scene: np.ndarray) -> None:
    assert isinstance(load_or_error(scene), Picture)
    assert "no such file" in str(load_or_error(tmp_path / "none.png"))
    assert "channels last" in str(load_or_error(scene.transpose(2, 0, 1)))


class TestExpandInputs:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.jpg", "a.PNG", "c.txt", ".hidden.png", "sub/d.png", "e[1].jpg", "dir.png/f.webp"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    def test_a_folder_stands_for_its_own_pictures(self, folder: Path) -> None:
        assert expand_inputs([folder]) == [folder / "a.PNG", folder / "b.jpg", folder / "e[1].jpg"]

    def test_drawings_of_an_earlier_run_are_not_inputs(self, tmp_path: Path) -> None:
        pictures = ["a.jpg", "a.png", "b.png", "lonely-overlay.png"]
        drawings = ["b-overlay.png", "b-landmarks.png", "b-panel.png", "a-jpg-overlay.png"]
        for name in (*pictures, *drawings, "b-overlay-overlay.png"):
            (tmp_path / name).touch()
        assert expand_inputs([tmp_path]) == [tmp_path / name for name in pictures]
        # what is asked for by name or pattern is taken
        assert expand_inputs([tmp_path / "b-overlay.png"]) == [tmp_path / "b-overlay.png"]
        assert len(expand_inputs([f"{tmp_path}/b-*.png"])) == 4

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everywhere")
    def test_a_folder_that_cannot_be_listed_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "shut").mkdir(mode=0)
        with pytest.raises(InputError, match="shut cannot be listed: Permission denied"):
            expand_inputs([tmp_path / "shut"])

    def test_patterns_match_files(self, folder: Path) -> None:
        assert expand_inputs([f"{folder}/*.jpg"]) == [folder / "b.jpg", folder / "e[1].jpg"]
        assert expand_inputs([f"{folder}/**/*.png"]) == [folder / "sub/d.png"]

    def test_relative_patterns(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert expand_inputs(["sub/?.png", "b.*"]) == [Path("sub/d.png"), Path("b.jpg")]

    def test_a_file_whose_name_looks_like_a_pattern_is_taken_literally(self, folder: Path) -> None:
        assert expand_inputs([folder / "e[1].jpg"]) == [folder / "e[1].jpg"]

    def test_order_is_kept_and_repetition_dropped(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        given = ["sub/../b.jpg", folder / "a.PNG", "b.jpg", folder]
        assert expand_inputs(given) == [Path("sub/../b.jpg"), folder / "a.PNG", folder / "e[1].jpg"]

    def test_a_missing_file_is_left_to_its_reader(self, folder: Path) -> None:
        assert expand_inputs([folder / "none.jpg"]) == [folder / "none.jpg"]

    def test_a_pattern_without_match_is_named(self, folder: Path) -> None:
        with pytest.raises(InputError, match=r"The pattern '.*\*\.bmp' matches no file"):
            expand_inputs([folder / "b.jpg", folder / "*.bmp"])

    def test_a_folder_without_pictures_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"holds no picture: expected files ending in \.avif, \.bmp"):
            expand_inputs([tmp_path])

    def test_no_input_at_all_is_an_error(self) -> None:
        with pytest.raises(InputError, match="No picture was given"):
            expand_inputs([])
