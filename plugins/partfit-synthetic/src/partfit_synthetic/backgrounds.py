"""What is seen behind: drawn places, mostly out of focus and in modest colours, or pictures of a folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import attrs
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter, UnidentifiedImageError

from partfit.errors import InputError
from partfit_synthetic.tiles import TILE, TILES, fractal_tile

Backdrop: TypeAlias = Float[np.ndarray, "size size 3"]
Colour: TypeAlias = tuple[int, int, int]

#: Drawn backgrounds have this side, in pixels, before they are enlarged.
DRAWN_SIDE = 128
#: The files that a folder of pictures is searched for.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_VALUES = np.arange(256) / 255
_TO_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)


@attrs.frozen
class PictureFolder:
    """Pictures of a folder, to take crops from.

    Attributes:
        folder: The folder.
        files: Its pictures, sorted by name; those of its subfolders too.

    Raises:
        InputError: if there is no such folder, or no picture in it.
    """

    folder: Path = attrs.field(converter=Path)
    files: tuple[Path, ...] = attrs.field(init=False, repr=False)

    @files.default
    def _found(self) -> tuple[Path, ...]:
        if not self.folder.is_dir():
            raise InputError(f"Backgrounds: {self.folder} is not a folder. Name a folder of pictures.")
        files = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise InputError(
                f"Backgrounds: no picture in {self.folder}; expected files ending in {', '.join(SUFFIXES)}. "
                "Add some, or leave the folder out for drawn backgrounds."
            )
        return tuple(files)

    def crop(self, rng: np.random.Generator, size: int) -> Backdrop:
        """A random square of a random picture: (size, size, 3) linear RGB, now and then mirrored or blurred.

        Raises:
            InputError: if the picture cannot be read.
        """
        file = self.files[rng.integers(len(self.files))]
        try:
            with Image.open(file) as picture:
                picture.draft("RGB", (4 * size, 4 * size))
                pixels = picture.convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(
                f"Backgrounds: {file} cannot be read as a picture: {error}. Remove it."
            ) from error
        side = min(pixels.size) * rng.uniform(0.25, 1.0)
        left, top = (rng.random() * (length - side) for length in pixels.size)
        crop = pixels.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.5:
            crop = crop.filter(ImageFilter.GaussianBlur(size / 128 * 6 * rng.random() ** 2))
        return linear(np.asarray(crop))


def background(rng: np.random.Generator, size: int, folder: Path | None = None) -> Backdrop:
    """What stands behind: (size, size, 3) linear RGB, a crop of a picture of a folder, or drawn.

    Raises:
        InputError: if there is no such folder, no picture in it, or one that cannot be read.
    """
    return drawn_background(rng, size) if folder is None else _folder(Path(folder)).crop(rng, size)


@cache
def _folder(folder: Path) -> PictureFolder:
    return PictureFolder(folder)


def drawn_background(rng: np.random.Generator, size: int) -> Backdrop:
    """A place that is drawn: (size, size, 3) linear RGB."""
    kind = rng.choice(len(_PLACES), p=_CHANCES)
    picture = _PLACES[kind](rng)
    reach = _SHARPEST[kind] + (_BLUR[kind] - _SHARPEST[kind]) * rng.random() ** 1.5
    if reach > 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(reach))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if size != DRAWN_SIDE:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return linear(np.asarray(picture))


def linear(pixels: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light in [0, 1] of sRGB pixels, float32."""
    return _TO_LINEAR[pixels]


@attrs.frozen(eq=False)
class Palette:
    """Colours that go together, sRGB 0 to 255.

    Attributes:
        base: (3,) the colour of most.
        spread: Deviation of brightness from it.
        hue: Deviation of single channels from it.
    """

    base: np.ndarray
    spread: float
    hue: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Palette:
        """Mostly dark or greyish, with a tint; seldom loud."""
        level = rng.choice(
            [rng.uniform(5, 60), rng.uniform(60, 160), rng.uniform(160, 245)], p=[0.4, 0.38, 0.22]
        )
        loud = rng.random() < 0.05
        tint = rng.normal(size=3) * (0.4 if loud else [0.07, 0.03, 0.07])
        if not loud and rng.random() < 0.5:
            warmth = rng.normal(0.05, 0.10)
            tint += [warmth, 0, -warmth]
        return cls(np.clip(level * np.exp(tint), 0, 255), rng.uniform(0.15, 0.8), rng.uniform(0.02, 0.14))

    def draw(self, rng: np.random.Generator, lighter: float = 0.0) -> Colour:
        """One of its colours."""
        shade = np.exp(rng.normal(lighter, self.spread) + rng.normal(0, self.hue, 3))
        red, green, blue = np.clip((self.base + 6) * shade, 0, 255).astype(int)
        return int(red), int(green), int(blue)


