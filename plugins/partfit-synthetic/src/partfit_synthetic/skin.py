"""The look of skin and of what a face has: brows, lids, eyes, lips, teeth, beard. All colours linear RGB.

Sizes are metres on the mean head, see `PartMaps.canonical`: what is drawn stays on its place whatever the
identity and the expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit_synthetic import anchors, maps
from partfit_synthetic.maps import FaceMaps, PartMaps
from partfit_synthetic.noise import fractal, noise, smoothstep
from partfit_synthetic.things import single

#: Skin from very dark to very light.
_TONES = np.array(
    [
        [0.040, 0.020, 0.012],
        [0.110, 0.053, 0.031],
        [0.230, 0.115, 0.065],
        [0.370, 0.205, 0.122],
        [0.520, 0.312, 0.205],
        [0.640, 0.415, 0.295],
        [0.720, 0.500, 0.395],
    ]
)
_IRISES = np.array(
    [
        [0.045, 0.020, 0.010],
        [0.090, 0.042, 0.018],
        [0.160, 0.085, 0.035],
        [0.150, 0.130, 0.055],
        [0.090, 0.125, 0.090],
        [0.075, 0.120, 0.175],
        [0.130, 0.155, 0.175],
    ]
)
#: How common each is: the first are brown.
_IRIS_SHARES = np.array([0.34, 0.28, 0.13, 0.07, 0.06, 0.07, 0.05])
_LIPSTICKS = np.array(
    [[0.42, 0.02, 0.03], [0.30, 0.01, 0.05], [0.55, 0.10, 0.12], [0.50, 0.16, 0.20], [0.20, 0.02, 0.04]]
)
_UPPER_WIDTHS = np.array([8.6, 6.8, 7.8, 7.0, 6.8, 9.5, 9.0]) * 1e-3
_LOWER_WIDTHS = np.array([5.4, 6.0, 7.0, 7.0, 7.2, 10.5, 10.0]) * 1e-3
_SCLERA = np.array([0.49, 0.44, 0.41])
_GUM = np.array([0.36, 0.12, 0.11], dtype=np.float32)
#: What blood makes of the colour of every skin.
_BLUSH = np.array([1.09, 0.915, 1.02])
#: Times that the lips' border is smoothed over its neighbours.
_LIP_FADING = 2
_BLOOD = np.array([1.06, 0.80, 0.80], dtype=np.float32)
#: How much of each colour the shadows below the eyes take.
_RINGS = np.array([0.8, 1.0, 0.9], dtype=np.float32)


@attrs.frozen(eq=False)
class Look:
    """What one subject looks like.

    Attributes:
        seeds: (8, 3) offsets into noise.
        base: (3,) albedo of the skin.
        redness: Of cheeks, nose and ears.
        blotches: Of the low frequencies.
        pores: Of the high frequencies.
        freckles: Strength.
        moles: Strength.
        age: 0 young, 1 old: wrinkles, shadows below the eyes.
        oil: Gloss of the skin.
        hair: (3,) albedo of brows and beard.
        brow_strength: Opacity of the brows; near 0 where they are so light that they hardly show.
        brow_thickness: Half of their height, metres.
        brow_shape: (lift, arch, tilt, shift of the inner end), metres.
        brow_texture: How much single hairs show.
        lips: (3,) albedo.
        lip_gloss: Gloss.
        lip_edge: Where the red ends: 0.5 in the middle of the transition of the mesh.
        lashes: Darkness of the rims of the lids.
        liner: Width of that, metres.
        crease: Darkness of the crease of the upper lids.
        crease_at: How far above the rim it runs, metres.
        shadow: (3,) colour of the lids.
        shadow_strength: Of it.
        iris, sclera: (3,) albedo.
        iris_radius, pupil_radius: Metres.
        teeth: (3,) albedo.
        teeth_light: Share of the light on the lips that reaches the front teeth.
        gaps: Darkness between teeth.
        tooth_scale: Width of the teeth over the average.
        gum_height: How far the teeth reach to the gums, metres.
        beard: (V,) density of what grows, 0 to 1, of the vertices; None without.
        beard_length: 0 stubble, 1 full.
        scalp: Density of cropped hair on the scalp.
    """

    seeds: np.ndarray
    base: np.ndarray = attrs.field(converter=single)
    redness: float
    blotches: float
    pores: float
    freckles: float
    moles: float
    age: float
    oil: float
    hair: np.ndarray = attrs.field(converter=single)
    brow_strength: float
    brow_thickness: float
    brow_shape: np.ndarray
    brow_texture: float
    lips: np.ndarray = attrs.field(converter=single)
    lip_gloss: float
    lip_edge: float
    lashes: float
    liner: float
    crease: float
    crease_at: float
    shadow: np.ndarray = attrs.field(converter=single)
    shadow_strength: float
    iris: np.ndarray = attrs.field(converter=single)
    sclera: np.ndarray = attrs.field(converter=single)
    iris_radius: float
    pupil_radius: float
    teeth: np.ndarray = attrs.field(converter=single)
    teeth_light: float
    gaps: float
    tooth_scale: float
    gum_height: float
    beard: np.ndarray | None
    beard_length: float
    scalp: float


def random_look(face: FaceMaps | None, hair: Float[np.ndarray, " 3"], rng: np.random.Generator) -> Look:
    """A look; `hair` is the albedo of the hair on the head."""
    tone = rng.beta(1.7, 1.0)
    base = np.array([np.interp(tone * (len(_TONES) - 1), range(len(_TONES)), c) for c in _TONES.T])
    base = np.clip(
        base * _BLUSH * np.exp(rng.normal(size=3) * [0.04, 0.03, 0.06]) * np.exp(rng.normal() * 0.08), 0, 0.85
    )
    made_up = rng.random() < 0.4
    grey = hair.mean() > 0.12 and np.ptp(hair) < 0.2 * hair.mean()
    age = rng.beta(3.0, 1.2) if grey else rng.beta(1.1, 1.8)
    dark = tone < 0.5 and rng.random() < 0.85
    own_hair = np.clip(
        (np.minimum(hair, [0.03, 0.022, 0.018]) if dark else hair)
        * rng.uniform(0.4, 0.9)
        * np.exp(rng.normal(size=3) * 0.08),
        0.004,
        0.7,
    )
    lips = base * [0.85, 0.54, 0.56] * np.exp(rng.normal(size=3) * [0.08, 0.12, 0.10])
    if made_up and rng.random() < 0.7:
        stick = _LIPSTICKS[rng.integers(len(_LIPSTICKS))] * np.exp(rng.normal(size=3) * 0.2)
        lips = lips + rng.uniform(0.3, 0.95) * (stick * (0.4 + 0.6 * tone) - lips)
    else:
        lips = lips + rng.uniform(0, 0.45) * (base - lips)
    beard, length = (None, 0.0) if face is None or made_up else _random_beard(face, rng)
    teeth = np.array([0.88, 0.82, 0.74]) * np.exp(rng.normal() * 0.08) * [1, 1, rng.uniform(0.85, 1.08)]
    brown = 3 if tone < 0.65 and rng.random() < 0.93 else len(_IRISES)
    iris = rng.choice(brown, p=_IRIS_SHARES[:brown] / _IRIS_SHARES[:brown].sum())
    return Look(
        seeds=rng.uniform(0, 30, (8, 3)),
        base=base,
        redness=rng.uniform(0, 1.0) * (0.4 + 0.6 * tone),
        blotches=rng.uniform(0.015, 0.06),
        pores=rng.uniform(0.005, 0.045),
        freckles=rng.uniform(0.1, 0.45) if rng.random() < 0.12 and tone > 0.5 else 0.0,
        moles=rng.uniform(0.2, 0.7) if rng.random() < 0.3 else 0.0,
        age=age,
        oil=0.7 * rng.uniform(0.1, 0.9) ** 1.5,
        hair=own_hair,
        brow_strength=rng.uniform(0.55, 1.0) if rng.random() < 0.9 else rng.uniform(0.05, 0.45),
        brow_thickness=rng.uniform(0.0020, 0.0056) * (0.75 if made_up else 1.0),
        brow_shape=rng.normal(size=4) * [0.0013, 0.0016, 0.0012, 0.003],
        brow_texture=rng.uniform(0.3, 1.0),
        lips=np.clip(lips, 0.005, 0.8),
        lip_gloss=rng.uniform(0.05, 0.4) + (rng.uniform(0, 0.8) if made_up else 0.0),
        lip_edge=rng.uniform(0.42, 0.68),
        lashes=rng.uniform(0.75, 1.0) if made_up else rng.uniform(0.55, 1.0),
        liner=rng.uniform(0.0014, 0.0030) if made_up else rng.uniform(0.0012, 0.0023),
        crease=rng.uniform(0.1, 0.55),
        crease_at=rng.uniform(0.0030, 0.0065),
        shadow=rng.uniform(0.02, 0.3, 3) if made_up else base * [0.75, 0.62, 0.60],
        shadow_strength=rng.uniform(0, 0.5),
        iris=0.75 * _IRISES[iris] * np.exp(rng.normal() * 0.3),
        sclera=_SCLERA * np.exp(rng.normal() * 0.12) * [1, rng.uniform(0.9, 1.02), rng.uniform(0.85, 1.05)],
        iris_radius=rng.uniform(0.0054, 0.0063),
        pupil_radius=rng.uniform(0.0012, 0.0032),
        teeth=np.clip(teeth, 0, 0.95),
        teeth_light=rng.uniform(1.0, 1.6),
        gaps=rng.uniform(0.1, 0.55),
        tooth_scale=rng.uniform(0.85, 1.15),
        gum_height=rng.uniform(0.0085, 0.0120),
        beard=beard,
        beard_length=length,
        scalp=rng.uniform(0.3, 1.0) if rng.random() < 0.6 else 0.0,
    )


def _random_beard(face: FaceMaps, rng: np.random.Generator) -> tuple[np.ndarray | None, float]:
    """Density on the vertices, and length."""
    style = rng.choice(
        ["none", "stubble", "full", "moustache", "goatee", "chin"],
        p=[0.56, 0.18, 0.10, 0.08, 0.06, 0.02],
    )
    if style == "none":
        return None, 0.0
    sides = np.clip(face.beard - face.moustache - face.chin, 0, 1)
    shares = {
        "stubble": (1.0, rng.uniform(0.7, 1.2), rng.uniform(0.7, 1.2)),
        "full": (1.0, 1.0, 1.0),
        "moustache": (0.0, 1.0, 0.0),
        "goatee": (0.0, 1.0, 1.0),
        "chin": (0.0, 0.0, 1.0),
    }[style]
    density = np.clip(sides * shares[0] + face.moustache * shares[1] + face.chin * shares[2], 0, 1)
    if style == "stubble":
        return density * rng.uniform(0.1, 0.55), 0.0
    shadow = face.beard * rng.uniform(0, 0.15) if rng.random() < 0.5 else 0.0
    return np.maximum(density * rng.uniform(0.6, 1.0), shadow), rng.uniform(0.4, 1.0)


def vertex_columns(part: PartMaps, look: Look) -> Float[np.ndarray, "vertices 7"]:
    """(V, 7) float32, for `paint`: the skin's slow changes (3), lips, beard, scalp, oily zone."""
    columns = np.zeros((len(part.canonical), 7), dtype=np.float32)
    columns[:, :3] = _vertex_albedo(part, look)
    if part.face is not None:
        columns[:, 3] = _soft_lips(part, part.face)
        if look.beard is not None:
            columns[:, 4] = look.beard
        columns[:, 5] = look.scalp * part.face.scalp
        columns[:, 6] = part.face.t_zone
    return columns


