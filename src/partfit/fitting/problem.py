"""What a fit is given: landmarks, a model, and the stages of the minimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partfit.errors import InputError, ShapeError
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, LandmarkEmbedding
from partfit.models.base import ParametricModel

Weighting = Literal["inverse_scale", "confidence"]
KernelName = Literal["none", "huber", "cauchy", "geman_mcclure"]


@attrs.frozen
class Stage:
    """One minimisation: which groups are free, for how long, with which robust kernel.

    Attributes:
        free: Names of the free parameter groups.
        iterations: Upper limit.
        kernel: Applied to the length of each landmark's weighted residual.
        kernel_scale: Where the kernel begins to bend, in units of the weighted residual.
        hidden_scale: Factor on the scale of landmarks that the mesh hides from the camera as it lies when
            the stage begins; 1 takes all alike, and spares the ray casting. `inverse_scale` weighting only.
        focal: Whether the camera's focal length is free too; it needs `FitProblem.focal_deviation`.
    """

    free: tuple[str, ...]
    iterations: int = attrs.field(default=20, validator=attrs.validators.ge(0))
    kernel: KernelName = "none"
    kernel_scale: float = attrs.field(default=3.0, validator=attrs.validators.gt(0))
    hidden_scale: float = attrs.field(default=1.0, validator=attrs.validators.ge(1))
    focal: bool = False


@attrs.frozen(eq=False)
class FitProblem:
    """A batch of independent fits of one model.

    The cost of an item is 1/2 sum_l rho(|w_l (projection_l - point_l)|^2) + 1/2 |L (x - mean)|^2, where the
    weight w is one over the landmark's scale (`inverse_scale`) or its confidence (`confidence`, thesis
    eq. 3.40), each times the root of the embedding's reliability, and L the prior of the model's groups.
    Where 3D points are given, the like of the first sum for `partfit.fitting.terms.RelativePoints` is added.
    Where the focal length f is not known, so is 1/2 (log(f / f_0) / `focal_deviation`)^2, f_0 the camera's.

    The state of an item, which is what a fit moves, is its parameter vector x, followed by log(f / f_0) where
    the focal length is not known.

    Attributes:
        model: The parametric model.
        embedding: Where the landmarks lie on it.
        points: (B, L, 2) landmarks in pixels. A landmark that is not finite is left out.
        scale: (B, L, 2) standard deviations in pixels. One that is not finite and positive leaves its
            coordinate out, whatever the weighting.
        confidence: (B, L) in [0, 1].
        camera: B cameras.
        stages: Minimised one after another.
        weighting: See above.
        prior_weights: Factors >= 0 on the prior cost of single groups, 1 where not named.
        min_confidence: Landmarks of less confidence are left out (thesis chapter 5).
        start: (B, P) parameter vectors to start from; by default the closed-form start.
        points_3d: (B, L, 3) landmarks in metres, in axes of the camera frame, relative to any origin; or
            None. A coordinate that is not finite is left out.
        scale_3d: (B, L, 3) their standard deviations in metres; one that is not finite and positive leaves
            its coordinate out. Given exactly when `points_3d` is; `inverse_scale` weighting only.
        focal_deviation: Standard deviation of log(f / f_0), the prior of the focal length; 0: it is known.
    """

    model: ParametricModel
    embedding: LandmarkEmbedding
    points: Tensor
    scale: Tensor
    confidence: Tensor
    camera: Camera
    stages: tuple[Stage, ...]
    weighting: Weighting = "inverse_scale"
    prior_weights: Mapping[str, float | Tensor] = attrs.field(factory=dict)
    min_confidence: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    start: Tensor | None = None
    points_3d: Tensor | None = None
    scale_3d: Tensor | None = None
    focal_deviation: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))

    def __attrs_post_init__(self) -> None:
        self.model.check_embedding(self.embedding)
        batch, n = len(self.camera), len(self.embedding.scheme)
        shapes = {"points": (batch, n, 2), "scale": (batch, n, 2), "confidence": (batch, n)}
        shapes |= {"start": (batch, self.model.n_parameters)}
        shapes |= {"points_3d": (batch, n, 3), "scale_3d": (batch, n, 3)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ShapeError(name, str(shape), tuple(value.shape))
        if (self.points_3d is None) != (self.scale_3d is None):
            raise InputError("A fit needs `points_3d` and `scale_3d` together, or neither.")
        if self.points_3d is not None and self.weighting == "confidence":
            raise InputError(
                "Relative 3D points are weighted by their scale: they need weighting='inverse_scale', since "
                "residuals in pixels times a confidence cannot be compared with them."
            )
        if self.weighting == "confidence" and any(stage.hidden_scale > 1 for stage in self.stages):
            raise InputError("hidden_scale acts on scales: it needs weighting='inverse_scale'.")
        for name, weight in self.prior_weights.items():
            if not 0 <= float(torch.as_tensor(weight).detach()) < math.inf:
                raise InputError(f"prior_weights[{name!r}]: expected a finite number >= 0, found {weight}.")
        if self.focal_deviation == 0 and any(stage.focal for stage in self.stages):
            raise InputError("A stage that frees the focal length needs focal_deviation > 0, its prior.")
        for name in (*self.prior_weights, *(g for stage in self.stages for g in stage.free)):
            self.model.group(name)

    @classmethod
    def from_detections(
        cls,
        model: ParametricModel,
        embedding: LandmarkEmbedding,
        detections: Sequence[Detection],
        camera: Camera,
        stages: Sequence[Stage],
        **options: Any,
    ) -> FitProblem:
        """The problem of fitting one model to several detections, with the camera's dtype and device.

        Relative 3D points are turned from the axes of a camera that looks straight at the middle of the
        usable landmarks to those of the camera frame. With `confidence` weighting they are left out.

        Raises:
            InputError: if a detection's scheme is not the embedding's.
        """
        for detection in detections:
            if detection.scheme.hash != embedding.scheme.hash:
                raise InputError(
                    f"The landmarks are of scheme {detection.scheme.name!r} (version "
                    f"{detection.scheme.version}), the {embedding.label} is of version "
                    f"{embedding.scheme.version}. Choose a landmarker and an embedding of one scheme."
                )
        like = camera.focal

        def stacked(name: str) -> Tensor:
            return torch.as_tensor(np.stack([getattr(d, name) for d in detections])).to(like)

        points, scale, confidence = stacked("points"), stacked("scale"), stacked("confidence")
        if options.get("weighting") != "confidence":
            options |= _relative_points(detections, points, camera)
        return cls(model, embedding, points, scale, confidence, camera, stages=tuple(stages), **options)

    def state(
        self, x: Float[Tensor, "batch parameters"], focal: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch state"]:
        """The states (B, P) or (B, P + 1) of parameter vectors and focal lengths, by default the camera's."""
        if self.focal_deviation == 0:
            return x
        own = self.camera.focal.to(x)
        zoom = torch.zeros_like(own) if focal is None else (focal / own).log()
        return torch.cat([x, zoom[:, None]], dim=1)

    def split(
        self, state: Float[Tensor, "batch state"]
    ) -> tuple[Float[Tensor, "batch parameters"], Float[Tensor, " batch"] | None]:
        """The parameter vectors (B, P) and focal lengths (B,) of states; None where these are known."""
        if self.focal_deviation == 0:
            return state, None
        return state[:, :-1], self.camera.focal.to(state) * state[:, -1].exp()

    def select(self, items: Int[Tensor, " chosen"]) -> FitProblem:
        """The problem of some of the items."""
        names = ("points", "scale", "confidence", "start", "points_3d", "scale_3d")
        values = {name: getattr(self, name) for name in names}
        chosen: dict[str, Any] = {name: value[items] for name, value in values.items() if value is not None}
        return attrs.evolve(self, **chosen, camera=self.camera.select(items))


def _relative_points(
    detections: Sequence[Detection], points: Float[Tensor, "batch landmarks 2"], camera: Camera
) -> dict[str, Tensor]:
    """The 3D points of detections in axes of the camera frame, and their scales; nothing if none has any."""
    if all(detection.points_3d is None for detection in detections):
        return {}
    unknown = np.full((points.shape[1], 3), np.nan)
    relative, scale = (
        torch.as_tensor(
            np.stack([unknown if getattr(d, name) is None else getattr(d, name) for d in detections])
        ).to(points)
        for name in ("points_3d", "scale_3d")
    )
    usable = torch.as_tensor(np.stack([detection.usable for detection in detections])).to(points.device)
    middle = torch.where(usable[..., None], points, torch.nan).nanmean(dim=1)
    towards = camera.rotation_towards(middle)
    return {"points_3d": relative @ towards.transpose(1, 2), "scale_3d": scale}
