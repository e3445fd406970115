"""Fewer vertices for the same surface, and the matrices that sample features down and up between them.

Vertices are removed by half-edge collapses in the order of the quadric error metric of Garland & Heckbert,
"Surface simplification using quadric error metrics", SIGGRAPH 1997. A half-edge collapse merges a vertex
into a neighbour, so that every vertex that remains is an original one, at its place. The sampling matrices
are those of Ranjan et al., "Generating 3D faces using convolutional mesh autoencoders" (COMA), ECCV 2018;
thesis section 3.3.2 and figure 4.1.
"""

from __future__ import annotations

import heapq
import math

import attrs
import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import sparse

from partfit.errors import InputError
from partfit.geometry import topology

#: Weight of the planes that hold a boundary in place, times the squared length of the boundary edge
#: (a face's plane has its area as weight).
BOUNDARY_WEIGHT = 1.0
#: Weight of the squared distance to the merged vertices themselves, times a third of the area around each.
#: Small, it decides where the surface is flat and spreads the kept vertices evenly there.
SPREAD_WEIGHT = 1e-2
#: A collapse may turn no face by more than the angle of this cosine.
MIN_NORMAL_COSINE = 0.2
#: A collapse may leave no face with an area below this fraction of its summed squared edge lengths.
MIN_FACE_SHAPE = 0.02
#: How far, in edges of the decimated mesh, from the vertex that it was merged into a removed vertex looks
#: for its closest triangle.
SEARCH_RINGS = 1


@attrs.frozen(eq=False)
class Decimation:
    """A mesh of n of the V original vertices, with the matrices between the two.

    Attributes:
        kept: (n,) original indices of the vertices that remain, ascending.
        faces: (f, 3) faces between them, in the new numbering 0..n-1.
        down: Q_d (n, V), one-hot rows: `down @ x` picks the kept vertices' rows of `x`.
        up: Q_u (V, n), rows non-negative and summing to 1: `up @ x` interpolates. Q_d Q_u = I exactly.
    """

    kept: np.ndarray
    faces: np.ndarray
    down: sparse.csr_array
    up: sparse.csr_array


def decimate(
    vertices: Shaped[np.ndarray, "vertices 3"], faces: Shaped[np.ndarray, "faces 3"], n_vertices: int
) -> Decimation:
    """Keep the `n_vertices` vertices of a mesh that preserve its surface best.

    The cost of merging vertex u into v is x^T (Q_u + Q_v) x at v's position x. Q sums area-weighted planes
    of the faces, planes through the boundary edges at right angles to their face, and a little of the
    squared distance to the merged vertices (see the constants of this module for the weights). A collapse
    must satisfy the link condition (Dey et al. 1999), so that components, handles and holes are kept and no
    edge gets a third face, and must neither turn a face over nor flatten it to a line. Where that leaves
    nothing to collapse before `n_vertices` is reached, the last vertices are removed under the link condition
    alone. Equal costs are settled by vertex index: equal input gives equal output.

    The row of a removed vertex in `up` holds the barycentric coordinates of the point nearest to it on the
    decimated mesh, among the triangles at most one edge away from the vertex that it was merged into whose
    normal makes an acute angle with its own: the two sides of closed lips do not mix. Where there is no such
    triangle the row is one-hot at the vertex that it was merged into.

    Args:
        vertices: (V, 3) positions, in any unit.
        faces: (F, 3) vertex indices, see `partfit.geometry.topology.check_mesh`.
        n_vertices: How many vertices to keep, n. Vertices without a face are always kept.

    Returns:
        The kept vertices and the sampling matrices.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if the mesh is not valid, `n_vertices` is not in 1..V, or no further vertex can be removed
            without changing the topology.
    """
    vertices, faces = topology.check_mesh(vertices, faces)
    if not 1 <= n_vertices <= len(vertices):
        raise InputError(f"n_vertices must lie in 1..{len(vertices)}, found {n_vertices}.")
    simplifier = _Simplifier(vertices, faces)
    simplifier.reduce_to(n_vertices, guard_shape=True)
    simplifier.reduce_to(n_vertices, guard_shape=False)
    if simplifier.n_alive > n_vertices:
        raise InputError(
            f"The mesh cannot have fewer than {simplifier.n_alive} vertices without changing its topology; "
            f"asked for {n_vertices}. Ask for more, or remove small components and lone vertices first."
        )
    kept = np.flatnonzero(simplifier.alive)
    number = np.cumsum(simplifier.alive) - 1
    new_faces = number[simplifier.faces()]
    down = sparse.csr_array(
        (np.ones(len(kept)), (np.arange(len(kept)), kept)), shape=(len(kept), len(vertices))
    )
    up = _up_matrix(vertices, faces, kept, new_faces, number[simplifier.homes()])
    return Decimation(kept, new_faces, down, up)


