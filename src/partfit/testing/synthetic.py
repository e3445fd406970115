"""A made-up skinned model of any size, and fit problems on it whose answer is known.

The shape is half an ellipsoid, 15 cm wide and 20 cm high, with smooth random blend shapes and a skeleton of
five joints. Fits of it are as well conditioned as those of real models, so that fits and their speed can be
tested without any model file.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.fitting.problem import FitProblem, Stage
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models.base import ParameterGroup, Topology
from partfit.models.skinning import SkinnedModel, SkinningArrays

#: Groups of the joints below the root, with names that smplx uses.
JOINT_GROUPS = ("neck_pose", "jaw_pose", "leye_pose", "reye_pose")


def synthetic_model(
    n_vertices: int = 300, n_betas: int = 6, n_expression: int = 4, *, seed: int = 0, posedirs: bool = True
) -> SkinnedModel:
    """A skinned model with two coefficient groups and five joints, which are virtual points too.

    The groups are `betas`, `expression`, `global_orient`, those of `JOINT_GROUPS`, and `transl`.

    Args:
        n_vertices: Number of vertices.
        n_betas: Size of the group `betas`.
        n_expression: Size of the group `expression`.
        seed: Of the random shape.
        posedirs: Whether the model has pose correctives.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n_vertices, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:, 2] = np.abs(directions[:, 2])
    vertices = directions * [0.075, 0.1, 0.09]
    n_coefficients = n_betas + n_expression
    waves = np.sin(directions @ rng.normal(size=(3, 40)) * 2 + rng.uniform(0, 2 * np.pi, 40))
    shapedirs = np.einsum("vf,fdk->vdk", waves, rng.normal(size=(40, 3, n_coefficients)))
    # like principal components: the k-th moves the vertices by about 1.5 mm / sqrt(k)
    shapedirs *= 1.5e-3 / np.sqrt((shapedirs**2).sum(1).mean(0) * (1 + np.arange(n_coefficients)))
    joints = np.array(
        [[0, -0.12, 0], [0, -0.06, 0], [0, -0.02, 0.02], [0.03, 0.03, 0.07], [-0.03, 0.03, 0.07]]
    )
    weights = np.exp(2 * rng.normal(size=(n_vertices, 5)))
    weights /= weights.sum(axis=1, keepdims=True)
    joint_dirs = rng.normal(size=(5, 3, n_coefficients)) * 1e-4
    arrays = SkinningArrays(
        v_template=np.concatenate([vertices, joints]),
        shapedirs=np.concatenate([shapedirs, joint_dirs]),
        lbs_weights=np.concatenate([weights, np.eye(5)]),
        joints=joints,
        joint_dirs=joint_dirs,
        parents=(-1, 0, 1, 1, 1),
        posedirs=_posedirs(rng, n_vertices) if posedirs else None,
    )
    names = tuple(f"joint{j}" for j in range(5))
    faces = rng.permutation(n_vertices)[: n_vertices // 3 * 3].reshape(-1, 3)
    return SkinnedModel(
        arrays,
        Topology(f"synthetic-{n_vertices}-{seed}", n_vertices, faces, names),
        [_group("betas", n_betas), _group("expression", n_expression)],
        [
            ParameterGroup("global_orient", 3, "rotvec", rigid=True),
            *(ParameterGroup(name, 3, "rotvec", sqrt_information=np.full(3, 10.0)) for name in JOINT_GROUPS),
        ],
    )


def synthetic_embedding(
    model: SkinnedModel, n_landmarks: int = 60, support: int = 1, *, seed: int = 0
) -> LandmarkEmbedding:
    """Random landmarks: vertices for `support` 1, else weighted means of `support` random points."""
    rng = np.random.default_rng(seed)
    scheme = LandmarkScheme(f"synthetic{n_landmarks}", [f"p{i:04d}" for i in range(n_landmarks)])
    n_points = model.topology.n_vertices if support == 1 else model.topology.n_points
    indices = np.stack([rng.permutation(n_points)[:n_landmarks] for _ in range(support)], axis=1)
    weights = rng.dirichlet(np.ones(support), size=n_landmarks)
    return LandmarkEmbedding(scheme, model.topology.name, indices, weights)


def synthetic_problem(
    model: SkinnedModel,
    embedding: LandmarkEmbedding,
    batch: int = 1,
    *,
    seed: int = 0,
    noise_px: float = 0.0,
    max_angle: float = 0.4,
    dtype: torch.dtype = torch.float64,
) -> tuple[FitProblem, Float[Tensor, "batch parameters"]]:
    """Landmarks of random states of the model seen by 256-pixel cameras, and those states.

    Args:
        model: From `synthetic_model`.
        embedding: The landmarks.
        batch: Number of items.
        seed: Of the states and the noise.
        noise_px: Standard deviation added to the landmarks; also their scale (0.1 px where it is 0).
        max_angle: Largest root rotation, radians, about a random axis.
        dtype: Of the problem.
    """
    rng = np.random.default_rng(seed)
    x = np.zeros((batch, model.n_parameters))
    n_coefficients = model.slices["expression"].stop
    x[:, :n_coefficients] = rng.normal(size=(batch, n_coefficients)) * 0.7
    axes = rng.normal(size=(batch, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    # the model looks along +z; half a turn about x makes it face the camera
    turn = _compose(axes * rng.uniform(0, max_angle, size=(batch, 1)), np.array([np.pi, 0, 0]))
    x[:, model.slices["global_orient"]] = turn
    x[:, model.slices["jaw_pose"]] = rng.normal(size=(batch, 3)) * 0.05
    x[:, model.slices["transl"]] = [0, 0, 0.9] + rng.normal(size=(batch, 3)) * [0.03, 0.03, 0.1]
    truth = torch.as_tensor(x)
    camera = Camera.for_images([(256, 256)] * batch, dtype=torch.float64)
    points = camera.project(model.landmarks(embedding, truth).points(truth))
    points = points + torch.as_tensor(rng.normal(size=points.shape)) * noise_px
    like = torch.zeros((), dtype=dtype)
    problem = FitProblem(
        model,
        embedding,
        points.to(like),
        torch.full_like(points, noise_px or 0.1).to(like),
        torch.ones(points.shape[:2]).to(like),
        camera.to(like),
        stages=(Stage(("global_orient", "transl"), 10), Stage(tuple(model.slices), 30)),
    )
    return problem, truth.to(like)


def _group(name: str, size: int) -> ParameterGroup:
    return ParameterGroup(name, size, sqrt_information=np.ones(size))


def _posedirs(rng: np.random.Generator, n_vertices: int) -> np.ndarray:
    directions = rng.normal(size=(n_vertices + 5, 3, 36)) * 1e-4
    directions[n_vertices:] = 0  # joints have no correctives
    return directions


def _compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix

    a, b = (rotvec_to_matrix(torch.as_tensor(r)) for r in (first, second))
    return matrix_to_rotvec(a @ b).numpy()
