"""A left and a right flap: all that a third party needs for a body part that comes in pairs."""

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch

from partfit.fitting import Stage
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit.recipe import FitSettings, Recipe

SCHEME = LandmarkScheme("flap6", [f"corner{i}" for i in range(6)], mirror=range(6))
#: How far the flaps that the landmarker sees are bent, radians.
BENDS = {"left": 0.4, "right": 0.9}


class Flap(SkinnedModel):
    @attrs.frozen
    class Config:
        side: Literal["left", "right"] = "right"

    def __init__(self, config: Any = None) -> None:
        config = config or self.Config()
        mirror = np.array([1.0 if config.side == "right" else -1.0, 1.0, 1.0])
        vertices = np.array([[x, y, 0.0] for y in (0.0, 0.05, 0.1) for x in (0.0, 0.04)]) * mirror
        faces = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4]])
        arrays = SkinningArrays(
            v_template=vertices,
            shapedirs=np.zeros((6, 3, 0)),
            lbs_weights=np.eye(2)[[0, 0, 0, 0, 1, 1]],
            joints=np.array([[0.0, 0.0, 0.0], [0.0, 0.05, 0.0]]),
            joint_dirs=np.zeros((2, 3, 0)),
            parents=(-1, 0),
        )
        hinge = ParameterGroup("hinge", 1, "rotvec", basis=[[1.0], [0.0], [0.0]], names=["bend"])
        topology = Topology(f"flap-{config.side}", 6, faces if config.side == "right" else faces[:, ::-1])
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True), hinge]
        super().__init__(arrays, topology, [], poses, config)


class TwoFlaps(Detector):
    def detect(self, images: Sequence[np.ndarray]) -> list[list[Region]]:
        return [[self._half(image, "left"), self._half(image, "right")] for image in images]

    def _half(self, image: np.ndarray, side: str) -> Region:
        height, width = image.shape[:2]
        middle = width * (0.25 if side == "right" else 0.75)
        return Region((middle, height / 2), (width / 2, height), side=side)


class KnownFlaps(Landmarker):
    scheme = SCHEME

    def locate(
        self, images: Sequence[np.ndarray], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        return [
            [self._corners(image, region.side) for region in own]
            for image, own in zip(images, regions, strict=True)
        ]

    def _corners(self, image: np.ndarray, side: str | None) -> Detection:
        model, camera = Flap(Flap.Config(side)), Camera.for_images([image.shape[1::-1]])
        state = {
            "hinge": [[BENDS[str(side)]]],
            "global_orient": [[2.8, 0.2, 0.1]],
            "transl": [[-0.05 if side == "right" else 0.05, 0.0, 0.4]],
        }
        x = model.pack({name: torch.tensor(value) for name, value in state.items()}, like=torch.zeros(()))
        points = model.points(x)
        pixels = camera.project(points)
        straight = points @ camera.rotation_towards(pixels.mean(dim=1))  # of a camera that looks at the flap
        known = {"points_3d": straight[0].numpy(), "scale_3d": np.full((6, 3), 0.002)}
        return Detection(SCHEME, pixels[0].numpy(), np.full((6, 2), 0.1), np.ones(6), side=side, **known)


def left_corners() -> LandmarkEmbedding:
    return LandmarkEmbedding.of_vertices(SCHEME, "flap-left", range(6))


def right_corners() -> LandmarkEmbedding:
    return LandmarkEmbedding.of_vertices(SCHEME, "flap-right", range(6))


_RIGID = ("global_orient", "transl")
RECIPE = Recipe(
    part="flap",
    detector="flaps",
    landmarker="flaps",
    model="flap",
    settings=FitSettings((Stage(_RIGID), Stage(("hinge", *_RIGID), iterations=50))),
)
STIFF = attrs.evolve(RECIPE, settings=FitSettings((Stage(_RIGID),)))
