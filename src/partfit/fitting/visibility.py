"""Which landmarks the fitted mesh itself hides: what a landmarker says of them is a guess."""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.problem import FitProblem
from partfit.meshes import Mesh
from partfit.models.contour import landmark_points
from partfit.rendering import inside_tolerance, visible_points


def hidden_landmarks(
    problem: FitProblem, state: Float[Tensor, "batch state"]
) -> Bool[Tensor, "batch landmarks"]:
    """Which landmarks (B, L) the camera does not see past the mesh in a state, by ray casting.

    A landmark inside the mesh, such as a joint, counts as seen when the skin before it is at most twice as
    far from it as the nearest skin. An item whose points are not finite hides nothing.
    """
    model, (x, _) = problem.model, problem.split(state)
    points = landmark_points(model, problem.embedding, x, problem.camera)
    vertices = model.vertices(x)
    hidden = torch.zeros(points.shape[:2], dtype=torch.bool)
    for i in range(len(x)):
        if bool(torch.isfinite(vertices[i]).all()):
            mesh = Mesh(vertices[i].cpu().double().numpy(), model.topology.faces)
            own = points[i].nan_to_num().cpu().double().numpy()  # NaN where the place is not known
            hidden[i] = torch.as_tensor(~visible_points(own, [mesh], inside_tolerance(own, mesh)))
    return hidden.to(x.device)


def with_hidden_scaled(problem: FitProblem, state: Float[Tensor, "batch state"], factor: float) -> FitProblem:
    """The problem with the scales (pixels, 3D points) of what the mesh in a state hides times `factor`."""
    factors = torch.where(hidden_landmarks(problem, state), factor, 1.0).to(problem.scale)[..., None]
    scale_3d = None if problem.scale_3d is None else problem.scale_3d * factors
    return attrs.evolve(problem, scale=problem.scale * factors, scale_3d=scale_3d)
