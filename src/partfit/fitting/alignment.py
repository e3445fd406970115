"""The closed-form start of a fit: the rigid motion that brings a shape onto its landmarks.

Source: scaled orthographic pose, iterated to perspective (POSIT): DeMenthon & Davis, "Model-based object
pose in 25 lines of code", IJCV 1995; its two-fold ambiguity for flat shapes: Oberkampf, DeMenthon &
Davis, "Iterative pose estimation using coplanar feature points", CVIU 1996.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partfit.geometry.camera import Camera


def align_to_landmarks(
    shape: Float[Tensor, "batch n 3"],
    pixels: Float[Tensor, "batch n 2"],
    weights: Float[Tensor, "batch n"],
    camera: Camera,
    iterations: int = 5,
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """Rotation R and translation t (metres) for which R shape + t projects near the pixels.

    No initial pose is needed. Three candidates are refined and the one with the smallest reprojection
    error is taken: the full affine solution, and the two poses of the shape flattened along its thinnest
    direction, which stay well defined for flat shapes.

    Args:
        shape: (B, n, 3) points in the model frame, metres.
        pixels: (B, n, 2); values with weight 0 are ignored but must be finite.
        weights: (B, n) >= 0, at least four positive an item.
        camera: B cameras.
        iterations: Of the perspective correction.

    Returns:
        (B, 3, 3) and (B, 3).
    """
    rays = (pixels - camera.principal[:, None]) / camera.focal[:, None, None]
    share = weights / weights.sum(1, keepdim=True)
    middle = (share[..., None] * shape).sum(1, keepdim=True)
    centred = shape - middle
    candidates = []
    for flat in (0.0, 1.0, -1.0):
        perspective = torch.ones_like(share)
        for _ in range(iterations):
            rotation, translation = _scaled_orthographic(centred, rays * perspective[..., None], share, flat)
            depth = translation[:, None, 2] + (centred @ rotation[:, 2, :, None])[..., 0]
            perspective = (depth / translation[:, None, 2]).clamp(0.3, 3.0)
        moved = centred @ rotation.transpose(1, 2) + translation[:, None]
        error = (moved[..., :2] / moved[..., 2:].clamp(min=1e-6) - rays).square().sum(-1)
        candidates.append((rotation, translation, (share * error).sum(1)))
    best = torch.stack([error for _, _, error in candidates]).nan_to_num(torch.inf).argmin(0)
    item = torch.arange(len(shape), device=shape.device)
    rotation = torch.stack([r for r, _, _ in candidates])[best, item]
    translation = torch.stack([t for _, t, _ in candidates])[best, item]
    return rotation, translation - (rotation @ middle.transpose(1, 2))[..., 0]


def _scaled_orthographic(centred: Tensor, rays: Tensor, share: Tensor, flat: float) -> tuple[Tensor, Tensor]:
    """R and t with rays ~ (R X + t)_xy / t_z, from the best affine map of the centred points.

    With `flat` = +1 or -1 only the map of the two widest directions is taken from the points, and that of
    the thinnest follows, up to this sign, from the rows being orthogonal and of equal length.
    """
    middle = (share[..., None] * rays).sum(1)
    spread = (centred * share[..., None]).transpose(1, 2) @ centred
    mixed = ((rays - middle[:, None]) * share[..., None]).transpose(1, 2) @ centred
    values, axes = torch.linalg.eigh(spread)  # ascending: the first axis is the thinnest
    inverse = 1 / values.clamp(min=1e-9 * values[:, 2:])
    along = mixed @ axes * inverse[:, None]  # (B, 2, 3): the affine map in the axes' frame
    if flat:
        gram, directions = torch.linalg.eigh(along[..., 1:] @ along[..., 1:].transpose(1, 2))
        missing = (gram[:, 1] - gram[:, 0]).clamp(min=0).sqrt()[:, None] * directions[..., 0]
        along = torch.cat([flat * missing[..., None], along[..., 1:]], dim=-1)
    affine = along @ axes.transpose(1, 2)
    u, s, vt = torch.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], dim=1)
    depth = 1 / s.mean(1).clamp(min=1e-9)
    return rotation, torch.cat([middle * depth[:, None], depth[:, None]], dim=1)
