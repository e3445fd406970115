"""Hair: shells that grow from a head's own surface, strands, and what is tied up behind.

A shell is a sheet of columns that start at the crown, follow the head at some distance and end at the
hairline, over the brows, or hanging down. Textures run along its strands.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int

from partfit_synthetic.anchors import FaceAnchors
from partfit_synthetic.clothes import grid_faces
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.scalp import Scalp, between_rows, rows_reaching, scalp_of
from partfit_synthetic.things import Thing, single
from partfit_synthetic.tiles import TILE, at, curl_tile, smooth_curve, strand_tile

Flow: TypeAlias = Literal["crown", "back", "side"]

#: Albedo, linear RGB, and how common it is.
COLOURS = (
    ((0.010, 0.009, 0.009), 0.31),
    ((0.030, 0.020, 0.014), 0.27),
    ((0.075, 0.046, 0.029), 0.15),
    ((0.15, 0.096, 0.058), 0.08),
    ((0.30, 0.205, 0.115), 0.07),
    ((0.48, 0.39, 0.27), 0.02),
    ((0.15, 0.062, 0.030), 0.02),
    ((0.17, 0.165, 0.16), 0.05),
    ((0.50, 0.49, 0.475), 0.03),
)
#: Rows of a shell from the crown to its end.
SHELL_ROWS = 26
#: Azimuths in degrees at which a hairline is drawn, from the front to the back.
_HAIRLINE = np.array([0.0, 24, 40, 54, 68, 84, 100, 118, 138, 160, 180])
#: Metres of hair along one radian around the head.
_RADIUS = 0.09


@attrs.frozen
class Style:
    """How hair is cut and combed. Lengths in metres on the mean head.

    Attributes:
        front: Height of the hairline over the brows, in the middle.
        corner: How much higher it is over the temples' inner ends; negative for a peak.
        sideburn: Height over the brows to which hair grows before the ears; negative is below.
        thickness: Distance of the hair's surface from the skin.
        volume: Deviation of that distance, as a part of it.
        fringe: Height over the brows at which hair over the forehead ends; None: it is combed away.
        slant: How much deeper the fringe ends on the subject's left.
        hanging: Length of the hair below the widest place of the head; 0: short hair, cut at the hairline.
        face_side: Azimuth in radians at which hanging hair begins, left and right.
        flare: How much wider hanging hair gets, metres each metre.
        wave: Amplitude of waves in hanging hair.
        bald: Height over the brows above which there is no hair; None: all is covered.
        flow: Which way strands lie: from the crown, straight back, or to one side.
        curl: 0 straight strands to 1 tight curls.
        ragged: How unevenly strands end.
    """

    front: float = 0.055
    corner: float = 0.0
    sideburn: float = -0.045
    thickness: float = 0.010
    volume: float = 0.25
    fringe: float | None = None
    slant: float = 0.0
    hanging: float = 0.0
    face_side: tuple[float, float] = (1.0, 1.0)
    flare: float = 0.0
    wave: float = 0.0
    bald: float | None = None
    flow: Flow = "crown"
    curl: float = 0.0
    ragged: float = 0.005


@attrs.frozen(eq=False)
class StrandColour:
    """Colours of strands over (across, along, margin), metres.

    Attributes:
        colour: Linear RGB.
        tips: Factor on the colour at the hair's ends.
        offset: Where in the noise this hair lies.
        contrast: Deviation of the colour's logarithm.
        curl: As in `Style`.
        shine: Strength of the band of light around the head.
        shine_at: Where it is, metres from the crown.
        grey: Part of the strands that have no colour of their own.
    """

    colour: np.ndarray = attrs.field(converter=single)
    tips: float
    offset: np.ndarray = attrs.field(converter=single)
    contrast: float
    curl: float
    shine: float
    shine_at: float
    grey: float

    def __call__(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Albedo: (k, 3) -> (k, 3)."""
        across, along, margin = rest.T
        coarse = _strands(across, along, self.offset, 0.0016, self.curl)
        fine = _strands(across, along, self.offset + 77, 0.0006, self.curl)
        noise = 0.6 * coarse + 0.6 * fine
        shade = np.exp(self.contrast * noise)
        band = (along - self.shine_at + 0.006 * coarse) / 0.022
        shade *= 1 + self.shine * np.exp(-band * band)
        shade *= 1 + (self.tips - 1) * smoothstep(0.08, 0.0, margin)
        colour = self.colour * shade[:, None]
        if self.grey > 0:
            part = 0.7 * smoothstep(-1, 1, 0.5 * noise + 3 * (self.grey - 0.5))[:, None]
            colour = colour * (1 - part) + 0.24 * shade[:, None] * part
        return np.clip(colour, 0, 1).astype(np.float32)