def _vertex_albedo(part: PartMaps, look: Look) -> Float[np.ndarray, "vertices 3"]:
    """(V, 3) the skin's slow changes."""
    points = part.canonical
    tint = 1 + look.blotches * fractal(points, 0.022, look.seeds[0])
    blood = 0.12 * look.blotches * 8 * np.clip(noise(points, 0.03, look.seeds[1]), -1.5, 1.5)
    albedo = look.base * tint[:, None]
    if part.face is not None:
        face = part.face
        blood = blood + look.redness * (1.1 * face.cheeks + 1.0 * face.nose + 0.8 * face.ears + 0.15)
        dark = (0.10 + 0.30 * look.age) * face.shadows_of_eyes
        albedo = albedo * (1 - dark[:, None] * _RINGS)
        albedo = albedo * (1 - 0.85 * face.nostrils[:, None])
        shade = (look.shadow_strength * face.lids)[:, None]
        albedo = albedo + shade * (look.shadow - albedo)
    return albedo * (1 + np.clip(blood, -1, 2)[:, None] * (_BLOOD - 1))


@attrs.frozen(eq=False)
class Surface:
    """The look of points of the part.

    Attributes:
        albedo: (k, 3).
        gloss: (k,) strength of highlights.
        sharpness: (k,) exponent of their lobe.
    """

    albedo: np.ndarray
    gloss: np.ndarray
    sharpness: np.ndarray


