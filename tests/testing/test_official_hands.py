"""The generators of files in MANO's and GNM's formats: what the official files hold, at full size."""

import numpy as np
import pytest

from partfit.errors import InputError
from partfit.geometry.topology import boundary_edges, check_mesh, half_edges
from partfit.model_files import read_model_file
from partfit.testing.official import gnm, mano

MANO_SHAPES = {
    "v_template": (778, 3),
    "f": (1538, 3),
    "shapedirs": (778, 3, 10),
    "posedirs": (778, 3, 135),
    "J_regressor": (16, 778),
    "J": (16, 3),
    "weights": (778, 16),
    "kintree_table": (2, 16),
    "hands_components": (45, 45),
    "hands_mean": (45,),
    "hands_coeffs": (400, 45),
}
GNM_SHAPES = {
    "template_vertex_positions": (17821, 3),
    "vertex_identity_basis": (253, 17821, 3),
    "expression_basis": (383, 17821, 3),
    "template_joint_positions": (4, 3),
    "joint_identity_basis": (253, 4, 3),
    "joint_names": (4,),
    "identity_names": (253,),
    "expression_names": (383,),
    "joint_parent_indices": (4,),
    "skinning_weights": (4, 17821),
    "pose_correctives_regressor": (36, 53463),
    "joint_regressor": (4, 17821),
    "triangles": (35324, 3),
    "quads": (17662, 4),
    "triangle_uvs": (35324, 3, 2),
    "quad_uvs": (17662, 4, 2),
    "mirror_indices": (17821,),
}


def anny(name):
    return getattr(pytest.importorskip("partfit_anny." + name.lower()), f"Anny{name}")()


@pytest.fixture(scope="module", params=["made-up", "anny"])
def hand(request):
    """The source of a MANO file."""
    return None if request.param == "made-up" else anny("Hand")


def test_mano_has_the_official_arrays(hand):
    entries = mano.mano_entries("right", hand)
    assert {
        name: value.shape for name, value in entries.items() if isinstance(value, np.ndarray)
    } == MANO_SHAPES
    assert (entries["bs_style"], entries["bs_type"]) == ("lbs", "lrotmin")
    assert entries["kintree_table"][0, 0] == 2**32 - 1
    vertices, faces = check_mesh(entries["v_template"], entries["f"])
    assert len(boundary_edges(faces)) == 16
    assert np.linalg.det((vertices - vertices.mean(axis=0))[faces]).sum() > 0
    np.testing.assert_allclose(entries["weights"].sum(axis=1), 1)
    assert entries["weights"].min() >= 0
    np.testing.assert_allclose(entries["J_regressor"].sum(axis=1), 1)
    assert np.count_nonzero(entries["J_regressor"], axis=1).max() <= 24


def test_mano_poses_are_their_principal_components(hand):
    entries = mano.mano_entries("right", hand)
    components, coefficients = entries["hands_components"], entries["hands_coeffs"]
    np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-12)
    assert (np.diff(coefficients.std(axis=0)) <= 1e-12).all()
    np.testing.assert_allclose(coefficients.mean(axis=0), 0, atol=1e-12)


def test_mano_fingers_end_at_their_tips(hand):
    """The tip is the vertex of its finger that lies farthest along it, and has the official number."""
    entries = mano.mano_entries("right", hand)
    for finger, vertex in mano.TIPS.items():
        last = mano.JOINTS.index(f"{finger}_{'ip' if finger == 'thumb' else 'dip'}")
        arm = entries["v_template"][vertex] - entries["J"][last]
        bone = entries["J"][last] - entries["J"][last - 1]
        assert arm @ bone > 0.01 * np.linalg.norm(bone)


def test_mano_sides_are_mirror_images_but_for_the_known_fault():
    right, left = mano.mano_entries("right"), mano.mano_entries("left")
    np.testing.assert_array_equal(left["v_template"], right["v_template"] * [-1, 1, 1])
    np.testing.assert_array_equal(left["shapedirs"], right["shapedirs"])
    np.testing.assert_array_equal(left["J"] * [-1, 1, 1], right["J"])


