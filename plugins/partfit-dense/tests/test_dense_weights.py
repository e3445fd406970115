"""What the package says of its network is so: its size, its configuration, its figures on renders."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from skimage import data

import partfit
from partfit.config import from_dict
from partfit.learning.batches import EvaluationBatches
from partfit.learning.evaluation import evaluate
from partfit.learning.networks import NetworkConfig
from partfit.learning.packing import PackedDataset, PackRule, pack
from partfit_dense.landmarker import DenseLandmarker

WEIGHTS = Path(str(files("partfit_dense") / "dense.safetensors"))
TRAINING = Path(__file__).parents[1] / "training"


@pytest.fixture(scope="module")
def checkpoint():
    return DenseLandmarker().checkpoint


def test_the_weights_are_small():
    assert WEIGHTS.stat().st_size <= 12e6


def test_the_network_is_that_of_the_training_configuration(checkpoint):
    config = tomllib.loads((TRAINING / "dense.toml").read_text())
    assert checkpoint.network.config == from_dict(NetworkConfig, config["network"])
    assert checkpoint.facts["samples"] == config["run"]["samples"]
    report = json.loads((TRAINING / "report.json").read_text())
    assert report["metrics"] == checkpoint.facts["metrics"]
    assert report["config"]["data"]["train"]["options"] == config["data"]["train"]["options"]


def test_the_scheme_is_that_of_the_anny_head(checkpoint):
    pytest.importorskip("partfit_anny")
    assert checkpoint.scheme.hash == partfit.create("embedding", "anny-head/anny-face-ears").scheme.hash


def test_it_agrees_with_another_network_on_a_portrait():
    """With MediaPipe's, in the inner points of the mesh fitted to each: percent of the eyes' distance."""
    pytest.importorskip("partfit_anny")
    pytest.importorskip("partfit_mediapipe")
    points = []
    for landmarker in ("partfit-dense", "mediapipe-face"):
        (face,) = partfit.Pipeline(landmarker=landmarker)([data.astronaut()])[0]
        points.append(face.projected("ibug68")[17:])
    eyes = np.linalg.norm(points[1][19] - points[1][28])
    assert np.linalg.norm(points[0] - points[1], axis=1).mean() < 0.07 * eyes


@pytest.mark.slow
def test_renders_that_it_never_saw(checkpoint, tmp_path):
    """Scales as they are stated, and visibility that tells what is hidden in each picture."""
    pytest.importorskip("partfit_synthetic")
    pytest.importorskip("partfit_anny")
    options = tomllib.loads((TRAINING / "dense.toml").read_text())["data"]["val"]["options"]
    dataset = partfit.create("dataset", "synthetic", **{**options, "seed": 77, "length": 200})
    resolution = checkpoint.network.config.resolution
    pack(dataset, tmp_path, PackRule.for_evaluation(checkpoint.crop, resolution), workers=2)
    batches = EvaluationBatches(PackedDataset(tmp_path, dataset.scheme), 50, resolution, checkpoint.crop)
    figures = evaluate(checkpoint.network, (batches[k] for k in range(4)), checkpoint.calibration)
    assert figures["error_box"] < 0.05
    assert figures["visibility_auc"] > 0.9
    assert 0.85 < figures["rms_z"] < 1.15
