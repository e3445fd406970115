"""Searching pictures with MediaPipe's detector networks, which are alike for faces and palms.

Such a network sees a 192 x 192 picture and answers for each of many cells with a box, keypoints and a score.
It finds what is not much smaller than 1/20 of the picture's longer side; a larger picture is therefore
searched a second time, in overlapping tiles, for what is smaller.

Source: Bazarevsky et al. 2019, "BlazeFace"; MediaPipe 0.10.21.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from partfit.geometry.crops import Crop
from partfit.geometry.pixels import resize_points
from partfit_mediapipe.networks import Network
from partfit_mediapipe.pictures import check_picture, network_inputs

SIZE = 192  # side of the networks' input, pixels
_NMS_OVERLAP = 0.3  # MediaPipe's min_suppression_threshold

_TILE = 0.6  # side of a tile, of the picture's longer side
_TILE_BOX = 0.2  # largest box taken from a tile, of the picture's longer side


@attrs.frozen(eq=False)
class Found:
    """One part that a search has found.

    Attributes:
        points: (2 + K, 2) the box's low and high corners, then the K keypoints, picture pixels.
        score: In [0, 1].
    """

    points: np.ndarray
    score: float


@attrs.frozen(eq=False)
class BoxNetwork:
    """A detector network, and how it is asked and read.

    Attributes:
        network: Answers each picture with C rows of a box and keypoints, and with C logits.
        cells: (C, 2) middle of each answer's cell, pixels from the input's corner.
        low: What the network wants for black; white is 1.
    """

    network: Network
    cells: np.ndarray
    low: float

    def search(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], threshold: float, tiles: bool
    ) -> list[list[Found]]:
        """What is found in each picture, best score first.

        Every picture is searched as a whole. With `tiles`, where its longer side L exceeds 192 / 0.6 = 320
        pixels, it is also searched in evenly laid tiles of side 0.6 L: four, or two where the shorter side is
        at most 0.6 L. Only boxes of up to 0.2 L are taken from tiles; neighbouring tiles overlap by at least
        as much, so that each such box lies whole in one of them. What overlaps is merged by weighted
        non-maximum suppression.

        Args:
            images: RGB uint8 (H, W, 3).
            threshold: Least score, between 0 and 1.
            tiles: Whether to look for small parts in tiles.

        Raises:
            InputError: if a picture is not RGB uint8 (H, W, 3).
        """
        if not images:
            return []
        plans = [_plan(image, tiles) for image in images]
        inputs = [network_inputs(plan.pixels, plan.crops, low=self.low) for plan in plans]
        boxes, logits = self.network(torch.cat(inputs))
        ends = np.cumsum([len(plan.crops) for plan in plans])[:-1]
        answers = zip(plans, np.split(boxes, ends), np.split(logits, ends), strict=True)
        return [self._read(*answer, threshold) for answer in answers]

    def _read(
        self,
        plan: _Plan,
        boxes: Float[np.ndarray, "crops numbers"],
        logits: Float[np.ndarray, "crops cells"],
        threshold: float,
    ) -> list[Found]:
        """What is found in one picture, from the network's answers for its crops."""
        found = [
            self._decode(crop, box.reshape(len(self.cells), -1, 2), logit, threshold)
            for crop, box, logit in zip(plan.crops, boxes, logits, strict=True)
        ]
        largest = _TILE_BOX * plan.crops[0].size
        small = [candidates.where(_box_sides(candidates.points) < largest) for candidates in found[1:]]
        parts = _suppress(_joined([found[0], *small]))
        return [Found(resize_points(points, plan.block), score) for points, score in parts]

    def _decode(
        self,
        crop: Crop,
        boxes: Float[np.ndarray, "cells points 2"],
        logits: Float[np.ndarray, " cells"],
        threshold: float,
    ) -> _Candidates:
        """The cells above the threshold, with points in pixels of the picture that the crop is of.

        A cell answers with its box's middle, its box's size and the keypoints, in crop pixels; positions are
        relative to the cell's middle. The network counts pixels from the crop's corner: 0.5 is the first
        pixel's centre.
        """
        chosen = np.flatnonzero(logits > math.log(threshold / (1 - threshold)))
        answer = boxes[chosen].astype(float)
        middle, half = answer[:, :1], answer[:, 1:2] / 2
        points = np.concatenate([middle - half, middle + half, answer[:, 2:]], axis=1)
        points += self.cells[chosen, None]
        scores = 1 / (1 + np.exp(-logits[chosen].astype(float)))
        candidates = _Candidates(crop.to_image(points - 0.5), scores)
        return candidates.where(_box_sides(candidates.points) > 0)


