"""What is worn on a head: caps, hats, scarves, and masks over the mouth."""

from __future__ import annotations

import itertools
from typing import Literal, TypeAlias

import attrs
import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix, csr_matrix, diags

from partfit_synthetic.anchors import JAW, NOSE_BRIDGE, FaceAnchors
from partfit_synthetic.clothes import Cloth, grid_faces, random_cloth
from partfit_synthetic.hair import Style, shell_of
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.scalp import Scalp, between_rows, scalp_of
from partfit_synthetic.things import Thing
from partfit_synthetic.tiles import smooth_curve

Kind: TypeAlias = Literal["cap", "beanie", "brimmed", "headscarf", "band", "mask"]

#: How common each kind is.
_KINDS: dict[Kind, float] = {
    "cap": 0.27,
    "beanie": 0.17,
    "brimmed": 0.14,
    "headscarf": 0.17,
    "band": 0.06,
    "mask": 0.19,
}
#: Albedo of masks, linear RGB, and how common it is.
_MASKS = {
    "blue": ((0.35, 0.55, 0.68), 0.4),
    "white": ((0.75, 0.77, 0.78), 0.3),
    "black": ((0.015, 0.015, 0.017), 0.22),
    "green": ((0.25, 0.45, 0.40), 0.08),
}


def hat_things(anchors: FaceAnchors, rng: np.random.Generator) -> list[Thing]:
    """A hat, a scarf around the head, or a mask. Hair below it should be drawn with `covered=True`."""
    kinds = tuple(_KINDS)
    return dressed_head(anchors, rng, kinds[rng.choice(len(kinds), p=tuple(_KINDS.values()))])


def dressed_head(anchors: FaceAnchors, rng: np.random.Generator, kind: Kind) -> list[Thing]:
    """What is worn of one kind."""
    cloth = random_cloth(rng)
    if cloth.pattern == "suit":
        cloth = attrs.evolve(cloth, pattern="plain")
    if kind == "mask":
        return [_mask(anchors, rng)]
    if kind == "headscarf":
        return _headscarf(anchors, rng, cloth)
    line = _Line.random(rng, kind)
    scalp = scalp_of(anchors)
    crown = _crown(anchors, scalp, rng, line)
    things = [_sheet("hat", anchors, crown, cloth)]
    if line.brim > 0:
        rim = attrs.evolve(cloth, offset=cloth.offset + 50)
        things.append(_sheet("hat", anchors, _brim(anchors, scalp, crown[-1], rng, line), rim))
    if kind == "beanie" and rng.random() < 0.6:
        fold = np.stack([crown[-1], crown[-2] + 0.35 * (crown[-2] - crown[-3])])
        out = fold - scalp.centre * anchors.size
        fold = np.stack([fold[0], fold[0] + 0.05 * out[0], fold[1] + 0.05 * out[1], fold[1]])
        things.append(_sheet("hat", anchors, fold, cloth))
    return things


@attrs.frozen(kw_only=True)
class _Line:
    """The shape of a hat; metres on the mean head.

    Attributes:
        front: Height of its edge over the brows in front.
        side: The same over the ears.
        back: The same behind.
        thickness: Distance from the scalp at the edge.
        height: How much more at the top.
        box: How much more in front, halfway up.
        brim: Width of the brim; 0: none.
        peak: Whether the brim is a peak, in front only.
        droop: How far the brim's outer edge hangs, metres each metre.
        open: Whether the top is open: a band.
    """

    front: float
    side: float
    back: float
    thickness: float
    height: float = 0.0
    box: float = 0.0
    brim: float = 0.0
    peak: bool = False
    droop: float = 0.0
    open: bool = False

    @classmethod
    def random(cls, rng: np.random.Generator, kind: Kind) -> _Line:
        if kind == "cap":
            return cls(
                front=rng.uniform(0.014, 0.042),
                side=rng.uniform(0.005, 0.02),
                back=rng.uniform(-0.03, 0.0),
                thickness=rng.uniform(0.008, 0.013),
                height=rng.uniform(0.005, 0.02),
                box=rng.uniform(0.0, 0.015),
                brim=rng.uniform(0.05, 0.08),
                peak=True,
                droop=rng.uniform(-0.1, 0.6),
            )
        if kind == "beanie":
            ears = rng.random() < 0.5
            return cls(
                front=rng.uniform(0.008, 0.055),
                side=rng.uniform(-0.06, -0.03) if ears else rng.uniform(0.0, 0.02),
                back=rng.uniform(-0.06, -0.02),
                thickness=rng.uniform(0.012, 0.018) + 0.008 * ears,
                height=rng.uniform(0.005, 0.04),
            )
        if kind == "brimmed":
            return cls(
                front=rng.uniform(0.016, 0.045),
                side=rng.uniform(0.005, 0.025),
                back=rng.uniform(-0.02, 0.01),
                thickness=rng.uniform(0.009, 0.014),
                height=rng.uniform(0.02, 0.05),
                box=rng.uniform(0.0, 0.02),
                brim=rng.uniform(0.035, 0.10),
                droop=rng.uniform(-0.3, 0.5),
            )
        return cls(
            front=rng.uniform(0.025, 0.055),
            side=rng.uniform(0.0, 0.03),
            back=rng.uniform(-0.03, 0.02),
            thickness=rng.uniform(0.004, 0.012),
            open=True,
        )


