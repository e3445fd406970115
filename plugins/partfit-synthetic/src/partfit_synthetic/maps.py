"""What is known about a model before it is posed: the mesh to render, and where on it features lie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import csgraph

from partfit.geometry.topology import boundary_edges
from partfit.landmarks import LandmarkEmbedding
from partfit.models.base import ParametricModel
from partfit.transfer.renders import rest_points
from partfit_synthetic import anchors
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.scene import Scene

#: What a face of the mesh shows.
SKIN, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE, CAVITY, NAIL = range(8)
_MATERIALS = {
    "left_eyeball": LEFT_EYE,
    "right_eyeball": RIGHT_EYE,
    "upper_teeth": UPPER_TEETH,
    "lower_teeth": LOWER_TEETH,
    "tongue": TONGUE,
    "mouth_cavity": CAVITY,
    "nails": NAIL,
}
#: Distance of the outer eye corners, metres, of the head whose millimetres the constants of this package are.
EYE_CORNERS = 0.0934
#: Length of a stump, of its cut's diameter, and how much wider it ends.
_STUMP_LENGTH, _STUMP_WIDENING = 1.0, 1.1
#: Directions in which the rim of an eye is known.
_RIM_ANGLES = 72
#: A boundary of less area, of its squared length, is a slit, not a cut; a circle has 0.08.
_SLIT = 0.02


@attrs.frozen(eq=False)
class Stump:
    """The piece of neck or fore-arm that follows the cut, so that a part does not end in the air.

    Attributes:
        loop: (E, 2) the directed edges of the cut; none if the model has no cut.
    """

    loop: np.ndarray

    @classmethod
    def of(cls, vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]) -> Stump:
        """Of the boundary that encloses the largest area."""
        rim = boundary_edges(faces)
        if not len(rim):
            return cls(rim)
        n = len(vertices)
        graph = sparse.coo_array((np.ones(len(rim)), rim.T), shape=(n, n))
        label = csgraph.connected_components(graph, directed=False)[1][rim[:, 0]]
        start, end = (vertices - vertices.mean(axis=0))[rim.T]
        area = np.linalg.norm([np.bincount(label, c) for c in np.cross(start, end).T / 2], axis=0)
        length = np.bincount(label, np.linalg.norm(end - start, axis=1))
        best = np.where(area > _SLIT * length**2, area, 0).argmax()
        return cls(rim[label == best] if area[best] > _SLIT * length[best] ** 2 else rim[:0])

    def faces(self, n_vertices: int) -> Int[np.ndarray, "faces 3"]:
        """Its faces; its own vertices are numbered from `n_vertices`."""
        number = {int(vertex): n_vertices + i for i, vertex in enumerate(self.loop[:, 0])}
        sides = [
            face
            for a, b in self.loop.tolist()
            if b in number
            for face in ((b, a, number[a]), (b, number[a], number[b]))
        ]
        return np.array(sides, dtype=np.int64).reshape(-1, 3)

    def vertices(self, vertices: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "edges 3"]:
        """Its far rim, for the part's vertices, in their frame."""
        if not len(self.loop):
            return np.zeros((0, 3))
        rim, following = vertices[self.loop[:, 0]], vertices[self.loop[:, 1]]
        middle = rim.mean(axis=0)
        outwards = np.cross(rim - middle, following - middle).sum(axis=0)
        outwards /= max(float(np.linalg.norm(outwards)), 1e-12)
        if outwards @ (vertices.mean(axis=0) - middle) > 0:
            outwards = -outwards
        length = _STUMP_LENGTH * 2 * np.linalg.norm(rim - middle, axis=1).mean()
        return middle + _STUMP_WIDENING * (rim - middle) + length * outwards


