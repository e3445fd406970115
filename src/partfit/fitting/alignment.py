"""The closed-form start of a fit: the rigid motion that brings a shape onto its landmarks, 2D or 3D.

Source: scaled orthographic pose, iterated to perspective (POSIT): DeMenthon & Davis, "Model-based object
pose in 25 lines of code", IJCV 1995; its two-fold ambiguity for flat shapes: Oberkampf, DeMenthon &
Davis, "Iterative pose estimation using coplanar feature points", CVIU 1996. Gross errors lose their weight by
iteratively reweighted least squares: Holland & Welsch, "Robust regression using iteratively reweighted
least-squares", Communications in Statistics, 1977.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partfit.geometry.camera import Camera

#: Root mean square over median of a pose's errors, above which some are taken for gross ones. What a mean
#: shape leaves over has 1.2 to 1.6; 30 % of landmarks that lie anywhere bring it to 1.7 and more.
_GROSS = 1.5
#: How often landmarks are weighed anew where there are.
_REWEIGHTINGS = 3


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
    direction, which stay well defined for flat shapes. Where some landmarks lie far from that pose, it is
    sought again with Cauchy's weights, whose scale is the median error.

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
    weights = weights / weights.amax(1, keepdim=True)
    rotation, translation = _pose(shape, rays, weights, iterations)
    for _ in range(_REWEIGHTINGS):
        error = weights * _distance(shape @ rotation.transpose(1, 2) + translation[:, None], rays)
        error = torch.where(weights > 0, error, torch.nan)
        median = error.nanmedian(1, keepdim=True).values.clamp(min=1e-6)
        relative = (error / median).square()
        gross = relative.nanmean(1) > _GROSS**2
        if not bool(gross.any()):
            break
        trusted = torch.where(gross[:, None], weights / (1 + relative.nan_to_num()), weights)
        rotation, translation = _pose(shape, rays, trusted, iterations)
    return rotation, translation


def align_to_points(
    shape: Float[Tensor, "batch n 3"], points: Float[Tensor, "batch n 3"], weights: Float[Tensor, "batch n"]
) -> Float[Tensor, "batch 3 3"]:
    """The rotation R that brings a shape nearest to points, up to any translation and scale.

    Args:
        shape: (B, n, 3).
        points: (B, n, 3); values with weight 0 are ignored but must be finite.
        weights: (B, n) >= 0.

    Returns:
        (B, 3, 3), the identity where all weights are 0.
    Source: Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976.
    """
    share = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    centred = points - (share[..., None] * points).sum(1, keepdim=True)
    left, _, right = torch.linalg.svd((centred * share[..., None]).transpose(1, 2) @ shape)
    sign = torch.linalg.det(left @ right).sign()
    proper = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=1)
    return left * proper[:, None] @ right


def place_before_camera(
    shape: Float[Tensor, "batch n 3"],
    pixels: Float[Tensor, "batch n 2"],
    weights: Float[Tensor, "batch n"],
    camera: Camera,
) -> Float[Tensor, "batch 3"]:
    """The translation t, metres, for which a shape that is turned already projects near its pixels.

    With the ray (a, b, 1) of a pixel, (X + t)_x = a (X + t)_z and likewise for y: linear in t, solved in
    the least-squares sense.

    Args:
        shape: (B, n, 3), metres, in axes of the camera frame.
        pixels: (B, n, 2); values with weight 0 are ignored but must be finite.
        weights: (B, n) >= 0, at least two positive an item.
        camera: B cameras.
    """
    rays = (pixels - camera.principal[:, None]) / camera.focal[:, None, None]
    eye = torch.eye(2, dtype=shape.dtype, device=shape.device).expand(*rays.shape, 2)
    rows = torch.cat([eye, -rays[..., None]], dim=-1) * weights[..., None, None]
    wanted = (rays * shape[..., 2:] - shape[..., :2]) * weights[..., None]
    rows, wanted = rows.flatten(1, 2), wanted.flatten(1)
    normal = rows.transpose(1, 2) @ rows
    solution, _ = torch.linalg.solve_ex(normal, (wanted[:, None] @ rows)[:, 0])
    return solution


def _pose(
    shape: Tensor, rays: Tensor, weights: Tensor, iterations: int
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """R and t for which R shape + t lies near the rays (B, n, 2), in the weighted least-squares sense."""
    batch, device = len(shape), shape.device
    share = weights / weights.sum(1, keepdim=True)
    middle = (share[..., None] * shape).sum(1, keepdim=True)
    centred = shape - middle
    spread = (centred * share[..., None]).transpose(1, 2) @ centred
    values, axes = torch.linalg.eigh(spread)  # ascending: the first axis is the thinnest
    # from mixed moments to an affine map in the axes' frame
    to_affine = axes / values.clamp(min=1e-9 * values[:, 2:])[:, None]
    # the three candidates of all items, as one batch
    sign = torch.tensor([0.0, 1.0, -1.0], dtype=shape.dtype, device=device).repeat_interleave(batch)
    rays, share, centred, axes, to_affine = (
        t.repeat(3, *[1] * (t.ndim - 1)) for t in (rays, share, centred, axes, to_affine)
    )
    perspective = torch.ones_like(share)
    for _ in range(iterations):
        scaled = rays * perspective[..., None]
        rotation, translation = _scaled_orthographic(centred, scaled, share, axes, to_affine, sign)
        depth = translation[:, None, 2] + (centred @ rotation[:, 2, :, None])[..., 0]
        perspective = (depth / translation[:, None, 2]).clamp(0.3, 3.0)
    moved = centred @ rotation.transpose(1, 2) + translation[:, None]
    error = (share * _distance(moved, rays).square()).sum(1).nan_to_num(torch.inf).view(3, batch)
    best = error.argmin(0) * batch + torch.arange(batch, device=device)
    rotation, translation = rotation[best], translation[best]
    return rotation, translation - (rotation @ middle.transpose(1, 2))[..., 0]


def _distance(
    points: Float[Tensor, "batch n 3"], rays: Float[Tensor, "batch n 2"]
) -> Float[Tensor, "batch n"]:
    """How far points are seen from rays, at unit depth."""
    return (points[..., :2] / points[..., 2:].clamp(min=1e-6) - rays).norm(dim=-1)


def _scaled_orthographic(
    centred: Tensor, rays: Tensor, share: Tensor, axes: Tensor, to_affine: Tensor, sign: Tensor
) -> tuple[Tensor, Tensor]:
    """R and t with rays ~ (R X + t)_xy / t_z, from the best affine map of the centred points.

    Where `sign` is +1 or -1 only the map of the two widest directions is taken from the points, and that
    of the thinnest follows, up to this sign, from the rows being orthogonal and of equal length.
    """
    middle = (share[..., None] * rays).sum(1)
    mixed = ((rays - middle[:, None]) * share[..., None]).transpose(1, 2) @ centred
    along = mixed @ to_affine  # (B, 2, 3): the affine map in the axes' frame
    implied = sign[:, None] * _missing_column(along[..., 1:])
    thinnest = torch.where(sign[:, None] == 0, along[..., 0], implied)
    affine = torch.cat([thinnest[..., None], along[..., 1:]], dim=-1) @ axes.transpose(1, 2)
    # polar decomposition affine = root @ rows, root^2 = affine affine^T, in closed form for 2x2
    gram = affine @ affine.transpose(1, 2)
    trace, determinant = _trace_and_determinant(gram)
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    root_determinant = determinant.clamp(min=0).sqrt()
    total = (trace + 2 * root_determinant).sqrt().clamp(min=1e-12)
    root = (gram + root_determinant[:, None, None] * eye) / total[:, None, None]
    rows = _inverse(root) @ affine
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], dim=1)
    depth = 2 / total  # the trace of the root is the sum of the singular values
    return rotation, torch.cat([middle * depth[:, None], depth[:, None]], dim=1)


def _missing_column(columns: Tensor) -> Tensor:
    """The vector a (B, 2) that makes the rows of [a, columns] orthogonal and of equal length, up to sign.

    a a^T = l I - columns columns^T with l its larger eigenvalue: of rank one, so any column gives a.
    """
    gram = columns @ columns.transpose(1, 2)
    trace, determinant = _trace_and_determinant(gram)
    largest = trace / 2 + (trace.square() / 4 - determinant).clamp(min=0).sqrt()
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    outer = largest[:, None, None] * eye - gram
    diagonal = outer.diagonal(dim1=1, dim2=2)
    column = torch.where(diagonal[:, :1] >= diagonal[:, 1:], outer[..., 0], outer[..., 1])
    return column / diagonal.amax(1, keepdim=True).clamp(min=1e-20).sqrt()


def _trace_and_determinant(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of 2x2 matrices (B, 2, 2)."""
    a, b, c, d = matrix.flatten(1).unbind(1)
    return a + d, a * d - b * c


def _inverse(matrix: Tensor) -> Tensor:
    """Of 2x2 matrices (B, 2, 2); finite, though meaningless, where they are singular."""
    a, b, c, d = matrix.flatten(1).unbind(1)
    determinant = (a * d - b * c).clamp(min=1e-30)
    return (torch.stack([d, -b, -c, a], dim=1) / determinant[:, None]).unflatten(1, (2, 2))
