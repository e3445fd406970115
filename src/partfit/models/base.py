"""What a parametric model is: named groups of parameters, a topology, and points that follow from them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import attrs
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.arrays import reals, strings
from partfit.component import Component
from partfit.errors import InputError, ShapeError
from partfit.geometry.rotations import canonical_rotvec
from partfit.landmarks import LandmarkEmbedding
from partfit.text import closest


@attrs.frozen(eq=False)
class ParameterGroup:
    """A named part of a model's parameter vector.

    Attributes:
        name: As in smplx where it has one: `betas`, `expression`, `global_orient`, `jaw_pose`, `transl`, ...
        size: Number of coordinates.
        kind: `euclidean`, or `rotvec`: coordinates of axis-angle vectors in radians. A fit brings a rotvec
            group without basis, prior and limits to |r| <= pi a joint.
        rigid: Whether it moves the model as a whole (root rotation, translation).
        basis: (3n, size) of a pose group: rotvecs of its n joints = offset + basis @ coordinates.
        offset: (3n,), zero by default; only with `basis`.
        prior_mean: (size,), zero by default.
        sqrt_information: (size,) or (m, size) L of the prior cost 1/2 |L (x - mean)|^2: one over the
            standard deviation. Zero, the default, is no prior.
        lower: (size,) smallest allowed values, -inf by default.
        upper: (size,) largest allowed values, inf by default.
        names: Names of the coordinates, or empty.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if a rotvec group without `basis` has not 3 coordinates a joint, an offset comes
            without a basis, the number of names is wrong, or a lower limit lies above its upper limit.
    """

    name: str
    size: int
    kind: Literal["euclidean", "rotvec"] = "euclidean"
    rigid: bool = False
    basis: np.ndarray | None = attrs.field(default=None, converter=attrs.converters.optional(reals))
    offset: np.ndarray | None = attrs.field(default=None, converter=attrs.converters.optional(reals))
    prior_mean: np.ndarray = attrs.field(converter=reals, kw_only=True)
    sqrt_information: np.ndarray = attrs.field(converter=reals, kw_only=True)
    lower: np.ndarray = attrs.field(converter=reals, kw_only=True)
    upper: np.ndarray = attrs.field(converter=reals, kw_only=True)
    names: tuple[str, ...] = attrs.field(default=(), converter=strings, kw_only=True)

    @prior_mean.default
    def _zero_mean(self) -> np.ndarray:
        return np.zeros(self.size)

    @sqrt_information.default
    def _no_prior(self) -> np.ndarray:
        return np.zeros(self.size)

    @lower.default
    def _unlimited_below(self) -> np.ndarray:
        return np.full(self.size, -math.inf)

    @upper.default
    def _unlimited_above(self) -> np.ndarray:
        return np.full(self.size, math.inf)

    def __attrs_post_init__(self) -> None:
        for field in ("prior_mean", "lower", "upper"):
            if getattr(self, field).shape != (self.size,):
                raise ShapeError(f"{field} of {self.name!r}", f"({self.size},)", getattr(self, field).shape)
        root = self.sqrt_information
        if root.ndim not in (1, 2) or root.shape[-1] != self.size:
            raise ShapeError(
                f"sqrt_information of {self.name!r}", f"({self.size},) or (m, {self.size})", root.shape
            )
        if self.names and len(self.names) != self.size:
            raise InputError(f"Group {self.name!r} has {self.size} coordinates but {len(self.names)} names.")
        if not (self.lower <= self.upper).all():
            raise InputError(f"Group {self.name!r}: a lower limit lies above its upper limit.")
        if self.kind == "rotvec" and self.basis is None and self.size % 3:
            raise InputError(
                f"Group {self.name!r}: a rotvec group has 3 coordinates a joint, not {self.size}."
            )
        self._check_basis()

    def _check_basis(self) -> None:
        if self.basis is None:
            if self.offset is not None:
                raise InputError(f"Group {self.name!r} has an offset but no basis that it would be added to.")
            return
        if self.basis.ndim != 2 or self.basis.shape[1] != self.size or len(self.basis) % 3:
            raise ShapeError(f"basis of {self.name!r}", f"(3n, {self.size})", self.basis.shape)
        if self.offset is not None and self.offset.shape != (len(self.basis),):
            raise ShapeError(f"offset of {self.name!r}", f"({len(self.basis)},)", self.offset.shape)

    @property
    def information(self) -> np.ndarray:
        """(size, size) L^T L."""
        root = self.sqrt_information
        return np.diag(root**2) if root.ndim == 1 else root.T @ root

    def sample(
        self, rng: np.random.Generator, count: int, spread: float = 1.0
    ) -> Float[np.ndarray, "count size"]:
        """Coordinates drawn from the prior, within the limits; those without a prior keep their mean.

        Args:
            rng: Source of randomness.
            count: How many.
            spread: Factor on the prior's standard deviations.
        """
        root = self.sqrt_information
        draw = rng.normal(size=(count, len(root)))
        if root.ndim == 1:
            draw = np.divide(draw, root, where=root > 0, out=np.zeros_like(draw))
        else:
            draw = draw @ np.linalg.pinv(root).T
        return np.clip(self.prior_mean + spread * draw, self.lower, self.upper)


@attrs.frozen(eq=False)
class Topology:
    """What does not change with the parameters.

    Attributes:
        name: Embeddings refer to it, for example `anny-head`.
        n_vertices: V.
        faces: (F, 3) vertex indices, counter-clockwise seen from outside.
        virtual_points: Names of the points that follow the V vertices: joints, finger tips.
        regions: Named vertex index sets.
        uv: (T, 2) texture coordinates in [0, 1], or None.
        uv_faces: (F, 3) indices into `uv`, or None.
        colors: (V, 3) natural colour of each vertex, sRGB in [0, 1], for renders that are to look like a
            photograph; or None.
        front: (3, 3) the rotation that brings points of the model frame upright and their front to face +z,
            for views of the model alone; None where the model frame is so already.

    Raises:
        ShapeError: if `colors` or `front` has another shape.
    """

    name: str
    n_vertices: int
    faces: np.ndarray
    virtual_points: tuple[str, ...] = ()
    regions: Mapping[str, np.ndarray] = attrs.field(factory=dict)
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    colors: np.ndarray | None = None
    front: np.ndarray | None = None

    def __attrs_post_init__(self) -> None:
        if self.front is not None and self.front.shape != (3, 3):
            raise ShapeError(f"front of topology {self.name!r}", "(3, 3)", self.front.shape)
        if self.colors is not None and self.colors.shape != (self.n_vertices, 3):
            expected = f"({self.n_vertices}, 3)"
            raise ShapeError(f"colors of topology {self.name!r}", expected, self.colors.shape)

    @property
    def n_points(self) -> int:
        """Vertices and virtual points together."""
        return self.n_vertices + len(self.virtual_points)

    def facing(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points of the model frame as a camera's axes see them that looks at the model's front (y down)."""
        return (points if self.front is None else points @ self.front.T) * [1.0, -1.0, -1.0]

    def region(self, name: str) -> np.ndarray:
        """Vertex indices of a region.

        Raises:
            InputError: if the topology has no such region.
        """
        if name not in self.regions:
            raise InputError(f"Topology {self.name!r} has no region {name!r}; it has {sorted(self.regions)}.")
        return self.regions[name]


