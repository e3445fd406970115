"""The two runtimes of the networks."""

import sys

import numpy as np
import pytest

from partfit.errors import ConfigError
from partfit.geometry.crops import Crop
from partfit_mediapipe.networks import LiteRTNetwork, TorchNetwork, litert_installed, load_network
from partfit_mediapipe.pictures import network_inputs

needs_litert = pytest.mark.skipif(not litert_installed(), reason="ai-edge-litert is not installed")

CROPS = [Crop((226, 116), 170, angle, resolution=192) for angle in (0.0, 0.2, -0.3)]


@needs_litert
def test_both_backends_place_the_same_landmarks(astronaut):
    inputs = network_inputs(astronaut, CROPS, low=0.0)
    points, presence = TorchNetwork("face_landmark")(inputs)
    other_points, other_presence = LiteRTNetwork("face_landmark")(inputs)
    assert points.shape == (3, 1404)
    assert np.abs(points).max() > 100
    np.testing.assert_allclose(points, other_points, atol=1e-2)
    np.testing.assert_allclose(presence, other_presence, atol=1e-3)


@needs_litert
def test_both_backends_see_the_same_boxes(astronaut):
    inputs = network_inputs(astronaut, [Crop((255.5, 255.5), 512, resolution=192), *CROPS], low=-1.0)
    boxes, logits = TorchNetwork("face_detection")(inputs)
    other_boxes, other_logits = LiteRTNetwork("face_detection")(inputs)
    assert (logits.max(axis=1) > 0).all()
    np.testing.assert_allclose(boxes, other_boxes, atol=1e-2)
    np.testing.assert_allclose(logits, other_logits, atol=1e-2)


@needs_litert
@pytest.mark.parametrize("variant", ["full", "lite"])
def test_both_backends_see_the_same_hand(hand_picture, variant):
    crops = [Crop((170, 210), 400, angle, resolution=224) for angle in (0.0, 0.3, -0.4)]
    inputs = network_inputs(hand_picture, crops, low=0.0)
    name = f"hand_landmark_{variant}"
    found, others = TorchNetwork(name)(inputs), LiteRTNetwork(name)(inputs)
    assert [output.shape for output in found] == [(3, 63), (3, 1), (3, 1), (3, 63)]
    assert np.abs(found[0]).max() > 100
    assert found[1].min() > 0.9  # presence
    for output, other, tolerance in zip(found, others, (1e-3, 1e-5, 1e-5, 1e-5), strict=True):
        np.testing.assert_allclose(output, other, rtol=0, atol=tolerance)


@needs_litert
def test_both_backends_see_the_same_palm(hand_picture):
    crop = Crop((159.5, 199.5), 400, resolution=192)
    inputs = network_inputs(hand_picture, [crop], low=0.0)
    boxes, logits = TorchNetwork("palm_detection")(inputs)
    other_boxes, other_logits = LiteRTNetwork("palm_detection")(inputs)
    assert boxes.shape == (1, 2016 * 18)
    assert logits.max() > 3
    np.testing.assert_allclose(boxes, other_boxes, rtol=0, atol=2e-3)
    np.testing.assert_allclose(logits, other_logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("backend", ["torch", pytest.param("litert", marks=needs_litert)])
def test_a_batch_gives_what_its_pictures_give_alone(astronaut, backend):
    network = load_network("face_landmark", backend)
    inputs = network_inputs(astronaut, CROPS * 2, low=0.0)
    together, _ = network(inputs)
    alone = np.concatenate([network(inputs[i : i + 1])[0] for i in range(len(inputs))])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_auto_takes_torch_where_litert_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert isinstance(load_network("face_landmark", "auto"), TorchNetwork)
    with pytest.raises(ConfigError, match="pip install ai-edge-litert"):
        load_network("face_landmark", "litert")


@needs_litert
def test_auto_takes_litert_where_it_is_installed():
    assert isinstance(load_network("face_landmark", "auto"), LiteRTNetwork)


def test_backends_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="'auto', 'torch' or 'litert', found 'onnx'"):
        load_network("face_landmark", "onnx")
    with pytest.raises(ConfigError, match="CPU only, found device 'cuda'"):
        load_network("face_landmark", "litert", "cuda")
