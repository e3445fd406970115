"""The core's own components, and the synthetic ones that it ships for tests, pass the suites.

Components with one fault each do not: a suite that cannot fail is worth nothing.
"""

import attrs
import numpy as np
import pytest
import torch

from partfit.fitting import LevenbergMarquardt, Stage
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.landmarks import Detection, Detector, Landmarker, LandmarkScheme, Region
from partfit.models import ParameterGroup, ParametricModel
from partfit.recipe import FitSettings, Recipe
from partfit.testing import conformance
from partfit.testing.conformance import (
    DetectorConformance,
    EmbeddingConformance,
    FitterConformance,
    LandmarkerConformance,
    ModelConformance,
    RecipeConformance,
)
from partfit.testing.synthetic import synthetic_embedding, synthetic_model


class TestSyntheticModel(ModelConformance):
    def make(self):
        return synthetic_model()


class TestSyntheticEmbedding(EmbeddingConformance):
    def make(self):
        return synthetic_embedding(synthetic_model(), 40, 3)

    def make_model(self):
        return synthetic_model()


class TestLevenbergMarquardt(FitterConformance):
    def make(self):
        return LevenbergMarquardt()


class Bright(Detector):
    """Finds the bright pixels of each picture, as one region."""

    def detect(self, images):
        return [self._bright(image) for image in images]

    def _bright(self, image):
        y, x = np.nonzero(image.max(axis=2) > 200)
        if len(x) < 2:
            return []
        return [Region((x.mean(), y.mean()), (np.ptp(x) + 1.0, np.ptp(y) + 1.0), score=0.9)]


class Corners(Landmarker):
    """Two corners of each region."""

    scheme = LandmarkScheme("corners", ["low", "high"])

    def locate(self, images, regions):
        return [[self._corners(region) for region in own] for own in regions]

    def _corners(self, region):
        half = np.array(region.size) / 2
        points = np.add(region.center, [-half, half])
        return Detection(self.scheme, points, np.full((2, 2), half.mean()), np.ones(2))


def bright_pictures():
    pictures = [np.zeros((40, 60, 3), np.uint8), np.zeros((50, 30, 3), np.uint8)]
    pictures[0][10:20, 5:35] = 255
    pictures[1][30:45, 4:9] = 230
    return pictures


class TestBright(DetectorConformance):
    def make(self):
        return Bright()

    def make_pictures(self):
        return bright_pictures()


class TestCorners(LandmarkerConformance):
    def make(self):
        return Corners()

    def make_pictures(self):
        return bright_pictures()

    def make_regions(self, pictures):
        return Bright().detect(pictures)


def suite_of(base, component, **methods):
    """An object of the suite, with its `make` and other methods."""
    methods = {"make": lambda self: component, **methods}
    return type("Suite", (base,), methods)()


class Blind(Bright):
    def detect(self, images):
        return [[] for _ in images]


class Forgetful(Corners):
    def locate(self, images, regions):
        return [[] for _ in images]


@pytest.mark.parametrize("test", ["test_regions_are_found_and_well_formed", "test_batched_equals_looped"])
def test_a_detector_that_finds_nothing_fails(test):
    suite = suite_of(DetectorConformance, Blind(), make_pictures=lambda self: bright_pictures())
    with pytest.raises(AssertionError, match="override `make_pictures`"):
        getattr(suite, test)()


@pytest.mark.parametrize("test", ["test_landmarks_are_found_and_well_formed", "test_batched_equals_looped"])
def test_a_landmarker_that_finds_nothing_fails(test):
    with pytest.raises(AssertionError, match="override `make_pictures`"):
        getattr(suite_of(LandmarkerConformance, Forgetful()), test)()


REGION_FAULTS = [
    {"center": (np.nan, 0.0)},
    {"size": (0.0, 4.0)},
    {"angle": np.inf},
    {"score": 1.5},
    {"side": "top"},
]


@pytest.mark.parametrize("fault", REGION_FAULTS, ids=lambda fault: next(iter(fault)))
def test_a_malformed_region_fails(fault):
    class Faulty(Bright):
        def _bright(self, image):
            return [attrs.evolve(region, **fault) for region in super()._bright(image)]

    suite = suite_of(DetectorConformance, Faulty(), make_pictures=lambda self: bright_pictures())
    with pytest.raises(AssertionError):
        suite.test_regions_are_found_and_well_formed()


def test_regions_out_of_order_fail():
    class Worst(Bright):
        def _bright(self, image):
            return [attrs.evolve(r, score=score) for r in super()._bright(image) for score in (0.1, 0.9)]

    suite = suite_of(DetectorConformance, Worst(), make_pictures=lambda self: bright_pictures())
    with pytest.raises(AssertionError, match="best score first"):
        suite.test_regions_are_found_and_well_formed()


@pytest.mark.parametrize(
    "fault",
    [{"center": (5.0, 5.0)}, {"size": (3.0, 3.0)}, {"angle": 0.1}, {"score": 0.5}, {"side": "left"}],
    ids=lambda fault: next(iter(fault)),
)
def test_a_detector_that_depends_on_the_batch_fails(fault):
    class Sociable(Bright):
        def detect(self, images):
            changes = fault if len(images) > 1 else {}
            return [[attrs.evolve(region, **changes) for region in found] for found in super().detect(images)]

    suite = suite_of(DetectorConformance, Sociable(), make_pictures=lambda self: bright_pictures())
    suite.test_regions_are_found_and_well_formed()
    with pytest.raises(AssertionError):
        suite.test_batched_equals_looped()


