"""What `gnm-head` makes of its file and of its options."""

import numpy as np
import pytest
import torch

import partfit
from partfit.errors import ConfigError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.model_files import read_model_file, write_model_file
from partfit.models.base import ForwardModeLandmarks
from partfit.testing.official.gnm import write_gnm
from partfit_gnm.head_file import BROW, SKIN

N_VERTICES = 17821
POSES = ("neck_pose", "head_pose", "leye_pose", "reye_pose")


def gnm(path, n_betas=5, n_expression=10, **options):
    options = {"n_betas": n_betas, "n_expression": n_expression, **options}
    return partfit.create("model", "gnm-head", path=str(path), **options)


def states(model, batch=2, seed=0, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(batch, model.n_parameters, generator=generator, dtype=torch.float64)


def test_groups_names_and_points(head, entries):
    assert [g.name for g in head.groups] == ["betas", "expression", "global_orient", *POSES, "transl"]
    assert head.group("betas").names == tuple(entries["identity_names"][:5])
    assert head.topology.virtual_points == ("neck", "head", "left_eye", "right_eye")
    x = states(head)
    torch.testing.assert_close(head.points(x)[:, N_VERTICES:], head.joints(x)[:, 1:])


def test_by_default_there_are_the_head_and_the_first_of_each_region(path):
    model = partfit.create("model", "gnm-head", path=str(path))
    assert model.group("betas").names[-1] == "head_169"
    regions = [name.rpartition("_")[0] for name in model.group("expression").names]
    counts = {region: regions.count(region) for region in dict.fromkeys(regions)}
    assert counts == {
        "left_eye_region": 25,
        "right_eye_region": 25,
        "lower_face_region": 25,
        "tongue": 24,
        "pupil": 1,
    }


def test_chosen_coefficients_are_those_of_their_names(path, entries, head):
    names = entries["expression_names"].tolist()
    for k, name in enumerate(head.group("expression").names):
        expected = entries["expression_basis"][names.index(name)]
        np.testing.assert_array_equal(head.arrays.shapedirs[:N_VERTICES, :, 5 + k], expected)


def test_the_root_turns_the_head_rigidly_about_the_origin(head):
    """And without pose correctives, which the turn of the neck by the same rotvec has."""
    x = torch.zeros(1, head.n_parameters, dtype=torch.float64)
    rotvec = torch.tensor([[0.4, -0.8, 0.3]], dtype=torch.float64)
    turned = head.pack({"global_orient": rotvec}, like=x)
    rigid = head.points(x) @ partfit.geometry.rotations.rotvec_to_matrix(rotvec).transpose(1, 2)
    torch.testing.assert_close(head.points(turned), rigid, rtol=0, atol=1e-12)
    neck = head.pack({"neck_pose": rotvec}, like=x)
    lengths = [torch.cdist(head.points(y)[:, :50], head.points(y)[:, :50]) for y in (x, neck)]
    assert (lengths[0] - lengths[1]).abs().max() > 1e-4


def test_zero_correctives_as_in_the_published_file_are_left_out(light, tmp_path, head):
    none = {**light, "pose_correctives_regressor": np.zeros_like(light["pose_correctives_regressor"])}
    write_gnm(tmp_path / "gnm_head.npz", none)
    model = gnm(tmp_path / "gnm_head.npz")
    assert model.arrays.posedirs is None
    assert head.arrays.posedirs is not None
    rigid = torch.zeros(1, model.n_parameters, dtype=torch.float64)
    torch.testing.assert_close(model.points(rigid), head.points(rigid))


def test_a_converted_file_loads_alike(light, tmp_path):
    write_gnm(tmp_path / "gnm_head.npz", light)
    converted = tmp_path / "gnm_head.safetensors"
    write_model_file(converted, read_model_file(tmp_path / "gnm_head.npz").entries, {})
    one, other = gnm(tmp_path / "gnm_head.npz"), gnm(converted)
    x = states(one)
    torch.testing.assert_close(other.points(x), one.points(x), rtol=0, atol=1e-12)
    assert other.group("expression").names == one.group("expression").names


def test_a_root_may_be_its_own_parent(light, tmp_path, head):
    write_gnm(tmp_path / "gnm_head.npz", {**light, "joint_parent_indices": np.array([0, 0, 1, 1])})
    parents = gnm(tmp_path / "gnm_head.npz").arrays.parents
    assert parents == head.arrays.parents == (-1, 0, 1, 2, 2)


def test_colors_and_regions(head, entries):
    groups = dict(zip(entries["vertex_group_names"], entries["vertex_groups"], strict=True))
    assert set(head.topology.regions) == {name for name, members in groups.items() if members.any()}
    colors = head.topology.colors
    assert colors is not None
    white = colors[head.topology.region("scleras")]
    assert (white.min(axis=1) > 0.8).all()
    assert (colors[head.topology.region("irises")].max(axis=1) < 0.5).all()
    skin = colors[head.topology.region("skin")]
    assert {*map(tuple, skin)} == {SKIN, BROW}


def test_brows_are_dark_and_lie_above_the_eyes_alike_on_both_sides(head, entries):
    colors, vertices = head.topology.colors, entries["template_vertex_positions"].astype(float)
    brows = vertices[(colors == BROW).all(axis=1)]
    eyes = entries["template_joint_positions"][2:]
    left = brows[:, 0] > 0
    assert max(BROW) < 0.3 < min(SKIN)
    assert left.sum() > 10
    assert (brows[:, 1] > eyes[:, 1].max() + 0.01).all()
    assert (brows[:, 2] > 0).all()
    np.testing.assert_allclose(brows[left].mean(axis=0), brows[~left].mean(axis=0) * [-1, 1, 1], atol=2e-3)
    assert abs(brows[left, 0].mean() - eyes[0, 0]) < 0.015


def test_a_transparent_cornea_takes_the_colour_that_it_covers(entries, light, tmp_path):
    front = (entries["vertex_groups"][1] > 0) & (entries["template_vertex_positions"][:, 2] > 0.06)
    names = [*entries["vertex_group_names"], "eye_exteriors"]
    groups = {
        "vertex_group_names": np.array(names),
        "vertex_groups": np.concatenate([entries["vertex_groups"], front[None]]).astype(np.float32),
    }
    write_gnm(tmp_path / "gnm_head.npz", {**light, **groups})
    colors = gnm(tmp_path / "gnm_head.npz").topology.colors
    # the left iris lies before the ball's other half, which is white
    assert colors is not None
    assert (colors[front].min(axis=1) > 0.8).all()


def test_texture_coordinates_are_those_of_the_corners(head, entries):
    topology = head.topology
    assert topology.uv is not None
    np.testing.assert_allclose(topology.uv[topology.uv_faces], entries["triangle_uvs"], atol=1e-7)


@pytest.mark.parametrize("size", [0.3, 3.0])
def test_the_jacobian_is_that_of_automatic_differentiation(head, size):
    x = states(head, size=size)
    rng = np.random.default_rng(0)
    corners = head.topology.faces[rng.integers(0, len(head.topology.faces), 40)]
    joints = np.tile(N_VERTICES + np.arange(4)[:, None], (1, 3))
    rows = np.concatenate([corners, joints])
    scheme = LandmarkScheme("inside44", [f"p{i}" for i in range(44)])
    embedding = LandmarkEmbedding(scheme, head.topology.name, rows, rng.dirichlet(np.ones(3), 44))
    projection = torch.randn(2, 44, 2, 3, dtype=torch.float64)
    own = head.landmarks(embedding, x).linearize(x)
    automatic = ForwardModeLandmarks(head, embedding, x).linearize(x)
    jacobians = [each.jacobian(projection, tuple(head.slices)) for each in (own, automatic)]
    torch.testing.assert_close(*jacobians, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("option", [{"n_betas": 254}, {"n_expression": 0}, {"n_expression": 384}])
def test_options_out_of_range_are_refused(path, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        gnm(path, **option)