def _wall(rng: np.random.Generator) -> Image.Image:
    """A plain wall, lit unevenly."""
    picture = _ground(rng, Palette.random(rng), 0.5)
    return _grained(rng, picture, rng.uniform(0, 10), 3)


def _stage(rng: np.random.Generator) -> Image.Image:
    """Darkness, with some lights out of focus."""
    picture = Image.new("RGB", (DRAWN_SIDE, DRAWN_SIDE), Palette.random(rng).draw(rng, -2.0))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 7)):
        colour = tuple(int(c) for c in np.clip(rng.uniform(60, 255) * np.exp(rng.normal(0, 0.35, 3)), 0, 255))
        x, y, r = rng.uniform(0, DRAWN_SIDE), rng.uniform(0, DRAWN_SIDE), 2 + 10 * rng.random() ** 2
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return _grained(rng, picture, 6, 1)


def _room(rng: np.random.Generator) -> Image.Image:
    """Doors, shelves, windows and pictures on a wall: upright and level edges."""
    palette = Palette.random(rng)
    picture = _ground(rng, palette, 0.3)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 9)):
        x, width = rng.uniform(-20, DRAWN_SIDE), 2 + 60 * rng.random() ** 2
        y, height = rng.uniform(-40, DRAWN_SIDE), DRAWN_SIDE * (0.1 + rng.random() ** 1.5)
        if rng.random() < 0.25:
            width, height = height, width * 0.5
        outline = palette.draw(rng, 0.3) if rng.random() < 0.4 else None
        fill = palette.draw(rng) if rng.random() < 0.8 else Palette.random(rng).draw(rng)
        pen.rectangle(
            (x, y, x + width, y + height), fill=fill, outline=outline, width=int(rng.integers(1, 4))
        )
    if rng.random() < 0.3:
        _rows_of_things(rng, pen, palette)
    picture = picture.rotate(
        rng.normal(0, 4), Image.Resampling.BILINEAR, fillcolor=picture.getpixel((64, 10))
    )
    return _grained(rng, picture, rng.uniform(0, 12), 3)


def _rows_of_things(rng: np.random.Generator, pen: ImageDraw.ImageDraw, palette: Palette) -> None:
    """Books or goods on a shelf."""
    y = rng.uniform(-10, 70)
    for _ in range(rng.integers(1, 4)):
        x, height = rng.uniform(-10, 30), rng.uniform(12, 30)
        while x < rng.uniform(60, 150):
            width = rng.uniform(2, 9)
            pen.rectangle((x, y, x + width, y + height * rng.uniform(0.75, 1)), fill=palette.draw(rng, 0.2))
            x += width
        y += height + 3


def _scene(rng: np.random.Generator) -> Image.Image:
    """Shapes of all kinds, far out of focus."""
    palette = Palette.random(rng)
    picture = _ground(rng, palette, 0.6)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 16)):
        x, y = rng.uniform(-10, DRAWN_SIDE + 10, 2)
        w, h = 4 + 55 * rng.random(2) ** 2
        fill = palette.draw(rng) if rng.random() < 0.85 else Palette.random(rng).draw(rng)
        if rng.random() < 0.5:
            pen.ellipse((x - w, y - h, x + w, y + h), fill=fill)
        else:
            angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            pen.polygon([(x + w * np.cos(a), y + h * np.sin(a)) for a in angle], fill=fill)
    return _grained(rng, picture, rng.uniform(0, 18), int(rng.integers(0, TILES)))


