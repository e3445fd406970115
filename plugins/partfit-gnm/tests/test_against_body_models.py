"""The same vertices and joints as body-models, over 200 random draws."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import partfit

CHUNK = 20
ALL_DRAWS = 200
POSES = ("neck_pose", "head_pose", "leye_pose", "reye_pose")


@pytest.fixture
def peers():
    return pytest.importorskip("body_models.gnm.torch")


def draws(n, dtype):
    """Root and joints turned by any angle up to half a turn."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(n, 5, 3))
    turns = axes / np.linalg.norm(axes, axis=2, keepdims=True) * rng.uniform(0, np.pi, (n, 5, 1))
    values = {
        "betas": rng.normal(size=(n, 253)),
        "expression": rng.normal(size=(n, 383)),
        "global_orient": turns[:, 0],
        **{name: turns[:, 1 + j] for j, name in enumerate(POSES)},
        "transl": rng.normal(size=(n, 3)) * 0.3,
    }
    return {name: torch.as_tensor(value, dtype=dtype) for name, value in values.items()}


def peer_of(peer, parameters, rotation):
    """Its `head_rotation` is that of the first joint, our `neck_pose`; its `global_rotation` our root's."""
    turns = rotation(torch.stack([parameters[name] for name in ("global_orient", *POSES)], dim=1))
    given = {
        "head_pose": turns[:, 2:],
        "head_rotation": turns[:, 1],
        "shape": parameters["betas"],
        "expression": parameters["expression"],
        "global_rotation": turns[:, 0],
        "global_translation": parameters["transl"],
    }
    return peer.forward_vertices(**given), peer.forward_skeleton(**given)[..., :3, 3]


def compare(model, peer, n, dtype, rotation, tolerance):
    everything = draws(n, dtype)
    for start in range(0, n, CHUNK):
        parameters = {name: value[start : start + CHUNK] for name, value in everything.items()}
        vertices, joints = peer_of(peer, parameters, rotation)
        points = model.points(model.pack(parameters, like=parameters["betas"]))
        assert vertices.dtype == dtype
        torch.testing.assert_close(points, torch.cat([vertices, joints], dim=1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("n", [4, pytest.param(ALL_DRAWS, marks=pytest.mark.slow)])
def test_single_precision(peers, path, n):
    model = partfit.create("model", "gnm-head", path=str(path), n_betas=253, n_expression=383)
    compare(model, peers.GNM(model_path=path), n, torch.float32, lambda turns: turns, 1e-5)


@pytest.mark.slow
def test_double_precision_by_rotation_matrices(peers, double_path):
    def matrices(turns):
        made = Rotation.from_rotvec(turns.reshape(-1, 3).numpy()).as_matrix()
        return torch.as_tensor(made).reshape(*turns.shape[:2], 3, 3)

    model = partfit.create("model", "gnm-head", path=str(double_path), n_betas=253, n_expression=383)
    peer = peers.GNM(model_path=double_path, rotation_type="rotmat")
    compare(model, peer, ALL_DRAWS, torch.float64, matrices, 1e-10)
