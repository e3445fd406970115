"""The surface under hair and hats: rays from the middle of a head, as numbers that fit every head."""

from __future__ import annotations

import attrs
import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix, csr_matrix, diags, identity
from scipy.sparse.linalg import splu

from partfit_synthetic.anchors import LEFT_BROW, RIGHT_BROW, FaceAnchors

#: Columns around the crown (the first comes again as the last), and rows from the crown down.
COLUMNS, ROWS = 72, 26
#: Angle between the crown and the lowest row, and how far the crown lies behind the top, radians.
LOWEST, CROWN_TILT = np.radians(126), np.radians(18)
#: Regions inside the head, or standing off it.
_NOT_SCALP = ("ears", "mouth_cavity", "tongue", "upper_teeth", "lower_teeth", "left_eyeball", "right_eyeball")
_FACES_AT_ONCE = 512


@attrs.frozen(eq=False)
class Scalp:
    """A grid of directions from the middle of a head, and where they leave it.

    Attributes:
        azimuth: (COLUMNS + 1,) radians around the crown: 0 in front, positive to the subject's left.
        polar: (ROWS,) radians from the crown.
        weights: (ROWS * (COLUMNS + 1), V) sparse: points of the grid from the head's vertices. Ears and
            other holes are bridged.
        rest: (ROWS, COLUMNS + 1, 3) the grid on the mean head, in its frame.
        centre: (3,) where the rays start, on the mean head.
        brow_height: Height of the brows on the mean head.
    """

    azimuth: np.ndarray
    polar: np.ndarray
    weights: csr_matrix
    rest: np.ndarray
    centre: np.ndarray
    brow_height: float

    def on(self, anchors: FaceAnchors) -> Float[np.ndarray, "rows columns 3"]:
        """The grid on a posed head, in the head's own frame."""
        return anchors.to_head(self.weights @ anchors.vertices).reshape(self.rest.shape)

    def row_at_height(self, height: Float[np.ndarray, " columns"]) -> Float[np.ndarray, " columns"]:
        """In each column the row, between rows, at which the mean head's surface sinks to a height."""
        return rows_reaching(np.maximum.accumulate(-self.rest[..., 1], axis=0), -height[None])[0]


_scalps: dict[bytes, Scalp] = {}


def scalp_of(anchors: FaceAnchors) -> Scalp:
    """The scalp of a head's model: worked out once per process, then remembered."""
    key = anchors.canonical[::61].tobytes() + np.int64(len(anchors.faces)).tobytes()
    if key not in _scalps:
        _scalps[key] = _make_scalp(anchors)
    return _scalps[key]


def rows_reaching(
    values: Float[np.ndarray, "rows columns"], wanted: Float[np.ndarray, "m columns"]
) -> Float[np.ndarray, "m columns"]:
    """The places between the rows at which columns that rise reach values: the inverse of `between_rows`."""
    last = len(values) - 1
    low = np.clip((values <= wanted[:, None]).sum(axis=1) - 1, 0, last - 1)
    columns = np.arange(values.shape[1])
    start, end = values[low, columns], values[low + 1, columns]
    return np.clip(1 / np.maximum(end - start, 1e-12) * (wanted - start) + low, 0, last)


def between_rows(
    values: Float[np.ndarray, "rows columns n"], row: Float[np.ndarray, "m columns"]
) -> Float[np.ndarray, "m columns n"]:
    """Values of a grid at places between its rows."""
    low = np.clip(row.astype(int), 0, len(values) - 2)
    part = (row - low)[..., None]
    columns = np.arange(values.shape[1])
    return values[low, columns] * (1 - part) + values[low + 1, columns] * part


