"""RealNVP in two dimensions: an invertible map whose determinant is known.

Convention: `forward` goes from the base variable z to x = f(z), `inverse` back; a layer changes one
coordinate by what it reads off the other (thesis eq. 3.17 with D = 2, d = 1), and layers take turns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partfit_likelihoods.densities import full_precision

#: A layer stretches by at most exp(+-MAX_LOG_SCALE).
MAX_LOG_SCALE = 1.0


class RealNVP(nn.Module):
    """Affine coupling layers over points (N, 2). New, it is the identity.

    It computes in float32 (float64 for points of float64), whatever autocast and the dtype of its weights.
    """

    def __init__(self, layers: int, hidden: int) -> None:
        """Build it.

        Args:
            layers: Number of coupling layers; each coordinate is changed by every second one.
            hidden: Width of the two hidden layers of each layer's network.
        """
        super().__init__()
        self.layers = nn.ModuleList(_Conditioner(hidden) for _ in range(layers))

    def forward(
        self, z: Float[Tensor, "points 2"]
    ) -> tuple[Float[Tensor, "points 2"], Float[Tensor, " points"]]:
        """Points x = f(z), and log |det df/dz|."""
        with torch.autocast(z.device.type, enabled=False):
            kept, changed = full_precision(z).unbind(dim=1)
            log_det = torch.zeros_like(kept)
            for layer in self.layers:
                log_scale, shift = layer(kept)
                kept, changed = changed * log_scale.exp() + shift, kept
                log_det = log_det + log_scale
            return self._in_order(kept, changed), log_det

    def inverse(
        self, x: Float[Tensor, "points 2"]
    ) -> tuple[Float[Tensor, "points 2"], Float[Tensor, " points"]]:
        """Points z = f^-1(x), and log |det df^-1/dx|."""
        with torch.autocast(x.device.type, enabled=False):
            kept, changed = self._in_order(*full_precision(x).unbind(dim=1)).unbind(dim=1)
            log_det = torch.zeros_like(kept)
            for layer in reversed(self.layers):
                log_scale, shift = layer(changed)
                kept, changed = changed, (kept - shift) * (-log_scale).exp()
                log_det = log_det - log_scale
            return torch.stack([kept, changed], dim=1), log_det

    def _in_order(
        self, kept: Float[Tensor, " points"], changed: Float[Tensor, " points"]
    ) -> Float[Tensor, "points 2"]:
        """The two coordinates as x and y: an odd number of layers has left them exchanged."""
        pair = [kept, changed] if len(self.layers) % 2 == 0 else [changed, kept]
        return torch.stack(pair, dim=1)


class _Conditioner(nn.Module):
    """The networks s and t of a layer as one: from the coordinate that it keeps to what happens to the other.

    It sees the coordinate u as atan(u): a residual far out is then moved and stretched by a bounded
    amount, and its gradients stay bounded too.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = _Linear(1, hidden)
        self.second = _Linear(hidden, hidden)
        self.last = _Linear(hidden, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, u: Float[Tensor, " points"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
        """Logarithm of the scale, and shift."""
        hidden = F.silu(self.first(u.atan()[:, None]))
        features = F.silu(self.second(hidden))
        log_scale, shift = self.last(features).unbind(dim=1)
        return MAX_LOG_SCALE * log_scale.tanh(), shift


class _Linear(nn.Linear):
    """A linear layer that computes in the dtype of its input."""

    def forward(self, input: Float[Tensor, "points n"]) -> Float[Tensor, "points m"]:
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))
