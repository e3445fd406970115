"""What a head stands on: the rest of the neck, shoulders, and what is worn there."""

from __future__ import annotations

from functools import cache
from typing import Literal, TypeAlias

import attrs
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from partfit_synthetic.anchors import FaceAnchors
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.things import Thing, single
from partfit_synthetic.tiles import TILE, at, fractal_tile, smooth_curve

Pattern: TypeAlias = Literal["plain", "stripes", "checks", "print", "suit"]

#: Columns around the body.
COLUMNS = 28
#: Rings from the base of the neck to the arms, metres in the frame of the torso: half width, half depth,
#: and height.
_RINGS = np.array(
    [
        [0.058, 0.060, 0.000],
        [0.076, 0.074, -0.018],
        [0.115, 0.092, -0.036],
        [0.160, 0.108, -0.062],
        [0.198, 0.122, -0.105],
        [0.222, 0.138, -0.20],
        [0.240, 0.150, -0.42],
    ]
)
#: Middle of the base of the neck on the mean head, in its frame.
_NECK_BASE = np.array([0.0, -0.152, -0.095])


@attrs.frozen(eq=False)
class Cloth:
    """Colours of a garment over (x, y, z) of the torso's frame, metres.

    Attributes:
        colours: (3, 3) linear RGB: of the ground, and of what is on it.
        pattern: What is on it; a suit has a shirt (second colour) and a tie (third) in its opening.
        scale: Size of the pattern, metres.
        offset: (2,) where in the noise the cloth lies.
        folds: Deviation of the colour's logarithm by folds.
        opening: Half width of a suit's opening for each metre below the neck; tie's half width.
    """

    colours: np.ndarray = attrs.field(converter=single)
    pattern: Pattern
    scale: float
    offset: np.ndarray = attrs.field(converter=single)
    folds: float
    opening: tuple[float, float]

    def __call__(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Albedo: (k, 3) -> (k, 3)."""
        x, y, z = rest.T
        ground, second, third = self.colours
        u, v = x / self.scale + 0.3 * z / self.scale, y / self.scale
        if self.pattern == "stripes":
            part = (np.sin(2 * np.pi * (u * self.opening[0] + v * (1 - self.opening[0]))) > 0.3)[:, None]
            colour = ground + (second - ground) * part
        elif self.pattern == "checks":
            part = ((np.sin(2 * np.pi * u) > 0.4) * 0.5 + (np.sin(2 * np.pi * v) > 0.4) * 0.5)[:, None]
            colour = ground + (second - ground) * part
        elif self.pattern == "print":
            part = smoothstep(0.6, 0.9, at(fractal_tile(3), u * 12 + self.offset[0], v * 12))[:, None]
            other = smoothstep(0.6, 0.9, at(fractal_tile(4), v * 12, u * 12 + self.offset[1]))[:, None]
            colour = ground + (second - ground) * part
            colour = colour + (third - colour) * other
        elif self.pattern == "suit":
            below = np.maximum(0.02 - y, 0)
            inside = (z > 0) & (np.abs(x) < 0.05 - self.opening[0] * (below - 0.1))
            tie = inside & (np.abs(x) < self.opening[1] * (0.6 + 3 * below)) & (below > 0.015)
            colour = np.where(inside[:, None], second, ground)
            colour = np.where(tie[:, None], third, colour)
        else:
            colour = np.broadcast_to(ground, rest.shape)
        folds = at(fractal_tile(1), 700 * x + self.offset[0], 400 * y + self.offset[1] + 300 * z)
        weave = at(fractal_tile(5), 2100 * x + self.offset[1], 2100 * y + 900 * z)
        shade = np.exp(self.folds * folds + 0.05 * weave)
        return np.clip(colour * shade[:, None], 0, 1).astype(np.float32)


def clothes_things(anchors: FaceAnchors, rng: np.random.Generator, skin: np.ndarray) -> list[Thing]:
    """The neck below the model's cut, shoulders, and clothes.

    Args:
        anchors: The head.
        rng: Decides everything that is random.
        skin: (3,) albedo of the neck's skin, linear RGB.
    """
    body = _Body.of(anchors, rng)
    rows = np.array([-1.0, -0.7, -0.4, -0.15, 0.0, 0.35, 0.8, 1.4, 2.1, 3.0, 4.0])
    shade = np.exp(0.08 * rng.normal(size=3)) * rng.uniform(0.85, 1.0)
    tone = np.clip(np.asarray(skin) * shade, 0, 1)
    things = [body.thing("neck", np.broadcast_to(rows[:, None], (len(rows), COLUMNS + 1)), 0.0, tone, 0.15)]
    if rng.random() < 0.04:
        return things
    cloth = random_cloth(rng)
    neckline = _neckline(rng, body.angle, cloth.pattern == "suit")
    part = np.linspace(0, 1, 10)[:, None]
    worn = neckline + (len(_RINGS) - 1 - neckline) * part**1.4
    lift = 0.005 + 0.004 * (1 + smooth_curve(rng, body.angle, 9, 2 * np.pi)) * np.minimum(part * 4, 1)
    things.append(body.thing("clothes", worn, lift, cloth, 0.05))
    kind = rng.choice(4, p=[0.45, 0.33, 0.12, 0.10])
    if kind == 1 or cloth.pattern == "suit":
        colour = cloth.colours[1] if cloth.pattern == "suit" else cloth.colours[0]
        things.append(
            _collar(body, rng, attrs.evolve(cloth, pattern="plain", colours=np.tile(colour, (3, 1))))
        )
    elif kind == 2:
        things.append(_roll(body, rng, cloth if rng.random() < 0.5 else random_cloth(rng)))
    elif kind == 3 and rng.random() < 0.4:
        things.append(_necklace(body, rng))
    return things


def random_cloth(rng: np.random.Generator) -> Cloth:
    """A cloth as people wear it: mostly dark, white or muted, seldom loud."""
    chosen = rng.choice(5, p=[0.52, 0.16, 0.12, 0.08, 0.12])
    pattern: Pattern = ("plain", "suit", "stripes", "checks", "print")[chosen]
    colours = np.stack([cloth_colour(rng) for _ in range(3)])
    if pattern == "suit":
        bluish = np.array([-0.1, 0.0, 0.15])
        colours[0] = rng.uniform(0.01, 0.07) * np.exp(bluish + rng.normal(0, 0.15, 3))
        colours[1] = np.clip(rng.uniform(0.5, 0.85) * np.exp(0.4 * bluish + rng.normal(0, 0.05, 3)), 0, 1)
        if rng.random() < 0.3:
            colours[1] = cloth_colour(rng)
        if rng.random() < 0.4:
            colours[2] = colours[1]  # no tie
    opening = (rng.uniform(0.1, 0.6), rng.uniform(0.012, 0.022))
    if pattern == "stripes":
        opening = (float(rng.random() < 0.5), 0.0)
    scale = rng.uniform(0.008, 0.05)
    return Cloth(colours, pattern, scale, rng.uniform(0, TILE, 2), rng.uniform(0.05, 0.25), opening)


def cloth_colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A colour of clothes, linear RGB."""
    kind = rng.choice(4, p=[0.47, 0.22, 0.26, 0.05])
    if kind == 0:  # dark
        return 0.01 + rng.uniform(0.0, 0.07) * np.exp(rng.normal(0, 0.35, 3))
    if kind == 1:  # white and pale
        return np.clip(rng.uniform(0.45, 0.85) * np.exp(rng.normal(0, 0.10, 3)), 0, 0.9)
    hue = rng.random()
    if kind == 2 and rng.random() < 0.5:
        hue = 0.6 + 0.06 * rng.normal()  # blue is what most coloured clothes are
    spread = rng.uniform(0.1, 0.8) if kind == 2 else rng.uniform(1.2, 2.4)
    wheel = np.cos(2 * np.pi * (hue - np.array([0, 1 / 3, 2 / 3])))
    return np.clip(rng.uniform(0.04, 0.30) * np.exp(spread * wheel), 0.004, 0.85)


@attrs.frozen(eq=False)
class _Body:
    """The neck and the torso under a head.

    Attributes:
        angle: (COLUMNS + 1,) around the body, radians: 0 in front, positive to the subject's left.
        loop: (COLUMNS + 1, 3) where the model's neck ends, camera frame.
        rotation: (3, 3) from the torso's frame (y up, z to the front) to the camera's.
        base: (3,) middle of the base of the neck, camera frame.
        size: Factor on lengths.
        breadth: Factor on the shoulders' width.
    """

    angle: np.ndarray
    loop: np.ndarray
    rotation: np.ndarray
    base: np.ndarray
    size: float
    breadth: float

    @classmethod
    def of(cls, anchors: FaceAnchors, rng: np.random.Generator) -> _Body:
        """A torso that turns and tilts less than the head does."""
        upright = np.diag([1.0, -1.0, -1.0])
        turned = Rotation.from_matrix(anchors.rotation @ upright).as_rotvec()
        follows = np.array([rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.5)])
        rotation = Rotation.from_rotvec(turned * follows).as_matrix() @ upright
        angle = np.linspace(-np.pi, np.pi, COLUMNS + 1)
        loop = _neck_loop(anchors)
        centre = loop.mean(axis=0)
        wanted = anchors.to_camera(_NECK_BASE[None] * anchors.size)[0]
        # the neck goes on half in the direction of the head, half in that of the torso
        reach = float(np.linalg.norm(wanted - centre)) * rng.uniform(0.75, 1.15)
        along = (wanted - centre) / np.linalg.norm(wanted - centre)
        along = along - rotation[:, 1]
        base = centre + reach * along / np.linalg.norm(along)
        offset = (loop - centre) @ rotation
        around = np.arctan2(offset[:, 0], offset[:, 2])
        order = np.argsort(around)
        ring = np.stack(
            [np.interp(angle, around[order], loop[order, k], period=2 * np.pi) for k in range(3)], 1
        )
        return cls(angle, ring, rotation, base, anchors.size, rng.uniform(0.85, 1.12))

    def points(self, rows: Float[np.ndarray, "rows columns"], lift: np.ndarray | float) -> np.ndarray:
        """Points (rows, columns, 3) of the torso's frame.

        Args:
            rows: Where: -1 is the model's cut, 0 the base of the neck, then the rings.
            lift: Metres off the skin.
        """
        at_ring = np.maximum(rows, 0)
        wide, deep, height = (np.interp(at_ring, np.arange(len(_RINGS)), _RINGS[:, k]) for k in range(3))
        wide = np.where(at_ring > 1, wide * (1 + (self.breadth - 1) * np.minimum(at_ring - 1, 1)), wide)
        sin, cos = np.sin(self.angle), np.cos(self.angle)
        outline = np.stack([(wide + lift) * sin, height + 0.5 * lift, (deep + lift) * cos], axis=-1)
        # in front the neck's base lies lower than behind
        outline[..., 1] -= 0.022 * (1 + cos) * np.exp(-at_ring)
        outline *= self.size
        loop = (self.loop - self.base) @ self.rotation
        level = loop * [1.0, 0.0, 1.0]
        level /= np.linalg.norm(level, axis=1, keepdims=True)
        part = smoothstep(0.0, -1.0, rows)[..., None]
        neck = loop + np.asarray(lift)[..., None] * level if np.ndim(lift) else loop + lift * level
        return outline * (1 - part) + neck * part

    def thing(
        self, name: str, rows: np.ndarray, lift: np.ndarray | float, albedo: Cloth | np.ndarray, gloss: float
    ) -> Thing:
        """A surface over some rows of the body."""
        points = self.points(rows, lift)
        return self.sheet(name, points, albedo, gloss)

    def sheet(self, name: str, points: np.ndarray, albedo: Cloth | np.ndarray, gloss: float) -> Thing:
        """A surface of points (rows, columns, 3) of the torso's frame."""
        rows, columns = points.shape[:2]
        flat = points.reshape(-1, 3)
        colours = (
            albedo if isinstance(albedo, Cloth) else np.broadcast_to(albedo, flat.shape).astype(np.float32)
        )
        vertices = (flat @ self.rotation.T + self.base).astype(np.float32)
        rest = (flat / self.size).astype(np.float32)
        return Thing(name, vertices, grid_faces(rows, columns), colours, rest=rest, gloss=gloss)