def paint(
    part: PartMaps,
    look: Look,
    points: Float[np.ndarray, "k 3"],
    material: Int[np.ndarray, " k"],
    slow: Float[np.ndarray, "k 7"],
    creases: Mapping[str, float],
) -> Surface:
    """The look of points, from the slow changes at the vertices.

    Args:
        part: The maps.
        look: The subject's look.
        points: (k, 3) where on the mean part they lie.
        material: (k,) see `partfit_synthetic.maps`.
        slow: (k, 7) `vertex_columns`, interpolated.
        creases: Strength of the wrinkles that an expression adds: `forehead`, `eyes`, `cheeks`.
    """
    albedo = slow[:, :3] * (1 + look.pores * (noise(points, 0.0016, look.seeds[2])))[:, None]
    gloss = look.oil * (0.35 + 0.9 * slow[:, 6])
    surface = Surface(albedo, gloss, np.full(len(points), 14.0, dtype=np.float32))
    nails = material == maps.NAIL
    surface.albedo[nails] = surface.albedo[nails] * 0.6 + [0.28, 0.18, 0.17]
    surface.gloss[nails] = 0.8
    if part.face is None:
        return surface
    skin = np.flatnonzero(material == maps.SKIN)
    _paint_skin(part.face, look, points.take(skin, axis=0), slow.take(skin, axis=0), surface, skin, creases)
    for eye in (maps.LEFT_EYE, maps.RIGHT_EYE):
        _paint_eye(part.face, look, points, np.flatnonzero(material == eye), eye, surface)
    for row in (maps.UPPER_TEETH, maps.LOWER_TEETH):
        _paint_teeth(part.face, look, points, np.flatnonzero(material == row), row, surface)
    for kind, colour in ((maps.TONGUE, [0.36, 0.13, 0.12]), (maps.CAVITY, [0.13, 0.034, 0.03])):
        inside = np.flatnonzero(material == kind)
        lit = smoothstep(-0.035, 0.022, points[inside, 2])  # it is dark deep inside
        surface.albedo[inside] = (0.12 + 0.88 * lit)[:, None] * colour
        surface.gloss[inside] = 0.3 * lit
    return surface


