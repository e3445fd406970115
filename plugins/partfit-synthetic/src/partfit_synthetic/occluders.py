"""What comes between the camera and a part: hands, and things of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import ComponentError
from partfit.models.base import ParametricModel
from partfit_synthetic.clothes import Cloth, grid_faces, random_cloth
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.scene import Scene
from partfit_synthetic.things import Thing, single
from partfit_synthetic.tiles import TILE, TILES, at, fractal_tile, smooth_curve

Vertices: TypeAlias = Float[np.ndarray, "n 3"]
Faces: TypeAlias = Int[np.ndarray, "f 3"]

#: The model of hands; without it things alone stand before a part.
HAND_MODEL = "anny-hand"
#: How many different hands there are of each side.
HANDS = 64
#: Share of a part's near side that is mostly left in sight by what stands before it, at least 1 less this.
MOST_HIDDEN = 0.45
#: How often a thing is drawn again that hides more, and at how many vertices, one in so many, that is tried.
_TRIALS, _EVERY = 4, 17
#: Share of hands among all occluders.
HAND_SHARE = 0.45
#: Range of skin, linear RGB: from light to dark.
_LIGHT_SKIN, _DARK_SKIN = np.array([0.62, 0.38, 0.27]), np.array([0.060, 0.030, 0.018])


@attrs.frozen(eq=False)
class Stain:
    """A colour with noise on it, over places in metres.

    Attributes:
        colour: (3,) linear RGB.
        other: (3,) the colour of stains, or of print.
        amount: How much of the other colour there is: 0 none, 1 about half.
        offset: (2,) where in the noise the surface lies.
        tile: Which noise.
        grain: Deviation of the colour's logarithm.
        cells: Cells of the noise a metre.
    """

    colour: np.ndarray = attrs.field(converter=single)
    other: np.ndarray = attrs.field(converter=single)
    amount: float
    offset: np.ndarray = attrs.field(converter=single)
    tile: int
    grain: float
    cells: float

    def __call__(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Albedo: (k, 3) -> (k, 3)."""
        x, y, z = rest.T * self.cells
        value = at(fractal_tile(self.tile), x + 0.5 * z + self.offset[0], y + 0.4 * z + self.offset[1])
        part = (smoothstep(-0.2, 0.2, value - 2.5 * (1 - self.amount)) * (self.amount > 0))[:, None]
        fine = at(fractal_tile(5), 2 * y + self.offset[1], 2 * x + z + self.offset[0])
        colour = (self.colour + (self.other - self.colour) * part) * np.exp(self.grain * fine)[:, None]
        return np.clip(colour, 0, 1).astype(np.float32)


def occluder_things(
    part: Float[np.ndarray, "vertices 3"], rng: np.random.Generator, skin: np.ndarray | None = None
) -> list[Thing]:
    """One or two things before a part.

    Args:
        part: (V, 3) the part's vertices, camera frame, metres.
        rng: Decides everything that is random.
        skin: (3,) albedo of hands, linear RGB; by default one is drawn.
    """
    most = MOST_HIDDEN if rng.random() < 0.93 else 1.0
    near = part[part[:, 2] < np.median(part[:, 2])][::_EVERY]
    things: list[Thing] = []
    for _ in range(1 + (rng.random() < 0.2)):
        for _ in range(_TRIALS):
            if rng.random() < HAND_SHARE and _hand_faces("right") is not None:
                more = hand_things(part, rng, skin)
            else:
                more = object_things(part, rng)
            if _hidden(near, things + more) <= most:
                things += more
                break
    return things


def _hidden(points: Vertices, things: list[Thing]) -> float:
    """Share of points that things keep from the camera."""
    scene = Scene([(thing.vertices, thing.faces) for thing in things])
    return float(scene.blocked(points, -points).mean())


