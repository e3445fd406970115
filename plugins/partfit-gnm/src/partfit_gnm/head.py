"""The GNM head as a skinned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_gnm.head_file import N_EXPRESSION, N_IDENTITY, PATH_HINT, HeadArrays, read_head

TOPOLOGY = "gnm-head"
#: The pose group of a joint, where it is not simply `<joint>_pose`: smplx's names for the eyes.
_POSES = {"left_eye": "leye_pose", "right_eye": "reye_pose"}
#: Standard deviations and limits of the joints' rotvecs in radians, (x, y, z), x being the axis of nodding.
#: Set by hand: the files have none.
_STD = {"eye": (0.2, 0.25, 0.02), "neck": (0.3, 0.4, 0.2)}
_LIMITS = {"eye": (0.6, 0.7, 0.1), "neck": (0.9, 1.2, 0.7)}

_IDENTITY = [attrs.validators.ge(1), attrs.validators.le(N_IDENTITY)]
_EXPRESSION = [attrs.validators.ge(1), attrs.validators.le(N_EXPRESSION)]


class GnmHead(SkinnedModel):
    """The model `gnm-head`: Google's GNM Head v3.0, from the file that the user holds.

    Groups: `betas` (identity, in standard deviations), `expression` (in standard deviations),
    `global_orient` (about the model's origin), `neck_pose`, `head_pose`, `leye_pose`, `reye_pose`, `transl`.
    Model frame: that of the file, metres, y up, the face looks along +z, x to the subject's left.

    Points: the 17821 vertices, then the file's four joints.

    **Root.** A joint of our own at the origin carries `global_orient`. The file's first joint, `neck`, is the
    root of GNM's skeleton; here it is a joint like the others, because its rotation too has pose correctives,
    which a motion of the whole head must not bring about.

    Source: Google, "GNM Head: A Generative aNthropometric Model of the human head", arXiv:2607.23687.
    """

    @attrs.frozen
    class Config:
        """Options of the model `gnm-head`.

        Attributes:
            path: `gnm_head.npz` from https://github.com/google/GNM, or what `partfit convert` made of it.
            n_betas: Number of identity coefficients, up to 253, the first ones of the file: 170 of the
                head, then 3 of the eyeballs and 80 of the teeth.
            n_expression: Number of expression coefficients, up to 383: the first ones of each region in
                turn (left eye, right eye, lower face, tongue, pupils), which are the most important ones.
        """

        path: Path = attrs.field(metadata={"hint": PATH_HINT})
        n_betas: int = attrs.field(default=170, validator=_IDENTITY)
        n_expression: int = attrs.field(default=100, validator=_EXPRESSION)

    def __init__(self, config: Any) -> None:
        head = read_head(config.path, config.n_betas, config.n_expression)
        topology = Topology(
            TOPOLOGY,
            len(head.v_template),
            head.faces,
            head.joint_names,
            head.regions,
            head.uv,
            head.uv_faces,
            head.colors(),
        )
        coefficients = [
            ParameterGroup(name, len(names), sqrt_information=np.ones(len(names)), names=names)
            for name, names in (("betas", head.identity_names), ("expression", head.expression_names))
        ]
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True), *map(_pose, head.joint_names)]
        super().__init__(_arrays(head), topology, coefficients, poses, config)


def _arrays(head: HeadArrays) -> SkinningArrays:
    """The arrays over vertices and joints, with the root at the origin as joint 0.

    The correctives of joints 1..4, the file's joints, are then in the order of `SkinningArrays`.
    """
    n_vertices, n_joints, n_betas = len(head.v_template), len(head.joints), head.shapedirs.shape[-1]
    # joints have no expression
    shapedirs = np.zeros((n_vertices + n_joints, 3, n_betas + head.exprdirs.shape[-1]))
    shapedirs[:n_vertices, :, :n_betas] = head.shapedirs
    shapedirs[:n_vertices, :, n_betas:] = head.exprdirs
    shapedirs[n_vertices:, :, :n_betas] = head.joint_shapedirs
    on_root = np.zeros((n_vertices + n_joints, 1))
    posedirs = np.concatenate([head.posedirs, np.zeros((n_joints, *head.posedirs.shape[1:]))])
    return SkinningArrays(
        v_template=np.concatenate([head.v_template, head.joints]),
        shapedirs=shapedirs,
        lbs_weights=np.concatenate([on_root, np.concatenate([head.lbs_weights, np.eye(n_joints)])], axis=1),
        joints=np.concatenate([np.zeros((1, 3)), head.joints]),
        joint_dirs=np.concatenate([np.zeros((1, *shapedirs.shape[1:])), shapedirs[n_vertices:]]),
        parents=(-1, *(parent + 1 for parent in head.parents)),
        # the published file has correctives of zero, which cost time and change nothing
        posedirs=posedirs if posedirs.any() else None,
        joint_names=("root", *head.joint_names),
    )


def _pose(joint: str) -> ParameterGroup:
    kind = "eye" if joint in _POSES else "neck"
    limit = np.array(_LIMITS[kind])
    return ParameterGroup(
        _POSES.get(joint, f"{joint}_pose"),
        3,
        "rotvec",
        sqrt_information=1 / np.array(_STD[kind]),
        lower=-limit,
        upper=limit,
    )