_lips: WeakKeyDictionary[PartMaps, np.ndarray] = WeakKeyDictionary()


def _soft_lips(part: PartMaps, face: FaceMaps) -> Float[np.ndarray, " vertices"]:
    """(V,) the red of the lips with a border that fades over a few vertices."""
    if part not in _lips:
        n, skin_faces = len(part.canonical), part.faces[part.material == maps.SKIN]
        corners = skin_faces.ravel()
        count = np.maximum(np.bincount(corners, minlength=n), 1)
        soft = face.lips.astype(float)
        for _ in range(_LIP_FADING):
            mean = np.bincount(corners, np.repeat(soft[skin_faces].mean(axis=1), 3), n) / count
            soft = mean
        _lips[part] = soft.astype(np.float32)
    return _lips[part]


def _paint_skin(
    face: FaceMaps,
    look: Look,
    points: Float[np.ndarray, "k 3"],
    slow: Float[np.ndarray, "k 7"],
    surface: Surface,
    rows: Int[np.ndarray, " k"],
    creases: Mapping[str, float],
) -> None:
    albedo = surface.albedo.take(rows, axis=0)
    if look.freckles:
        spots = smoothstep(1.0, 2.2, noise(points, 0.0022, look.seeds[3]))
        albedo *= 1 - (look.freckles * spots * (points[:, 2] > -0.02))[:, None] * [0.5, 0.8, 0.9]
    if look.moles:
        spots = smoothstep(3.0, 3.4, noise(points, 0.0035, look.seeds[4]))
        albedo *= 1 - (look.moles * spots)[:, None]
    left = _wrinkles(face, look, points, creases)
    albedo[:, 0] *= left**0.8
    albedo[:, 1:] *= left[:, None]
    lips = smoothstep(look.lip_edge - 0.3, look.lip_edge + 0.3, slow[:, 3])
    lines = 1 + 0.10 * noise(points, (0.0009, 0.006, 0.006), look.seeds[5])
    albedo += lips[:, None] * (look.lips * lines[:, None] - albedo)
    surface.gloss[rows] += lips * (look.lip_gloss - surface.gloss[rows])
    surface.sharpness[rows] += lips * 14
    _paint_hair(look, points, slow[:, 4], look.beard_length, albedo)
    _paint_hair(look, points, 0.6 * slow[:, 5], 0.0, albedo)
    _paint_brows(face, look, points, albedo)
    _paint_rims(face, look, points, albedo)
    surface.albedo[rows] = albedo