@attrs.frozen(eq=False)
class PartMaps:
    """The mesh of a model with its stump, at rest and of the mean shape.

    Attributes:
        rest: (V, 3) the model's own vertices at rest, model frame, metres.
        stump: What is added to them.
        faces: (F, 3) of the model and the stump.
        canonical: (V + stump, 3) upright, seen from the front, origin midway between the eyes of a face, and
            scaled to one size of face: where each vertex lies on the mean part.
        material: (F,) what each face shows.
        fine: (F,) which faces show fine things: eyes and their rims, brows, lips, teeth, nails.
        face: Where the features of a face are; None for other parts.
        front: (3, 3) the rotation that brings the model's frame upright.
    """

    rest: np.ndarray
    stump: Stump
    faces: np.ndarray
    canonical: np.ndarray
    material: np.ndarray
    fine: np.ndarray
    face: FaceMaps | None
    front: np.ndarray


def part_maps(model: ParametricModel, face: LandmarkEmbedding | None) -> PartMaps:
    """The maps of a model, with those of a face if iBUG's 68 points are known to lie on it."""
    topology = model.topology
    points = rest_points(model)
    rest = points[: topology.n_vertices]
    stump = Stump.of(rest, topology.faces)
    front = np.eye(3) if topology.front is None else topology.front
    material = np.full(len(topology.faces), SKIN)
    for region, number in _MATERIALS.items():
        if region in topology.regions:
            inside = np.zeros(topology.n_vertices, dtype=bool)
            inside[topology.regions[region]] = True
            material[inside[topology.faces].all(axis=1)] = number
    more = stump.faces(topology.n_vertices)
    canonical = np.concatenate([rest, stump.vertices(rest)]) @ front.T
    faces = np.concatenate([topology.faces, more])
    material = np.concatenate([material, np.full(len(more), SKIN)])
    maps = None
    if face is not None:
        landmarks = face.apply(points) @ front.T
        origin = landmarks[np.r_[anchors.RIGHT_EYE, anchors.LEFT_EYE]].mean(axis=0)
        scale = EYE_CORNERS / float(np.linalg.norm(landmarks[36] - landmarks[45]))
        canonical = (canonical - origin) * scale
        maps = FaceMaps(
            canonical, ((landmarks - origin) * scale).astype(np.float32), topology.regions, faces, material
        )
    fine = ~np.isin(material, (SKIN, CAVITY))
    if maps is not None:
        fine |= maps.detailed[faces].any(axis=1)
    return PartMaps(rest, stump, faces, canonical.astype(np.float32), material, fine, maps, front)


