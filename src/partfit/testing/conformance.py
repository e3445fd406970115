"""Conformance suites: what every component of a kind must do, as pytest classes to subclass.

    from partfit.testing.conformance import ModelConformance

    class TestMyModel(ModelConformance):
        def make(self):
            return MyModel()

Each suite needs a method `make`, which returns the component under test. Detectors and landmarkers need
`make_pictures` too, with pictures that show the part: a suite in which nothing is found fails.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from partfit.component import NoConfig
from partfit.config import from_dict, to_dict
from partfit.errors import ComponentError, InputError
from partfit.fitting import FitProblem, FitStatus, Fitter, Stage
from partfit.geometry.camera import Camera
from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from partfit.geometry.topology import boundary_edges, edges
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ContourEmbedding, ParameterGroup, ParametricModel, SkinnedModel
from partfit.models.base import ForwardModeLandmarks
from partfit.models.contour import landmark_points
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
        return x.clamp(*_limits(model))

    def extreme_states(self, model: ParametricModel) -> torch.Tensor:
        """States where formulas break, within the limits; override where these mean nothing for the model.

        All zero; nearly zero; every joint turned by almost, and by exactly, half a turn; the lower and the
        upper limits, or three standard deviations where there is none.
        """
        rng = np.random.default_rng(2)
        columns = []
        for group in model.groups:
            turn = _half_turns(group, rng)
            ends = [np.nan_to_num(group.lower, neginf=-3.0), np.nan_to_num(group.upper, posinf=3.0)]
            columns.append(np.stack([0 * turn, np.full_like(turn, 1e-8), turn * (1 - 1e-8), turn, *ends]))
        return torch.as_tensor(np.concatenate(columns, axis=1)).clamp(*_limits(model))

    def test_groups_have_unique_names_and_fill_the_parameter_vector(self) -> None:
        model = self.make()
        names = [group.name for group in model.groups]
        assert len(set(names)) == len(names), f"group names repeat: {names}"
        x = self.random_state(model)
        torch.testing.assert_close(model.pack(model.unpack(x), like=x), x)

    def test_priors_and_limits_are_usable(self) -> None:
        for group in self.make().groups:
            assert np.isfinite(group.prior_mean).all(), f"{group.name}: a prior mean is not finite"
            assert np.isfinite(group.sqrt_information).all(), f"{group.name}: a prior is not finite"
            within = (group.lower <= group.prior_mean) & (group.prior_mean <= group.upper)
            assert within.all(), f"{group.name}: the prior mean lies outside the limits"
            assert len(set(group.names)) == len(group.names), f"{group.name}: names of coordinates repeat"
            if group.basis is not None:
                offset = 0.0 if group.offset is None else group.offset
                assert np.isfinite(group.basis).all(), f"{group.name}: the basis is not finite"
                assert np.isfinite(offset).all(), f"{group.name}: the offset is not finite"

    def test_topology_is_consistent(self) -> None:
        topology = self.make().topology
        faces = topology.faces
        assert faces.ndim == 2
        assert faces.shape[1] == 3
        assert faces.dtype.kind in "iu", f"faces are integers, found {faces.dtype}"
        assert faces.min() >= 0
        assert faces.max() < topology.n_vertices
        assert (faces != np.roll(faces, 1, axis=1)).all(), "a face names one vertex twice"
        assert len(set(topology.virtual_points)) == len(topology.virtual_points), "virtual points repeat"
        for name, region in topology.regions.items():
            assert len(np.unique(region)) == len(region), f"region {name!r} repeats vertices"
            assert region.min() >= 0
            assert region.max() < topology.n_vertices

    def test_texture_coordinates_and_colors_are_in_range(self) -> None:
        topology = self.make().topology
        assert (topology.uv is None) == (topology.uv_faces is None), "uv and uv_faces come together"
        if topology.uv is not None and topology.uv_faces is not None:
            assert topology.uv.ndim == 2
            assert topology.uv.shape[1] == 2
            assert ((topology.uv >= 0) & (topology.uv <= 1)).all(), "uv must lie in [0, 1]"
            assert topology.uv_faces.shape == topology.faces.shape
            assert topology.uv_faces.min() >= 0
            assert topology.uv_faces.max() < len(topology.uv)
        if topology.colors is not None:
            assert topology.colors.shape == (topology.n_vertices, 3)
            assert ((topology.colors >= 0) & (topology.colors <= 1)).all(), "colors must lie in [0, 1]"

    def test_faces_are_counter_clockwise_from_outside(self) -> None:
        """Of a surface that is all but closed, as a head or a hand is; others have no inside."""
        model = self.make()
        faces = model.topology.faces
        if len(boundary_edges(faces)) > 0.1 * len(edges(faces)):
            return
        vertices = model.vertices(_resting(model))[0].numpy()
        corners = (vertices - vertices.mean(axis=0))[faces]
        assert np.linalg.det(corners).sum() > 0, "the faces look inwards: exchange two columns of `faces`"

    def test_points_have_the_right_shape_and_dtype(self) -> None:
        model = self.make()
        for dtype in (torch.float32, torch.float64):
            points = model.points(self.random_state(model).to(dtype))
            assert points.shape == (2, model.topology.n_points, 3)
            assert points.dtype == dtype
            assert torch.isfinite(points).all()

    def test_single_precision_agrees_with_double(self) -> None:
        model = self.make()
        x = self.random_state(model)
        points = model.points(x)
        tolerance = 1e-4 * float(points.std(dim=1).norm(dim=1).max())
        torch.testing.assert_close(model.points(x.float()).double(), points, rtol=0, atol=tolerance)

    def test_equal_parameters_give_equal_points(self) -> None:
        """Twice, and from a model that is built anew; and the parameters are left as they are."""
        model = self.make()
        x = self.random_state(model)
        given = x.clone()
        points = model.points(x)
        assert torch.equal(x, given), "the model wrote into its parameters"
        assert torch.equal(model.points(x), points)
        assert torch.equal(self.make().points(x), points)

    def test_extreme_states_are_finite(self) -> None:
        model = self.make()
        points = model.points(self.extreme_states(model))
        assert torch.isfinite(points).all(dim=2).all(dim=1).all()

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
        for rotvec in torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.14159, 0.0]], dtype=torch.float64):
            straight, turned = self.random_state(model), self.random_state(model)
            straight[:, columns], turned[:, columns] = 0, rotvec
            before, after = model.points(straight), model.points(turned)
            expected = (before - before[:, :1]) @ rotvec_to_matrix(rotvec).T
            torch.testing.assert_close(after - after[:, :1], expected, rtol=0, atol=1e-7)

    def test_the_jacobian_equals_automatic_differentiation(self) -> None:
        model = self.make()
        x = self.random_state(model)
        embedding, projection = random_rows(model), _random_projection(len(x))
        groups = tuple(model.slices)
        own = model.landmarks(embedding, x).linearize(x)
        automatic = ForwardModeLandmarks(model, embedding, x).linearize(x)
        torch.testing.assert_close(own.points, automatic.points, rtol=0, atol=1e-10)
        torch.testing.assert_close(model.landmarks(embedding, x).points(x), own.points, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            own.jacobian(projection, groups), automatic.jacobian(projection, groups), rtol=1e-8, atol=1e-8
        )

    def test_the_jacobian_is_true_at_extreme_states(self) -> None:
        """Along random directions, against automatic differentiation and against central differences."""
        model = self.make()
        x = self.extreme_states(model)
        embedding, projection = random_rows(model), _random_projection(len(x))
        jacobian = model.landmarks(embedding, x).linearize(x).jacobian(projection, tuple(model.slices))
        points = ForwardModeLandmarks(model, embedding, x).points
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            tangent = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            own = (jacobian @ tangent[..., None])[..., 0]
            automatic = torch.func.jvp(points, (x,), (tangent,))[1]
            step = 1e-6
            numeric = (points(x + step * tangent) - points(x - step * tangent)) / (2 * step)
            for moved, tolerance in ((automatic, 1e-8), (numeric, 1e-6)):
                expected = torch.einsum("blrd,bld->blr", projection, moved).flatten(1)
                scale = max(1.0, float(expected.abs().max()))
                torch.testing.assert_close(own, expected, rtol=0, atol=tolerance * scale)

    def test_the_jacobian_of_some_groups_has_their_columns(self) -> None:
        """In the order of the parameter vector, whatever the order in which the groups are named."""
        model = self.make()
        x = self.random_state(model)
        at_x = model.landmarks(random_rows(model), x).linearize(x)
        projection = _random_projection(len(x))
        names = tuple(model.slices)
        complete = at_x.jacobian(projection, names)
        for chosen in (*((name,) for name in names), names[::-1], names[::2][::-1]):
            some = at_x.jacobian(projection, chosen)
            torch.testing.assert_close(some, complete[..., model.columns(chosen)], rtol=0, atol=1e-8)

    def test_its_own_embeddings_lie_on_it(self) -> None:
        model = self.make()
        names = model.embedding_names
        assert len(set(names)) == len(names), f"embedding_names repeat: {names}"
        for name in names:
            embedding = model.embedding(name)
            assert embedding.scheme.name == name, f"embedding({name!r}) is of {embedding.scheme.name!r}"
            _check_embedding(embedding, model)
        try:
            model.embedding("no-such-scheme")
        except InputError:
            return
        raise AssertionError("`embedding` must raise InputError for a scheme that the model does not have")


class EmbeddingConformance(_Suite):
    """A landmark embedding: rows over the points of its model."""

    @abstractmethod
    def make(self) -> LandmarkEmbedding:
        """The embedding under test."""

    @abstractmethod
    def make_model(self) -> ParametricModel:
        """A model with the embedding's topology."""

    def test_its_rows_are_convex_and_lie_on_the_model(self) -> None:
        _check_embedding(self.make(), self.make_model())

    def test_its_landmarks_are_not_all_unknown(self) -> None:
        assert self.make().reliability.max() > 0, "reliability 0 means unknown: nothing could be fitted"

    def test_its_landmarks_follow_the_model(self) -> None:
        """The function that a fit evaluates gives the rows applied to the model's points."""
        embedding, model = self.make(), self.make_model()
        x = _plausible_states(model, set(model.slices), 2)
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


