"""Starts of a fit that a network has seen: weak-perspective poses, brought before a camera.

A picture tells where a part is, how large it looks and how it is turned towards the viewer; how far away it
is follows with the focal length only. So a seen pose is, whatever the camera: the pixel of the middle of the
landmarks, the metres that a pixel spans at its depth, and the rotation in the axes of a camera that looks
straight at that pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.fitting.lm import closed_form_start, rigid_columns, rigidly_moved
from partfit.fitting.problem import FitProblem
from partfit.geometry.camera import Camera, unproject_points
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.landmarks import Detection, Start
from partfit.models.base import LandmarkFunction, ParametricModel


@attrs.frozen(eq=False)
class SeenPose:
    """A batch of poses as a picture tells them, see the module.

    Attributes:
        rotation: (B, 3, 3) from the model frame to a camera that looks straight at `pixel`.
        pixel: (B, 2) where the mean of the landmarks lies.
        metres_per_pixel: (B,) at the depth of that mean.
    """

    rotation: Float[Tensor, "batch 3 3"]
    pixel: Float[Tensor, "batch 2"]
    metres_per_pixel: Float[Tensor, " batch"]


def seen_pose(
    model: ParametricModel, landmarks: LandmarkFunction, x: Float[Tensor, "batch parameters"], camera: Camera
) -> SeenPose:
    """The pose of parameter vectors (B, P) before B cameras.

    Raises:
        InputError: if the model has no rigid rotation and translation.
    """
    turn, _ = rigid_columns(model)
    middle = landmarks.points(x).mean(dim=1)
    pixel = camera.project(middle[:, None])[:, 0]
    rotation = camera.rotation_towards(pixel).mT @ rotvec_to_matrix(x[:, turn])
    return SeenPose(rotation, pixel, middle[:, 2] / camera.focal)


def placed(
    model: ParametricModel,
    landmarks: LandmarkFunction,
    x: Float[Tensor, "batch parameters"],
    pose: SeenPose,
    camera: Camera,
) -> Float[Tensor, "batch parameters"]:
    """The parameter vectors (B, P) in this pose before B cameras: the inverse of `seen_pose`.

    Coordinates are brought within their limits, and landmarks that would lie behind the camera before it.

    Args:
        model: The model.
        landmarks: Those whose mean is meant.
        x: Parameter vectors whose rigid groups do not count.
        pose: See `SeenPose`.
        camera: The cameras.

    Raises:
        InputError: if the model has no rigid rotation and translation.
    """
    lower, upper = (
        torch.as_tensor(np.concatenate([getattr(group, side) for group in model.groups])).to(x)
        for side in ("lower", "upper")
    )
    x = model.without_rigid_motion(x).clamp(lower, upper)
    shape = landmarks.points(x)
    rotation = camera.rotation_towards(pose.pixel) @ pose.rotation
    depth = pose.metres_per_pixel * camera.focal
    goal = unproject_points(pose.pixel[:, None], depth[:, None], camera.focal, camera.principal)[:, 0]
    translation = goal - (rotation @ shape.mean(dim=1)[..., None])[..., 0]
    return rigidly_moved(landmarks, x, shape, rigid_columns(model), rotation, translation)


@torch.no_grad()
def with_detected_starts(problem: FitProblem, detections: Sequence[Detection]) -> FitProblem:
    """The problem with the starts that its detections bring for its model.

    Items without one start in closed form; a problem in which no item has one stays as it is.
    """
    model, like = problem.model, problem.points
    seen = {k: one.start for k, one in enumerate(detections) if one.start and _is_for(one.start, model)}
    if not seen:
        return problem
    items = list(seen)
    landmarks = model.landmarks(problem.embedding, like)
    own = _placed(model, landmarks, list(seen.values()), problem.camera.to(like).select(items))
    if len(items) == len(detections):
        return attrs.evolve(problem, start=own)
    start = closed_form_start(problem, landmarks)
    start[items] = own
    return attrs.evolve(problem, start=start)


def _placed(
    model: ParametricModel, landmarks: LandmarkFunction, starts: Sequence[Start], camera: Camera
) -> Float[Tensor, "batch parameters"]:
    like = camera.focal

    def stacked(rows: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(like)

    mean = np.concatenate([group.prior_mean for group in model.groups])
    x = torch.as_tensor(mean).to(like).repeat(len(starts), 1)
    for k, start in enumerate(starts):
        for name, values in start.coefficients.items():
            x[k, model.slices[name]] = torch.tensor(values).to(like)
    pose = SeenPose(
        stacked([start.rotation for start in starts]),
        stacked([start.pixel for start in starts]),
        stacked([start.metres_per_pixel for start in starts]),
    )
    return placed(model, landmarks, x, pose, camera)


def _is_for(start: Start, model: ParametricModel) -> bool:
    sizes = {group.name: group.size for group in model.groups if not group.rigid}
    same = all(sizes.get(name) == len(values) for name, values in start.coefficients.items())
    return start.topology == model.topology.name and same
