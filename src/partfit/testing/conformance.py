"""Conformance suites: what every component of a kind must do, as pytest classes to subclass.

    from partfit.testing.conformance import ModelConformance

    class TestMyModel(ModelConformance):
        def make(self):
            return MyModel()

Each suite needs one method, `make`, which returns the component under test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch

from partfit.config import from_dict, to_dict
from partfit.fitting import FitStatus, Fitter
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ParametricModel
from partfit.models.base import ForwardModeLandmarks
from partfit.recipe import Recipe
from partfit.registry import default_registry
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem


class _Suite(ABC):
    @abstractmethod
    def make(self) -> Any:
        """The component under test."""

    def test_its_configuration_round_trips(self) -> None:
        component = self.make()
        config = getattr(component, "config", None)
        if attrs.has(type(config)):
            assert from_dict(type(config), to_dict(config)) == config


class ModelConformance(_Suite):
    """A parametric model: consistent groups and topology, a rigid motion, a true Jacobian."""

    @abstractmethod
    def make(self) -> ParametricModel:
        """The model under test."""

    def random_state(self, model: ParametricModel, batch: int = 2) -> torch.Tensor:
        """Moderate parameters within the limits; override where these mean nothing for the model."""
        generator = torch.Generator().manual_seed(0)
        x = 0.3 * torch.randn(batch, model.n_parameters, generator=generator, dtype=torch.float64)
        lower, upper = (
            torch.cat([torch.as_tensor(getattr(g, n).copy()) for g in model.groups])
            for n in ("lower", "upper")
        )
        return x.clamp(lower, upper)

    def test_groups_have_unique_names_and_fill_the_parameter_vector(self) -> None:
        model = self.make()
        names = [group.name for group in model.groups]
        assert len(set(names)) == len(names), f"group names repeat: {names}"
        x = self.random_state(model)
        torch.testing.assert_close(model.pack(model.unpack(x), like=x), x)

    def test_topology_is_consistent(self) -> None:
        topology = self.make().topology
        faces = topology.faces
        assert faces.ndim == 2
        assert faces.shape[1] == 3
        assert faces.min() >= 0
        assert faces.max() < topology.n_vertices
        for name, region in topology.regions.items():
            assert len(np.unique(region)) == len(region), f"region {name!r} repeats vertices"
            assert region.min() >= 0
            assert region.max() < topology.n_vertices
        if topology.uv_faces is not None:
            assert topology.uv is not None
            assert topology.uv_faces.shape == faces.shape
            assert topology.uv_faces.max() < len(topology.uv)

    def test_points_have_the_right_shape_and_dtype(self) -> None:
        model = self.make()
        for dtype in (torch.float32, torch.float64):
            points = model.points(self.random_state(model).to(dtype))
            assert points.shape == (2, model.topology.n_points, 3)
            assert points.dtype == dtype
            assert torch.isfinite(points).all()

    def test_batched_equals_looped(self) -> None:
        model = self.make()
        x = self.random_state(model, batch=3)
        looped = torch.cat([model.points(row[None]) for row in x])
        torch.testing.assert_close(model.points(x), looped, rtol=1e-10, atol=1e-12)

    def test_translation_moves_every_point_alike(self) -> None:
        model = self.make()
        x = self.random_state(model)
        moved = x.clone()
        shift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
        moved[:, model.slices["transl"]] += shift
        torch.testing.assert_close(model.points(moved), model.points(x) + shift, rtol=0, atol=1e-12)

    def test_the_root_rotation_is_rigid(self) -> None:
        model = self.make()
        x = self.random_state(model)
        turned = x.clone()
        turned[:, model.slices["global_orient"]] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

        def distances(points: torch.Tensor) -> torch.Tensor:
            some = points[:, :: max(1, points.shape[1] // 50)]
            return torch.cdist(some, some)

        before, after = distances(model.points(x)), distances(model.points(turned))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-7)

    def test_the_jacobian_equals_automatic_differentiation(self) -> None:
        model = self.make()
        x = self.random_state(model)
        rng = np.random.default_rng(0)
        n, k = 12, 3
        embedding = LandmarkEmbedding(
            LandmarkScheme("conformance", [f"p{i}" for i in range(n)]),
            model.topology.name,
            rng.integers(0, model.topology.n_points, (n, k)),
            rng.dirichlet(np.ones(k), n),
        )
        generator = torch.Generator().manual_seed(1)
        projection = torch.randn(2, n, 2, 3, generator=generator, dtype=torch.float64)
        groups = tuple(model.slices)
        own = model.landmarks(embedding, x).linearize(x)
        automatic = ForwardModeLandmarks(model, embedding, x).linearize(x)
        torch.testing.assert_close(own.points, automatic.points, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            own.jacobian(projection, groups), automatic.jacobian(projection, groups), rtol=1e-8, atol=1e-8
        )


class EmbeddingConformance(_Suite):
    """A landmark embedding: rows over the points of its model."""

    @abstractmethod
    def make(self) -> LandmarkEmbedding:
        """The embedding under test."""

    @abstractmethod
    def make_model(self) -> ParametricModel:
        """A model with the embedding's topology."""

    def test_its_rows_are_convex_and_lie_on_the_model(self) -> None:
        embedding, model = self.make(), self.make_model()
        model.check_embedding(embedding)
        assert (embedding.weights >= -1e-9).all()
        assert np.allclose(embedding.weights.sum(axis=1), 1)

    def test_its_hash_is_stable(self) -> None:
        assert self.make().hash == self.make().hash