@attrs.frozen(eq=False)
class StrandOpacity:
    """Opacity of strands over (across, along, margin), metres: it fades, unevenly, where the margin ends.

    Attributes:
        offset: Where in the noise this hair lies.
        ragged: Deviation of the place where strands end, metres.
        curl: As in `Style`.
    """

    offset: np.ndarray = attrs.field(converter=single)
    ragged: float
    curl: float

    @property
    def solid_margin(self) -> float:
        """From this margin on nothing can be seen through."""
        return 1.8 * self.ragged

    def __call__(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, " k"]:
        """Opacity: (k, 3) -> (k,)."""
        across, along, margin = rest.T
        noise = _strands(across, along, self.offset, 0.0016, self.curl)
        noise = 0.5 * noise + 0.8 * _strands(across, along, self.offset + 77, 0.0006, self.curl)
        end = margin / self.ragged + 0.5 * np.clip(noise, -1.5, 1.5)
        return smoothstep(-0.1, 1.05, end).astype(np.float32)


def hair_things(
    anchors: FaceAnchors, rng: np.random.Generator, colour: np.ndarray | None = None, covered: bool = False
) -> list[Thing]:
    """Hair for a head.

    Args:
        anchors: The head.
        rng: Decides everything that is random.
        colour: (3,) linear RGB; by default one is drawn.
        covered: Whether a hat lies on it: then it is flat above, and nothing is tied up.
    """
    if colour is None:
        colour = hair_colour(rng)
    style, tied = hair_style(rng)
    if covered:
        style, tied = attrs.evolve(style, thickness=min(style.thickness, 0.005), fringe=None), False
    look = strand_colour(rng, colour, style)
    things = shell_things(anchors, rng, style, look)
    if tied:
        things += _bun(anchors, rng, look)
    if rng.random() < (0.35 if style.hanging or style.fringe is not None else 0.03):
        things.append(_wisps(anchors, rng, style, look))
    return things


