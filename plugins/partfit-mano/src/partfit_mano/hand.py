"""The MANO hand as a skinned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from jaxtyping import Float

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_mano.hand_file import (
    JOINTS,
    N_SHAPES,
    PARENTS,
    PATH_HINT,
    HandArrays,
    LeftShapedirs,
    Side,
    read_hand,
)

#: The vertex at the tip of each finger, as in smplx.
TIPS = {"thumb": 744, "index": 320, "middle": 443, "ring": 554, "little": 671}
#: The points of the landmark scheme `hand21`, in its order.
POINTS = (
    "wrist",
    *(f"thumb_{point}" for point in ("cmc", "mcp", "ip", "tip")),
    *(
        f"{f}_{point}"
        for f in ("index", "middle", "ring", "little")
        for point in ("mcp", "pip", "dip", "tip")
    ),
)
#: Smallest standard deviation of the pose prior in any direction, radians: poses that were not seen are
#: unlikely, but not impossible.
_LEAST_STD = 0.05

_SHAPES = [attrs.validators.ge(1), attrs.validators.le(N_SHAPES)]
_COMPONENTS = [attrs.validators.ge(1), attrs.validators.le(45)]


#: Rotations from the file's frame (a right hand's fingers along -x, its thumb at +z, its palm looks along
#: -y; a left hand's mirrored in x) to one with the fingers up and the palm in front.
FRONTS = {
    "right": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "left": np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


class ManoHand(SkinnedModel):
    """The model `mano`: shape and pose of one hand, from the official files that the user holds.

    Groups: `betas` (shape, in standard deviations), `global_orient` (about the wrist joint), `hand_pose`,
    `transl`. Parameters mean what they mean in smplx.
    Model frame: that of the files, metres. The fingers of a right hand point along -x, its thumb is at +z,
    its palm looks along -y; the wrist is not at the origin. The left hand is its mirror image in x: equal
    `betas` and principal components give mirrored hands, rotvecs (r_x, r_y, r_z) become (r_x, -r_y, -r_z).

    Points: the 778 vertices, then the 21 points of the landmark scheme `hand21`: 16 joints, and five vertices
    at the finger tips, with their pose correctives.

    Source: Romero, Tzionas & Black, "Embodied Hands", 2017.
    """

    @attrs.frozen
    class Config:
        """Options of the model `mano`.

        Attributes:
            path: MANO_RIGHT or MANO_LEFT (.pkl, .npz or .safetensors), or a folder with these files, which
                https://mano.is.tue.mpg.de gives after registration. A right file serves both sides: a left
                hand is its mirror image.
            side: Which of the subject's hands.
            n_betas: Number of shape coefficients, up to 10.
            pose: What `hand_pose` holds: rotvecs of the 15 joints (`axis-angle`), or coefficients of the
                file's principal components (`pca`).
            n_pca: Number of principal components, up to 45; only with `pose="pca"`.
            flat_hand_mean: Whether `hand_pose` counts from the flat hand of the template; by default it
                counts from the file's mean pose, which is added, as in smplx.
            left_shapedirs: What to make of the shape directions of a left file. The official one holds those
                of the right hand, so that equal `betas` give hands of different shapes. `auto` mirrors them
                where they are found so; `file` takes them as they are, as smplx does; `flipped` negates their
                x. Right files, mirrored ones too, have no such fault.
        """

        path: Path = attrs.field(metadata={"hint": PATH_HINT})
        side: Side = "right"
        n_betas: int = attrs.field(default=10, validator=_SHAPES)
        pose: Literal["axis-angle", "pca"] = "axis-angle"
        n_pca: int = attrs.field(default=6, validator=_COMPONENTS)
        flat_hand_mean: bool = False
        left_shapedirs: LeftShapedirs = "auto"

    def __init__(self, config: Any) -> None:
        hand = read_hand(config.path, config.side, config.left_shapedirs)
        n_betas = config.n_betas
        super().__init__(
            _arrays(hand, n_betas),
            Topology(
                f"mano-{config.side}",
                len(hand.v_template),
                hand.faces,
                POINTS,
                _regions(hand),
                front=FRONTS[config.side],
            ),
            [ParameterGroup("betas", n_betas, sqrt_information=np.ones(n_betas))],
            [ParameterGroup("global_orient", 3, "rotvec", rigid=True), _hand_pose(hand, config)],
            config,
        )

    @property
    def embedding_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return ("hand21",)

    def embedding(self, scheme: str) -> LandmarkEmbedding:  # noqa: D102 (inherited)
        if scheme != "hand21":
            return super().embedding(scheme)
        hand21 = LandmarkScheme("hand21", POINTS, mirror=np.arange(len(POINTS)))
        rows = self.topology.n_vertices + np.arange(len(POINTS))
        return LandmarkEmbedding.of_vertices(hand21, self.topology.name, rows.tolist())


def _arrays(hand: HandArrays, n_betas: int) -> SkinningArrays:
    """The arrays over vertices and virtual points: joints ride on themselves, tips are copies of vertices."""
    shapedirs = hand.shapedirs[..., :n_betas]
    joints, joint_dirs = hand.joints, np.einsum("jv,vdk->jdk", hand.joint_regressor, shapedirs)
    by_joint = (joints, joint_dirs, np.eye(len(joints)), np.zeros((len(joints), *hand.posedirs.shape[1:])))
    by_vertex = (hand.v_template, shapedirs, hand.lbs_weights, hand.posedirs)
    v_template, shapedirs, weights, posedirs = (
        np.concatenate([vertices, [_point(name, vertices, joints) for name in POINTS]])
        for vertices, joints in zip(by_vertex, by_joint, strict=True)
    )
    return SkinningArrays(
        v_template=v_template,
        shapedirs=shapedirs,
        lbs_weights=weights,
        joints=hand.joints,
        joint_dirs=joint_dirs,
        parents=PARENTS,
        posedirs=posedirs,
        joint_names=JOINTS,
    )


def _point(name: str, by_vertex: np.ndarray, by_joint: np.ndarray) -> np.ndarray:
    """The row of a virtual point."""
    finger, _, kind = name.partition("_")
    return by_vertex[TIPS[finger]] if kind == "tip" else by_joint[JOINTS.index(name)]


def _regions(hand: HandArrays) -> dict[str, np.ndarray]:
    """The vertices that each finger's joints carry most of, and the rest, the palm with its back."""
    most = np.array([JOINTS[j].split("_")[0] for j in hand.lbs_weights.argmax(axis=1)])
    names = {"wrist": "metacarpus", **{finger: finger for finger in TIPS}}
    return {region: np.flatnonzero(most == carrier) for carrier, region in names.items() if carrier in most}


