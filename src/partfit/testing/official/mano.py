"""Files in the format of MANO's official ones (`MANO_RIGHT.pkl`, `MANO_LEFT.pkl`), with made-up content.

The official files may be had by registration only, so tests write their own: the same names, shapes, dtypes
and order, at full size. Source of the format: files of MANO 1.2 as the packages smplx, manopth and
body-models read them. Frame of a right hand in these files: metres, the fingers along -x, the palm looks
along -y, the thumb at +z; the wrist is not at the origin. A left hand is its mirror image in x.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit.errors import InputError
from partfit.models import SkinnedModel
from partfit.testing.official.pickles import write_pickle
from partfit.testing.official.surfaces import resampled

Side = Literal["left", "right"]

N_VERTICES, N_FACES, N_SHAPES = 778, 1538, 10
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
PARENTS = tuple(-1 if j == 0 else 0 if j % 3 == 1 else j - 1 for j in range(16))
#: The vertex at each finger's tip.
TIPS = {"thumb": 744, "index": 320, "middle": 443, "ring": 554, "little": 671}
#: What the root's parent reads in the files: -1 in an unsigned number of 32 bits.
NO_PARENT = 2**32 - 1

#: From the frame of docs/conventions (fingers +y, palm +z, a right hand's thumb +x) to that of the files.
_TO_FILE = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_WRIST = np.array([0.09, 0.006, 0.006])
_PALM = np.array([0.0, -1.0, 0.0])
_MIRROR, _MIRROR_ROTVEC = np.array([-1.0, 1.0, 1.0]), np.array([1.0, -1.0, -1.0])
_RING = 16  # vertices around the wrist's opening: a disc of V vertices and F faces has 2 V - 2 - F of them


def mano_entries(side: Side = "right", source: SkinnedModel | None = None, seed: int = 0) -> dict[str, Any]:
    """The entries of a MANO file of one side.

    The two sides of one source and seed are mirror images, but for one known fault of the official left file,
    which this has too: its `shapedirs` are those of the right hand.

    Args:
        side: Of the hand in the file.
        source: A right hand in the frame of docs/conventions, whose joints and virtual points have the names
            of the landmark scheme `hand21`, and at least 10 coefficients; None for a made-up mitten.
        seed: Of pose correctives, poses and the mitten's shapes.

    Returns:
        `v_template` (778, 3), `f` (1538, 3), `shapedirs` (778, 3, 10), `posedirs` (778, 3, 135),
        `J_regressor` (16, 778), `J` (16, 3), `weights` (778, 16), `kintree_table` (2, 16), `hands_mean`
        (45,), `hands_components` (45, 45), `hands_coeffs` (400, 45), `bs_style` and `bs_type`; reals in
        float64.
    """
    rng = np.random.default_rng(seed)
    hand = _mitten(rng) if source is None else _of_model(source)
    hand = hand.with_tips_in_place()
    mean, components, coefficients = _poses(hand, rng)
    posedirs = _posedirs(hand, rng)
    regressor = _regressor(hand)
    vertices, faces = hand.vertices, hand.faces
    if side == "left":
        vertices, faces = vertices * _MIRROR, faces[:, ::-1]
        mirror_rotation = _MIRROR[:, None] * _MIRROR  # of vec(R - I), element by element
        posedirs = posedirs * _MIRROR[:, None] * np.tile(mirror_rotation.ravel(), len(JOINTS) - 1)
        mean, components = (a * np.tile(_MIRROR_ROTVEC, len(JOINTS) - 1) for a in (mean, components))
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "shapedirs": hand.shapedirs,
        "posedirs": posedirs,
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "weights": hand.weights,
        "kintree_table": np.array([[NO_PARENT, *PARENTS[1:]], range(len(JOINTS))], dtype=np.int64),
        "hands_mean": mean,
        "hands_components": components,
        "hands_coeffs": coefficients,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_mano(path: Path, entries: Mapping[str, Any]) -> None:
    """Write the entries of `mano_entries` as a pickle of Python 2, as the official one is, or as `.npz`.

    Raises:
        InputError: for another suffix.
    """
    if path.suffix == ".pkl":
        write_pickle(path, entries, selections=("shapedirs",), sparse=("J_regressor",))
    elif path.suffix == ".npz":
        np.savez(path, **entries)
    else:
        raise InputError(f"{path.name}: a MANO file is a .pkl or .npz.")


@attrs.frozen(eq=False)
class _Hand:
    """A right hand in the frame of the files.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3).
        shapedirs: (V, 3, 10).
        weights: (V, 16).
        joints: (16, 3) in the order of `JOINTS`.
        tips: The vertex at each finger's tip, in the order of `TIPS`.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 shapes"]
    weights: Float[np.ndarray, "vertices joints"]
    joints: Float[np.ndarray, "joints 3"]
    tips: tuple[int, ...]

    def with_tips_in_place(self) -> _Hand:
        """The same hand with its vertices renumbered so that the tips have the numbers of `TIPS`."""
        order = np.arange(len(self.vertices))
        for tip, place in zip(self.tips, TIPS.values(), strict=True):
            now = int(np.flatnonzero(order == tip)[0])
            order[[now, place]] = order[[place, now]]
        number = np.argsort(order)
        return attrs.evolve(
            self,
            vertices=self.vertices[order],
            faces=number[self.faces],
            shapedirs=self.shapedirs[order],
            weights=self.weights[order],
            tips=tuple(TIPS.values()),
        )

    def bone(self, joint: int) -> Float[np.ndarray, " 3"]:
        """Unit vector from a joint of a finger to the next one, or to the tip."""
        finger = JOINTS[joint].split("_")[0]
        last = joint % 3 == 0
        end = self.vertices[self.tips[list(TIPS).index(finger)]] if last else self.joints[joint + 1]
        return _unit(end - self.joints[joint])


