"""Conformance suites: what every component of a kind must do, as pytest classes to subclass.

    from partfit.testing.conformance import ModelConformance

    class TestMyModel(ModelConformance):
        def make(self):
            return MyModel()

Each suite needs a method `make`, which returns the component under test. Detectors and landmarkers need
`make_pictures` too, with pictures that show the part: a suite in which nothing is found fails.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from partfit.component import NoConfig
from partfit.config import from_dict, to_dict
from partfit.fitting import FitProblem, FitStatus, Fitter
from partfit.geometry.camera import Camera
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ParameterGroup, ParametricModel
from partfit.models.base import ForwardModeLandmarks
from partfit.recipe import FitSettings, Recipe
from partfit.registry import default_registry
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem


class _Suite(ABC):
    @abstractmethod
    def make(self) -> Any:
        """The component under test."""


class _ConfiguredSuite(_Suite):
    """What holds for components that are built from a `Config`."""

    def test_its_configuration_round_trips(self) -> None:
        config = self.make().config
        assert from_dict(type(config), to_dict(config)) == config


class ModelConformance(_ConfiguredSuite):
    """A parametric model: consistent groups and topology, a rigid motion, a true Jacobian.

    The rigid motion is that of two groups marked `rigid`, of size 3: a rotvec and a translation in metres.
    """

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
        moved[:, model.slices[_rigid_group(model, "euclidean")]] += shift
        torch.testing.assert_close(model.points(moved), model.points(x) + shift, rtol=0, atol=1e-12)

    def test_the_root_rotation_turns_the_points_rigidly(self) -> None:
        model = self.make()
        columns = model.slices[_rigid_group(model, "rotvec")]
        rotvec = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        straight, turned = self.random_state(model), self.random_state(model)
        straight[:, columns], turned[:, columns] = 0, rotvec
        before, after = model.points(straight), model.points(turned)
        expected = (before - before[:, :1]) @ rotvec_to_matrix(rotvec).T
        torch.testing.assert_close(after - after[:, :1], expected, rtol=0, atol=1e-7)

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


class _PictureSuite(_ConfiguredSuite):
    def make_pictures(self) -> list[np.ndarray]:
        """Pictures that show the part, RGB uint8 (H, W, 3); override for all but trivial components.

        Among them all at least one part must be found.
        """
        return _odd_pictures()


class DetectorConformance(_PictureSuite):
    """A detector: finds something, finite regions, the same for a picture alone as among others."""

    @abstractmethod
    def make(self) -> Detector:
        """The detector under test."""

    def test_regions_are_found_and_well_formed(self) -> None:
        found = self.make().detect(self.make_pictures())
        _require_results(found)
        for regions in found:
            scores = [region.score for region in regions]
            assert scores == sorted(scores, reverse=True), "regions must come best score first"
            for region in regions:
                _check_region(region)

    def test_odd_pictures_are_no_trouble(self) -> None:
        found = self.make().detect(_odd_pictures())
        assert len(found) == len(_odd_pictures())
        for region in (region for regions in found for region in regions):
            _check_region(region)

    def test_batched_equals_looped(self) -> None:
        detector, pictures = self.make(), [*self.make_pictures(), *_odd_pictures()]
        together = detector.detect(pictures)
        _require_results(together)
        for picture, regions in zip(pictures, together, strict=True):
            (alone,) = detector.detect([picture])
            for one, other in zip(alone, regions, strict=True):
                _check_same_region(one, other)

    def test_no_pictures_give_no_regions(self) -> None:
        assert self.make().detect([]) == []


class LandmarkerConformance(_PictureSuite):
    """A landmarker: finds something, of its scheme, the same for a picture alone as among others."""

    @abstractmethod
    def make(self) -> Landmarker:
        """The landmarker under test."""

    def make_regions(self, pictures: Sequence[np.ndarray]) -> list[list[Region]]:
        """Where to look: by default at the whole of each picture; override with a detector's answer."""
        return [[_whole(picture)] for picture in pictures]

    def test_landmarks_are_found_and_well_formed(self) -> None:
        landmarker, pictures = self.make(), self.make_pictures()
        found = landmarker.locate(pictures, self.make_regions(pictures))
        _require_results(found)
        for detection in (detection for detections in found for detection in detections):
            _check_detection(detection, landmarker.scheme)

    def test_odd_pictures_are_no_trouble(self) -> None:
        landmarker, pictures = self.make(), _odd_pictures()
        found = landmarker.locate(pictures, [[_whole(picture)] for picture in pictures])
        assert len(found) == len(pictures)
        for detection in (detection for detections in found for detection in detections):
            _check_detection(detection, landmarker.scheme)

    def test_batched_equals_looped(self) -> None:
        landmarker, shown, odd = self.make(), self.make_pictures(), _odd_pictures()
        pictures = [*shown, *odd]
        regions = [*self.make_regions(shown), *([_whole(picture)] for picture in odd)]
        together = landmarker.locate(pictures, regions)
        _require_results(together)
        for picture, own, detections in zip(pictures, regions, together, strict=True):
            (alone,) = landmarker.locate([picture], [own])
            for one, other in zip(alone, detections, strict=True):
                _check_same_detection(one, other)

    def test_pictures_without_regions_have_no_detections(self) -> None:
        pictures = self.make_pictures()
        assert self.make().locate(pictures, [[] for _ in pictures]) == [[] for _ in pictures]

    def test_no_pictures_give_no_detections(self) -> None:
        assert self.make().locate([], []) == []


