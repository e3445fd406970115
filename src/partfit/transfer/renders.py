"""Renders of a model under random parameters, views and lights, and where its points lie in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.transform import Rotation
from torch import Tensor

from partfit.geometry.topology import boundary_edges
from partfit.meshes import Mesh
from partfit.models.base import ParametricModel
from partfit.rendering import render, visible_points
from partfit.transfer.settings import TransferSettings

#: Colour of a model without colours, sRGB.
_SKIN = (0.85, 0.65, 0.54)
#: From the model frame (y up, z towards the viewer) to the camera frame (y down, z away).
_TO_CAMERA = np.array([1.0, -1.0, -1.0])

_SUPERSAMPLING = 2
#: Least and greatest distance of the camera in radii of the part, and side of the picture that it fills.
_DISTANCE, _FILL = (4.0, 8.0), (0.7, 0.95)
#: Largest shift of the part's middle from the picture's, of the picture's side.
_SHIFT = 0.05
_AMBIENT, _DIFFUSE = 0.45, 0.55
_TINT = (0.6, 1.1)
_NOISE = 0.01
#: Brightness of what no light reaches, such as the inside of a mouth.
_CAVITY = 0.25
#: Directions from which it is asked how open a place lies.
_DIRECTIONS = 64
#: How far behind a surface a point still counts as lying on it, of the part's radius.
_ON_SURFACE = 0.005
#: Length of a stump, of its cut's diameter, and how much wider it ends.
_STUMP_LENGTH, _STUMP_WIDENING = 1.2, 1.15
#: A boundary of less area, of its squared length, is a slit, not a cut; a circle has 0.08.
_SLIT = 0.005


@attrs.frozen(eq=False)
class Render:
    """A picture of the model, and where its points are.

    Attributes:
        image: (size, size, 3) RGB, uint8.
        points: (N, 3) the model's vertices and virtual points, metres, in the camera frame.
        visible: (V,) which vertices the camera sees.
        focal: Focal length, pixels.
        principal: Principal point (x, y), pixels.
    """

    image: UInt8[np.ndarray, "size size 3"]
    points: Float[np.ndarray, "points 3"]
    visible: Bool[np.ndarray, " vertices"]
    focal: float
    principal: tuple[float, float]

    def rays(self, pixels: Float[np.ndarray, "landmarks 2"]) -> Float[np.ndarray, "landmarks 2"]:
        """(L, 2) x / z and y / z of the rays through pixels."""
        return (pixels - self.principal) / self.focal


def make_renders(model: ParametricModel, settings: TransferSettings) -> Iterator[Render]:
    """The renders, one after another; the same ones for the same model and settings."""
    rng = np.random.default_rng(settings.seed)
    states = random_states(model, settings.renders, settings.spread, rng)
    studio = _Studio(model)
    for start in range(0, len(states), settings.batch):
        with torch.no_grad():
            posed = model.points(states[start : start + settings.batch]).numpy()
        for points in posed:
            yield studio.render(points, settings, rng)


def random_states(
    model: ParametricModel, count: int, spread: float, rng: np.random.Generator
) -> Float[Tensor, "count parameters"]:
    """Parameter vectors drawn from the groups' priors, within the limits, float64.

    A coordinate without a prior keeps its mean, and so do the rigid groups.

    Args:
        model: The model.
        count: Number of vectors.
        spread: Factor on the priors' standard deviations.
        rng: Source of randomness.
    """
    drawn = [group.sample(rng, count, 0.0 if group.rigid else spread) for group in model.groups]
    return torch.as_tensor(np.concatenate(drawn, axis=1))


def rest_points(model: ParametricModel) -> Float[np.ndarray, "points 3"]:
    """(N, 3) all points of the model with each group at its prior's mean, in its own frame, metres."""
    x = random_states(model, 1, 0.0, np.random.default_rng(0))
    with torch.no_grad():
        return model.points(x)[0].numpy()


