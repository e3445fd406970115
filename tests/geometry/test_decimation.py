import math
from collections import Counter

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from partfit.errors import InputError, ShapeError
from partfit.geometry import decimation, topology
from partfit.geometry.decimation import decimate, decimation_series
from partfit.testing.strategies import closed_meshes, grid_meshes, meshes, open_meshes, rigid_motions


def half(n):
    return math.ceil(n / 2)


def grid(n_columns, n_rows):
    """A sheet of unit squares in the plane z = 0, its normals +z, row by row."""
    x, y = np.meshgrid(np.arange(float(n_columns)), np.arange(float(n_rows)))
    corner = np.add.outer(n_columns * np.arange(n_rows - 1), np.arange(n_columns - 1)).ravel()
    above = np.stack([corner, corner + 1, corner + n_columns + 1], axis=1)
    below = np.stack([corner, corner + n_columns + 1, corner + n_columns], axis=1)
    return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1), np.concatenate([above, below])


def hilly(vertices, seed=0):
    """A sheet raised by smooth hills and moved a little at random, so that no two costs are equal."""
    x, y = vertices[:, 0], vertices[:, 1]
    hills = np.sin(0.5 * x) * np.cos(0.4 * y) + 0.3 * np.sin(1.1 * x + 0.7 * y)
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, vertices.shape)
    return vertices + noise + hills[:, None] * [0, 0, 1]


def sphere(subdivisions):
    ball = trimesh.creation.icosphere(subdivisions)
    return np.array(ball.vertices), np.array(ball.faces)


def pleated_sheet(n_along, n_across, gap):
    """A sheet folded twice, like a Z: three layers `gap` apart, the middle one upside down.

    All layers carry the same bumps, much higher than the gap, as lips do that touch.

    Returns:
        Vertices, faces, the layer 0..2 of each vertex and its distance from the nearer fold.
    """
    flat, faces = grid(3 * n_along, n_across)
    layer, step = np.divmod(flat[:, 0], n_along)
    x = np.where(layer == 1, n_along - 1 - step, step) + 0.3 * layer  # no vertex right above another one
    bumps = 0.4 * np.sin(0.9 * x + 0.3 * flat[:, 1]) * np.cos(0.8 * flat[:, 1])
    away = np.minimum(np.where(layer == 0, np.inf, step), np.where(layer == 2, np.inf, n_along - 1 - step))
    return np.stack([x, flat[:, 1], bumps + gap * layer], axis=1), faces, layer, away


def shaken_sheet(seed):
    """A flat sheet with its inner vertices moved at random within the plane, no face turned over."""
    vertices, faces = grid(10, 10)
    inner = ((vertices[:, :2] > 0) & (vertices[:, :2] < 9)).all(axis=1)
    vertices[inner, :2] += np.random.default_rng(seed).uniform(-0.24, 0.24, (inner.sum(), 2))
    return vertices, faces


def euler_characteristic(n_vertices, faces):
    return n_vertices - len(topology.edges(faces)) + len(faces)