def _hand_pose(hand: HandArrays, config: ManoHand.Config) -> ParameterGroup:
    """The group `hand_pose`: rotvecs = offset + basis @ coordinates, with the prior of the file's poses."""
    n_angles = len(hand.hands_mean)
    pca = config.pose == "pca"
    basis = hand.hands_components[: config.n_pca].T if pca else np.eye(n_angles)
    offset = np.zeros(n_angles) if config.flat_hand_mean else hand.hands_mean
    prior_mean, sqrt_information = _prior(hand, basis, offset)
    joints = [f"{joint}_{axis}" for joint in JOINTS[1:] for axis in "xyz"]
    return ParameterGroup(
        "hand_pose",
        basis.shape[1],
        "rotvec",
        basis=basis,
        offset=offset,
        prior_mean=prior_mean,
        sqrt_information=sqrt_information,
        names=[f"pca_{k:02d}" for k in range(config.n_pca)] if pca else joints,
    )


def _prior(
    hand: HandArrays, basis: Float[np.ndarray, "pose coordinates"], offset: Float[np.ndarray, " pose"]
) -> tuple[Float[np.ndarray, " coordinates"], Float[np.ndarray, "coordinates coordinates"]]:
    """Mean and square-root information of the coordinates that give the file's poses, as a normal density.

    Without poses in the file: the mean pose, and a standard deviation of 1.
    """
    back = np.linalg.pinv(basis)
    if hand.hands_coeffs is None:
        return back @ (hand.hands_mean - offset), np.eye(basis.shape[1])
    poses = hand.hands_mean + hand.hands_coeffs @ hand.hands_components
    variances, axes = np.linalg.eigh(np.cov(poses, rowvar=False))
    std = np.sqrt(variances.clip(min=_LEAST_STD**2))
    root = back @ (axes * std)  # a root of the covariance of the coordinates
    information = np.linalg.inv(root @ root.T)
    return back @ (poses.mean(axis=0) - offset), np.linalg.cholesky(information).T
