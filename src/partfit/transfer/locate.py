"""Where landmarks lie on a model: the places whose projections agree best with what was seen in renders.

With camera-frame positions p_v of the model's points and the ray (u, v) = (x / z, y / z) of a landmark, the
distance across the ray of a mean b of points is the length of

    r(b) = sum_v b_v (p_v.x - u p_v.z, p_v.y - v p_v.z),

in metres and linear in b. A place minimises the mean over the renders in which the landmark was seen of
min(|r|, limit), by iteratively re-weighted least squares (weights 1 / |r| within the limit, 0 beyond) over
weights b >= 0 that sum to 1.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls

from partfit.landmarks import LandmarkEmbedding
from partfit.meshes import Mesh
from partfit.rendering import closest_surface_points

#: Distances count no further than this part of the landmarks' extent.
_LIMIT = 0.1
#: Largest distance of a symmetric surface from its mirror image, of its extent.
_ASYMMETRY = 0.01
#: Residuals below this part of the limit weigh alike.
_EXACT = 1e-4
_ITERATIONS = 15
#: How often the search moves on to the triangles around another vertex.
_WALK = 8
#: Points of the model that a joint may be a mean of, and how many of them it keeps.
_CANDIDATES, _KEPT = 64, 8
#: A vertex is a candidate where its mean distance is at most so many times that of the best one.
_AROUND = 2.5
#: The surface around a joint is farther from it than the limit: its distances count up to so many limits.
_REACH = 4.0
#: Weight of the distances of a joint's own points from it, against the residuals.
_COMPACT = 0.05


@attrs.frozen(eq=False)
class Spots:
    """Points inside triangles.

    Attributes:
        corners: (n, 3) indices of points.
        barycentric: (n, 3) their weights.
    """

    corners: Int[np.ndarray, "n 3"]
    barycentric: Float[np.ndarray, "n 3"]


def mirror_images(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Spots | None:
    """Where the mirror image (-x, y, z) of each vertex lies on the surface; None if it is not symmetric.

    It is symmetric when 95% of the mirror images lie within 1% of its extent from it.
    """
    mirrored = vertices * [-1.0, 1.0, 1.0]
    face, barycentric = closest_surface_points(mirrored, Mesh(vertices, faces))
    spots = Spots(faces[face], barycentric)
    gaps = np.linalg.norm(np.einsum("vkd,vk->vd", vertices[spots.corners], barycentric) - mirrored, axis=1)
    return spots if np.quantile(gaps, 0.95) < _ASYMMETRY * np.ptp(vertices, axis=0).max() else None


@attrs.frozen(eq=False)
class Observations:
    """Landmarks seen in N renders.

    Attributes:
        points: (N, P, 3) the model's points, metres, in the camera frame of each render, single precision.
        rays: (N, L, 2) x / z and y / z of the landmarks; NaN where a landmark was not seen.
    """

    points: Float[np.ndarray, "renders points 3"]
    rays: Float[np.ndarray, "renders landmarks 2"]

    @property
    def seen(self) -> Bool[np.ndarray, "renders landmarks"]:
        """(N, L) where a landmark was seen."""
        return ~np.isnan(self.rays).any(axis=-1)

    @property
    def extent(self) -> float:
        """Size of what the landmarks cover, metres: the mean side of their box, median of the renders.

        At least one landmark must be seen in each render.
        """
        sides = np.nanmax(self.rays, axis=1) - np.nanmin(self.rays, axis=1)
        return float(np.median(sides.mean(axis=1) * np.median(self.points[..., 2], axis=1)))

    @property
    def limit(self) -> float:
        """Up to which distance residuals count, metres: a tenth of the extent."""
        return _LIMIT * self.extent

    def only(self, renders: Bool[np.ndarray, " renders"]) -> Observations:
        """The same renders, but nothing was seen in the others; the points are shared, not copied."""
        return Observations(self.points, np.where(renders[:, None, None], self.rays, np.nan))

    def of_landmarks(self, chosen: Bool[np.ndarray, " landmarks"]) -> Observations:
        """What was seen of some landmarks."""
        return Observations(self.points, self.rays[:, chosen])

    def with_mirrored(self, mirror: Spots, landmark_mirror: Int[np.ndarray, " landmarks"]) -> Observations:
        """These observations and those of the mirrored model, in which left and right have changed places.

        Args:
            mirror: Where the mirror image of each vertex lies on the surface; virtual points are left out.
            landmark_mirror: (L,) the counterpart of each landmark.
        """
        n, weights = len(self.points), mirror.barycentric.astype(np.float32)
        points = np.empty((2 * n, len(weights), 3), dtype=np.float32)
        points[:n] = self.points[:, : len(weights)]
        for own, mirrored in zip(
            points[:n], points[n:], strict=True
        ):  # all at once would take three times as much
            np.einsum("vkd,vk->vd", own[mirror.corners], weights, out=mirrored)
        return Observations(points, np.concatenate([self.rays, self.rays[:, landmark_mirror]]))

    def residuals(
        self, landmark: int, indices: Int[np.ndarray, "*rows k"]
    ) -> Float[np.ndarray, "seen *rows k 2"]:
        """Distances r of single points from a landmark's rays, metres across them, where it was seen."""
        renders = np.flatnonzero(self.seen[:, landmark]).reshape(-1, *(1,) * indices.ndim)
        points = self.points[renders, indices].astype(float)
        return points[..., :2] - self.rays[renders, landmark] * points[..., 2:]

    def distances(self, embedding: LandmarkEmbedding) -> Float[np.ndarray, "renders landmarks"]:
        """|r| (N, L), metres, of each landmark's place; NaN where it was not seen or has no place."""
        places = embedding.apply(self.points)
        distances = np.linalg.norm(places[..., :2] - self.rays * places[..., 2:], axis=-1)
        return np.where(embedding.reliability > 0, distances, np.nan)