def _of_model(source: SkinnedModel) -> _Hand:
    arrays, n_points = source.arrays, source.topology.n_vertices
    surface = resampled(source, N_VERTICES, N_FACES)
    chosen = [arrays.joint_names.index(name) for name in JOINTS]
    weights = surface.carry(arrays.lbs_weights[:n_points])[:, chosen]
    # the roots of metacarpals that move do not in MANO: they are the wrist's
    weights[:, 0] = (1 - weights[:, 1:].sum(axis=1)).clip(min=0)
    weights /= weights.sum(axis=1, keepdims=True)
    offset = _WRIST - _TO_FILE @ arrays.joints[chosen[0]]
    vertices = surface.vertices @ _TO_FILE.T + offset
    joints = arrays.joints[chosen] @ _TO_FILE.T + offset
    ends = dict(zip(source.topology.virtual_points, arrays.v_template[n_points:], strict=True))
    tips = [
        _farthest(vertices, weights, joints, finger, _TO_FILE @ ends[f"{finger}_tip"] + offset)
        for finger in TIPS
    ]
    shapedirs = surface.carry(arrays.shapedirs[:n_points, :, :N_SHAPES])
    shapedirs = np.einsum("ab,vbk->vak", _TO_FILE, shapedirs)
    return _Hand(vertices, surface.faces, shapedirs, weights, joints, tuple(tips))


def _farthest(
    vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray, finger: str, end: np.ndarray
) -> int:
    """The vertex of a finger's last phalanx that lies farthest towards its end."""
    last = JOINTS.index(f"{finger}_ip" if finger == "thumb" else f"{finger}_dip")
    along = (vertices - joints[last]) @ _unit(end - joints[last])
    return int(np.where(weights[:, last] > 0.5, along, -np.inf).argmax())


def _mitten(rng: np.random.Generator) -> _Hand:
    """A flat bag from wrist to finger tips: rings of 16 vertices, a pole, nine faces split in three."""
    n_rings = (N_VERTICES - 1) // _RING
    along = np.linspace(0, 1, n_rings + 1)[:-1, None]
    angle = 2 * np.pi * np.arange(_RING) / _RING
    taper = np.sqrt(1 - along**8)
    x, y, z = 0.1 - 0.19 * along + 0 * angle, 0.012 * taper * np.cos(angle), 0.045 * taper * np.sin(angle)
    vertices = np.concatenate([np.stack([x, y, z], axis=-1).reshape(-1, 3), [[-0.09, 0.0, 0.0]]])
    ring, around = np.divmod(np.arange((n_rings - 1) * _RING), _RING)
    a, b = ring * _RING + around, ring * _RING + (around + 1) % _RING
    sides = np.concatenate([np.stack([a, b, a + _RING], axis=1), np.stack([b, b + _RING, a + _RING], axis=1)])
    last = (n_rings - 1) * _RING + np.arange(_RING)
    cap = np.stack([last, np.roll(last, -1), np.full(_RING, len(vertices) - 1)], axis=1)
    outside = np.concatenate([sides, cap])[:, ::-1]
    vertices, faces = _split(vertices, outside, N_VERTICES - len(vertices))
    joints, tips = _mitten_joints(vertices)
    near = np.linalg.norm(vertices[:, None] - joints, axis=2)
    weights = np.exp(-((near / 0.02) ** 2)) + 1e-3 * (np.arange(16) == 0)
    size = (vertices - vertices.mean(axis=0)) * 0.05
    waves = np.sin(vertices @ rng.normal(size=(3, 3 * (N_SHAPES - 1))) * 30) * 1e-3
    shapedirs = np.concatenate([size[..., None], waves.reshape(len(vertices), 3, -1)], axis=2)
    return _Hand(vertices, faces, shapedirs, weights / weights.sum(axis=1, keepdims=True), joints, tips)


