"""MediaPipe's full-range face detector.

The network sees a 192 x 192 picture with values in [-1, 1] and answers for each of 48 x 48 cells, 4 pixels
wide, with a box, six keypoints and a score. It finds faces from about 1/20 of the picture's longer side; a
larger picture is therefore searched a second time, in overlapping tiles, for smaller ones.

Source: Bazarevsky et al. 2019, "BlazeFace"; MediaPipe 0.10.21, modules/face_detection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from partfit.errors import ConfigError
from partfit.geometry.crops import Crop
from partfit.geometry.pixels import resize_points
from partfit.landmarks import Detector, Region
from partfit_mediapipe.networks import Backend, load_network
from partfit_mediapipe.pictures import check_picture, network_inputs

_SIZE = 192  # side of the network's input, pixels
_STRIDE = 4  # side of a cell, pixels
_KEYPOINTS = 6  # right eye, left eye, nose tip, mouth, right ear, left ear; the subject's right
_NMS_OVERLAP = 0.3  # MediaPipe's min_suppression_threshold

_TILE = 0.6  # side of a tile, of the picture's longer side
_TILE_FACE = 0.2  # largest face taken from a tile, of the picture's longer side


@attrs.frozen(eq=False)
class _Search:
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
        points: (N, 8, 2) the box's low and high corners, then the six keypoints.
        scores: (N,) in [0, 1].
    """

    points: np.ndarray
    scores: np.ndarray

    def where(self, chosen: np.ndarray) -> _Candidates:
        """The candidates that a mask or an index array chooses."""
        return _Candidates(self.points[chosen], self.scores[chosen])


class FaceDetector(Detector):
    """Finds faces with MediaPipe's full-range network.

    Every picture is searched as a whole. Where its longer side L exceeds 192 / 0.6 = 320 pixels, it is also
    searched in evenly laid tiles of side 0.6 L: four, or two where the shorter side is at most 0.6 L. Only
    faces of up to 0.2 L are taken from tiles; neighbouring tiles overlap by at least as much, so that each
    such face lies whole in one of them. What overlaps is merged by weighted non-maximum suppression.

    A region is the network's box, upright and square; its angle is that of the line from the subject's right
    eye to the left eye.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            threshold: Least score of a face, between 0 and 1. MediaPipe's own 0.6 loses some of the smallest
                faces; what a lower one finds too much, the landmarker refuses.
            tiles: Whether to look for small faces in tiles.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        threshold: float = 0.5
        tiles: bool = True
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if not 0 < self.threshold < 1:
                raise ConfigError(f"threshold must lie between 0 and 1, found {self.threshold}.")

    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self._network = load_network("face_detection", self.config.backend, self.config.device)

    def detect(self, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> list[list[Region]]:
        """Find the faces in each picture, best score first; see `partfit.landmarks.Detector.detect`.

        Raises:
            InputError: if a picture is not RGB uint8 (H, W, 3).
        """
        if not images:
            return []
        searches = [_search(image, self.config.tiles) for image in images]
        inputs = [network_inputs(search.pixels, search.crops, low=-1.0) for search in searches]
        boxes, logits = self._network(torch.cat(inputs))
        ends = np.cumsum([len(search.crops) for search in searches])[:-1]
        answers = zip(searches, np.split(boxes, ends), np.split(logits, ends), strict=True)
        return [self._faces(*answer) for answer in answers]

    def _faces(
        self,
        search: _Search,
        boxes: Float[np.ndarray, "crops numbers"],
        logits: Float[np.ndarray, "crops cells"],
    ) -> list[Region]:
        """The faces of one picture, from the network's answers for its crops."""
        found = [
            _decode(crop, box.reshape(-1, 2 + _KEYPOINTS, 2), logit, self.config.threshold)
            for crop, box, logit in zip(search.crops, boxes, logits, strict=True)
        ]
        largest = _TILE_FACE * search.crops[0].size
        small = [candidates.where(_box_sides(candidates.points) < largest) for candidates in found[1:]]
        faces = _suppress(_joined([found[0], *small]))
        return [_region(resize_points(points, search.block), score) for points, score in faces]