def surface_distance(points, vertices, faces):
    """The distance of points to a mesh, by trying every triangle."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return trimesh.proximity.closest_point_naive(mesh, points)[1]


def assert_valid(vertices, faces, n, result):
    """All that a decimation promises about its matrices and its topology."""
    identity = (result.down @ result.up).toarray()
    np.testing.assert_array_equal(identity, np.eye(n))
    np.testing.assert_array_equal(result.down.toarray(), np.eye(len(vertices))[result.kept])
    assert result.up.shape == (len(vertices), n)
    assert (result.up.data > 0).all()
    assert np.diff(result.up.indptr).max() <= 3
    np.testing.assert_allclose(result.up.sum(axis=1), 1, atol=1e-14)

    assert result.kept.shape == (n,)
    assert (np.diff(result.kept) > 0).all()
    topology.check_mesh(vertices[result.kept], result.faces)
    assert euler_characteristic(n, result.faces) == euler_characteristic(len(vertices), faces)
    before = topology.connected_components(faces, len(vertices))
    after = topology.connected_components(result.faces, n)
    pairs = set(zip(before[result.kept].tolist(), after.tolist(), strict=True))
    assert len(pairs) == before.max() + 1 == after.max() + 1


@given(meshes())
def test_half_of_any_mesh(mesh):
    vertices, faces = mesh
    n = half(len(vertices))
    assert_valid(vertices, faces, n, decimate(vertices, faces, n))


@given(meshes(), st.floats(0.3, 1))
def test_any_number_of_vertices(mesh, fraction):
    vertices, faces = mesh
    n = math.ceil(fraction * len(vertices))
    assert_valid(vertices, faces, n, decimate(vertices, faces, n))


@given(closed_meshes())
def test_closed_meshes_stay_closed_and_oriented(mesh):
    vertices, faces = mesh
    result = decimate(vertices, faces, half(len(vertices)))
    solid = trimesh.Trimesh(vertices[result.kept], result.faces, process=False)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert 0.3 < solid.volume / trimesh.Trimesh(vertices, faces, process=False).volume < 1.05


@given(open_meshes())
def test_holes_stay_open(mesh):
    vertices, faces = mesh
    result = decimate(vertices, faces, half(len(vertices)))

    def n_loops(faces, n_vertices):
        boundary = topology.boundary_edges(faces)
        label = topology.connected_components(np.stack([*boundary.T, boundary[:, 0]], axis=1), n_vertices)
        return len(np.unique(label[boundary]))

    assert n_loops(result.faces, len(result.kept)) == n_loops(faces, len(vertices))


@given(grid_meshes(), rigid_motions())
def test_up_reproduces_a_flat_sheet(mesh, motion):
    vertices, faces = mesh
    rotation, translation = motion
    vertices = vertices @ rotation.T + translation
    result = decimate(vertices, faces, half(len(vertices)))
    np.testing.assert_allclose(result.up @ vertices[result.kept], vertices, atol=1e-12)


@given(grid_meshes())
def test_a_flat_sheet_stays_flat_and_keeps_its_outline(mesh):
    vertices, faces = mesh
    result = decimate(vertices, faces, half(len(vertices)))
    area = topology.area_vectors(vertices[result.kept], result.faces)
    assert (area[:, 2] > 0).all()
    assert area[:, 2].sum() == pytest.approx(topology.face_areas(vertices, faces).sum())


def test_up_takes_the_nearest_point_of_a_sphere():
    vertices, faces = sphere(3)
    result = decimate(vertices, faces, half(len(vertices)))
    kept = vertices[result.kept]
    distance = np.linalg.norm(result.up @ kept - vertices, axis=1)
    np.testing.assert_allclose(distance, surface_distance(vertices, kept, result.faces), atol=1e-12)
    assert distance.mean() < 0.008
    assert distance.max() < 0.02


def error_terms(vertices, faces):
    """What makes up each vertex's error, from the definition: pairs (weight, squared distance of a point)."""
    x = vertices - vertices.mean(axis=0)
    x = x / np.abs(x).max()
    terms = [[] for _ in x]
    directed = {(face[k], face[(k + 1) % 3]) for face in faces.tolist() for k in range(3)}
    for face in faces.tolist():
        a, b, c = x[face]
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal) / 2
        normal /= 2 * area
        for i in face:
            terms[i].append((area, lambda p, n=normal, a=a: ((p - a) @ n) ** 2))
            spread = decimation.SPREAD_WEIGHT * area / 3
            terms[i].append((spread, lambda p, q=x[i]: ((p - q) ** 2).sum()))
        for i, j in zip(face, [*face[1:], face[0]], strict=True):
            if (j, i) not in directed:
                along = x[j] - x[i]
                wall = np.cross(along, normal) / np.linalg.norm(along)
                hold = (
                    decimation.BOUNDARY_WEIGHT * along @ along,
                    lambda p, n=wall, q=x[i]: ((p - q) @ n) ** 2,
                )
                terms[i].append(hold)
                terms[j].append(hold)
    return x, terms


def is_manifold(faces, vertex):
    """Whether the faces at a vertex form one fan, no two of them alike, with at most two to an edge."""
    around = [[w for w in face if w != vertex] for face in faces if vertex in face]
    count = Counter(w for pair in around for w in pair)
    alike = len({frozenset(pair) for pair in around}) < len(around)
    ends = sum(n == 1 for n in count.values())
    return bool(around) and not alike and max(count.values()) <= 2 and ends in (0, 2)


def keeps_shape(x, before, after):
    """Whether a face that moves neither turns over nor becomes a sliver."""
    (a, b, c), (d, e, f) = x[list(before)], x[list(after)]
    old, new = np.cross(b - a, c - a) / 2, np.cross(e - d, f - d) / 2
    area = np.linalg.norm(new)
    sides = sum(side @ side for side in (e - d, f - e, d - f))
    same = old @ new >= decimation.MIN_NORMAL_COSINE * np.linalg.norm(old) * area
    return same and area >= decimation.MIN_FACE_SHAPE * sides


