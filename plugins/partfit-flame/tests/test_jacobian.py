"""The closed-form Jacobian at FLAME's embeddings equals automatic differentiation in float64."""

import math

import numpy as np
import pytest
import torch

import partfit
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme

POSES = ("global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose")


@pytest.fixture(scope="module", params=["shape+expression", "shape"])
def model(request, folder, companions):
    path = str(folder / "few.npz")
    options = {"n_betas": 20, "n_expression": 10, "joints_from": request.param, **companions}
    return partfit.create("model", "flame", path=path, **options)


def embedding_of(model, kind):
    if kind == "vertices":
        return model.embedding("flame-face-157")
    if kind == "triangles":
        return model.embedding("mediapipe105")
    contour = model.embedding("ibug68")
    if kind == "contour":
        scheme = LandmarkScheme("contour", [f"p{i}" for i in range(17)])
        rows = (contour.choices_indices[57], contour.choices_weights[57])
        return LandmarkEmbedding(scheme, "flame", *rows)
    # joints, and points between a joint and two vertices
    scheme = LandmarkScheme("joints", [f"p{i}" for i in range(10)])
    joints = 5023 + np.arange(5).repeat(2)
    indices = np.column_stack([joints, np.arange(10) * 500, np.arange(10) * 300])
    weights = np.tile([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2]], (5, 1))
    return LandmarkEmbedding(scheme, "flame", indices, weights)


def states(model, kind):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4, model.n_parameters))
    if kind == "extreme":
        x[:, : model.slices["global_orient"].start] *= 3
        angles = np.array([math.pi, math.pi - 1e-6, 1e-8, 0.0])[:, None]
        for name in POSES:
            axes = rng.normal(size=(4, 3))
            x[:, model.slices[name]] = axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles
    return torch.as_tensor(x)


@pytest.mark.parametrize("where", ["random", "extreme"])
@pytest.mark.parametrize("kind", ["vertices", "triangles", "contour", "joints"])
def test_the_jacobian_is_true(model, kind, where):
    x, embedding = states(model, where), embedding_of(model, kind)
    function = model.landmarks(embedding, x)
    n = len(embedding.scheme)
    projection = torch.as_tensor(np.random.default_rng(5).normal(size=(len(x), n, 2, 3)))
    at_x = function.linearize(x)
    np.testing.assert_allclose(at_x.points, embedding.apply(model.points(x).numpy()), rtol=0, atol=1e-12)
    for i, row in enumerate(x):
        automatic = torch.func.jacfwd(lambda one: function.points(one[None])[0])(row)
        expected = torch.einsum("lrd,ldc->lrc", projection[i], automatic).flatten(0, 1)
        own = at_x.jacobian(projection, tuple(model.slices))[i]
        torch.testing.assert_close(own, expected, rtol=1e-8, atol=1e-8)