class _Studio:
    """Renders posed models in random views and lights."""

    def __init__(self, model: ParametricModel) -> None:
        topology = model.topology
        vertices = rest_points(model)[: topology.n_vertices]
        self._loop = _cut_edges(vertices, topology.faces)
        self._faces = _with_stump_faces(topology.faces, self._loop, topology.n_vertices)
        colours = np.tile(_SKIN, (len(vertices), 1)) if topology.colors is None else topology.colors
        colours = colours * (_CAVITY + (1 - _CAVITY) * _openness(vertices, topology.faces))[:, None]
        self._colours = np.concatenate([colours, colours[self._loop[:, 0]]])
        self._n_vertices = topology.n_vertices
        self._front = np.eye(3) if topology.front is None else topology.front
        self._rest = vertices

    def render(
        self, points: Float[np.ndarray, "points 3"], settings: TransferSettings, rng: np.random.Generator
    ) -> Render:
        """A picture of the model's points (N, 3), given in its own frame."""
        size = settings.size
        vertices = points[: self._n_vertices]
        center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        radius = float(np.linalg.norm(vertices - center, axis=1).max())
        distance = radius * rng.uniform(*_DISTANCE)
        focal = 0.5 * size * rng.uniform(*_FILL) * distance / radius
        x, y = (size - 1) / 2 + size * rng.uniform(-_SHIFT, _SHIFT, 2)
        # a bent neck turns the head: views are meant from the part's own front
        upright = Rotation.align_vectors(self._rest - self._rest.mean(axis=0), vertices - center)[0]
        turn = _random_view(settings, rng) @ self._front @ upright.as_matrix()

        def to_camera(own: np.ndarray) -> np.ndarray:
            return (own - center) @ turn.T * _TO_CAMERA + [0, 0, distance]

        mesh = Mesh(to_camera(np.concatenate([vertices, _stump(vertices, self._loop)])), self._faces)
        visible = visible_points(mesh.vertices[: self._n_vertices], [mesh], _ON_SURFACE * radius)
        image = self._shade(mesh, focal, (x, y), size, rng)
        return Render(image, to_camera(points), visible, focal, (x, y))

    def _shade(
        self, mesh: Mesh, focal: float, principal: tuple[float, float], size: int, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Soft light from one side, before a plain background; several samples a pixel."""
        fine = _SUPERSAMPLING * size
        x, y = ((c + 0.5) * _SUPERSAMPLING - 0.5 for c in principal)
        rendering = render([mesh], _SUPERSAMPLING * focal, (x, y), (fine, fine))
        seen = rendering.face_index >= 0
        corners = mesh.faces[rendering.face_index[seen]]
        weights = rendering.barycentric[seen].astype(np.float32)
        light = np.array([rng.uniform(-0.7, 0.7), -rng.uniform(0.0, 0.8), -1.0])
        shade = _AMBIENT + _DIFFUSE * np.clip(mesh.normals @ light / np.linalg.norm(light), 0, None)
        of_vertices = (self._colours * (shade * rng.uniform(*_TINT))[:, None]).astype(np.float32)
        image = np.tile(rng.uniform(0.05, 0.95, 3).astype(np.float32), (fine, fine, 1))
        image[seen] = np.einsum("nk,nkd->nd", weights, of_vertices[corners])
        image = image.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 3).mean(axis=(1, 3))
        image += rng.normal(scale=_NOISE, size=image.shape)
        return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _openness(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, " vertices"]:
    """(V,) how much of the sky before each vertex the mesh leaves open: 1 on a ball, 0 in a cavity."""
    mesh = Mesh(vertices, faces)
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - center, axis=1).max())
    seen, asked = np.zeros(len(vertices)), np.full(len(vertices), 1e-9)
    for direction in _sphere(_DIRECTIONS):
        turn = _towards_camera(direction)
        turned = (vertices - center) @ turn.T + [0, 0, 30 * radius]
        before = mesh.normals @ direction > 0
        seen += before & visible_points(turned, [Mesh(turned, faces)], _ON_SURFACE * radius)
        asked += before
    return seen / asked


def _sphere(count: int) -> Float[np.ndarray, "count 3"]:
    """Unit vectors spread evenly: a Fibonacci lattice."""
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def _towards_camera(direction: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """A rotation that turns a unit vector to -z, where the camera is."""
    return Rotation.align_vectors([[0.0, 0.0, -1.0]], direction[None])[0].as_matrix()


def _random_view(settings: TransferSettings, rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """The rotation of the model, in its own axes, before the camera that looks along -z.

    The sine of the pitch is drawn evenly, so that the full ranges cover the sphere evenly.
    """
    yaw = rng.uniform(-settings.yaw, settings.yaw)
    pitch = math.asin(rng.uniform(-1, 1) * math.sin(settings.pitch))
    roll = rng.uniform(-settings.roll, settings.roll)
    return Rotation.from_euler("ZXY", [roll, pitch, yaw]).as_matrix()


def _cut_edges(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Int[np.ndarray, "edges 2"]:
    """The edges (E, 2) of the longest boundary that is no slit, where a part is cut from its body, if any."""
    rim = boundary_edges(faces)
    if not len(rim):
        return rim
    n = len(vertices)
    graph = sparse.coo_array((np.ones(len(rim)), rim.T), shape=(n, n))
    label = csgraph.connected_components(graph, directed=False)[1][rim[:, 0]]
    start, end = (vertices - vertices.mean(axis=0))[rim.T]
    lengths = np.bincount(label, np.linalg.norm(end - start, axis=1))
    areas = np.linalg.norm([np.bincount(label, axis) for axis in np.cross(start, end).T / 2], axis=0)
    open_wide = areas > _SLIT * lengths**2
    return rim[label == np.where(open_wide, lengths, 0).argmax()] if open_wide.any() else rim[:0]


def _with_stump_faces(
    faces: Int[np.ndarray, "faces 3"], loop: Int[np.ndarray, "edges 2"], n_vertices: int
) -> Int[np.ndarray, "more 3"]:
    """The faces and those of the stump, whose vertices follow in the order of the loop's first ones."""
    number = {int(vertex): n_vertices + i for i, vertex in enumerate(loop[:, 0])}
    sides = [
        face
        for a, b in loop.tolist()
        if b in number
        for face in ((b, a, number[a]), (b, number[a], number[b]))
    ]
    return np.concatenate([faces, np.array(sides, dtype=faces.dtype).reshape(-1, 3)])


def _stump(
    vertices: Float[np.ndarray, "vertices 3"], loop: Int[np.ndarray, "edges 2"]
) -> Float[np.ndarray, "edges 3"]:
    """The rim of a piece of neck or fore-arm that follows the cut, so that the part does not end there."""
    if not len(loop):
        return np.zeros((0, 3))
    rim = vertices[loop[:, 0]]
    middle = rim.mean(axis=0)
    area = np.cross(rim - middle, vertices[loop[:, 1]] - middle).sum(axis=0)
    outwards = area / np.linalg.norm(area)
    outwards *= -np.sign(outwards @ (vertices.mean(axis=0) - middle)) or 1.0
    length = _STUMP_LENGTH * 2 * np.linalg.norm(rim - middle, axis=1).mean()
    return middle + _STUMP_WIDENING * (rim - middle) + length * outwards
