"""Glasses: rims, lenses and temples, fitted to a face."""

from __future__ import annotations

import attrs
import numpy as np
from jaxtyping import Float

from partfit_synthetic.anchors import LEFT_EYE, NOSE_BRIDGE, RIGHT_EYE, FaceAnchors
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.things import Thing

#: Points around a rim, and rings across it.
_AROUND, _ACROSS = 36, 6


@attrs.frozen
class Frame:
    """A spectacle frame; lengths in metres on the mean head.

    Attributes:
        half_width: Of a lens.
        half_height: Of a lens.
        squareness: Exponent of the outline: 2 is an ellipse, 6 nearly a rectangle.
        drop: How much lower the outer half of a lens is; negative for cat eyes.
        narrow: How much narrower a lens is at its bottom, as a part of its width.
        bar: Radius of the rim; 0: none.
        upper_only: Whether the rim runs along the top only.
        wrap: How far the front bends around the face: metres back at the outer end.
        tilt: How much farther forward the top is than the bottom, metres each metre.
        bridge: Radius of the bridge.
        temple: Half height of the temples.
    """

    half_width: float
    half_height: float
    squareness: float
    drop: float
    narrow: float
    bar: float
    upper_only: bool
    wrap: float
    tilt: float
    bridge: float
    temple: float


