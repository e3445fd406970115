"""Spirals on closed and open meshes, compared with distances and neighbours found by other means."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csgraph

from partfit.errors import InputError, ShapeError
from partfit.geometry import topology
from partfit.geometry.decimation import decimation_series
from partfit.testing.strategies import closed_meshes, grid_meshes, meshes, open_meshes
from partfit_spiralnet.spirals import spiral_sequences


def graph(vertices, faces):
    """Which vertices share an edge, and how many edges apart any two are (infinite if not connected)."""
    adjacent = topology.vertex_adjacency(faces, len(vertices))
    return adjacent.toarray(), csgraph.shortest_path(adjacent, unweighted=True)


def decimated(mesh):
    """The mesh with half of its vertices, of irregular triangles."""
    vertices, faces = mesh
    (half,) = decimation_series(vertices, faces, 1)
    return vertices[half.kept], half.faces


def tube(n_around, n_along):
    """A tube about the z axis, open at both ends, its faces turned outwards."""
    angle, z = np.meshgrid(2 * np.pi * np.arange(n_around) / n_around, np.arange(float(n_along)))
    vertices = np.stack([np.cos(angle), np.sin(angle), z], axis=-1).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(n_along, n_around)
    a, b = number[:-1], np.roll(number[:-1], -1, axis=1)
    c, d = number[1:], np.roll(number[1:], -1, axis=1)
    return vertices, np.concatenate([np.stack([a, b, d], -1), np.stack([a, d, c], -1)]).reshape(-1, 3)


tubes = st.builds(tube, st.integers(5, 12), st.integers(2, 8))
surfaces = meshes() | tubes | meshes().map(decimated)
whole_walks = surfaces.map(lambda mesh: (*mesh, spiral_sequences(*mesh, len(mesh[0]))))


@given(surfaces, st.integers(1, 40), st.integers(1, 4))
def test_shape_centre_and_dilation(mesh, length, dilation):
    spirals = spiral_sequences(*mesh, length, dilation)
    assert spirals.shape == (len(mesh[0]), length)
    np.testing.assert_array_equal(spirals[:, 0], np.arange(len(mesh[0])))
    np.testing.assert_array_equal(spirals, spiral_sequences(*mesh, length * dilation)[:, ::dilation])


@given(whole_walks)
def test_a_walk_visits_its_component_once_ring_by_ring(walks):
    vertices, faces, spirals = walks
    _, distance = graph(vertices, faces)
    for centre, spiral in enumerate(spirals):
        reached = np.flatnonzero(np.isfinite(distance[centre]))
        walk, rest = np.split(spiral, [len(reached)])
        np.testing.assert_array_equal(np.sort(walk), reached)
        assert (np.diff(distance[centre, walk]) >= 0).all()
        assert (rest == centre).all()


@given(whole_walks)
def test_a_ring_is_walked_from_neighbour_to_neighbour(walks):
    """Where it is a closed cycle or one arc around a disc, and the mesh goes on behind it or ends there."""
    vertices, faces, spirals = walks
    adjacent, distance = graph(vertices, faces)
    border = np.isin(np.arange(len(vertices)), topology.boundary_edges(faces))
    n_rings = 0
    for spiral in spirals[::5]:
        rings = distance[spiral[0], spiral]
        for k in range(1, int(rings.max()) + 1):
            ring = spiral[rings == k]
            goes_on = adjacent[ring][:, distance[spiral[0]] == k + 1].any(axis=1)
            disc = is_disc(distance[spiral[0]] <= k, faces)
            if disc and is_curve(adjacent[np.ix_(ring, ring)]) and (goes_on | border[ring]).all():
                assert adjacent[ring[:-1], ring[1:]].all(), (spiral[0], k, ring)
                n_rings += 1
    assume(n_rings > 0)  # a small torus has none: each ring meets itself on the other side


def is_disc(chosen, faces):
    """Whether the surface that some connected vertices span has the Euler characteristic of a disc."""
    inside = faces[chosen[faces].all(axis=1)]
    return chosen.sum() - len(topology.edges(inside)) + len(inside) == 1


def is_curve(adjacent):
    """Whether a graph is a single closed cycle or path."""
    connected = csgraph.connected_components(adjacent)[0] == 1
    return connected and adjacent.sum(axis=1).max() <= 2


@given(closed_meshes())
def test_the_first_ring_of_a_closed_mesh_turns_left(mesh):
    """Each two that follow one another, the last and the first too, form a triangle with the centre."""
    vertices, faces = mesh
    adjacent, _ = graph(vertices, faces)
    triangles = {tuple(np.roll(face, k)) for face in faces for k in range(3)}
    for spiral in spiral_sequences(vertices, faces, int(adjacent.sum(axis=1).max()) + 1):
        ring = spiral[1 : adjacent[spiral[0]].sum() + 1]
        for one, other in zip(ring, np.roll(ring, -1), strict=True):
            assert (spiral[0], one, other) in triangles


@given(open_meshes() | tubes)
def test_borders_are_walked_from_end_to_end(mesh):
    """Around a vertex of one border: from the next vertex of the border to the one before."""
    vertices, faces = mesh
    adjacent, _ = graph(vertices, faces)
    border = topology.boundary_edges(faces)
    spirals = spiral_sequences(vertices, faces, 30)
    for before, centre in border.tolist():
        after = border[border[:, 0] == centre, 1]
        if len(after) == 1:
            first = spirals[centre, 1 : adjacent[centre].sum() + 1]
            assert (first[0], first[-1]) == (after[0], before)
            assert adjacent[first[:-1], first[1:]].all()


@given(surfaces, st.randoms(use_true_random=False))
def test_the_order_of_faces_and_their_first_corners_mean_nothing(mesh, random):
    vertices, faces = mesh
    order = random.sample(range(len(faces)), len(faces))
    turned = np.array([np.roll(faces[f], random.randrange(3)) for f in order])
    np.testing.assert_array_equal(
        spiral_sequences(vertices, faces, 25), spiral_sequences(vertices, turned, 25)
    )


@given(surfaces)
def test_flipped_faces_turn_the_first_ring_round(mesh):
    """Cycles start at the same vertex, arcs at their other end."""
    vertices, faces = mesh
    adjacent, _ = graph(vertices, faces)
    degree = adjacent.sum(axis=1)
    length = degree.max() + 1
    border = topology.boundary_edges(faces)
    spirals, flipped = (spiral_sequences(vertices, f, length) for f in (faces, faces[:, ::-1]))
    for centre, (one, other) in enumerate(zip(spirals[:, 1:], flipped[:, 1:], strict=True)):
        one, other = one[: degree[centre]], other[: degree[centre]]
        n_arcs = (border[:, 0] == centre).sum()
        if n_arcs == 0:
            np.testing.assert_array_equal(other, np.roll(one[::-1], 1))
        elif n_arcs == 1:
            np.testing.assert_array_equal(other, one[::-1])


@given(meshes(), st.floats(1e-3, 1e3), st.permutations(range(3)))
def test_scale_and_place_mean_nothing(mesh, scale, place):
    vertices, faces = mesh
    moved = scale * (vertices + np.array(place))
    np.testing.assert_array_equal(spiral_sequences(moved, faces, 12), spiral_sequences(vertices, faces, 12))


@given(closed_meshes())
def test_cycles_start_at_the_highest_neighbour(mesh):
    vertices, faces = mesh
    adjacent, _ = graph(vertices, faces)
    for centre, start in spiral_sequences(vertices, faces, 2).tolist():
        edges = vertices - vertices[centre]
        rise = edges[:, 1] / np.maximum(np.linalg.norm(edges, axis=1), 1e-12)
        assert rise[start] >= rise[adjacent[centre]].max() - 1e-6


@given(grid_meshes())
def test_inside_a_sheet_all_spirals_are_alike(mesh):
    """Every inner vertex has its six neighbours in the same six places."""
    vertices, faces = mesh
    inner = ~np.isin(np.arange(len(vertices)), topology.boundary_edges(faces))
    assume(inner.any())
    around = vertices[spiral_sequences(vertices, faces, 7)] - vertices[:, None]
    ring = [[0, 0], [0, 1], [-1, 0], [-1, -1], [0, -1], [1, 0], [1, 1]]
    np.testing.assert_array_equal(around[inner][..., :2], np.tile(ring, (inner.sum(), 1, 1)))


def sheet(n):
    x, y = np.meshgrid(np.arange(float(n)), np.arange(float(n)))
    a = np.add.outer(n * np.arange(n - 1), np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1), faces


def strip(n):
    """Two rows of n vertices."""
    x, y = np.meshgrid(np.arange(float(n)), np.arange(2.0))
    a = np.arange(n - 1)
    faces = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1), faces


def test_the_second_ring_of_a_sheet():
    """A hexagon of twelve, from above the edge between the end and the start of the first ring."""
    vertices, faces = sheet(7)
    spiral = spiral_sequences(vertices, faces, 19)[24]
    ring = [
        [1, 2],
        [0, 2],
        [-1, 1],
        [-2, 0],
        [-2, -1],
        [-2, -2],
        [-1, -2],
        [0, -2],
        [1, -1],
        [2, 0],
        [2, 1],
        [2, 2],
    ]
    np.testing.assert_array_equal(vertices[spiral[7:], :2] - 3, ring)


def test_rings_that_a_border_cuts():
    """At the corner of a sheet, and one step from its left edge: arcs, counter-clockwise."""
    vertices, faces = sheet(5)
    spirals = spiral_sequences(vertices, faces, 9)
    corner = [[0, 0], [1, 0], [1, 1], [0, 1], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2]]
    np.testing.assert_array_equal(vertices[spirals[0], :2], corner)
    walk = vertices[spiral_sequences(vertices, faces, 16)[11], :2]
    first = [[1, 2], [1, 3], [0, 2], [0, 1], [1, 1], [2, 2], [2, 3]]
    second = [[0, 0], [1, 0], [2, 1], [3, 2], [3, 3], [3, 4], [2, 4], [1, 4], [0, 3]]
    np.testing.assert_array_equal(walk, first + second)


def test_a_ring_that_begins_with_an_arc_is_walked_in_its_own_order():
    """In a strip, the second ring is two arcs, to the right and to the left; neither is cut in two."""
    vertices, faces = strip(5)
    spiral = spiral_sequences(vertices, faces, 10)[2]
    first = [[3, 0], [3, 1], [2, 1], [1, 0]]
    np.testing.assert_array_equal(vertices[spiral, :2][:5], [[2, 0], *first])
    np.testing.assert_array_equal(vertices[spiral, :2][5:], [[4, 0], [4, 1], [1, 1], [0, 0], [0, 1]])


def test_lone_vertices_and_small_components_are_filled_with_their_centre():
    vertices = np.concatenate([np.eye(3), [[5.0, 5, 5]]])
    spirals = spiral_sequences(vertices, np.array([[0, 1, 2]]), 5)
    np.testing.assert_array_equal(
        spirals, [[0, 1, 2, 0, 0], [1, 2, 0, 1, 1], [2, 0, 1, 2, 2], [3, 3, 3, 3, 3]]
    )


def test_fans_that_touch_in_a_vertex_come_one_after_the_other():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]])
    spirals = spiral_sequences(vertices, np.array([[0, 3, 4], [0, 1, 2]]), 5)
    np.testing.assert_array_equal(spirals[0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(spirals[1], [1, 2, 0, 3, 4])


def test_coinciding_vertices_do_no_harm():
    vertices, faces = sheet(4)
    vertices[5] = vertices[6] = vertices[10]
    assert spiral_sequences(vertices, faces, 9).shape == (16, 9)


@pytest.mark.parametrize(("length", "dilation"), [(0, 1), (9, 0), (-1, 1)])
def test_numbers_below_one_are_refused(length, dilation):
    with pytest.raises(InputError, match=rf"at least 1, found {length} and {dilation}"):
        spiral_sequences(*sheet(3), length, dilation)


def test_bad_meshes_are_refused():
    with pytest.raises(ShapeError, match="faces"):
        spiral_sequences(sheet(3)[0], np.zeros((2, 4), dtype=int), 9)
    with pytest.raises(InputError, match="the same three vertices"):
        spiral_sequences(np.eye(3), np.array([[0, 1, 2], [0, 1, 2]]), 9)
