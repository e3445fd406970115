"""MANO's official files: reading and checking them, telling a right hand from a left one, mirroring."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit.errors import ModelFileError
from partfit.model_files import ModelFile, home_path, read_model_file

Side = Literal["left", "right"]
LeftShapedirs = Literal["auto", "file", "flipped"]

HINT = (
    'The MANO files may be had by registration at https://mano.is.tue.mpg.de (Downloads, "Models & Code"): '
    "MANO_RIGHT.pkl and MANO_LEFT.pkl in its folder mano_v1_2/models."
)
#: Ends the message about a path that is missing.
PATH_HINT = f"It is the option path; `partfit fit` takes it as --model-path. {HINT}"
N_VERTICES, N_FACES, N_JOINTS, N_SHAPES = 778, 1538, 16, 10

#: The joints in the order of the files: fingers in alphabetical order (the little one is their "pinky").
JOINTS = (
    "wrist",
    *(
        f"{finger}_{joint}"
        for finger in ("index", "middle", "little", "ring")
        for joint in ("mcp", "pip", "dip")
    ),
    *(f"thumb_{joint}" for joint in ("cmc", "mcp", "ip")),
)
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

#: What a mirror does to points and to rotvecs: x -> -x, (r_x, r_y, r_z) -> (r_x, -r_y, -r_z).
MIRROR, MIRROR_ROTVEC = np.array([-1.0, 1.0, 1.0]), np.array([1.0, -1.0, -1.0])

#: Smallest and largest extent of a hand at rest, metres.
_HAND_SIZE = (0.1, 0.35)
#: Suffixes of the files in a folder, the quickest to read first.
_SUFFIXES = (".safetensors", ".npz", ".pkl")
#: Models of the same family, by their number of vertices.
_RELATIVES = {5023: "FLAME", 6890: "SMPL or SMPL+H", 10475: "SMPL-X"}
#: Chirality (see `_chirality`) below which a hand is too flat to tell its side.
_FLAT = 0.05


@attrs.frozen(eq=False)
class HandArrays:
    """The arrays of a MANO file, of either side, in its own frame; metres and radians.

    Attributes:
        side: Which of the subject's hands it is.
        v_template: (778, 3).
        faces: (1538, 3), counter-clockwise seen from outside.
        shapedirs: (778, 3, 10) displacement by each shape coefficient.
        posedirs: (778, 3, 135) pose correctives on vec(R_j - I), j = 1..15.
        joint_regressor: (16, 778) rest joints from vertices in rest pose.
        lbs_weights: (778, 16) skinning weights.
        hands_mean: (45,) mean pose, rotvecs of joints 1..15.
        hands_components: (45, 45) principal components of the pose, in rows.
        hands_coeffs: (n, 45) coefficients of the poses that the components were found from, or None.
    """

    side: Side
    v_template: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 shapes"]
    posedirs: Float[np.ndarray, "vertices 3 features"]
    joint_regressor: Float[np.ndarray, "joints vertices"]
    lbs_weights: Float[np.ndarray, "vertices joints"]
    hands_mean: Float[np.ndarray, " pose"]
    hands_components: Float[np.ndarray, "pose pose"]
    hands_coeffs: Float[np.ndarray, "poses pose"] | None

    @property
    def joints(self) -> Float[np.ndarray, "joints 3"]:
        """(16, 3) rest joints of the mean hand."""
        return self.joint_regressor @ self.v_template

    def mirrored(self) -> HandArrays:
        """The other hand: the mirror image in x. Equal coefficients give mirrored hands."""
        rotation = np.outer(MIRROR, MIRROR).ravel()  # a mirrored rotation has the elements m_a m_b R_ab
        return attrs.evolve(
            self,
            side="left" if self.side == "right" else "right",
            v_template=self.v_template * MIRROR,
            faces=self.faces[:, ::-1],
            shapedirs=self.shapedirs * MIRROR[:, None],
            posedirs=self.posedirs * MIRROR[:, None] * np.tile(rotation, N_JOINTS - 1),
            hands_mean=self.hands_mean * np.tile(MIRROR_ROTVEC, N_JOINTS - 1),
            hands_components=self.hands_components * np.tile(MIRROR_ROTVEC, N_JOINTS - 1),
        )


def read_hand(path: str | Path, side: Side, left_shapedirs: LeftShapedirs = "auto") -> HandArrays:
    """The hand of a side from a MANO file, or from a folder that holds MANO's files.

    A left hand comes from a left file or, mirrored, from a right one; a folder's left file is preferred. The
    side of a file is told by its content, never by its name.

    Args:
        path: A file (.pkl, .npz or .safetensors), or a folder with MANO_RIGHT and MANO_LEFT.
        side: Which of the subject's hands.
        left_shapedirs: What to make of the shape directions of a left file, see `ManoHand.Config`.

    Raises:
        ModelFileError: if the file is missing, damaged, unsafe, of another model, or of the other hand.
    """
    file = read_model_file(_file(home_path(path), side), hint=HINT)
    hand = _read(file)
    if hand.side == "right":
        return hand if side == "right" else hand.mirrored()
    if side == "right":
        raise ModelFileError(
            file.path,
            "a right hand",
            "a left hand, the other hand",
            f'Give MANO_RIGHT.pkl, which serves both sides, or set the option side to "left". {HINT}',
        )
    flip = left_shapedirs == "flipped" or (left_shapedirs == "auto" and _shrinks_in_x(hand))
    return attrs.evolve(hand, shapedirs=hand.shapedirs * MIRROR[:, None]) if flip else hand


def _file(path: Path, side: Side) -> Path:
    """The file of a side in a folder; a path that is no folder is left for the reader to judge."""
    if not path.is_dir():
        return path
    names = ("MANO_LEFT", "MANO_RIGHT") if side == "left" else ("MANO_RIGHT",)
    candidates = [path / f"{name}{suffix}" for name in names for suffix in _SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    expected = " or ".join(f"{name}.pkl, .npz or .safetensors" for name in reversed(names))
    found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder"
    raise ModelFileError(path, f"a folder with {expected}", found, HINT)


def _read(file: ModelFile) -> HandArrays:
    _check_kind(file)
    n_pose = 3 * (N_JOINTS - 1)
    arrays = {
        "v_template": file.reals("v_template", (N_VERTICES, 3)),
        "faces": file.indices("f", (N_FACES, 3), N_VERTICES),
        "shapedirs": file.reals("shapedirs", (N_VERTICES, 3, N_SHAPES)),
        "posedirs": file.reals("posedirs", (N_VERTICES, 3, 3 * n_pose)),
        "joint_regressor": _rows_of_sum_1(file, "J_regressor", (N_JOINTS, N_VERTICES)),
        "lbs_weights": _rows_of_sum_1(file, "weights", (N_VERTICES, N_JOINTS)),
        "hands_mean": file.reals("hands_mean", (n_pose,)),
        "hands_components": file.reals("hands_components", (n_pose, n_pose)),
    }
    file.check_extent("v_template", arrays["v_template"], *_HAND_SIZE)
    coefficients = file.reals("hands_coeffs", (None, n_pose)) if file.has("hands_coeffs") else None
    parents = file.reals("kintree_table", (2, N_JOINTS))[0, 1:].astype(int).tolist()
    if parents != list(PARENTS[1:]):
        raise file.error(f"the joints' parents {list(PARENTS[1:])} in 'kintree_table'", f"{parents}")
    joints = arrays["joint_regressor"] @ arrays["v_template"]
    side = _side(file, joints, arrays["hands_mean"])
    return HandArrays(side=side, hands_coeffs=coefficients, **arrays)


def _rows_of_sum_1(file: ModelFile, name: str, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    rows = file.reals(name, shape)
    worst = float(np.abs(rows.sum(axis=1) - 1).max())
    if worst > 1e-3:
        raise file.error(f"rows of {name!r} that sum to 1", f"a row off by {worst:.3g}")
    return rows


def _check_kind(file: ModelFile) -> None:
    """Refuse models of the same family by name, before some array of theirs is found missing."""
    template = file.entries.get("v_template")
    n_vertices = len(template) if isinstance(template, np.ndarray) and template.ndim else 0
    kind = _RELATIVES.get(n_vertices)
    if kind is not None:
        raise file.error(f"a MANO hand of {N_VERTICES} vertices", f"{n_vertices} vertices: a {kind} model")


def _side(file: ModelFile, joints: np.ndarray, hands_mean: np.ndarray) -> Side:
    chirality = _chirality(joints, hands_mean)
    if abs(chirality) < _FLAT:
        raise file.error(
            "a hand that 'hands_mean' bends towards its palm",
            f"one whose side cannot be told (chirality {chirality:.3f})",
        )
    return "right" if chirality < 0 else "left"


def _chirality(joints: Float[np.ndarray, "joints 3"], hands_mean: Float[np.ndarray, " pose"]) -> float:
    """The determinant of where the fingers point, of the thumb's side, and of where the palm looks.

    Negative for a right hand, positive for a left one, whichever way the hand is turned. The palm is where
    the mean pose bends the fingers, and where the thumb lies off the plane of wrist and knuckles.
    """
    at = dict(zip(JOINTS, joints, strict=True))
    forward = _unit(at["middle_pip"] - at["wrist"])
    across = _unit(at["index_mcp"] - at["little_mcp"])
    # of the four fingers' joints the bone to the next one; of the last the bone before
    bones = [joints[j + 1] - joints[j] if j % 3 else joints[j] - joints[j - 1] for j in range(1, 13)]
    bend = np.cross(hands_mean.reshape(-1, 3)[:12], [_unit(bone) for bone in bones]).mean(axis=0)
    thumb = at["thumb_ip"] - at["index_mcp"]
    palm = bend + thumb / np.linalg.norm(at["middle_mcp"] - at["wrist"])
    return float(np.linalg.det([forward, across, palm]))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _shrinks_in_x(hand: HandArrays) -> bool:
    """Whether the shape directions that widen a hand in y and z narrow it in x, and the other way round.

    So it is in the official left file, whose shape directions are those of the right hand: their x has the
    wrong sign. The growth along an axis is sum_v displacement * (position - mean); that of the directions
    that change the size, which are the largest ones, has one sign along all axes.
    """
    centred = hand.v_template - hand.v_template.mean(axis=0)
    growth = np.einsum("vak,va->ak", hand.shapedirs, centred)
    return bool(growth[0] @ (growth[1] + growth[2]) < 0)