def hand_things(
    part: Float[np.ndarray, "vertices 3"], rng: np.random.Generator, skin: np.ndarray | None = None
) -> list[Thing]:
    """A hand with its forearm before a part, mostly touching it.

    Raises:
        ComponentError: if there is no model of hands.
    """
    side = "right" if rng.random() < 0.5 else "left"
    vertices = _hand_vertices(side, int(rng.integers(HANDS))) * rng.uniform(0.92, 1.08)
    faces = _hand_faces(side)
    assert faces is not None
    if skin is None or rng.random() < 0.1:
        tone = rng.random() ** 1.5
        skin = np.exp(np.log(_LIGHT_SKIN) * (1 - tone) + np.log(_DARK_SKIN) * tone)
    skin = np.clip(np.asarray(skin) * np.exp(rng.normal(0, 0.08)), 0, 1)
    turn, target = _hand_pose(part, rng)
    # the spot of the hand that meets the target: from the palm to the fingers' tips
    spot = np.array([rng.uniform(-0.02, 0.02), rng.uniform(0.05, 0.17), 0.0])
    place = target - turn @ spot

    def posed(points: Vertices) -> Float[np.ndarray, "n 3"]:
        return (points @ turn.T + place).astype(np.float32)

    # nails and creases are too small to be seen; knuckles and tips are redder
    red = smoothstep(0.07, 0.19, vertices[:, 1])[:, None] * [0.0, -0.12, -0.10]
    rest = vertices + 0.0
    stain = Stain(
        skin,
        skin * [0.9, 0.75, 0.7],
        rng.uniform(0, 0.8),
        rng.uniform(0, TILE, 2),
        1,
        0.05,
        1500.0,
    )
    albedo = np.clip(stain(rest) * np.exp(red), 0, 1).astype(np.float32)
    things = [Thing("hand", posed(vertices), faces, albedo, gloss=rng.uniform(0.05, 0.25))]
    arm, arm_faces = _forearm(vertices, rng)
    if rng.random() < 0.6:
        cuff = rng.uniform(0.01, 0.10)
        start = np.searchsorted(-arm[:: _ARM_COLUMNS + 1, 1], cuff) if cuff > 0 else 0
        bare = Thing(
            "arm", posed(arm), arm_faces, np.broadcast_to(skin, arm.shape).astype(np.float32), gloss=0.1
        )
        things.append(bare)
        sleeve = _sleeve(arm, int(start), rng)
        things.append(_cloth_thing("sleeve", *sleeve, posed, random_cloth(rng)))
    else:
        things.append(
            Thing(
                "arm", posed(arm), arm_faces, np.broadcast_to(skin, arm.shape).astype(np.float32), gloss=0.1
            )
        )
    return things


def object_things(part: Float[np.ndarray, "vertices 3"], rng: np.random.Generator) -> list[Thing]:
    """One thing that is no hand before a part."""
    shape = _SHAPES[rng.choice(len(_SHAPES), p=_SHAPE_CHANCES)]
    target = _spot(part, rng)
    away = rng.uniform(0.01, 0.06) if rng.random() < 0.8 else rng.uniform(0.06, 0.3)
    towards = -target / np.linalg.norm(target)
    things = []
    turn = Rotation.from_rotvec(rng.normal(0, 0.45, 3)).as_matrix()
    for name, vertices, faces, stain, gloss in shape(rng):
        placed = vertices @ turn.T + target + towards * (away + float(np.ptp(vertices[:, 2])) / 2)
        things.append(
            Thing(
                name, placed.astype(np.float32), faces, stain, rest=vertices.astype(np.float32), gloss=gloss
            )
        )
    return things


_Piece: TypeAlias = tuple[str, np.ndarray, np.ndarray, Stain, float]


def _cup(rng: np.random.Generator) -> list[_Piece]:
    """A cup, a glass or a tin, upright."""
    radius, height = rng.uniform(0.028, 0.045), rng.uniform(0.07, 0.13)
    foot = rng.uniform(0.6, 1.0)
    profile = [
        (0.0, 0.0),
        (radius * foot, 0.0),
        (radius, -height),
        (radius * 0.92, -height),
        (radius * 0.85, -0.8 * height),
    ]
    return [("cup", *_lathe(np.array(profile), 18), _stain(rng, 0.5), rng.uniform(0.1, 0.8))]


def _phone(rng: np.random.Generator) -> list[_Piece]:
    """A telephone, a book or a card."""
    half = np.array([rng.uniform(0.033, 0.04), rng.uniform(0.068, 0.08), 0.004])
    if rng.random() < 0.3:
        half = np.array([rng.uniform(0.04, 0.11), rng.uniform(0.05, 0.14), rng.uniform(0.0005, 0.012)])
    turn = Rotation.from_rotvec([0, 0, rng.normal(0, 0.6)]).as_matrix()
    vertices, faces = _box(half)
    dark = rng.random() < 0.5
    stain = _stain(rng, 0.6)
    if dark:
        stain = attrs.evolve(stain, colour=np.full(3, rng.uniform(0.005, 0.03), dtype=np.float32), amount=0.0)
    return [("phone", vertices @ turn.T, faces, stain, rng.uniform(0.2, 0.9))]


