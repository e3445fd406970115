"""The suite of models."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch

from partfit.errors import InputError
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.geometry.topology import boundary_edges, edges
from partfit.models import ParameterGroup, ParametricModel
from partfit.models.base import ForwardModeLandmarks
from partfit.testing.conformance.base import ConfiguredSuite
from partfit.testing.conformance.states import check_embedding, limits, random_rows, resting, rigid_group

_NO_FACES = "a topology needs faces, and this one has none: pictures, files and transfers are made with them"


class ModelConformance(ConfiguredSuite):
    """A parametric model: consistent groups and topology, a rigid motion, a true Jacobian.

    The rigid motion is that of two groups marked `rigid`, of size 3: a rotvec and a translation in metres.
    Given float64 a model computes in float64 throughout.

    Attributes:
        expected_extent: The smallest and the largest length that the part may have at rest, metres.
    """

    expected_extent: tuple[float, float] = (0.01, 3.0)

    @abstractmethod
    def make(self) -> ParametricModel:
        """The model under test."""

    def random_state(self, model: ParametricModel, batch: int = 2) -> torch.Tensor:
        """Moderate parameters within the limits; override where these mean nothing for the model."""
        generator = torch.Generator().manual_seed(0)
        x = 0.3 * torch.randn(batch, model.n_parameters, generator=generator, dtype=torch.float64)
        return x.clamp(*limits(model))

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
        return torch.as_tensor(np.concatenate(columns, axis=1)).clamp(*limits(model))

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

    def test_it_is_as_large_as_a_part_in_metres(self) -> None:
        model = self.make()
        length, (least, most) = _length(model), self.expected_extent
        assert least <= length <= most, (
            f"at rest the longest side of its box is {length:.3g} m, expected {least} to {most}: are these "
            "metres? A part of another size sets `expected_extent`."
        )

    def test_every_group_moves_some_point(self) -> None:
        model = self.make()
        x, still = self.random_state(model), 1e-9 * _length(model)
        points = model.points(x[:1])
        for name, columns in model.slices.items():
            moved = x[:1].clone()
            moved[:, columns] = x[1:2, columns]
            fixed = torch.equal(moved, x[:1])  # by its limits
            away = float((model.points(moved) - points).abs().max())
            assert fixed or away > still, f"{name} moves no point: is it left out of the sum?"

    def test_topology_is_consistent(self) -> None:
        topology = self.make().topology
        faces = topology.faces
        assert len(faces), _NO_FACES
        assert faces.ndim == 2
        assert faces.shape[1] == 3
        assert faces.dtype.kind in "iu", f"faces are integers, found {faces.dtype}"
        assert faces.min() >= 0
        assert faces.max() < topology.n_vertices
        assert (faces != np.roll(faces, 1, axis=1)).all(), "a face names one vertex twice"
        assert len(set(topology.virtual_points)) == len(topology.virtual_points), "virtual points repeat"
        for name, region in topology.regions.items():
            assert len(region), f"region {name!r} is empty"
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
        assert len(faces), _NO_FACES
        if len(boundary_edges(faces)) > 0.1 * len(edges(faces)):
            return
        vertices = model.vertices(resting(model))[0].numpy()
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
        moved[:, model.slices[rigid_group(model, "euclidean")]] += shift
        torch.testing.assert_close(model.points(moved), model.points(x) + shift, rtol=0, atol=1e-12)

    def test_the_root_rotation_turns_the_points_rigidly(self) -> None:
        model = self.make()
        columns = model.slices[rigid_group(model, "rotvec")]
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
            check_embedding(embedding, model)
        try:
            model.embedding("no-such-scheme")
        except InputError:
            return
        raise AssertionError("`embedding` must raise InputError for a scheme that the model does not have")


def _length(model: ParametricModel) -> float:
    """The longest side of the box about the resting vertices, metres."""
    vertices = model.vertices(resting(model))[0]
    return float((vertices.amax(dim=0) - vertices.amin(dim=0)).max())


def _half_turns(group: ParameterGroup, rng: np.random.Generator) -> np.ndarray:
    """(size,) a half turn of each joint about a random axis; ordinary values for other groups."""
    values = rng.normal(size=group.size)
    if group.kind == "euclidean":
        return values
    if group.basis is not None:
        return np.pi * np.sign(values)
    axes = values.reshape(-1, 3)
    return (np.pi * axes / np.linalg.norm(axes, axis=1, keepdims=True)).ravel()


def _random_projection(batch: int, n: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, n, 2, 3, generator=generator, dtype=torch.float64)