def _leaves(rng: np.random.Generator) -> Image.Image:
    """Trees, hedges and grass."""
    dark = np.array([rng.uniform(5, 60), rng.uniform(20, 75), rng.uniform(5, 40)])
    dark = dark + (dark.mean() - dark) * rng.uniform(0.0, 0.8)
    bright = np.clip(dark * rng.uniform(1.6, 3) + rng.uniform(0, 40), 0, 255)
    tile = int(rng.integers(2, TILES))
    part = _patch(rng, tile, 2 ** rng.uniform(-0.5, 1.6)) + 0.5 * _patch(rng, 0, 1.0)
    mixture = np.clip(0.4 + rng.uniform(0.25, 0.5) * part, 0, 1)[..., None]
    pixels = dark + (bright - dark) * mixture
    if rng.random() < 0.4:  # sky between them
        sky = np.clip(_patch(rng, 2, 0.7) + np.linspace(1.5, -3, DRAWN_SIDE)[:, None], 0, 1)[..., None]
        pixels = pixels * (1 - sky) + np.array([200, 215, 235]) * sky
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _sky(rng: np.random.Generator) -> Image.Image:
    """Sky over a horizon."""
    top = (
        np.array([90, 140, 210]) * rng.uniform(0.6, 1.1)
        if rng.random() < 0.6
        else np.full(3, rng.uniform(150, 240))
    )
    low = np.clip(top * rng.uniform(1.0, 1.4) + 20, 0, 255)
    part = np.linspace(0, 1, DRAWN_SIDE)[:, None, None]
    pixels = top + (low - top) * part + 12 * _patch(rng, 0, 1.0)[..., None]
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    palette, pen, y = Palette.random(rng), ImageDraw.Draw(picture), rng.uniform(60, 150)
    for x in range(-10, DRAWN_SIDE, 12):
        height = y + rng.normal(0, 10)
        pen.rectangle((x, height, x + rng.uniform(8, 40), 200), fill=palette.draw(rng))
    return _grained(rng, picture, 6, 3)


def _people(rng: np.random.Generator) -> Image.Image:
    """Others behind: heads with hair on shoulders."""
    picture = _room(rng) if rng.random() < 0.5 else _scene(rng)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(-5, DRAWN_SIDE + 5), rng.uniform(10, 110)
        r = rng.uniform(10, 34)
        body = Palette.random(rng).draw(rng)
        skin = np.array([205, 150, 120]) * rng.uniform(0.3, 1.15) * np.exp(rng.normal(0, 0.06, 3))
        hair = np.array([60, 45, 35]) * rng.uniform(0.2, 2.2)
        skin_fill, hair_fill = (tuple(int(c) for c in np.clip(v, 0, 255)) for v in (skin, hair))
        pen.rounded_rectangle((x - 2.2 * r, y + 1.2 * r, x + 2.2 * r, y + 9 * r), radius=r, fill=body)
        pen.rectangle((x - 0.45 * r, y, x + 0.45 * r, y + 1.5 * r), fill=skin_fill)
        long = rng.random() < 0.4
        pen.ellipse(
            (x - 0.98 * r, y - 1.35 * r, x + 0.98 * r, y + (1.3 if long else 0.4) * r), fill=hair_fill
        )
        turn = rng.uniform(-0.25, 0.25) * r
        pen.ellipse((x - 0.78 * r + turn, y - 0.95 * r, x + 0.78 * r + turn, y + 1.15 * r), fill=skin_fill)
        side = rng.choice([-1, 1]) * rng.uniform(0.2, 0.6) * r
        shade = tuple(int(0.7 * c) for c in skin_fill)
        pen.pieslice(
            (x - 0.78 * r + turn, y - 0.95 * r, x + 0.78 * r + turn, y + 1.15 * r), -90, 90, fill=shade
        )
        pen.ellipse((x - 0.6 * r + turn + side, y - 0.9 * r, x + 0.6 * r + turn, y + 1.1 * r), fill=skin_fill)
    return picture


