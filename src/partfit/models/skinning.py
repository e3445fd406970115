"""Linear blend skinning: FLAME, MANO, Anny and their kin are arrays for this one model.

Source: thesis eqs. 3.1-3.7; Loper et al., "SMPL", 2015. The Jacobian is derived in
docs/architecture.md, "One closed-form Jacobian".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partfit.arrays import strings, whole_numbers
from partfit.errors import InputError, ShapeError
from partfit.geometry.rotations import hat, left_jacobian, rotvec_to_matrix
from partfit.landmarks import LandmarkEmbedding
from partfit.models.base import (
    LandmarkFunction,
    Linearization,
    ParameterGroup,
    ParametricModel,
    Topology,
    check_group_names,
)

#: So many embeddings, those asked for last, keep what has been gathered for them.
_KEPT = 4


@attrs.frozen(eq=False)
class SkinningArrays:
    """The arrays of a skinned model over its N points (vertices, then virtual points), metres.

    Attributes:
        v_template: (N, 3) points in rest pose at zero coefficients.
        shapedirs: (N, 3, K) displacement of each point by each coefficient (shape, then expression).
        lbs_weights: (N, J) skinning weights, rows sum to 1. A virtual point rides on one joint: one-hot.
        joints: (J, 3) rest positions of the joints at zero coefficients.
        joint_dirs: (J, 3, K) displacement of the joints by each coefficient. A joint regressor is linear
            in the vertices and is folded into `joints` and `joint_dirs` when a model is loaded.
        parents: Parent of each joint, -1 for the root, which is joint 0; a parent precedes its children.
        posedirs: (N, 3, 9 (J - 1)) pose correctives on vec(R_j - I), row-major, j = 1..J-1; or None.
        joint_names: Names of the joints, or empty.
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    lbs_weights: np.ndarray
    joints: np.ndarray
    joint_dirs: np.ndarray
    parents: tuple[int, ...] = attrs.field(converter=whole_numbers)
    posedirs: np.ndarray | None = None
    joint_names: tuple[str, ...] = attrs.field(default=(), converter=strings)

    def __attrs_post_init__(self) -> None:
        n, k, j = len(self.v_template), self.shapedirs.shape[-1], len(self.joints)
        expected = {
            "v_template": (n, 3),
            "shapedirs": (n, 3, k),
            "lbs_weights": (n, j),
            "joints": (j, 3),
            "joint_dirs": (j, 3, k),
        }
        if self.posedirs is not None:
            expected["posedirs"] = (n, 3, 9 * (j - 1))
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(name, str(shape), getattr(self, name).shape)
        if len(self.parents) != j or self.parents[0] != -1:
            raise InputError(
                f"parents must name {j} joints, the root first with parent -1; found {self.parents}."
            )
        if self.joint_names and len(self.joint_names) != j:
            raise InputError(f"joint_names: expected {j} names, one a joint, found {len(self.joint_names)}.")
        if not all(0 <= p < i for i, p in enumerate(self.parents) if i):
            raise InputError(f"Each joint's parent must precede it; found parents {self.parents}.")
        if not np.allclose(self.lbs_weights.sum(axis=1), 1.0, atol=1e-3):
            raise InputError("The skinning weights of each point must sum to 1.")