def _search(image: UInt8[np.ndarray, "height width 3"], tiles: bool) -> _Search:
    """Reduce a picture as far as the smallest crop allows without being enlarged, and lay out its crops."""
    check_picture(image)
    longer = max(image.shape[:2])
    tiles = tiles and longer * _TILE > _SIZE
    block = max(1, int(longer * (_TILE if tiles else 1.0) / _SIZE))
    pixels = np.asarray(Image.fromarray(image).reduce(block)) if block > 1 else image
    # a last block that lies partly outside counts in full: the reduced picture may have a fraction more
    height, width = image.shape[0] / block, image.shape[1] / block
    crops = [_square(width / 2, height / 2, longer / block)]
    if tiles:
        side = _TILE * longer / block
        crops += [
            _square(x, y, side) for y in _tile_middles(height, side) for x in _tile_middles(width, side)
        ]
    return _Search(pixels, block, crops)


def _square(x: float, y: float, side: float) -> Crop:
    """The crop around a point that is given from the picture's corner, not from its first pixel's centre."""
    return Crop((x - 0.5, y - 0.5), side, resolution=_SIZE)


def _tile_middles(length: float, side: float) -> list[float]:
    return [length / 2] if length <= side else [side / 2, length - side / 2]


def _decode(
    crop: Crop, boxes: Float[np.ndarray, "cells 8 2"], logits: Float[np.ndarray, " cells"], threshold: float
) -> _Candidates:
    """The cells above the threshold, with points in pixels of the picture that the crop is of.

    A cell answers with its box's middle, its box's size and the keypoints, in crop pixels; positions are
    relative to the cell's middle. The network counts pixels from the crop's corner: 0.5 is the first pixel's
    centre.
    """
    chosen = np.flatnonzero(logits > math.log(threshold / (1 - threshold)))
    cells_a_row = _SIZE // _STRIDE
    cells = (np.stack([chosen % cells_a_row, chosen // cells_a_row], axis=-1) + 0.5) * _STRIDE
    answer = boxes[chosen].astype(float)
    middle, half = answer[:, :1], answer[:, 1:2] / 2
    points = np.concatenate([middle - half, middle + half, answer[:, 2:]], axis=1) + cells[:, None]
    candidates = _Candidates(crop.to_image(points - 0.5), 1 / (1 + np.exp(-logits[chosen].astype(float))))
    return candidates.where(_box_sides(candidates.points) > 0)


def _box_sides(points: Float[np.ndarray, "n 8 2"]) -> Float[np.ndarray, " n"]:
    return (points[:, 1] - points[:, 0]).max(axis=1)


def _joined(parts: Sequence[_Candidates]) -> _Candidates:
    """All candidates, best score first."""
    scores = np.concatenate([part.scores for part in parts])
    together = _Candidates(np.concatenate([part.points for part in parts]), scores)
    return together.where(np.argsort(-scores, kind="stable"))


def _suppress(candidates: _Candidates) -> list[tuple[Float[np.ndarray, "8 2"], float]]:
    """Weighted non-maximum suppression: the best candidate takes in those that overlap it, and so on.

    The points of a face are the score-weighted mean over its candidates; its score is that of the best.
    """
    faces = []
    while len(candidates.scores):
        same = _overlap_with_first(candidates.points) > _NMS_OVERLAP
        same[0] = True  # an empty box does not overlap even itself
        group = candidates.where(same)
        faces.append((np.average(group.points, axis=0, weights=group.scores), float(group.scores[0])))
        candidates = candidates.where(~same)
    return faces


def _overlap_with_first(points: Float[np.ndarray, "n 8 2"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of each box with the first."""
    low, high = points[:, 0], points[:, 1]
    common = np.clip(np.minimum(high, high[0]) - np.maximum(low, low[0]), 0, None).prod(axis=1)
    areas = (high - low).prod(axis=1)
    return common / np.maximum(areas + areas[0] - common, np.finfo(float).tiny)


def _region(points: Float[np.ndarray, "8 2"], score: float) -> Region:
    low, high, right_eye, left_eye = points[:4]
    (x, y), (width, height) = (low + high) / 2, high - low
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    return Region((float(x), float(y)), (float(width), float(height)), angle, score)