def _microphone(rng: np.random.Generator) -> list[_Piece]:
    """A microphone that is held from below."""
    r = rng.uniform(0.018, 0.030)
    angle = np.linspace(0, np.pi * 0.8, 7)
    ball = np.stack([r * np.sin(angle), -r * np.cos(angle)], axis=1)
    handle = np.array([[0.6 * r, 0.9 * r], [0.45 * r, 0.20]])
    turn = Rotation.from_rotvec([rng.normal(-0.5, 0.4), 0, rng.normal(0, 0.5)]).as_matrix()
    grey = attrs.evolve(
        _stain(rng, 0.0), colour=np.full(3, rng.uniform(0.01, 0.2), dtype=np.float32), grain=0.3
    )
    black = attrs.evolve(grey, colour=np.full(3, rng.uniform(0.005, 0.03), dtype=np.float32), grain=0.05)
    pieces: list[_Piece] = []
    for profile, stain in ((ball, grey), (handle, black)):
        vertices, faces = _lathe(profile, 12)
        pieces.append(("microphone", vertices @ turn.T, faces, stain, 0.3))
    return pieces


def _stick(rng: np.random.Generator) -> list[_Piece]:
    """A stick, a pole or a cable."""
    r, half = 0.002 + 0.014 * rng.random() ** 2, rng.uniform(0.06, 0.5)
    vertices, faces = _lathe(np.array([[0, -half], [r, -half], [r, half]]), 10)
    turn = Rotation.from_rotvec([0, 0, rng.uniform(-1.6, 1.6)]).as_matrix()
    return [("stick", vertices @ turn.T, faces, _stain(rng, 0.2), rng.uniform(0, 0.8))]


def _blob(rng: np.random.Generator) -> list[_Piece]:
    """Food, a ball, a bag: something roundish."""
    polar, around = np.linspace(0.02, np.pi - 0.02, 10), np.linspace(-np.pi, np.pi, 19)
    bumps = 1 + 0.18 * smooth_curve(rng, around, 4, 2 * np.pi) * np.sin(polar)[:, None]
    sin = np.sin(polar)[:, None] * bumps
    points = np.stack(
        [sin * np.cos(around), np.cos(polar)[:, None] + 0 * around, sin * np.sin(around)], axis=-1
    )
    points = points * rng.uniform(0.02, 0.075) * rng.uniform(0.6, 1.4, 3)
    return [
        ("thing", points.reshape(-1, 3), grid_faces(*points.shape[:2]), _stain(rng, 0.5), rng.uniform(0, 0.6))
    ]


def _polygon(rng: np.random.Generator) -> list[_Piece]:
    """A flat thing with corners."""
    corners = int(rng.integers(3, 8))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(0.03, 0.09) * rng.uniform(0.6, 1.4, corners)
    rim = np.stack([reach * np.cos(angle), reach * np.sin(angle), 0 * angle], axis=1)
    index = np.arange(corners)
    faces = np.stack([0 * index, 1 + index, 1 + (index + 1) % corners], axis=1)
    return [("thing", np.concatenate([np.zeros((1, 3)), rim]), faces, _stain(rng, 0.6), rng.uniform(0, 0.5))]


_SHAPES: tuple[Callable[[np.random.Generator], list[_Piece]], ...] = (
    _cup,
    _phone,
    _microphone,
    _stick,
    _blob,
    _polygon,
)
_SHAPE_CHANCES = (0.16, 0.22, 0.16, 0.12, 0.20, 0.14)


def _stain(rng: np.random.Generator, chance: float) -> Stain:
    """A colour of things: many are black, white or grey."""
    colour, other = (_object_colour(rng) for _ in range(2))
    amount = rng.uniform(0.3, 1.2) if rng.random() < chance else 0.0
    return Stain(
        colour,
        other,
        amount,
        rng.uniform(0, TILE, 2),
        int(rng.integers(TILES)),
        rng.uniform(0.02, 0.15),
        rng.uniform(300, 2000),
    )


def _object_colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    level = rng.choice([0.015, 0.15, 0.6], p=[0.4, 0.35, 0.25]) * np.exp(rng.normal(0, 0.4))
    tint = rng.normal(0, rng.choice([0.08, 0.7], p=[0.55, 0.45]), 3)
    return np.clip(level * np.exp(tint), 0.003, 0.9).astype(np.float32)


