"""The Anny hand as a skinned model, posed by anatomical angles."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float

from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_anny.hand_assets import MIRROR_ROTVEC, HandArrays, Side, hand_arrays

#: Joints at the roots of the metacarpals that move.
METACARPALS = ("ring_cmc", "little_cmc")


@attrs.frozen
class Motion:
    """One coordinate of `hand_pose`: a turn of a joint about one of its axes, in degrees.

    Attributes:
        joint: Name of the joint, for example `index_mcp`.
        action: `flexion`, `abduction` or `rotation`.
        lower: Lower limit.
        upper: Upper limit.
        mean: Mean of the prior: a relaxed hand.
        std: Standard deviation of the prior; for a DIP joint that about `DIP_PER_PIP` times the PIP flexion.
    """

    joint: str
    action: str
    lower: float
    upper: float
    mean: float
    std: float

    @property
    def name(self) -> str:
        """For example `index_mcp_flexion`."""
        return f"{self.joint}_{self.action}"


def _finger(finger: str, flexion: float, spread: tuple[float, float, float, float]) -> list[Motion]:
    return [
        Motion(f"{finger}_mcp", "flexion", -25, 95, flexion, 30),
        Motion(f"{finger}_mcp", "abduction", *spread),
        Motion(f"{finger}_mcp", "rotation", -10, 10, 0, 4),
        Motion(f"{finger}_pip", "flexion", -8, 110, 30, 30),
        Motion(f"{finger}_dip", "flexion", -8, 85, 20, 14),
    ]


#: All coordinates of `hand_pose`, joint by joint. Sources and remarks: the README's table.
MOTIONS = (
    Motion("thumb_cmc", "flexion", -25, 45, 5, 12),
    Motion("thumb_cmc", "abduction", -40, 30, -5, 12),
    Motion("thumb_cmc", "rotation", -20, 40, 0, 8),
    Motion("thumb_mcp", "flexion", -15, 65, 15, 18),
    Motion("thumb_mcp", "abduction", -12, 12, 0, 5),
    Motion("thumb_ip", "flexion", -20, 85, 20, 25),
    *_finger("index", 20, (-15, 30, 6, 8)),
    *_finger("middle", 22, (-20, 20, 0, 6)),
    Motion("ring_cmc", "flexion", -3, 12, 2, 4),
    *_finger("ring", 24, (-15, 25, 4, 8)),
    Motion("little_cmc", "flexion", -5, 25, 4, 7),
    *_finger("little", 26, (-15, 40, 8, 10)),
)

#: The outer joints of a finger bend together: DIP flexion is about this part of PIP flexion.
DIP_PER_PIP = 2 / 3
#: Neighbouring fingers bend alike: standard deviation, degrees, of the difference of their MCP and of their
#: PIP flexion. The index finger points alone more often.
NEIGHBOUR_STD = {("index", "middle"): 40.0, ("middle", "ring"): 25.0, ("ring", "little"): 25.0}


class AnnyHand(SkinnedModel):
    """The model `anny-hand`: identity and an anatomical pose of one hand.

    Groups: `betas` (identity, in standard deviations), `global_orient` (about the wrist joint), `hand_pose`
    (named angles in radians, see `MOTIONS`), `transl`.
    Model frame: metres, the origin is the wrist joint, +y along the fingers, the palm looks along +z; the
    thumb of a right hand is at +x, of a left hand at -x. The left model is the mirror image of the right
    one: equal parameters give mirrored hands, up to `global_orient` and `transl`.

    Points: the vertices, then the 21 points of the landmark scheme `hand21`.

    **Frames of the joints.** Each joint has three axes, built on the mean hand at rest: the direction to
    the next joint t; the finger's palmar direction p, against the mean normal of its nail, made
    perpendicular to t; and the axis of flexion f = t x p. (For the metacarpals of the ring and little
    finger p is the palm's, +z.) A positive turn about f curls the finger towards its pad. Abduction turns
    about -p or p: positive away from the middle finger, for the middle finger and the thumb's MCP joint
    towards the thumb's side, for the thumb's CMC joint away from the palm. Rotation turns about t:
    positive brings the pad of the thumb to face the fingers, and the pads of fingers to face the thumb.

    **Zero.** Flexion is zero where a finger is straight: t along the bone before. Abduction of the fingers is
    zero where the first phalanx is parallel to that of the middle finger, whose own zero is the direction
    of the wrist. The thumb's CMC joint and the metacarpals are at zero as in the template.
    """

    @attrs.frozen
    class Config:
        """Options of the model `anny-hand`.

        Attributes:
            side: Which of the subject's hands.
            n_betas: Number of identity components, up to 20.
        """

        side: Side = "right"
        n_betas: int = attrs.field(default=10, validator=[attrs.validators.ge(1), attrs.validators.le(20)])

    def __init__(self, config: Any = None) -> None:
        config = self.Config() if config is None else config
        hand = hand_arrays(config.side)
        n_betas = config.n_betas
        joint_dirs = hand.joint_shapedirs[..., :n_betas]
        # the landmarks are virtual points: each rides on one joint
        shapedirs = np.concatenate([hand.shapedirs[..., :n_betas], hand.landmark_shapedirs[..., :n_betas]])
        riding = np.eye(len(hand.joints))[hand.landmark_joints]
        arrays = SkinningArrays(
            v_template=np.concatenate([hand.v_template, hand.landmarks]),
            shapedirs=shapedirs,
            lbs_weights=np.concatenate([hand.lbs_weights, riding]),
            joints=hand.joints,
            joint_dirs=joint_dirs,
            parents=hand.parents,
            joint_names=hand.joint_names,
        )
        topology = Topology(
            f"anny-hand-{config.side}",
            len(hand.v_template),
            hand.faces,
            hand.landmark_names,
            hand.regions,
            hand.uv,
            hand.uv_faces,
        )
        betas = ParameterGroup("betas", n_betas, sqrt_information=np.ones(n_betas))
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True), hand_pose(config.side)]
        super().__init__(arrays, topology, [betas], poses, config)


def hand_pose(side: Side) -> ParameterGroup:
    """The group `hand_pose`: rotvecs of all joints but the wrist from the angles of `MOTIONS`."""
    hand = hand_arrays("right")
    basis = np.zeros((len(hand.joints), 3, len(MOTIONS)))
    at_rest = np.zeros(len(MOTIONS))
    for column, motion in enumerate(MOTIONS):
        frame = JointFrame.of(hand, motion.joint)
        basis[hand.joint_names.index(motion.joint), :, column] = frame.axis(motion)
        at_rest[column] = frame.angle_at_rest(motion)
    if side == "left":
        basis *= MIRROR_ROTVEC[:, None]
    moving = basis[1:].reshape(-1, len(MOTIONS))

    def radians(field: str) -> np.ndarray:
        return np.radians([getattr(motion, field) for motion in MOTIONS])

    return ParameterGroup(
        "hand_pose",
        len(MOTIONS),
        "rotvec",
        basis=moving,
        offset=-moving @ at_rest,
        prior_mean=radians("mean"),
        sqrt_information=_sqrt_information(),
        lower=radians("lower"),
        upper=radians("upper"),
        names=tuple(motion.name for motion in MOTIONS),
    )


@attrs.frozen(eq=False)
class JointFrame:
    """The axes of a joint of the right hand at rest; see `AnnyHand`.

    Attributes:
        joint: Its name.
        forward: (3,) t, to the next joint.
        palmar: (3,) p, where the pad looks.
        flexion_at_rest: Angle from the bone before to t about the axis of flexion, radians.
        spread_at_rest: Angle in the palm's plane from the middle finger to t, towards the thumb, radians;
            for the middle finger from +y.
    """

    joint: str
    forward: Float[np.ndarray, " 3"]
    palmar: Float[np.ndarray, " 3"]
    flexion_at_rest: float
    spread_at_rest: float

    @classmethod
    def of(cls, hand: HandArrays, joint: str) -> JointFrame:
        """The frame of a joint other than the wrist."""
        points = dict(zip(hand.joint_names, hand.joints, strict=True))
        forward = _unit(_next(hand, joint) - points[joint])
        finger = hand.tip_names.index(joint.split("_")[0])
        pad = np.array([0.0, 0.0, 1.0]) if joint in METACARPALS else hand.pads[finger]
        palmar = _unit(pad - (pad @ forward) * forward)
        parent = hand.joints[hand.parents[hand.joint_names.index(joint)]]
        before = points[joint] - parent
        flexion = math.atan2(np.cross(before, forward) @ np.cross(forward, palmar), before @ forward)
        middle = _next(hand, "middle_mcp") - points["middle_mcp"]
        straight = 0.0 if joint == "middle_mcp" else math.atan2(middle[0], middle[1])
        return cls(joint, forward, palmar, flexion, math.atan2(forward[0], forward[1]) - straight)

    def axis(self, motion: Motion) -> Float[np.ndarray, " 3"]:
        """The axis (3,) of a positive turn."""
        ulnar = self.joint.startswith(("ring", "little"))
        return {
            "flexion": np.cross(self.forward, self.palmar),
            "abduction": self.palmar if ulnar else -self.palmar,
            "rotation": -self.forward if self.joint.startswith("thumb") else self.forward,
        }[motion.action]

    def angle_at_rest(self, motion: Motion) -> float:
        """The value in the template of a coordinate, radians."""
        if self.joint in (*METACARPALS, "thumb_cmc") or motion.action == "rotation":
            return 0.0
        if motion.action == "flexion":
            return self.flexion_at_rest
        if self.joint == "thumb_mcp":
            return 0.0
        return -self.spread_at_rest if self.joint.startswith(("ring", "little")) else self.spread_at_rest


def _next(hand: HandArrays, joint: str) -> Float[np.ndarray, " 3"]:
    """The joint or finger tip that follows a joint."""
    index = hand.joint_names.index(joint)
    if index in hand.parents:
        return hand.joints[hand.parents.index(index)]
    return hand.tips[hand.tip_names.index(joint.split("_")[0])]


def _sqrt_information() -> Float[np.ndarray, "rows coordinates"]:
    """Rows of the prior: each coordinate, DIP with PIP, and neighbouring fingers; per radian."""
    column = {motion.name: index for index, motion in enumerate(MOTIONS)}
    rows = []
    for motion in MOTIONS:
        row = np.zeros(len(MOTIONS))
        row[column[motion.name]] = 1 / motion.std
        if motion.joint.endswith("_dip"):
            row[column[motion.name.replace("_dip_", "_pip_")]] = -DIP_PER_PIP / motion.std
        rows.append(row)
    for (one, other), std in NEIGHBOUR_STD.items():
        for joint in ("mcp", "pip"):
            row = np.zeros(len(MOTIONS))
            row[column[f"{one}_{joint}_flexion"]] = 1 / std
            row[column[f"{other}_{joint}_flexion"]] = -1 / std
            rows.append(row)
    return np.degrees(np.array(rows))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