class _PictureSuite(_ConfiguredSuite):
    def make_pictures(self) -> list[np.ndarray]:
        """Pictures that show the part, RGB uint8 (H, W, 3); override for all but trivial components.

        Among them all at least one part must be found.
        """
        return _odd_pictures()

    def padded(self, picture: np.ndarray, x: int, y: int) -> np.ndarray:
        """The picture with x pixels more on the left and on the right, y more above and below."""
        return np.pad(picture, ((y, y), (x, x), (0, 0)), mode="edge")


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

    def test_pictures_are_left_as_they_are(self) -> None:
        pictures = self.make_pictures()
        given = [picture.copy() for picture in pictures]
        self.make().detect(pictures)
        assert all(np.array_equal(*pair) for pair in zip(pictures, given, strict=True))

    def test_regions_are_where_the_part_is(self) -> None:
        """A wider picture moves them to the right, a higher one down: within a tenth of their size."""
        detector = self.make()
        for picture in self.make_pictures():
            (regions,) = detector.detect([picture])
            for region in regions[:1]:
                x, y = round(max(region.size) / 4), round(max(region.size) / 8)
                (found,) = detector.detect([self.padded(picture, x, y)])
                expected = np.add(region.center, [x, y])
                away = min((np.linalg.norm(expected - one.center) for one in found), default=np.inf)
                assert away <= max(0.1 * max(region.size), 1), (
                    f"in a picture with ({x}, {y}) pixels more on each side no region is at {expected}; "
                    "are x and y, or the picture's pixels and the network's, mistaken for one another?"
                )

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

    def test_pictures_are_left_as_they_are(self) -> None:
        pictures = self.make_pictures()
        given = [picture.copy() for picture in pictures]
        self.make().locate(pictures, self.make_regions(pictures))
        assert all(np.array_equal(*pair) for pair in zip(pictures, given, strict=True))

    def test_landmarks_are_pixels_of_the_picture(self) -> None:
        """They lie about their region, and a wider or higher picture moves them with it."""
        landmarker, pictures = self.make(), self.make_pictures()
        for picture, region in _each(pictures, self.make_regions(pictures)):
            size = max(region.size)
            shift = np.array([round(size / 4), round(size / 8)])
            moved = attrs.evolve(region, center=tuple(np.add(region.center, shift)))
            here, there = landmarker.locate([picture, self.padded(picture, *shift)], [[region], [moved]])
            for one, other in zip(here, there, strict=True):
                away = np.linalg.norm(np.median(one.points[one.usable], axis=0) - region.center)
                assert away <= size, (
                    f"the landmarks of the region at {region.center} lie {away:.0f} pixels from it; are they "
                    "pixels of the crop, or x and y exchanged?"
                )
                np.testing.assert_allclose(other.points - shift, one.points, rtol=0, atol=0.02 * size)

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

    def test_its_figures_are_those_of_its_parameters(self) -> None:
        problem, _ = self._problem()
        result = self.make().fit(problem)
        away = (result.projected() - problem.points).square().sum(dim=-1)
        torch.testing.assert_close(result.rms_px.double(), away.mean(dim=1).sqrt(), rtol=1e-3, atol=1e-6)
        assert len(result.status) == len(result.messages) == len(result.x) == len(result.cost) == 2

    def test_groups_that_are_not_free_stay(self) -> None:
        problem, truth = self._problem()
        rigid = tuple(group.name for group in problem.model.groups if group.rigid)
        result = self.make().fit(attrs.evolve(problem, start=truth, stages=(Stage(rigid),)))
        free = problem.model.columns(rigid)
        kept = [i for i in range(problem.model.n_parameters) if i not in free]
        assert torch.equal(result.x[:, kept], truth[:, kept])

    def test_limits_are_kept(self) -> None:
        model = synthetic_model()
        narrow = [attrs.evolve(g, lower=[-0.1] * g.size, upper=[0.1] * g.size) for g in model.coefficients]
        limited = SkinnedModel(model.arrays, model.topology, narrow, model.poses)
        problem, _ = self._problem()
        x = self.make().fit(attrs.evolve(problem, model=limited)).x
        lower, upper = _limits(limited)
        assert ((x >= lower) & (x <= upper)).all()

    def test_the_problem_is_left_as_it_is(self) -> None:
        problem, truth = self._problem()
        problem = attrs.evolve(problem, start=truth.clone())
        given = {name: getattr(problem, name).clone() for name in ("points", "scale", "confidence", "start")}
        self.make().fit(problem)
        assert all(torch.equal(getattr(problem, name), value) for name, value in given.items())

    @staticmethod
    def _problem() -> tuple[FitProblem, torch.Tensor]:
        model = synthetic_model()
        return synthetic_problem(model, synthetic_embedding(model, 80), batch=2)


