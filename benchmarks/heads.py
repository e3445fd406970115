"""Anny heads with random identity and expression, before cameras that are known: for the other scripts."""

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

import partfit
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import ParametricModel

RIGID = ("global_orient", "transl")
#: What a picture of a face tells. Neck, jaw bone and eyes stay straight, and are not fitted.
FREE = ("betas", "expression", *RIGID)


def face_landmarks(every: int) -> LandmarkEmbedding:
    """Every so-manieth of the Anny head's dense landmarks."""
    dense = partfit.create("embedding", "anny-head/anny-face-dense")
    scheme = LandmarkScheme(f"every-{every}", dense.scheme.names[::every])
    return LandmarkEmbedding.of_vertices(scheme, dense.topology, dense.indices[::every, 0])


def random_heads(model: ParametricModel, count: int, turn: float, rng: np.random.Generator) -> torch.Tensor:
    """States (count, P), float64: shapes of the prior, turned from the camera by up to `turn` radians."""
    x = np.zeros((count, model.n_parameters))
    for name in ("betas", "expression"):
        x[:, model.slices[name]] = model.group(name).sample(rng, count)
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turns = Rotation.from_rotvec(axes * rng.uniform(0, turn, size=(count, 1)))
    # the model looks along +z, y up: half a turn about x makes it face the camera
    x[:, model.slices["global_orient"]] = (turns * Rotation.from_rotvec([math.pi, 0, 0])).as_rotvec()
    return torch.as_tensor(x)


def placed(
    model: ParametricModel, embedding: LandmarkEmbedding, x: torch.Tensor, middle: torch.Tensor
) -> torch.Tensor:
    """The states x (B, P) moved so that the middle of the landmarks lies at (B, 3), metres, camera frame."""
    moved = x.clone()
    columns = model.slices["transl"]
    moved[:, columns] += middle - model.landmarks(embedding, x).points(x).mean(1)
    return moved