def test_a_seed_decides():
    one, same, other = (mano.mano_entries("right", seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["posedirs"], other["posedirs"])


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_mano_files_hold_the_entries(tmp_path, suffix):
    entries = mano.mano_entries("left")
    mano.write_mano(tmp_path / f"MANO_LEFT{suffix}", entries)
    file = read_model_file(tmp_path / f"MANO_LEFT{suffix}")
    for name, shape in MANO_SHAPES.items():
        np.testing.assert_array_equal(file.reals(name, shape), entries[name])
    assert file.entries["bs_style"] == "lbs"
    with pytest.raises(InputError, match=r"MANO_LEFT\.txt"):
        mano.write_mano(tmp_path / "MANO_LEFT.txt", entries)


def test_the_pickle_is_as_chumpy_wrote_it(tmp_path):
    mano.write_mano(tmp_path / "MANO_RIGHT.pkl", mano.mano_entries())
    content = (tmp_path / "MANO_RIGHT.pkl").read_bytes()
    assert b"chumpy.reordering\nSelect" in content
    assert b"scipy.sparse.csc\ncsc_matrix" in content


@pytest.fixture(scope="module", params=["made-up", "anny"])
def head(request):
    """The entries of a GNM file."""
    return gnm.gnm_entries(None if request.param == "made-up" else anny("Head"))


def test_gnm_has_the_official_arrays(head):
    assert {name: head[name].shape for name in GNM_SHAPES} == GNM_SHAPES
    others = {"vertex_groups", "vertex_group_names", "mesh_component_names", "version", "variant"}
    assert set(head) == {*GNM_SHAPES, *others, "bone_aligned_template_joint_orientations"}
    assert all(value.dtype in (np.float32, np.int32) or value.dtype.kind == "U" for value in head.values())
    assert (str(head["version"]), str(head["variant"])) == ("3.0", "head")
    assert head["joint_names"].tolist() == ["neck", "head", "left_eye", "right_eye"]
    assert len(head["vertex_groups"]) == len(head["vertex_group_names"])
    _, faces = check_mesh(head["template_vertex_positions"], head["triangles"])
    assert len(boundary_edges(faces)) < 0.01 * len(half_edges(faces))
    np.testing.assert_allclose(head["skinning_weights"].sum(axis=0), 1, atol=1e-5)
    for name in ("triangle_uvs", "quad_uvs"):
        assert head[name].min() >= 0
        assert head[name].max() <= 1


def test_gnm_joints_are_regressed_from_the_vertices(head):
    for vertices, joints in (
        ("template_vertex_positions", "template_joint_positions"),
        ("vertex_identity_basis", "joint_identity_basis"),
    ):
        regressed = np.einsum("jv,...vd->...jd", head["joint_regressor"].astype(float), head[vertices])
        np.testing.assert_allclose(regressed, head[joints], atol=1e-6)


def test_gnm_quads_are_pairs_of_triangles():
    head = gnm.gnm_entries()
    quads, triangles = head["quads"], head["triangles"]
    np.testing.assert_array_equal(triangles, np.concatenate([quads[:, :3], quads[:, [2, 3, 0]]]))


def test_gnm_faces_look_outwards_part_by_part():
    head = gnm.gnm_entries()
    vertices, faces = head["template_vertex_positions"].astype(float), head["triangles"]
    for name, members in zip(head["vertex_group_names"][:3], head["vertex_groups"] > 0, strict=False):
        part = faces[members[faces].all(axis=1)]
        assert np.linalg.det((vertices - vertices[members].mean(axis=0))[part]).sum() > 0, name


def test_gnm_files_hold_the_entries(head, tmp_path):
    gnm.write_gnm(tmp_path / "gnm_head.npz", head)
    file = read_model_file(tmp_path / "gnm_head.npz")
    (tmp_path / "gnm_head.npz").unlink()
    np.testing.assert_array_equal(file.reals("expression_basis", (383, 17821, 3)), head["expression_basis"])
    assert list(file.entries["joint_names"]) == head["joint_names"].tolist()
