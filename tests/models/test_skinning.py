"""The skinned model against 4x4 matrices, and its Jacobian against automatic differentiation."""

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from partfit.errors import InputError, ShapeError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import ParameterGroup, ParametricModel, SkinnedModel
from partfit.models.base import ForwardModeLandmarks
from partfit.testing.strategies import rotvecs
from partfit.testing.synthetic import JOINT_GROUPS, synthetic_embedding, synthetic_model

MODEL = synthetic_model()


def random_state(model, batch=3, seed=0, size=0.5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.n_parameters, generator=generator, dtype=torch.float64) * size


def reference_points(model, x):
    """Linear blend skinning with 4x4 matrices and scipy's rotations, one item at a time."""
    a, k = model.arrays, model.arrays.shapedirs.shape[-1]
    results = []
    for row in x.numpy():
        coefficients, poses, transl = row[:k], row[k:-3].reshape(-1, 3), row[-3:]
        rotations = Rotation.from_rotvec(poses).as_matrix()
        rest = a.v_template + a.shapedirs @ coefficients
        if a.posedirs is not None:
            rest = rest + a.posedirs @ (rotations[1:] - np.eye(3)).ravel()
        joints = a.joints + a.joint_dirs @ coefficients
        world = []
        for j, parent in enumerate(a.parents):
            local = np.eye(4)
            local[:3, :3] = rotations[j]
            local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
            world.append(world[parent] @ local if parent >= 0 else local)
        relative = []
        for j, transform in enumerate(world):
            back = np.eye(4)
            back[:3, 3] = -joints[j]
            relative.append(transform @ back)
        blended = np.einsum("nj,jab->nab", a.lbs_weights, np.stack(relative))
        homogeneous = np.concatenate([rest, np.ones((len(rest), 1))], axis=1)
        results.append(np.einsum("nab,nb->na", blended, homogeneous)[:, :3] + transl)
    return np.stack(results)


@pytest.mark.parametrize("posedirs", [True, False])
def test_points_equal_skinning_by_matrices(posedirs):
    model = synthetic_model(posedirs=posedirs)
    x = random_state(model)
    np.testing.assert_allclose(model.points(x).numpy(), reference_points(model, x), atol=1e-14)


def test_zero_parameters_give_the_template():
    points = MODEL.points(torch.zeros(1, MODEL.n_parameters, dtype=torch.float64))
    np.testing.assert_allclose(points[0].numpy(), MODEL.arrays.v_template, atol=1e-16)
    assert MODEL.vertices(torch.zeros(1, MODEL.n_parameters)).shape == (1, 300, 3)


def test_virtual_points_are_the_posed_joints():
    x = random_state(MODEL)
    torch.testing.assert_close(MODEL.points(x)[:, 300:], MODEL.joints(x), atol=1e-14, rtol=0)


@given(rotvecs(), st.integers(0, 1000))
def test_rigid_equivariance(r, seed):
    """Turning the root turns all points about the root joint, whatever the rest does."""
    x = random_state(MODEL, batch=1, seed=seed)
    x[:, MODEL.slices["global_orient"]] = 0
    turned = x.clone()
    turned[:, MODEL.slices["global_orient"]] = torch.as_tensor(r)
    turned[:, MODEL.slices["transl"]] += torch.tensor([0.1, -0.2, 0.3])
    root = MODEL.joints(x)[:, :1]
    rotation = torch.as_tensor(Rotation.from_rotvec(r).as_matrix())
    expected = (MODEL.points(x) - root) @ rotation.T + root + torch.tensor([0.1, -0.2, 0.3])
    torch.testing.assert_close(MODEL.points(turned), expected, atol=1e-13, rtol=0)


def test_batched_equals_looped():
    x = random_state(MODEL, batch=4)
    one_by_one = torch.cat([MODEL.points(row[None]) for row in x])
    torch.testing.assert_close(MODEL.points(x), one_by_one, atol=1e-14, rtol=0)


def pca_model():
    """The synthetic model with the last two joints driven by three components about a mean pose."""
    rng = np.random.default_rng(5)
    eyes = ParameterGroup("eyes", 3, "rotvec", basis=rng.normal(size=(6, 3)), offset=rng.normal(size=6))
    poses = [group for group in MODEL.poses if group.name not in ("leye_pose", "reye_pose")]
    return SkinnedModel(MODEL.arrays, MODEL.topology, MODEL.coefficients, [*poses, eyes])


