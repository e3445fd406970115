"""The colours of numbers, such as confidences, and the legend that says which is which."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

# Every sixteenth colour of the map viridis, sRGB: its lightness grows evenly, and it can be read without
# telling red from green. Source: Nathaniel Smith and Stefan van der Walt, for matplotlib; CC0.
_VIRIDIS = np.array(
    [
        *((68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141)),
        *((44, 114, 142), (38, 129, 142), (33, 144, 140), (31, 159, 136), (40, 174, 128), (62, 188, 116)),
        *((93, 201, 99), (130, 211, 76), (171, 220, 50), (213, 226, 26), (253, 231, 37)),
    ]
)
# The legend: its height as a share of the picture's shorter side, what is behind it, and its text.
_HEIGHT, _BOARD, _TEXT = 0.045, (24, 26, 30), (236, 238, 241)


def map_colours(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Numbers in [0, 1] as colours, sRGB: from dark violet for 0 over green to yellow for 1."""
    steps = np.linspace(0.0, 1.0, len(_VIRIDIS))
    channels = [np.interp(values, steps, channel) for channel in _VIRIDIS.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def draw_legend(
    image: Image.Image, points: Float[np.ndarray, "points 2"], title: str, ends: tuple[str, str] = ("0", "1")
) -> None:
    """Draw what the colours mean into the corner of a picture where it hides least.

    A picture that has no room for it stays as it is.

    Args:
        image: Drawn on.
        points: (N, 2) what had better stay in sight, pixels.
        title: What the numbers are.
        ends: What 0 and 1 stand for.
    """
    board = _legend(max(16, round(_HEIGHT * min(image.size))), title, ends)
    room = np.array(image.size) - board.size
    if (room < 0).any():
        return
    corners = np.array(list(itertools.product((0, room[0]), (room[1], 0))))
    inside = (points >= corners[:, None] - 0.5) & (points <= corners[:, None] + board.size)
    x, y = corners[inside.all(axis=2).sum(axis=1).argmin()].tolist()
    image.paste(board, (x, y))


def _legend(height: int, title: str, ends: tuple[str, str]) -> Image.Image:
    """A bar of the colours between the numbers that they stand for."""
    font, gap, width = ImageFont.load_default(0.6 * height), height // 3, 5 * height
    title, end = f"{title}  {ends[0]}", ends[1]
    start = 2 * gap + round(font.getlength(title))
    stop = start + width
    board = Image.new("RGB", (stop + 2 * gap + round(font.getlength(end)), height), _BOARD)
    pen = ImageDraw.Draw(board)
    for x, text in ((gap, title), (stop + gap, end)):
        pen.text((x, height / 2), text, fill=_TEXT, font=font, anchor="lm")
    colours = map_colours(np.linspace(0.0, 1.0, width))
    board.paste(Image.fromarray(np.tile(colours, (height - 2 * gap, 1, 1))), (start, gap))
    return board
