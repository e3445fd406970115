"""Pictures from files, arrays and PIL images: upright, 8-bit RGB, of bearable size."""

from __future__ import annotations

import glob
import math
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import numpy as np
from jaxtyping import Float, Shaped
from PIL import ExifTags, Image, UnidentifiedImageError

from partfit.errors import InputError
from partfit.geometry.pixels import resize_points

PictureSource: TypeAlias = str | Path | np.ndarray | Image.Image

#: A picture with more pixels than this is reduced while it is read.
MAX_PIXELS = 25_000_000
#: A picture with more pixels than this is refused.
MAX_INPUT_PIXELS = 200_000_000
#: The files that a folder is searched for.
PICTURE_SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
#: Endings of the pictures that the commands draw, after the stem of the picture they are drawn on.
DRAWING_ENDINGS = ("-landmarks.png", "-overlay.png", "-panel.png")
#: Diagonal in millimetres of the 36 x 24 mm film that EXIF's FocalLengthIn35mmFilm refers to.
FILM_DIAGONAL = math.hypot(36.0, 24.0)

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EXIF orientations that show the stored columns, or the stored rows, from the last to the first.
_COLUMNS_REVERSED = {2, 3, 7, 8}
_ROWS_REVERSED = {3, 4, 6, 7}
_SIDES_SWAPPED = {5, 6, 7, 8}

_pillow_lock = threading.Lock()