def _poster(rng: np.random.Generator) -> Image.Image:
    """Lettering and signs: short strokes in rows."""
    palette = Palette.random(rng)
    picture = _ground(rng, palette, 0.2)
    pen = ImageDraw.Draw(picture)
    ink = Palette.random(rng).draw(rng)
    for _ in range(rng.integers(1, 6)):
        x, y, height = rng.uniform(-10, 60), rng.uniform(0, 120), rng.uniform(4, 26)
        for _ in range(rng.integers(4, 14)):
            width = height * rng.uniform(0.3, 0.8)
            thick = max(1, int(height * 0.18))
            for _ in range(rng.integers(2, 4)):
                ends = rng.random((2, 2)) * [width, height] + [x, y]
                pen.line([tuple(ends[0]), tuple(ends[1])], fill=ink, width=thick)
            x += width * 1.3
    return _grained(rng, picture, 6, 2)


def _surface(rng: np.random.Generator) -> Image.Image:
    """Stone, wood, cloth and curtains."""
    palette = Palette.random(rng)
    picture = _grained(rng, _ground(rng, palette, 0.3), rng.uniform(10, 40), int(rng.integers(1, TILES)))
    if rng.random() < 0.4:  # folds
        across = np.linspace(0, 2 * np.pi * rng.uniform(2, 12), DRAWN_SIDE)
        folds = np.sin(across + 2 * np.sin(across * 0.37)) * rng.uniform(8, 40)
        picture = _shifted(picture, np.broadcast_to(folds, (DRAWN_SIDE, DRAWN_SIDE)))
    elif rng.random() < 0.4:  # bricks or tiles
        pen, line = ImageDraw.Draw(picture), palette.draw(rng, 0.5)
        high, wide = rng.uniform(5, 18), rng.uniform(10, 40)
        for row, y in enumerate(np.arange(-5, DRAWN_SIDE, high)):
            pen.line([(0, y), (DRAWN_SIDE, y)], fill=line)
            for x in np.arange(-wide * 0.5 * (row % 2), DRAWN_SIDE, wide):
                pen.line([(x, y), (x, y + high)], fill=line)
        picture = picture.rotate(rng.normal(0, 6), Image.Resampling.BILINEAR, fillcolor=line)
    return picture


_Place: TypeAlias = Callable[[np.random.Generator], Image.Image]
_PLACES: tuple[_Place, ...] = (_wall, _stage, _room, _scene, _leaves, _sky, _people, _poster, _surface)
_CHANCES = (0.17, 0.10, 0.19, 0.16, 0.08, 0.05, 0.13, 0.04, 0.08)
#: How far each may be, and is at least, out of focus, pixels of the drawn picture.
_BLUR = (3.0, 6.0, 5.0, 9.0, 6.0, 5.0, 5.0, 4.0, 4.0)
_SHARPEST = (0.0, 0.8, 0.3, 0.8, 0.0, 0.3, 1.0, 0.4, 0.0)


def _ground(rng: np.random.Generator, palette: Palette, change: float) -> Image.Image:
    """A colour that changes slowly across the picture."""
    first = np.array(palette.draw(rng, 0.0), dtype=float)
    second = first * np.exp(change * rng.normal() + 0.05 * rng.normal(size=3))
    corners = first + (second - first) * rng.random((3, 3, 1))
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    return small.resize((DRAWN_SIDE, DRAWN_SIDE), Image.Resampling.BICUBIC)


def _grained(rng: np.random.Generator, picture: Image.Image, strength: float, tile: int) -> Image.Image:
    """A picture with noise on it, `strength` in pixel values."""
    return _shifted(picture, strength * _patch(rng, tile, 2 ** rng.uniform(-1, 1.5)))


def _shifted(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """A picture made lighter by values of each pixel, or darker."""
    pixels = np.asarray(picture) + values.astype(np.int16)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@cache
def _tile_picture(tile: int) -> Image.Image:
    """A tile twice over in both directions, for crops that pass its border."""
    return Image.fromarray(np.tile(fractal_tile(tile), (2, 2)))


def _patch(rng: np.random.Generator, tile: int, cells: float) -> Float[np.ndarray, "side side"]:
    """A random part of a tile: `cells` of it a pixel."""
    left, top = rng.uniform(0, TILE, 2)
    reach = min(cells * DRAWN_SIDE, TILE)
    box = (left, top, left + reach, top + reach)
    size = (DRAWN_SIDE, DRAWN_SIDE)
    return np.asarray(_tile_picture(tile).resize(size, Image.Resampling.BILINEAR, box))
