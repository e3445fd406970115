"""The made-up FLAME files have the form of the official ones, and their content is of use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partfit.errors import InputError
from partfit.geometry import topology
from partfit.model_files import read_model_file
from partfit.testing.official.flame import (
    CONTOUR_YAWS,
    MEDIAPIPE_105,
    flame_content,
    flame_entries,
    write_companions,
    write_flame,
)
from partfit.testing.official.surfaces import resample, resampled
from partfit.testing.strategies import meshes
from partfit.testing.synthetic import synthetic_model


@pytest.fixture(scope="module")
def content():
    return flame_content()


@pytest.fixture(scope="module")
def sphere():
    import trimesh

    ball = trimesh.creation.icosphere(3)
    return np.array(ball.vertices), np.array(ball.faces, dtype=np.int64)


@pytest.fixture(scope="module")
def bowl(sphere):
    vertices, faces = sphere
    kept, faces = topology.submesh(faces, vertices[:, 1] < 0.5)
    return vertices[kept], faces


# a closed surface has 2 n - 4 faces; an open one fewer, by the edges of its boundary
@pytest.mark.parametrize(
    ("which", "n_vertices", "n_faces"),
    [
        ("sphere", 700, 1396),
        ("sphere", 300, 596),
        ("sphere", 642, 1280),
        ("bowl", 700, 1350),
        ("bowl", 700, 1390),
        ("bowl", 200, 370),
    ],
)
def test_any_counts_are_reached(request, which, n_vertices, n_faces):
    vertices, faces = request.getfixturevalue(which)
    surface = resample(vertices, faces, n_vertices, n_faces)
    assert surface.vertices.shape == (n_vertices, 3)
    assert surface.faces.shape == (n_faces, 3)
    topology.check_mesh(surface.vertices, surface.faces)
    assert topology.connected_components(surface.faces, n_vertices).max() == 0
    np.testing.assert_allclose(surface.carry(vertices), surface.vertices, atol=1e-12)
    np.testing.assert_allclose(surface.origin.sum(axis=1), 1)
    assert surface.origin.data.min() > 0
    # counter-clockwise seen from outside, as before
    corners = surface.vertices[surface.faces]
    assert np.linalg.det(corners).sum() > 0


@given(meshes(), st.integers(20, 60), st.integers(0, 10))
def test_splits_keep_the_surface(mesh, inner, outer):
    vertices, faces = topology.check_mesh(*mesh)
    if not len(topology.boundary_edges(faces)):
        outer = 0
    n_vertices, n_faces = len(vertices) + inner + outer, len(faces) + 2 * inner + outer
    surface = resample(vertices, faces, n_vertices, n_faces)
    assert (len(surface.vertices), len(surface.faces)) == (n_vertices, n_faces)
    topology.check_mesh(surface.vertices, surface.faces)
    areas = [
        topology.area_vectors(*arrays) for arrays in ((vertices, faces), (surface.vertices, surface.faces))
    ]
    np.testing.assert_allclose(areas[1].sum(axis=0), areas[0].sum(axis=0), atol=1e-9)
    total = [np.linalg.norm(vectors, axis=1).sum() for vectors in areas]
    assert total[1] == pytest.approx(total[0])


def test_a_closed_surface_has_no_corner_to_close(sphere):
    with pytest.raises(InputError, match="no boundary"):
        resample(*sphere, 700, 1397)


def test_equal_counts_change_nothing(bowl):
    vertices, faces = bowl
    surface = resample(vertices, faces, len(vertices), len(faces))
    assert np.array_equal(surface.vertices, vertices)
    assert {*map(frozenset, surface.faces.tolist())} == {*map(frozenset, faces.tolist())}


def test_a_region_and_a_finer_part(sphere):
    vertices, faces = sphere
    top = np.flatnonzero(vertices[:, 1] > 0)
    plain = resample(vertices, faces, 900, 1796)
    finer = resample(vertices, faces, 900, 1796, finer=np.where(vertices[:, 1] > 0, 3.0, 1.0))
    assert len(finer.region(top)) > len(plain.region(top)) + 50
    assert (finer.vertices[finer.region(top), 1] > 0).all()
    assert set(top) <= set(finer.region(top))


def test_virtual_points_are_no_part_of_the_surface():
    model = synthetic_model(300)
    assert len(model.topology.faces) == 100  # which do not touch: only boundary edges can be halved
    surface = resampled(model, 400, 200)
    assert surface.origin.shape == (400, 300)
    assert surface.faces.max() < 400


def test_the_entries_have_the_official_form(content):
    entries = content.entries
    shapes = {
        "v_template": (5023, 3),
        "f": (9976, 3),
        "shapedirs": (5023, 3, 400),
        "posedirs": (5023, 3, 36),
        "weights": (5023, 5),
        "J_regressor": (5, 5023),
        "J": (5, 3),
        "kintree_table": (2, 5),
    }
    assert {name: value.shape for name, value in entries.items() if name in shapes} == shapes
    assert entries["f"].dtype == np.uint32
    assert entries["kintree_table"].dtype == np.uint32
    assert entries["kintree_table"].tolist() == [[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]
    assert (entries["bs_style"], entries["bs_type"]) == ("lbs", "lrotmin")
    topology.check_mesh(entries["v_template"], entries["f"].astype(np.int64))
    np.testing.assert_allclose(entries["weights"].sum(axis=1), 1)


def test_the_head_is_one_of_metres(content):
    extent = np.ptp(content.entries["v_template"], axis=0)
    assert 0.2 < extent[1] < 0.35


def test_the_joints_are_means_of_vertices(content):
    entries = content.entries
    regressor = entries["J_regressor"]
    assert regressor.min() >= 0
    np.testing.assert_allclose(regressor.sum(axis=1), 1)
    assert (regressor > 0).sum(axis=1).max() < 1000
    np.testing.assert_allclose(regressor @ entries["v_template"], entries["J"])
    # the eyes are the middles of the eyeballs, which ride on them
    for joint in (3, 4):
        eyeball = entries["v_template"][entries["weights"][:, joint] == 1]
        assert len(eyeball) > 100
        np.testing.assert_allclose(entries["J"][joint], eyeball.mean(axis=0), atol=1e-3)
    assert entries["J"][3, 0] > 0 > entries["J"][4, 0]  # left is +x


def test_equal_seeds_give_equal_content(content):
    assert np.array_equal(flame_entries()["shapedirs"], content.entries["shapedirs"])
    other = flame_entries(seed=1)
    assert not np.array_equal(other["shapedirs"], content.entries["shapedirs"])


def test_the_masks_have_the_official_names(content):
    assert sorted(content.masks) == [
        "boundary",
        "eye_region",
        "face",
        "forehead",
        "left_ear",
        "left_eye_region",
        "left_eyeball",
        "lips",
        "neck",
        "nose",
        "right_ear",
        "right_eye_region",
        "right_eyeball",
        "scalp",
    ]
    x = content.entries["v_template"][:, 0]
    for name, vertices in content.masks.items():
        assert len(vertices) > 10, name
        if name.startswith(("left", "right")):
            assert ((x[vertices] > 0) == name.startswith("left")).all(), name


def test_landmarks_lie_on_the_face(content):
    faces = content.entries["f"]
    skin = {*content.masks["face"], *content.masks["lips"]}
    for name, shape in (("static", (51,)), ("dynamic", (79, 17)), ("full", (1, 68))):
        face, weight = (content.landmarks[f"{name}_lmk_{what}"] for what in ("faces_idx", "bary_coords"))
        assert face.shape == shape
        np.testing.assert_allclose(weight.sum(axis=-1), 1)
        assert weight.min() >= 0
        assert set(faces[face].ravel()) <= skin
    assert np.array_equal(
        content.landmarks["full_lmk_faces_idx"][0, 17:], content.landmarks["static_lmk_faces_idx"]
    )
    assert len(set(MEDIAPIPE_105)) == len(content.mediapipe["landmark_indices"]) == 105
    assert len(set(CONTOUR_YAWS)) == 79


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("chumpy", "generic_model.pkl"),
        ("plain", "flame.pkl"),
        ("open", "flame2023_Open.pkl"),
        ("npz", "flame.npz"),
    ],
)
def test_files_are_read_as_they_were_written(content, tmp_path, variant, name):
    read = dict(read_model_file(write_flame(tmp_path / name, content.entries, variant)).entries)
    if variant == "open":
        said = read.pop("supr_expression_metadata")
        assert (said["expr_components"], said["n_expr"]) == ("last_100", 100)
    assert set(read) == set(content.entries)
    for key, value in content.entries.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(read[key], value), key
    said = (tmp_path / name).read_bytes()
    assert (b"chumpy" in said) == (variant == "chumpy")
    assert (b"csc_matrix" in said) == (variant != "npz")


def test_companions_are_read_as_they_were_written(content, tmp_path):
    files = write_companions(tmp_path, content)
    expected = {
        "FLAME_masks.pkl": content.masks,
        "landmark_embedding.npy": content.landmarks,
        "mediapipe_landmark_embedding.npz": content.mediapipe,
    }
    assert set(files) == {*expected, "flame_static_embedding.pkl", "flame_dynamic_embedding.npy"}
    for name, entries in expected.items():
        read = read_model_file(files[name]).entries
        assert set(read) == set(entries)
        for key, value in entries.items():
            assert np.array_equal(read[key], value), (name, key)
    static = read_model_file(files["flame_static_embedding.pkl"]).entries
    assert np.array_equal(static["lmk_face_idx"], content.landmarks["static_lmk_faces_idx"])
    dynamic = read_model_file(files["flame_dynamic_embedding.npy"]).entries
    assert np.array_equal(dynamic["lmk_b_coords"], content.landmarks["dynamic_lmk_bary_coords"])
    # as in the official file, the rows of the contour are torch's
    assert b"torch" in files["landmark_embedding.npy"].read_bytes()


def test_a_source_without_eyeballs_is_refused():
    with pytest.raises(InputError, match="left_eyeball"):
        flame_content(synthetic_model(300))
