"""Files in the format of FLAME's official ones, at full size, with made-up content.

FLAME's own files may not be passed on. These have the same names, keys, types and sizes, so that readers can
be tested and shown without them: `generic_model.pkl` and its kin, `FLAME_masks.pkl`,
`landmark_embedding.npy`, `flame_static_embedding.pkl`, `flame_dynamic_embedding.npy` and
`mediapipe_landmark_embedding.npz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls

from partfit.errors import InputError
from partfit.geometry import topology
from partfit.landmarks import LandmarkEmbedding
from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit.testing.official.pickles import write_pickle
from partfit.testing.official.surfaces import Surface, resampled

N_VERTICES, N_FACES = 5023, 9976
N_SHAPE, N_EXPRESSION = 300, 100
#: Parents of root, neck, jaw, left eye and right eye.
PARENTS = (-1, 0, 1, 1, 1)
#: The parent of the root in `kintree_table`, -1 as an unsigned number.
NO_PARENT = 4294967295

#: Rows of the table of the dynamic contour, one a degree of yaw: 0..39, then -1..-39.
CONTOUR_YAWS = (*range(40), *range(-1, -40, -1))
#: Landmarks of `ibug68` that follow the outline.
N_CONTOUR = 17

#: MediaPipe's points of brows, eyes, nose and lips, which FLAME's embedding places.
MEDIAPIPE_105 = (
    *(276, 282, 283, 285, 293, 295, 296, 300, 334, 336, 46, 52, 53, 55, 63, 65, 66, 70, 105, 107),
    *(249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466),
    *(7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246),
    *(168, 6, 197, 195, 5, 4, 129, 98, 97, 2, 326, 327, 358),
    *(0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181),
    *(185, 191, 267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415),
)

#: Parts of a source that FLAME's head does not have.
_LEFT_OUT = ("tongue", "upper_teeth", "lower_teeth")
#: How much finer the eyeballs of a source are made: FLAME's have many vertices.
_EYEBALLS_FINER = 3.0
#: What FLAME 2023 Open says about its columns of expression.
_EXPRESSION_METADATA = {
    "expr_source": "made-up",
    "supr_gender": "neutral",
    "expr_components": f"last_{N_EXPRESSION}",
    "n_expr": N_EXPRESSION,
}
#: Root mean square displacement, metres, of columns that no direction of the source fills.
_NOISE = 1e-4

#: How a file is written: as a Python 2 pickle with chumpy arrays, as one without, with what FLAME 2023 Open
#: adds to that, or as arrays alone.
Variant = Literal["chumpy", "plain", "open", "npz"]


@attrs.frozen(eq=False)
class FlameContent:
    """What the official files hold, for one made-up head.

    Attributes:
        entries: Of `generic_model.pkl`: `v_template` (5023, 3), `shapedirs` (5023, 3, 400), `f`, ...
        masks: Of `FLAME_masks.pkl`: vertex indices by region.
        landmarks: Of `landmark_embedding.npy`: triangles and barycentric coordinates of 51 fixed points
            (`static`), 17 contour points at 79 yaws (`dynamic`) and 68 points of the frontal view (`full`).
        mediapipe: Of `mediapipe_landmark_embedding.npz`: the same for 105 of MediaPipe's points.
    """

    entries: dict[str, Any]
    masks: dict[str, np.ndarray]
    landmarks: dict[str, np.ndarray]
    mediapipe: dict[str, Any]


def flame_entries(source: SkinnedModel | None = None, seed: int = 0) -> dict[str, Any]:
    """The entries of a FLAME model file, see `flame_content`."""
    return flame_content(source, seed).entries


def flame_content(
    source: SkinnedModel | None = None,
    seed: int = 0,
    embeddings: Mapping[str, LandmarkEmbedding] | None = None,
) -> FlameContent:
    """Content of FLAME's files: a head with 5023 vertices, 9976 faces and FLAME's five joints.

    Args:
        source: A head with the joints root, neck, jaw, left eye and right eye, the groups `betas` and
            `expression`, and the regions `face`, `lips`, `ears`, `head_without_neck`, `left_eyeball` and
            `right_eyeball`. Its directions become the first shape and expression columns, one unit being one
            standard deviation; the motions of the jaw are left to the joint. A smooth made-up head for None.
        seed: Of the other columns and of the pose correctives, which are small and smooth.
        embeddings: Of the source, by the schemes `ibug68` and `mediapipe468`: they say where the landmarks
            lie. Those that are not given lie anywhere on the face.

    Raises:
        InputError: if the source has other joints, or lacks a region.
    """
    head = _Head.of(_made_up_head() if source is None else source)
    rng = np.random.default_rng(seed)
    masks = _masks(head)
    return FlameContent(_entries(head, rng), masks, *_landmarks(head, embeddings or {}))


def write_flame(path: str | Path, entries: Mapping[str, Any], variant: Variant = "chumpy") -> Path:
    """Write a model file as FLAME's are.

    Args:
        path: `.pkl`, or `.npz` for the variant `npz`.
        entries: From `flame_entries`.
        variant: `chumpy` is the official file; `plain` has numpy arrays and the sparse regressor; `open` is
            FLAME 2023 Open, which is such a file and says in an entry `supr_expression_metadata` which
            columns of `shapedirs` are of expression; `npz` has numpy arrays only. (`flame2023_no_jaw.pkl`
            has the same entries and sizes as the others; its expressions move the jaw.)
    """
    path = Path(path)
    if variant == "open":
        entries = {**entries, "supr_expression_metadata": _EXPRESSION_METADATA}
    if variant == "npz":
        np.savez(path, **entries)
    else:
        chumpy = ("v_template", "shapedirs", "posedirs", "weights", "J") if variant == "chumpy" else ()
        write_pickle(path, entries, chumpy=chumpy, sparse=("J_regressor",), python2=variant == "chumpy")
    return path


def write_companions(folder: str | Path, content: FlameContent) -> dict[str, Path]:
    """Write the files that go with a model file; their paths by name.

    `landmark_embedding.npy` holds torch tensors where the official one does.
    """
    folder, landmarks = Path(folder), content.landmarks
    with_tensors = {k: torch.as_tensor(v) if "dynamic" in k else v for k, v in landmarks.items()}
    arrays = {
        "landmark_embedding.npy": with_tensors,
        "flame_dynamic_embedding.npy": {
            "lmk_face_idx": landmarks["dynamic_lmk_faces_idx"],
            "lmk_b_coords": landmarks["dynamic_lmk_bary_coords"],
        },
    }
    pickles = {
        "FLAME_masks.pkl": content.masks,
        "flame_static_embedding.pkl": {
            "lmk_face_idx": landmarks["static_lmk_faces_idx"],
            "lmk_b_coords": landmarks["static_lmk_bary_coords"],
        },
    }
    for name, entries in arrays.items():
        np.save(folder / name, np.array(entries, dtype=object), allow_pickle=True)
    for name, entries in pickles.items():
        write_pickle(folder / name, entries)
    np.savez(folder / "mediapipe_landmark_embedding.npz", **content.mediapipe)
    names = (*arrays, *pickles, "mediapipe_landmark_embedding.npz")
    return {name: folder / name for name in names}


@attrs.frozen(eq=False)
class _Head:
    """A source brought to FLAME's counts."""

    source: SkinnedModel
    surface: Surface

    @classmethod
    def of(cls, source: SkinnedModel) -> _Head:
        if tuple(source.arrays.parents) != PARENTS:
            raise InputError(
                f"The source must have joints with parents {PARENTS}, not {source.arrays.parents}."
            )
        regions, n = source.topology.regions, source.topology.n_vertices
        keep, finer = np.ones(n, dtype=bool), np.ones(n)
        for name in _LEFT_OUT:
            keep[regions.get(name, [])] = False
        for name in ("left_eyeball", "right_eyeball"):
            finer[source.topology.region(name)] = _EYEBALLS_FINER
        return cls(source, resampled(source, N_VERTICES, N_FACES, keep=keep, finer=finer))

    def region(self, name: str) -> np.ndarray:
        return self.surface.region(self.source.topology.region(name))

    def inside(self, name: str) -> Bool[np.ndarray, " vertices"]:
        return np.isin(np.arange(N_VERTICES), self.region(name))

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Values at the points of the source (its virtual points are passed over) at the vertices."""
        return self.surface.carry(values[: self.source.topology.n_vertices])

    @property
    def eyes(self) -> Bool[np.ndarray, " vertices"]:
        return self.inside("left_eyeball") | self.inside("right_eyeball")


def _entries(head: _Head, rng: np.random.Generator) -> dict[str, Any]:
    arrays, vertices = head.source.arrays, head.surface.vertices
    shapedirs = _smooth(rng, vertices, N_SHAPE + N_EXPRESSION)
    for name, start, room in (("betas", 0, N_SHAPE), ("expression", N_SHAPE, N_EXPRESSION)):
        columns = _columns(head.source, name)[:room]
        shapedirs[..., start : start + len(columns)] = head.carry(arrays.shapedirs[..., columns])
        shapedirs[..., start : start + len(columns)] *= _standard_deviations(head.source, columns)
    regressor = _joint_regressor(head)
    weights = head.carry(arrays.lbs_weights)
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        weights[head.region(name)] = np.eye(5)[joint]
    parents = [NO_PARENT if p < 0 else p for p in PARENTS]
    return {
        "v_template": vertices,
        "f": head.surface.faces.astype(np.uint32),
        "shapedirs": shapedirs,
        "posedirs": _smooth(rng, vertices, 36),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "kintree_table": np.array([parents, range(5)], dtype=np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def _columns(source: SkinnedModel, name: str) -> list[int]:
    """The columns of a coefficient group that move no jaw and no tongue."""
    group = source.group(name)
    names = group.names or ("",) * group.size
    start = source.slices[name].start
    return [start + i for i, n in enumerate(names) if not n.startswith(("jaw", "tongue"))]


def _standard_deviations(source: SkinnedModel, columns: list[int]) -> np.ndarray:
    roots = np.concatenate([group.sqrt_information for group in source.coefficients])
    return 1 / roots[columns]


def _smooth(rng: np.random.Generator, vertices: np.ndarray, n: int) -> np.ndarray:
    """(V, 3, n) small displacements by waves of about 10 cm."""
    waves = np.sin(vertices @ rng.normal(size=(3, 30)) * 40 + rng.uniform(0, 2 * np.pi, 30))
    columns = np.einsum("vf,fdk->vdk", waves, rng.normal(size=(30, 3, n)))
    return columns * _NOISE / np.sqrt((columns**2).sum(axis=1).mean(axis=0))


def _joint_regressor(head: _Head) -> Float[np.ndarray, "5 vertices"]:
    """Means of vertices: the root is the middle of the rim, the other joints are those of the source."""
    vertices, eyes = head.surface.vertices, head.eyes
    rim = np.unique(topology.boundary_edges(head.surface.faces))
    regressor = np.zeros((5, N_VERTICES))
    regressor[0, rim] = 1 / len(rim)
    for joint, place in enumerate(head.source.arrays.joints[1:], start=1):
        if joint >= 3:
            near = head.region("left_eyeball" if joint == 3 else "right_eyeball")
        else:
            near = np.flatnonzero(~eyes & (np.abs(vertices[:, 1] - place[1]) < 0.03))[::5]
        regressor[joint, near] = _convex_weights(vertices[near], place)
    return regressor


def _convex_weights(points: Float[np.ndarray, "n 3"], target: Float[np.ndarray, " 3"]) -> np.ndarray:
    """(n,) weights >= 0 of sum 1, as even as may be, of the mean of points that lies at the target."""
    n, strict = len(points), 1e4
    wanted = strict * np.concatenate([(points - target).T, np.ones((1, n))])
    system = np.concatenate([wanted, np.eye(n)])
    weights, _ = nnls(system, np.concatenate([np.zeros(3), [strict], np.full(n, 1 / n)]))
    return weights / weights.sum()


def _masks(head: _Head) -> dict[str, np.ndarray]:
    """The regions of `FLAME_masks.pkl`; those that the source does not name are boxes around the eyes."""
    vertices, eyes = head.surface.vertices, head.eyes
    x, y, _ = (vertices - head.source.arrays.joints[3:].mean(axis=0)).T
    face, ears, neck = head.inside("face"), head.inside("ears"), ~head.inside("head_without_neck")
    nose = face & (np.abs(x) < 0.017) & (y < 0) & (y > -0.047)
    eye_region = face & ~nose & (np.abs(y) < 0.022)
    regions = {
        "eye_region": eye_region,
        "neck": neck,
        "left_eyeball": head.inside("left_eyeball"),
        "right_eyeball": head.inside("right_eyeball"),
        "right_ear": ears & (x < 0),
        "right_eye_region": eye_region & (x < 0),
        "forehead": face & (y > 0.03),
        "lips": head.inside("lips"),
        "nose": nose,
        "scalp": ~face & ~ears & ~neck & ~eyes & (y > -0.03),
        "boundary": np.isin(np.arange(N_VERTICES), topology.boundary_edges(head.surface.faces)),
        "face": face,
        "left_ear": ears & (x > 0),
        "left_eye_region": eye_region & (x > 0),
    }
    return {name: np.flatnonzero(inside) for name, inside in regions.items()}


def _landmarks(
    head: _Head, embeddings: Mapping[str, LandmarkEmbedding]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The content of `landmark_embedding.npy` and of `mediapipe_landmark_embedding.npz`."""
    template = head.source.arrays.v_template
    skin = _SkinPoints(head)
    if "ibug68" in embeddings:
        face, weight = skin.nearest(embeddings["ibug68"].apply(template))
    else:
        face, weight = skin.scattered(68)
    contour_face, contour_weight = skin.contour(face[:N_CONTOUR], weight[:N_CONTOUR])
    landmarks = {
        "static_lmk_faces_idx": face[N_CONTOUR:],
        "static_lmk_bary_coords": weight[N_CONTOUR:],
        "dynamic_lmk_faces_idx": contour_face,
        "dynamic_lmk_bary_coords": contour_weight,
        "full_lmk_faces_idx": face[None],
        "full_lmk_bary_coords": weight[None],
    }
    if "mediapipe468" in embeddings:
        points = embeddings["mediapipe468"].apply(template)[list(MEDIAPIPE_105)]
        face, weight = skin.nearest(points)
    else:
        face, weight = skin.scattered(105)
    mediapipe = {"lmk_face_idx": face, "lmk_b_coords": weight, "landmark_indices": np.array(MEDIAPIPE_105)}
    return landmarks, mediapipe