def _wrinkles(
    face: FaceMaps, look: Look, points: Float[np.ndarray, "k 3"], creases: Mapping[str, float]
) -> Float[np.ndarray, " k"]:
    """(k,) what wrinkles leave of the light."""
    left = np.ones(len(points), dtype=np.float32)
    x, y = np.abs(points[:, 0]), points[:, 1]
    forehead = min(1.0, 0.35 * look.age**2 + creases["forehead"] * (0.2 + 0.8 * look.age))
    if forehead > 0.03:
        zone = smoothstep(0.032, 0.040, y) * smoothstep(0.075, 0.062, y) * smoothstep(0.05, 0.03, x)
        bend = y + 0.002 * noise(points, (0.02, 0.2, 0.2), look.seeds[6]) - 4.0 * points[:, 0] ** 2
        wave = np.cos(2 * np.pi * bend / 0.0078)
        left -= 0.26 * forehead * zone * smoothstep(0.55, 1.0, wave)
    frown = min(1.0, 0.3 * look.age**2 + creases["frown"])
    if frown > 0.03:
        zone = smoothstep(0.006, 0.012, y) * smoothstep(0.042, 0.030, y)
        left -= 0.35 * frown * zone * np.exp(-(((x - 0.006) / 0.0011) ** 2))
    cheeks = min(1.0, 0.15 + 0.5 * look.age + 0.9 * creases["cheeks"])
    wing, corner = face.landmarks[35], face.landmarks[54]
    along = np.clip((wing[1] - y) / (wing[1] - corner[1] + 0.006), -0.3, 1.4)
    fold = wing[0] + 0.004 + (corner[0] + 0.006 - wing[0]) * along + 0.003 * np.sin(np.pi * along)
    zone = smoothstep(-0.15, 0.15, along) * smoothstep(1.25, 0.8, along) * (points[:, 2] > 0.0)
    # a line, and the shade of the cheek that bulges beside it
    near = np.flatnonzero(zone > 0.01)
    square = np.square((x[near] - fold[near]) / 0.0026)
    left[near] -= cheeks * zone[near] * (0.20 * np.exp(-square) + 0.18 * np.exp(-0.13 * square))
    eyes = min(1.0, 0.65 * look.age**1.5 + creases["eyes"] * (0.25 + 0.75 * look.age))
    if eyes > 0.03:
        out = face.landmarks[45]
        dx, dy = x - out[0], y - out[1]
        angle = np.arctan2(dy, dx + 0.004)
        zone = smoothstep(0.003, 0.007, dx) * smoothstep(0.021, 0.012, np.hypot(dx, dy))
        left -= 0.26 * eyes * zone * smoothstep(0.5, 1.0, np.cos(angle * 11))
        below = np.exp(-(((dy + 0.011 + 12 * (x - 0.032) ** 2 - 0.012 * (x - 0.032)) / 0.0012) ** 2))
        left -= 0.26 * eyes * below * smoothstep(0.052, 0.042, x) * smoothstep(0.014, 0.022, x)
    return left


def _paint_hair(
    look: Look,
    points: Float[np.ndarray, "k 3"],
    density: Float[np.ndarray, " k"],
    length: float,
    albedo: Float[np.ndarray, "k 3"],
) -> None:
    """Beard or cropped hair, in place: dots where it is short, strokes downwards where it is long."""
    rows = np.flatnonzero(density > 0.02)
    if not len(rows):
        return
    points, density = points.take(rows, axis=0), density.take(rows)
    if length > 0:
        strokes = noise(points, (0.0008, 0.0050, 0.0016), look.seeds[7])
        clumps = noise(points, 0.007, look.seeds[3])
        uneven = smoothstep(0.1, 0.5, density) * smoothstep(1.0, 0.7, density)
        edge = density + (0.22 * strokes + 0.14 * clumps) * uneven
        cover = (0.75 + 0.2 * length) * smoothstep(0.1, 0.95, edge)
        shade = 1 + 0.35 * strokes + 0.2 * clumps
    else:
        dots = noise(points, 0.0008, look.seeds[7])
        cover = np.clip(density * (0.8 + 0.14 * dots), 0, 1)
        shade = np.full(len(rows), 1.2, dtype=np.float32)
    hair = look.hair * np.clip(shade, 0.3, 2)[:, None]
    skin = albedo.take(rows, axis=0)
    albedo[rows] = skin + cover[:, None] * (hair - skin)