@attrs.define(eq=False, slots=False)
class FaceMaps:
    """Where the features of a face lie on the mean face.

    Attributes:
        canonical: (V, 3) see `PartMaps`.
        landmarks: (68, 3) iBUG's points, in the same frame.
        regions: Of the topology.
        faces: (F, 3) see `PartMaps`.
        material: (F,) likewise.
    """

    canonical: np.ndarray
    landmarks: np.ndarray
    regions: Mapping[str, np.ndarray]
    faces: np.ndarray
    material: np.ndarray

    def near(self, point: np.ndarray, radius: float) -> Float[np.ndarray, " vertices"]:
        """(V,) a bump of that radius about a point and its mirror image."""
        one_side = np.abs(self.canonical[:, :1]), self.canonical[:, 1:]
        target = np.array([abs(point[0]), point[1], point[2]])
        return np.exp(
            -((np.concatenate(one_side, axis=1) - target) ** 2).sum(axis=1) / (2 * radius**2)
        ).astype(np.float32)

    def inside(self, region: str) -> Float[np.ndarray, " vertices"]:
        """(V,) 1 for the vertices of a region."""
        mask = np.zeros(len(self.canonical), dtype=np.float32)
        mask[self.regions.get(region, np.zeros(0, dtype=int))] = 1
        return mask

    @cached_property
    def skull(self) -> Int[np.ndarray, " vertices"]:
        """Vertices that neither expressions nor jaw move much: forehead, temples, the top and the back."""
        return np.flatnonzero(self.canonical[:, 1] > 0.03)

    @cached_property
    def teeth(self) -> Int[np.ndarray, " vertices"]:
        """The vertices of both rows of teeth."""
        rows = [self.regions[name] for name in ("upper_teeth", "lower_teeth") if name in self.regions]
        return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)

    @cached_property
    def lip_vertices(self) -> Int[np.ndarray, " vertices"]:
        """The vertices of the lips that face forwards: those before the middle of them."""
        rows = np.flatnonzero(self.lips)
        return rows[self.canonical[rows, 2] >= np.median(self.canonical[rows, 2])]

    @cached_property
    def detailed(self) -> Bool[np.ndarray, " vertices"]:
        """(V,) the vertices of the lips and of what lies within 6 mm of the outlines of eyes and brows."""
        x, y, z = self.canonical.T
        near = self.lips > 0
        for rows in (anchors.RIGHT_EYE, anchors.LEFT_EYE, anchors.RIGHT_BROW, anchors.LEFT_BROW):
            low, high = self.landmarks[rows].min(axis=0) - 0.006, self.landmarks[rows].max(axis=0) + 0.006
            near |= (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1]) & (z > -0.02)
        return near

    @cached_property
    def lips(self) -> Float[np.ndarray, " vertices"]:
        """(V,) 1 on the red of the lips."""
        return self.inside("lips")

    @cached_property
    def cheeks(self) -> Float[np.ndarray, " vertices"]:
        """(V,) where the blood shows on cheeks."""
        middle = (self.landmarks[45] + self.landmarks[54]) / 2
        return self.near(middle, 0.016)

    @cached_property
    def nose(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the tip and the wings of the nose."""
        return np.maximum(self.near(self.landmarks[30], 0.010), self.near(self.landmarks[35], 0.008))

    @cached_property
    def ears(self) -> Float[np.ndarray, " vertices"]:
        """(V,) 1 on the ears."""
        return self.inside("ears")

    @cached_property
    def shadows_of_eyes(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the skin below and at the inner side of the eyes."""
        eye = self.landmarks[anchors.LEFT_EYE].mean(axis=0)
        below = self.near(eye + np.array([-0.002, -0.011, 0.0]), 0.007)
        return np.maximum(below, 0.8 * self.near(self.landmarks[42] + [-0.003, 0.003, -0.004], 0.006))

    @cached_property
    def lids(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the upper lids and the skin up to below the brows."""
        eye = self.landmarks[anchors.LEFT_EYE].mean(axis=0)
        return self.near(eye + np.array([0.001, 0.007, 0.0]), 0.008) * (self.canonical[:, 1] > eye[1] - 0.001)

    @cached_property
    def t_zone(self) -> Float[np.ndarray, " vertices"]:
        """(V,) where skin is oily: forehead, nose, chin, the top of the cheeks."""
        forehead = self.landmarks[27] + [0, 0.04, 0.0]
        nose = np.maximum(self.near(self.landmarks[29], 0.012), self.near(self.landmarks[30], 0.012))
        cheek = self.near((self.landmarks[45] + self.landmarks[54]) / 2 + [0.002, 0.014, 0.0], 0.012)
        zones = [0.8 * self.near(forehead, 0.03), nose, 0.6 * self.near(self.landmarks[8], 0.014), cheek]
        return np.maximum.reduce(zones)

    @cached_property
    def beard(self) -> Float[np.ndarray, " vertices"]:
        """(V,) where a beard can grow, the moustache included."""
        x, y, z = np.abs(self.canonical[:, 0]), self.canonical[:, 1], self.canonical[:, 2]
        top = np.interp(
            x,
            [0.0, 0.012, 0.022, 0.030, 0.045, 0.058, 0.068],
            [-0.051, -0.050, -0.054, -0.064, -0.060, -0.036, -0.004],
        )
        grows = smoothstep(0.003, -0.004, y - top) * smoothstep(-0.150, -0.128, y)
        grows = grows * smoothstep(-0.075, -0.058, z)
        return (grows * (1 - self.ears) * (1 - self.lips)).astype(np.float32)

    @cached_property
    def moustache(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the part of the beard above the mouth and beside it."""
        x, y = np.abs(self.canonical[:, 0]), self.canonical[:, 1]
        mouth = self.landmarks[54, 1]
        zone = smoothstep(0.036, 0.029, x) * smoothstep(mouth - 0.008, mouth - 0.001, y + 0.25 * (x - 0.025))
        return self.beard * zone.astype(np.float32)

    @cached_property
    def chin(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the part of the beard on the chin."""
        x, y = np.abs(self.canonical[:, 0]), self.canonical[:, 1]
        zone = smoothstep(0.034, 0.024, x) * smoothstep(
            self.landmarks[54, 1], self.landmarks[57, 1] - 0.002, y
        )
        return self.beard * zone.astype(np.float32)

    @cached_property
    def scalp(self) -> Float[np.ndarray, " vertices"]:
        """(V,) where hair grows on a head that is not bald."""
        y, z = self.canonical[:, 1], self.canonical[:, 2]
        line = np.interp(
            z,
            [-0.12, -0.095, -0.085, -0.070, -0.055, -0.03, 0.0, 0.02],
            [-0.075, -0.055, -0.02, -0.012, 0.005, 0.045, 0.068, 0.072],
        )
        return (smoothstep(-0.004, 0.006, y - line) * (1 - self.ears)).astype(np.float32)

    @cached_property
    def nostrils(self) -> Float[np.ndarray, " vertices"]:
        """(V,) the openings of the nose."""
        return self.near((self.landmarks[34] + self.landmarks[35]) / 2 + [-0.001, -0.0015, -0.002], 0.0032)

    @cached_property
    def eye_rims(self) -> dict[int, Float[np.ndarray, "angles 2"]]:
        """The outline (x, y) of what is seen of each eyeball from the front, by its material.

        The points lie at equal angles round the middle of iBUG's six, from -pi.
        """
        rims = {}
        for material, rows in ((RIGHT_EYE, anchors.RIGHT_EYE), (LEFT_EYE, anchors.LEFT_EYE)):
            middle = self.landmarks[rows, :2].mean(axis=0)
            angle = np.linspace(-np.pi, np.pi, _RIM_ANGLES, endpoint=False)
            radius = np.arange(0, 0.022, 0.0002)
            across = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            places = middle + radius[:, None, None] * across
            rays = np.zeros((*places.shape[:2], 6), dtype=np.float32)
            rays[..., :2], rays[..., 2], rays[..., 5] = places, 0.3, -1
            hits = Scene([(self.canonical, self.faces)]).cast(rays.reshape(-1, 6))
            eye = np.zeros(rays.shape[:2], dtype=bool).ravel()
            eye[hits.ray] = self.material[hits.face] == material
            eye = eye.reshape(rays.shape[:2])
            farthest = np.where(eye, radius[:, None], 0).max(axis=0)
            rims[material] = (middle + farthest[:, None] * across).astype(np.float32)
        return rims

    @cached_property
    def eyeballs(self) -> dict[int, tuple[Float[np.ndarray, " 3"], float]]:
        """Middle and radius of the eyeball of each material."""
        spheres = {}
        for region, material in (("left_eyeball", LEFT_EYE), ("right_eyeball", RIGHT_EYE)):
            if region in self.regions:
                points = self.canonical[self.regions[region]].astype(float)
                rows = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
                middle = np.linalg.lstsq(rows, (points**2).sum(axis=1), rcond=None)[0][:3]
                spheres[material] = middle, float(np.linalg.norm(points - middle, axis=1).mean())
        return spheres

    @cached_property
    def arches(self) -> dict[int, tuple[float, float]]:
        """Curvature (1/m) of the arch z = z0 - a x^2 of each row of teeth, and the height of its edge."""
        found = {}
        for region, material, edge in (
            ("upper_teeth", UPPER_TEETH, np.min),
            ("lower_teeth", LOWER_TEETH, np.max),
        ):
            if region in self.regions:
                points = self.canonical[self.regions[region]]
                front = points[:, 2] > points[:, 2].max() - 0.02
                a = -np.polyfit(points[front, 0], points[front, 2], 2)[0]
                found[material] = float(max(a, 1.0)), float(edge(points[:, 1][np.abs(points[:, 0]) < 0.01]))
        return found
