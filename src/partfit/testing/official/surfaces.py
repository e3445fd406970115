"""Surfaces brought to the exact counts of an official file, with the way back to the surface they came from.

Every oriented surface can be given any number of vertices n and faces f that satisfy a few bounds: splitting
an inner edge adds a vertex and two faces, splitting a boundary edge adds one of each, and closing the corner
between two boundary edges adds a face. What the last two change, and the first does not, is 2 n - f.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from partfit.errors import InputError
from partfit.geometry import topology
from partfit.geometry.decimation import decimate
from partfit.models import SkinnedModel


@attrs.frozen(eq=False)
class Surface:
    """A surface of n vertices that came from one of V vertices.

    Attributes:
        vertices: (n, 3), the unit of the original.
        faces: (f, 3), counter-clockwise seen from outside.
        origin: (n, V) rows non-negative and summing to 1: `origin @ x` carries what the original has at each
            vertex (positions, displacements, skinning weights) over.
    """

    vertices: np.ndarray
    faces: np.ndarray
    origin: sparse.csr_array

    def carry(self, values: Float[np.ndarray, "vertices ..."]) -> Float[np.ndarray, "n ..."]:
        """The rows of `values`, one a vertex of the original, at the vertices of this surface."""
        flat = self.origin @ values.reshape(len(values), -1)
        return flat.reshape(len(self.vertices), *values.shape[1:])

    def region(self, vertices: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some_here"]:
        """The vertices that come from a set of the original's vertices alone, ascending."""
        inside = np.zeros(self.origin.shape[1])
        inside[vertices] = 1
        return np.flatnonzero(self.origin @ inside > 1 - 1e-9)


def resampled(
    model: SkinnedModel,
    n_vertices: int,
    n_faces: int,
    *,
    keep: Bool[np.ndarray, " vertices"] | None = None,
    finer: Float[np.ndarray, " vertices"] | None = None,
) -> Surface:
    """The surface of a model's template with exactly `n_vertices` vertices and `n_faces` faces.

    Args:
        model: Its vertices, without the virtual points, are the original.
        n_vertices: Number of vertices, n.
        n_faces: Number of faces, f.
        keep: (V,) True for the vertices to start from; all by default.
        finer: (V,) where it is 2, edges are split as if they were twice as long; 1 by default.

    Raises:
        InputError: if the counts cannot be reached.
    """
    n_original = model.topology.n_vertices
    vertices, faces = topology.check_mesh(model.arrays.v_template[:n_original], model.topology.faces)
    return resample(vertices, faces, n_vertices, n_faces, keep=keep, finer=finer)