@attrs.frozen(eq=False)
class Lens:
    """Colour and opacity of lenses over (x, y, side) in [-1, 1]: a tint, and what is mirrored in it.

    Attributes:
        tint: Linear RGB.
        opacity: Of the glass, at its top and its bottom.
        band: Direction and places of the reflection.
        light: Linear RGB of the reflection.
        strength: Its opacity.
    """

    tint: np.ndarray
    opacity: tuple[float, float]
    band: tuple[float, float, float]
    light: np.ndarray
    strength: float

    def _mirrored(self, rest: np.ndarray) -> Float[np.ndarray, " k"]:
        slant, place, width = self.band
        across = rest[:, 0] * np.cos(slant) + rest[:, 1] * np.sin(slant) - place - 0.3 * rest[:, 2]
        return self.strength * smoothstep(width, 0.6 * width, np.abs(across))

    def transparency(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, " k"]:
        """Opacity: (k, 3) -> (k,)."""
        top, bottom = self.opacity
        glass = bottom + (top - bottom) * smoothstep(-0.8, 0.8, rest[:, 1])
        return np.maximum(glass, self._mirrored(rest)).astype(np.float32)

    def __call__(self, rest: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Albedo: (k, 3) -> (k, 3)."""
        part = self._mirrored(rest)[:, None]
        return (self.tint * (1 - part) + self.light * part).astype(np.float32)


def glasses_things(anchors: FaceAnchors, rng: np.random.Generator) -> list[Thing]:
    """A pair of glasses on a face: frame and lenses."""
    sun = rng.random() < 0.15
    frame = random_frame(rng, sun)
    metal = frame.bar < 0.0012
    colour = _frame_colour(rng, metal)
    fit = _Fit.of(anchors, rng, frame)
    rims = [fit.rim(side) for side in (-1, 1)]
    parts = [part for side in (-1, 1) for part in fit.temple(side, rims[(side + 1) // 2])]
    parts += [fit.bridge(rims[0], rims[1], rng)]
    if frame.bar > 0:
        parts += [fit.bar(rim) for rim in rims]
    vertices, faces = _joined(parts)
    albedo = np.broadcast_to(colour, vertices.shape).astype(np.float32)
    gloss = rng.uniform(0.3, 1.0)
    things = [Thing("glasses", anchors.to_camera(vertices).astype(np.float32), faces, albedo, gloss=gloss)]
    things.append(_lenses(anchors, rng, frame, rims, sun))
    return things


def random_frame(rng: np.random.Generator, sun: bool) -> Frame:
    """Frames from round wire to thick and square; those of sun glasses are larger."""
    large = rng.uniform(1.05, 1.3) if sun else 1.0
    wire = rng.random() < (0.35 if sun else 0.62)
    return Frame(
        half_width=rng.uniform(0.0215, 0.0275) * large,
        half_height=rng.uniform(0.0125, 0.0225) * large,
        squareness=rng.choice([2.0, 2.6, 3.5, 6.0]),
        drop=rng.normal(0, 0.0015) - (0.004 if rng.random() < 0.08 else 0.0),
        narrow=rng.uniform(0, 0.22),
        bar=0.0
        if rng.random() < 0.10
        else (rng.uniform(0.0004, 0.0009) if wire else rng.uniform(0.0012, 0.0032)),
        upper_only=rng.random() < 0.12,
        wrap=rng.uniform(0.004, 0.014),
        tilt=rng.uniform(0.05, 0.25),
        bridge=rng.uniform(0.0006, 0.0022),
        temple=rng.uniform(0.0008, 0.0035) if not sun else rng.uniform(0.001, 0.006),
    )


def _frame_colour(rng: np.random.Generator, metal: bool) -> Float[np.ndarray, " 3"]:
    if metal:
        base = ((0.25, 0.25, 0.26), (0.35, 0.25, 0.12), (0.02, 0.02, 0.02))[
            rng.choice(3, p=[0.5, 0.25, 0.25])
        ]
        return np.asarray(base) * rng.uniform(0.6, 1.4)
    kind = rng.choice(4, p=[0.55, 0.25, 0.12, 0.08])
    if kind == 0:
        return np.full(3, rng.uniform(0.004, 0.02))
    if kind == 1:  # tortoiseshell
        return np.array([0.08, 0.035, 0.015]) * rng.uniform(0.4, 1.4)
    if kind == 2:
        return rng.uniform(0.01, 0.35, 3)
    return np.full(3, rng.uniform(0.3, 0.7))


def _lenses(
    anchors: FaceAnchors, rng: np.random.Generator, frame: Frame, rims: list[np.ndarray], sun: bool
) -> Thing:
    """Both lenses: fans inside the rims."""
    tint = np.full(3, rng.uniform(0.003, 0.03)) * np.exp(rng.normal(0, 0.3, 3))
    if sun and rng.random() < 0.1:  # mirrored
        tint = rng.uniform(0.05, 0.6, 3)
    top = rng.uniform(0.72, 0.98) if sun else rng.uniform(0.0, 0.06)
    bottom = top * (rng.uniform(0.4, 0.9) if sun and rng.random() < 0.4 else 1.0)
    mirrors = rng.random() < (0.6 if sun else 0.4)
    strength = rng.uniform(0.05, 0.55) ** (1.0 if sun or rng.random() < 0.5 else 1.6) if mirrors else 0.0
    lens = Lens(
        tint.astype(np.float32),
        (top, bottom),
        (rng.uniform(-1.5, 1.5), rng.normal(0, 0.5), rng.uniform(0.1, 0.7)),
        (rng.uniform(0.3, 1.0) * np.exp(rng.normal(0, 0.1, 3))).clip(0, 1).astype(np.float32),
        strength,
    )
    vertices: list[np.ndarray] = []
    rests: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    for side, rim in zip((-1, 1), rims, strict=True):
        middle = rim.mean(axis=0)
        start = len(vertices) * (_AROUND + 1)
        vertices.append(np.concatenate([middle[None], rim]))
        flat = (rim - middle)[:, :2] / [frame.half_width, frame.half_height] / anchors.size
        rests.append(np.concatenate([np.zeros((1, 3)), np.column_stack([flat, np.full(len(rim), side)])]))
        rests[-1][0, 2] = side
        index = np.arange(_AROUND)
        faces.append(start + np.stack([0 * index, 1 + index, 1 + (index + 1) % _AROUND], axis=1))
    return Thing(
        "lenses",
        anchors.to_camera(np.concatenate(vertices)).astype(np.float32),
        np.concatenate(faces),
        lens,
        rest=np.concatenate(rests).astype(np.float32),
        opacity=lens.transparency,
        gloss=0.3,
        occludes=sun,
        casts_shadow=sun,
    )


@attrs.frozen(eq=False)
class _Fit:
    """Where a frame sits on a face: all in the head's frame.

    Attributes:
        frame: What sits there.
        size: Factor on lengths.
        eyes: (2, 3) middles of the right and the left eye.
        height: Height of the lenses' middle.
        front: How far in front the lenses are.
        ears: (2, 3) where the temples end, right and left.
        roll: How askew the glasses sit, radians.
    """

    frame: Frame
    size: float
    eyes: np.ndarray
    height: float
    front: float
    ears: np.ndarray
    roll: float

    @classmethod
    def of(cls, anchors: FaceAnchors, rng: np.random.Generator, frame: Frame) -> _Fit:
        """Sits on the bridge of the nose, in front of the lashes."""
        points = anchors.to_head(anchors.landmarks)
        eyes = np.stack([points[RIGHT_EYE].mean(axis=0), points[LEFT_EYE].mean(axis=0)])
        bridge = points[NOSE_BRIDGE]
        height = eyes[:, 1].mean() - rng.uniform(-0.001, 0.009) * anchors.size
        on_nose = np.interp(-(height + 0.25 * frame.half_height), -bridge[:, 1], bridge[:, 2])
        front = max(on_nose + 0.001, eyes[:, 2].max() + 0.010 * anchors.size)
        ears = points[[0, 16]] + np.array([0.0, 0.022, -0.045]) * anchors.size
        ears[:, 0] *= 1.06
        return cls(frame, anchors.size, eyes, height, front, ears, rng.normal(0, 0.02))

    def place(self, flat: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        """Points of the bent and tilted front plane; x to the left, y up from the lenses' middle."""
        x, y = flat.T
        y = y + self.roll * x
        reach = (self.eyes[1, 0] - self.eyes[0, 0]) / 2 + self.frame.half_width * self.size
        z = self.front + self.frame.tilt * y - self.frame.wrap * self.size * (np.abs(x) / reach) ** 2
        return np.stack([x, y + self.height, z], axis=1)

    def rim(self, side: int) -> Float[np.ndarray, "around 3"]:
        """The outline of a lens; side -1 is the subject's right. Begins at the outer end, then upwards."""
        frame = self.frame
        angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
        cos, sin = np.cos(angle), np.sin(angle)
        power = 2 / frame.squareness
        x = np.sign(cos) * np.abs(cos) ** power * frame.half_width
        y = np.sign(sin) * np.abs(sin) ** power * frame.half_height
        x = x * (1 - frame.narrow * smoothstep(0.3, -1.0, y / frame.half_height))
        y = y - frame.drop * x / frame.half_width
        half = (self.eyes[1, 0] - self.eyes[0, 0]) / 2
        middle = max(half, (frame.half_width + 0.006) * self.size)
        return self.place(np.stack([side * (middle + x * self.size), y * self.size], axis=1))

    def bar(self, rim: Float[np.ndarray, "around 3"]) -> tuple[np.ndarray, np.ndarray]:
        """The rim's tube."""
        if self.frame.upper_only:
            return _tube(rim[: _AROUND // 2 + 1], self.frame.bar * self.size)
        return _tube(np.concatenate([rim, rim[:2]]), self.frame.bar * self.size)

    def bridge(
        self, right: np.ndarray, left: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bar between the lenses."""
        up = int(rng.integers(1, 4))
        inner = [rim[_AROUND // 2 - up] for rim in (right, left)]
        part = np.linspace(0, 1, 7)[:, None]
        path = inner[0] * (1 - part) + inner[1] * part
        path[:, 1:] += (np.sin(np.pi * part) * 0.003 * self.size) * [1.0, 1.0]
        return _tube(path, max(self.frame.bridge, self.frame.bar) * self.size)

    def temple(self, side: int, rim: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """A flat bar from the outer end of a lens to the ear, and behind it."""
        start, ear = rim[2], self.ears[(side + 1) // 2]
        out = np.array([side * 0.004, 0.0, -0.003]) * self.size
        hinge = start + out
        part = np.linspace(0, 1, 6)[:, None]
        path = hinge * (1 - part) + ear * part
        path[:, 0] += (side * 0.006 * self.size) * np.sin(np.pi * part[:, 0])
        end = ear + np.array([0.0, -0.018, -0.014]) * self.size
        path = np.concatenate([start[None], path, end[None]])
        return [_tube(path, self.frame.temple * self.size, flat=0.0009 * self.size)]


def _tube(
    path: Float[np.ndarray, "n 3"], radius: float, flat: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A bar along a path of the head's frame: round, or `flat` thick sideways and `radius` half high."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-12)
    across = np.cross(ahead, [0.0, 1.0, 0.0] if flat is not None else [0.0, 0.0, 1.0])
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    upwards = np.cross(across, ahead)
    angle = np.linspace(0, 2 * np.pi, _ACROSS, endpoint=False)
    thick = radius if flat is None else flat
    ring = (
        thick * np.cos(angle)[:, None] * across[:, None] + radius * np.sin(angle)[:, None] * upwards[:, None]
    )
    vertices = (path[:, None] + ring).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(len(path), _ACROSS)
    after = np.roll(index, -1, axis=1)
    first = np.stack([index[:-1], after[:-1], index[1:]], axis=-1).reshape(-1, 3)
    second = np.stack([after[:-1], after[1:], index[1:]], axis=-1).reshape(-1, 3)
    return vertices, np.concatenate([first, second])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)
