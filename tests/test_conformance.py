"""The core's own components, and the synthetic ones that it ships for tests, pass the suites.

Components with one fault each do not: a suite that cannot fail is worth nothing.
"""

import attrs
import numpy as np
import pytest
import torch

from partfit.errors import ComponentError, InputError
from partfit.fitting import LevenbergMarquardt, Stage
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ContourEmbedding, ParameterGroup, ParametricModel, SkinnedModel, Topology
from partfit.models.base import ForwardModeLandmarks
from partfit.recipe import FitSettings, Recipe
from partfit.testing.conformance import (
    DetectorConformance,
    EmbeddingConformance,
    FitterConformance,
    LandmarkerConformance,
    ModelConformance,
    RecipeConformance,
)
from partfit.testing.conformance import recipe as recipe_module
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


def run_all(suite):
    for name in [name for name in dir(suite) if name.startswith("test_")]:
        getattr(suite, name)()


@pytest.mark.parametrize("wrap", [tuple, lambda found: [tuple(own) for own in found], np.array])
def test_answers_are_lists(wrap):
    class Tuples(Bright):
        def detect(self, images):
            return wrap(super().detect(images))

    class TupleCorners(Corners):
        def locate(self, images, regions):
            return wrap(super().locate(images, regions))

    suite = suite_of(DetectorConformance, Tuples(), make_pictures=lambda self: bright_pictures())
    with pytest.raises(AssertionError, match="expected a list"):
        suite.test_regions_are_found_and_well_formed()
    with pytest.raises(AssertionError, match="expected a list"):
        suite_of(LandmarkerConformance, TupleCorners()).test_landmarks_are_found_and_well_formed()


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


class Tetrahedron(ParametricModel):
    """Four points, scaled along the axes, then moved: a sound model without a closed-form Jacobian."""

    groups = (
        ParameterGroup("sizes", 3, sqrt_information=np.ones(3), lower=[-1.0] * 3, upper=[1.0] * 3),
        *Stick.groups,
    )
    topology = Topology(
        "tetrahedron",
        4,
        np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
        regions={"base": np.array([0, 1, 2])},
        uv=np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]),
        uv_faces=np.tile(np.arange(3), (4, 1)),
        colors=np.full((4, 3), 0.5),
    )
    embedding_names = ("ends",)

    def embedding(self, scheme):
        if scheme != "ends":
            return super().embedding(scheme)
        return LandmarkEmbedding.of_vertices(LandmarkScheme("ends", ["a", "b"]), "tetrahedron", [0, 3])

    def points(self, x):
        corners = torch.cat([torch.zeros(1, 3), torch.eye(3)]).to(x)
        scaled = corners * (1 + 0.2 * x[:, None, :3])
        return scaled @ rotvec_to_matrix(x[:, 6:]).transpose(1, 2) + x[:, None, 3:6]


class TestTetrahedron(ModelConformance):
    def make(self):
        return Tetrahedron()


def with_group(**changes):
    first, *others = Tetrahedron.groups
    return {"groups": (attrs.evolve(first, **changes), *others)}


def with_topology(**changes):
    return {"topology": attrs.evolve(Tetrahedron.topology, **changes)}


def points_of(function):
    """A model whose points are a function of its sound points and x."""
    return {"points": lambda self, x: function(Tetrahedron.points(self, x), x)}


class WrongAtRest(ForwardModeLandmarks):
    """Right at ordinary states; without a derivative where all is zero."""

    def linearize(self, x):
        right = super().linearize(x)
        derivative = right.jacobian
        at_rest = (x[:, 6:].norm(dim=1) < 1e-6)[:, None, None]
        right.jacobian = lambda *given: torch.where(at_rest, 0.0, derivative(*given))
        return right


class WrongOrder(ForwardModeLandmarks):
    """Columns in the order in which the groups are named."""

    def linearize(self, x):
        right = super().linearize(x)
        derivative = right.jacobian
        right.jacobian = lambda projection, groups: torch.cat(
            [derivative(projection, (group,)) for group in groups], dim=-1
        )
        return right


def write_into(points, x):
    x[:, 0] = 0
    return points