@attrs.frozen(eq=False)
class Picture:
    """A picture as it is displayed (EXIF orientation applied), reduced if it is huge.

    Each of its pixels averages `reduction` x `reduction` pixels of the full picture, from the top-left
    corner on; columns and rows left over at the right and the bottom are dropped. So a point of the pixels
    lies at x_full = (x + 0.5) * reduction - 0.5 of the full picture.

    Attributes:
        pixels: (H, W, 3) RGB, uint8.
        size: (width, height) of the full picture, in pixels.
        reduction: 1, 2, 4, ...
        focal: Focal length in pixels of the full picture, from EXIF; None where it is not known.
        source: What messages call it: the file's path, or the kind of object that was given.
    """

    pixels: np.ndarray = attrs.field(repr=False)
    size: tuple[int, int]
    reduction: int = 1
    focal: float | None = None
    source: str = "picture"

    def to_full(self, points: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map points (*batch, 2) of `pixels` to the full picture."""
        return resize_points(points, self.reduction)

    def to_pixels(self, points: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map points (*batch, 2) of the full picture to `pixels`."""
        return resize_points(points, 1 / self.reduction)


def load_picture(source: PictureSource) -> Picture:
    """Read a picture.

    Colours become 8-bit RGB: of deeper integers the top eight bits are kept; transparent pixels are laid
    over white; of an animation the first frame is taken. A picture of more than `MAX_PIXELS` is reduced
    by averaging whole blocks, JPEG files already while they are decoded.

    Args:
        source: A file's path; a PIL image; or an array: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, of
            uint8, uint16, or floating point in [0, 1].

    Raises:
        InputError: if the file is missing, is no picture, is damaged or has more than `MAX_INPUT_PIXELS`,
            or the array has another shape, type or range.
    """
    if isinstance(source, np.ndarray):
        return _convert(_image_from_array(source), "array")
    if isinstance(source, Image.Image):
        return _convert(source, str(getattr(source, "filename", "")) or "PIL image")
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    raise InputError(
        f"A picture must be a path, a numpy array or a PIL image; found {type(source).__name__}. "
        "Convert a tensor with `.cpu().numpy()`, channels last."
    )


def load_or_error(source: PictureSource) -> Picture | InputError:
    """The picture, or the error that says why it cannot be used: for work on many pictures."""
    try:
        return load_picture(source)
    except InputError as error:
        return error


def expand_inputs(paths: Iterable[str | Path]) -> list[Path]:
    """The picture files that paths, folders and patterns stand for.

    A folder stands for the files in it (not in its subfolders) whose suffix is one of `PICTURE_SUFFIXES`,
    hidden ones excepted, and drawings of an earlier run: `X-overlay.png`, say, beside a picture of stem X.
    A pattern (`*`, `?`, `[...]`, and `**` for any depth) stands for the files it matches. Both are sorted by
    name. A path without pattern characters is kept even if no such file exists, so that reading it reports
    the error and the other pictures are still worked on.

    Returns:
        The files in the order given, each once, whatever the names it was reached by.

    Raises:
        InputError: if there is no input, a folder cannot be listed, or a folder or a pattern holds no
            picture.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        for path in _expand(Path(given)):
            found.setdefault(_resolved(path), path)
    if not found:
        raise InputError("No picture was given. Name files, folders or patterns such as 'photos/*.jpg'.")
    return list(found.values())


def _expand(path: Path) -> list[Path]:
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError:  # such as a name that is too long: reading it reports the error
        return [path]
    if is_folder:
        return _pictures_in(path)
    if exists or not any(character in str(path) for character in "*?["):
        return [path]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob refuses absolute patterns)
    files = sorted(match for match in map(Path, matches) if match.is_file())
    if not files:
        raise InputError(f"The pattern {str(path)!r} matches no file. Check the folder and the suffix.")
    return files


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, without the drawings of earlier runs."""
    try:
        pictures = [
            file
            for file in folder.iterdir()
            if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
    if not pictures:
        raise InputError(
            f"The folder {folder} holds no picture: expected files ending in {', '.join(PICTURE_SUFFIXES)}."
        )
    # where two inputs have one stem, their suffix is part of the drawings' names
    stems = {p.stem for p in pictures} | {f"{p.stem}-{p.suffix[1:]}" for p in pictures}
    drawings = {stem + ending for stem in stems for ending in DRAWING_ENDINGS}
    return sorted(picture for picture in pictures if picture.name not in drawings)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no path at all: reading reports it
        return path


def _read_file(path: Path) -> Picture:
    try:
        if path.is_dir():
            raise InputError(f"{path}: expected a picture, found a folder. Name a file in it.")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected a picture, found an empty file. Copy or export it again.")
        with _quiet_pillow():
            image = Image.open(path)
        with image:
            return _convert(image, str(path), own=True)
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: expected a picture, found no such file. Check the path.") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: expected a picture, found a file of no format known here. Convert it to JPEG or PNG."
        ) from error
    except Exception as error:  # Pillow's openers of broken files raise whatever they stumble over
        raise InputError(
            f"{path}: expected a picture, found a file that cannot be read ({error})."
        ) from error


def _convert(image: Image.Image, source: str, *, own: bool = False) -> Picture:
    """The picture in a PIL image; `own` tells that nobody else holds the image, so that it may be altered."""
    width, height = image.size
    if width * height > MAX_INPUT_PIXELS:
        raise InputError(
            f"{source}: expected at most {MAX_INPUT_PIXELS // 10**6} megapixels, found {width} x {height} "
            f"({width * height // 10**6} megapixels). Resize it first."
        )
    reduction = _reduction(width, height)
    try:
        with _quiet_pillow():
            if own and width % reduction == 0 and height % reduction == 0:
                image.draft(image.mode, (width // reduction, height // reduction))
            image.load()
            # EXIF only now: loading already turns TIFF files, and may find EXIF behind the pixels of others.
            orientation, film_focal = _orientation(image), _film_focal(image)
            upright = _reduced(_eight_bit(image, source), width, reduction, orientation)
            pixels = np.array(_over_white(upright))
    except InputError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise InputError(
            f"{source}: expected a whole picture, found a damaged {image.format or 'one'} ({error}). "
            "Copy or export it again."
        ) from error
    size = (height, width) if orientation in _SIDES_SWAPPED else (width, height)
    focal = None if film_focal is None else film_focal * math.hypot(width, height) / FILM_DIAGONAL
    return Picture(pixels, size, reduction, focal, source)


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Without Pillow's warnings and size limit. Both are the process' settings: one thread at a time."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reduction(width: int, height: int) -> int:
    """The smallest power of two that brings the picture to `MAX_PIXELS`."""
    reduction = 1
    while width * height > MAX_PIXELS * reduction**2:
        reduction *= 2
    return reduction


def _film_focal(image: Image.Image) -> float | None:
    """EXIF's focal length in millimetres on 35 mm film; None where it is unknown."""
    try:
        length = float(image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm])
    except Exception:  # a broken EXIF block raises anything; the picture itself may well be whole
        return None
    return length if math.isfinite(length) and length > 0 else None


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as above
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _eight_bit(image: Image.Image, source: str) -> Image.Image:
    """The image with eight bits a channel, in a mode that can be averaged."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit_grey(np.asarray(image), source))
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1":
        return image.convert("L")
    return image


def _eight_bit_grey(grey: np.ndarray, source: str) -> np.ndarray:
    """Grey levels of PIL's modes I;16 and I (0 to 65535) and F (0 to 1, 255 or 65535) as uint8."""
    low, high = grey.min(), grey.max()
    if not (low >= 0 and high <= 65535):
        raise InputError(
            f"{source}: expected grey levels from 0 to 65535, found {low} to {high}. Convert it to PNG."
        )
    if grey.dtype.kind != "f":
        return (grey >> 8).astype(np.uint8)
    full_scale = next(scale for scale in (1.0, 255.0, 65535.0) if high <= scale)
    scaled = grey * (255.0 / full_scale)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _reduced(image: Image.Image, width: int, reduction: int, orientation: int) -> Image.Image:
    """The image, `width` wide before any reduction while decoding, in whole blocks and upright."""
    left = reduction * image.width // width
    if left > 1:
        # Blocks begin at the displayed top-left corner; what is left over at the other sides is dropped.
        columns = image.width // left * left or image.width
        rows = image.height // left * left or image.height
        x = image.width - columns if orientation in _COLUMNS_REVERSED else 0
        y = image.height - rows if orientation in _ROWS_REVERSED else 0
        image = image.reduce(left, (x, y, x + columns, y + rows))
    return image.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else image


def _over_white(image: Image.Image) -> Image.Image:
    """The image as RGB, laid over white where it is transparent."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _image_from_array(array: np.ndarray) -> Image.Image:
    """The PIL image of an array, eight bits a channel."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InputError(
            "A picture array must be (H, W), (H, W, 3) or (H, W, 4), channels last and not empty; "
            f"found shape {array.shape}."
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise InputError(
                f"A picture array of {array.dtype} must lie in [0, 1], found {array.min()} to {array.max()}. "
                "Divide by its full scale, or convert it to uint8."
            )
        scaled = array * 255
        array = np.rint(scaled, out=scaled).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(
            f"A picture array must be uint8, uint16 or floating point in [0, 1], found {array.dtype}. "
            "Convert it with `.astype`."
        )
    return Image.fromarray(np.ascontiguousarray(array))