def check_group_names(groups: Sequence[ParameterGroup]) -> None:
    """Raise InputError unless the groups have different names."""
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise InputError(f"The parameter groups of a model must have different names; found {names}.")


class ParametricModel(Component):
    """A function from parameters to points on a body part.

    A model is defined by its `groups`, its `topology` and `points`. The parameter vector x (B, P) holds
    the groups one after another. Everything else here follows; `landmarks` may be overridden where a
    closed-form Jacobian exists.

    Frames: with the rigid groups at zero the points are in the model's own frame (metres, y up, z towards
    the viewer where the part has a front); a fit finds the rigid parameters that bring them into the
    camera frame.
    """

    kind = "model"

    @property
    @abstractmethod
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The groups, in the order of the parameter vector."""

    @property
    @abstractmethod
    def topology(self) -> Topology:
        """Faces, regions and names of points."""

    @abstractmethod
    def points(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch points 3"]:
        """All vertices followed by the virtual points, metres, with the dtype and device of `x`."""

    def landmarks(self, embedding: LandmarkEmbedding, like: Tensor) -> LandmarkFunction:
        """The landmarks of an embedding as a function of x, with derivatives.

        Args:
            embedding: Rows over this model's points.
            like: A tensor whose dtype and device the function works in.

        Raises:
            InputError: if the embedding belongs to another topology.
        """
        return ForwardModeLandmarks(self, embedding, like)

    @property
    def embedding_names(self) -> tuple[str, ...]:
        """The landmark schemes that the model itself lays on its topology, for example from its files."""
        return ()

    def embedding(self, scheme: str) -> LandmarkEmbedding:
        """The model's own embedding of a landmark scheme, one of `embedding_names`.

        Raises:
            InputError: if the model has none.
        """
        own, match = ", ".join(self.embedding_names) or "none", closest(scheme, self.embedding_names)
        raise InputError(
            f"The model of topology {self.topology.name!r} has no embedding of {scheme!r} of its own."
            f"{f' Did you mean {match!r}?' if match else ''} It has {own}."
        )

    def vertices(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch vertices 3"]:
        """The V vertices (B, V, 3), metres."""
        return self.points(x)[:, : self.topology.n_vertices]

    @cached_property
    def n_parameters(self) -> int:
        """P, the length of the parameter vector."""
        return sum(group.size for group in self.groups)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each group lies in the parameter vector.

        Raises:
            InputError: if two groups have one name.
        """
        check_group_names(self.groups)
        ends = np.cumsum([group.size for group in self.groups])
        return {g.name: slice(int(end) - g.size, int(end)) for g, end in zip(self.groups, ends, strict=True)}

    def group(self, name: str) -> ParameterGroup:
        """The group of that name.

        Raises:
            InputError: if the model has no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(self.slices)
        raise InputError(f"The model has no parameter group {name!r}; it has {known}.")

    def columns(self, names: Sequence[str]) -> list[int]:
        """Indices in the parameter vector of the named groups, in the order of the vector."""
        for name in names:
            self.group(name)
        chosen = [where for name, where in self.slices.items() if name in names]
        return [i for where in chosen for i in range(where.start, where.stop)]

    def pack(self, parameters: Mapping[str, Tensor], like: Tensor, batch: int = 1) -> Tensor:
        """The parameter vector (B, P) of named groups (B, size); groups that are not named are zero.

        Raises:
            InputError: for a name that is no group.
            ShapeError: for a group of the wrong size.
        """
        batch = max([batch, *(len(value) for value in parameters.values())])
        x = torch.zeros(batch, self.n_parameters, dtype=like.dtype, device=like.device)
        for name, value in parameters.items():
            size = self.group(name).size
            if value.ndim != 2 or value.shape[1] != size:
                raise ShapeError(f"parameter group {name!r}", f"(batch, {size})", tuple(value.shape))
            x[:, self.slices[name]] = value.to(x)
        return x

    def unpack(self, x: Float[Tensor, "batch parameters"]) -> dict[str, Tensor]:
        """The named groups (B, size) of a parameter vector (B, P)."""
        return {name: x[:, where] for name, where in self.slices.items()}

    def canonical(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch parameters"]:
        """The same points with the free rotvecs brought to |r| <= pi.

        A rotvec with a basis, a prior or limits stays: it would not be the same to these.
        """
        turned = x.clone()
        for group in self.groups:
            free = not group.sqrt_information.any() and np.isinf([group.lower, group.upper]).all()
            if group.kind == "rotvec" and group.basis is None and free:
                where = self.slices[group.name]
                turned[:, where] = canonical_rotvec(x[:, where].unflatten(1, (-1, 3))).flatten(1)
        return turned

    def without_rigid_motion(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch parameters"]:
        """The parameter vectors with the rigid groups at zero: the model in its own frame."""
        x = x.clone()
        for group in self.groups:
            if group.rigid:
                x[:, self.slices[group.name]] = 0
        return x

    def check_embedding(self, embedding: LandmarkEmbedding) -> None:
        """Raise InputError unless the embedding's rows are rows over this model's points."""
        topology = self.topology
        if embedding.topology != topology.name:
            raise InputError(
                f"The {embedding.label} cannot be used with a model of topology {topology.name!r}. "
                "Choose an embedding made for it."
            )
        if embedding.highest_point >= topology.n_points:
            raise InputError(
                f"The {embedding.label} refers to point {embedding.highest_point}; the model has "
                f"{topology.n_points} points."
            )


class Linearization(ABC):
    """Landmarks at one x, and their derivative there.

    Attributes:
        points: (B, L, 3), metres.
    """

    points: Float[Tensor, "batch landmarks 3"]

    @abstractmethod
    def jacobian(
        self, projection: Float[Tensor, "batch landmarks rows 3"], groups: Sequence[str]
    ) -> Float[Tensor, "batch rows_of_all columns"]:
        """The product projection @ d points / d x for the columns of some groups.

        Args:
            projection: (B, L, R, 3), what follows the points, for example the derivative of a projection
                to pixels divided by the scale.
            groups: Names of the groups to differentiate by.

        Returns:
            (B, L * R, C), the C columns in the order of the parameter vector.
        """


class LandmarkFunction(ABC):
    """The landmarks of one embedding as a function of the parameter vector."""

    @abstractmethod
    def points(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch landmarks 3"]:
        """The landmarks (B, L, 3), metres."""

    @abstractmethod
    def linearize(self, x: Float[Tensor, "batch parameters"]) -> Linearization:
        """The landmarks and their derivative at x."""


class ForwardModeLandmarks(LandmarkFunction):
    """The fall-back for models without a closed form: forward-mode automatic differentiation.

    One Jacobian costs about as much as evaluating all points once a column.
    """

    def __init__(self, model: ParametricModel, embedding: LandmarkEmbedding, like: Tensor) -> None:
        model.check_embedding(embedding)
        self.model = model
        self.indices = torch.as_tensor(embedding.indices.copy(), device=like.device)
        self.weights = torch.as_tensor(embedding.weights.copy(), dtype=like.dtype, device=like.device)

    def points(self, x: Tensor) -> Tensor:  # noqa: D102 (inherited)
        chosen = self.model.points(x)[:, self.indices]
        return (chosen * self.weights[..., None]).sum(dim=2)

    def linearize(self, x: Tensor) -> Linearization:  # noqa: D102 (inherited)
        return _ForwardModeLinearization(self, x)


class _ForwardModeLinearization(Linearization):
    def __init__(self, function: ForwardModeLandmarks, x: Tensor) -> None:
        self.function, self.x = function, x
        self.points = function.points(x)

    def jacobian(self, projection: Tensor, groups: Sequence[str]) -> Tensor:
        columns = self.function.model.columns(groups)
        tangents = torch.eye(self.x.shape[1], dtype=self.x.dtype, device=self.x.device)[columns]

        def derivative(tangent: Tensor) -> Tensor:
            direction = tangent.expand_as(self.x)
            return torch.func.jvp(self.function.points, (self.x,), (direction,))[1]

        by_column = torch.func.vmap(derivative)(tangents)  # (C, B, L, 3)
        return torch.einsum("blrd,cbld->blrc", projection, by_column).flatten(1, 2)