def _crown(
    anchors: FaceAnchors, scalp: Scalp, rng: np.random.Generator, line: _Line
) -> Float[np.ndarray, "rows columns 3"]:
    """The part of a hat that sits on the head, from the top to its edge; head's frame."""
    front = (1 + np.cos(scalp.azimuth)) / 2
    heights = np.where(
        np.cos(scalp.azimuth) > 0,
        line.side + (line.front - line.side) * np.cos(scalp.azimuth) ** 2,
        line.side + (line.back - line.side) * np.cos(scalp.azimuth) ** 2,
    )
    last = scalp.row_at_height(scalp.brow_height + heights)
    first = scalp.row_at_height(scalp.brow_height + heights + 0.035) if line.open else 0 * last
    part = np.linspace(0, 1, 4 if line.open else 11)[:, None]
    row = first + (last - first) * part
    base = between_rows(scalp.on(anchors), row)
    out = base - scalp.centre * anchors.size
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    up = 1 - part
    lift = line.thickness + line.height * smoothstep(0.0, 0.7, up) + line.box * front**3 * np.sin(np.pi * up)
    lift = lift * (1 + 0.06 * smooth_curve(rng, scalp.azimuth, 5, 2 * np.pi))
    return base + out * (lift * anchors.size)[..., None]


def _brim(
    anchors: FaceAnchors,
    scalp: Scalp,
    edge: Float[np.ndarray, "columns 3"],
    rng: np.random.Generator,
    line: _Line,
) -> Float[np.ndarray, "rows columns 3"]:
    """A brim all around, or a peak in front; head's frame."""
    out = (edge - scalp.centre * anchors.size) * [1.0, 0.0, 1.0]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    width = line.brim * (1 + 0.1 * smooth_curve(rng, scalp.azimuth, 3, 2 * np.pi))
    if line.peak:
        out = 0.35 * out + [0.0, 0.0, 0.65]
        width = line.brim * smoothstep(1.25, 0.5, np.abs(scalp.azimuth))
        if rng.random() < 0.12:  # worn back to front
            out, width = out * [1.0, 1.0, -1.0], np.roll(width[:-1], len(width) // 2)
            width = np.append(width, width[0])
    part = np.array([0.0, 0.5, 1.0])[:, None]
    reach = part * width * anchors.size
    brim = edge + out * reach[..., None]
    curve = line.droop * reach * (0.4 + 0.6 * part)
    if line.peak:  # the peak is bent down at its sides
        curve = curve + 0.6 * reach * np.sin(scalp.azimuth) ** 2
    brim[..., 1] -= curve
    return brim


def _headscarf(anchors: FaceAnchors, rng: np.random.Generator, cloth: Cloth) -> list[Thing]:
    """A scarf over the hair, the ears and the neck, open at the face."""
    scalp = scalp_of(anchors)
    side = rng.uniform(0.85, 1.15)
    style = Style(
        front=rng.uniform(0.025, 0.05),
        thickness=rng.uniform(0.008, 0.018),
        volume=0.12,
        hanging=rng.uniform(0.10, 0.2),
        face_side=(side, side),
        flare=rng.uniform(-0.15, 0.25),
    )
    shell = shell_of(anchors, scalp, rng, style)
    things = [_sheet("headscarf", anchors, shell, cloth)]
    things.append(_under_chin(anchors, rng, cloth))
    return things


def _under_chin(anchors: FaceAnchors, rng: np.random.Generator, cloth: Cloth) -> Thing:
    """The cloth of a headscarf that runs from ear to ear below the chin, and down."""
    jaw = anchors.to_head(anchors.landmarks[JAW])
    size = anchors.size
    snug = rng.uniform(0.002, 0.012) * size
    out = jaw * [1.0, 0.0, 1.0] - np.array([0.0, 0.0, -0.08]) * size
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    below = jaw + np.array([0.0, -1.0, 0.0]) * snug
    edge = below + out * 0.006 * size
    rows = [edge - out * 0.03 * size, edge]
    for down in (0.02, 0.05, 0.09, 0.14):
        inward = -0.012 * np.sin(np.pi * min(down / 0.09, 1))
        drop = np.array([0.0, -down, 0.0]) * size
        folds = 0.003 * smooth_curve(rng, np.arange(len(jaw)), 5, len(jaw))[:, None] * size
        rows.append(edge + drop + out * (inward * size + folds))
    return _sheet("headscarf", anchors, np.stack(rows), cloth)


def _sheet(
    name: str, anchors: FaceAnchors, points: Float[np.ndarray, "rows columns 3"], cloth: Cloth
) -> Thing:
    """A cloth over points of the head's frame."""
    flat = points.reshape(-1, 3)
    vertices = anchors.to_camera(flat).astype(np.float32)
    rest = (flat / anchors.size).astype(np.float32)
    faces = grid_faces(*points.shape[:2])
    a, b, c = (flat[faces[:, k]] for k in range(3))
    faces = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-8]  # a peak has no width at its sides
    return Thing(name, vertices, faces, cloth, rest=rest, gloss=0.05)


