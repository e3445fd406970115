"""The suite of landmark embeddings."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch

from partfit.geometry.camera import Camera
from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from partfit.landmarks import LandmarkEmbedding
from partfit.models import ContourEmbedding, ParametricModel
from partfit.testing.conformance.base import Suite
from partfit.testing.conformance.states import check_embedding, plausible_states, resting, towards_camera


class EmbeddingConformance(Suite):
    """A landmark embedding: rows over the points of its model."""

    @abstractmethod
    def make(self) -> LandmarkEmbedding:
        """The embedding under test."""

    @abstractmethod
    def make_model(self) -> ParametricModel:
        """A model with the embedding's topology."""

    def test_its_rows_are_convex_and_lie_on_the_model(self) -> None:
        check_embedding(self.make(), self.make_model())

    def test_its_landmarks_are_not_all_unknown(self) -> None:
        assert self.make().reliability.max() > 0, "reliability 0 means unknown: nothing could be fitted"

    def test_its_landmarks_follow_the_model(self) -> None:
        """The function that a fit evaluates gives the rows applied to the model's points."""
        embedding, model = self.make(), self.make_model()
        x = plausible_states(model, set(model.slices), 2)
        expected = embedding.apply(model.points(x).numpy())
        np.testing.assert_allclose(model.landmarks(embedding, x).points(x), expected, rtol=0, atol=1e-9)

    def test_its_hash_is_stable(self) -> None:
        assert self.make().hash == self.make().hash

    def test_a_contour_can_be_chosen_from_every_side(self) -> None:
        """If the embedding has one: a choice that exists, each item's own, the same each time."""
        embedding, model = self.make(), self.make_model()
        if not isinstance(embedding, ContourEmbedding):
            return
        x = _seen_from_all_sides(model)
        camera = Camera.for_images([(640, 480)] * len(x)).to(x)
        choice = embedding.choose(model, x, camera)
        assert choice.shape == (len(x),)
        assert choice.min() >= 0
        assert choice.max() < len(embedding.choices_indices)
        assert len(set(choice.tolist())) > 1, "the contour is the same from every side"
        for i in range(len(x)):
            alone = embedding.choose(model, x[i, None], camera.select([i]))
            assert torch.equal(alone, choice[i, None]), "the choice depends on the other items"


def _seen_from_all_sides(model: ParametricModel) -> torch.Tensor:
    """The resting model, seen from twelve directions about the vertical."""
    about = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    up = torch.stack([torch.zeros_like(about), about, torch.zeros_like(about)], dim=1)
    flipped = rotvec_to_matrix(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64))
    rotvecs = matrix_to_rotvec(flipped @ rotvec_to_matrix(up))
    return towards_camera(model, resting(model).repeat(len(about), 1), rotvecs)
