"""Rays cast at triangles: what they meet first, and what keeps light from a point."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from partfit.rendering import prepare

# Rows of arrays are gathered with `take`, which is several times as quick as an index.

#: How far behind a hit its ray is sent on, in lengths of its direction.
_BEYOND = 1e-4


@cache
def _open3d() -> Any:
    prepare()
    import open3d

    return open3d


@attrs.frozen(eq=False)
class Hits:
    """What some of the rays that were cast meet first.

    Attributes:
        ray: (k,) which rays these are.
        distance: (k,) in lengths of the ray's direction.
        owner: (k,) which mesh.
        face: (k,) which of all the faces of the scene.
        barycentric: (k, 3) where in the face.
    """

    ray: np.ndarray
    distance: np.ndarray
    owner: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray

    def of(self, chosen: Int[np.ndarray, " chosen"]) -> Hits:
        """Some of the hits."""
        return Hits(
            self.ray.take(chosen),
            self.distance.take(chosen),
            self.owner.take(chosen),
            self.face.take(chosen),
            self.barycentric.take(chosen, axis=0),
        )

    def followed_by(self, others: Hits, start: int) -> Hits:
        """These and others, whose rays are counted from `start`."""
        others = attrs.evolve(others, ray=others.ray + start)
        fields = [field.name for field in attrs.fields(Hits)]
        return Hits(*(np.concatenate([getattr(self, name), getattr(others, name)]) for name in fields))


class Scene:
    """Meshes joined to one, each with its own number, in the order given.

    Attributes:
        vertices: (n, 3) of all, float32.
        faces: (f, 3) of all, indices into `vertices`.
        owner: (f,) the number of the mesh of each face.
        starts: The first vertex of each mesh, and their number at the end.
    """

    def __init__(self, meshes: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        counts = [len(vertices) for vertices, _ in meshes]
        self.starts = np.cumsum([0, *counts]).tolist()
        self.vertices = np.concatenate([vertices for vertices, _ in meshes]).astype(np.float32)
        shifted = [faces + start for (_, faces), start in zip(meshes, self.starts, strict=False)]
        self.faces = np.concatenate(shifted).astype(np.int32)
        self.owner = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(faces) for _, faces in meshes])
        self._tensor = _open3d().core.Tensor
        # one thread each: data sets are read by worker processes
        self._caster = _open3d().t.geometry.RaycastingScene(nthreads=1)
        self._caster.add_triangles(self._tensor(self.vertices), self._tensor(self.faces.astype(np.uint32)))

    def cast(self, rays: Float[np.ndarray, "n 6"]) -> Hits:
        """What rays (origin, direction) meet first."""
        answer = self._caster.cast_rays(self._tensor(rays.astype(np.float32, copy=False)), nthreads=1)
        distance = answer["t_hit"].numpy()
        ray = np.flatnonzero(np.isfinite(distance))
        face = answer["primitive_ids"].numpy().take(ray).view(np.int32)
        barycentric = np.empty((len(ray), 3), dtype=np.float32)
        barycentric[:, 1:] = answer["primitive_uvs"].numpy().take(ray, axis=0)
        barycentric[:, 0] = 1 - barycentric[:, 1] - barycentric[:, 2]
        return Hits(ray, distance.take(ray), self.owner.take(face), face, barycentric)

    def cast_beyond(self, rays: Float[np.ndarray, "n 6"], hits: Hits) -> Hits:
        """What the rays of these hits meet next."""
        start = hits.distance + _BEYOND
        moved = rays.take(hits.ray, axis=0)
        moved[:, :3] += start[:, None] * moved[:, 3:]
        further = self.cast(moved)
        return attrs.evolve(
            further, ray=hits.ray.take(further.ray), distance=further.distance + start.take(further.ray)
        )

    def corners(self, hits: Hits) -> Int[np.ndarray, " some"]:
        """The vertices of the faces that are hit."""
        hit = np.zeros(len(self.vertices), dtype=bool)
        hit[self.faces.take(hits.face, axis=0).ravel()] = True
        return np.flatnonzero(hit)

    def blocked(
        self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether something lies on the way from each origin in each direction."""
        rays = np.concatenate([origins, directions], axis=1).astype(np.float32)
        return self._caster.test_occlusions(self._tensor(rays), nthreads=1).numpy()

    def interpolation(self, hits: Hits) -> sparse.csr_array:
        """(k, n) the matrix that takes values of the vertices to the hits."""
        k = len(hits.ray)
        return sparse.csr_array(
            (
                hits.barycentric.ravel(),
                self.faces.take(hits.face, axis=0).ravel(),
                np.arange(0, 3 * k + 1, 3, dtype=np.int32),
            ),
            shape=(k, len(self.vertices)),
        )