def hair_colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A colour of hair, linear RGB: mostly black or brown, now and then dyed."""
    if rng.random() < 0.007:
        return np.clip(rng.uniform(0, 1, 3) ** 2 * rng.uniform(0.1, 0.6), 0.01, 0.6)
    chances = np.array([chance for _, chance in COLOURS])
    colour = np.array(COLOURS[rng.choice(len(COLOURS), p=chances / chances.sum())][0])
    return np.clip(colour * np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3)), 0.005, 0.75)


def hair_style(rng: np.random.Generator) -> tuple[Style, bool]:
    """A style, and whether hair is tied up behind: short, long, tied, curly, receding or a bald top."""
    style = Style(
        front=rng.uniform(0.026, 0.054),
        corner=rng.normal(0.004, 0.006),
        sideburn=rng.uniform(-0.075, -0.02),
        volume=rng.uniform(0.1, 0.35),
        flow=_FLOWS[rng.choice(3, p=[0.4, 0.35, 0.25])],
        face_side=(rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.25)),
        slant=rng.normal(0, 0.012),
    )
    kind = rng.choice(6, p=[0.42, 0.30, 0.09, 0.08, 0.06, 0.05])
    make = (_short, _long, _tied, _curly, _receding, _bald)[kind]
    return make(style, rng), make is _tied


_FLOWS: tuple[Flow, ...] = ("crown", "side", "back")


def _short(style: Style, rng: np.random.Generator) -> Style:
    thickness = 0.003 + 0.022 * rng.random() ** 1.5
    fringe = _fringe(rng, 0.33) if thickness > 0.008 else None
    return attrs.evolve(style, thickness=thickness, fringe=fringe, ragged=rng.uniform(0.005, 0.011))


def _long(style: Style, rng: np.random.Generator) -> Style:
    """Down to the chin, to the shoulders or below."""
    return attrs.evolve(
        style,
        thickness=rng.uniform(0.008, 0.026),
        flow="side" if rng.random() < 0.7 else "crown",
        fringe=_fringe(rng, 0.42),
        hanging=rng.uniform(0.06, 0.14) if rng.random() < 0.35 else rng.uniform(0.14, 0.34),
        flare=rng.normal(0.02, 0.16),
        wave=rng.uniform(0, 0.009) if rng.random() < 0.5 else 0.0,
        curl=rng.uniform(0, 0.35) if rng.random() < 0.3 else 0.0,
        ragged=rng.uniform(0.005, 0.013),
    )


def _tied(style: Style, rng: np.random.Generator) -> Style:
    return attrs.evolve(style, thickness=rng.uniform(0.003, 0.009), flow="back", ragged=0.007)


def _curly(style: Style, rng: np.random.Generator) -> Style:
    return attrs.evolve(
        style,
        thickness=rng.uniform(0.012, 0.05),
        flow="crown",
        fringe=_fringe(rng, 0.4),
        hanging=rng.uniform(0.02, 0.14) if rng.random() < 0.4 else 0.0,
        flare=rng.uniform(0, 0.5),
        curl=rng.uniform(0.5, 1.0),
        ragged=rng.uniform(0.006, 0.014),
    )


def _receding(style: Style, rng: np.random.Generator) -> Style:
    return attrs.evolve(
        style,
        front=rng.uniform(0.055, 0.08),
        corner=rng.uniform(0.012, 0.035),
        thickness=rng.uniform(0.002, 0.010),
        ragged=0.010,
    )


def _bald(style: Style, rng: np.random.Generator) -> Style:
    return attrs.evolve(
        style, flow="crown", thickness=rng.uniform(0.002, 0.010), bald=rng.uniform(0.02, 0.07), ragged=0.009
    )


def _fringe(rng: np.random.Generator, chance: float) -> float | None:
    """Height over the brows at which hair over the forehead ends, or none."""
    return rng.uniform(-0.004, 0.035) if rng.random() < chance else None


def strand_colour(rng: np.random.Generator, colour: np.ndarray, style: Style) -> StrandColour:
    """How hair of a colour looks."""
    dark = float(colour.mean()) < 0.08
    return StrandColour(
        colour=colour,
        tips=math.exp(rng.normal(0.1, 0.25)),
        offset=rng.uniform(0, TILE, 2),
        contrast=rng.uniform(0.2, 0.5) * (1 - 0.4 * style.curl) * (1.0 if dark else 0.65),
        curl=style.curl,
        shine=rng.uniform(0, 1.0 if dark else 0.35) * (1 - style.curl),
        shine_at=rng.uniform(0.04, 0.11),
        grey=rng.uniform(0.15, 0.6) if rng.random() < 0.07 else 0.0,
    )


def shell_things(
    anchors: FaceAnchors, rng: np.random.Generator, style: Style, look: StrandColour
) -> list[Thing]:
    """The shell of a style on a head, and the inside of what hangs down, seen past the neck."""
    scalp = scalp_of(anchors)
    shell = Shell.of(anchors, scalp, rng, style)
    points = anchors.to_camera(shell.points.reshape(-1, 3)).reshape(shell.points.shape)
    normals = _grid_normals(points)
    toward = -points / np.linalg.norm(points, axis=-1, keepdims=True)
    facing = (normals * toward).sum(-1)
    silhouette = (np.abs(facing) - 0.04) * 10 * style.ragged
    margin = np.minimum(shell.margin, silhouette)
    rest = np.stack([shell.across, shell.along, margin], axis=-1).reshape(-1, 3).astype(np.float32)
    opacity = StrandOpacity(look.offset, style.ragged, style.curl)
    faces = grid_faces(*facing.shape)
    there = _corners(shell.margin > -style.ragged, faces).any(axis=0)
    outside = _corners(facing > -0.05, faces).any(axis=0)
    hangs = _corners(shell.hangs, faces).any(axis=0)
    things = []
    dim = attrs.evolve(look, colour=0.3 * look.colour, shine=0.0)
    solid = _corners(margin > opacity.solid_margin, faces).all(axis=0)
    for chosen, coat, gloss in ((there & outside, look, 0.2), (there & ~outside & hangs, dim, 0.0)):
        # what is dense is cast with the head, which is quicker; only the border is laid over
        for part, density in ((chosen & solid, 1.0), (chosen & ~solid, opacity)):
            if part.any():
                things.append(_thing("hair", points, faces[part], coat, rest, density, gloss))
    return things


def shell_of(
    anchors: FaceAnchors, scalp: Scalp, rng: np.random.Generator, style: Style
) -> Float[np.ndarray, "rows columns 3"]:
    """The surface alone of a style on a head, in the head's frame."""
    return Shell.of(anchors, scalp, rng, style).points