def greedy_by_trial(vertices, faces, n):
    """The kept vertices when every collapse is tried at every step and the cheapest legal one done."""
    x, terms = error_terms(vertices, faces)
    faces = [tuple(face) for face in faces.tolist()]
    alive = set(range(len(x)))
    while len(alive) > n:
        pairs = {(i, j) for face in faces for i in face for j in face if i != j}
        cost = {(u, v): sum(w * f(x[v]) for w, f in terms[u] + terms[v]) for u, v in pairs}
        for u, v in sorted(cost, key=cost.get):
            after = [tuple(v if w == u else w for w in face) for face in faces]
            moved = [(f, g) for f, g in zip(faces, after, strict=True) if f != g and len(set(g)) == 3]
            left = [face for face in after if len(set(face)) == 3]
            ring = {w for face in faces if u in face for w in face} - {u}
            if all(is_manifold(left, w) for w in ring) and all(keeps_shape(x, f, g) for f, g in moved):
                break
        faces = left
        terms[v] += terms[u]
        alive.remove(u)
    return sorted(alive), left


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", ["sheet", "crumpled sheet", "crumpled sphere"])
def test_the_order_is_that_of_trying_every_collapse(shape, seed):
    vertices, faces = {"sheet": grid(6, 5), "crumpled sheet": grid(5, 5), "crumpled sphere": sphere(1)}[shape]
    if "crumpled" in shape:
        vertices = np.random.default_rng(seed).normal(size=vertices.shape)
    else:
        vertices = hilly(vertices, seed)
    kept, left = greedy_by_trial(vertices, faces, 12)
    result = decimate(vertices, faces, 12)
    np.testing.assert_array_equal(result.kept, kept)
    np.testing.assert_array_equal(result.kept[result.faces], left)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", ["sheet", "ribbon", "sphere"])
def test_the_cheapest_collapse_comes_first(shape, seed):
    vertices, faces = {"sheet": grid(6, 5), "ribbon": grid(10, 2), "sphere": sphere(1)}[shape]
    vertices = hilly(vertices, seed)
    n = len(vertices) - 1
    np.testing.assert_array_equal(decimate(vertices, faces, n).kept, greedy_by_trial(vertices, faces, n)[0])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [50, 25, 12])
def test_no_face_of_a_shaken_sheet_turns_over(n, seed):
    vertices, faces = shaken_sheet(seed)
    assert (topology.area_vectors(vertices, faces)[:, 2] > 0).all()
    result = decimate(vertices, faces, n)
    assert (topology.area_vectors(vertices[result.kept], result.faces)[:, 2] > 0).all()


def test_a_surface_without_area_still_reaches_the_number():
    vertices, faces = sphere(2)
    line = vertices * [1, 0, 0]  # every collapse leaves slivers
    assert_valid(line, faces, 40, decimate(line, faces, 40))


def test_a_spike_is_kept():
    vertices, faces = grid(12, 12)
    spike = 5 * 12 + 5
    vertices[spike, 2] = 1.0
    assert spike in decimate(vertices, faces, 20).kept


SHEET = grid(12, 10)
HILLS = hilly(SHEET[0])
HALF_OF_HILLS = decimate(HILLS, SHEET[1], 60)


@given(rigid_motions(), st.floats(1e-3, 1e3))
def test_motion_and_scale_change_nothing(motion, scale):
    rotation, translation = motion
    result = decimate(scale * (HILLS @ rotation.T + translation), SHEET[1], 60)
    np.testing.assert_array_equal(result.kept, HALF_OF_HILLS.kept)
    np.testing.assert_array_equal(result.faces, HALF_OF_HILLS.faces)
    np.testing.assert_allclose(result.up.toarray(), HALF_OF_HILLS.up.toarray(), atol=1e-9)


@given(meshes())
def test_equal_input_gives_equal_output(mesh):
    n = half(len(mesh[0]))
    first, second = decimate(*mesh, n), decimate(*mesh, n)
    np.testing.assert_array_equal(first.kept, second.kept)
    np.testing.assert_array_equal(first.faces, second.faces)
    np.testing.assert_array_equal(first.up.toarray(), second.up.toarray())


