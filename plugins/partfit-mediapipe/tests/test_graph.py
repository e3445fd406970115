"""The operations of a graph against their definitions."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from partfit.errors import InputError
from partfit_mediapipe.graph import (
    Graph,
    GraphModule,
    Node,
    concatenate,
    conv,
    dense,
    depth_to_space,
    max_pool,
    mean,
    pad_channels,
    relu6,
    resize,
    rows,
    sigmoid,
)


def test_conv_pads_each_side_by_its_own_amount():
    rng = np.random.default_rng(0)
    picture, kernel = rng.normal(size=(6, 7)), rng.normal(size=(3, 3))
    padded = np.pad(picture, [(0, 1), (2, 0)])  # top, bottom; left, right
    expected = correlate2d(padded, kernel, mode="valid")[::2, ::2] + 0.5
    found = conv(
        torch.from_numpy(picture)[None, None],
        torch.from_numpy(kernel)[None, None],
        torch.tensor([0.5], dtype=torch.float64),
        stride=(2, 2),
        padding=(2, 0, 0, 1),
        groups=1,
        relu=False,
    )
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


def test_depth_to_space_puts_channel_blocks_on_sub_pixels():
    block, channels, height, width = 2, 3, 2, 5
    x = torch.randn(2, block**2 * channels, height, width, generator=torch.Generator().manual_seed(0))
    y = depth_to_space(x, block=block)
    assert y.shape == (2, channels, height * block, width * block)
    for row in range(block):
        for column in range(block):
            first = (row * block + column) * channels
            assert torch.equal(y[:, :, row::block, column::block], x[:, first : first + channels])


def test_resize_keeps_a_ramp_and_the_pixel_centres():
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    found = resize(ramp, size=(4, 12))[0, 0, 0]
    expected = (np.arange(12) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(found[1:-1], expected[1:-1], atol=1e-6)  # the ends are clamped


def test_max_pool_drops_an_incomplete_window():
    x = torch.tensor([[[[1.0, 2.0, 9.0], [4.0, 3.0, 9.0]]]])
    assert max_pool(x, size=(2, 2), stride=(2, 2)).tolist() == [[[[4.0]]]]


def test_pad_channels_and_rows_orders():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    padded = pad_channels(x, before=1, after=2)
    assert padded.shape == (1, 4, 2, 2)
    assert rows(padded).tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0]]


def test_relu6_and_sigmoid_are_what_their_names_say():
    x = torch.tensor([-1.0, 0.0, 2.5, 6.0, 7.0])
    assert relu6(x).tolist() == [0, 0, 2.5, 6, 6]
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x.numpy())), rtol=1e-6)


def test_mean_and_dense_layer():
    x = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert mean(x).tolist() == [[2.5, 8.5]]
    weight, bias = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]]), torch.tensor([0.5, 0.0, -1.0])
    assert dense(mean(x), weight, bias).tolist() == [[3.0, -3.5, 24.5]]


def test_rows_are_concatenated_for_each_picture():
    x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0], [6.0]])
    assert concatenate(x, y).tolist() == [[1, 2, 5], [3, 4, 6]]


def test_a_graph_file_is_read_back(tmp_path):
    weights = {"slope": np.array([0.5, 2.0], np.float16)}
    graph = Graph("x", ("z",), (Node("prelu", ("x", "slope"), "y"), Node("rows", ("y",), "z")), weights)
    graph.save(tmp_path / "graph.npz")
    module = GraphModule(Graph.load(tmp_path / "graph.npz"))
    (found,) = module(torch.tensor([[[[-2.0]], [[-3.0]]], [[[1.0]], [[4.0]]]]))
    assert found.tolist() == [[-1.0, -6.0], [1.0, 4.0]]


def test_another_npz_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(InputError, match="no entry 'graph'"):
        Graph.load(tmp_path / "other.npz")