def without_derivative(points, x):
    return points + 0.1 * (x[:, None, :3] ** 2).detach()


def not_a_number_at_zero(points, x):
    return points + 0 * x[:, 6:].norm(dim=1)[:, None, None] / x[:, 6:].norm(dim=1)[:, None, None]


def in_millimetres(points, x):
    return 1000 * (points - x[:, None, 3:6]) + x[:, None, 3:6]


def without_sizes(points, x):
    return Tetrahedron.points(Tetrahedron(), torch.cat([0 * x[:, :3], x[:, 3:]], dim=1))


NO_FACES = with_topology(faces=np.zeros((0, 3), dtype=int), uv_faces=np.zeros((0, 3), dtype=int))

MODEL_FAULTS = {
    "millimetres": (points_of(in_millimetres), "test_it_is_as_large_as_a_part_in_metres"),
    "coefficients of no effect": (points_of(without_sizes), "test_every_group_moves_some_point"),
    "no faces": (NO_FACES, "test_topology_is_consistent"),
    "empty region": (
        with_topology(regions={"base": np.zeros(0, dtype=int)}),
        "test_topology_is_consistent",
    ),
    "prior not finite": (with_group(prior_mean=[np.nan] * 3), "test_priors_and_limits_are_usable"),
    "information not finite": (
        with_group(sqrt_information=[np.inf] * 3),
        "test_priors_and_limits_are_usable",
    ),
    "mean outside the limits": (with_group(prior_mean=[2.0] * 3), "test_priors_and_limits_are_usable"),
    "names repeat": (with_group(names=["a", "b", "b"]), "test_priors_and_limits_are_usable"),
    "uv out of range": (
        with_topology(uv=np.full((3, 2), 1.1)),
        "test_texture_coordinates_and_colors_are_in_range",
    ),
    "uv without faces": (with_topology(uv_faces=None), "test_texture_coordinates_and_colors_are_in_range"),
    "colors of 255": (
        with_topology(colors=np.full((4, 3), 200)),
        "test_texture_coordinates_and_colors_are_in_range",
    ),
    "faces inside out": (
        with_topology(faces=Tetrahedron.topology.faces[:, ::-1]),
        "test_faces_are_counter_clockwise_from_outside",
    ),
    "degenerate face": (
        with_topology(faces=np.array([[0, 2, 2], [0, 1, 3], [0, 3, 2], [1, 2, 3]])),
        "test_topology_is_consistent",
    ),
    "faces not integers": (
        with_topology(faces=Tetrahedron.topology.faces.astype(float)),
        "test_topology_is_consistent",
    ),
    "single precision is poor": (
        points_of(lambda points, x: points if x.dtype == torch.float64 else points.half().float()),
        "test_single_precision_agrees_with_double",
    ),
    "random": (
        points_of(lambda points, x: points + 1e-9 * torch.rand_like(points)),
        "test_equal_parameters_give_equal_points",
    ),
    "writes into x": (points_of(write_into), "test_equal_parameters_give_equal_points"),
    "not a number at zero": (points_of(not_a_number_at_zero), "test_extreme_states_are_finite"),
    "no derivative of a term": (
        points_of(without_derivative),
        "test_the_jacobian_is_true_at_extreme_states",
    ),
    "no derivative at rest": (
        {"landmarks": lambda self, embedding, like: WrongAtRest(self, embedding, like)},
        "test_the_jacobian_is_true_at_extreme_states",
    ),
    "columns out of order": (
        {"landmarks": lambda self, embedding, like: WrongOrder(self, embedding, like)},
        "test_the_jacobian_of_some_groups_has_their_columns",
    ),
    "embedding of another name": (
        {"embedding": lambda self, scheme: Tetrahedron.embedding(self, "ends"), "embedding_names": ("tips",)},
        "test_its_own_embeddings_lie_on_it",
    ),
    "embedding for every name": (
        {"embedding": lambda self, scheme: Tetrahedron.embedding(self, "ends")},
        "test_its_own_embeddings_lie_on_it",
    ),
    "embedding of another topology": (
        {
            "embedding": lambda self, scheme: attrs.evolve(
                Tetrahedron.embedding(self, scheme), topology="cube"
            )
        },
        "test_its_own_embeddings_lie_on_it",
    ),
}