class RecipeConformance(_Suite):
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
            _check_embedding(embedding, model)
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
    x = _towards_camera(model, _plausible_states(model, free, batch), torch.tensor([[3.0, 0.2, -0.3]]))
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


def _towards_camera(model: ParametricModel, x: torch.Tensor, rotvecs: torch.Tensor) -> torch.Tensor:
    """The states turned by rotvecs and brought before a camera at the origin, which sees them whole.

    The model's front is +z: half a turn about x makes it face the camera.
    """
    x = x.clone()
    x[:, model.slices[_rigid_group(model, "rotvec")]] = rotvecs.to(x)
    points = model.points(x)
    middle = points.mean(dim=1)
    distance = 4 * (points - middle[:, None]).norm(dim=2).max()
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype) * distance
    x[:, model.slices[_rigid_group(model, "euclidean")]] += ahead - middle
    return x


def _seen_from_all_sides(model: ParametricModel) -> torch.Tensor:
    """The resting model, seen from twelve directions about the vertical."""
    about = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    up = torch.stack([torch.zeros_like(about), about, torch.zeros_like(about)], dim=1)
    flipped = rotvec_to_matrix(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64))
    rotvecs = matrix_to_rotvec(flipped @ rotvec_to_matrix(up))
    return _towards_camera(model, _resting(model).repeat(len(about), 1), rotvecs)


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