def _make_scalp(anchors: FaceAnchors) -> Scalp:
    points = np.asarray(anchors.canonical, dtype=float)
    outside = np.ones(len(points), dtype=bool)
    for name in _NOT_SCALP:
        outside[anchors.region(name)] = False
    faces = anchors.faces[outside[anchors.faces].all(axis=1)]
    brows = float(anchors.canonical_landmarks[np.concatenate([RIGHT_BROW, LEFT_BROW]), 1].mean())
    skull = points[points[:, 1] > brows]
    top = points[:, 1].max()
    centre = np.array([0.0, top - 0.092 * (top - brows) / 0.085, (skull[:, 2].max() + skull[:, 2].min()) / 2])
    azimuth = np.linspace(-np.pi, np.pi, COLUMNS + 1)
    polar = np.linspace(np.radians(1.5), LOWEST, ROWS)
    face, barycentric = _last_hits(points[faces], centre, _directions(polar, azimuth))
    weights = _bridged(faces, face, barycentric, len(points))
    rest = (weights @ points).reshape(ROWS, COLUMNS + 1, 3)
    return Scalp(azimuth, polar, weights, rest, centre, brows)


def _directions(polar: np.ndarray, azimuth: np.ndarray) -> Float[np.ndarray, "rays 3"]:
    """Unit directions of the grid, row by row: y up, z to the front."""
    sin, cos = np.sin(polar)[:, None], np.cos(polar)[:, None] + 0 * azimuth
    side, up, front = sin * np.sin(azimuth), cos, sin * np.cos(azimuth)
    turned = np.cos(CROWN_TILT) * up + np.sin(CROWN_TILT) * front
    front = np.cos(CROWN_TILT) * front - np.sin(CROWN_TILT) * up
    return np.stack([side, turned, front], axis=-1).reshape(-1, 3)


def _last_hits(
    triangles: Float[np.ndarray, "f 3 3"], centre: np.ndarray, directions: Float[np.ndarray, "rays 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """The outermost triangle that each ray meets (-1: none), and where in it (Moeller and Trumbore)."""
    best = np.zeros(len(directions))
    face = np.full(len(directions), -1)
    barycentric = np.zeros((len(directions), 3))
    for start in range(0, len(triangles), _FACES_AT_ONCE):
        corner = triangles[start : start + _FACES_AT_ONCE]
        first, second = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
        offset = centre - corner[:, 0]
        across = np.cross(directions[:, None], second[None])
        area = np.einsum("rfk,fk->rf", across, first)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.einsum("rfk,fk->rf", across, offset) / area
            turned = np.cross(offset, first)
            v = directions @ turned.T / area
            distance = np.einsum("fk,fk->f", second, turned) / area
            inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0)
        distance = np.where(inside, distance, 0)
        here = distance.argmax(axis=1)
        rays = np.flatnonzero(distance.max(axis=1) > best)
        chosen = here[rays]
        best[rays], face[rays] = distance[rays, chosen], start + chosen
        u, v = u[rays, chosen], v[rays, chosen]
        barycentric[rays] = np.stack([1 - u - v, u, v], axis=1)
    return face, barycentric


def _bridged(faces: np.ndarray, face: np.ndarray, barycentric: np.ndarray, n_points: int) -> csr_matrix:
    """Weights of all points of the grid; those that met nothing lie evenly between their neighbours."""
    met = face >= 0
    rows = np.repeat(np.flatnonzero(met), 3)
    shape = (len(face), n_points)
    seen = coo_matrix((barycentric[met].ravel(), (rows, faces[face[met]].ravel())), shape).tocsr()
    near = _neighbours()
    laplacian = (diags(np.asarray(near.sum(axis=1)).ravel()) - near).tocsr()
    holes = np.flatnonzero(~met)
    solve = splu(laplacian[holes][:, holes].tocsc()).solve
    rim = np.flatnonzero(np.asarray(near[holes].sum(axis=0)).ravel() * met)
    from_rim = csr_matrix(solve(-laplacian[holes][:, rim].toarray()))
    spread = identity(len(face), format="csr")[:, holes] @ from_rim @ seen[rim]
    return (seen + spread).tocsr()


def _neighbours() -> csr_matrix:
    """Which points of the grid are next to each other; the last column goes on to the first."""
    index = np.arange(ROWS * (COLUMNS + 1)).reshape(ROWS, COLUMNS + 1)
    pairs = [(index[1:], index[:-1]), (index[:, 1:], index[:, :-1]), (index[:, :1], index[:, -2:-1])]
    first = np.concatenate([a.ravel() for a, _ in pairs])
    second = np.concatenate([b.ravel() for _, b in pairs])
    ones = coo_matrix((np.ones(len(first)), (first, second)), (index.size, index.size))
    return (ones + ones.T).tocsr()