def _mask(anchors: FaceAnchors, rng: np.random.Generator) -> Thing:
    """A mask over mouth, nose and chin: the face's own surface, smoothed and lifted."""
    cut = _mask_cut(anchors)
    points = (
        anchors.vertices[cut.vertices].astype(float) + 0.004 * anchors.size * anchors.normals[cut.vertices]
    )
    for _ in range(12):
        points = cut.smoothing @ points
    away = anchors.rotation @ np.array([0.0, 0.0, 1.0])
    points = points + (rng.uniform(0.003, 0.010) * anchors.size * cut.bulge[:, None]) * away
    colours, chances = zip(*_MASKS.values(), strict=True)
    colour = np.array(colours[rng.choice(len(colours), p=chances)]) * np.exp(rng.normal(0, 0.12))
    cloth = attrs.evolve(random_cloth(rng), pattern="plain", colours=np.tile(colour.clip(0, 0.9), (3, 1)))
    cloth = attrs.evolve(
        cloth, pattern="stripes" if rng.random() < 0.4 else "plain", opening=(0.0, 0.0), scale=0.014
    )
    cloth = attrs.evolve(cloth, colours=cloth.colours * np.array([1.0, 0.8, 1.0])[:, None])
    rest = anchors.canonical[cut.vertices].astype(np.float32)
    return Thing("mask", points.astype(np.float32), cut.faces, cloth, rest=rest, gloss=0.05)


@attrs.frozen(eq=False)
class _MaskCut:
    """Which part of a head's mesh a mask lies on.

    Attributes:
        vertices: (n,) indices into the head's vertices.
        faces: (f, 3) indices into those.
        smoothing: (n, n) sparse: moves each vertex towards its neighbours.
        bulge: (n,) how far from the skin the mask stands: 0 at its edge, 1 in the middle.
    """

    vertices: np.ndarray
    faces: np.ndarray
    smoothing: csr_matrix
    bulge: np.ndarray


_cuts: dict[bytes, _MaskCut] = {}


def _mask_cut(anchors: FaceAnchors) -> _MaskCut:
    """The mask's part of a head's model: worked out once per process."""
    key = anchors.canonical[::61].tobytes() + np.int64(len(anchors.faces)).tobytes()
    if key not in _cuts:
        _cuts[key] = _make_cut(anchors)
    return _cuts[key]


def _make_cut(anchors: FaceAnchors) -> _MaskCut:
    points, marks = anchors.canonical, anchors.canonical_landmarks
    top = float(marks[NOSE_BRIDGE[1], 1])
    chin, edge = marks[8], float(marks[1, 2])
    height = (points[:, 1] - chin[1]) / (top - chin[1])
    # narrower towards the ears, where the straps are
    sideways = np.clip((marks[30, 2] - points[:, 2]) / (marks[30, 2] - edge), 0, 1)
    inside = (height < 1 - 0.45 * sideways**1.5) & (height > -0.14 + 0.25 * sideways) & (sideways < 0.93)
    inside[anchors.region("mouth_cavity")] = False
    for name in ("tongue", "upper_teeth", "lower_teeth", "ears"):
        inside[anchors.region(name)] = False
    kept = anchors.faces[inside[anchors.faces].all(axis=1)]
    vertices, faces = np.unique(kept, return_inverse=True)
    faces = _without_holes(faces.reshape(-1, 3))
    n = len(vertices)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    near = coo_matrix((np.ones(2 * len(ends)), (ends.ravel(), ends[:, ::-1].ravel())), (n, n)).tocsr()
    near.data[:] = 1
    degree = np.asarray(near.sum(axis=1)).ravel()
    smoothing = 0.4 * diags(np.ones(n)) + 0.6 * diags(1 / degree) @ near
    bulge = smoothstep(0.0, 0.6, 1 - sideways[vertices])
    return _MaskCut(vertices, faces, smoothing.tocsr(), bulge)


def _without_holes(faces: np.ndarray) -> np.ndarray:
    """Faces with all rims closed but the longest: the mouth and the nostrils."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {(int(a), int(b)) for a, b in sides}
    after = {b: a for a, b in there if (b, a) not in there}
    rims: list[list[int]] = []
    while after:
        rim = [next(iter(after))]
        while rim[-1] in after:
            rim.append(after.pop(rim[-1]))
        rims.append(rim[:-1])
    rims.sort(key=len)
    lids = [[(rim[0], a, b) for a, b in itertools.pairwise(rim[1:])] for rim in rims[:-1]]
    return np.concatenate([faces, np.array(list(itertools.chain(*lids)), dtype=faces.dtype).reshape(-1, 3)])