def point_costs(
    seen: Observations, points: Int[np.ndarray, " chosen"], limit: float
) -> Float[np.ndarray, "chosen landmarks"]:
    """(C, L) mean of min(|r|, limit), metres, of single points for every landmark where it was seen."""
    total = np.zeros((len(points), seen.rays.shape[1]), dtype=np.float32)
    for own, rays, known in zip(seen.points, seen.rays, seen.seen, strict=True):
        if known.any():
            x, y, z = own[points].astype(float).T
            # |p.xy - u z|^2 as a product of matrices
            left = np.stack([x**2 + y**2, x * z, y * z, z**2], axis=1).astype(np.float32)
            u, v = rays[known].T
            right = np.stack([np.ones_like(u), -2 * u, -2 * v, u**2 + v**2]).astype(np.float32)
            total[:, known] += np.sqrt(np.clip(left @ right, 0, limit**2))
    return total / seen.seen.sum(axis=0, dtype=np.float32)


def locate_on_surface(seen: Observations, faces: Int[np.ndarray, "faces 3"], limit: float) -> Spots:
    """The place of each landmark on a surface.

    The vertex of least cost comes first, then the best place in the triangles around it; while that leans on
    another corner, the triangles around that one are searched.

    Args:
        seen: The observations; each landmark was seen.
        faces: (F, 3) the triangles that landmarks may lie in, as indices of points.
        limit: Metres, see above.
    """
    vertices = np.unique(faces)
    best = vertices[point_costs(seen, vertices, limit).argmin(axis=0)]
    around = _faces_around(faces)
    found = [_walk(seen, landmark, int(vertex), faces, around, limit) for landmark, vertex in enumerate(best)]
    return Spots(faces[[face for face, _ in found]], np.stack([weights for _, weights in found]))


def _walk(
    seen: Observations,
    landmark: int,
    vertex: int,
    faces: Int[np.ndarray, "faces 3"],
    around: dict[int, list[int]],
    limit: float,
) -> tuple[int, Float[np.ndarray, " 3"]]:
    for _ in range(_WALK):
        fan = np.array(around[vertex])
        weights, cost = _best_in_triangles(seen.residuals(landmark, faces[fan]), limit)
        chosen = int(cost.argmin())
        face, barycentric = int(fan[chosen]), weights[chosen]
        nearest = int(faces[face][barycentric.argmax()])
        if nearest == vertex:
            break
        vertex = nearest
    return face, barycentric


def _faces_around(faces: Int[np.ndarray, "faces 3"]) -> dict[int, list[int]]:
    around: dict[int, list[int]] = {}
    for face, corners in enumerate(faces.tolist()):
        for corner in corners:
            around.setdefault(corner, []).append(face)
    return around


def _best_in_triangles(
    residuals: Float[np.ndarray, "renders triangles 3 2"], limit: float
) -> tuple[Float[np.ndarray, "triangles 3"], Float[np.ndarray, " triangles"]]:
    """Barycentric coordinates (T, 3) of least cost in each triangle, and that cost (T,)."""
    weights = np.full((residuals.shape[1], 3), 1 / 3)
    for _ in range(_ITERATIONS):
        distance = np.linalg.norm(np.einsum("ntkd,tk->ntd", residuals, weights), axis=-1)
        robust = _robust_weights(distance, limit, _EXACT * limit)
        weights = _simplex_minimum(np.einsum("nt,ntkd,ntmd->tkm", robust, residuals, residuals))
    distance = np.linalg.norm(np.einsum("ntkd,tk->ntd", residuals, weights), axis=-1)
    return weights, np.minimum(distance, limit).mean(axis=0)


def _robust_weights(distance: np.ndarray, limit: float, least: float) -> np.ndarray:
    """1 / distance within the limit, 0 beyond; where all lie beyond, the same for all."""
    weights = np.where(distance < limit, 1 / np.maximum(distance, least), 0.0)
    return np.where(weights.any(axis=0), weights, 1.0)