class FitterConformance(_ConfiguredSuite):
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
    """A recipe: everything that it names exists, fits together, and fits landmarks of its own model."""

    @abstractmethod
    def make(self) -> Recipe:
        """The recipe under test."""

    def test_it_is_registered_under_its_part(self) -> None:
        recipe = self.make()
        assert default_registry().resolve("recipe", recipe.part) == recipe

    def test_its_components_exist_and_fit_together(self) -> None:
        recipe, registry = self.make(), default_registry()
        registry.create("detector", recipe.detector)
        registry.create("fitter", recipe.fitter)
        for side in _sides(recipe):
            landmarker, _, embedding = _landmarks_of(recipe, side)
            assert embedding.scheme.hash == landmarker.scheme.hash

    def test_its_stages_free_groups_of_the_model(self) -> None:
        recipe = self.make()
        _, model, _ = _landmarks_of(recipe, _sides(recipe)[0])
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
        for (name, settings), side in itertools.product(presets.items(), _sides(recipe)):
            problem = _own_problem(recipe, settings, side)
            result = fitter.fit(problem)
            assert FitStatus.FAILED not in result.status, f"{name}: {result.messages}"
            size = _extent(problem.points)
            assert (result.rms_px < 0.003 * size).all(), f"{name}: rms {result.rms_px} px at size {size} px"


def _sides(recipe: Recipe) -> tuple[str | None, ...]:
    """The sides of the recipe's model: those of its `Config`, or none."""
    target = default_registry().resolve("model", recipe.model)
    sided = isinstance(target, type) and "side" in attrs.fields_dict(getattr(target, "Config", NoConfig))
    return ("left", "right") if sided else (None,)


def _landmarks_of(recipe: Recipe, side: str | None) -> tuple[Landmarker, ParametricModel, LandmarkEmbedding]:
    registry = default_registry()
    landmarker = registry.create("landmarker", recipe.landmarker)
    model = registry.create("model", recipe.model, **({} if side is None else {"side": side}))
    embedding = registry.create("embedding", f"{model.topology.name}/{landmarker.scheme.name}")
    return landmarker, model, embedding


def _own_problem(
    recipe: Recipe, settings: FitSettings, side: str | None = None, batch: int = 3
) -> FitProblem:
    """Landmarks of plausible states of the recipe's model, turned towards a camera, without noise."""
    landmarker, model, embedding = _landmarks_of(recipe, side)
    free = {group for stage in settings.stages for group in stage.free}
    x = _plausible_states(model, free, batch)
    landmarks = model.landmarks(embedding, x)
    # the model's front is +z: half a turn about x, and a little more, makes it face the camera
    x[:, model.slices[_rigid_group(model, "rotvec")]] = torch.tensor([3.0, 0.2, -0.3], dtype=x.dtype)
    points = landmarks.points(x)
    middle = points.mean(dim=1)
    distance = 6 * (points - middle[:, None]).norm(dim=2).max()
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype) * distance
    x[:, model.slices[_rigid_group(model, "euclidean")]] += ahead - middle
    camera = Camera.for_images([(640, 480)] * batch)
    pixels = camera.to(x).project(landmarks.points(x)).numpy()
    scale, confidence = np.full(pixels.shape[1:], 1.0), np.ones(pixels.shape[1])
    return FitProblem.from_detections(
        model,
        embedding,
        [Detection(landmarker.scheme, own, scale, confidence) for own in pixels],
        camera,
        settings.stages,
        weighting=settings.weighting,
        prior_weights=settings.prior_weights,
    )