@pytest.mark.parametrize(("fault", "test"), MODEL_FAULTS.values(), ids=MODEL_FAULTS)
def test_a_model_with_one_fault_fails(fault, test):
    faulty = type("Faulty", (Tetrahedron,), fault)()
    with pytest.raises((AssertionError, InputError)):
        getattr(suite_of(ModelConformance, faulty), test)()


def test_a_model_in_millimetres_passes_everything_else():
    """Why its size is asked for."""
    suite = suite_of(ModelConformance, type("Faulty", (Tetrahedron,), points_of(in_millimetres))())
    suite.expected_extent = (10, 3000)
    run_all(suite)


def test_a_model_without_faces_is_told_so():
    suite = suite_of(ModelConformance, type("Faulty", (Tetrahedron,), NO_FACES)())
    with pytest.raises(AssertionError, match="a topology needs faces"):
        suite.test_faces_are_counter_clockwise_from_outside()


def test_a_group_that_its_limits_fix_need_not_move_anything():
    fixed = type("Fixed", (Tetrahedron,), with_group(lower=[0.0] * 3, upper=[0.0] * 3))()
    run_all(suite_of(ModelConformance, fixed))


def test_a_model_without_derivative_fools_automatic_differentiation_alone():
    """Why derivatives are compared with differences too."""
    faulty = type("Faulty", (Tetrahedron,), points_of(without_derivative))()
    suite_of(ModelConformance, faulty).test_the_jacobian_equals_automatic_differentiation()


ENDS = Tetrahedron().embedding("ends")


def embedding_suite(embedding, model=None):
    return suite_of(EmbeddingConformance, embedding, make_model=lambda self: model or Tetrahedron())


@pytest.mark.parametrize(
    ("embedding", "test"),
    [
        (attrs.evolve(ENDS, topology="cube"), "test_its_rows_are_convex_and_lie_on_the_model"),
        (attrs.evolve(ENDS, indices=[[0], [9]]), "test_its_rows_are_convex_and_lie_on_the_model"),
        (
            attrs.evolve(ENDS, indices=[[0, 1]] * 2, weights=[[2.0, -1.0]] * 2),
            "test_its_rows_are_convex_and_lie_on_the_model",
        ),
        (attrs.evolve(ENDS, reliability=[0.0, 0.0]), "test_its_landmarks_are_not_all_unknown"),
    ],
    ids=["topology", "point", "negative weight", "unknown"],
)
def test_a_faulty_embedding_fails(embedding, test):
    with pytest.raises((AssertionError, InputError)):
        getattr(embedding_suite(embedding), test)()


def test_an_embedding_may_have_unknown_places():
    run_all(embedding_suite(attrs.evolve(ENDS, reliability=[1.0, 0.0])))


def test_a_model_that_misplaces_landmarks_fails():
    class Shifted(Tetrahedron):
        def landmarks(self, embedding, like):
            moved = attrs.evolve(embedding, indices=(embedding.indices + 1) % 4)
            return ForwardModeLandmarks(self, moved, like)

    with pytest.raises(AssertionError):
        embedding_suite(ENDS, Shifted()).test_its_landmarks_follow_the_model()


class Outline(ContourEmbedding):
    """The end `b` moves to the corner that is farthest to the right."""

    def choose(self, model, x, camera):
        return camera.project(model.points(x))[..., 0].argmax(dim=1)


OUTLINE = Outline(
    ENDS.scheme,
    "tetrahedron",
    ENDS.indices,
    ENDS.weights,
    contour=[1],
    choices_indices=np.arange(4)[:, None, None],
    choices_weights=np.ones((4, 1, 1)),
)


class Absent(Outline):
    def choose(self, model, x, camera):
        return super().choose(model, x, camera) + 1


class Sociable(Outline):
    def choose(self, model, x, camera):
        return super().choose(model, x, camera)[0].expand(len(x))


class Stiff(Outline):
    def choose(self, model, x, camera):
        return torch.zeros(len(x), dtype=torch.long)


