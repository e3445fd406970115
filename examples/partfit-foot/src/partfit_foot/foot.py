"""The foot as a skinned model, posed by named angles."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
from jaxtyping import Float

from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_foot import shape

JOINTS = ("heel", "ankle", "midfoot", *shape.TOES)
_PARENTS = (-1, 0, 0, 2, 2, 2, 2, 2)
_HEEL, _ANKLE, _MIDFOOT = (0.0, 0.03, -0.03), (0.0, 0.075, 0.0), (0.0, 0.03, 0.065)
#: Colour of the skin, sRGB.
SKIN = (0.86, 0.68, 0.58)

#: Of each coordinate of `foot_pose`: standard deviation, lower and upper limit, degrees.
POSE = {
    "ankle_flexion": (20, -50, 25),
    "midfoot_flexion": (6, -10, 20),
    **{f"{toe}_flexion": (15, -60, 35) for toe in shape.TOES},
}


class Foot(SkinnedModel):
    """The model `foot`: identity and pose of one foot.

    Groups: `betas` (length, width, arch, toe length, in standard deviations), `global_orient` (about the
    heel), `foot_pose` (the angles of `POSE` in radians: positive bends toes and mid-foot towards the sole,
    and the leg towards the toes), `transl`.
    Model frame: metres, +y up, toes along +z, the sole at y = 0. The left foot is the right one mirrored.
    """

    @attrs.frozen
    class Config:
        """Options of the model `foot`.

        Attributes:
            side: Which of the subject's feet.
        """

        side: Literal["left", "right"] = "right"

    def __init__(self, config: Any = None) -> None:
        config = self.Config() if config is None else config
        right = _right_arrays()
        mirror = np.array([1.0 if config.side == "right" else -1.0, 1.0, 1.0])
        arrays = attrs.evolve(
            right,
            v_template=right.v_template * mirror,
            shapedirs=right.shapedirs * mirror[:, None],
            joints=right.joints * mirror,
            joint_dirs=right.joint_dirs * mirror[:, None],
        )
        n_vertices, faces = len(right.v_template), shape.faces()
        topology = Topology(
            f"foot-{config.side}",
            n_vertices,
            # triangles are counter-clockwise from outside: a mirror turns them over
            faces if config.side == "right" else faces[:, ::-1].copy(),
            regions={
                name: start + np.arange(len(shape.parts()[name].vertices))
                for name, start in shape.starts().items()
            },
            colors=np.tile(SKIN, (n_vertices, 1)),
        )
        betas = ParameterGroup(
            "betas",
            4,
            sqrt_information=np.ones(4),
            lower=np.full(4, -3.0),
            upper=np.full(4, 3.0),
            names=["length", "width", "arch", "toe_length"],
        )
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True), _foot_pose()]
        super().__init__(arrays, topology, [betas], poses, config)


def _right_arrays() -> SkinningArrays:
    parts = shape.parts()
    bases = {toe: shape.toe_base(index) for index, toe in enumerate(shape.TOES)}
    joints = np.array([_HEEL, _ANKLE, _MIDFOOT, *bases.values()])
    return SkinningArrays(
        v_template=np.concatenate([tube.vertices for tube in parts.values()]),
        shapedirs=np.concatenate(
            [_displacements(tube.vertices, bases.get(name)) for name, tube in parts.items()]
        ),
        lbs_weights=np.concatenate([_weights(name, tube) for name, tube in parts.items()]),
        joints=joints,
        joint_dirs=_displacements(joints),
        parents=_PARENTS,
        joint_names=JOINTS,
    )


def _displacements(
    points: Float[np.ndarray, "n 3"], toe_base: Float[np.ndarray, " 3"] | None = None
) -> Float[np.ndarray, "n 3 4"]:
    """What one standard deviation of length, width, arch and toe length does to points at rest."""
    x, _, z = points.T
    directions = np.zeros((len(points), 3, 4))
    directions[:, 2, 0] = 0.05 * z
    directions[:, 0, 1] = 0.06 * x
    # the middle of the foot rises, most on its inner side
    directions[:, 1, 2] = 0.005 * np.exp(-(((z - 0.045) / 0.035) ** 2)) * (0.6 + 10 * x).clip(0, 1)
    if toe_base is not None:
        directions[:, 2, 3] = 0.08 * np.maximum(z - toe_base[2], 0)
    return directions


def _weights(part: str, tube: shape.Tube) -> Float[np.ndarray, "n joints"]:
    """Skinning weights of the vertices of a part."""
    rows = dict(zip(JOINTS, np.eye(len(JOINTS)), strict=True))
    _, y, z = tube.vertices.T
    if part == "leg":
        return _blend(rows["heel"], rows["ankle"], _smooth_step(y, 0.05, 0.09))
    foot = _blend(rows["heel"], rows["midfoot"], _smooth_step(z, 0.03, 0.10))
    return foot if part == "body" else _blend(foot, rows[part], _smooth_step(tube.along, 0.1, 0.35))


def _foot_pose() -> ParameterGroup:
    """Each joint but the heel turns about x, which a mirror leaves as it is."""
    std, lower, upper = np.radians(list(POSE.values())).T
    basis = np.zeros((len(POSE), 3, len(POSE)))
    basis[np.arange(len(POSE)), 0, np.arange(len(POSE))] = 1
    return ParameterGroup(
        "foot_pose",
        len(POSE),
        "rotvec",
        basis=basis.reshape(-1, len(POSE)),
        sqrt_information=1 / std,
        lower=lower,
        upper=upper,
        names=list(POSE),
    )


def _smooth_step(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 below start, 1 above end."""
    t = np.clip((values - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _blend(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(n, joints) rows, with a share (n,) of the other."""
    return (1 - share[:, None]) * one + share[:, None] * other
