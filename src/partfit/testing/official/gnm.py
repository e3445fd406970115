"""Files in the format of Google's `gnm_head.npz` (GNM Head v3.0), with made-up content.

Names, shapes and dtypes are those of the published file, at full size; its 46 vertex groups are fewer here.
Source of the format: github.com/google/GNM, `gnm/shape`. Frame: metres, y up, the face looks along +z, x to
the subject's left. In the published file all pose correctives are zero; here they are not, so that a reader's
order is seen to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from partfit.models import SkinnedModel
from partfit.testing.official.surfaces import Surface, resampled

N_VERTICES, N_TRIANGLES = 17821, 35324
JOINTS, PARENTS = ("neck", "head", "left_eye", "right_eye"), (-1, 0, 1, 1)
#: Numbers of coefficients, region by region, in the order of the file.
IDENTITY = {"head": 170, "eyeball": 3, "teeth": 80}
EXPRESSION = {
    "left_eye_region": 100,
    "right_eye_region": 100,
    "lower_face_region": 150,
    "tongue": 32,
    "pupil": 1,
}
COMPONENTS = ("skin", "left_eye", "right_eye", "upper_teeth_and_gums", "lower_teeth_and_gums", "tongue")

_COLUMNS, _RINGS = 155, 111  # of the made-up skin, a tube; two eyeballs bring the counts to the exact ones
_EYE_COLUMNS, _EYE_RINGS, _EYE_RADIUS = 18, 17, 0.012
_IRIS = 0.9  # cosine of the angle from straight ahead up to which an eyeball is iris


def gnm_entries(source: SkinnedModel | None = None, seed: int = 0) -> dict[str, Any]:
    """The entries of a GNM Head file.

    Args:
        source: A head in the frame of the file with the joints `neck`, `head`, `left_eye` and `right_eye` and
            the groups `betas` and `expression`; its other joints ride on `head`. None for a made-up tube with
            eyeballs.
        seed: Of the made-up directions.

    Returns:
        The 23 arrays of the file, reals in float32: `template_vertex_positions` (17821, 3),
        `vertex_identity_basis` (253, 17821, 3), `expression_basis` (383, 17821, 3),
        `template_joint_positions` (4, 3), `joint_identity_basis` (253, 4, 3), `skinning_weights` (4, 17821),
        `pose_correctives_regressor` (36, 53463), `joint_regressor` (4, 17821), `triangles` (35324, 3),
        `triangle_uvs`, `quads` (17662, 4), `quad_uvs`, `mirror_indices`, `vertex_groups`, names, `version`
        and `variant`. The triangles of a source are not pairs of quads, and `quads` then are no part of its
        surface.
    """
    rng = np.random.default_rng(seed)
    head = _tube(rng) if source is None else _of_model(source, rng)
    regressor = _regressor(head)
    names = {
        "identity": [f"{region}_{k:03d}" for region, n in IDENTITY.items() for k in range(n)],
        "expression": [f"{region}_{k:03d}" for region, n in EXPRESSION.items() for k in range(n)],
    }
    names["expression"][names["expression"].index("tongue_000")] = "tongue_mean"
    mirrored = KDTree(head.vertices).query(head.vertices * [-1.0, 1.0, 1.0])[1]
    entries = {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": head.vertices,
        "template_joint_positions": regressor @ head.vertices,
        "vertex_identity_basis": head.identity,
        "joint_identity_basis": np.einsum("jv,kvd->kjd", regressor, head.identity),
        "expression_basis": head.expression,
        "identity_names": np.array(names["identity"]),
        "joint_names": np.array(JOINTS),
        "expression_names": np.array(names["expression"]),
        "joint_parent_indices": np.array(PARENTS, dtype=np.int32),
        "skinning_weights": head.weights.T,
        "quads": head.quads.astype(np.int32),
        "triangles": head.triangles.astype(np.int32),
        "quad_uvs": head.uvs[head.quads],
        "triangle_uvs": head.uvs[head.triangles],
        "mesh_component_names": np.array(COMPONENTS),
        "mirror_indices": mirrored.astype(np.int32),
        "joint_regressor": regressor,
        "pose_correctives_regressor": _correctives(head, rng),
        "bone_aligned_template_joint_orientations": np.tile(np.eye(3), (len(JOINTS), 1, 1)),
        "vertex_groups": np.array(list(head.groups.values())),
        "vertex_group_names": np.array(list(head.groups)),
    }
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in entries.items()}


def write_gnm(path: Path, entries: Mapping[str, Any]) -> None:
    """Write the entries of `gnm_entries` as `.npz`."""
    np.savez(path, **entries)


@attrs.frozen(eq=False)
class _Head:
    """A head in the frame of the file.

    Attributes:
        vertices: (V, 3).
        triangles: (T, 3), counter-clockwise seen from outside.
        quads: (T / 2, 4).
        uvs: (V, 2) texture coordinates in [0, 1].
        identity: (253, V, 3).
        expression: (383, V, 3).
        weights: (V, 4).
        joints: (4, 3).
        groups: Membership (V,) in [0, 1] of named vertex groups.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    quads: Int[np.ndarray, "quads 4"]
    uvs: Float[np.ndarray, "vertices 2"]
    identity: Float[np.ndarray, "identity vertices 3"]
    expression: Float[np.ndarray, "expression vertices 3"]
    weights: Float[np.ndarray, "vertices joints"]
    joints: Float[np.ndarray, "joints 3"]
    groups: dict[str, np.ndarray]