def _paint_brows(
    face: FaceMaps, look: Look, points: Float[np.ndarray, "k 3"], albedo: Float[np.ndarray, "k 3"]
) -> None:
    """Both brows, in place."""
    line = face.landmarks[anchors.LEFT_BROW]
    rows = np.flatnonzero(
        (points[:, 1] > line[:, 1].min() - 0.016)
        & (points[:, 1] < line[:, 1].max() + 0.012)
        & (points[:, 2] > -0.03)
    )
    if not len(rows):
        return
    x, y = np.abs(points[rows, 0]), points[rows, 1]
    lift, arch, tilt, shift = look.brow_shape
    inner, outer = line[0, 0] - 0.003 + shift, line[-1, 0] + 0.001
    along = (x - inner) / (outer - inner)
    middle = np.interp(x, line[:, 0], line[:, 1]) - 0.0015
    middle = middle + lift + arch * np.sin(np.pi * np.clip(along, 0, 1)) + tilt * (along - 0.5)
    half = look.brow_thickness * np.interp(along, [0, 0.12, 0.55, 0.8, 1.0], [0.75, 1.05, 1.0, 0.65, 0.2])
    across = (y - middle) / half
    # hairs stand up at the inner end and lie along the brow outside
    slant = np.interp(along, [0.0, 0.25, 0.6], [0.3, 1.2, 2.2])
    side = np.sign(points[rows, 0])
    hairs = np.stack([x * 1.0 - y * slant, y * 0.3, side * 0.01], axis=1)
    strokes = noise(hairs, (0.0011, 0.0012, 1.0), look.seeds[6])
    ragged = across + 0.30 * strokes
    body = (
        smoothstep(1.5, 0.35, np.abs(ragged)) * smoothstep(-0.08, 0.10, along) * smoothstep(1.08, 0.85, along)
    )
    fill = 1 - look.brow_texture * smoothstep(0.2, -1.4, strokes) * 0.8
    cover = look.brow_strength * body * fill
    albedo[rows] += cover[:, None] * (look.hair * (1 + 0.2 * strokes)[:, None] - albedo[rows])


def _paint_rims(
    face: FaceMaps, look: Look, points: Float[np.ndarray, "k 3"], albedo: Float[np.ndarray, "k 3"]
) -> None:
    """Lashes and liner as dark rims of the lids, in place."""
    for rim in face.eye_rims.values():
        middle = (rim.min(axis=0) + rim.max(axis=0)) / 2
        half = (rim.max(axis=0) - rim.min(axis=0)) / 2 + 0.006
        x, y = points[:, 0] - middle[0], points[:, 1] - middle[1]
        rows = np.flatnonzero((np.abs(x) < half[0]) & (np.abs(y) < half[1]) & (points[:, 2] > -0.02))
        if not len(rows):
            continue
        offset = points[rows, :2]
        square = (offset**2).sum(axis=1)[:, None] - 2 * offset @ rim.T + (rim**2).sum(axis=1)
        nearest = square.argmin(axis=1)
        distance = np.sqrt(np.maximum(square[np.arange(len(rows)), nearest], 0))
        upper = smoothstep(-0.0015, 0.0015, rim[nearest, 1] - middle[1])
        reach = look.liner * (0.6 + 0.6 * upper)
        cover = look.lashes * (0.25 + 0.75 * upper) * smoothstep(1.7, 0.4, distance / reach)
        crease = look.crease * upper * np.exp(-(((distance - look.crease_at) / 0.0013) ** 2))
        albedo[rows] *= 1 - crease[:, None] * np.array([0.7, 0.85, 0.85], dtype=np.float32)
        # the wet edge of the lower lid is pink
        pink = (smoothstep(0.0016, 0.0004, distance) * (1 - upper) * 0.5)[:, None]
        albedo[rows] *= 1 - pink * np.array([0.05, 0.35, 0.35], dtype=np.float32)
        lash = np.minimum(look.hair, 0.05) * 0.6
        albedo[rows] += cover[:, None] * (lash - albedo[rows])