class SkinnedModel(ParametricModel):
    """A linear-blend-skinned model with a closed-form Jacobian at any embedding.

    The parameter vector holds the coefficient groups (their sizes add up to K), the pose groups (which
    cover joints 0..J-1 in order; the first is the root rotation) and, always last, the group `transl`, the
    translation in metres: the model adds it, so that no given group may have that name.
    """

    def __init__(
        self,
        arrays: SkinningArrays,
        topology: Topology,
        coefficients: Sequence[ParameterGroup],
        poses: Sequence[ParameterGroup],
        config: object = None,
    ) -> None:
        """Put the model together.

        Args:
            arrays: Template, blend shapes, skeleton and skinning weights.
            topology: Faces and names of points.
            coefficients: Groups of the columns of `shapedirs`.
            poses: Groups of the joints' rotations.
            config: The configuration that the model was built from.

        Raises:
            ShapeError: if the arrays and the topology have different numbers of points.
            InputError: if the groups do not fit the arrays, or two groups have one name.
        """
        super().__init__(config)
        self.arrays = arrays
        self._topology = topology
        self.coefficients, self.poses = tuple(coefficients), tuple(poses)
        self._tensors: dict[tuple[torch.dtype, torch.device], _Tensors] = {}
        self._landmarks: dict[tuple[LandmarkEmbedding, torch.dtype, torch.device], SkinnedLandmarks] = {}
        self._pose_bases: dict[tuple[str, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        if any(group.name == "transl" for group in (*self.coefficients, *self.poses)):
            raise InputError("A skinned model adds the group 'transl' itself; give it no group of that name.")
        check_group_names(self.groups)
        if len(arrays.v_template) != topology.n_points:
            raise ShapeError("v_template", f"({topology.n_points}, 3)", arrays.v_template.shape)
        n_coefficients = sum(group.size for group in self.coefficients)
        if n_coefficients != arrays.shapedirs.shape[-1]:
            raise InputError(
                f"The coefficient groups have {n_coefficients} coordinates, "
                f"shapedirs has {arrays.shapedirs.shape[-1]} columns."
            )
        n_rotations = sum(_n_joints(group) for group in self.poses)
        if n_rotations != len(arrays.joints):
            raise InputError(
                f"The pose groups cover {n_rotations} joints, the model has {len(arrays.joints)}."
            )

    @cached_property
    def groups(self) -> tuple[ParameterGroup, ...]:  # noqa: D102 (inherited)
        return (*self.coefficients, *self.poses, ParameterGroup("transl", 3, rigid=True))

    @property
    def topology(self) -> Topology:  # noqa: D102 (inherited)
        return self._topology

    def points(self, x: Tensor) -> Tensor:
        """See `ParametricModel`. Linear blend skinning (thesis eq. 3.5)."""
        arrays = self.tensors(x)
        state = _Posed(self, arrays, x)
        rest = state.shaped(arrays.v_template, arrays.blendshapes)
        blended = torch.einsum("nj,bjac->bnac", arrays.lbs_weights, state.rotations)
        moved = (blended @ rest[..., None])[..., 0] + arrays.lbs_weights @ state.offsets
        return moved + state.transl[:, None]

    def joints(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch joints 3"]:
        """The posed joints (B, J, 3), metres."""
        state = _Posed(self, self.tensors(x), x)
        return state.translations + state.transl[:, None]

    def landmarks(self, embedding: LandmarkEmbedding, like: Tensor) -> LandmarkFunction:  # noqa: D102
        key = (embedding, like.dtype, like.device)
        if key not in self._landmarks:
            for old in list(self._landmarks)[: 1 - _KEPT]:
                self._landmarks.pop(old, None)
            self._landmarks[key] = SkinnedLandmarks(self, embedding, like)
        return self._landmarks[key]

    def tensors(self, like: Tensor) -> _Tensors:
        """The arrays with the dtype and device of a tensor, made once."""
        key = (like.dtype, like.device)
        if key not in self._tensors:
            self._tensors[key] = _Tensors.of(self.arrays, like)
        return self._tensors[key]

    def rotvecs(self, x: Tensor) -> Tensor:
        """Rotvecs of all joints (B, J, 3), radians."""
        return torch.cat([self._pose(group, x) for group in self.poses], dim=1).unflatten(1, (-1, 3))

    def pose_basis(self, group: ParameterGroup, like: Tensor) -> tuple[Tensor, Tensor]:
        """Basis (3n, size) and offset (3n,) of a pose group with the dtype and device of a tensor, made once.

        Raises:
            InputError: if the group has no basis.
        """
        if group.basis is None:
            raise InputError(f"The pose group {group.name!r} has no basis: it holds the rotvecs themselves.")
        key = (group.name, like.dtype, like.device)
        if key not in self._pose_bases:
            offset = np.zeros(len(group.basis)) if group.offset is None else group.offset
            self._pose_bases[key] = (
                torch.tensor(group.basis, dtype=like.dtype, device=like.device),
                torch.tensor(offset, dtype=like.dtype, device=like.device),
            )
        return self._pose_bases[key]

    def _pose(self, group: ParameterGroup, x: Tensor) -> Tensor:
        coordinates = x[:, self.slices[group.name]]
        if group.basis is None:
            return coordinates
        basis, offset = self.pose_basis(group, x)
        return coordinates @ basis.T + offset


@attrs.frozen(eq=False)
class _Tensors:
    """`SkinningArrays` as tensors. `blendshapes` (N, 3, F) are by features: coefficients, pose features."""

    v_template: Tensor
    blendshapes: Tensor
    lbs_weights: Tensor
    joints: Tensor
    joint_dirs: Tensor

    @classmethod
    def of(cls, arrays: SkinningArrays, like: Tensor) -> _Tensors:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=like.dtype, device=like.device)

        correctives = [] if arrays.posedirs is None else [arrays.posedirs]
        return cls(
            tensor(arrays.v_template),
            tensor(np.concatenate([arrays.shapedirs, *correctives], axis=2)),
            tensor(arrays.lbs_weights),
            tensor(arrays.joints),
            tensor(arrays.joint_dirs),
        )


class _Posed:
    """The skeleton at one x: rest joints, and each joint's rotation G_j and position t_j in the world."""

    def __init__(self, model: SkinnedModel, arrays: _Tensors, x: Tensor) -> None:
        self.coefficients = x[:, : arrays.joint_dirs.shape[-1]]
        self.transl = x[:, model.slices["transl"]]
        self.parents = model.arrays.parents
        self.rotvecs = model.rotvecs(x)
        self.local = rotvec_to_matrix(self.rotvecs)
        self.rest = arrays.joints + torch.einsum("jdk,bk->bjd", arrays.joint_dirs, self.coefficients)
        local, rest = self.local.unbind(1), self.rest[..., None].unbind(1)
        rotations, translations = [local[0]], [rest[0]]
        for j, p in enumerate(self.parents[1:], start=1):
            rotations.append(rotations[p] @ local[j])
            translations.append(torch.baddbmm(translations[p], rotations[p], rest[j] - rest[p]))
        self.rotations = torch.stack(rotations, dim=1)
        self.translations = torch.stack(translations, dim=1)[..., 0]
        # a rest point v goes to G_j v + offset_j
        self.offsets = self.translations - (self.rotations @ self.rest[..., None])[..., 0]

    @property
    def parent_rotations(self) -> Tensor:
        """World rotation of each joint's parent, (B, J, 3, 3); the identity for the root."""
        eye = torch.eye(3, dtype=self.local.dtype, device=self.local.device).expand(len(self.local), 1, 3, 3)
        return torch.cat([eye, self.rotations], dim=1)[:, [p + 1 for p in self.parents]]

    @property
    def pose_features(self) -> Tensor:
        """vec(R_j - I) of all joints but the root, (B, 9 (J - 1))."""
        eye = torch.eye(3, dtype=self.local.dtype, device=self.local.device)
        return (self.local[:, 1:] - eye).flatten(1)

    def shaped(self, template: Tensor, blendshapes: Tensor) -> Tensor:
        """Points (B, N, 3) in rest pose with all blend shapes added (thesis eq. 3.1)."""
        features = self.coefficients
        if blendshapes.shape[-1] > features.shape[-1]:
            features = torch.cat([features, self.pose_features], dim=1)
        rest = torch.addmm(template.flatten(), features, blendshapes.flatten(0, 1).T)
        return rest.unflatten(1, (-1, 3))


class SkinnedLandmarks(LandmarkFunction):
    """The landmarks of an embedding on a skinned model, evaluated at their support points only."""

    def __init__(self, model: SkinnedModel, embedding: LandmarkEmbedding, like: Tensor) -> None:
        model.check_embedding(embedding)
        self.model, self.arrays = model, model.tensors(like)
        rows = torch.as_tensor(embedding.indices.copy(), device=like.device)
        row_weights = torch.as_tensor(embedding.weights.copy(), dtype=like.dtype, device=like.device)
        self.n_landmarks, self.support = rows.shape
        flat = rows.flatten()
        self.template = self.arrays.v_template[flat]
        self.blendshapes = self.arrays.blendshapes[flat]
        # skinning weight of joint j in support point k of landmark l, times the row's weight
        self.weights = self.arrays.lbs_weights[rows] * row_weights[..., None]
        self.joint_weights = self.weights.sum(dim=1)
        self.descendants = _descendants(model.arrays.parents).to(like)
        self._bases: dict[tuple[int, ...], Tensor] = {}

    def basis(self, columns: _Columns) -> Tensor:
        """Blend shapes of the support points, (L, 3K, columns), behind them those by pose features.

        The former are the chosen coefficients' and, for all other columns, zero; the latter are left out
        where no joint among the columns has any.
        """
        key = (columns.total, columns.correctives, *columns.coefficients)
        if key not in self._bases:
            n_coefficients = self.arrays.joint_dirs.shape[-1]
            chosen = self.blendshapes[..., columns.coefficients]
            padded = F.pad(chosen, (0, columns.total - chosen.shape[-1]))
            features = self.blendshapes[..., n_coefficients:][..., : columns.correctives]
            basis = torch.cat([padded, features], dim=-1)
            self._bases[key] = basis.reshape(self.n_landmarks, 3 * self.support, -1)
        return self._bases[key]

    def points(self, x: Tensor) -> Tensor:  # noqa: D102 (inherited)
        return _SkinnedLinearization(self, x).points

    def linearize(self, x: Tensor) -> Linearization:  # noqa: D102 (inherited)
        return _SkinnedLinearization(self, x)


class _SkinnedLinearization(Linearization):
    """Notation: landmark l is sum_k sum_j w_lkj (G_j v_lk + o_j) + transl over support points k, joints j."""

    def __init__(self, function: SkinnedLandmarks, x: Tensor) -> None:
        self.function = function
        self.state = _Posed(function.model, function.arrays, x)
        rest = self.state.shaped(function.template, function.blendshapes)
        self.rest = rest.unflatten(1, (function.n_landmarks, function.support))  # (B, L, K, 3)
        self.blended = torch.einsum("lkj,bjac->blkac", function.weights, self.state.rotations)
        turned = (self.blended @ self.rest[..., None])[..., 0].sum(dim=2)
        self.points = turned + function.joint_weights @ self.state.offsets + self.state.transl[:, None]

    def jacobian(self, projection: Tensor, groups: Sequence[str]) -> Tensor:
        columns = _Columns.of(self.function.model, groups)
        result, by_features = self._through_rest(projection, columns)
        if columns.coefficients:
            weights = self.function.joint_weights
            carried = (projection[..., None, :] * weights[:, None, :, None]).flatten(3)
            result.baddbmm_(carried.flatten(1, 2), self._offset_derivatives(columns))
        if columns.poses:
            result[..., columns.pose] = self._pose_columns(projection, by_features, columns)
        if columns.transl is not None:
            result[..., columns.transl] = projection.flatten(1, 2)
        return result

    def _through_rest(self, projection: Tensor, columns: _Columns) -> tuple[Tensor, Tensor]:
        """Derivative by way of the points in rest pose: by the columns, and by the pose features.

        The columns of poses and translation are zero.
        """
        batch, n_landmarks, n_rows, _ = projection.shape
        if not columns.coefficients and not columns.correctives:
            result = projection.new_zeros(batch, n_landmarks * n_rows, columns.total)
            return result, result[..., :0]
        # projection @ sum_j w_lkj G_j, as a matrix (rows of all items, 3K) for each landmark
        through = torch.einsum("blra,blkac->lrbkc", projection, self.blended)
        # one product for all columns of all items
        product = torch.bmm(through.reshape(n_landmarks, n_rows * batch, -1), self.function.basis(columns))
        product = product.view(n_landmarks * n_rows, batch, -1).transpose(0, 1)
        return product[..., : columns.total], product[..., columns.total :].clone()

    def _offset_derivatives(self, columns: _Columns) -> Tensor:
        """Derivative of o_j, d t_j - G_j d J_j, by the coefficients, down the tree, (B, 3J, columns)."""
        state, rest = self.state, self.function.arrays.joint_dirs[..., columns.coefficients]
        moved = [rest[0].expand(len(state.transl), -1, -1)]
        for j, p in enumerate(state.parents[1:], start=1):
            moved.append(state.rotations[:, p] @ (rest[j] - rest[p]) + moved[p])
        derivatives = torch.stack(moved, dim=1) - state.rotations @ rest
        return F.pad(derivatives.flatten(1, 2), (0, columns.total - len(columns.coefficients)))

    def _pose_columns(self, projection: Tensor, by_features: Tensor, columns: _Columns) -> Tensor:
        """Columns of the pose groups: a turn J_l(r) dr of each joint, in its parent's frame, about it."""
        joints = [joint for _, chosen in columns.poses for joint in chosen]
        turns = left_jacobian(self.state.rotvecs[:, joints])
        carried = self.state.parent_rotations[:, joints] @ turns
        # row a of the projection: a . (q x d) = q . (d x a)
        levers = torch.linalg.cross(self._arms(joints)[:, :, None], projection[:, :, :, None])
        result = levers.flatten(3).flatten(1, 2) @ _block_diagonal(carried)
        if columns.correctives:
            result = result + by_features @ self._feature_derivatives(joints, turns)
        by_group = result.split([3 * len(chosen) for _, chosen in columns.poses], dim=-1)
        mapped = [
            block if group.basis is None else block @ self.function.model.pose_basis(group, block)[0]
            for block, (group, _) in zip(by_group, columns.poses, strict=True)
        ]
        return torch.cat(mapped, dim=-1)

    def _arms(self, joints: list[int]) -> Tensor:
        """Lever of each landmark's part at or below some joints, from these joints, (B, L, joints, 3)."""
        function, state = self.function, self.state
        if joints == [0]:  # the root carries everything
            return (self.points - state.transl[:, None] - state.translations[:, :1])[:, :, None]
        # all points carried by each joint: one product, (B, LK, 3J)
        turns = state.rotations.permute(0, 3, 1, 2).flatten(2)
        moved = torch.baddbmm(state.offsets.flatten(1)[:, None], self.rest.flatten(1, 2), turns)
        moved = moved.view(*self.rest.shape[:3], -1, 3) * function.weights[..., None]
        below = function.descendants[joints]
        gathered = torch.einsum("bljc,ij->blic", moved.sum(dim=2), below)
        shares = (function.joint_weights @ below.T)[..., None]
        return gathered - shares * state.translations[:, None, joints]

    def _feature_derivatives(self, joints: list[int], turns: Tensor) -> Tensor:
        """Derivative of the pose features by turns of joints, (B, 9 (J - 1), 3 joints).

        d vec(R) = vec([J_l dr]x R).
        """
        d_rotations = hat(turns.transpose(2, 3)) @ self.state.local[:, joints][:, :, None]
        n_features = 9 * (len(self.state.parents) - 1)
        d_features = turns.new_zeros(len(turns), n_features, 3 * len(joints))
        for i, joint in enumerate(joints):
            if joint > 0:
                d_feature = d_rotations[:, i].flatten(2).transpose(1, 2)
                d_features[:, 9 * (joint - 1) : 9 * joint, 3 * i : 3 * i + 3] = d_feature
        return d_features


def _block_diagonal(blocks: Tensor) -> Tensor:
    """(B, 3n, 3n) with the n blocks (B, n, 3, 3) on its diagonal."""
    batch, n = blocks.shape[:2]
    result = blocks.new_zeros(batch, n, 3, n, 3)
    index = torch.arange(n, device=blocks.device)
    result[:, index, :, index] = blocks.transpose(0, 1)
    return result.view(batch, 3 * n, 3 * n)


@attrs.frozen
class _Columns:
    """Which columns of a Jacobian belong to what, for the groups it is taken by.

    Attributes:
        coefficients: The chosen columns of shapedirs; they come first in the Jacobian.
        poses: The chosen pose groups and their joints.
        pose: The columns of all of them.
        transl: The columns of the translation, or None.
        total: Number of columns.
        correctives: Number of the pose features that these joints move: all of them, or none.
    """

    coefficients: list[int]
    poses: list[tuple[ParameterGroup, range]]
    pose: slice
    transl: slice | None
    total: int
    correctives: int

    @classmethod
    def of(cls, model: SkinnedModel, groups: Sequence[str]) -> _Columns:
        coefficients = [i for i in model.columns(groups) if i < model.arrays.shapedirs.shape[-1]]
        end, first_joint = len(coefficients), 0
        poses = []
        for group in model.poses:
            joints = range(first_joint, first_joint + _n_joints(group))
            first_joint = joints.stop
            if group.name in groups:
                poses.append((group, joints))
                end += group.size
        pose = slice(len(coefficients), end)
        transl = slice(end, end + 3) if "transl" in groups else None
        moves = model.arrays.posedirs is not None and any(joint > 0 for _, own in poses for joint in own)
        correctives = 9 * (len(model.arrays.joints) - 1) if moves else 0
        return cls(coefficients, poses, pose, transl, end + (3 if transl else 0), correctives)


def _n_joints(group: ParameterGroup) -> int:
    return (group.size if group.basis is None else len(group.basis)) // 3


def _descendants(parents: Sequence[int]) -> Tensor:
    """(J, J) with 1 where the column's joint is the row's joint or below it."""
    below = torch.eye(len(parents), dtype=torch.float64)
    for j in reversed(range(1, len(parents))):
        below[parents[j]] += below[j]
    return below