def test_a_contour_is_chosen():
    embedding_suite(OUTLINE).test_a_contour_can_be_chosen_from_every_side()


@pytest.mark.parametrize("faulty", [Absent, Sociable, Stiff])
def test_a_faulty_contour_fails(faulty):
    fields = attrs.asdict(OUTLINE, recurse=False)
    with pytest.raises(AssertionError):
        embedding_suite(faulty(**fields)).test_a_contour_can_be_chosen_from_every_side()


class Scribbling(Bright):
    def detect(self, images):
        found = super().detect(images)
        for image in images:
            image[0] = 0
        return found


class Crosswise(Bright):
    def _bright(self, image):
        return [attrs.evolve(r, center=r.center[::-1], size=r.size[::-1]) for r in super()._bright(image)]


class Cropped(Bright):
    """Pixels of a network that sees every picture at 32 pixels."""

    def _bright(self, image):
        return [
            attrs.evolve(r, center=tuple(np.array(r.center) * 32 / max(image.shape)))
            for r in super()._bright(image)
        ]


class OfOneSize(Bright):
    """Regions as large as a network's answer, whatever the picture."""

    def _bright(self, image):
        return [attrs.evolve(r, size=(30.0, 20.0)) for r in super()._bright(image)]


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (OfOneSize, "test_regions_grow_with_the_picture"),
        (Cropped, "test_regions_grow_with_the_picture"),
        (Scribbling, "test_pictures_are_left_as_they_are"),
        (Crosswise, "test_regions_are_where_the_part_is"),
        (Cropped, "test_regions_are_where_the_part_is"),
    ],
)
def test_a_detector_with_one_fault_fails(faulty, test):
    suite = suite_of(DetectorConformance, faulty(), make_pictures=lambda self: touching_pictures())
    with pytest.raises(AssertionError):
        getattr(suite, test)()


def touching_pictures():
    """The bright pixels reach the border."""
    pictures = bright_pictures()
    pictures[1][0, :4] = 255
    return pictures


def test_a_detector_of_whole_pictures_passes():
    class Whole(Bright):
        def _bright(self, image):
            height, width = image.shape[:2]
            return [Region(((width - 1) / 2, (height - 1) / 2), (width, height))]

    suite_of(DetectorConformance, Whole()).test_regions_are_where_the_part_is()


class Ends(Corners):
    """The left and the right end of each region, and a third point that is never seen."""

    scheme = LandmarkScheme("ends", ["left", "right", "unseen"], mirror=[1, 0, 2])

    def _corners(self, region):
        half = region.size[0] / 2
        points = [*np.add(region.center, [[-half, 0], [half, 0]]), [0, 0]]
        scale = [[0.1 * half] * 2, [0.1 * half] * 2, [np.inf] * 2]
        return Detection(self.scheme, points, scale, [1, 1, 0])


def ends_suite(landmarker, **methods):
    pictures = bright_pictures()
    return suite_of(
        LandmarkerConformance,
        landmarker,
        make_pictures=lambda self: pictures,
        make_regions=lambda self, pictures: Bright().detect(pictures),
        **methods,
    )


def test_a_point_that_is_not_known_may_be_anywhere():
    run_all(ends_suite(Ends()))


class SureEnds(Ends):
    """As sure of every picture."""

    def _corners(self, region):
        return attrs.evolve(super()._corners(region), scale=[[1e-3] * 2, [1e-3] * 2, [np.inf] * 2])


class EndsOfOneSize(Ends):
    def _corners(self, region):
        return super()._corners(attrs.evolve(region, size=(20.0, 20.0)))


class Backwards(Ends):
    def locate(self, images, regions):
        return super().locate(images, [own[::-1] for own in regions])


class FirstOnly(Ends):
    def locate(self, images, regions):
        return super().locate(images, [own[:1] for own in regions])


class Unmirrored(Ends):
    scheme = attrs.evolve(Ends.scheme, mirror=[0, 1, 2])


class OneSided(Ends):
    """Finds nothing in a flipped picture."""

    def locate(self, images, regions):
        if len(images) == 2 and np.array_equal(images[1], images[0][:, ::-1]):
            regions = [regions[0], []]
        return super().locate(images, regions)