def _paint_eye(
    face: FaceMaps,
    look: Look,
    points: Float[np.ndarray, "n 3"],
    rows: Int[np.ndarray, " k"],
    eye: int,
    surface: Surface,
) -> None:
    if not len(rows):
        return
    middle, _ = face.eyeballs[eye]
    local = points[rows] - middle.astype(np.float32)
    r = np.hypot(local[:, 0], local[:, 1])
    angle = np.arctan2(local[:, 1], local[:, 0])
    ring = np.stack([np.cos(angle), np.sin(angle), r * 120], axis=1).astype(np.float32)
    fibres = noise(ring, (0.10, 0.10, 0.5), look.seeds[4])
    depth = np.clip(r / look.iris_radius, 0, 1)
    iris = (
        look.iris
        * ((1.25 - 0.35 * depth) * (1 + 0.18 * fibres) * smoothstep(1.02, 0.80, depth * 0.93))[:, None]
    )
    iris = iris * smoothstep(look.pupil_radius * 0.9, look.pupil_radius * 1.1, r)[:, None]
    veins = noise(points[rows], (0.004, 0.0012, 0.004), look.seeds[5])
    corner = smoothstep(0.007, 0.015, np.abs(local[:, 0]))
    white = look.sclera * (1 - (0.06 * np.clip(veins, 0, 2) + 0.30 * corner)[:, None] * [0.35, 1.0, 1.0])
    front = local[:, 2] > 0
    seen = smoothstep(look.iris_radius * 1.05, look.iris_radius * 0.93, r) * front
    # the upper lid and its lashes shade the top
    shade = 1 - 0.45 * smoothstep(0.0005, 0.0055, local[:, 1])
    surface.albedo[rows] = (white + seen[:, None] * (iris - white)) * shade[:, None]
    surface.gloss[rows] = 0.9
    surface.sharpness[rows] = 160


def _paint_teeth(
    face: FaceMaps,
    look: Look,
    points: Float[np.ndarray, "n 3"],
    rows: Int[np.ndarray, " k"],
    row: int,
    surface: Surface,
) -> None:
    if not len(rows) or row not in face.arches:
        return
    curve, edge = face.arches[row]
    x = points[rows, 0]
    t = 2 * curve * np.abs(x)
    arc = (t * np.sqrt(1 + t * t) + np.arcsinh(t)) / (4 * curve)
    upper = row == maps.UPPER_TEETH
    borders = np.concatenate([[0], np.cumsum(_UPPER_WIDTHS if upper else _LOWER_WIDTHS)]) * look.tooth_scale
    number = np.clip(np.searchsorted(borders, arc, side="right") - 1, 0, len(borders) - 2)
    width = borders[number + 1] - borders[number]
    across = np.clip((arc - borders[number]) / width, 0, 1)
    to_gap = np.minimum(across, 1 - across) * width
    height = (points[rows, 1] - edge) * (1 if upper else -1)
    gap = np.exp(-((to_gap / 0.00055) ** 2)) * look.gaps
    # corners of the edges are rounded, so that small dark triangles show
    chip = smoothstep(0.0022, 0.0, height) * smoothstep(0.0016, 0.0, to_gap) * look.gaps
    each = 1 + 0.05 * np.sin(number * 12.9 + look.seeds[0, 0] * 7 + np.sign(x) * 3)
    rounding = 1 - 0.22 * (2 * np.abs(across - 0.5)) ** 2
    tooth = look.teeth * (each * rounding * (1 - np.maximum(0.75 * gap, 0.8 * chip)))[:, None]
    tooth = tooth * (1 - 0.5 * smoothstep(0.020, 0.040, arc))[:, None]
    neck = look.gum_height * (1.0 if upper else 0.85) - 0.0022 * (2 * np.abs(across - 0.5)) ** 2
    gum = smoothstep(neck - 0.0006, neck + 0.0006, height)
    surface.albedo[rows] = tooth + gum[:, None] * (_GUM * (0.6 + 0.5 * look.base[0]) - tooth)
    surface.gloss[rows] = 0.6
    surface.sharpness[rows] = 50