def _simplex_minimum(quadratic: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """The b >= 0 with sum 1 that minimises b^T Q b: inside the triangle if it can be, else on an edge."""
    n = len(quadratic)
    options = np.zeros((4, n, 3))
    basis = np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    small = basis.T @ quadratic @ basis
    small += 1e-12 * np.trace(small, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 1e-300 * np.eye(2)
    inner = np.linalg.solve(small, -(basis.T @ quadratic[:, :, 0, None]))[..., 0]
    options[0] = np.concatenate([1 - inner.sum(axis=1, keepdims=True), inner], axis=1)
    for edge, (i, j) in enumerate(((0, 1), (1, 2), (2, 0)), start=1):
        curvature = quadratic[:, i, i] - 2 * quadratic[:, i, j] + quadratic[:, j, j]
        along = np.clip((quadratic[:, i, i] - quadratic[:, i, j]) / np.maximum(curvature, 1e-300), 0, 1)
        options[edge, :, i], options[edge, :, j] = 1 - along, along
    cost = np.einsum("onk,nkm,onm->on", options, quadratic, options)
    cost[0, (options[0] < 0).any(axis=1)] = np.inf
    return options[cost.argmin(axis=0), np.arange(n)]


def locate_joints(
    seen: Observations, n_vertices: int, limit: float
) -> tuple[Int[np.ndarray, "landmarks kept"], Float[np.ndarray, "landmarks kept"]]:
    """Each landmark as a mean of a few of the model's points, which may lie around it, as around a joint.

    Candidates are the virtual point of least cost and vertices whose cost is not much above the least. Of the
    non-negative least-squares solution the largest weights are kept.

    Args:
        seen: The observations; each landmark was seen.
        n_vertices: V; the virtual points follow.
        limit: Metres, see above.

    Returns:
        Indices and weights of rows (L, K), K = 8.
    """
    cost = point_costs(seen, np.arange(seen.points.shape[1]), _REACH * limit)
    rows = [_mean_of_points(seen, i, _candidates(own, n_vertices), limit) for i, own in enumerate(cost.T)]
    return np.stack([indices for indices, _ in rows]), np.stack([weights for _, weights in rows])


def _candidates(cost: Float[np.ndarray, " points"], n_vertices: int) -> Int[np.ndarray, " candidates"]:
    order = cost[:n_vertices].argsort()
    near = order[cost[order] <= _AROUND * cost[order[0]]]
    spread = near[np.unique(np.linspace(0, len(near) - 1, _CANDIDATES).astype(int))]
    virtual = cost[n_vertices:]
    return np.append(spread, n_vertices + virtual.argmin()) if len(virtual) else spread


def _mean_of_points(
    seen: Observations, landmark: int, candidates: Int[np.ndarray, " candidates"], limit: float
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    weights = _convex_combination(seen.residuals(landmark, candidates), limit)
    while len(candidates) > _KEPT:  # half of those that count, and once more, so that the others take over
        kept = np.argsort(-weights, kind="stable")[: max(_KEPT, np.count_nonzero(weights) // 2)]
        candidates = candidates[kept]
        weights = _convex_combination(seen.residuals(landmark, candidates), limit)
    missing = _KEPT - len(candidates)
    return np.pad(candidates, (0, missing), mode="edge"), np.pad(weights, (0, missing))


def _convex_combination(
    residuals: Float[np.ndarray, "renders candidates 2"], limit: float
) -> Float[np.ndarray, " candidates"]:
    """(C,) weights b >= 0 with sum 1: non-negative least squares with a heavy row for the sum.

    Source: Haskell & Hanson 1981, "An algorithm for linear least squares problems with equality and
    nonnegativity constraints".
    """
    n_candidates = residuals.shape[1]
    spans = np.sqrt(np.mean(np.minimum(np.linalg.norm(residuals, axis=-1), _REACH * limit) ** 2, axis=0))
    weights = np.eye(n_candidates)[spans.argmin()]
    stacked = residuals.transpose(0, 2, 1)  # (N, 2, C)
    for iteration in range(_ITERATIONS):
        distance = np.linalg.norm(stacked @ weights, axis=1)
        # without the limit the problem is convex: its solution does not depend on the start
        reach = math.inf if iteration < _ITERATIONS // 2 else limit
        robust = np.sqrt(_robust_weights(distance, reach, _EXACT * limit) / len(residuals))
        rows = (robust[:, None, None] * stacked).reshape(-1, n_candidates)
        compact = _COMPACT * np.sqrt((robust**2).sum()) * np.diag(spans)
        heavy = 1e4 * np.sqrt((rows**2).sum(axis=0).max())
        system = np.concatenate([rows, compact, np.full((1, n_candidates), heavy)])
        weights = nnls(system, np.append(np.zeros(len(system) - 1), heavy))[0]
        weights /= weights.sum()
    return weights