def decimation_series(
    vertices: Shaped[np.ndarray, "vertices 3"], faces: Shaped[np.ndarray, "faces 3"], levels: int
) -> list[Decimation]:
    """Halve a mesh again and again: level k has ceil(n / 2) of the n vertices of the level before.

    1609 vertices give 805, 403, 202 and 101 (thesis figure 4.1). Each level refers to the one before:
    the original indices at level 2 are `series[0].kept[series[1].kept]`.

    Args:
        vertices: (V, 3) positions, in any unit.
        faces: (F, 3) vertex indices.
        levels: How many times to halve, at least 0.

    Returns:
        One decimation a level, finest first.

    Raises:
        ShapeError: if an array has another shape.
        InputError: as `decimate`, or if `levels` is negative.
    """
    if levels < 0:
        raise InputError(f"levels must be at least 0, found {levels}.")
    series = []
    for _ in range(levels):
        level = decimate(vertices, faces, math.ceil(len(vertices) / 2))
        vertices, faces = np.asarray(vertices)[level.kept], level.faces
        series.append(level)
    return series


class _Simplifier:
    """A mesh under half-edge collapses, with the queue of the collapses to come.

    Every boundary edge is closed with a triangle to one virtual vertex, number V, so that the link condition
    has no special case for boundaries.
    """

    def __init__(self, vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]) -> None:
        self.outside = len(vertices)
        self.positions = _normalized(vertices)
        self.homogeneous = np.concatenate([self.positions, np.ones((len(vertices), 1))], axis=1)
        self.quadrics = _quadrics(self.positions, faces)
        self.alive = np.ones(len(vertices), dtype=bool)
        self.n_alive = len(vertices)
        self.merged_into = np.arange(len(vertices))
        rim = [(v, u, self.outside) for u, v in topology.boundary_edges(faces).tolist()]
        self.triangles = dict(enumerate([tuple(face) for face in faces.tolist()] + rim))
        self.around: list[set[int]] = [set() for _ in range(len(vertices) + 1)]
        for t, corners in self.triangles.items():
            for w in corners:
                self.around[w].add(t)
        # A queued collapse is (cost, u, v, age): out of date once the quadric of u or v has changed.
        self.queue: list[tuple[float, int, int, int]] = []
        self.age = [0] * len(vertices)
        # Collapses that were found illegal, at each of their ends, to be tried again when that end changes.
        self.parked: list[list[tuple[float, int, int, int]]] = [[] for _ in range(len(vertices))]

    def faces(self) -> Int[np.ndarray, "faces 3"]:
        """The faces that remain, in the original numbering and order."""
        real = [self.triangles[t] for t in sorted(self.triangles) if self.outside not in self.triangles[t]]
        return np.array(real, dtype=np.int64).reshape(-1, 3)

    def homes(self) -> Int[np.ndarray, " vertices"]:
        """The living vertex that each vertex has ended in."""
        home = self.merged_into
        while not self.alive[home].all():
            home = home[home]
        return home

    def reduce_to(self, n_vertices: int, *, guard_shape: bool) -> None:
        """Collapse in the order of cost until `n_vertices` remain or nothing is left to collapse."""
        if self.n_alive == n_vertices:
            return
        self.queue = []
        self._enqueue(topology.edges(self.faces()))
        while self.n_alive > n_vertices and self.queue:
            entry = heapq.heappop(self.queue)
            _, u, v, age = entry
            if not (self.alive[u] and self.alive[v]) or age != self.age[u] + self.age[v]:
                continue
            if self._keeps_topology(u, v) and (not guard_shape or self._keeps_shape(u, v)):
                self._collapse(u, v)
            else:
                self.parked[u].append(entry)
                self.parked[v].append(entry)

    def _enqueue(self, pairs: Int[np.ndarray, "pairs 2"]) -> None:
        """Queue both collapses of each pair of neighbours."""
        u, v = np.concatenate([pairs, pairs[:, ::-1]]).T
        x = self.homogeneous[v]
        cost = np.einsum("ni,nij,nj->n", x, self.quadrics[u] + self.quadrics[v], x)
        for c, i, j in zip(cost.tolist(), u.tolist(), v.tolist(), strict=True):
            heapq.heappush(self.queue, (c, i, j, self.age[i] + self.age[j]))

    def _neighbours(self, u: int) -> set[int]:
        return {w for t in self.around[u] for w in self.triangles[t]} - {u}

    def _keeps_topology(self, u: int, v: int) -> bool:
        """The link condition: link(u) and link(v) meet in link(uv) and nowhere else."""
        shared = self.around[u] & self.around[v]
        opposite = {w for t in shared for w in self.triangles[t]} - {u, v}
        if self._neighbours(u) & self._neighbours(v) != opposite:
            return False
        return not all(any(opposite <= set(self.triangles[t]) for t in self.around[w]) for w in (u, v))

    def _keeps_shape(self, u: int, v: int) -> bool:
        """Whether every face that would move keeps its side and does not become a sliver."""
        at_u = (self.triangles[t] for t in self.around[u])
        moved = [corners for corners in at_u if v not in corners and self.outside not in corners]
        if not moved:
            return True
        before = np.array(moved)
        after = np.where(before == u, v, before)
        old, new = (topology.area_vectors(self.positions, corners) for corners in (before, after))
        sides = self.positions[after] - self.positions[np.roll(after, 1, axis=1)]
        area_old, area_new = (np.sqrt((vectors**2).sum(axis=1)) for vectors in (old, new))
        same_side = (old * new).sum(axis=1) >= MIN_NORMAL_COSINE * area_old * area_new
        solid = area_new >= MIN_FACE_SHAPE * (sides**2).sum(axis=(1, 2))
        return bool((same_side & solid).all())

    def _collapse(self, u: int, v: int) -> None:
        """Merge u into v."""
        changed = self._neighbours(u) - {self.outside}
        for t in self.around[u]:
            corners = self.triangles[t]
            if v in corners:
                del self.triangles[t]
                for w in set(corners) - {u}:
                    self.around[w].remove(t)
            else:
                self.triangles[t] = tuple(v if w == u else w for w in corners)
                self.around[v].add(t)
        self.around[u] = set()
        self.alive[u] = False
        self.n_alive -= 1
        self.merged_into[u] = v
        self.quadrics[v] += self.quadrics[u]
        self.age[v] += 1
        self._enqueue(np.array([(v, w) for w in sorted(self._neighbours(v) - {self.outside})]))
        for w in changed:
            for entry in self.parked[w]:
                heapq.heappush(self.queue, entry)
            self.parked[w] = []


