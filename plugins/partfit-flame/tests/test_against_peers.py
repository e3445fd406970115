"""The same vertices and joints as smplx and body-models, over 200 random draws."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import partfit
from partfit.geometry.camera import Camera
from partfit.models.contour import landmark_points

AT_ONCE = 50
N_BETAS, N_EXPRESSION = 100, 50
draw_counts = pytest.mark.parametrize("n_draws", [AT_ONCE, pytest.param(200, marks=pytest.mark.slow)])
POSES = ("global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose")


def draws(dtype, n_draws=AT_ONCE, seed=0):
    """Coefficients of the prior, rotations of any angle up to half a turn, translations."""
    rng = np.random.default_rng(seed)
    sizes = {"betas": N_BETAS, "expression": N_EXPRESSION, "transl": 3}
    values = {name: rng.normal(size=(n_draws, size)) for name, size in sizes.items()}
    for name in POSES:
        axes = rng.normal(size=(n_draws, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        values[name] = axes * rng.uniform(0, np.pi, (n_draws, 1))
    for start in range(0, n_draws, AT_ONCE):
        some = {name: torch.as_tensor(v[start : start + AT_ONCE], dtype=dtype) for name, v in values.items()}
        yield some


def own(path, **options):
    return partfit.create(
        "model", "flame", path=str(path), n_betas=N_BETAS, n_expression=N_EXPRESSION, **options
    )


@pytest.fixture(scope="module")
def model(folder, companions):
    return own(folder / "flame.npz", landmark_embedding=companions["landmark_embedding"])


def check(model, parameters, vertices, joints, tolerance):
    x = model.pack(parameters, like=parameters["betas"])
    points = model.points(x)
    expected = torch.cat([torch.as_tensor(vertices), torch.as_tensor(joints)], dim=1)
    torch.testing.assert_close(points, expected.to(points.dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(model.joints(x), points[:, -5:], rtol=0, atol=tolerance)


def matrices(rotvecs):
    return torch.as_tensor(Rotation.from_rotvec(rotvecs.numpy()).as_matrix())


def smplx_peer(folder, cls="FLAME", **options):
    smplx = pytest.importorskip("smplx")
    return getattr(smplx, cls)(
        model_path=str(folder), num_betas=N_BETAS, num_expression_coeffs=N_EXPRESSION, **options
    )


@draw_counts
def test_smplx_in_single_precision(folder, model, n_draws):
    peer = smplx_peer(folder)
    for parameters in draws(torch.float32, n_draws):
        with torch.no_grad():
            found = peer(**parameters)
        check(model, parameters, found.vertices, found.joints[:, :5], 1e-5)


@draw_counts
def test_smplx_in_double_precision_by_rotation_matrices(folder, model, n_draws):
    peer = smplx_peer(folder, "FLAMELayer", dtype=torch.float64)
    for parameters in draws(torch.float64, n_draws):
        by_matrices = {name: matrices(parameters[name])[:, None] for name in POSES}
        with torch.no_grad():
            found = peer(**{**parameters, **by_matrices})
        check(model, parameters, found.vertices, found.joints[:, :5], 1e-10)


@draw_counts
def test_body_models_in_single_precision(folder, model, n_draws):
    body_models = pytest.importorskip("body_models.flame.torch")
    peer = body_models.FLAME(model_path=folder / "flame.npz")
    for parameters in draws(torch.float32, n_draws):
        with torch.no_grad():
            vertices, joints = body_models_points(peer, parameters, lambda rotvecs: rotvecs)
        check(model, parameters, vertices, joints, 1e-5)


@draw_counts
def test_body_models_in_double_precision_by_rotation_matrices(folder, model, n_draws):
    body_models = pytest.importorskip("body_models.flame.numpy")
    peer = body_models.FLAME(model_path=folder / "flame.npz", rotation_type="matrix")
    # it multiplies the joint regressor out in single precision
    arrays, files = peer._assets, np.load(folder / "flame.npz")
    regressor, dirs = files["J_regressor"], files["shapedirs"]
    moved = np.einsum("jv,vdk->jdk", regressor, dirs, optimize=True)
    peer._assets = dataclasses.replace(
        arrays,
        j_template=regressor @ files["v_template"],
        j_shapedirs=moved[..., :300],
        j_exprdirs=moved[..., 300:],
    )
    for parameters in draws(torch.float64, n_draws):
        arrays = {name: value.numpy() for name, value in parameters.items()}
        vertices, joints = body_models_points(peer, arrays, lambda r: Rotation.from_rotvec(r).as_matrix())
        check(model, parameters, vertices, joints, 1e-10)


def body_models_points(peer, parameters, rotations):
    """Its `head_rotation` is our `global_orient`; its `global_rotation`, about the origin, is left out."""
    stack = torch.stack if isinstance(parameters["betas"], torch.Tensor) else np.stack
    given = {
        "head_pose": stack([rotations(parameters[name]) for name in POSES[1:]], 1),
        "head_rotation": rotations(parameters["global_orient"]),
        "shape": parameters["betas"],
        "expression": parameters["expression"],
        "global_translation": parameters["transl"],
    }
    return peer.forward_vertices(**given), peer.forward_skeleton(**given)[..., :3, 3]


def test_joints_from_shape_alone(folder, model):
    """By thesis eq. 3.7 expression moves no joint: smplx with the expression left out of the joints."""
    alone = own(folder / "flame.npz", joints_from="shape")
    parameters = next(draws(torch.float64))
    x = alone.pack({name: parameters[name] for name in ("betas", "expression")}, like=parameters["betas"])
    without = alone.pack({"betas": parameters["betas"]}, like=parameters["betas"])
    torch.testing.assert_close(alone.joints(x), alone.joints(without), rtol=0, atol=0)
    assert (model.joints(x) - alone.joints(x)).abs().max() > 1e-6
    # at rest the vertices do not know where the joints are
    torch.testing.assert_close(model.vertices(x), alone.vertices(x), rtol=0, atol=1e-12)


def test_the_contour_is_that_of_smplx(folder, model):
    """smplx sees the head from far along +z with y up, and takes the root for its neck: the neck is still."""
    peer = smplx_peer(folder, use_face_contour=True, batch_size=AT_ONCE)
    parameters = next(draws(torch.float32))
    yaws = np.linspace(-50, 50, AT_ONCE)
    others = np.random.default_rng(1).uniform(-20, 20, (AT_ONCE, 2))
    turns = Rotation.from_euler("YXZ", np.column_stack([yaws, others]), degrees=True)
    parameters["neck_pose"] = torch.zeros(AT_ONCE, 3)
    seen = {**parameters, "global_orient": torch.as_tensor(turns.as_rotvec(), dtype=torch.float32)}
    with torch.no_grad():
        found = peer(**{**seen, "transl": torch.zeros(AT_ONCE, 3)})
    # smplx appends 51 fixed points and 17 of the contour to its joints
    expected = torch.cat([found.joints[:, -17:], found.joints[:, -68:-17]], dim=1)
    half_turn = Rotation.from_rotvec([np.pi, 0, 0])
    before_camera = {
        **parameters,
        "global_orient": torch.as_tensor((half_turn * turns).as_rotvec()),
        "transl": torch.tensor([[0.0, 0.0, 1e4]]).expand(AT_ONCE, 3),
    }
    x = model.pack(before_camera, like=torch.zeros((), dtype=torch.float64))
    embedding, camera = model.embedding("ibug68"), Camera.for_images([(64, 64)] * AT_ONCE).to(x)
    assert len(set(embedding.choose(model, x, camera).tolist())) > 30
    points = landmark_points(model, embedding, x, camera)
    rest = x.clone()
    rest[:, model.slices["transl"]] = 0
    root = model.joints(rest)[:, :1]
    own_points = (points - model.joints(x)[:, :1]) * torch.tensor([1.0, -1.0, -1.0]) + root
    torch.testing.assert_close(own_points.float(), expected, rtol=0, atol=1e-5)
