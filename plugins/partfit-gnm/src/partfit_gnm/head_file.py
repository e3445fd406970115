"""Google's GNM Head file: reading and checking it, and the colours of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from partfit.model_files import ModelFile, read_model_file

HINT = (
    "Get gnm_head.npz (GNM Head v3.0, Apache-2.0) from https://huggingface.co/google/gnm-v3 (folder v3_0) or "
    "from https://github.com/google/GNM (gnm/shape/data/versions/v3_0)."
)
#: Ends the message about a path that is missing.
PATH_HINT = f"It is the option path; `partfit fit` takes it as --model-path. {HINT}"
VERSION, VARIANT = "3.0", "head"
N_VERTICES, N_TRIANGLES, N_JOINTS, N_IDENTITY, N_EXPRESSION = 17821, 35324, 4, 253, 383

#: Smallest and largest extent of the head with its neck, metres.
_HEAD_SIZE = (0.15, 0.6)
#: Membership above which a vertex belongs to a group, as in Google's code.
_MEMBER = 1e-4
#: Natural colours, sRGB. Later groups win; groups that a file lacks are left out.
COLORS = {
    "mouth_sock": (0.50, 0.20, 0.18),
    "gums": (0.72, 0.38, 0.36),
    "tongue": (0.75, 0.42, 0.40),
    "teeth": (0.93, 0.90, 0.82),
    "scleras": (0.93, 0.92, 0.90),
    "irises": (0.32, 0.22, 0.14),
    "pupils": (0.04, 0.04, 0.04),
}
SKIN, BROW = (0.85, 0.65, 0.54), (0.20, 0.14, 0.10)
#: The transparent cornea, which takes the colour of what it covers.
CORNEA = "eye_exteriors"


@attrs.frozen(eq=False)
class HeadArrays:
    """The arrays of a GNM Head file. Frame: metres, y up, the face looks along +z, x to the subject's left.

    Attributes:
        v_template: (17821, 3).
        faces: (35324, 3), counter-clockwise seen from outside.
        shapedirs: (17821, 3, n) displacement by the chosen identity coefficients.
        exprdirs: (17821, 3, m) displacement by the chosen expression coefficients.
        joints: (4, 3) rest joints.
        joint_shapedirs: (4, 3, n) displacement of the joints by the identity coefficients.
        posedirs: (17821, 3, 36) pose correctives on vec(R_j - I) of all four joints, the first one too.
        lbs_weights: (17821, 4) skinning weights.
        parents: Parent of each joint, -1 for the first one.
        joint_names: neck, head, left_eye, right_eye.
        identity_names: Names (n,) of the identity coefficients.
        expression_names: Names (m,) of the expression coefficients.
        uv: (U, 2) texture coordinates in [0, 1], v up, or None. Each part of the mesh has a layout of its
            own.
        uv_faces: (35324, 3) indices into `uv`, or None.
        regions: The vertices of each named group that has any.
    """

    v_template: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 identity"]
    exprdirs: Float[np.ndarray, "vertices 3 expression"]
    joints: Float[np.ndarray, "joints 3"]
    joint_shapedirs: Float[np.ndarray, "joints 3 identity"]
    posedirs: Float[np.ndarray, "vertices 3 features"]
    lbs_weights: Float[np.ndarray, "vertices joints"]
    parents: tuple[int, ...]
    joint_names: tuple[str, ...]
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    uv: Float[np.ndarray, "texture 2"] | None
    uv_faces: Int[np.ndarray, "faces 3"] | None
    regions: dict[str, np.ndarray]

    def colors(self) -> Float[np.ndarray, "vertices 3"] | None:
        """Natural colour (V, 3) of each vertex; None where the eyes cannot be told from the skin."""
        if "scleras" not in self.regions:
            return None
        colors = np.tile(SKIN, (len(self.v_template), 1))
        colors[_brows(self.v_template, self.v_template[self.regions["scleras"]])] = BROW
        inner = []
        for name, color in COLORS.items():
            members = self.regions.get(name, np.zeros(0, dtype=np.int64))
            colors[members] = color
            if name in ("scleras", "irises", "pupils"):
                inner.append(members)
        if CORNEA in self.regions:
            cover = self.regions[CORNEA]
            covered = np.setdiff1d(np.concatenate(inner), cover)
            if len(covered):
                nearest = KDTree(self.v_template[covered]).query(self.v_template[cover])[1]
                colors[cover] = colors[covered[nearest]]
        return colors


def _brows(
    v_template: Float[np.ndarray, "vertices 3"], scleras: Float[np.ndarray, "points 3"]
) -> Bool[np.ndarray, " vertices"]:
    """The vertices under the eyebrows: bands that narrow outwards, arched above the eyes.

    Without brows a landmarker places those of a bare head about a centimetre too low.
    """
    unit = np.abs(scleras[:, 0]).mean()  # half of the distance of the eyes
    x, y, z = (v_template - scleras.mean(axis=0)).T / unit
    along = (np.abs(x) - 0.41) / 1.27
    arch = 0.62 + 0.19 * np.sin(np.clip(along, 0, 1) * np.pi * 0.75)
    return (along > 0) & (along < 1) & (np.abs(y - arch) < 0.13 - 0.08 * along) & (z > -0.6)


def read_head(path: str | Path, n_betas: int, n_expression: int) -> HeadArrays:
    """The head of a GNM Head v3.0 file.

    Args:
        path: A file: `gnm_head.npz`, or what `partfit convert` made of it.
        n_betas: How many identity coefficients to keep: the first ones.
        n_expression: How many expression coefficients to keep: the first ones of each region in turn.

    Raises:
        ModelFileError: if the file is missing, damaged, unsafe, of another version, or of another model.
    """
    file = read_model_file(path, hint=HINT)
    _check_kind(file)
    identity = _names(file, "identity_names", N_IDENTITY)[:n_betas]
    expression = _names(file, "expression_names", N_EXPRESSION)
    kept = first_of_each_region(expression, n_expression)
    v_template = file.reals("template_vertex_positions", (N_VERTICES, 3))
    file.check_extent("template_vertex_positions", v_template, *_HEAD_SIZE)
    weights = file.reals("skinning_weights", (N_JOINTS, N_VERTICES)).T
    worst = float(np.abs(weights.sum(axis=1) - 1).max())
    if worst > 1e-3:
        raise file.error("columns of 'skinning_weights' that sum to 1", f"a column off by {worst:.3g}")
    uv, uv_faces = _uv(file)
    return HeadArrays(
        joint_names=_names(file, "joint_names", N_JOINTS),
        identity_names=identity,
        expression_names=tuple(expression[k] for k in kept),
        parents=_parents(file),
        v_template=v_template,
        faces=file.indices("triangles", (N_TRIANGLES, 3), N_VERTICES),
        lbs_weights=weights,
        joints=file.reals("template_joint_positions", (N_JOINTS, 3)),
        posedirs=_posedirs(file),
        uv=uv,
        uv_faces=uv_faces,
        regions=_regions(file),
        joint_shapedirs=_directions(file, "joint_identity_basis", (N_IDENTITY, N_JOINTS, 3), range(n_betas)),
        shapedirs=_directions(file, "vertex_identity_basis", (N_IDENTITY, N_VERTICES, 3), range(n_betas)),
        exprdirs=_directions(file, "expression_basis", (N_EXPRESSION, N_VERTICES, 3), kept),
    )


def first_of_each_region(names: Sequence[str], n: int) -> list[int]:
    """Indices, ascending, of n names: the first of each region, then the second of each, and so on.

    A region is what stands before the last `_`: the components of a region come one after another, the most
    important one first.
    """
    seen: dict[str, int] = {}
    rank = []
    for name in names:
        region = name.rpartition("_")[0]
        rank.append(seen.setdefault(region, 0))
        seen[region] += 1
    return sorted(sorted(range(len(names)), key=lambda k: (rank[k], k))[:n])


def _check_kind(file: ModelFile) -> None:
    expected = f"a GNM model of version {VERSION} and variant {VARIANT!r}"
    missing = [name for name in ("version", "variant") if not file.has(name)]
    if missing:
        known = ", ".join(sorted(file.entries)[:8])
        raise file.error(expected, f"no {' and no '.join(map(repr, missing))} among the entries {known}")
    version, variant = (str(file.entries[name]) for name in ("version", "variant"))
    if (version, variant) != (VERSION, VARIANT):
        raise file.error(expected, f"version {version} and variant {variant!r}")


def _names(file: ModelFile, name: str, n: int) -> tuple[str, ...]:
    if not file.has(name):
        raise file.error(f"an entry {name!r} of {n} names", f"only: {', '.join(sorted(file.entries))}")
    names = tuple(str(value) for value in np.ravel(np.asarray(file.entries[name], dtype=object)))
    if len(names) != n or len(set(names)) != n:
        raise file.error(
            f"{n} different names in {name!r}", f"{len(set(names))} different ones of {len(names)}"
        )
    return names


def _directions(
    file: ModelFile, name: str, shape: tuple[int, int, int], kept: Sequence[int]
) -> Float[np.ndarray, "points 3 kept"]:
    """The chosen ones of a basis of some shape, by coefficient last; only these are converted and checked."""
    whole = file.entries.get(name)
    if isinstance(whole, np.ndarray) and whole.shape == shape:
        file, shape = attrs.evolve(file, entries={name: whole[list(kept)]}), (len(kept), *shape[1:])
    return np.moveaxis(file.reals(name, shape), 0, -1)


def _posedirs(file: ModelFile) -> Float[np.ndarray, "vertices 3 features"]:
    """From rows over features, each all coordinates of all vertices, to (V, 3, 36)."""
    regressor = file.reals("pose_correctives_regressor", (9 * N_JOINTS, 3 * N_VERTICES))
    return np.ascontiguousarray(regressor.reshape(-1, N_VERTICES, 3).transpose(1, 2, 0))


def _parents(file: ModelFile) -> tuple[int, ...]:
    """The first joint has itself or -1 for a parent in the files."""
    parents = file.reals("joint_parent_indices", (N_JOINTS,)).astype(int).tolist()
    if parents[0] not in (0, -1) or not all(0 <= p < j for j, p in enumerate(parents) if j):
        raise file.error("joints whose parents precede them in 'joint_parent_indices'", f"{parents}")
    return (-1, *parents[1:])


def _uv(file: ModelFile) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not file.has("triangle_uvs"):
        return None, None
    corners = file.reals("triangle_uvs", (N_TRIANGLES, 3, 2)).reshape(-1, 2).clip(0, 1)
    uv, index = np.unique(corners, axis=0, return_inverse=True)
    return uv, index.reshape(N_TRIANGLES, 3)


def _regions(file: ModelFile) -> dict[str, np.ndarray]:
    if not (file.has("vertex_groups") and file.has("vertex_group_names")):
        return {}
    groups = file.reals("vertex_groups", (None, N_VERTICES))
    names = _names(file, "vertex_group_names", len(groups))
    members = {name: np.flatnonzero(group > _MEMBER) for name, group in zip(names, groups, strict=True)}
    return {name: vertices for name, vertices in members.items() if len(vertices)}
