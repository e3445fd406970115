"""Light: where it comes from, what of it reaches a surface, and what a surface sends to the camera."""

from __future__ import annotations

import math

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from partfit_synthetic.scene import Scene, unit

#: Rays that ask how much of the sky each vertex sees, two by two about its normal, and shadow rays a lamp.
_SKY_RAYS, _SHADOW_RAYS = 2, 2
#: Lamps of a smaller angular radius, radians, get a single ray.
_SHARP = 0.05
#: How far from its surface a ray starts, metres.
_LIFT = 0.0015
#: How far light wraps round skin by scattering below it, for red, green and blue.
_WRAP = np.array([0.30, 0.14, 0.09], dtype=np.float32)
#: Share of the light that skin around sends to a place that is half closed.
_BOUNCE = np.array([0.30, 0.12, 0.08], dtype=np.float32)


@attrs.frozen(eq=False)
class Lights:
    """The light on a scene, camera frame.

    Attributes:
        sky: (3,) what falls on a surface from all around, on average over directions.
        gradient: (3, 3) RGB by axis: how that changes with the surface's normal.
        directions: (k, 3) unit vectors towards the lamps.
        colours: (k, 3) what falls on a surface that faces a lamp.
        softness: (k,) angular radius of the lamps, radians.
    """

    sky: np.ndarray
    gradient: np.ndarray
    directions: np.ndarray
    colours: np.ndarray
    softness: np.ndarray

    def ambient(self, normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """(n, 3) what falls on open surfaces without the lamps."""
        return np.maximum(self.sky + normals @ self.gradient.T, 0.15 * self.sky)


def random_lights(rng: np.random.Generator) -> Lights:
    """Daylight, sun, flash, lamps of rooms and studios, and now and then coloured ones."""
    style = rng.choice(
        ["overcast", "sun", "flash", "room", "studio", "back", "coloured"],
        p=[0.17, 0.16, 0.25, 0.22, 0.12, 0.05, 0.03],
    )
    warm = np.array([1.0, rng.uniform(0.72, 1.0), 0.0])
    warm[2] = warm[1] ** 2 * rng.uniform(0.85, 1.1)
    white = np.array([1.0, rng.uniform(0.93, 1.03), rng.uniform(0.88, 1.12)])
    sky, lamps = white, []
    if style == "overcast":
        strength = rng.uniform(0.8, 1.0)
        lamps.append((rng.uniform(0, 0.5), _direction(rng, 1.2, (0.2, 1.2)), white, 0.6))
    elif style == "sun":
        strength = rng.uniform(0.25, 0.6)
        sky = white * [0.9, 1.0, 1.15]
        lamps.append((rng.uniform(0.7, 1.8), _direction(rng, 2.0, (0.3, 1.3)), warm, 0.03))
    elif style == "flash":
        strength = rng.uniform(0.05, 0.3)
        sky = warm
        lamps.append((1.0, _direction(rng, 0.12, (-0.05, 0.2)), white, 0.03))
    elif style == "room":
        strength = rng.uniform(0.25, 0.7)
        sky = (white + warm) / 2
        lamps = [
            (rng.uniform(0.3, 1.2), _direction(rng, 1.5, (0.0, 1.3)), warm, 0.25)
            for _ in range(rng.integers(1, 3))
        ]
    elif style == "studio":
        strength = rng.uniform(0.15, 0.5)
        lamps.append((rng.uniform(0.7, 1.2), _direction(rng, 1.1, (0.1, 0.9)), white, 0.3))
        lamps.append((rng.uniform(0.1, 0.5), _direction(rng, 1.1, (-0.1, 0.6)), white, 0.3))
    elif style == "back":
        strength = rng.uniform(0.4, 0.7)
        away = _direction(rng, 1.0, (0.2, 1.0)) * [1, 1, -1]
        lamps.append((rng.uniform(0.6, 1.5), away, warm, 0.1))
    else:
        strength = rng.uniform(0.1, 0.4)
        lamps = [
            (rng.uniform(0.5, 1.0), _direction(rng, 1.4, (-0.2, 0.8)), rng.uniform(0.15, 1, 3), 0.2)
            for _ in range(2)
        ]
    # brighter from above, and from one side
    slope = np.array([rng.normal() * 0.35, -rng.uniform(0.1, 0.85), -rng.uniform(-0.25, 0.5)])
    sky = strength * sky
    return Lights(
        sky.astype(np.float32),
        np.outer(sky, slope).astype(np.float32),
        np.array([lamp[1] for lamp in lamps], dtype=np.float32),
        np.array([lamp[0] * lamp[2] for lamp in lamps], dtype=np.float32),
        np.array([lamp[3] for lamp in lamps], dtype=np.float32),
    )


def _direction(
    rng: np.random.Generator, azimuth: float, elevation: tuple[float, float]
) -> Float[np.ndarray, " 3"]:
    """Towards a lamp before the part: at most that far to a side, and between two heights, radians."""
    side, up = rng.uniform(-azimuth, azimuth), rng.uniform(*elevation)
    return np.array([math.sin(side) * math.cos(up), -math.sin(up), -math.cos(side) * math.cos(up)])


@attrs.frozen(eq=False)
class Illumination:
    """What reaches the vertices of a scene.

    Attributes:
        diffuse: (n, 3) irradiance, with the scattering of skin.
        open: (n,) share of the sky that is seen.
        lit: (n, k) share of each lamp that is seen.
    """

    diffuse: np.ndarray
    open: np.ndarray
    lit: np.ndarray


def illuminate(
    scene: Scene,
    normals: Float[np.ndarray, "n 3"],
    seen: Int[np.ndarray, " seen"],
    lights: Lights,
    rng: np.random.Generator,
) -> Illumination:
    """The light on some vertices of a scene.

    Args:
        scene: What casts shadows, and is lit.
        normals: (n, 3) of its vertices; those of thin things turned to the camera.
        seen: Which vertices; what is said of the others means nothing.
        lights: The lights.
        rng: Source of randomness, for the directions of the rays.
    """
    facing = normals.take(seen, axis=0)
    origins = scene.vertices.take(seen, axis=0) + _LIFT * facing
    k, m = len(lights.directions), len(seen)
    share = np.zeros((m, 1 + k), dtype=np.float32)
    around = _spread(_SKY_RAYS // 2 * m, rng)
    rays = np.tile(1.02 * facing, (_SKY_RAYS, 1)) + np.concatenate([around, -around])
    share[:, 0] = _free(scene, np.tile(origins, (_SKY_RAYS, 1)), rays).reshape(_SKY_RAYS, m).mean(axis=0)
    cosines = facing @ lights.directions.T
    for i, (direction, softness) in enumerate(zip(lights.directions, lights.softness, strict=True)):
        # what is turned away is dark, whatever stands before the lamp
        turned = np.flatnonzero(cosines[:, i] > -_WRAP.max())
        count = _SHADOW_RAYS if softness > _SHARP else 1
        jitter = rng.standard_normal((count, len(turned), 3), dtype=np.float32)
        rays = (direction + softness * jitter).reshape(-1, 3)
        free = _free(scene, np.tile(origins.take(turned, axis=0), (count, 1)), rays)
        share[turned, 1 + i] = free.reshape(count, -1).mean(axis=0)
    share = _smooth(scene, share, seen)
    open_, lit = share[:, :1], share[:, 1:]
    # light that comes back from other skin warms what is half closed
    diffuse = lights.ambient(facing) * (open_ + open_ * (1 - open_) * _BOUNCE)
    for i in range(k):
        wrapped = np.clip((cosines[:, i : i + 1] + _WRAP) / (1 + _WRAP), 0, 1)
        diffuse += lights.colours[i] * wrapped ** (1 + 1.5 * _WRAP) * lit[:, i : i + 1]
    values = np.zeros((len(normals), 4 + k), dtype=np.float32)
    values[seen] = np.concatenate([diffuse, share], axis=1)
    return Illumination(values[:, :3], values[:, 3], values[:, 4:])


def _spread(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """(n, 3) unit vectors, float32: those of any stretch of them are spread evenly over the sphere.

    Source: Roberts, The Unreasonable Effectiveness of Quasirandom Sequences, 2018: R2.
    """
    first, second = (np.arange(n)[:, None] * [0.7548776662466927, 0.5698402909980532] + rng.random(2)).T % 1
    z, angle = (1 - 2 * first).astype(np.float32), (2 * np.pi * second).astype(np.float32)
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def _free(
    scene: Scene, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " n"]:
    return ~scene.blocked(origins, directions)


def illuminate_thin(
    layers: Scene, normals: Float[np.ndarray, "n 3"], lights: Lights, before: Scene
) -> Float[np.ndarray, "n 3"]:
    """(n, 3) the light on thin things, both of whose sides are lit; one shadow ray a lamp.

    Args:
        layers: The thin things.
        normals: (n, 3) of its vertices, turned to the camera.
        lights: The lights.
        before: What casts shadows on them.
    """
    light = 0.8 * lights.ambient(normals)
    for direction, colour in zip(lights.directions, lights.colours, strict=True):
        free = ~before.blocked(layers.vertices + _LIFT * normals, np.tile(direction, (len(normals), 1)))
        strength = (0.25 + 0.75 * np.clip(normals @ direction, 0, 1)) * free
        light += strength[:, None] * colour
    return light.astype(np.float32)


def _smooth(
    scene: Scene, values: Float[np.ndarray, "seen c"], seen: Int[np.ndarray, " seen"]
) -> Float[np.ndarray, "seen c"]:
    """Values of some vertices, averaged over the faces round each of them, twice; no others count."""
    number = np.full(len(scene.vertices), len(seen), dtype=np.int32)
    number[seen] = np.arange(len(seen), dtype=np.int32)
    corners = number.take(scene.faces)
    first, second, third = (corners < len(seen)).T
    corners = corners.take(np.flatnonzero(first | second | third), axis=0)
    f = len(corners)
    ends = np.arange(0, 3 * f + 1, 3, dtype=np.int32)
    corner = sparse.csr_array(
        (np.ones(3 * f, dtype=np.float32), corners.ravel(), ends), shape=(f, len(seen) + 1)
    )
    stacked = np.ones((len(seen) + 1, values.shape[1] + 1), dtype=np.float32)
    stacked[:-1, :-1] = values
    for _ in range(2):
        stacked[-1] = 0  # the others
        stacked = corner.T @ (corner @ stacked)
        stacked /= np.maximum(stacked[:, -1:], 1e-6)
    return stacked[:-1, :-1]


def highlights(
    normals: Float[np.ndarray, "k 3"],
    towards_camera: Float[np.ndarray, "k 3"],
    lit: Float[np.ndarray, "k lamps"],
    open_: Float[np.ndarray, " k"],
    gloss: Float[np.ndarray, " k"],
    sharpness: Float[np.ndarray, " k"],
    lights: Lights,
) -> Float[np.ndarray, "k 3"]:
    """(k, 3) the mirror-like part of the light that comes back: lamps (Blinn and Phong's lobe) and sky.

    Args:
        normals: Unit normals.
        towards_camera: Unit vectors.
        lit: Share of each lamp that is seen.
        open_: Share of the sky that is seen.
        gloss: Strength.
        sharpness: Exponent of the lobe.
        lights: The lights.
    """
    grazing = 1 - np.clip(np.einsum("kd,kd->k", normals, towards_camera), 0, 1)
    square = grazing * grazing
    fresnel = 0.04 + 0.96 * square * square * grazing
    total = (gloss * open_ * (0.6 * fresnel))[:, None] * lights.ambient(normals)
    for i in range(len(lights.directions)):
        half = unit(lights.directions[i] + towards_camera)
        lobe = np.clip(np.einsum("kd,kd->k", normals, half), 1e-4, 1) ** sharpness
        strength = gloss * (0.45 + 2 * fresnel) * lobe * np.sqrt(sharpness / 20) * lit[:, i]
        total += strength[:, None] * lights.colours[i]
    return total.astype(np.float32)