def _corners(
    values: Bool[np.ndarray, "rows columns"], faces: Int[np.ndarray, "f 3"]
) -> Bool[np.ndarray, "3 f"]:
    """(3, f) the values at the corners of faces of a grid."""
    return values.ravel().take(faces.T)


def _thing(
    name: str,
    points: np.ndarray,
    faces: np.ndarray,
    look: StrandColour,
    rest: np.ndarray,
    opacity: StrandOpacity | float,
    gloss: float,
) -> Thing:
    """A thing of those vertices only that its faces use."""
    is_used = np.zeros(len(rest), dtype=bool)
    is_used[faces.ravel()] = True
    used, number = np.flatnonzero(is_used), np.cumsum(is_used) - 1
    vertices = points.reshape(-1, 3).take(used, axis=0).astype(np.float32)
    rest = rest.take(used, axis=0)
    return Thing(name, vertices, number.take(faces), look, rest=rest, opacity=opacity, gloss=gloss)


@attrs.frozen(eq=False)
class Shell:
    """A sheet of hair in the head's frame: (rows, columns) each.

    Attributes:
        points: (rows, columns, 3).
        across: Metres across strands.
        along: Metres from the crown.
        margin: Metres to the hair's end; negative beyond it.
        hangs: Whether it has left the head.
    """

    points: np.ndarray
    across: np.ndarray
    along: np.ndarray
    margin: np.ndarray
    hangs: np.ndarray

    @classmethod
    def of(cls, anchors: FaceAnchors, scalp: Scalp, rng: np.random.Generator, style: Style) -> Shell:
        """The sheet of a style on a head."""
        size = anchors.size
        grid = scalp.on(anchors)
        centre = scalp.centre * size
        radial = grid - centre
        radial /= np.linalg.norm(radial, axis=-1, keepdims=True)
        length = np.zeros(grid.shape[:2])
        length[1:] = np.cumsum(np.linalg.norm(np.diff(grid, axis=0), axis=-1), axis=0)

        hairline = scalp.row_at_height(scalp.brow_height + _end_heights(scalp.azimuth, style))
        end = _in_columns(length, hairline)
        end += 0.5 * style.ragged * smooth_curve(rng, scalp.azimuth, 12, 2 * np.pi)
        leave, hanging = _hanging(grid, centre, length, scalp.azimuth, style)
        end = np.where(hanging, leave + style.hanging * size, end)
        start = np.zeros_like(end)
        if style.bald is not None:
            top = scalp.row_at_height(np.full(len(end), scalp.brow_height + style.bald))
            start = np.maximum(_in_columns(length, top) * (1 - 0.25 * np.cos(scalp.azimuth)), 0)

        past = 1 + 2 * style.ragged
        along = np.linspace(0, 1, SHELL_ROWS)[:, None] * (end + past - 1)
        on_head = np.minimum(along, np.where(hanging, leave, np.inf))
        row = rows_reaching(length, on_head)
        base, outward = between_rows(grid, row), between_rows(radial, row)
        margin = np.minimum(end - along, along - start + (0.0 if style.bald is not None else 1.0))
        thickness = _thickness(rng, scalp.azimuth, along, margin, hanging, style) * size
        points = base + outward * thickness[..., None]
        below = along - on_head
        points += _fall(anchors, rng, points - centre, below, scalp.azimuth, style)
        across = _across(base - centre, scalp.azimuth, style.flow)
        return cls(points, across, along, margin, below > 0)


def _end_heights(azimuth: np.ndarray, style: Style) -> Float[np.ndarray, " columns"]:
    """How high over the brows hair ends in each column, where it does not hang down."""
    angle = np.degrees(np.abs(azimuth))
    front, side = style.front, style.sideburn
    heights = np.array(
        [
            front,
            front + style.corner,
            front - 0.004 + style.corner,
            0.002 + 0.3 * style.corner,
            0.6 * side,
            side,
            -0.012,
            -0.012,
            -0.06,
            -0.085,
            -0.09,
        ]
    )
    line = np.interp(angle, _HAIRLINE, heights)
    if style.fringe is None:
        return line
    over_brow = style.fringe - style.slant * azimuth
    return np.where(angle < 48, np.minimum(line, over_brow), line)


