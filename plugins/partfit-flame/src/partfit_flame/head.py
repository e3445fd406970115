"""The model `flame`: FLAME from the official file that its user holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from jaxtyping import Bool, Float

from partfit.landmarks import LandmarkEmbedding
from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit_flame import embeddings
from partfit_flame.files import (
    JOINT_NAMES,
    N_EXPRESSION,
    N_SHAPE,
    N_VERTICES,
    PARENTS,
    PATH_HINT,
    FlameArrays,
    read_flame,
    read_landmarks,
    read_masks,
    read_mediapipe,
    read_region,
)

#: Name of the topology, which embeddings refer to.
TOPOLOGY = "flame"

#: Standard deviations of the joints' rotvecs in radians, (x, y, z) with x the axis of nodding and opening.
POSE_STD = {
    "neck_pose": (0.3, 0.4, 0.2),
    "jaw_pose": (0.15, 0.03, 0.02),
    "leye_pose": (0.2, 0.25, 0.02),
    "reye_pose": (0.2, 0.25, 0.02),
}
#: Limits of the joints' rotvecs in radians: the jaw opens, and hardly closes further than at rest.
POSE_LIMITS = {
    "neck_pose": ((-0.9, -1.2, -0.7), (0.9, 1.2, 0.7)),
    "jaw_pose": ((-0.05, -0.15, -0.1), (0.6, 0.15, 0.1)),
    "leye_pose": ((-0.6, -0.7, -0.1), (0.6, 0.7, 0.1)),
    "reye_pose": ((-0.6, -0.7, -0.1), (0.6, 0.7, 0.1)),
}

#: Natural colours, sRGB in [0, 1].
_SKIN, _LIPS = (0.82, 0.62, 0.52), (0.70, 0.38, 0.36)
_SCLERA, _IRIS, _PUPIL = (0.93, 0.92, 0.90), (0.28, 0.18, 0.12), (0.04, 0.03, 0.03)
_BROW = (0.20, 0.14, 0.10)
#: Radii of a person's iris and pupil, metres.
_IRIS_RADIUS, _PUPIL_RADIUS = 5.85e-3, 2e-3


def _no_level(_config: object, attribute: attrs.Attribute[Any], regions: Mapping[str, str]) -> None:
    """Refuse names of regions whose schemes would be called as levels of a decimated series are."""
    for name in regions:
        if re.search(r"-\d+$", name):
            raise ValueError(
                f"{attribute.name}: expected names that do not end in a hyphen and a number, which name the "
                f"levels of a decimated series; found {name!r}."
            )


class FlameHead(SkinnedModel):
    """The model `flame`: identity, expressions, neck, jaw and eyes (thesis section 3.1).

    Groups: `betas` (identity) and `expression`, both in standard deviations; `global_orient`, `neck_pose`,
    `jaw_pose`, `leye_pose`, `reye_pose`, `transl`. Model frame: metres, y up, the face looks along +z, x to
    the subject's left. Virtual points: the joints root, neck, jaw, left_eye and right_eye.

    Regions: `head` (all), `left_eyeball` and `right_eyeball` (what rides on the eye joints); with `masks`,
    those of `FLAME_masks.pkl` and `head_without_neck`; those of `regions`, which come before others of
    the same name.

    Embeddings (`embedding_names`): `flame-<region>`, and its decimated series `flame-<region>-<n>`; with
    `landmark_embedding`, `ibug68`; with `mediapipe_embedding`, `mediapipe105` and `mediapipe468`.

    Raises:
        ModelFileError: if a file is missing, damaged or another model's.
    """

    @attrs.frozen
    class Config:
        """Options of the model `flame`.

        Attributes:
            path: FLAME's model file, which https://flame.is.tue.mpg.de gives after registration
                (`generic_model.pkl`, `flame2023.pkl`, ...), or what `partfit convert` made of it.
            n_betas: Number of shape coefficients, up to 300.
            n_expression: Number of expression coefficients, up to 100.
            joints_from: What moves the joints at rest: shape and expression, as in smplx, which published
                parameters assume, or shape alone (thesis eq. 3.7).
            masks: The file `FLAME_masks.pkl`.
            regions: Other vertex sets by name: index files (.npy, .txt, .json). A name must not end in
                `-<number>`, as the levels of a decimated series do.
            landmark_embedding: The file `landmark_embedding.npy`, for `ibug68`.
            mediapipe_embedding: The file `mediapipe_landmark_embedding.npz`.
            contour: Whether the contour of `ibug68` follows the outline (`dynamic`) or is that of the
                frontal view (`fixed`).
        """

        path: Path = attrs.field(metadata={"hint": PATH_HINT})
        n_betas: int = attrs.field(
            default=100, validator=[attrs.validators.ge(1), attrs.validators.le(N_SHAPE)]
        )
        n_expression: int = attrs.field(
            default=50, validator=[attrs.validators.ge(1), attrs.validators.le(N_EXPRESSION)]
        )
        joints_from: Literal["shape+expression", "shape"] = "shape+expression"
        masks: Path | None = None
        regions: dict[str, Path] = attrs.field(factory=dict, validator=_no_level)
        landmark_embedding: Path | None = None
        mediapipe_embedding: Path | None = None
        contour: Literal["dynamic", "fixed"] = "dynamic"

    def __init__(self, config: Any) -> None:
        flame = read_flame(config.path, config.n_betas, config.n_expression)
        joints = flame.joint_regressor @ flame.v_template
        joint_dirs = np.einsum("jv,vdk->jdk", flame.joint_regressor, flame.shapedirs, optimize=True)
        if config.joints_from == "shape":
            joint_dirs[..., config.n_betas :] = 0
        n_joints = len(joints)
        # the joints are virtual points: rest position and displacements are theirs, each rides on itself
        arrays = SkinningArrays(
            v_template=np.concatenate([flame.v_template, joints]),
            shapedirs=np.concatenate([flame.shapedirs, joint_dirs]),
            lbs_weights=np.concatenate([flame.weights, np.eye(n_joints)]),
            joints=joints,
            joint_dirs=joint_dirs,
            parents=PARENTS,
            posedirs=np.concatenate([flame.posedirs, np.zeros((n_joints, *flame.posedirs.shape[1:]))]),
            joint_names=JOINT_NAMES,
        )
        regions = _regions(flame, config)
        topology = Topology(
            TOPOLOGY,
            N_VERTICES,
            flame.faces,
            JOINT_NAMES,
            regions,
            colors=_colors(flame.v_template, joints, regions),
        )
        coefficients = [
            ParameterGroup(name, size, sqrt_information=np.ones(size))
            for name, size in (("betas", config.n_betas), ("expression", config.n_expression))
        ]
        poses = [ParameterGroup("global_orient", 3, "rotvec", rigid=True)]
        for name, std in POSE_STD.items():
            lower, upper = POSE_LIMITS[name]
            root = 1 / np.array(std)
            poses.append(ParameterGroup(name, 3, "rotvec", sqrt_information=root, lower=lower, upper=upper))
        super().__init__(arrays, topology, coefficients, poses, config)
        self._own = _embeddings_of_files(config, topology, flame.v_template)
        #: the region of each scheme of a series, and the scheme of the level before
        self._series: dict[str, tuple[str, str | None]] = {}
        for region, vertices in regions.items():
            names = embeddings.series_names(region, len(vertices))
            for finer, name in zip((None, *names), names, strict=False):
                self._series[name] = (region, finer)

    @property
    def embedding_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return (*self._own, *(name for name in self._series if name not in self._own))

    def embedding(self, scheme: str) -> LandmarkEmbedding:
        """The model's own embedding of a scheme; a decimated one is made when it is first asked for.

        Raises:
            InputError: if the model has none, or the region cannot be decimated without tearing.
        """
        if scheme not in self._own and scheme in self._series:
            self._own[scheme] = self._level(scheme)
        return self._own[scheme] if scheme in self._own else super().embedding(scheme)

    def _level(self, scheme: str) -> LandmarkEmbedding:
        region, finer = self._series[scheme]
        if finer is None:
            return embeddings.region_vertices(self.topology, region)
        return embeddings.halved(self.embedding(finer), self.arrays.v_template[:N_VERTICES], scheme)


def _embeddings_of_files(
    config: FlameHead.Config, topology: Topology, v_template: Float[np.ndarray, "vertices 3"]
) -> dict[str, LandmarkEmbedding]:
    """The embeddings that the user's files describe, by scheme."""
    found: list[LandmarkEmbedding] = []
    if config.landmark_embedding is not None:
        rows = read_landmarks(config.landmark_embedding, len(topology.faces))
        if config.contour == "dynamic":
            found.append(embeddings.ibug68_dynamic(topology, v_template, rows))
        else:
            found.append(embeddings.ibug68_fixed(topology, rows))
    if config.mediapipe_embedding is not None:
        places, points = read_mediapipe(config.mediapipe_embedding, len(topology.faces))
        found.append(embeddings.mediapipe105(topology, places, points))
        found.append(embeddings.mediapipe468(topology, places, points))
    return {embedding.scheme.name: embedding for embedding in found}