@cache
def grid_faces(rows: int, columns: int) -> Int[np.ndarray, "faces 3"]:
    """(2 (rows - 1) (columns - 1), 3) triangles of a grid, row by row; not to be written to."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    upper, lower = np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)
    faces = np.concatenate([upper, lower])
    faces.setflags(write=False)
    return faces


def _neckline(rng: np.random.Generator, angle: np.ndarray, suit: bool) -> Float[np.ndarray, " columns"]:
    """The row at which clothes begin, in each column."""
    around = rng.uniform(0.1, 0.9)
    if suit:
        return np.full(len(angle), rng.uniform(0.0, 0.3))
    kind = rng.choice(4, p=[0.45, 0.25, 0.15, 0.15])
    depth = [rng.uniform(0.0, 0.4), rng.uniform(0.6, 2.5), rng.uniform(1.0, 2.2), 0.0][kind]
    width = [1.0, rng.uniform(0.35, 0.6), rng.uniform(0.8, 1.3), 1.0][kind]
    if kind == 2:
        around = rng.uniform(0.8, 2.2)
    if kind == 3:  # up to the throat
        around = rng.uniform(-0.75, -0.2)
    return around + depth * np.exp(-((angle / width) ** 2))


def _collar(body: _Body, rng: np.random.Generator, cloth: Cloth) -> Thing:
    """A shirt's collar: it stands around the neck, open in front, and folds outwards."""
    height, gap = rng.uniform(0.022, 0.042), rng.uniform(0.15, 0.75)
    angle = body.angle * (1 - gap / np.pi)
    bound = attrs.evolve(body, angle=angle, loop=_turned(body.loop, body.angle, angle))
    base = bound.points(np.full((1, COLUMNS + 1), 0.15), 0.007)[0]
    up = np.array([0.0, 1.0, 0.0]) * body.size
    out = base * [1.0, 0.0, 1.0]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    behind = (1 - 0.35 * (1 + np.cos(angle)) / 2)[:, None]
    top = base + up * height * behind + out * 0.004
    front = np.exp(-(((angle[:, None]) / 0.8) ** 2))
    fold = base + out * (0.016 + 0.012 * front) - up * (0.004 + 0.022 * front)
    return bound.sheet("clothes", np.stack([base, top, top + out * 0.006, fold]), cloth, 0.05)


