"""The fixed densities of one standardised coordinate: normal and Laplace."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch
from jaxtyping import Float
from torch import Tensor


@attrs.frozen
class Density:
    """A density of one coordinate r, symmetric about 0.

    Attributes:
        log_density: log p(r), elementwise, with all its constants: p integrates to 1.
        deviation: Its standard deviation.
        reach: Beyond +- reach lies less than 1e-6 of it.
    """

    log_density: Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]
    deviation: float
    reach: float


def _gaussian(r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return -0.5 * r.square() - 0.5 * math.log(2 * math.pi)


def _laplace(r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return -r.abs() - math.log(2)


#: exp(-r^2 / 2) / sqrt(2 pi), of standard deviation 1; exp(-|r|) / 2, of standard deviation sqrt(2).
DENSITIES: dict[str, Density] = {
    "gaussian": Density(_gaussian, deviation=1.0, reach=6.0),
    "laplace": Density(_laplace, deviation=math.sqrt(2), reach=16.0),
}


def full_precision(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers of half precision as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
