"""Random adult right hands: a plausible spread of Anny's phenotypes, local changes and bone lengths.

Anny offers sliders, not statistics. The distributions below were set by hand so that the measures of
`measure` come near to published ones: hand length and breadth of the men and women, half each, of Gordon
et al., "1988 Anthropometric Survey of U.S. Army Personnel: Methods and Summary Statistics"
(Natick/TR-89/044), and the lengths of the bones of Buryanov & Kotiuk, "Proportions of Hand Segments" (Int. J.
Morphol. 28(3), 2010), with 4 mm of soft tissue at the tips. The targets are not checked against print.
`bake_hand.py` prints both.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from makehuman_hand import JOINTS, TIPS, HandMesh
from population import phenotype_coefficients, truncated_normal
from surface import distances_to_surface

FINGERS = ("thumb", "index", "middle", "ring", "little")
NAMES = (*JOINTS, *TIPS)
#: Joints inside the metacarpus.
BODY = ("wrist", "ring_cmc", "little_cmc")

#: Phenotype: mean, standard deviation, lowest and highest value; see `population.py`.
PHENOTYPES = {
    "age": (0.80, 0.07, 0.68, 1.0),
    "muscle": (0.5, 0.2, 0.0, 1.0),
    "weight": (0.5, 0.2, 0.0, 1.0),
    "proportions": (0.5, 0.2, 0.0, 1.0),
    "height": (0.475, 0.07, 0.265, 0.685),
}
#: Local change: mean and standard deviation of its amount; below 0 the opposite change acts.
CHANGES = {
    "r-hand-scale-incr": (0.0, 0.05),
    "r-hand-fingers-length-incr": (0.0, 0.10),
    "r-hand-fingers-diameter-incr": (0.0, 0.40),
    "r-hand-fingers-distance-incr": (0.0, 0.40),
    "measure-wrist-circ-incr": (0.0, 0.25),
    "r-lowerarm-fat-incr": (0.0, 0.10),
}
#: Factors by which Anny's lengths are multiplied on average: its palm and little finger are short.
PALM_MEAN = 1.05
FINGER_MEAN = {"thumb": 1.01, "index": 0.97, "middle": 0.95, "ring": 0.98, "little": 1.06}
#: Standard deviations of these factors, of the palm's breadth and of each bone, among hands of one size.
PALM_STD, FINGER_STD, BREADTH_STD, BONE_STD = 0.03, 0.03, 0.045, 0.03
#: Where a joint's centre lies, against the head of Anny's bone: millimetres along the bone that follows. The
#: creases of a finger, where Anny bends, are not at the level of its joints.
ALONG = {"thumb_mcp": 9.0, "thumb_ip": 2.0, "mcp": -5.0, "pip": 3.0, "dip": 2.0}
#: And how deep below the skin of the back, as a part of the thickness there (Anny's bones end just below it).
DEPTH = {"thumb_mcp": 0.40, "thumb_ip": 0.42, "mcp": 0.36, "pip": 0.42, "dip": 0.42}
#: Height of the wrist's crease above the wrist joint, metres.
CREASE = 0.018

#: Measure: mean and standard deviation, millimetres.
TARGETS = {
    "hand length": (187.2, 11.8),
    "hand breadth": (84.9, 6.8),
    "thumb cmc to mcp": (46.2, 3.9),
    "thumb mcp to ip": (31.6, 3.1),
    "thumb ip to tip": (25.5, 1.6),
    "index mcp to pip": (39.8, 4.9),
    "index pip to dip": (22.4, 2.5),
    "index dip to tip": (19.8, 2.3),
    "middle mcp to pip": (44.6, 3.8),
    "middle pip to dip": (26.3, 3.0),
    "middle dip to tip": (21.4, 1.9),
    "ring mcp to pip": (41.4, 3.9),
    "ring pip to dip": (25.7, 3.3),
    "ring dip to tip": (21.3, 2.2),
    "little mcp to pip": (32.7, 2.8),
    "little pip to dip": (18.1, 2.5),
    "little dip to tip": (19.7, 2.5),
}


def sample_hands(hand: HandMesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, V + 18 + 5, 3) of random hands, metres, each in the model frame of a hand."""
    coefficients = np.zeros((count, len(hand.blendshape_names)))
    phenotype = phenotype_coefficients(hand.phenotypes, PHENOTYPES, count, rng)
    coefficients[:, : phenotype.shape[1]] = phenotype
    for name, (mean, std) in CHANGES.items():
        increase = hand.blendshape_names.index(f"local_change:{name}")
        amount = truncated_normal(mean, std, mean - 2.5 * std, mean + 2.5 * std, count, rng)
        coefficients[:, increase] = np.maximum(amount, 0.0)
        coefficients[:, increase + 1] = np.maximum(-amount, 0.0)
    used = np.flatnonzero(np.abs(coefficients).max(axis=0))
    moved = coefficients[:, used] @ hand.blendshapes[used].reshape(len(used), -1)
    points = in_hand_frame(hand, hand.points + moved.reshape(count, -1, 3))
    points[:, hand.n_vertices :] += joint_shifts(hand, points.mean(axis=0))
    return in_hand_frame(hand, with_random_proportions(hand, in_hand_frame(hand, points), rng))