def _turned(loop: np.ndarray, angle: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The loop at other angles."""
    return np.stack([np.interp(other, angle, loop[:, k], period=2 * np.pi) for k in range(3)], axis=1)


def _roll(body: _Body, rng: np.random.Generator, cloth: Cloth) -> Thing:
    """A thick ring around the neck: a scarf, a hood that lies behind, a roll-neck."""
    row, thick = rng.uniform(-0.35, 0.5), rng.uniform(0.012, 0.030)
    centre = body.points(np.full((1, COLUMNS + 1), row), 0.7 * thick)[0]
    out = centre * [1.0, 0.0, 1.0]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    around = np.linspace(0, 2 * np.pi, 9)[:, None, None]
    radius = thick * (1 + 0.2 * smooth_curve(rng, body.angle, 6, 2 * np.pi))[:, None]
    tube = centre + radius * (np.cos(around) * out - np.sin(around) * np.array([0.0, 1.3, 0.0]))
    return body.sheet("scarf", tube, attrs.evolve(cloth, folds=0.25), 0.03)


def _necklace(body: _Body, rng: np.random.Generator) -> Thing:
    """A thin chain that lies on the chest."""
    row = 0.4 + rng.uniform(0.5, 2.0) * np.exp(-((body.angle / 0.7) ** 2))
    rows = row + np.array([[-0.03], [0.0], [0.03]]) * rng.uniform(0.6, 1.6)
    colour = np.array([0.6, 0.45, 0.2]) if rng.random() < 0.6 else np.full(3, rng.uniform(0.3, 0.8))
    return body.thing("necklace", rows, 0.006, colour, 0.9)


def _neck_loop(anchors: FaceAnchors) -> Float[np.ndarray, "n 3"]:
    """The vertices (n, 3) at which the model's neck is cut off, camera frame."""
    return anchors.vertices[_loop_of(anchors)].astype(float)


_loops: dict[bytes, np.ndarray] = {}


def _loop_of(anchors: FaceAnchors) -> np.ndarray:
    """Indices of the lowest of the loops at which the mesh ends: worked out once per process."""
    key = anchors.canonical[::61].tobytes() + np.int64(len(anchors.faces)).tobytes()
    if key not in _loops:
        pairs = np.sort(
            np.concatenate([anchors.faces[:, [0, 1]], anchors.faces[:, [1, 2]], anchors.faces[:, [2, 0]]])
        )
        edges, count = np.unique(pairs, axis=0, return_counts=True)
        rim = edges[count == 1]
        n = len(anchors.canonical)
        _, label = connected_components(coo_matrix((np.ones(len(rim)), (rim[:, 0], rim[:, 1])), (n, n)))
        loops = [np.flatnonzero(label == k) for k in np.unique(label[rim])]
        _loops[key] = min(loops, key=lambda loop: float(anchors.canonical[loop, 1].mean()))
    return _loops[key]