def test_the_layers_of_a_pleat_do_not_mix():
    vertices, faces, layer, away = pleated_sheet(16, 12, gap=1e-3)
    result = decimate(vertices, faces, half(len(vertices)))
    row, column = result.up.nonzero()
    flat = away[row] > 4  # triangles at a fold join two layers
    np.testing.assert_array_equal(layer[row][flat], layer[result.kept[column]][flat])

    # the nearest triangle of all would often be one of another layer, be it upside down or not
    removed = np.setdiff1d(np.flatnonzero((away > 4) & (layer == 0)), result.kept)
    corners = layer[result.kept][result.faces]
    own, inverted, alike = (
        surface_distance(vertices[removed], vertices[result.kept], result.faces[(corners == k).all(axis=1)])
        for k in range(3)
    )
    assert (inverted < own).sum() >= 5
    assert (alike < own).sum() >= 5


def test_two_close_sheets_do_not_mix():
    flat, faces = grid(12, 10)
    lower, upper = hilly(flat, seed=1), hilly(flat, seed=2) + np.array([0, 0, 1e-3])
    vertices = np.concatenate([lower, upper])
    result = decimate(vertices, np.concatenate([faces, faces + len(flat)]), half(len(vertices)))
    row, column = result.up.nonzero()
    np.testing.assert_array_equal(row < len(flat), result.kept[column] < len(flat))


def test_the_thesis_series():
    flat, faces = grid(45, 45)
    order = np.argsort(((flat - 22) ** 2)[:, :2].sum(axis=1), kind="stable")
    kept, faces = topology.submesh(faces, np.isin(np.arange(len(flat)), order[:1609]))
    vertices = hilly(flat[kept])
    series = decimation_series(vertices, faces, 4)
    assert [len(level.kept) for level in series] == [805, 403, 202, 101]
    for level in series:
        assert_valid(vertices, faces, len(level.kept), level)
        vertices, faces = vertices[level.kept], level.faces


def test_no_level_is_an_empty_series():
    assert decimation_series(*SHEET, 0) == []


def test_keeping_all_vertices_changes_nothing():
    result = decimate(*SHEET, len(SHEET[0]))
    np.testing.assert_array_equal(result.faces, SHEET[1])
    np.testing.assert_array_equal(result.up.toarray(), np.eye(len(SHEET[0])))


def test_a_sphere_goes_down_to_a_tetrahedron():
    vertices, faces = sphere(2)
    result = decimate(vertices, faces, 4)
    assert_valid(vertices, faces, 4, result)
    assert len(result.faces) == 4


def test_lone_vertices_are_kept():
    vertices = np.concatenate([[[9.0, 9, 9]], HILLS, [[-9.0, 9, 9]]])
    result = decimate(vertices, SHEET[1] + 1, 60)
    assert_valid(vertices, SHEET[1] + 1, 60, result)
    assert {0, len(vertices) - 1} <= set(result.kept.tolist())


def test_coinciding_vertices_do_no_harm():
    vertices, faces = grid(8, 8)
    vertices[1] = vertices[0]
    vertices[30] = vertices[31] = vertices[29]
    result = decimate(vertices, faces, 32)
    assert_valid(vertices, faces, 32, result)


@pytest.mark.parametrize("n", [0, -1, 121])
def test_a_number_out_of_range_is_refused(n):
    with pytest.raises(InputError, match=rf"must lie in 1\.\.120, found {n}"):
        decimate(*SHEET, n)


def test_the_topology_sets_the_smallest_number():
    two = np.array([[0, 1, 2], [3, 4, 5]])
    vertices = np.random.default_rng(0).normal(size=(7, 3))
    with pytest.raises(InputError, match="fewer than 7 vertices without changing its topology; asked for 4"):
        decimate(vertices, two, 4)


def test_bad_meshes_are_refused():
    with pytest.raises(ShapeError, match="vertices: expected shape"):
        decimate(HILLS[:, :2], SHEET[1], 10)
    with pytest.raises(InputError, match="must be finite"):
        decimate(np.where(HILLS > 1, np.nan, HILLS), SHEET[1], 10)
    with pytest.raises(InputError, match="the same three vertices"):
        decimate(HILLS, np.concatenate([SHEET[1], SHEET[1][:1]]), 10)


def test_a_negative_number_of_levels_is_refused():
    with pytest.raises(InputError, match="levels must be at least 0, found -1"):
        decimation_series(*SHEET, -1)