def resample(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    n_vertices: int,
    n_faces: int,
    *,
    keep: Bool[np.ndarray, " vertices"] | None = None,
    finer: Float[np.ndarray, " vertices"] | None = None,
) -> Surface:
    """As `resampled`, from arrays that `topology.check_mesh` accepts."""
    keep = np.ones(len(vertices), dtype=bool) if keep is None else keep
    kept, faces = topology.submesh(faces, keep)
    # a few vertices are left for the splits of boundary edges
    spare = max(16, n_vertices // 50)
    if (len(kept), len(faces)) != (n_vertices, n_faces) and len(kept) > n_vertices - spare:
        fewer = decimate(vertices[kept], faces, n_vertices - spare)
        kept, faces = kept[fewer.kept], fewer.faces
    mesh = _Mesh(vertices[kept], faces, np.ones(len(kept)) if finer is None else finer[kept])
    mesh.reach(n_vertices, n_faces)
    start = sparse.csr_array(
        (np.ones(len(kept)), (np.arange(len(kept)), kept)), shape=(len(kept), len(vertices))
    )
    return Surface(np.array(mesh.vertices), mesh.faces(), sparse.csr_array(mesh.rows() @ start))


class _Mesh:
    """A mesh under edge splits, held as the corner opposite of each directed edge."""

    def __init__(
        self,
        vertices: Float[np.ndarray, "vertices 3"],
        faces: Int[np.ndarray, "faces 3"],
        finer: Float[np.ndarray, " vertices"],
    ) -> None:
        self.vertices = list(vertices)
        self.finer = finer.tolist()
        self.n_start = len(vertices)
        self.ends: list[tuple[int, int]] = []  # of the edge that each added vertex halves
        self.opposite: dict[tuple[int, int], int] = {}
        for face in faces.tolist():
            self._add(*face)

    @property
    def n_faces(self) -> int:
        return len(self.opposite) // 3

    def reach(self, n_vertices: int, n_faces: int) -> None:
        """Bring the mesh to these counts."""
        while 2 * len(self.vertices) - self.n_faces > 2 * n_vertices - n_faces:
            self._close_corner()
        missing = (2 * n_vertices - n_faces) - (2 * len(self.vertices) - self.n_faces)
        self._split_longest(self._boundary(), missing)
        self._split_longest(self._inner(), n_vertices - len(self.vertices))
        found = (len(self.vertices), self.n_faces)
        if found != (n_vertices, n_faces):
            raise InputError(
                f"The surface cannot have {n_vertices} vertices and {n_faces} faces; it ends at {found}."
            )

    def faces(self) -> Int[np.ndarray, "faces 3"]:
        """The faces (f, 3), each once, with its lowest vertex first."""
        once = [(a, b, c) for (a, b), c in self.opposite.items() if a < b and a < c]
        return np.array(sorted(once), dtype=np.int64)

    def rows(self) -> sparse.csr_array:
        """The vertices as weighted means of those that the mesh started with."""
        weights = [{v: 1.0} for v in range(self.n_start)]
        for a, b in self.ends:
            mean = {v: w / 2 for v, w in weights[a].items()}
            for v, w in weights[b].items():
                mean[v] = mean.get(v, 0.0) + w / 2
            weights.append(mean)
        index = [(i, v) for i, row in enumerate(weights) for v in row]
        data = [w for row in weights for w in row.values()]
        return sparse.csr_array((data, np.array(index).T), shape=(len(weights), self.n_start))

    def _add(self, a: int, b: int, c: int) -> None:
        for edge, corner in (((a, b), c), ((b, c), a), ((c, a), b)):
            self.opposite[edge] = corner

    def _remove(self, a: int, b: int, c: int) -> None:
        for edge in ((a, b), (b, c), (c, a)):
            del self.opposite[edge]

    def _boundary(self) -> list[tuple[int, int]]:
        return [(a, b) for a, b in self.opposite if (b, a) not in self.opposite]

    def _inner(self) -> list[tuple[int, int]]:
        return [(a, b) for a, b in self.opposite if a < b and (b, a) in self.opposite]

    def _joined(self, a: int, b: int) -> bool:
        return (a, b) in self.opposite or (b, a) in self.opposite

    def _length(self, a: int, b: int) -> float:
        apart = float(np.linalg.norm(self.vertices[a] - self.vertices[b]))
        return apart * (self.finer[a] + self.finer[b]) / 2

    def _split_longest(self, edges: Iterable[tuple[int, int]], times: int) -> None:
        """Halve the longest of some edges, again and again; halves and new inner edges join the queue."""
        queue = [(-self._length(a, b), a, b) for a, b in edges]
        heapq.heapify(queue)
        for _ in range(times):
            if not queue:
                return
            _, a, b = heapq.heappop(queue)
            for u, v in self._split(a, b):
                heapq.heappush(queue, (-self._length(u, v), u, v))

    def _split(self, a: int, b: int) -> list[tuple[int, int]]:
        """Halve an edge; the edges of the same kind (boundary or inner) that came of it."""
        middle = len(self.vertices)
        self.vertices.append((self.vertices[a] + self.vertices[b]) / 2)
        self.finer.append((self.finer[a] + self.finer[b]) / 2)
        self.ends.append((a, b))
        came = [(a, middle), (middle, b)]
        inner = (b, a) in self.opposite
        for u, v in ((a, b), (b, a)) if inner else ((a, b),):
            corner = self.opposite[u, v]
            self._remove(u, v, corner)
            self._add(u, middle, corner)
            self._add(middle, v, corner)
            if inner:
                came.append((middle, corner))
        return came

    def _close_corner(self) -> None:
        """Close the corner between two successive boundary edges whose outer ends are nearest."""
        follows = dict(self._boundary())
        corners = [
            (float(np.linalg.norm(self.vertices[a] - self.vertices[follows[b]])), a, b, follows[b])
            for a, b in follows.items()
            if b in follows and follows[b] != a and not self._joined(a, follows[b])
        ]
        if not corners:
            raise InputError("The surface has no boundary left to close, and too few faces for its vertices.")
        _, a, b, c = min(corners)
        self._add(c, b, a)
