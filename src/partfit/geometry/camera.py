"""The pinhole camera: projection, its derivative, its inverse, and rules for an unknown focal length.

Convention: points in metres in the camera frame of OpenCV (+x right, +y down, +z forward); pixels with
(0, 0) at the centre of the top-left pixel, so the default principal point is ((W - 1) / 2, (H - 1) / 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.errors import InputError, ShapeError
from partfit.geometry.rotations import hat


def project_points(
    points: Float[Tensor, "*batch n 3"], focal: Float[Tensor, "*batch"], principal: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch n 2"]:
    """Project camera-frame points to pixels: u = f x / z + c.

    Args:
        points: (..., n, 3), metres.
        focal: (...), pixels.
        principal: (..., 2), pixels.

    Returns:
        (..., n, 2), pixels; NaN for points with z <= 0, which no camera sees.

    Raises:
        ShapeError: if `points` is not (..., n, 3).
    Source: thesis eq. 3.36, with the principal point of our pixel convention.
    """
    if points.ndim < 2 or points.shape[-1] != 3:
        raise ShapeError("points", "(..., n, 3)", tuple(points.shape))
    depth = points[..., 2:]
    depth = torch.where(depth > 0, depth, torch.full_like(depth, math.nan))
    return focal[..., None, None] * points[..., :2] / depth + principal[..., None, :]


def projection_jacobian(
    points: Float[Tensor, "*batch n 3"], focal: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch n 2 3"]:
    """Derivative of `project_points` by the points: (..., n, 2, 3), pixels a metre."""
    x, y, z = points.unbind(-1)
    scale = focal[..., None] / z
    zero = torch.zeros_like(scale)
    rows = [scale, zero, -scale * x / z, zero, scale, -scale * y / z]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


def unproject_points(
    pixels: Float[Tensor, "*batch n 2"],
    depth: Float[Tensor, "*batch n"],
    focal: Float[Tensor, "*batch"],
    principal: Float[Tensor, "*batch 2"],
) -> Float[Tensor, "*batch n 3"]:
    """The camera-frame points (..., n, 3) in metres seen at `pixels` with the given depth z in metres."""
    if pixels.ndim < 2 or pixels.shape[-1] != 2:
        raise ShapeError("pixels", "(..., n, 2)", tuple(pixels.shape))
    plane = (pixels - principal[..., None, :]) / focal[..., None, None] * depth[..., None]
    return torch.cat([plane, depth[..., None]], dim=-1)


def focal_from_diagonal(width: float, height: float) -> float:
    """Focal length in pixels when nothing is known: sqrt(H^2 + W^2).

    Source: thesis eq. 3.38, after Kissos et al.
    """
    return math.hypot(width, height)


def focal_from_field_of_view(width: float, height: float, angle: float) -> float:
    """Focal length in pixels for a diagonal field of view of `angle` radians.

    Raises:
        InputError: if the angle is not in (0, pi).
    Source: thesis eq. 3.37.
    """
    if not 0 < angle < math.pi:
        raise InputError(f"A diagonal field of view lies between 0 and pi radians, found {angle}.")
    return math.hypot(width, height) / (2 * math.tan(angle / 2))


@attrs.frozen(eq=False)
class Camera:
    """A batch of pinhole cameras with square pixels.

    Attributes:
        focal: (B,), pixels.
        principal: (B, 2), pixels.
        size: (B, 2), width and height of the picture, pixels.
    """

    focal: Tensor
    principal: Tensor
    size: Tensor

    def __attrs_post_init__(self) -> None:
        batch = self.focal.shape
        if len(batch) != 1:
            raise ShapeError("focal", "(batch,)", tuple(batch))
        for name in ("principal", "size"):
            value = getattr(self, name)
            if value.shape != (*batch, 2):
                raise ShapeError(name, f"({batch[0]}, 2)", tuple(value.shape))
        if not (torch.isfinite(self.focal) & (self.focal > 0)).all():
            raise InputError(f"Focal lengths must be finite and > 0, found {self.focal.tolist()}.")

    @classmethod
    def for_images(
        cls,
        sizes: Sequence[tuple[int, int]],
        focals: Sequence[float | None] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = "cpu",
    ) -> Camera:
        """Cameras for pictures of the given (width, height).

        Args:
            sizes: One (width, height) a picture.
            focals: Known focal lengths in pixels; None, as a whole or for a picture, stands for
                `focal_from_diagonal`.
            dtype: Of the tensors.
            device: Of the tensors.
        """
        known = [None] * len(sizes) if focals is None else focals
        focal = [f or focal_from_diagonal(w, h) for (w, h), f in zip(sizes, known, strict=True)]
        size = torch.tensor(sizes, dtype=dtype, device=device).reshape(-1, 2)
        return cls(torch.tensor(focal, dtype=dtype, device=device), (size - 1) / 2, size)

    def __len__(self) -> int:
        return len(self.focal)

    def project(self, points: Float[Tensor, "batch n 3"]) -> Float[Tensor, "batch n 2"]:
        """Project camera-frame points (B, n, 3) to pixels (B, n, 2); see `project_points`."""
        return project_points(points, self.focal, self.principal)

    def rotation_towards(self, pixels: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 3 3"]:
        """The rotations (B, 3, 3) that turn the optical axis to the rays of pixels (B, 2), without rolling.

        They take vectors in the axes of a camera that looks straight at the pixel to the camera frame.
        """
        plane = (pixels - self.principal) / self.focal[:, None]
        ray = torch.cat([plane, torch.ones_like(plane[:, :1])], dim=1)
        ray = ray / ray.norm(dim=1, keepdim=True)
        # of two unit vectors with cosine c: I + [v]x + [v]x^2 / (1 + c), v their cross product
        cosine = ray[:, 2]
        k = hat(torch.stack([-ray[:, 1], ray[:, 0], torch.zeros_like(cosine)], dim=1))
        eye = torch.eye(3, dtype=ray.dtype, device=ray.device)
        return eye + k + k @ k / (1 + cosine)[:, None, None]

    def to(self, like: Tensor) -> Camera:
        """The same cameras with the dtype and device of a tensor."""
        return Camera(*(t.to(like) for t in (self.focal, self.principal, self.size)))

    def select(self, items: slice | Sequence[int] | Tensor) -> Camera:
        """The cameras of some items."""
        return Camera(self.focal[items], self.principal[items], self.size[items])