def _hanging(
    grid: np.ndarray, centre: np.ndarray, length: np.ndarray, azimuth: np.ndarray, style: Style
) -> tuple[np.ndarray, np.ndarray]:
    """Where columns leave the head, metres from the crown, and which of them do."""
    if style.hanging <= 0:
        return np.zeros(len(azimuth)), np.zeros(len(azimuth), dtype=bool)
    wide = np.hypot(grid[..., 0], grid[..., 2] - centre[2])
    leave = np.take_along_axis(length, wide[:18].argmax(axis=0)[None], axis=0)[0]
    left, right = style.face_side
    return leave, (azimuth > left) | (azimuth < -right)


def _thickness(
    rng: np.random.Generator,
    azimuth: np.ndarray,
    along: np.ndarray,
    margin: np.ndarray,
    hanging: np.ndarray,
    style: Style,
) -> Float[np.ndarray, "rows columns"]:
    """Distance of the shell from the skin."""
    uneven = 1 + style.volume * smooth_curve(rng, azimuth, 5, 2 * np.pi) * (along / 0.12).clip(0, 1)
    uneven = uneven + 0.7 * style.volume * smooth_curve(rng, along, 3, 0.3)
    locks = strand_tile() if style.curl < 0.4 else curl_tile()
    size = 0.0035 if style.curl < 0.4 else 0.0022
    bumps = at(locks, azimuth * _RADIUS / size + rng.uniform(0, TILE) + 0 * along, along / size)
    uneven = uneven + (0.10 + 0.15 * style.curl) * bumps
    loose = style.fringe is not None or style.curl > 0.4
    edge = np.where(hanging, 0.8, 0.5 if loose else 0.12)
    taper = edge + (1 - edge) * smoothstep(0.0, 0.035, margin)
    over_ears = np.exp(-(((np.abs(azimuth) - 1.75) / 0.45) ** 2)) * smoothstep(0.09, 0.15, along) * hanging
    return np.maximum(style.thickness * np.clip(uneven, 0.3, 2.5) * taper, 0.0012) + 0.012 * over_ears


def _fall(
    anchors: FaceAnchors,
    rng: np.random.Generator,
    outward: np.ndarray,
    below: np.ndarray,
    azimuth: np.ndarray,
    style: Style,
) -> Float[np.ndarray, "rows columns 3"]:
    """How far points that hang `below` where they left the head are from there: down, outwards, in waves."""
    gravity = anchors.rotation.T @ np.array([0.0, 1.0, 0.0])
    down = 0.5 * gravity + 0.5 * np.array([0.0, -1.0, 0.0])
    down /= max(float(np.linalg.norm(down)), 1e-6)
    level = outward * [1.0, 0.0, 1.0]
    level /= np.maximum(np.linalg.norm(level, axis=-1, keepdims=True), 1e-6)
    spread = style.flare * below + 0.02 * smooth_curve(rng, azimuth, 6, 2 * np.pi) * below
    phase = smooth_curve(rng, azimuth, 5, 2 * np.pi) * 2
    wave = style.wave * np.sin(2 * np.pi * below / 0.07 + phase) * np.minimum(below / 0.03, 1)
    neck = -0.35 * np.clip(below - 0.03, 0, 0.12) * (np.abs(azimuth) > 2.0)  # the back falls onto the neck
    return below[..., None] * down + (spread + wave + neck)[..., None] * level


def _across(outward: np.ndarray, azimuth: np.ndarray, flow: Flow) -> Float[np.ndarray, "rows columns"]:
    """Metres across the strands, constant along each of them."""
    if flow == "crown":
        return _RADIUS * np.broadcast_to(azimuth, outward.shape[:2])
    if flow == "back":
        return _RADIUS * np.arctan2(outward[..., 0], outward[..., 1] + 0.03)
    # towards a side: around an axis from ear to ear, which lies below the hairline
    return _RADIUS * np.arctan2(outward[..., 2], outward[..., 1] + 0.05)


