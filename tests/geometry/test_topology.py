from collections import Counter

import numpy as np
import pytest
import trimesh
from hypothesis import given

from partfit.errors import InputError, ShapeError
from partfit.geometry import topology
from partfit.testing.strategies import closed_meshes, meshes, open_meshes

# Two triangles over the unit square, with normal +z.
SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def test_edges_of_a_square():
    np.testing.assert_array_equal(topology.edges(HALVES), [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])


def test_half_edges_name_their_face():
    expected = [[0, 1], [1, 2], [2, 0], [0, 2], [2, 3], [3, 0]]
    np.testing.assert_array_equal(topology.half_edges(HALVES), expected)


def test_boundary_of_a_square_runs_around_it():
    np.testing.assert_array_equal(topology.boundary_edges(HALVES), [[0, 1], [1, 2], [2, 3], [3, 0]])


def test_areas_and_normals_of_a_square():
    np.testing.assert_allclose(topology.face_areas(2 * SQUARE, HALVES), [2, 2])
    np.testing.assert_allclose(topology.face_normals(SQUARE, HALVES), [[0, 0, 1]] * 2)
    np.testing.assert_allclose(topology.vertex_normals(SQUARE, HALVES), [[0, 0, 1]] * 4)


def test_normals_without_area_are_zero():
    line = SQUARE * [1, 0, 0]
    lone = np.concatenate([SQUARE, [[5.0, 5, 5]]])
    np.testing.assert_array_equal(topology.face_normals(line, HALVES), np.zeros((2, 3)))
    np.testing.assert_array_equal(topology.vertex_normals(lone, HALVES)[4], [0, 0, 0])


def test_vertex_normal_weighs_faces_by_area():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 4]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])  # areas 1/2 along +z and 2 along +x
    np.testing.assert_allclose(topology.vertex_normals(vertices, faces)[0], np.array([4, 0, 1]) / 17**0.5)


@given(meshes())
def test_edges_agree_with_trimesh(mesh):
    vertices, faces = mesh
    oracle = trimesh.Trimesh(vertices, faces, process=False)
    np.testing.assert_array_equal(topology.edges(faces), np.unique(oracle.edges_unique, axis=0))
    np.testing.assert_allclose(topology.face_areas(vertices, faces), oracle.area_faces)
    np.testing.assert_allclose(topology.face_normals(vertices, faces), oracle.face_normals, atol=1e-9)


@given(meshes())
def test_adjacency_holds_the_edges_both_ways(mesh):
    vertices, faces = mesh
    found = set(map(tuple, np.argwhere(topology.vertex_adjacency(faces, len(vertices)).toarray()).tolist()))
    assert found == {(i, j) for face in faces.tolist() for i in face for j in face if i != j}


@given(open_meshes())
def test_boundary_edges_have_one_face_and_form_loops(mesh):
    _, faces = mesh
    count = Counter(frozenset(edge) for edge in topology.half_edges(faces).tolist())
    boundary = topology.boundary_edges(faces)
    assert {frozenset(edge) for edge in boundary.tolist()} == {edge for edge, n in count.items() if n == 1}
    assert Counter(boundary[:, 0].tolist()) == Counter(boundary[:, 1].tolist())


@given(closed_meshes())
def test_closed_meshes_have_no_boundary(mesh):
    assert topology.boundary_edges(mesh[1]).shape == (0, 2)


def test_submesh_keeps_the_faces_with_all_corners():
    kept, faces = topology.submesh(HALVES, np.array([True, False, True, True]))
    np.testing.assert_array_equal(kept, [0, 2, 3])
    np.testing.assert_array_equal(faces, [[0, 1, 2]])


@given(meshes())
def test_submesh_of_a_half_is_the_same_surface_there(mesh):
    vertices, faces = mesh
    keep = vertices[:, 0] < vertices[:, 0].mean()
    kept, part = topology.submesh(faces, keep)
    whole = {tuple(corners) for corners in vertices[faces[keep[faces].all(axis=1)]].reshape(-1, 9).tolist()}
    assert {tuple(corners) for corners in vertices[kept][part].reshape(-1, 9).tolist()} == whole


@pytest.mark.parametrize("keep", [np.array([0, 1, 2]), np.ones((4, 1), dtype=bool)])
def test_submesh_refuses_indices(keep):
    with pytest.raises(ShapeError, match="of dtype bool"):
        topology.submesh(HALVES, keep)


def test_components_of_two_triangles_and_a_lone_vertex():
    label = topology.connected_components(np.array([[0, 1, 2], [4, 5, 6]]), 7)
    np.testing.assert_array_equal(label, [0, 0, 0, 1, 2, 2, 2])


def test_check_mesh_returns_float64_and_int64():
    vertices, faces = topology.check_mesh(SQUARE.astype(np.float32), HALVES.astype(np.uint16))
    assert vertices.dtype == np.float64
    assert faces.dtype == np.int64


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([[0, 1, 4]], r"Face 0 names the vertices \[0, 1, 4\]; expected 0\.\.3"),
        ([[0, 1, 2], [0, -1, 2]], r"Face 1 names the vertices \[0, -1, 2\]"),
        ([[0, 1, 1]], r"Face 0 names a vertex twice: \[0, 1, 1\]"),
        ([[0, 1, 2], [2, 1, 0]], "the same three vertices"),
        ([[0, 1, 2], [0, 1, 3]], r"2 faces run through the edge \[0, 1\]"),
        ([[0.0, 1, 2]], "integer vertex indices, found dtype float64"),
    ],
)
def test_check_mesh_says_what_is_wrong_with_the_faces(faces, message):
    with pytest.raises(InputError, match=message):
        topology.check_mesh(SQUARE, np.array(faces))


def test_check_mesh_refuses_what_is_not_finite():
    vertices = SQUARE.copy()
    vertices[2, 1] = np.nan
    with pytest.raises(InputError, match="1 of 4 are not"):
        topology.check_mesh(vertices, HALVES)


@pytest.mark.parametrize(
    ("vertices", "faces", "name"), [(SQUARE[:, :2], HALVES, "vertices"), (SQUARE, HALVES.ravel(), "faces")]
)
def test_check_mesh_refuses_other_shapes(vertices, faces, name):
    with pytest.raises(ShapeError, match=f"{name}: expected shape"):
        topology.check_mesh(vertices, faces)
