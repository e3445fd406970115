import math
from functools import cache

import attrs
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import find, given, settings
from hypothesis import strategies as st

from partfit.geometry import topology
from partfit.models import ParameterGroup, ParametricModel
from partfit.models.base import ForwardModeLandmarks
from partfit.registry import default_registry
from partfit.testing import strategies
from partfit.testing.conformance import random_rows
from partfit.testing.synthetic import synthetic_model


def models_without_files():
    """The names of the synthetic model and of all installed models that are built without options."""
    registry = default_registry()
    configs = {
        record.name: registry.resolve("model", record.name).Config for record in registry.components("model")
    }
    return ["synthetic", *(name for name, config in configs.items() if not needs_options(config))]


def needs_options(config):
    return any(field.default is attrs.NOTHING for field in attrs.fields(config))


@cache
def model_of(name):
    return synthetic_model() if name == "synthetic" else default_registry().create("model", name)


@pytest.mark.parametrize("name", models_without_files())
@settings(max_examples=20)
@given(data=st.data())
def test_models_are_finite_and_differentiable_at_all_their_states(name, data):
    model = model_of(name)
    state = data.draw(strategies.parameters(model))
    for group in model.groups:
        own = state[model.slices[group.name]]
        assert ((own >= group.lower) & (own <= group.upper)).all()
    x = torch.as_tensor(state)[None]
    points = model.points(x)
    assert torch.isfinite(points).all()
    torch.testing.assert_close(model.points(model.canonical(x)), points, rtol=0, atol=1e-9)
    embedding = random_rows(model)
    n = len(embedding.scheme)
    jacobian = (
        model.landmarks(embedding, x)
        .linearize(x)
        .jacobian(torch.eye(3).double().expand(1, n, 3, 3), tuple(model.slices))
    )
    tangent = torch.linspace(-1, 1, model.n_parameters).double()[None]
    function = ForwardModeLandmarks(model, embedding, x)
    expected = torch.func.jvp(function.points, (x,), (tangent,))[1]
    torch.testing.assert_close(jacobian[0] @ tangent[0], expected.flatten(), rtol=0, atol=1e-8)


class OfGroups(ParametricModel):
    """A model of which only the groups matter."""

    groups, topology = (), synthetic_model().topology

    def __init__(self, *groups):
        super().__init__()
        self.groups = groups

    def points(self, x):
        raise NotImplementedError


@pytest.mark.parametrize("angle", strategies.SPECIAL_ANGLES)
def test_parameters_include_special_rotations(angle):
    model = OfGroups(ParameterGroup("jaw_pose", 3, "rotvec"))
    x = find(strategies.parameters(model), lambda x: abs(np.linalg.norm(x) - angle) <= 1e-15)
    np.testing.assert_allclose(x, [angle, 0, 0], atol=1e-15)


@pytest.mark.parametrize("end", [-0.5, 1.0])
def test_parameters_reach_their_limits(end):
    model = OfGroups(ParameterGroup("betas", 2, lower=[-0.5, -0.5], upper=[1.0, 1.0]))
    assert end in find(strategies.parameters(model), lambda x: end in x)


@pytest.mark.parametrize("angle", strategies.SPECIAL_ANGLES)
def test_rotvecs_include_the_special_angles(angle):
    r = find(strategies.rotvecs(), lambda r: abs(np.linalg.norm(r) - angle) <= 1e-15)
    np.testing.assert_allclose(r, [angle, 0, 0], atol=1e-15)


@given(strategies.rotvecs())
def test_rotvecs_are_short(r):
    assert r.shape == (3,)
    assert r.dtype == np.float64
    assert np.linalg.norm(r) <= math.pi + 1e-15


@given(strategies.rigid_motions())
def test_rigid_motions_keep_lengths_and_handedness(motion):
    rotation, translation = motion
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert translation.shape == (3,)


@given(st.integers(0, 9).flatmap(lambda n: st.tuples(st.just(n), strategies.points(n))))
def test_points_are_in_the_box(drawn):
    n, points = drawn
    assert points.shape == (n, 3)
    assert (np.abs(points) <= 1).all()


@given(strategies.cameras())
def test_cameras_look_at_the_middle(camera):
    away = camera["principal"] - (camera["size"] - 1) / 2
    assert (np.abs(away) <= 0.1 * camera["size"] + 1e-9).all()
    assert camera["focal"] > 0


@given(strategies.crops())
def test_crops_are_within_what_is_promised(crop):
    assert 1 <= crop.resolution <= 64
    assert 1 <= crop.size <= 400


@given(strategies.grid_meshes())
def test_grids_are_flat_and_face_up(mesh):
    np.testing.assert_array_equal(topology.face_normals(*mesh), np.broadcast_to([0, 0, 1], mesh[1].shape))


@given(strategies.closed_meshes())
def test_closed_meshes_are_watertight_and_face_outwards(mesh):
    solid = trimesh.Trimesh(*mesh, process=False)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0


@given(strategies.open_meshes())
def test_open_meshes_have_a_boundary(mesh):
    assert len(topology.boundary_edges(mesh[1])) >= 3


@given(strategies.meshes())
def test_meshes_are_manifold_without_lone_vertices(mesh):
    vertices, faces = topology.check_mesh(*mesh)
    assert set(faces.ravel()) == set(range(len(vertices)))
    assert (topology.face_areas(vertices, faces) > 0).all()
