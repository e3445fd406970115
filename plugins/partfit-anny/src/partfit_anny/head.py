"""The Anny head as a skinned model."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from jaxtyping import Bool, Float

from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_anny.head_assets import TOPOLOGY, HeadArrays, head_arrays

#: Standard deviations of the joints' rotvecs in radians, (x, y, z) with x the axis of nodding and opening.
POSE_STD = {
    "neck_pose": (0.3, 0.4, 0.2),
    "jaw_pose": (0.15, 0.03, 0.02),
    "leye_pose": (0.2, 0.25, 0.02),
    "reye_pose": (0.2, 0.25, 0.02),
}
#: Limits of the joints' rotvecs in radians: the jaw opens, and never closes through the upper teeth.
POSE_LIMITS = {
    "neck_pose": ((-0.9, -1.2, -0.7), (0.9, 1.2, 0.7)),
    "jaw_pose": ((0.0, -0.12, -0.08), (0.5, 0.12, 0.08)),
    "leye_pose": ((-0.6, -0.7, -0.1), (0.6, 0.7, 0.1)),
    "reye_pose": ((-0.6, -0.7, -0.1), (0.6, 0.7, 0.1)),
}

#: Natural colours, sRGB; regions that are not named have that of skin.
SKIN = (0.85, 0.65, 0.54)
REGION_COLORS = {
    "lips": (0.70, 0.36, 0.35),
    "mouth_cavity": (0.45, 0.18, 0.17),
    "tongue": (0.66, 0.32, 0.32),
    "upper_teeth": (0.92, 0.90, 0.85),
    "lower_teeth": (0.92, 0.90, 0.85),
    "left_eyeball": (0.93, 0.92, 0.91),
    "right_eyeball": (0.93, 0.92, 0.91),
}
IRIS, PUPIL, BROW = (0.32, 0.22, 0.14), (0.04, 0.04, 0.04), (0.20, 0.14, 0.10)
#: Radii around the front pole of an eyeball, metres.
IRIS_RADIUS, PUPIL_RADIUS = 0.006, 0.0026


class AnnyHead(SkinnedModel):
    """The model `anny-head`: identity, 52 named expressions, neck, jaw and eyes.

    Groups: `betas` (identity, in standard deviations), `expression` (ARKit-named actions, 0 to 1),
    `global_orient` (root at the neck), `neck_pose`, `jaw_pose`, `leye_pose`, `reye_pose`, `transl`.
    Model frame: metres, y up, the face looks along +z, x to the subject's left.
    """

    @attrs.frozen
    class Config:
        """Options of the model `anny-head`.

        Attributes:
            n_betas: Number of identity components, up to 120.
        """

        n_betas: int = attrs.field(default=80, validator=[attrs.validators.ge(1), attrs.validators.le(120)])

    def __init__(self, config: Any = None) -> None:
        config = self.Config() if config is None else config
        head = head_arrays()
        n_betas = config.n_betas
        # the joints are virtual points: rest position and displacements are theirs, each rides on itself
        identity = np.concatenate([head.shapedirs[..., :n_betas], head.joint_shapedirs[..., :n_betas]])
        joints_do_not_express = np.zeros((len(head.joints), 3, len(head.expression_names)))
        expression = np.concatenate([head.exprdirs, joints_do_not_express])
        arrays = SkinningArrays(
            v_template=np.concatenate([head.v_template, head.joints]),
            shapedirs=np.concatenate([identity, expression], axis=2),
            lbs_weights=np.concatenate([head.lbs_weights, np.eye(len(head.joints))]),
            joints=head.joints,
            joint_dirs=np.concatenate([head.joint_shapedirs[..., :n_betas], joints_do_not_express], axis=2),
            parents=head.parents,
            joint_names=head.joint_names,
        )
        topology = Topology(
            TOPOLOGY,
            len(head.v_template),
            head.faces,
            head.joint_names,
            head.regions,
            head.uv,
            head.uv_faces,
            _colors(head),
        )
        n_expressions = len(head.expression_names)
        coefficients = (
            ParameterGroup("betas", n_betas, sqrt_information=np.ones(n_betas)),
            ParameterGroup(
                "expression",
                n_expressions,
                sqrt_information=1 / head.expression_std,
                lower=np.zeros(n_expressions),
                upper=np.ones(n_expressions),
                names=head.expression_names,
            ),
        )
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True)]
        for name, std in POSE_STD.items():
            lower, upper = POSE_LIMITS[name]
            root = 1 / np.array(std)
            poses.append(ParameterGroup(name, 3, "rotvec", sqrt_information=root, lower=lower, upper=upper))
        super().__init__(arrays, topology, coefficients, poses, config)


def _colors(head: HeadArrays) -> Float[np.ndarray, "vertices 3"]:
    """Natural colour of each vertex, sRGB."""
    colors = np.tile(SKIN, (len(head.v_template), 1))
    colors[_brows(head)] = BROW
    for region, color in REGION_COLORS.items():
        colors[head.regions[region]] = color
    for side in ("left", "right"):
        eyeball = head.regions[f"{side}_eyeball"]
        forward = head.v_template[eyeball] - head.joints[head.joint_names.index(f"{side}_eye")]
        from_pole = np.where(forward[:, 2] > 0, np.hypot(forward[:, 0], forward[:, 1]), np.inf)
        colors[eyeball[from_pole < IRIS_RADIUS]] = IRIS
        colors[eyeball[from_pole < PUPIL_RADIUS]] = PUPIL
    return colors


def _brows(head: HeadArrays) -> Bool[np.ndarray, " vertices"]:
    """The vertices under the eyebrows: bands that narrow outwards, arched above the eyes."""
    x, y, z = head.v_template.T
    along = (np.abs(x) - 0.013) / 0.040
    arch = 0.0195 + 0.006 * np.sin(np.clip(along, 0, 1) * np.pi * 0.75)
    return (along > 0) & (along < 1) & (np.abs(y - arch) < 0.0040 - 0.0025 * along) & (z > -0.02)