def _of_model(source: SkinnedModel, rng: np.random.Generator) -> _Head:
    arrays, topology = source.arrays, source.topology
    n_points = topology.n_vertices
    surface = resampled(source, N_VERTICES, N_TRIANGLES)
    carried = surface.carry(arrays.lbs_weights[:n_points])
    chosen = [arrays.joint_names.index(name) for name in JOINTS]
    weights = carried[:, chosen]
    weights[:, JOINTS.index("head")] += 1 - weights.sum(axis=1)  # a jaw's
    directions = np.moveaxis(surface.carry(arrays.shapedirs[:n_points]), 2, 0)
    n_betas = source.group("betas").size
    # the source's own coefficients, scaled to standard deviations of 1, come first, in each region in turn
    expression = directions[n_betas:] * _deviations(source)[:, None, None]
    ranks = np.concatenate([np.arange(n) for n in EXPRESSION.values()])
    places = np.argsort(np.argsort(ranks, kind="stable"))
    faces, vertices = surface.faces, surface.vertices
    return _Head(
        vertices,
        faces,
        np.concatenate([faces[::2], faces[::2, :1]], axis=1),
        np.clip(vertices[:, :2] * 2 + 0.5, 0, 1),
        _padded(directions[:n_betas], vertices, sum(IDENTITY.values()), rng),
        _padded(expression, vertices, sum(EXPRESSION.values()), rng)[places],
        weights,
        arrays.joints[chosen],
        _groups(source, surface),
    )


def _deviations(source: SkinnedModel) -> Float[np.ndarray, " expression"]:
    root = source.group("expression").sqrt_information
    return 1 / (root if root.ndim == 1 else np.diag(root))


def _groups(source: SkinnedModel, surface: Surface) -> dict[str, np.ndarray]:
    """The source's regions under the names of the file, and irises; without a region the group is empty."""
    names = {
        "left_eye": ("left_eyeball",),
        "right_eye": ("right_eyeball",),
        "upper_teeth_and_gums": ("upper_teeth",),
        "lower_teeth_and_gums": ("lower_teeth",),
        "tongue": ("tongue",),
        "teeth": ("upper_teeth", "lower_teeth"),
        "scleras": ("left_eyeball", "right_eyeball"),
        "mouth_sock": ("mouth_cavity",),
    }
    groups = {}
    for name, own in names.items():
        groups[name] = np.zeros(N_VERTICES)
        for part in own:
            vertices = source.topology.regions.get(part, np.zeros(0, dtype=np.int64))
            groups[name][surface.region(vertices)] = 1
    inner = np.max([groups[name] for name in COMPONENTS[1:]], axis=0)
    joints = dict(zip(source.arrays.joint_names, source.arrays.joints, strict=True))
    groups["irises"] = np.zeros(N_VERTICES)
    for eye in ("left_eye", "right_eye"):
        arms = surface.vertices - joints[eye]
        ahead = arms[:, 2] / np.linalg.norm(arms, axis=1).clip(min=1e-9)
        groups["irises"] += groups[eye] * (ahead > _IRIS)
    return {"skin": 1 - inner, **groups}