class _SkinPoints:
    """Places on the triangles of the face."""

    def __init__(self, head: _Head) -> None:
        self.vertices, self.faces = head.surface.vertices, head.surface.faces
        self.inside = head.inside("face") | head.inside("lips")
        self.choice = np.flatnonzero(self.inside[self.faces].all(axis=1))
        self.middles = self.vertices[self.faces[self.choice]].mean(axis=1)

    def nearest(self, points: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
        """The nearest place to each point: face (n,) and barycentric coordinates (n, 3)."""
        faces, weights = [], []
        for point in points:
            near = self.choice[np.argsort(np.linalg.norm(self.middles - point, axis=1))[:24]]
            triangles = self.vertices[self.faces[near]]
            places = trimesh.triangles.closest_point(triangles, np.tile(point, (len(near), 1)))
            best = int(np.linalg.norm(places - point, axis=1).argmin())
            weight = trimesh.triangles.points_to_barycentric(
                triangles[best : best + 1], places[best : best + 1]
            )
            weight = np.clip(weight[0], 0, 1)
            faces.append(near[best])
            weights.append(weight / weight.sum())
        return np.array(faces), np.array(weights)

    def scattered(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Places all over the face, from its one ear to its other."""
        order = self.choice[np.argsort(self.middles[:, 0], kind="stable")]
        faces = order[np.linspace(0, len(order) - 1, n).astype(int)]
        return faces, np.tile([0.5, 0.3, 0.2], (n, 1))

    def contour(
        self, face: Int[np.ndarray, " contour"], weight: Float[np.ndarray, "contour 3"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The outline at each of `CONTOUR_YAWS`: faces (79, 17) and barycentric coordinates (79, 17, 3).

        Each landmark goes to the vertex at about its own height that lies farthest to its side, as the head
        turns. The table counts yaw as positive when the head turns to the subject's right. The chin stays.
        """
        frontal = np.einsum("lkd,lk->ld", self.vertices[self.faces[face]], weight)
        faces = np.tile(face, (len(CONTOUR_YAWS), 1))
        weights = np.tile(weight, (len(CONTOUR_YAWS), 1, 1))
        for row, yaw in enumerate(CONTOUR_YAWS):
            angle = -np.radians(yaw)
            across = self.vertices @ [np.cos(angle), 0, np.sin(angle)]
            for landmark in range(N_CONTOUR):
                side = np.sign(N_CONTOUR // 2 - landmark)  # the first landmarks are on the subject's right
                if side != 0 and yaw != 0:
                    level = self.inside & (np.abs(self.vertices[:, 1] - frontal[landmark, 1]) < 0.006)
                    candidates = np.flatnonzero(level)
                    vertex = candidates[np.argmin(side * across[candidates])]
                    at = self.choice[(self.faces[self.choice] == vertex).any(axis=1).argmax()]
                    faces[row, landmark] = at
                    weights[row, landmark] = self.faces[at] == vertex
        return faces, weights


def _made_up_head() -> SkinnedModel:
    """An egg with a nose, open below, and two eyeballs, with smooth directions of shape and expression."""
    ball = trimesh.creation.icosphere(4)
    low = np.asarray(ball.vertices)[:, 1] < -0.85
    kept, faces = topology.submesh(np.asarray(ball.faces, dtype=np.int64), ~low)
    skin = np.asarray(ball.vertices)[kept] * [0.075, 0.125, 0.095]
    skin[:, 2] += (
        0.02 * np.exp(-(((skin[:, :2] - [0, 0.0]) / [0.012, 0.02]) ** 2).sum(axis=1)) * (skin[:, 2] > 0)
    )
    joints = np.array(
        [[0, -0.08, -0.02], [0, -0.05, -0.02], [0, 0, 0], [0.031, 0.03, 0.07], [-0.031, 0.03, 0.07]]
    )
    eyeball = trimesh.creation.icosphere(2)
    n_eye = len(eyeball.vertices)
    vertices = np.concatenate([skin, *(np.asarray(eyeball.vertices) * 0.012 + joint for joint in joints[3:])])
    eyes = [np.asarray(eyeball.faces) + len(skin) + i * n_eye for i in range(2)]
    x, y, z = vertices.T
    is_skin = np.arange(len(vertices)) < len(skin)
    face = is_skin & (z > 0.02) & (y > -0.085) & (y < 0.09)
    chosen = {
        "face": face,
        "lips": face & (np.abs(x) < 0.025) & (y < -0.035) & (y > -0.055),
        "ears": is_skin & (np.abs(x) > 0.07) & ~face,
        "head_without_neck": y > -0.09,
        "left_eyeball": ~is_skin & (x > 0),
        "right_eyeball": ~is_skin & (x < 0),
    }
    jaw = np.clip((-0.02 - y) / 0.03, 0, 1) * np.clip(z / 0.04, 0, 1)
    neck = np.clip((y + 0.1) / 0.03, 0, 1) * (1 - jaw)
    weights = np.stack([1 - jaw - neck, neck, jaw, 0 * x, 0 * x], axis=1)
    weights[chosen["left_eyeball"]], weights[chosen["right_eyeball"]] = np.eye(5)[3], np.eye(5)[4]
    rng = np.random.default_rng(0)
    n_betas, n_expression = 20, 10
    directions = 20 * _smooth(rng, vertices, n_betas + n_expression)
    directions[~is_skin, :, n_betas:] = 0
    return SkinnedModel(
        SkinningArrays(
            vertices, directions, weights, joints, np.zeros((5, 3, n_betas + n_expression)), PARENTS
        ),
        Topology(
            "made-up-head",
            len(vertices),
            np.concatenate([faces, *eyes]),
            regions={name: np.flatnonzero(inside) for name, inside in chosen.items()},
        ),
        [
            ParameterGroup("betas", n_betas, sqrt_information=np.ones(n_betas)),
            ParameterGroup("expression", n_expression, sqrt_information=np.ones(n_expression)),
        ],
        [ParameterGroup("pose", 15, "rotvec")],
    )
