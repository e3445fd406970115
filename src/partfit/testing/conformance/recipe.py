"""The suite of recipes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import attrs
import numpy as np
import torch

from partfit.component import NoConfig
from partfit.errors import ComponentError
from partfit.fitting import FitProblem, FitStatus
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, LandmarkEmbedding, Landmarker
from partfit.models import ParametricModel
from partfit.models.contour import landmark_points
from partfit.recipe import FitSettings, Recipe
from partfit.registry import default_registry
from partfit.testing.conformance.base import Suite
from partfit.testing.conformance.states import check_embedding, plausible_states, towards_camera


class RecipeConformance(Suite):
    """A recipe: everything that it names exists, fits together, and fits landmarks of its own model.

    A recipe whose model has required options, such as the path of a file, overrides `model_options`; one
    whose embedding no plugin declares and the model does not bring overrides `make_embedding`.
    """

    @abstractmethod
    def make(self) -> Recipe:
        """The recipe under test."""

    def model_options(self, side: str | None) -> dict[str, Any]:
        """Options to build the recipe's model with, for a side or for a model without sides."""
        return {} if side is None else {"side": side}

    def make_embedding(self, model: ParametricModel) -> LandmarkEmbedding:
        """Where the landmarker's scheme lies on the model: the model's own, or the registry's."""
        scheme = self._landmarker().scheme.name
        if scheme in model.embedding_names:
            return model.embedding(scheme)
        return default_registry().create("embedding", f"{model.topology.name}/{scheme}")

    def test_it_is_registered_under_its_part(self) -> None:
        """As `part`, or as `part/model` where it is another model for a part."""
        recipe, found = self.make(), []
        for name in (recipe.part, f"{recipe.part}/{recipe.model}"):
            try:
                found.append(default_registry().resolve("recipe", name))
            except ComponentError:
                continue
        assert recipe in found, f"no recipe {recipe.part!r} or '{recipe.part}/{recipe.model}' is this one"

    def test_its_components_exist_and_fit_together(self) -> None:
        recipe, registry = self.make(), default_registry()
        registry.create("detector", recipe.detector)
        registry.create("fitter", recipe.fitter)
        scheme = self._landmarker().scheme
        for side in _sides(recipe):
            model = self._model(side)
            embedding = self.make_embedding(model)
            check_embedding(embedding, model)
            assert embedding.scheme.hash == scheme.hash

    def test_its_stages_free_groups_of_the_model(self) -> None:
        recipe = self.make()
        model = self._model(_sides(recipe)[0])
        for settings in (recipe.settings, *recipe.presets.values()):
            for stage in settings.stages:
                assert model.columns(stage.free)
            for group in settings.prior_weights:
                model.group(group)

    def test_it_fits_landmarks_of_its_own_model(self) -> None:
        """With the default settings and those of each preset, each side, as a pipeline would fit them."""
        recipe = self.make()
        fitter = default_registry().create("fitter", recipe.fitter)
        presets = {"default": recipe.settings, **recipe.presets}
        for side in _sides(recipe):
            model = self._model(side)
            embedding = self.make_embedding(model)
            for name, settings in presets.items():
                problem = _own_problem(model, embedding, settings)
                result = fitter.fit(problem)
                assert FitStatus.FAILED not in result.status, f"{name}: {result.messages}"
                size = _extent(problem.points[:, embedding.reliability > 0])
                limit = 0.003 * size
                assert (result.rms_px < limit).all(), f"{name}: rms {result.rms_px} px at size {size} px"

    def _landmarker(self) -> Landmarker:
        return default_registry().create("landmarker", self.make().landmarker)

    def _model(self, side: str | None) -> ParametricModel:
        return default_registry().create("model", self.make().model, **self.model_options(side))


def _sides(recipe: Recipe) -> tuple[str | None, ...]:
    """The sides of the recipe's model: those of its `Config`, or none."""
    target = default_registry().resolve("model", recipe.model)
    sided = isinstance(target, type) and "side" in attrs.fields_dict(getattr(target, "Config", NoConfig))
    return ("left", "right") if sided else (None,)


def _own_problem(
    model: ParametricModel, embedding: LandmarkEmbedding, settings: FitSettings, batch: int = 3
) -> FitProblem:
    """Landmarks of plausible states of the model, turned towards a camera, without noise."""
    free = {group for stage in settings.stages for group in stage.free}
    x = towards_camera(model, plausible_states(model, free, batch), torch.tensor([[3.0, 0.2, -0.3]]))
    camera = Camera.for_images([(640, 480)] * batch)
    points = landmark_points(model, embedding, x, camera.to(x))
    pixels = camera.to(x).project(points).numpy()
    scale, confidence = np.full(pixels.shape[1:], 1.0), np.ones(pixels.shape[1])
    return FitProblem.from_detections(
        model,
        embedding,
        [Detection(embedding.scheme, own, scale, confidence) for own in pixels],
        camera,
        settings.stages,
        weighting=settings.weighting,
        prior_weights=settings.prior_weights,
    )


def _extent(points: torch.Tensor) -> torch.Tensor:
    """(B,) geometric mean of the width and height of the points (B, L, 2)."""
    return (points.amax(dim=1) - points.amin(dim=1)).prod(dim=1).sqrt()
