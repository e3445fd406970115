import math

import numpy as np
import pytest
import trimesh
from hypothesis import find, given
from hypothesis import strategies as st

from partfit.geometry import topology
from partfit.testing import strategies


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