ENDS_FAULTS = [
    (SureEnds, "test_landmarks_grow_with_the_picture", "typical scale"),
    (EndsOfOneSize, "test_landmarks_grow_with_the_picture", "landmarks lie"),
    (Backwards, "test_regions_are_answered_in_their_order", "not in the order"),
    (FirstOnly, "test_regions_are_answered_in_their_order", "gave 1 detections"),
    (Unmirrored, "test_a_flipped_picture_shows_the_mirror_of_the_scheme", "fit together"),
    (OneSided, "test_a_flipped_picture_shows_the_mirror_of_the_scheme", "not in both"),
]


@pytest.mark.parametrize(("faulty", "test", "message"), ENDS_FAULTS)
def test_ends_with_one_fault_fail(faulty, test, message):
    with pytest.raises(AssertionError, match=message):
        getattr(ends_suite(faulty()), test)()


@pytest.mark.parametrize(
    ("landmarker", "setting"),
    [(SureEnds, {"expected_growth": (0.9, 3.0)}), (OneSided, {"mirror_tolerance": None})],
)
def test_landmarkers_may_say_that_they_are_different(landmarker, setting):
    run_all(ends_suite(landmarker(), **setting))


class ScribblingCorners(Corners):
    def locate(self, images, regions):
        found = super().locate(images, regions)
        for image in images:
            image[:] = 0
        return found


class PixelsOfTheCrop(Corners):
    def _corners(self, region):
        detection = super()._corners(region)
        return attrs.evolve(detection, points=detection.points - region.center)


class CrosswiseCorners(Corners):
    def _corners(self, region):
        detection = super()._corners(region)
        return attrs.evolve(detection, points=detection.points[:, ::-1])


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (ScribblingCorners, "test_pictures_are_left_as_they_are"),
        (PixelsOfTheCrop, "test_landmarks_are_pixels_of_the_picture"),
        (CrosswiseCorners, "test_landmarks_are_pixels_of_the_picture"),
    ],
)
def test_a_landmarker_with_one_fault_fails(faulty, test):
    pictures = bright_pictures()
    suite = suite_of(LandmarkerConformance, faulty(), make_pictures=lambda self: pictures)
    with pytest.raises(AssertionError):
        getattr(suite, test)()


class Boastful(LevenbergMarquardt):
    def fit(self, problem):
        result = super().fit(problem)
        return attrs.evolve(result, rms_px=0.1 * result.rms_px)


class Generous(LevenbergMarquardt):
    """Frees all groups in every stage."""

    def fit(self, problem):
        everything = tuple(problem.model.slices)
        stages = tuple(attrs.evolve(stage, free=everything) for stage in problem.stages)
        return super().fit(attrs.evolve(problem, stages=stages))


class Unlimited(LevenbergMarquardt):
    def fit(self, problem):
        model, free = problem.model, {"lower": [-np.inf], "upper": [np.inf]}
        groups = [
            attrs.evolve(g, **{end: value * g.size for end, value in free.items()})
            for g in model.coefficients
        ]
        wide = SkinnedModel(model.arrays, model.topology, groups, model.poses)
        return super().fit(attrs.evolve(problem, model=wide))


class Greedy(LevenbergMarquardt):
    def fit(self, problem):
        result = super().fit(problem)
        problem.points[:] = result.projected()
        return result


class Trusting(LevenbergMarquardt):
    """Takes all landmarks alike."""

    def fit(self, problem):
        alike = {"scale": torch.full_like(problem.scale, 0.1)}
        return super().fit(attrs.evolve(problem, **alike, confidence=torch.ones_like(problem.confidence)))


class Unprejudiced(LevenbergMarquardt):
    """Knows no priors."""

    def fit(self, problem):
        model = problem.model
        groups = [attrs.evolve(g, sqrt_information=np.zeros(g.size)) for g in model.coefficients]
        free = SkinnedModel(model.arrays, model.topology, groups, model.poses)
        return super().fit(attrs.evolve(problem, model=free))