@pytest.mark.parametrize("support", [1, 3])
@pytest.mark.parametrize("make_model", [synthetic_model, pca_model, lambda: synthetic_model(posedirs=False)])
@pytest.mark.parametrize("size", [0.0, 1e-8, 0.5, 3.0])
def test_closed_form_jacobian_equals_autodiff(make_model, support, size):
    model = make_model()
    embedding = synthetic_embedding(model, 20, support)
    x = random_state(model, size=size)
    projection = torch.randn(3, 20, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    closed = model.landmarks(embedding, x).linearize(x)
    automatic = ForwardModeLandmarks(model, embedding, x).linearize(x)
    torch.testing.assert_close(closed.points, automatic.points, atol=1e-13, rtol=0)
    for groups in (tuple(model.slices), ("global_orient", "transl"), ("expression",), ("jaw_pose", "betas")):
        torch.testing.assert_close(
            closed.jacobian(projection, groups),
            automatic.jacobian(projection, groups),
            atol=1e-11,
            rtol=1e-11,
        )


@given(rotvecs(), rotvecs())
def test_closed_form_jacobian_at_extreme_poses(root, jaw):
    x = random_state(MODEL, batch=1)
    x[:, MODEL.slices["global_orient"]] = torch.as_tensor(root)
    x[:, MODEL.slices["jaw_pose"]] = torch.as_tensor(jaw)
    embedding = synthetic_embedding(MODEL, 7, 2)
    eye = torch.eye(3, dtype=torch.float64).expand(1, 7, 3, 3)
    groups = tuple(MODEL.slices)
    closed = MODEL.landmarks(embedding, x).linearize(x).jacobian(eye, groups)
    automatic = ForwardModeLandmarks(MODEL, embedding, x).linearize(x).jacobian(eye, groups)
    torch.testing.assert_close(closed, automatic, atol=1e-10, rtol=1e-10)


def test_forward_mode_equals_reverse_mode():
    """The fall-back itself, against an independent mode of differentiation."""
    x = random_state(MODEL, batch=1)
    embedding = synthetic_embedding(MODEL, 5, 2)
    function = ForwardModeLandmarks(MODEL, embedding, x)
    eye = torch.eye(3, dtype=torch.float64).expand(1, 5, 3, 3)
    forward = function.linearize(x).jacobian(eye, tuple(MODEL.slices))
    reverse = torch.func.jacrev(lambda v: function.points(v).flatten())(x)[:, 0]
    torch.testing.assert_close(forward[0], reverse, atol=1e-12, rtol=0)


def test_landmarks_equal_the_embedding_applied_to_all_points():
    x = random_state(MODEL)
    embedding = synthetic_embedding(MODEL, 30, 3)
    expected = embedding.apply(MODEL.points(x).numpy())
    np.testing.assert_allclose(MODEL.landmarks(embedding, x).points(x).numpy(), expected, atol=1e-14)


def test_pack_and_unpack_are_inverse():
    x = random_state(MODEL)
    torch.testing.assert_close(MODEL.pack(MODEL.unpack(x), like=x), x)
    assert MODEL.pack({}, like=x).shape == (1, MODEL.n_parameters)
    with pytest.raises(InputError, match="no parameter group 'jaw'; it has betas, expression"):
        MODEL.pack({"jaw": torch.zeros(1, 3)}, like=x)
    with pytest.raises(ShapeError, match="jaw_pose"):
        MODEL.pack({"jaw_pose": torch.zeros(1, 4)}, like=x)


def test_canonical_keeps_the_points():
    x = random_state(MODEL, size=4.0)
    short = MODEL.canonical(x)
    assert short[:, MODEL.slices["global_orient"]].norm(dim=1).max() <= np.pi + 1e-12
    for name in JOINT_GROUPS:  # these have priors
        assert torch.equal(short[:, MODEL.slices[name]], x[:, MODEL.slices[name]])
    torch.testing.assert_close(MODEL.points(short), MODEL.points(x), atol=1e-12, rtol=0)


def test_an_embedding_of_another_topology_is_refused():
    other = synthetic_embedding(synthetic_model(seed=1), 5)
    with pytest.raises(InputError, match=r"synthetic-300-1.*topology 'synthetic-300-0'"):
        MODEL.landmarks(other, torch.zeros(1))
    beyond = LandmarkEmbedding(LandmarkScheme("one", ["p"]), MODEL.topology.name, [[305]], [[1.0]])
    with pytest.raises(InputError, match="point 305; the model has 305 points"):
        MODEL.landmarks(beyond, torch.zeros(1))


def test_inconsistent_arrays_are_refused():
    arrays = MODEL.arrays
    with pytest.raises(ShapeError, match="joint_dirs"):
        attrs.evolve(arrays, joint_dirs=arrays.joint_dirs[..., :-1])
    with pytest.raises(InputError, match="precede"):
        attrs.evolve(arrays, parents=(-1, 2, 0, 1, 1))
    with pytest.raises(InputError, match="sum to 1"):
        attrs.evolve(arrays, lbs_weights=arrays.lbs_weights * 2)
    with pytest.raises(InputError, match="cover 2 joints, the model has 5"):
        SkinnedModel(arrays, MODEL.topology, MODEL.coefficients, MODEL.poses[:2])
    with pytest.raises(InputError, match="shapedirs has 10"):
        SkinnedModel(arrays, MODEL.topology, MODEL.coefficients[:1], MODEL.poses)


def test_groups_are_checked():
    with pytest.raises(InputError, match="3 coordinates a joint"):
        ParameterGroup("pose", 4, "rotvec")
    with pytest.raises(InputError, match="lower limit"):
        ParameterGroup("betas", 1, lower=[1.0], upper=[0.0])
    with pytest.raises(ShapeError, match="prior_mean"):
        ParameterGroup("betas", 2, prior_mean=[0.0])
    with pytest.raises(InputError, match="2 names"):
        ParameterGroup("betas", 3, names=["a", "b"])
    with pytest.raises(InputError, match="'pose' has an offset but no basis"):
        ParameterGroup("pose", 3, "rotvec", offset=np.zeros(3))
    with pytest.raises(ShapeError, match=r"offset of 'pose': expected shape \(6,\), found \(2,\)"):
        ParameterGroup("pose", 2, "rotvec", basis=np.ones((6, 2)), offset=np.zeros(2))
    for shape in [(5, 2), (6, 3), (6,)]:
        with pytest.raises(ShapeError, match=r"basis of 'pose': expected shape \(3n, 2\)"):
            ParameterGroup("pose", 2, "rotvec", basis=np.ones(shape))
    root = np.array([[1.0, 2.0], [0.0, 3.0]])
    np.testing.assert_allclose(ParameterGroup("betas", 2, sqrt_information=root).information, root.T @ root)


def test_two_groups_of_one_name_are_refused():
    betas, expression = MODEL.coefficients
    expression = attrs.evolve(expression, name="betas")
    with pytest.raises(InputError, match=r"different names; found \['betas', 'betas', 'global_orient'"):
        SkinnedModel(MODEL.arrays, MODEL.topology, [betas, expression], MODEL.poses)
    wobble = Wobble()
    wobble.groups = (ParameterGroup("phase", 1), ParameterGroup("phase", 1))
    with pytest.raises(InputError, match="different names"):
        wobble.unpack(torch.zeros(1, 2))


def test_a_skinned_model_ends_with_its_own_translation():
    assert list(MODEL.slices)[-1] == "transl"
    betas, expression = MODEL.coefficients
    with pytest.raises(InputError, match="adds the group 'transl' itself"):
        SkinnedModel(
            MODEL.arrays, MODEL.topology, [betas, attrs.evolve(expression, name="transl")], MODEL.poses
        )


class Wobble(ParametricModel):
    """A model without skinning: one point on a curve, to be differentiated automatically."""

    groups = (ParameterGroup("phase", 1),)
    topology = attrs.evolve(MODEL.topology, name="wobble", n_vertices=1, virtual_points=())

    def points(self, x):
        return torch.stack([x.cos(), x.sin(), x * x], dim=-1)


def test_a_model_without_a_closed_form_gets_forward_mode():
    model, x = Wobble(), torch.tensor([[0.3], [2.0]], dtype=torch.float64)
    embedding = LandmarkEmbedding(LandmarkScheme("one", ["p"]), "wobble", [[0]], [[1.0]])
    eye = torch.eye(3, dtype=torch.float64).expand(2, 1, 3, 3)
    jacobian = model.landmarks(embedding, x).linearize(x).jacobian(eye, ("phase",))
    expected = torch.cat([-x.sin(), x.cos(), 2 * x], dim=1)[..., None]
    torch.testing.assert_close(jacobian, expected)