def _bun(anchors: FaceAnchors, rng: np.random.Generator, look: StrandColour) -> list[Thing]:
    """Tied hair behind the head or on top of it."""
    scalp = scalp_of(anchors)
    row = int(rng.integers(0, 14))
    column = len(scalp.azimuth) // 2 if row < 3 else 0
    spot = scalp.on(anchors)[row, column]
    radius = rng.uniform(0.022, 0.042) * anchors.size
    out = spot - scalp.centre * anchors.size
    middle = spot + out / np.linalg.norm(out) * radius * 0.5
    polar, azimuth = np.linspace(0.05, np.pi - 0.05, 9), np.linspace(-np.pi, np.pi, 19)
    ball = np.stack(
        [
            np.sin(polar)[:, None] * np.sin(azimuth),
            np.cos(polar)[:, None] + 0 * azimuth,
            np.sin(polar)[:, None] * np.cos(azimuth),
        ],
        axis=-1,
    )
    bumps = 1 + 0.08 * smooth_curve(rng, azimuth + 2 * polar[:, None], 6, 2 * np.pi)
    points = middle + ball * bumps[..., None] * radius * rng.uniform(0.8, 1.2, 3)
    flat = anchors.to_camera(points.reshape(-1, 3))
    rest = np.stack(
        [radius * (azimuth + 0 * polar[:, None]), radius * (polar[:, None] + 0 * azimuth)], axis=-1
    )
    margin = np.full((rest.shape[0] * rest.shape[1], 1), 1.0)
    rest = np.concatenate([rest.reshape(-1, 2), margin], axis=1).astype(np.float32)
    faces = grid_faces(len(polar), len(azimuth))
    return [Thing("hair", flat.astype(np.float32), faces, look, rest=rest, gloss=0.2)]


def _wisps(anchors: FaceAnchors, rng: np.random.Generator, style: Style, look: StrandColour) -> Thing:
    """Loose strands over the forehead and beside the face."""
    scalp = scalp_of(anchors)
    grid = scalp.on(anchors)
    radial = grid - scalp.centre * anchors.size
    radial /= np.linalg.norm(radial, axis=-1, keepdims=True)
    count, steps = int(rng.integers(3, 14)), 10
    middle = len(scalp.azimuth) // 2
    column = middle + rng.normal(0, 10, count)
    drift = np.cumsum(rng.normal(0, 0.5, (steps, count)), axis=0) + np.linspace(0, 1, steps)[
        :, None
    ] * rng.normal(0, 5, count)
    columns = np.clip(column + drift, 0, len(scalp.azimuth) - 1).round().astype(int)
    first = scalp.row_at_height(np.full(len(scalp.azimuth), scalp.brow_height + style.front + 0.01))[middle]
    length = rng.uniform(3, 9, count)
    rows = np.clip(first - 1 + np.linspace(0, 1, steps)[:, None] * length, 0, len(grid) - 1.001)
    low = rows.astype(int)
    part = (rows - low)[..., None]
    path = grid[low, columns] * (1 - part) + grid[low + 1, columns] * part
    lift = 0.003 + (style.thickness * 0.6 + 0.004) * rng.random(count)
    path = anchors.to_camera((path + radial[low, columns] * lift[:, None]).reshape(-1, 3)).reshape(path.shape)
    path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    ahead = np.gradient(path, axis=0)
    side = np.cross(ahead, path)
    side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    width = rng.uniform(0.0006, 0.0022, count) * np.linspace(1, 0.3, steps)[:, None]
    edge = side * width[..., None]
    strip = np.stack([path - edge, path + edge], axis=2)  # (steps, count, 2, 3)
    index = np.arange(steps * count * 2).reshape(steps, count, 2)
    a, b, c, d = index[:-1, :, 0], index[:-1, :, 1], index[1:, :, 0], index[1:, :, 1]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    opacity = np.broadcast_to(np.linspace(0.9, 0.4, steps)[:, None, None], strip.shape[:3]).ravel()
    albedo = np.broadcast_to(look.colour, (strip.size // 3, 3))
    return Thing(
        "hair wisps",
        strip.reshape(-1, 3).astype(np.float32),
        faces,
        albedo.astype(np.float32),
        opacity=opacity.astype(np.float32),
        gloss=0.2,
        occludes=False,
        casts_shadow=False,
    )


def _strands(
    across: np.ndarray, along: np.ndarray, offset: np.ndarray, size: float, curl: float
) -> Float[np.ndarray, " k"]:
    """Noise of strands about 5 `size` wide, metres; with curls as well."""
    value = at(strand_tile(), across / size + offset[0], along / (3 * size) + offset[1]) if curl < 1 else 0.0
    if curl > 0:
        curls = at(curl_tile(), across / (0.45 * size) + offset[1], along / (0.45 * size) + offset[0])
        value = (1 - curl) * value + curl * curls
    return np.asarray(value)


def _in_columns(values: np.ndarray, row: np.ndarray) -> Float[np.ndarray, " columns"]:
    """Values (rows, columns) at one place between the rows of each column."""
    return between_rows(values[..., None], row[None])[0, :, 0]


def _grid_normals(points: np.ndarray) -> Float[np.ndarray, "rows columns 3"]:
    """Unit normals of a sheet, outwards where its columns run down and go round to the subject's left."""
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
