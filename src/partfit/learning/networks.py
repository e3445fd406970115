"""The network: a timm backbone, a head, and what a likelihood makes of its numbers."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor, nn

from partfit.errors import ConfigError
from partfit.landmarks import LandmarkScheme
from partfit.learning.backbones import Backbone, BackboneConfig
from partfit.learning.distribution import LandmarkDistribution
from partfit.learning.losses import Likelihood
from partfit.learning.start_head import StartHead, StartLayout
from partfit.pipeline_config import Choice
from partfit.registry import Registry, default_registry

#: Largest side of crops, pixels: more than any detail of a part needs, and what a machine can hold.
_LARGEST = 2048


@attrs.frozen
class NetworkConfig:
    """All that determines a network for a landmark scheme, but its weights.

    Attributes:
        backbone: The backbone.
        resolution: Side of the crops that it sees, pixels; at most 2048.
        head: The head.
        likelihood: The loss whose scales it predicts.
        visibility: Whether it predicts which landmarks are in sight.
    """

    backbone: BackboneConfig
    resolution: int = 256
    head: Choice = attrs.field(factory=lambda: Choice("linear"))
    likelihood: Choice = attrs.field(factory=lambda: Choice("ngll"))
    visibility: bool = False

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.resolution <= _LARGEST:
            raise ConfigError(f"resolution: expected pixels, at most {_LARGEST}, found {self.resolution}.")


class LandmarkNetwork(nn.Module):
    """Crops in, the distribution of each landmark out.

    Attributes:
        config: What it was built from.
        scheme: The landmarks' scheme.
        backbone, head, likelihood: Its parts; the likelihood is a part because it says what the scales mean.
        start: The part that predicts where the fit of a model may begin, or None.
    """

    def __init__(
        self,
        config: NetworkConfig,
        scheme: LandmarkScheme,
        registry: Registry | None = None,
        start: StartLayout | None = None,
    ) -> None:
        """Build it with random weights, or the backbone's pretrained ones.

        Args:
            config: See the class.
            scheme: The landmarks' scheme.
            registry: Of head and likelihood.
            start: What is predicted for the start of a fit, if anything.

        Raises:
            ComponentError: if the head or the likelihood does not exist.
            ConfigError: if an option is wrong, timm has no such model, or the loss is no likelihood.
        """
        super().__init__()
        registry = registry or default_registry()
        self.config = config
        self.scheme = scheme
        self.backbone = Backbone(config.backbone, config.resolution)
        head = registry.create("head", config.head.name, **config.head.options)
        self.head = head.module(self.backbone.shape, scheme, 5 if config.visibility else 4)
        likelihood = registry.create("loss", config.likelihood.name, **config.likelihood.options)
        module = likelihood.module(scheme)
        if not isinstance(module, Likelihood):
            raise ConfigError(
                f"likelihood: expected a loss that is a likelihood, found {config.likelihood.name!r}."
            )
        self.likelihood = module
        self.start = None if start is None else StartHead(start, self.backbone.shape, len(scheme))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> LandmarkDistribution:
        """The landmarks of crops (B, 3, R, R), RGB in [0, 1].

        The head is computed in float32 under autocast too: half precision knows positions to a fraction of a
        pixel only.
        """
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            raw = self.head(features.float())
            start = None if self.start is None else self.start(features.float(), raw[..., :2])
        return LandmarkDistribution(
            mean=raw[..., :2],
            log_scale=self.likelihood.log_scale(raw[..., 2:4]),
            visibility=raw[..., 4] if self.config.visibility else None,
            start=start,
        )

    def describe(self) -> dict[str, Any]:
        """What it is made of, in names and counts, for logs and reports."""
        return {
            "backbone": self.config.backbone.name,
            "head": self.config.head.name,
            "likelihood": self.config.likelihood.name,
            "resolution": self.config.resolution,
            "landmarks": len(self.scheme),
            "features": list(attrs.astuple(self.backbone.shape)),
            "parameters": {
                name: sum(parameter.numel() for parameter in part.parameters())
                for name, part in self.named_children()
            },
        }