def cell_middles(stride: int, answers: int = 1) -> Float[np.ndarray, "cells 2"]:
    """Middles of the cells of a network's input, row by row, pixels from the corner.

    Args:
        stride: Side of a cell.
        answers: How many answers the network has for each cell: its middle is repeated as often.
    """
    axis = (np.arange(SIZE // stride) + 0.5) * stride
    x, y = np.meshgrid(axis, axis)
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=-1), answers, axis=0)


@attrs.frozen(eq=False)
class _Plan:
    """A picture, reduced, and the crops of it that the network is to see.

    Attributes:
        pixels: The picture averaged over blocks.
        block: Side of a block, in picture pixels.
        crops: The whole picture, then its tiles, in pixels of the reduced picture.
    """

    pixels: np.ndarray
    block: int
    crops: list[Crop]


@attrs.frozen(eq=False)
class _Candidates:
    """What the network proposes.

    Attributes:
        points: (N, 2 + K, 2) the box's low and high corners, then the keypoints.
        scores: (N,) in [0, 1].
    """

    points: np.ndarray
    scores: np.ndarray

    def where(self, chosen: np.ndarray) -> _Candidates:
        """The candidates that a mask or an index array chooses."""
        return _Candidates(self.points[chosen], self.scores[chosen])


def _plan(image: UInt8[np.ndarray, "height width 3"], tiles: bool) -> _Plan:
    """Reduce a picture as far as the smallest crop allows without being enlarged, and lay out its crops."""
    check_picture(image)
    longer = max(image.shape[:2])
    tiles = tiles and longer * _TILE > SIZE
    block = max(1, int(longer * (_TILE if tiles else 1.0) / SIZE))
    pixels = np.asarray(Image.fromarray(image).reduce(block)) if block > 1 else image
    # a last block that lies partly outside counts in full: the reduced picture may have a fraction more
    height, width = image.shape[0] / block, image.shape[1] / block
    crops = [_square(width / 2, height / 2, longer / block)]
    if tiles:
        side = _TILE * longer / block
        crops += [
            _square(x, y, side) for y in _tile_middles(height, side) for x in _tile_middles(width, side)
        ]
    return _Plan(pixels, block, crops)


def _square(x: float, y: float, side: float) -> Crop:
    """The crop around a point that is given from the picture's corner, not from its first pixel's centre."""
    return Crop((x - 0.5, y - 0.5), side, resolution=SIZE)


def _tile_middles(length: float, side: float) -> list[float]:
    return [length / 2] if length <= side else [side / 2, length - side / 2]


def _box_sides(points: Float[np.ndarray, "n points 2"]) -> Float[np.ndarray, " n"]:
    return (points[:, 1] - points[:, 0]).max(axis=1)


def _joined(parts: Sequence[_Candidates]) -> _Candidates:
    """All candidates, best score first."""
    scores = np.concatenate([part.scores for part in parts])
    together = _Candidates(np.concatenate([part.points for part in parts]), scores)
    return together.where(np.argsort(-scores, kind="stable"))


def _suppress(candidates: _Candidates) -> list[tuple[Float[np.ndarray, "points 2"], float]]:
    """Weighted non-maximum suppression: the best candidate takes in those that overlap it, and so on.

    The points of a part are the score-weighted mean over its candidates; its score is that of the best.
    """
    parts = []
    while len(candidates.scores):
        same = _overlap_with_first(candidates.points) > _NMS_OVERLAP
        same[0] = True  # an empty box does not overlap even itself
        group = candidates.where(same)
        parts.append((np.average(group.points, axis=0, weights=group.scores), float(group.scores[0])))
        candidates = candidates.where(~same)
    return parts


def _overlap_with_first(points: Float[np.ndarray, "n points 2"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of each box with the first."""
    low, high = points[:, 0], points[:, 1]
    common = np.clip(np.minimum(high, high[0]) - np.maximum(low, low[0]), 0, None).prod(axis=1)
    areas = (high - low).prod(axis=1)
    return common / np.maximum(areas + areas[0] - common, np.finfo(float).tiny)