def _regions(flame: FlameArrays, config: FlameHead.Config) -> dict[str, np.ndarray]:
    """The vertex sets, each ascending: those of the weights, of the masks, and of the user's own files."""
    regions = {
        "head": np.arange(N_VERTICES),
        "left_eyeball": np.flatnonzero(flame.weights[:, 3] > 0.5),
        "right_eyeball": np.flatnonzero(flame.weights[:, 4] > 0.5),
    }
    if config.masks is not None:
        masks = read_masks(config.masks)
        below = np.concatenate([masks["neck"], masks["boundary"]])
        regions["head_without_neck"] = np.setdiff1d(regions["head"], below)
        regions = {**masks, **regions}
    regions.update({name: read_region(path) for name, path in config.regions.items()})
    return regions


def _colors(
    v_template: Float[np.ndarray, "vertices 3"],
    joints: Float[np.ndarray, "joints 3"],
    regions: Mapping[str, np.ndarray],
) -> Float[np.ndarray, "vertices 3"]:
    """Skin, lips where a mask tells, brows, white eyeballs with an iris around the front pole."""
    colors = np.tile(_SKIN, (len(v_template), 1))
    colors[_brows(v_template, joints[3:5])] = _BROW
    colors[regions.get("lips", [])] = _LIPS
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        eyeball = regions[name]
        x, y, z = (v_template[eyeball] - joints[joint]).T
        from_pole = np.where(z > 0, np.hypot(x, y), np.inf)
        colors[eyeball] = _SCLERA
        colors[eyeball[from_pole < _IRIS_RADIUS]] = _IRIS
        colors[eyeball[from_pole < _PUPIL_RADIUS]] = _PUPIL
    return colors


def _brows(
    v_template: Float[np.ndarray, "vertices 3"], eyes: Float[np.ndarray, "2 3"]
) -> Bool[np.ndarray, " vertices"]:
    """The vertices under the eyebrows: bands that narrow outwards, arched above the eyes.

    Without brows a landmarker places those of a bare head about a centimetre too low.
    """
    unit = np.linalg.norm(eyes[0] - eyes[1]) / 2
    x, y, z = (v_template - eyes.mean(axis=0)).T / unit
    along = (np.abs(x) - 0.41) / 1.27
    arch = 0.62 + 0.19 * np.sin(np.clip(along, 0, 1) * np.pi * 0.75)
    return (along > 0) & (along < 1) & (np.abs(y - arch) < 0.13 - 0.08 * along) & (z > -0.6)