def joint_shifts(hand: HandMesh, points: np.ndarray) -> np.ndarray:
    """From Anny's bones to the joints' centres, (18 + 5, 3), metres, on a hand (P, 3) in the model frame.

    See `ALONG` and `DEPTH`; tips stay.
    """
    vertices, ends = points[: hand.n_vertices], points[hand.n_vertices :]
    shifts = np.zeros_like(ends)
    for index, name in enumerate(JOINTS):
        kind = name if name in ALONG else name.split("_")[-1]
        if kind in ALONG:
            forward = _unit(ends[_next(index)] - ends[index])
            pad = pad_direction(hand, vertices, name.split("_")[0])
            inward = _unit(pad - (pad @ forward) * forward)
            rays = np.stack([inward, -inward])
            below, above = distances_to_surface(vertices, hand.faces, ends[index], rays)
            shifts[index] = 1e-3 * ALONG[kind] * forward + (DEPTH[kind] * (below + above) - above) * inward
    return shifts


def pad_direction(hand: HandMesh, vertices: np.ndarray, finger: str) -> np.ndarray:
    """The direction (3,) that a finger's pad looks to: against the mean normal of its nail."""
    last = [i for i, name in enumerate(JOINTS) if name.startswith(finger)][-1]
    nail = np.flatnonzero(hand.nails & (hand.weights[:, last] > 0.5))
    a, b, c = np.moveaxis(vertices[hand.faces[np.isin(hand.faces, nail).all(axis=1)]], 1, 0)
    return -_unit(np.cross(b - a, c - a).sum(axis=0))


def with_random_proportions(hand: HandMesh, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hands (N, P, 3) whose palms and bones are lengthened or shortened.

    The palm is scaled along x and y. Each bone of the fingers is scaled along itself and carries what
    follows; the skin moves with the bones as the skinning weights say.
    """
    count = len(points)
    palm = np.zeros((count, 3))
    palm[:, :2] = [0.0, PALM_MEAN - 1] + rng.normal(size=(count, 2)) * [BREADTH_STD, PALM_STD]
    of_finger = {
        finger: mean - 1 + FINGER_STD * rng.normal(size=count) for finger, mean in FINGER_MEAN.items()
    }
    last = [list(JOINTS.values()).index(bone) for bone in TIPS.values()]
    weights = np.concatenate([hand.weights, np.eye(len(JOINTS)), np.eye(len(JOINTS))[last]])
    ends = points[:, hand.n_vertices :]
    carried = np.zeros_like(ends)
    moved = points.copy()
    for index, name in enumerate(JOINTS):
        if name in BODY:
            own = points * palm[:, None]
        else:
            if list(JOINTS)[hand.parents[index]] in BODY:
                carried[:, index] = ends[:, index] * palm
            growth = of_finger[name.split("_")[0]] + BONE_STD * rng.normal(size=count)
            bone = ends[:, _next(index)] - ends[:, index]
            along = np.einsum("npd,nd->np", points - ends[:, None, index], _unit(bone))
            own = carried[:, None, index] + along[..., None] * (growth[:, None] * _unit(bone))[:, None]
            carried[:, _next(index)] = carried[:, index] + growth[:, None] * bone
        moved += weights[:, index, None] * own
    return moved


def in_hand_frame(hand: HandMesh, points: np.ndarray) -> np.ndarray:
    """Points (N, P, 3) of hands moved into the model frame.

    Origin at the wrist joint, +y from there to the middle MCP joint, +z to where the palm looks: normal to
    +y and to the line from the little to the index MCP joint.
    """
    wrist, index, middle, little = (
        points[:, hand.n_vertices + NAMES.index(joint)]
        for joint in ("wrist", "index_mcp", "middle_mcp", "little_mcp")
    )
    y = _unit(middle - wrist)
    z = _unit(np.cross(index - little, y))
    axes = np.stack([np.cross(y, z), y, z], axis=1)
    return np.einsum("nad,npd->npa", axes, points - wrist[:, None])


def measure(hand: HandMesh, points: np.ndarray) -> dict[str, np.ndarray]:
    """Anthropometric measures, metres, of hands (N, P, 3) in the model frame.

    Length: from the wrist's crease to the end of the middle finger, as if it were straight. Breadth: of the
    palm, without the thumb, three quarters of the way to the middle finger's MCP joint.
    """
    at = {name: points[:, hand.n_vertices + index] for index, name in enumerate(NAMES)}
    chains = {finger: [name for name in NAMES if name.startswith(finger)] for finger in FINGERS}
    bones = {
        f"{a} to {b.split('_')[1]}".replace("_", " "): _distance(at[a], at[b])
        for chain in chains.values()
        for a, b in pairwise(chain)
        if a not in BODY
    }
    stretched = sum(length for name, length in bones.items() if name.startswith("middle"))
    knuckle = at["middle_mcp"][:, 1]
    thumb = hand.weights[:, [name.startswith("thumb") for name in JOINTS]].sum(axis=1) > 0.3
    palm = points[:, : hand.n_vertices][:, ~thumb]
    level = np.abs(palm[..., 1] - 0.75 * knuckle[:, None]) < 0.006
    x = np.where(level, palm[..., 0], np.nan)
    return {
        "hand length": stretched + knuckle - CREASE,
        "hand breadth": np.nanmax(x, axis=1) - np.nanmin(x, axis=1),
        **bones,
    }


def _next(joint: int) -> int:
    """Index into `NAMES` of the joint or tip that follows a joint."""
    name = NAMES[joint]
    chain = [other for other in NAMES if other.split("_")[0] == name.split("_")[0]]
    return NAMES.index(chain[chain.index(name) + 1])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)