def _normalized(vertices: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "vertices 3"]:
    """Centred and scaled to the unit box, where quadrics are well conditioned."""
    centred = vertices - vertices.mean(axis=0)
    extent = np.abs(centred).max()
    return centred / extent if extent > 0 else centred


def _quadrics(
    x: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices 4 4"]:
    """The error quadric of each vertex, on homogeneous points (Garland & Heckbert 1997, sections 5 and 6)."""
    Q = np.zeros((len(x), 4, 4))
    area = topology.face_areas(x, faces)
    normal = topology.face_normals(x, faces)
    np.add.at(Q, faces, (area[:, None, None] * _plane_quadrics(normal, x[faces[:, 0]]))[:, None])

    rim = topology.boundary_half_edges(faces)
    ends = topology.half_edges(faces)[rim]
    along = x[ends[:, 1]] - x[ends[:, 0]]
    squared_length = (along**2).sum(axis=1)
    across = np.cross(along, normal[rim // 3])
    across /= np.sqrt(np.where(squared_length > 0, squared_length, 1.0))[:, None]
    hold = BOUNDARY_WEIGHT * squared_length[:, None, None] * _plane_quadrics(across, x[ends[:, 0]])
    np.add.at(Q, ends, hold[:, None])

    share = np.zeros(len(x))
    np.add.at(share, faces, area[:, None] / 3)
    return Q + SPREAD_WEIGHT * share[:, None, None] * _point_quadrics(x)


def _plane_quadrics(
    normal: Float[np.ndarray, "n 3"], point: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4 4"]:
    """Squared distance to planes through points."""
    plane = np.concatenate([normal, -(normal * point).sum(axis=1, keepdims=True)], axis=1)
    return plane[:, :, None] * plane[:, None, :]


def _point_quadrics(point: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4 4"]:
    """Squared distance to points."""
    Q = np.tile(np.eye(4), (len(point), 1, 1))
    Q[:, :3, 3] = Q[:, 3, :3] = -point
    Q[:, 3, 3] = (point**2).sum(axis=1)
    return Q


def _up_matrix(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    kept: Int[np.ndarray, " kept"],
    new_faces: Int[np.ndarray, "new_faces 3"],
    home: Int[np.ndarray, " vertices"],
) -> sparse.csr_array:
    """Q_u (V, n) as `decimate` describes it; `home` is the new number of the vertex that each ended in."""
    index = np.repeat(home[:, None], 3, axis=1)
    weight = np.tile([1.0, 0.0, 0.0], (len(vertices), 1))
    removed = np.ones(len(vertices), dtype=bool)
    removed[kept] = False

    v, t = _nearby_triangles(np.flatnonzero(removed), home, new_faces, len(kept))
    normals = topology.face_normals(vertices[kept], new_faces)
    agrees = (topology.vertex_normals(vertices, faces)[v] * normals[t]).sum(axis=1) > 0
    v, t = v[agrees], t[agrees]
    corners = vertices[kept][new_faces[t]]
    barycentric, distance = _nearest_points(corners, vertices[v])
    order = np.lexsort((t, distance, v))
    best = order[np.unique(v[order], return_index=True)[1]]
    index[v[best]] = new_faces[t[best]]
    weight[v[best]] = barycentric[best]

    row = np.repeat(np.arange(len(vertices)), 3)
    up = sparse.csr_array((weight.reshape(-1), (row, index.reshape(-1))), shape=(len(vertices), len(kept)))
    up.eliminate_zeros()
    return up


def _nearby_triangles(
    removed: Int[np.ndarray, " removed"],
    home: Int[np.ndarray, " vertices"],
    new_faces: Int[np.ndarray, "new_faces 3"],
    n_kept: int,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """The pairs of a removed vertex and a triangle near the vertex that it ended in."""
    ring = topology.vertex_adjacency(new_faces, n_kept) + sparse.eye_array(n_kept, dtype=bool, format="csr")
    corner = np.repeat(np.arange(len(new_faces)), 3)
    ones = np.ones(len(corner), dtype=bool)
    touches = sparse.csr_array((ones, (new_faces.reshape(-1), corner)), shape=(n_kept, len(new_faces)))
    for _ in range(SEARCH_RINGS):
        touches = ring @ touches
    near = touches[home[removed]].tocoo()
    return removed[near.row], near.col.astype(np.int64)


def _nearest_points(
    triangles: Float[np.ndarray, "n 3 3"], points: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """The barycentric coordinates of the point of each triangle that is nearest to each point, and how far.

    It is the foot on the triangle's plane if that lies inside, else the nearest foot on one of the sides.
    Tolerance-free, so that it holds in any unit. The triangles must have an area.
    """
    start, end = triangles[:, [1, 2, 0]], triangles[:, [2, 0, 1]]  # side k lies opposite corner k
    side, to_point = end - start, points[:, None] - start
    normal = np.cross(side[:, 0], side[:, 1])[:, None]
    inner = (np.cross(side, to_point) * normal).sum(axis=2) / (normal**2).sum(axis=2)
    along = ((to_point * side).sum(axis=2) / (side**2).sum(axis=2)).clip(0, 1)[:, :, None]
    corner = np.eye(3)
    on_sides = (1 - along) * corner[[1, 2, 0]] + along * corner[[2, 0, 1]]
    inside = (inner >= 0).all(axis=1)
    feet = np.concatenate([on_sides, np.where(inside[:, None], inner, corner[0])[:, None]], axis=1)
    feet /= feet.sum(axis=2, keepdims=True)
    distance = np.linalg.norm(feet @ triangles - points[:, None], axis=2)
    best = distance.argmin(axis=1)
    n = np.arange(len(points))
    return feet[n, best], distance[n, best]
