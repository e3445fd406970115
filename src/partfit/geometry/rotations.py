"""Rotations as axis-angle vectors (rotvec) and matrices.

Convention: a rotvec r turns by |r| radians about r/|r|, right-handed: (0, 0, pi/2) takes x to y.
All functions take any number of leading batch dimensions, keep dtype and device, and are
differentiable in forward and reverse mode, twice, at r = 0 too.
Source: the closed forms are those of Murray, Li & Sastry, "A Mathematical Introduction to Robotic
Manipulation", section 2.2, and Barfoot, "State Estimation for Robotics", section 7.1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from partfit.errors import ShapeError


def hat(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The skew matrix [v]x with [v]x u = v x u.

    Raises:
        ShapeError: if the last dimension is not 3.
    """
    _require_vectors("vector", vector)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotvec_to_matrix(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation matrix exp([r]x) = I + A [r]x + B [r]x^2, A = sin t / t, B = (1 - cos t) / t^2, t = |r|.

    Raises:
        ShapeError: if the last dimension is not 3.
    """
    k = hat(rotvec)
    a, b, _ = _coefficients(rotvec)
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + a[..., None, None] * k + b[..., None, None] * (k @ k)


def matrix_to_rotvec(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The rotvec of a rotation matrix, |r| <= pi; the inverse of `rotvec_to_matrix`.

    Goes through the unit quaternion whose largest component is found without cancellation, so that it
    is exact at the identity and at half turns alike. At exactly pi the sign of the axis is arbitrary.

    Raises:
        ShapeError: if the last dimensions are not (3, 3).
    """
    if matrix.shape[-2:] != (3, 3):
        raise ShapeError("matrix", "(..., 3, 3)", tuple(matrix.shape))
    w, vector = _quaternion(matrix).split([1, 3], dim=-1)
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < 1e-12
    norm = torch.where(small, torch.ones_like(square), square).sqrt()
    # t / sin(t / 2) with tan(t / 2) = norm / w; its series at 0 is 2 / w
    factor = torch.where(small, 2 / w, 2 * torch.atan2(norm, w) / norm)
    return factor * vector


def left_jacobian(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """J_l with exp([r + dr]x) = exp([J_l(r) dr]x) exp([r]x) to first order in dr.

    J_l = I + B [r]x + C [r]x^2, B = (1 - cos t) / t^2, C = (t - sin t) / t^3, t = |r|.

    Raises:
        ShapeError: if the last dimension is not 3.
    """
    k = hat(rotvec)
    _, b, c = _coefficients(rotvec)
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + b[..., None, None] * k + c[..., None, None] * (k @ k)


def canonical_rotvec(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The rotvec of the same rotation with |r| <= pi; unchanged where that holds already.

    Raises:
        ShapeError: if the last dimension is not 3.
    """
    _require_vectors("rotvec", rotvec)
    norm = rotvec.norm(dim=-1, keepdim=True)
    turns = torch.round(norm / (2 * math.pi))
    beyond = norm > math.pi
    safe = torch.where(beyond, norm, torch.ones_like(norm))
    return torch.where(beyond, rotvec * (1 - 2 * math.pi * turns / safe), rotvec)


#: Row k, column i: (-1)^k / (2 k + i + 1)!, the series of A, B and C in t^2; exact in float64 for t < 1.
_SERIES = [[(-1) ** k / math.factorial(2 * k + i) for i in (1, 2, 3)] for k in range(10)]


def _coefficients(rotvec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A = sin t / t, B = (1 - cos t) / t^2, C = (t - sin t) / t^3, by their series below t = 1.

    The series are in t^2, whose derivative is smooth at 0; above, the closed forms do not cancel.
    """
    square = (rotvec * rotvec).sum(-1)
    small = square < 1.0
    below = torch.where(small, square, torch.zeros_like(square))
    table = torch.tensor(_SERIES, dtype=square.dtype, device=square.device)
    # the power 0 apart: at 0 its second derivative would be NaN
    powers = below[..., None] ** torch.arange(1, len(table), device=square.device)
    series = table[0] + powers @ table[1:]
    t2 = torch.where(small, torch.ones_like(square), square)
    t = t2.sqrt()
    sine, half_sine = t.sin(), (t / 2).sin()
    closed = torch.stack([sine / t, 2 * half_sine * half_sine / t2, (t - sine) / (t * t2)], dim=-1)
    a, b, c = torch.where(small[..., None], series, closed).unbind(-1)
    return a, b, c


def _quaternion(matrix: Tensor) -> Tensor:
    """(w, x, y, z) with w >= 0 of rotation matrices, by Shepperd's method (1978)."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    # rows of 4 q q^T: row i is 4 q_i q
    outer = torch.stack(
        [
            torch.stack([1 + trace, wx, wy, wz], -1),
            torch.stack([wx, 1 + 2 * m[..., 0, 0] - trace, xy, xz], -1),
            torch.stack([wy, xy, 1 + 2 * m[..., 1, 1] - trace, yz], -1),
            torch.stack([wz, xz, yz, 1 + 2 * m[..., 2, 2] - trace], -1),
        ],
        dim=-2,
    )
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    q = outer.gather(-2, index).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def _require_vectors(name: str, vector: Tensor) -> None:
    if vector.ndim < 1 or vector.shape[-1] != 3:
        raise ShapeError(name, "(..., 3)", tuple(vector.shape))