def _plausible_states(model: ParametricModel, free: Collection[str], batch: int) -> torch.Tensor:
    """States drawn from the prior of the free groups, within their limits; the mean of the others."""
    rng = np.random.default_rng(0)
    groups = []
    for group in model.groups:
        values = np.tile(group.prior_mean, (batch, 1))
        if group.name in free:
            values = values + rng.normal(size=(batch, group.size)) @ _deviations(group)
        groups.append(values.clip(group.lower, group.upper))
    return torch.as_tensor(np.concatenate(groups, axis=1))


def _deviations(group: ParameterGroup) -> np.ndarray:
    """(size, size) root of the prior's covariance; zero in directions without a prior."""
    variances, axes = np.linalg.eigh(np.linalg.pinv(group.information, hermitian=True))
    return np.sqrt(variances.clip(min=0))[:, None] * axes.T


def _rigid_group(model: ParametricModel, kind: str) -> str:
    """The name of the rigid rotation (`rotvec`) or translation (`euclidean`)."""
    names = [g.name for g in model.groups if g.rigid and g.kind == kind and g.size == 3]
    assert len(names) == 1, f"a model needs one rigid {kind} group of size 3, found {names}"
    return names[0]


def _extent(points: torch.Tensor) -> torch.Tensor:
    """(B,) geometric mean of the width and height of the points (B, L, 2)."""
    return (points.amax(dim=1) - points.amin(dim=1)).prod(dim=1).sqrt()


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


def _require_results(found: Sequence[Sequence[object]]) -> None:
    assert any(found), "nothing was found: override `make_pictures` with pictures that show the part"


def _check_region(region: Region) -> None:
    assert np.isfinite([*region.center, *region.size, region.angle, region.score]).all()
    assert min(region.size) > 0
    assert 0 <= region.score <= 1
    _check_side(region.side)


def _check_side(side: str | None) -> None:
    assert side in (None, "left", "right"), f"a side is 'left', 'right' or None, found {side!r}"


def _check_same_region(one: Region, other: Region) -> None:
    np.testing.assert_allclose(one.center, other.center, rtol=0, atol=0.05)
    np.testing.assert_allclose(one.size, other.size, rtol=0, atol=0.05)
    np.testing.assert_allclose([one.angle, one.score], [other.angle, other.score], rtol=0, atol=1e-3)
    assert one.side == other.side


def _check_detection(detection: Detection, scheme: LandmarkScheme) -> None:
    assert detection.scheme.hash == scheme.hash
    assert np.isfinite(detection.points).all()
    assert (detection.scale > 0).all()
    assert 0 <= detection.score <= 1
    _check_side(detection.side)
    if detection.points_3d is not None and detection.scale_3d is not None:
        assert (detection.scale_3d > 0).all()
        assert np.isfinite(detection.points_3d[np.isfinite(detection.scale_3d)]).all()


def _check_same_detection(one: Detection, other: Detection) -> None:
    np.testing.assert_allclose(one.points, other.points, rtol=0, atol=0.05)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-3)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=0, atol=1e-3)
    np.testing.assert_allclose(one.score, other.score, rtol=0, atol=1e-3)
    assert one.side == other.side
    assert (one.points_3d is None) == (other.points_3d is None)
    if one.points_3d is not None and other.points_3d is not None:
        relative, others = (d - d.mean(axis=0) for d in (one.points_3d, other.points_3d))
        np.testing.assert_allclose(relative, others, rtol=0, atol=1e-3)
