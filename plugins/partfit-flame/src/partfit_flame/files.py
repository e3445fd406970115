"""Reads FLAME's official files, and refuses what is no FLAME file with the reason.

All files are read by `partfit.model_files`, which runs none of the code that pickles may hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit.errors import ModelFileError
from partfit.model_files import ModelFile, read_model_file

N_VERTICES = 5023
N_SHAPE, N_EXPRESSION = 300, 100
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
#: Parents of the joints, -1 for the root.
PARENTS = (-1, 0, 1, 1, 1)
#: Landmarks of `ibug68` that follow the outline, and how many rows of them a file offers.
N_CONTOUR, N_CHOICES = 17, 79

#: Ends the messages about files.
HINT = (
    "FLAME's files are at https://flame.is.tue.mpg.de after registration: generic_model.pkl, flame2023.pkl "
    "and their kin under Downloads."
)
#: Ends the message about a path that is missing.
PATH_HINT = f"It is the option path; `partfit fit` takes it as --model-path. {HINT}"
_MASKS_HINT = "FLAME_masks.pkl is 'FLAME Vertex Masks' at https://flame.is.tue.mpg.de after registration."
_LANDMARKS_HINT = (
    "landmark_embedding.npy comes with DECA, https://github.com/yfeng95/DECA, in the folder data."
)
_MEDIAPIPE_HINT = (
    "mediapipe_landmark_embedding.npz is 'FLAME Mediapipe Landmark Embedding' at https://flame.is.tue.mpg.de "
    "after registration."
)

#: Models by the number of their vertices.
_OTHER_MODELS = {
    6890: "SMPL (or SMPL+H)",
    10475: "SMPL-X",
    778: "MANO",
}
#: Smallest and largest extent of a head with its neck, metres.
_HEAD_SIZE = (0.15, 0.5)


@attrs.frozen(eq=False)
class FlameArrays:
    """What a model file holds. Metres; V = 5023 vertices, F faces (9976 in the official files).

    Attributes:
        v_template: (V, 3).
        faces: (F, 3), counter-clockwise seen from outside.
        shapedirs: (V, 3, K) displacement by the chosen coefficients: those of shape, then of expression.
        posedirs: (V, 3, 36) pose correctives on vec(R_j - I) of neck, jaw, left eye and right eye.
        weights: (V, 5) skinning weights, columns as `JOINT_NAMES`.
        joint_regressor: (5, V).
    """

    v_template: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 coefficients"]
    posedirs: Float[np.ndarray, "vertices 3 36"]
    weights: Float[np.ndarray, "vertices 5"]
    joint_regressor: Float[np.ndarray, "5 vertices"]


@attrs.frozen(eq=False)
class Rows:
    """Places on triangles: face index and barycentric coordinates of each."""

    face: Int[np.ndarray, "*rows"]
    weight: Float[np.ndarray, "*rows 3"]


def read_flame(path: str | Path, n_betas: int, n_expression: int) -> FlameArrays:
    """Read a model file: `generic_model.pkl` and its kin, `.npz`, or what `partfit convert` made of them.

    Args:
        path: The file.
        n_betas: How many shape coefficients to keep: the first ones.
        n_expression: How many expression coefficients to keep: the first ones.

    Raises:
        ModelFileError: if it is missing, damaged, or another model; with what was expected and found.
    """
    file = read_model_file(path, hint=HINT)
    _check_kind(file)
    n_joints = len(PARENTS)
    parents = file.reals("kintree_table", (2, n_joints))[0]
    if not np.array_equal(parents[1:], PARENTS[1:]):
        raise file.error(
            f"joints with parents {list(PARENTS)} in 'kintree_table'", f"{parents.astype(int).tolist()}"
        )
    shapes = {
        "v_template": (N_VERTICES, 3),
        "posedirs": (N_VERTICES, 3, 9 * (n_joints - 1)),
        "weights": (N_VERTICES, n_joints),
        "J_regressor": (n_joints, N_VERTICES),
    }
    # in one order in memory, whatever the file's, so that sums over them are equal to the last bit
    reals = {name: np.ascontiguousarray(file.reals(name, shape)) for name, shape in shapes.items()}
    file.check_extent("v_template", reals["v_template"], *_HEAD_SIZE)
    sums = reals["weights"].sum(axis=1)
    if not np.allclose(sums, 1, atol=1e-3):
        worst = sums[np.abs(sums - 1).argmax()]
        raise file.error(
            "skinning weights in 'weights' that sum to 1 for each vertex", f"a sum of {worst:.4g}"
        )
    return FlameArrays(
        v_template=reals["v_template"],
        faces=file.indices("f", (None, 3), N_VERTICES),
        shapedirs=_shapedirs(file, n_betas, n_expression),
        posedirs=reals["posedirs"],
        weights=reals["weights"],
        joint_regressor=reals["J_regressor"],
    )


def _check_kind(file: ModelFile) -> None:
    """Raise ModelFileError for what is another model, or no model at all."""
    expected = f"a FLAME model of {N_VERTICES} vertices"
    if not file.has("v_template"):
        names = ", ".join(sorted(file.entries)[:12]) or "nothing"
        raise file.error(f"{expected}, with an entry 'v_template'", f"entries {names}")
    n = len(file.reals("v_template", (None, 3)))
    if n != N_VERTICES:
        other = _OTHER_MODELS.get(n)
        looks = f", which looks like {other}" if other else ""
        raise file.error(expected, f"one of {n} vertices{looks}")


def _shapedirs(
    file: ModelFile, n_betas: int, n_expression: int
) -> Float[np.ndarray, "vertices 3 coefficients"]:
    """The chosen columns of `shapedirs`: the first ones of shape, then the first ones of expression.

    Raises:
        ModelFileError: if the file has fewer of one kind, or does not tell which are which.
    """
    every = file.reals("shapedirs", (N_VERTICES, 3, None))
    n_shape = _number_of_shapes(file, every.shape[-1])
    for option, asked, has in (
        ("n_betas", n_betas, n_shape),
        ("n_expression", n_expression, every.shape[-1] - n_shape),
    ):
        if asked > has:
            kind = "shape" if option == "n_betas" else "expression"
            raise file.error(f"{asked} columns of {kind} in 'shapedirs', as {option} asks", f"{has}")
    return np.ascontiguousarray(every[..., [*range(n_betas), *range(n_shape, n_shape + n_expression)]])


def _number_of_shapes(file: ModelFile, n_columns: int) -> int:
    """How many columns of `shapedirs` are of shape; the others, the last ones, are of expression.

    FLAME 2023 Open says it, in `supr_expression_metadata`; of the other files it is known: 300 of 400.

    Raises:
        ModelFileError: if it is not known.
    """
    said = file.entries.get("supr_expression_metadata")
    if said is None and n_columns == N_SHAPE + N_EXPRESSION:
        return N_SHAPE
    if said is None:
        raise file.error(
            f"{N_SHAPE} columns of shape and {N_EXPRESSION} of expression in 'shapedirs'",
            f"{n_columns} columns, and no 'supr_expression_metadata' that says which are which",
        )
    parts = said if isinstance(said, Mapping) else {}
    n = parts.get("n_expr", 0)
    known = isinstance(n, (int, np.integer)) and parts.get("expr_components") == f"last_{n}"
    if not known or not 0 < n < n_columns:
        raise file.error(
            f"'supr_expression_metadata' that says how many of the {n_columns} columns of 'shapedirs', the "
            "last ones, are of expression",
            f"{said}",
        )
    return int(n_columns - n)


def read_masks(path: str | Path) -> dict[str, np.ndarray]:
    """The vertex sets of `FLAME_masks.pkl`, by name, each ascending and without repeats.

    Raises:
        ModelFileError: if the file is not as it should be.
    """
    file = read_model_file(path, hint=_MASKS_HINT)
    if file.has("v_template"):
        raise file.error("masks: sets of vertices by name", "a model file, which belongs to the option path")
    for name in ("face", "neck", "boundary"):
        if not file.has(name):
            raise file.error(f"a mask {name!r}", f"only: {', '.join(sorted(file.entries)[:20]) or 'nothing'}")
    return {name: np.unique(file.indices(name, (None,), N_VERTICES)) for name in file.entries}


def read_region(path: str | Path) -> np.ndarray:
    """Vertex indices of a `.npy`, `.txt` (numbers and blanks) or `.json` (a list) file, ascending.

    Raises:
        ModelFileError: if the file is not as it should be.
    """
    hint = "A region is a list of vertex indices of FLAME, counted from 0."
    if Path(path).suffix.lower() in (".txt", ".json"):
        file = ModelFile(Path(path), {"array": _read_text(Path(path), hint)}, hint)
    else:
        file = read_model_file(path, hint=hint)
    region = np.unique(file.indices("array", (None,), N_VERTICES))
    if not len(region):
        raise file.error("vertex indices", "none")
    return region


def _read_text(path: Path, hint: str) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else [int(word) for word in text.split()]
    except OSError as error:
        raise ModelFileError(path, "a file that can be read", f"{error.strerror}", hint) from error
    except ValueError as error:
        raise ModelFileError(path, "a list of vertex indices", f"{error}", hint) from error


def read_landmarks(path: str | Path, n_faces: int) -> Mapping[str, Rows]:
    """The rows of `landmark_embedding.npy`: `static` (51), `dynamic` (79, 17) and `full` (68).

    Raises:
        ModelFileError: if the file is not as it should be.
    """
    file = read_model_file(path, hint=_LANDMARKS_HINT)
    n_static = 68 - N_CONTOUR
    shapes = {"static": (n_static,), "dynamic": (N_CHOICES, N_CONTOUR), "full": (1, 68)}
    rows = {
        name: _rows(file, f"{name}_lmk_faces_idx", f"{name}_lmk_bary_coords", shape, n_faces)
        for name, shape in shapes.items()
    }
    return {**rows, "full": Rows(rows["full"].face[0], rows["full"].weight[0])}


def read_mediapipe(path: str | Path, n_faces: int) -> tuple[Rows, np.ndarray]:
    """The rows of `mediapipe_landmark_embedding.npz`, and which of MediaPipe's 468 points they are.

    Raises:
        ModelFileError: if the file is not as it should be.
    """
    file = read_model_file(path, hint=_MEDIAPIPE_HINT)
    points = file.indices("landmark_indices", (None,), 468)
    if len(np.unique(points)) < len(points):
        raise file.error("different points in 'landmark_indices'", "one of them twice")
    return _rows(file, "lmk_face_idx", "lmk_b_coords", points.shape, n_faces), points


def _rows(file: ModelFile, faces: str, weights: str, shape: tuple[int, ...], n_faces: int) -> Rows:
    rows = Rows(file.indices(faces, shape, n_faces), file.reals(weights, (*shape, 3)))
    sums = rows.weight.sum(axis=-1)
    if not np.allclose(sums, 1, atol=1e-3):
        worst = sums.ravel()[np.abs(sums - 1).argmax()]
        raise file.error(f"barycentric coordinates in {weights!r} that sum to 1", f"a sum of {worst:.4g}")
    return Rows(rows.face, rows.weight / sums[..., None])