def _resting(model: ParametricModel) -> torch.Tensor:
    """(1, P) the means of the priors: the typical shape at rest, in the model's own frame."""
    return torch.as_tensor(np.concatenate([group.prior_mean for group in model.groups]))[None]


def _limits(model: ParametricModel) -> tuple[torch.Tensor, torch.Tensor]:
    """(P,) the smallest and the largest allowed values."""
    lower, upper = (
        torch.as_tensor(np.concatenate([getattr(group, end) for group in model.groups]))
        for end in ("lower", "upper")
    )
    return lower, upper


def _half_turns(group: ParameterGroup, rng: np.random.Generator) -> np.ndarray:
    """(size,) a half turn of each joint about a random axis; ordinary values for other groups."""
    values = rng.normal(size=group.size)
    if group.kind == "euclidean":
        return values
    if group.basis is not None:
        return np.pi * np.sign(values)
    axes = values.reshape(-1, 3)
    return (np.pi * axes / np.linalg.norm(axes, axis=1, keepdims=True)).ravel()


def random_rows(model: ParametricModel, n: int = 12, k: int = 3) -> LandmarkEmbedding:
    """Landmarks on random points of the model."""
    rng = np.random.default_rng(0)
    return LandmarkEmbedding(
        LandmarkScheme("conformance", [f"p{i}" for i in range(n)]),
        model.topology.name,
        rng.integers(0, model.topology.n_points, (n, k)),
        rng.dirichlet(np.ones(k), n),
    )


