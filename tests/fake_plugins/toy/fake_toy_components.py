"""A small model, pictures of it with all that is true about them, and its recipe."""

import attrs
import numpy as np
import torch

from partfit.fitting import Stage
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.learning.datasets import Dataset, Sample
from partfit.models.base import ParametricModel
from partfit.recipe import FitSettings, Recipe
from partfit.testing.synthetic import synthetic_embedding, synthetic_model

RIGID = ("global_orient", "transl")


class Toy(ParametricModel):
    """`partfit.testing`'s model, by name."""

    def __init__(self, config=None):
        super().__init__(config)
        self._own = synthetic_model()

    @property
    def groups(self):
        return self._own.groups

    @property
    def topology(self):
        return self._own.topology

    def points(self, x):
        return self._own.points(x)

    def landmarks(self, embedding, like):
        return self._own.landmarks(embedding, like)


def embedding() -> LandmarkEmbedding:
    return synthetic_embedding(synthetic_model(), 30)


def recipe() -> Recipe:
    stages = (Stage(RIGID, 10, "huber"), Stage(("betas", "expression", *RIGID), 20, "huber"))
    return Recipe("toy", "mediapipe-face", "mediapipe-face", "toy", FitSettings(stages))


class Toys(Dataset):
    """The model from random sides, drawn as a blob a landmark, before a camera whose axis lies elsewhere."""

    @attrs.frozen
    class Config:
        """How many, which, and whether their parameters are told."""

        length: int = 32
        seed: int = 0
        parameters: bool = True

    def __init__(self, config=None):
        super().__init__(config)
        self._model, self._embedding = synthetic_model(), embedding()
        self._landmarks = self._model.landmarks(self._embedding, torch.zeros((), dtype=torch.float64))

    @property
    def scheme(self) -> LandmarkScheme:
        return self._embedding.scheme

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.config.seed, index])
        parameters = {
            "betas": rng.normal(size=6),
            "expression": rng.normal(size=4) * 0.7,
            "global_orient": np.array([np.pi, 0, 0]) + rng.uniform(-0.3, 0.3, 3),
            **{name: np.zeros(3) for name in ("neck_pose", "jaw_pose", "leye_pose", "reye_pose")},
            "transl": np.array([0, 0.1, 0.9]) + rng.uniform(-0.05, 0.05, 3),
        }
        x = torch.from_numpy(np.concatenate([parameters[group.name] for group in self._model.groups]))[None]
        focal, principal = rng.uniform(280, 380), np.array([48.0, 60.0]) + rng.uniform(-20, 20, 2)
        with torch.no_grad():
            points = self._landmarks.points(x)[0].numpy()
            vertices = self._model.vertices(x)[0].numpy()
        pixels = focal * points[:, :2] / points[:, 2:] + principal
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        shift = 48 - (low + high) / 2  # into the middle of the picture
        pixels, principal = pixels + shift, principal + shift
        return Sample(
            f"toy-{index}",
            _picture(pixels),
            pixels,
            np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]),
            vertices=vertices,
            intrinsics=np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1]]),
            parameters=parameters if self.config.parameters else None,
        )


def _picture(pixels: np.ndarray, side: int = 96) -> np.ndarray:
    """(side, side, 3) blobs of different colours on black."""
    axis = np.arange(side)
    across = np.exp(-((axis - pixels[:, :1]) ** 2) / 8)
    down = np.exp(-((axis - pixels[:, 1:]) ** 2) / 8)
    colours = np.random.default_rng(0).uniform(0.2, 1, size=(len(pixels), 3))
    return np.rint(255 * np.einsum("lh,lw,lc->hwc", down, across, colours).clip(0, 1)).astype(np.uint8)
