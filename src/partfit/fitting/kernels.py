"""Robust kernels rho(s) of the squared residual s, and their derivative, which weighs a residual.

Source: Barfoot, "State Estimation for Robotics", section 5.3; Zhang, "Parameter estimation
techniques", 1997. All have rho(s) ~ s near 0.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from partfit.fitting.problem import KernelName


def robustify(
    square: Float[Tensor, "*batch"], kernel: KernelName, scale: float
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """(rho(s), rho'(s)) of squared residual lengths `square` for a kernel that bends at length `scale`."""
    k2 = scale * scale
    if kernel == "huber":
        inside = square <= k2
        length = square.clamp(min=k2).sqrt()
        return square.where(inside, 2 * scale * length - k2), (scale / length).clamp(max=1.0)
    if kernel == "cauchy":
        return k2 * (square / k2).log1p(), k2 / (k2 + square)
    if kernel == "geman_mcclure":
        weight = k2 / (k2 + square)
        return weight * square, weight * weight
    return square, square.new_ones(()).expand_as(square)