def _random_projection(batch: int, n: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, n, 2, 3, generator=generator, dtype=torch.float64)


def _check_embedding(embedding: LandmarkEmbedding, model: ParametricModel) -> None:
    model.check_embedding(embedding)
    rows = [embedding.weights]
    if isinstance(embedding, ContourEmbedding):
        rows.append(embedding.choices_weights)
    for weights in rows:
        assert (weights >= -1e-9).all(), "the weights of a row must not be negative"
        assert np.allclose(weights.sum(axis=-1), 1), "the weights of a row must sum to 1"


def _rigid_group(model: ParametricModel, kind: str) -> str:
    """The name of the rigid rotation (`rotvec`) or translation (`euclidean`)."""
    names = [g.name for g in model.groups if g.rigid and g.kind == kind and g.size == 3]
    assert len(names) == 1, f"a model needs one rigid {kind} group of size 3, found {names}"
    return names[0]


def _extent(points: torch.Tensor) -> torch.Tensor:
    """(B,) geometric mean of the width and height of the points (B, L, 2)."""
    return (points.amax(dim=1) - points.amin(dim=1)).prod(dim=1).sqrt()


def _each(
    pictures: Sequence[np.ndarray], regions: Sequence[Sequence[Region]]
) -> Iterator[tuple[np.ndarray, Region]]:
    """Each region with its picture."""
    for picture, own in zip(pictures, regions, strict=True):
        for region in own:
            yield picture, region


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
    assert (detection.scale > 0).all()
    known = np.isfinite(detection.scale)
    assert known.any(), "a detection has at least one point whose place is known"
    assert np.isfinite(detection.points[known]).all(), "a point that is not known has an infinite scale"
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