@pytest.mark.parametrize(
    "fault",
    [
        {"points": [[0.0, 0.0], [1.0, 1.0]]},
        {"scale": [[0.5, 0.5], [0.5, 0.5]]},
        {"confidence": [0.2, 0.2]},
        {"score": 0.5},
        {"side": "left"},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_landmarker_that_depends_on_the_batch_fails(fault):
    class Sociable(Corners):
        def locate(self, images, regions):
            changes = fault if len(images) > 1 else {}
            found = super().locate(images, regions)
            return [[attrs.evolve(detection, **changes) for detection in own] for own in found]

    suite = suite_of(LandmarkerConformance, Sociable())
    suite.test_landmarks_are_found_and_well_formed()
    with pytest.raises(AssertionError):
        suite.test_batched_equals_looped()


@pytest.mark.parametrize(
    "fault",
    [
        {"points": [[np.nan, 0.0], [1.0, 1.0]]},
        {"scale": np.zeros((2, 2))},
        {"score": -0.1},
        {"side": "top"},
        {"scheme": LandmarkScheme("edges", ["low", "high"])},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_malformed_detection_fails(fault):
    class Faulty(Corners):
        def _corners(self, region):
            return attrs.evolve(super()._corners(region), **fault)

    with pytest.raises(AssertionError):
        suite_of(LandmarkerConformance, Faulty()).test_landmarks_are_found_and_well_formed()


class Stick(ParametricModel):
    """A point and another, moved by rigid groups with names of their own."""

    groups = (ParameterGroup("place", 3, rigid=True), ParameterGroup("spin", 3, "rotvec", rigid=True))
    topology = attrs.evolve(synthetic_model().topology, name="stick", n_vertices=2, virtual_points=())

    def points(self, x):
        ends = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]).to(x)
        return ends @ self.turn(x[:, 3:]).transpose(1, 2) + x[:, None, :3]

    def turn(self, rotvec):
        return rotvec_to_matrix(rotvec)


def test_rigid_groups_are_found_by_what_they_are():
    suite = suite_of(ModelConformance, Stick())
    suite.test_translation_moves_every_point_alike()
    suite.test_the_root_rotation_turns_the_points_rigidly()


class Mirrored(Stick):
    """Turns the wrong way round: rigid, but not the rotation that its rotvec names."""

    def turn(self, rotvec):
        return super().turn(-rotvec)


class Idle(Stick):
    groups = (Stick.groups[0], ParameterGroup("spin", 3, "rotvec"))


def test_a_rotation_of_another_convention_fails():
    with pytest.raises(AssertionError):
        suite_of(ModelConformance, Mirrored()).test_the_root_rotation_turns_the_points_rigidly()


def test_a_model_without_a_rigid_rotation_fails():
    with pytest.raises(AssertionError, match="one rigid rotvec group of size 3, found"):
        suite_of(ModelConformance, Idle()).test_the_root_rotation_turns_the_points_rigidly()


MODEL = synthetic_model()
RIGID = Stage(("global_orient", "transl"), 10)
ALL = Stage(("betas", "expression", "global_orient", "transl"), 20)


class Parts:
    """A registry with one component of each kind, whatever its name."""

    def __init__(self, recipe):
        embedding, landmarker = synthetic_embedding(MODEL, 80), Corners()
        landmarker.scheme = embedding.scheme
        self.components = {
            "recipe": recipe,
            "detector": Bright(),
            "landmarker": landmarker,
            "model": MODEL,
            "embedding": embedding,
            "fitter": LevenbergMarquardt(),
        }

    def resolve(self, kind, name):
        return self.components[kind]

    create = resolve


def recipe(*stages, part="blob", **options):
    return Recipe(part, "bright", "corners", "synthetic", FitSettings(stages, **options))


def recipe_suite(monkeypatch, tested, registered=None):
    registry = Parts(registered or tested)
    monkeypatch.setattr(conformance, "default_registry", lambda: registry)
    return suite_of(RecipeConformance, tested)


def test_a_sound_recipe_passes(monkeypatch):
    suite = recipe_suite(monkeypatch, recipe(RIGID, ALL))
    for name in [name for name in dir(suite) if name.startswith("test_")]:
        getattr(suite, name)()


def test_a_recipe_registered_as_another_fails(monkeypatch):
    suite = recipe_suite(monkeypatch, recipe(RIGID, ALL), registered=recipe(RIGID))
    with pytest.raises(AssertionError):
        suite.test_it_is_registered_under_its_part()


@pytest.mark.parametrize(
    "tested",
    [
        recipe(RIGID, attrs.evolve(ALL, iterations=0)),
        recipe(RIGID, ALL, prior_weights={"betas": 1e6, "expression": 1e6}),
        attrs.evolve(recipe(RIGID, ALL), presets={"poor": FitSettings((ALL,), prior_weights={"betas": 1e6})}),
    ],
    ids=["no iterations", "strong priors", "preset"],
)
def test_a_recipe_that_cannot_fit_its_model_fails(monkeypatch, tested):
    with pytest.raises(AssertionError, match="rms"):
        recipe_suite(monkeypatch, tested).test_it_fits_landmarks_of_its_own_model()
