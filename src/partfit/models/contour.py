"""Landmarks that follow the outline of a part: where they lie depends on from where it is seen."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partfit.arrays import integers, reals
from partfit.errors import InputError, ShapeError
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding
from partfit.models.base import ParametricModel


@attrs.frozen(eq=False)
class ContourEmbedding(LandmarkEmbedding, ABC):
    """An embedding some of whose points lie on the outline as the camera sees it (the jaw of `ibug68`).

    For these points there are A choices of rows; `choose` picks one from the state of the model. A fit picks
    before each stage, and the rows stay as they are during the stage. The plain rows, `indices` and
    `weights`, are those of the frontal view.

    Attributes:
        contour: (C,) the landmarks that follow the outline.
        choices_indices: (A, C, K) point indices.
        choices_weights: (A, C, K), each row sums to 1.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if `contour` names a landmark that is not there, or one twice, an index is negative, or a
            row does not sum to 1.
    """

    contour: np.ndarray = attrs.field(converter=integers, kw_only=True)
    choices_indices: np.ndarray = attrs.field(converter=integers, kw_only=True)
    choices_weights: np.ndarray = attrs.field(converter=reals, kw_only=True)

    def __attrs_post_init__(self) -> None:
        LandmarkEmbedding.__attrs_post_init__(self)  # jaxtyping's import hook does without super() here
        known = np.arange(len(self.scheme))
        if not np.isin(self.contour, known).all() or len(np.unique(self.contour)) < len(self.contour):
            raise InputError(f"contour of {self.label} must name different points out of 0..{known[-1]}.")
        expected, rows = f"(A, {len(self.contour)}, K)", self.choices_indices
        if rows.ndim != 3 or rows.shape[1] != len(self.contour):
            raise ShapeError(f"choices_indices of {self.label}", expected, rows.shape)
        if self.choices_weights.shape != rows.shape:
            raise ShapeError(f"choices_weights of {self.label}", str(rows.shape), self.choices_weights.shape)
        if (rows < 0).any() or not np.allclose(self.choices_weights.sum(axis=-1), 1.0, atol=1e-5):
            raise InputError(f"The rows to choose of {self.label} must have indices >= 0 and each sum to 1.")

    def hash_parts(self) -> tuple[np.ndarray | str, ...]:  # noqa: D102 (inherited)
        own = (self.contour, self.choices_indices, self.choices_weights)
        return (*LandmarkEmbedding.hash_parts(self), *own)

    @property
    def highest_point(self) -> int:  # noqa: D102 (inherited)
        return int(max(self.indices.max(initial=-1), self.choices_indices.max(initial=-1)))

    @abstractmethod
    def choose(
        self, model: ParametricModel, x: Float[Tensor, "batch parameters"], camera: Camera
    ) -> Int[Tensor, " batch"]:
        """Which of the A choices each item takes.

        Args:
            model: The model that the embedding lies on.
            x: (B, P) its states.
            camera: B cameras.
        """

    def chosen_rows(
        self, model: ParametricModel, x: Float[Tensor, "batch parameters"], camera: Camera
    ) -> tuple[Int[np.ndarray, "batch contour k"], Float[np.ndarray, "batch contour k"]]:
        """Indices and weights of the contour's rows (B, C, K) for each item."""
        choice = self.choose(model, x, camera).cpu().numpy()
        return self.choices_indices[choice], self.choices_weights[choice]


def landmark_points(
    model: ParametricModel, embedding: LandmarkEmbedding, x: Float[Tensor, "batch parameters"], camera: Camera
) -> Float[Tensor, "batch landmarks 3"]:
    """The landmarks (B, L, 3) of an embedding at x, metres; those of a contour by the choice at x.

    NaN where the embedding does not know the place: where its reliability is 0.
    """
    points = model.landmarks(embedding, x).points(x)
    if isinstance(embedding, ContourEmbedding):
        rows, row_weights = embedding.chosen_rows(model, x, camera)
        weights = torch.as_tensor(row_weights).to(x)
        corners = model.points(x)[torch.arange(len(x))[:, None, None], rows]
        points = points.clone()
        points[:, embedding.contour.tolist()] = (corners * weights[..., None]).sum(dim=2)
    unknown = torch.as_tensor(embedding.reliability == 0, device=x.device)
    return torch.where(unknown[:, None], torch.nan, points)