def _split(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], n: int
) -> tuple[Float[np.ndarray, "more_vertices 3"], Int[np.ndarray, "more_faces 3"]]:
    """The first n faces split in three at their centres: n vertices and 2 n faces more."""
    (a, b, c), centre = faces[:n].T, len(vertices) + np.arange(n)
    parts = [np.stack(corners, axis=1) for corners in ((a, b, centre), (b, c, centre), (c, a, centre))]
    return (
        np.concatenate([vertices, vertices[faces[:n]].mean(axis=1)]),
        np.concatenate([*parts, faces[n:]]),
    )


def _mitten_joints(vertices: Float[np.ndarray, "vertices 3"]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Joints (16, 3) in a mitten, and the vertices nearest to where finger tips would be."""
    beside = {"index": 0.03, "middle": 0.01, "ring": -0.01, "little": -0.03}
    at = {
        "wrist": (0.09, 0.002, 0.003),
        "thumb_cmc": (0.07, -0.004, 0.03),
        "thumb_mcp": (0.045, -0.006, 0.036),
        "thumb_ip": (0.025, -0.008, 0.039),
    }
    for finger, z in beside.items():
        at |= {f"{finger}_{j}": (x, 0.002, z) for j, x in (("mcp", 0.0), ("pip", -0.03), ("dip", -0.055))}
    ends = {"thumb": (0.005, -0.006, 0.044), **{finger: (-0.085, 0.0, z) for finger, z in beside.items()}}
    tips = tuple(int(np.linalg.norm(vertices - ends[finger], axis=1).argmin()) for finger in TIPS)
    return np.array([at[name] for name in JOINTS]), tips


def _regressor(hand: _Hand) -> Float[np.ndarray, "joints vertices"]:
    """Weights (16, V) of few vertices each, with sum 1, that give the joints."""
    regressor = np.zeros((len(JOINTS), len(hand.vertices)))
    for j, joint in enumerate(hand.joints):
        near = np.linalg.norm(hand.vertices - joint, axis=1).argsort()[:24]
        system = np.concatenate([hand.vertices[near].T, np.ones((1, len(near)))])
        regressor[j, near] = np.linalg.lstsq(system, np.append(joint, 1.0), rcond=None)[0]
    return regressor


def _posedirs(hand: _Hand, rng: np.random.Generator) -> Float[np.ndarray, "vertices 3 features"]:
    """Pose correctives (V, 3, 135) of a few millimetres: in waves, each joint's where it has weight."""
    random = rng.normal(size=(len(JOINTS) - 1, 3, 9)) * 2e-3
    wave = np.sin(hand.vertices @ rng.normal(size=3) * 100)
    directions = np.einsum("vj,v,jaf->vajf", hand.weights[:, 1:], wave, random)
    return directions.reshape(len(hand.vertices), 3, -1)


def _poses(hand: _Hand, rng: np.random.Generator, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (45,), principal components (45, 45) in rows and coefficients (n, 45) of made-up poses.

    Joints bend towards the palm, together and each a little on its own, and turn a little about other axes.
    """
    axes = np.array([_unit(np.cross(hand.bone(j), _PALM)) for j in range(1, len(JOINTS))])
    together, alone = rng.normal(size=(n, 1)) * 0.3, rng.normal(size=(n, len(axes))) * 0.15
    bend = 0.45 + together + alone
    poses = (bend[..., None] * axes + rng.normal(size=(n, *axes.shape)) * 0.05).reshape(n, -1)
    mean = poses.mean(axis=0)
    components = np.linalg.svd(poses - mean, full_matrices=False)[2]
    return mean, components, (poses - mean) @ components.T


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
