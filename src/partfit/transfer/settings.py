"""How landmarks are transferred."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import attrs

from partfit.errors import ConfigError

Where: TypeAlias = Literal["surface", "joints"]


@attrs.frozen
class TransferSettings:
    """How many renders are made, what they show, and where landmarks may lie.

    Attributes:
        on: `surface`: each landmark is a point of the model's surface. `joints`: it is a mean of a few points
            of the model, which may lie around it.
        renders: Number of renders; one in five is held out to measure the error.
        size: Side of the square renders, pixels.
        yaw: Views are turned by up to so much about the model's vertical, radians.
        pitch: Up to so much above and below, radians; pi / 2 with a yaw of pi is the whole sphere.
        roll: Up to so much in the picture, radians.
        spread: Parameters are drawn with so many of their priors' standard deviations.
        batch: Renders that the detector and the landmarker see at a time.
        seed: Of all that is random.

    Raises:
        ConfigError: if a number is out of its range.
    """

    on: Where = attrs.field(default="surface")
    renders: int = attrs.field(default=200)
    size: int = attrs.field(default=256)
    yaw: float = attrs.field(kw_only=True)
    pitch: float = attrs.field(kw_only=True)
    roll: float = attrs.field(kw_only=True)
    spread: float = attrs.field(default=0.7, kw_only=True)
    batch: int = attrs.field(default=16, kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)

    @yaw.default
    def _usual_yaw(self) -> float:
        return 0.5 if self.on == "surface" else math.pi

    @pitch.default
    def _usual_pitch(self) -> float:
        return 0.3 if self.on == "surface" else math.pi / 2

    @roll.default
    def _usual_roll(self) -> float:
        return 0.15 if self.on == "surface" else math.pi

    def __attrs_post_init__(self) -> None:
        if self.on not in ("surface", "joints"):
            raise ConfigError(f"on: expected 'surface' or 'joints', found {self.on!r}.")
        limits = {"renders": 10, "size": 32, "batch": 1, "seed": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, found {getattr(self, name)}.")
        for name, most in {"yaw": math.pi, "pitch": math.pi / 2, "roll": math.pi, "spread": math.inf}.items():
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: expected 0 to {most:.4g}, found {getattr(self, name)}.")