def _padded(directions: np.ndarray, vertices: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The first n directions, and small waves up to n."""
    return np.concatenate([directions[:n], _waves(vertices, max(0, n - len(directions)), 1e-5, rng)])


def _waves(
    vertices: np.ndarray, n: int, size: float, rng: np.random.Generator
) -> Float[np.ndarray, "n vertices 3"]:
    """Smooth displacements (n, V, 3): waves along random directions, of some size in metres."""
    phase = vertices @ rng.normal(size=(3, n)) * 20 + rng.uniform(0, 2 * np.pi, n)
    return np.einsum(
        "vk,kd->kvd", np.sin(phase).astype(np.float32), (rng.normal(size=(n, 3)) * size).astype(np.float32)
    )


def _tube(rng: np.random.Generator) -> _Head:
    """A tube from the neck to the crown and two eyeballs, all of quads."""
    skin = np.arange(_COLUMNS * _RINGS)
    y, angle = np.meshgrid(
        np.linspace(-0.16, 0.12, _RINGS), 2 * np.pi * np.arange(_COLUMNS) / _COLUMNS, indexing="ij"
    )
    wide = np.where(y < -0.08, 0.055, 0.055 + 0.02 * np.sin(np.pi * (y + 0.08) / 0.2))
    tube = np.stack([wide * np.sin(angle), y, 1.2 * wide * np.cos(angle) - 0.02], axis=-1).reshape(-1, 3)
    ball, ball_quads = _eyeball()
    eyes = [ball + np.array([x, 0.01, 0.06]) for x in (0.03, -0.03)]
    vertices = np.concatenate([tube, *eyes])
    starts = [len(tube), len(tube) + len(ball)]
    quads = np.concatenate([_grid(_RINGS, _COLUMNS), *(ball_quads + start for start in starts)])
    triangles = np.concatenate([quads[:, :3], quads[:, [2, 3, 0]]])
    part = np.repeat([0, 1, 2], [len(skin), len(ball), len(ball)])
    weights = np.zeros((len(vertices), len(JOINTS)))
    rise = np.clip((vertices[:, 1] + 0.12) / 0.08, 0, 1)
    weights[:, 0], weights[:, 1] = 1 - rise, rise
    for eye in (1, 2):
        weights[part == eye] = np.eye(len(JOINTS))[1 + eye]
    ahead = (vertices[:, 2] - 0.06) / _EYE_RADIUS
    return _Head(
        vertices,
        triangles,
        quads,
        np.stack([angle.ravel() / (2 * np.pi), (y.ravel() + 0.16) / 0.28], axis=1)[
            np.r_[skin, [0] * 2 * len(ball)]
        ],
        np.concatenate(
            [
                (vertices * 0.03)[None].astype(np.float32),
                _waves(vertices, sum(IDENTITY.values()) - 1, 1e-3, rng),
            ]
        ),
        _waves(vertices, sum(EXPRESSION.values()), 1e-3, rng),
        weights,
        np.array([[0, -0.12, -0.02], [0, -0.05, -0.01], [0.03, 0.01, 0.06], [-0.03, 0.01, 0.06]]),
        {
            "skin": (part == 0).astype(float),
            "left_eye": (part == 1).astype(float),
            "right_eye": (part == 2).astype(float),
            "scleras": ((part > 0) & (ahead < _IRIS)).astype(float),
            "irises": ((part > 0) & (ahead >= _IRIS)).astype(float),
            "teeth": np.zeros(len(vertices)),
        },
    )


def _grid(n_rings: int, n_columns: int) -> Int[np.ndarray, "quads 4"]:
    """The quads between rings that follow one another upwards, counter-clockwise seen from outside."""
    ring, column = np.divmod(np.arange((n_rings - 1) * n_columns), n_columns)
    a, b = ring * n_columns + column, ring * n_columns + (column + 1) % n_columns
    return np.stack([a, b, b + n_columns, a + n_columns], axis=1)


def _eyeball() -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "quads 4"]]:
    """A ball about the origin: rings and two poles, whose fans are quads as well."""
    rise = np.pi * (np.arange(1, _EYE_RINGS + 1) / (_EYE_RINGS + 1) - 0.5)[:, None]
    angle = 2 * np.pi * np.arange(_EYE_COLUMNS) / _EYE_COLUMNS
    rings = np.stack(
        [np.cos(rise) * np.sin(angle), np.sin(rise) + 0 * angle, np.cos(rise) * np.cos(angle)], axis=-1
    ).reshape(-1, 3)
    below, above = len(rings), len(rings) + 1
    first = np.arange(0, _EYE_COLUMNS, 2)
    second, third = first + 1, (first + 2) % _EYE_COLUMNS
    top = (_EYE_RINGS - 1) * _EYE_COLUMNS
    poles = [
        np.stack([np.full_like(first, below), third, second, first], axis=1),
        np.stack([np.full_like(first, above), top + first, top + second, top + third], axis=1),
    ]
    vertices = np.concatenate([rings, [[0, -1, 0], [0, 1, 0]]]) * _EYE_RADIUS
    return vertices, np.concatenate([_grid(_EYE_RINGS, _EYE_COLUMNS), *poles])


def _regressor(head: _Head) -> Float[np.ndarray, "joints vertices"]:
    """Weights (4, V) of few vertices each, with sum 1, that give the joints."""
    regressor = np.zeros((len(JOINTS), len(head.vertices)))
    near = KDTree(head.vertices).query(head.joints, k=64)[1]
    for j, joint in enumerate(head.joints):
        system = np.concatenate([head.vertices[near[j]].T, np.ones((1, near.shape[1]))])
        regressor[j, near[j]] = np.linalg.lstsq(system, np.append(joint, 1.0), rcond=None)[0]
    return regressor


def _correctives(head: _Head, rng: np.random.Generator) -> Float[np.ndarray, "features coordinates"]:
    """Correctives (36, 3 V) on vec(R_j - I) of all joints: in waves, each joint's where it has weight."""
    random = rng.normal(size=(len(JOINTS), 9, 3)) * 2e-3
    wave = np.sin(head.vertices @ rng.normal(size=3) * 100)
    return np.einsum("vj,v,jfa->jfva", head.weights, wave, random).reshape(9 * len(JOINTS), -1)