class DetectorConformance(_Suite):
    """A detector: finite regions, the same for a picture alone as among others."""

    @abstractmethod
    def make(self) -> Detector:
        """The detector under test."""

    def test_odd_pictures_are_no_trouble(self) -> None:
        found = self.make().detect(_odd_pictures())
        assert len(found) == len(_odd_pictures())
        for region in (region for regions in found for region in regions):
            _check_region(region)

    def test_batched_equals_looped(self) -> None:
        detector, pictures = self.make(), _odd_pictures()
        together = detector.detect(pictures)
        for picture, regions in zip(pictures, together, strict=True):
            alone = detector.detect([picture])[0]
            assert len(alone) == len(regions)
            for a, b in zip(alone, regions, strict=True):
                assert np.allclose(a.center, b.center, atol=0.1)

    def test_no_pictures_give_no_regions(self) -> None:
        assert self.make().detect([]) == []


class LandmarkerConformance(_Suite):
    """A landmarker: detections of its scheme, with finite points and positive scales."""

    @abstractmethod
    def make(self) -> Landmarker:
        """The landmarker under test."""

    def test_detections_are_well_formed(self) -> None:
        landmarker, pictures = self.make(), _odd_pictures()
        regions = [[_whole(picture)] for picture in pictures]
        found = landmarker.locate(pictures, regions)
        assert len(found) == len(pictures)
        for detection in (detection for detections in found for detection in detections):
            _check_detection(detection, landmarker.scheme)

    def test_pictures_without_regions_have_no_detections(self) -> None:
        pictures = _odd_pictures()
        assert self.make().locate(pictures, [[] for _ in pictures]) == [[] for _ in pictures]

    def test_no_pictures_give_no_detections(self) -> None:
        assert self.make().locate([], []) == []


class FitterConformance(_Suite):
    """A fitter: meets noise-free landmarks, keeps items apart, fails with a reason."""

    @abstractmethod
    def make(self) -> Fitter:
        """The fitter under test."""

    def test_noise_free_landmarks_are_met(self) -> None:
        problem, _ = self._problem()
        result = self.make().fit(problem)
        assert FitStatus.FAILED not in result.status
        assert result.rms_px.max() < 0.3

    def test_items_do_not_influence_one_another(self) -> None:
        problem, _ = self._problem()
        other = problem.points.clone()
        other[1] += 40
        fitter = self.make()
        first, second = fitter.fit(problem), fitter.fit(attrs.evolve(problem, points=other))
        assert torch.equal(first.x[0], second.x[0])

    def test_an_item_without_landmarks_fails_alone(self) -> None:
        problem, _ = self._problem()
        points = problem.points.clone()
        points[0] = torch.nan
        result = self.make().fit(attrs.evolve(problem, points=points))
        assert result.status[0] is FitStatus.FAILED
        assert result.messages[0]
        assert result.status[1] is not FitStatus.FAILED

    @staticmethod
    def _problem() -> Any:
        model = synthetic_model()
        return synthetic_problem(model, synthetic_embedding(model, 80), batch=2)


class RecipeConformance(_Suite):
    """A recipe: everything that it names exists and fits together."""

    @abstractmethod
    def make(self) -> Recipe:
        """The recipe under test."""

    def test_its_components_exist_and_fit_together(self) -> None:
        recipe, registry = self.make(), default_registry()
        registry.create("detector", recipe.detector)
        registry.create("fitter", recipe.fitter)
        landmarker = registry.create("landmarker", recipe.landmarker)
        model = registry.create("model", recipe.model)
        name = f"{model.topology.name}/{landmarker.scheme.name}"
        embedding = registry.create("embedding", name)
        assert embedding.scheme.hash == landmarker.scheme.hash

    def test_its_stages_free_groups_of_the_model(self) -> None:
        recipe = self.make()
        model = default_registry().create("model", recipe.model)
        for settings in (recipe.fit, *recipe.presets.values()):
            for stage in settings.stages:
                assert model.columns(stage.free)
            for group in settings.prior_weights:
                model.group(group)


def _odd_pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.zeros((1, 1, 3), np.uint8),
        np.full((40, 200, 3), 128, np.uint8),
        rng.integers(0, 256, (120, 90, 3), dtype=np.uint8),
    ]


def _whole(picture: np.ndarray) -> Region:
    height, width = picture.shape[:2]
    return Region(((width - 1) / 2, (height - 1) / 2), (float(width), float(height)))


def _check_region(region: Region) -> None:
    values: Iterator[float] = iter((*region.center, *region.size, region.angle, region.score))
    assert all(np.isfinite(value) for value in values)
    assert min(region.size) > 0
    assert 0 <= region.score <= 1
    assert region.side in (None, "left", "right")


def _check_detection(detection: Detection, scheme: LandmarkScheme) -> None:
    assert detection.scheme.hash == scheme.hash
    assert np.isfinite(detection.points).all()
    assert (detection.scale > 0).all()
    assert ((detection.confidence >= 0) & (detection.confidence <= 1)).all()
    assert 0 <= detection.score <= 1
    assert detection.side in (None, "left", "right")