class Unweighted(LevenbergMarquardt):
    def fit(self, problem):
        return super().fit(attrs.evolve(problem, prior_weights={}))


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (Trusting, "test_landmarks_of_a_large_scale_hardly_count"),
        (Trusting, "test_landmarks_of_too_little_confidence_are_left_out"),
        (Unprejudiced, "test_priors_pull_where_landmarks_are_few"),
        (Unweighted, "test_prior_weights_are_heeded"),
        (Boastful, "test_its_figures_are_those_of_its_parameters"),
        (Generous, "test_groups_that_are_not_free_stay"),
        (Unlimited, "test_limits_are_kept"),
        (Greedy, "test_the_problem_is_left_as_it_is"),
    ],
)
def test_a_fitter_with_one_fault_fails(faulty, test):
    with pytest.raises(AssertionError):
        getattr(suite_of(FitterConformance, faulty()), test)()


MODEL = synthetic_model()
RIGID = Stage(("global_orient", "transl"), 10)
ALL = Stage(("betas", "expression", "global_orient", "transl"), 20)


class Parts:
    """A registry with one component of each kind; the recipe has a name, the others answer to all."""

    def __init__(self, recipe, name="blob"):
        embedding, landmarker = synthetic_embedding(MODEL, 80), Corners()
        landmarker.scheme = embedding.scheme
        self.name = name
        self.components = {
            "recipe": recipe,
            "detector": Bright(),
            "landmarker": landmarker,
            "model": MODEL,
            "embedding": embedding,
            "fitter": LevenbergMarquardt(),
        }

    def resolve(self, kind, name):
        if kind == "recipe" and name != self.name:
            raise ComponentError(f"no recipe {name!r}")
        return self.components[kind]

    def create(self, kind, name, **options):
        return self.resolve(kind, name)


def recipe(*stages, part="blob", **options):
    return Recipe(part, "bright", "corners", "synthetic", FitSettings(stages, **options))


def recipe_suite(monkeypatch, tested, registered=None, name="blob", registry=None, **methods):
    registry = registry or Parts(registered or tested, name)
    monkeypatch.setattr(recipe_module, "default_registry", lambda: registry)
    return suite_of(RecipeConformance, tested, **methods)


def test_a_sound_recipe_passes(monkeypatch):
    suite = recipe_suite(monkeypatch, recipe(RIGID, ALL))
    run_all(suite)


def test_a_recipe_registered_as_another_fails(monkeypatch):
    suite = recipe_suite(monkeypatch, recipe(RIGID, ALL), registered=recipe(RIGID))
    with pytest.raises(AssertionError):
        suite.test_it_is_registered_under_its_part()


def test_a_recipe_of_another_model_is_registered_as_part_and_model(monkeypatch):
    tested = recipe(RIGID, ALL)
    recipe_suite(monkeypatch, tested, name="blob/synthetic").test_it_is_registered_under_its_part()
    with pytest.raises(AssertionError, match="'blob/synthetic' is this one"):
        recipe_suite(monkeypatch, tested, name="blob/other").test_it_is_registered_under_its_part()


class NeedsFile(Parts):
    """Its model has a required option; no plugin declares an embedding."""

    def create(self, kind, name, **options):
        if kind == "embedding":
            raise ComponentError(f"no embedding {name!r}")
        if kind == "model":
            assert options == {"path": "model.npz"}
        return super().create(kind, name)


def test_a_recipe_whose_model_needs_options_passes(monkeypatch):
    tested = recipe(RIGID, ALL)
    suite = recipe_suite(
        monkeypatch,
        tested,
        registry=NeedsFile(tested),
        model_options=lambda self, side: {"path": "model.npz"},
        make_embedding=lambda self, model: synthetic_embedding(model, 80),
    )
    run_all(suite)


def test_a_model_s_own_embedding_comes_first(monkeypatch):
    tested, own = recipe(RIGID, ALL), synthetic_embedding(MODEL, 80)

    class Owner(SkinnedModel):
        embedding_names = (own.scheme.name,)

        def embedding(self, scheme):
            return own

    suite = recipe_suite(monkeypatch, tested, registry=NeedsFile(tested))
    assert suite.make_embedding(Owner(MODEL.arrays, MODEL.topology, MODEL.coefficients, MODEL.poses)) is own


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
