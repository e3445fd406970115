"""Where the camera stands, and how a part fills its picture."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from partfit.errors import ConfigError

#: From the model frame (y up, z towards the viewer) to the camera frame (y down, z away).
TO_CAMERA = np.array([1.0, -1.0, -1.0])


def _pair(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


def _check_range(config: object, attribute: attrs.Attribute[tuple[float, float]], value: Any) -> None:
    low, high = value
    if not 0 < low <= high:
        raise ConfigError(
            f"{attribute.name}: expected two numbers above 0, the smaller one first; found {list(value)}."
        )


@attrs.frozen
class ViewConfig:
    """From where the part is seen.

    Attributes:
        yaw: Largest turn to a side, radians.
        pitch: Largest turn up or down, radians.
        roll: Largest tilt, radians.
        frontal: Share of the views that are drawn near the front, with a quarter of the spread.
        distance: Nearest and farthest camera, metres from the middle of the part.
        fill: Smallest and largest share of the picture's side that the box takes.
        shift: Largest shift of the box's middle, of the picture's side.
    """

    yaw: float = attrs.field(default=1.35, validator=attrs.validators.ge(0))
    pitch: float = attrs.field(default=0.6, validator=attrs.validators.ge(0))
    roll: float = attrs.field(default=0.6, validator=attrs.validators.ge(0))
    frontal: float = attrs.field(default=0.6, validator=[attrs.validators.ge(0), attrs.validators.le(1)])
    distance: tuple[float, float] = attrs.field(default=(0.45, 4.0), converter=_pair, validator=_check_range)
    fill: tuple[float, float] = attrs.field(default=(0.6, 0.78), converter=_pair, validator=_check_range)
    shift: float = attrs.field(default=0.05, validator=attrs.validators.ge(0))


@attrs.frozen(eq=False)
class View:
    """A pinhole camera, and the motion that brings the part before it.

    Attributes:
        rotation: (3, 3) from the model's frame to the camera's.
        translation: (3,) added after it, metres.
        focal: Focal length, pixels.
        principal: (2,) principal point, pixels; it may lie outside the picture, as that of a cut-out does.
        yaw: Radians; positive where the subject's left side is seen less.
        pitch: Radians; positive where the part looks down.
        roll: Radians; positive is counter-clockwise on screen.
        distance: Metres from the camera to the middle of the part.
    """

    rotation: np.ndarray
    translation: np.ndarray
    focal: float
    principal: np.ndarray
    yaw: float
    pitch: float
    roll: float
    distance: float

    def to_camera(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points (n, 3) of the model's frame in the camera's."""
        return points @ self.rotation.T + self.translation

    def project(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Pixels (n, 2) of points (n, 3) of the camera's frame."""
        return self.focal * points[:, :2] / points[:, 2:] + self.principal

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """(3, 3) the camera matrix."""
        (x, y), f = self.principal, self.focal
        return np.array([[f, 0.0, x], [0.0, f, y], [0.0, 0.0, 1.0]])


def random_view(
    boxed: Float[np.ndarray, "landmarks 3"],
    upright: Float[np.ndarray, "3 3"],
    size: int,
    config: ViewConfig,
    rng: np.random.Generator,
) -> View:
    """A view in which the box of some points has the size and place that the configuration asks for.

    Args:
        boxed: (L, 3) what the box encloses, model frame, metres.
        upright: (3, 3) brings the model's frame upright, with the part's front to +z.
        size: Side of the picture, pixels.
        config: The ranges.
        rng: Source of randomness.
    """
    yaw, pitch, roll = (
        _angle(limit, config.frontal, rng) for limit in (config.yaw, config.pitch, config.roll)
    )
    turn = Rotation.from_euler("ZXY", [roll, pitch, yaw]).as_matrix() @ upright
    rotation = TO_CAMERA[:, None] * turn
    low, high = np.log(config.distance)
    distance = math.exp(rng.uniform(low, high))
    # off the axis, as in the corner of a larger picture
    away = np.array([*rng.uniform(-0.12, 0.12, 2), 1.0])
    middle = (boxed.min(axis=0) + boxed.max(axis=0)) / 2
    translation = distance * away / np.linalg.norm(away) - rotation @ middle
    points = boxed @ rotation.T + translation
    plane = points[:, :2] / points[:, 2:]
    low, high = plane.min(axis=0), plane.max(axis=0)
    focal = rng.uniform(*config.fill) * size / float((high - low).max())
    center = (size - 1) / 2 + size * rng.uniform(-config.shift, config.shift, 2)
    principal = center - focal * (low + high) / 2
    return View(rotation, translation, focal, principal, yaw, pitch, roll, distance)


def _angle(limit: float, frontal: float, rng: np.random.Generator) -> float:
    """An angle within +-limit: for a share of them near 0, else evenly."""
    if rng.random() < frontal:
        return float(np.clip(rng.normal() * limit / 4, -limit, limit))
    return float(rng.uniform(-limit, limit))