def from_camera(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 6"]:
    """Rays from the origin, float32."""
    rays = np.zeros((len(directions), 6), dtype=np.float32)
    rays[:, 3:] = directions
    return rays


def directions_through(
    places: Float[np.ndarray, "n 2"], focal: float, principal: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "n 3"]:
    """Directions with z = 1 through places of the picture, pixels, float32."""
    plane = (places - principal) / focal
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1).astype(np.float32)


#: The further samples of a pixel from its middle, pixels: with the middle they spread as far as a pixel does.
_FURTHER = np.array([[0.36, 0.22], [-0.36, -0.22]])


def rays_of_pixels(
    size: int, focal: float, principal: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "pixels 6"]:
    """Rays from the origin through the middles of a square picture's pixels, row by row, float32."""
    rays = np.zeros((size, size, 6), dtype=np.float32)
    rays[..., 3] = (np.arange(size) - principal[0]) / focal
    rays[..., 4] = (np.arange(size)[:, None] - principal[1]) / focal
    rays[..., 5] = 1
    return rays.reshape(-1, 6)


@attrs.frozen(eq=False)
class Samples:
    """Where a square picture is sampled: in the middle of each pixel, and in some twice more.

    The samples of the middles come first, pixel by pixel, then the others likewise.

    Attributes:
        size: Side of the picture, pixels.
        often: (k,) the pixels that are sampled more often.
    """

    size: int
    often: np.ndarray

    @classmethod
    def of(cls, uneven: Bool[np.ndarray, "size size"]) -> Samples:
        """More in the uneven pixels."""
        return cls(len(uneven), np.flatnonzero(uneven))

    @property
    def pixel(self) -> Int[np.ndarray, " samples"]:
        """The pixel of each sample."""
        return np.concatenate([np.arange(self.size**2), np.repeat(self.often, len(_FURTHER))])

    @property
    def further(self) -> Float[np.ndarray, "further 2"]:
        """(x, y) of the samples that are no middles, pixels."""
        middles = np.stack([self.often % self.size, self.often // self.size], axis=1)
        return (middles[:, None] + _FURTHER).reshape(-1, 2)

    def alike(self, hits: Hits, fine: Bool[np.ndarray, " pixels"], step: float) -> Int[np.ndarray, " k"]:
        """(k,) for each hit that whose colour does for it: itself, or another one of its pixel.

        Args:
            hits: Of the samples' rays.
            fine: (size^2,) the pixels all of whose samples count.
            step: How much deeper a surface may lie, and still count as the same.
        """
        number = np.full(self.size**2 + len(_FURTHER) * len(self.often), -1)
        number[hits.ray] = np.arange(len(hits.ray))
        further = number[self.size**2 :].reshape(-1, len(_FURTHER))
        number = np.column_stack([number[self.often], further])[~fine[self.often]]
        owner, depth = np.append(hits.owner, -1)[number], np.append(hits.distance, 0)[number]
        alike, shown = np.arange(len(hits.ray)), number.copy()
        for later in range(1, number.shape[1]):
            for before in reversed(range(later)):
                same = owner[:, later] == owner[:, before]
                same &= np.abs(depth[:, later] - depth[:, before]) < step
                shown[same, later] = shown[same, before]
        alike[number[number >= 0]] = shown[number >= 0]
        return alike

    def picture(self, values: Float[np.ndarray, "samples c"]) -> Float[np.ndarray, "size size c"]:
        """The mean of each pixel's samples."""
        c, n = values.shape[1], len(_FURTHER)
        picture = values[: self.size**2].copy()
        further = values[self.size**2 :].reshape(-1, n, c)
        picture[self.often] = (picture[self.often] + further.sum(axis=1)) / (1 + n)
        return picture.reshape(self.size, self.size, c)


def _cross(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """As np.cross, which takes longer."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    product = np.empty_like(a)
    product[:, 0], product[:, 1], product[:, 2] = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return product


def unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The vectors at length 1; 0 stays 0."""
    square = np.einsum("nd,nd->n", vectors, vectors)
    return vectors / np.sqrt(np.maximum(square, 1e-30))[:, None]


def normals_of(vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "n 3"]:
    """Unit vertex normals, weighted by area, float32."""
    a, b, c = (vertices.take(corner, axis=0) for corner in faces.T)
    area = _cross((b - a).astype(np.float32), (c - a).astype(np.float32))
    f = len(faces)
    # row by row sums over the faces round a vertex, in a fixed order
    corner = sparse.csc_array(
        (np.ones(3 * f, dtype=np.float32), faces.ravel(), np.arange(0, 3 * f + 1, 3)),
        shape=(len(vertices), f),
    )
    return unit(corner @ area)