def _spot(part: Float[np.ndarray, "vertices 3"], rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A point of the part's near side."""
    near = np.flatnonzero(part[:, 2] < np.median(part[:, 2]))
    return part[near[rng.integers(len(near))]].astype(float)


def _hand_pose(
    part: Float[np.ndarray, "vertices 3"], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How a hand is turned, and the point before the part that it reaches."""
    spot = _spot(part, rng)
    towards = -spot / np.linalg.norm(spot)
    close = rng.random() < 0.85
    target = spot + towards * (rng.uniform(0.012, 0.045) if close else rng.uniform(0.05, 0.25))
    outwards = (spot - part.mean(axis=0)) * [1.0, 1.0, 0.0]
    outwards /= max(float(np.linalg.norm(outwards)), 1e-6)
    wrist = 0.6 * outwards + [0.0, 0.8, 0.0] + rng.normal(0, 0.45, 3) * [1.0, 1.0, 0.4]
    wrist /= np.linalg.norm(wrist)
    # the palm faces the part; now and then the camera, or sideways
    palm = -towards if rng.random() < 0.75 else towards
    palm = palm + rng.normal(0, 0.45, 3)
    y = -wrist
    z = palm - (palm @ y) * y
    z /= max(float(np.linalg.norm(z)), 1e-6)
    return np.stack([np.cross(y, z), y, z], axis=1), target


_ARM_COLUMNS = 14


def _forearm(hand: Vertices, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A forearm in the hand's own frame: rings from within the wrist away from the fingers."""
    wrist = hand[hand[:, 1] < np.quantile(hand[:, 1], 0.04)]
    middle, reach = wrist.mean(axis=0), np.ptp(wrist, axis=0) / 2
    along = np.array([-0.004, 0.02, 0.05, 0.09, 0.14, 0.22, 0.32])
    wide = np.interp(along, [0, 0.05, 0.2, 0.32], [0.95, 0.98, 1.35, 1.5])
    angle = np.linspace(-np.pi, np.pi, _ARM_COLUMNS + 1)
    half = np.clip(reach[[0, 2]], 0.018, 0.034)
    bend = np.outer(along, rng.normal(0, 0.12, 2))
    rings = np.stack(
        [
            middle[0] + bend[:, :1] + wide[:, None] * half[0] * np.sin(angle),
            np.broadcast_to((middle[1] - along)[:, None], (len(along), len(angle))),
            middle[2] + bend[:, 1:] + wide[:, None] * half[1] * np.cos(angle),
        ],
        axis=-1,
    )
    return rings.reshape(-1, 3), grid_faces(len(along), len(angle))


def _sleeve(arm: Vertices, start: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A tube over a forearm from one of its rings on."""
    rings = arm.reshape(-1, _ARM_COLUMNS + 1, 3)
    rings = rings[min(start, len(rings) - 2) :]
    middle = rings.mean(axis=1, keepdims=True)
    off = rings - middle
    wider = 1 + rng.uniform(0.1, 0.6) * (
        1 + 0.15 * smooth_curve(rng, np.arange(rings.shape[1]), 4, _ARM_COLUMNS)
    )
    tube = middle + off * wider[:, None]
    return tube.reshape(-1, 3), grid_faces(*tube.shape[:2])


def _cloth_thing(
    name: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    posed: Callable[[np.ndarray], np.ndarray],
    cloth: Cloth,
) -> Thing:
    if cloth.pattern == "suit":
        cloth = attrs.evolve(cloth, pattern="plain")
    return Thing(name, posed(vertices), faces, cloth, rest=vertices.astype(np.float32), gloss=0.03)


@cache
def _hand_model(side: str) -> ParametricModel | None:
    try:
        model = partfit.create("model", HAND_MODEL, side=side)
    except ComponentError:
        return None
    assert isinstance(model, ParametricModel)
    return model


@cache
def _hand_faces(side: str) -> np.ndarray | None:
    model = _hand_model(side)
    return None if model is None else model.topology.faces


@cache
def _hand_vertices(side: str, index: int) -> Float[np.ndarray, "n 3"]:
    """One of the hands: another shape and pose each, the same in every process."""
    model = _hand_model(side)
    assert model is not None
    rng = np.random.default_rng((71, index))
    spread = rng.uniform(0.5, 1.2)
    parts = [
        np.zeros(group.size) if group.rigid else group.sample(rng, 1, spread)[0] for group in model.groups
    ]
    with torch.no_grad():
        points = model.vertices(torch.as_tensor(np.concatenate(parts))[None])[0].numpy()
    points.setflags(write=False)
    return points


def _lathe(profile: Float[np.ndarray, "rows 2"], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """A surface of revolution about y: rows of radius and height."""
    angle = np.linspace(-np.pi, np.pi, columns + 1)
    radius = np.maximum(profile[:, :1], 1e-4)
    points = np.stack(
        [
            radius * np.sin(angle),
            np.broadcast_to(profile[:, 1:], (len(profile), len(angle))),
            radius * np.cos(angle),
        ],
        axis=-1,
    )
    return points.reshape(-1, 3), grid_faces(*points.shape[:2])


def _box(half: Float[np.ndarray, " 3"]) -> tuple[np.ndarray, np.ndarray]:
    """A box about the origin."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    vertices = corners[quads].reshape(-1, 3)  # corners of their own for each side: sharp edges
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    return vertices, (4 * np.arange(6)[:, None, None] + halves).reshape(-1, 3)
