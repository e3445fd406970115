"""Networks that predict where a fit starts, and that learn through it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partfit import Pipeline
from partfit.config import read_table, write_toml
from partfit.errors import ConfigError
from partfit.fitting import Backward, FitProblem, LevenbergMarquardt, Stage
from partfit.fitting.lm import closed_form_start
from partfit.fitting.starts import placed, seen_pose, with_detected_starts
from partfit.geometry.camera import Camera
from partfit.geometry.crops import Crop
from partfit.images import load_picture
from partfit.landmarks import Detection, Region, Start
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.batches import EvaluationBatches, ModelTruth, TrainingBatches, seeded
from partfit.learning.checkpoint import load_checkpoint
from partfit.learning.crops import CropRule
from partfit.learning.curves import read_curves
from partfit.learning.datasets import SampleError
from partfit.learning.distribution import LandmarkDistribution
from partfit.learning.fit_task import FitTask
from partfit.learning.heads import FeatureShape
from partfit.learning.landmarker import CheckpointLandmarker
from partfit.learning.packing import PackedDataset, PackRule, cache_name, pack
from partfit.learning.start_head import StartHead
from partfit.learning.training import prepare, train
from partfit.learning.training_config import FitConfig, TrainConfig
from partfit.recipe import FitSettings
from partfit.registry import Registry

ROOT = Path(__file__).parents[2]
R = 64
CROP = CropRule(0.1, (0.05, 0.15))
MOVED = AugmentationConfig(horizontal_flip=0.0, rotation=0.8, scale=(0.8, 1.2), shift=0.1)


@pytest.fixture
def registry(site):
    site.install("toy")
    return Registry()


def toys(**layers):
    base = {
        "data": {
            "train": {"name": "toys", "options": {"length": 64}},
            "val": {"name": "toys", "options": {"length": 8, "seed": 1}},
        },
        "network": {"resolution": R, "backbone": {"name": "mobilenetv3_small_050"}},
        "fit": {"part": "toy"},
        "augmentation": {"horizontal_flip": 0.0},
        "run": {"steps": 2, "batch_size": 8},
    }
    return TrainConfig.of_layers([base, layers])


def batches(registry, folder, augmentation=MOVED, batch_size=16):
    folder, dataset = folder / "packed", registry.create("dataset", "toys")
    groups = FitTask(FitConfig("toy"), dataset.scheme, registry).groups
    pack(dataset, folder, PackRule.for_training(CROP, augmentation, R), groups=groups)
    packed = PackedDataset(folder, dataset.scheme)
    return TrainingBatches(packed, batch_size, R, CROP, augmentation, seed=0)


# -- cameras and truth of crops


def test_the_model_projects_onto_the_targets_of_turned_crops(registry, tmp_path):
    batch = batches(registry, tmp_path)[0]
    task = FitTask(FitConfig("toy"), registry.create("dataset", "toys").scheme, registry)
    x = batch.model.parameters.double()
    points = task.model.landmarks(task.layer.embedding, x).points(x)
    camera = Camera(*(t.double() for t in attrs.astuple(batch.crop_camera, recurse=False)))
    pixels = camera.project(points @ batch.turn.double().mT)
    targets = (batch.targets.points.double() + 0.5) * R - 0.5
    assert (pixels - targets).abs().max() < 1e-3
    angles = torch.atan2(batch.turn[:, 0, 1], batch.turn[:, 0, 0]).abs()
    assert angles.max() > 0.4


def test_a_seen_pose_is_placed_where_it_was_seen(registry):
    task = FitTask(FitConfig("toy"), registry.create("dataset", "toys").scheme, registry)
    rng = np.random.default_rng(0)
    x = torch.zeros(20, task.model.n_parameters, dtype=torch.float64)
    x[:, task.model.slices["betas"]] = torch.from_numpy(rng.normal(size=(20, 6)))
    turns = Rotation.random(20, random_state=0).as_rotvec()
    x[:, task.model.slices["global_orient"]] = torch.from_numpy(turns)
    away = rng.uniform([-0.5, -0.5, 0.8], [0.5, 0.5, 3], (20, 3))
    x[:, task.model.slices["transl"]] = torch.from_numpy(away)
    focal, principal = torch.from_numpy(rng.uniform(200, 900, 20)), torch.from_numpy(rng.normal(size=(20, 2)))
    camera = Camera(focal, 100 * principal, torch.full_like(principal, 256))
    landmarks = task.model.landmarks(task.layer.embedding, x)
    pose = seen_pose(task.model, landmarks, x, camera)
    again = placed(task.model, landmarks, x, pose, camera)
    torch.testing.assert_close(landmarks.points(again), landmarks.points(x), atol=1e-9, rtol=0)
    # whatever the camera, the mean of the landmarks is seen at that pixel, as large
    other = Camera(focal * 2, camera.principal + 50, camera.size)
    there = placed(task.model, landmarks, x, pose, other)
    torch.testing.assert_close(seen_pose(task.model, landmarks, there, other).pixel, pose.pixel)
    # the rotation is that of a camera which looks straight at the pixel
    straight = Camera(focal, pose.pixel, camera.size)
    turned = placed(task.model, landmarks, x, pose, straight)[:, task.model.slices["global_orient"]]
    matrices = torch.from_numpy(Rotation.from_rotvec(turned.numpy()).as_matrix())
    torch.testing.assert_close(matrices, pose.rotation)


def test_a_perfect_prediction_starts_the_fit_at_the_truth(registry, tmp_path):
    """Of turned crops, in the camera of the whole picture."""
    batch = batches(registry, tmp_path)[0]
    task = FitTask(FitConfig("toy", focal=True), registry.create("dataset", "toys").scheme, registry)
    head = StartHead(task.layout, FeatureShape(8), 30)
    truth = task.truth(batch)
    crops = [
        Crop(center, side, angle, resolution=R)
        for center, side, angle in zip(
            batch.to_picture(torch.zeros(16, 1, 2))[:, 0].tolist(),
            batch.side.tolist(),
            torch.atan2(batch.matrix[:, 1, 0], batch.matrix[:, 0, 0]).tolist(),
            strict=True,
        )
    ]
    starts = head.starts(truth.raw, crops)
    torch.testing.assert_close(torch.tensor([s.focal for s in starts]), batch.camera.focal, rtol=1e-5, atol=0)
    detections = [
        Detection(task.layer.embedding.scheme, np.zeros((30, 2)), np.ones((30, 2)), np.ones(30), start=start)
        for start in starts
    ]
    problem = FitProblem.from_detections(
        task.model, task.layer.embedding, detections, batch.camera, task.layer.stages
    )
    x = with_detected_starts(problem, detections).start
    points = task.model.landmarks(task.layer.embedding, x).points
    torch.testing.assert_close(points(x), points(batch.model.parameters), atol=2e-5, rtol=0)
    # seen half as large
    halved = Camera(batch.camera.focal / 2, (batch.camera.principal + 0.5) / 2 - 0.5, batch.camera.size)
    smaller = [detection.mapped(0.5) for detection in detections]
    problem = attrs.evolve(problem, camera=halved)
    torch.testing.assert_close(with_detected_starts(problem, smaller).start, x, atol=1e-4, rtol=0)
    # a mirrored crop shows another part
    assert head.starts(truth.raw[:1], [attrs.evolve(crops[0], mirror=True)]) == [None]


def test_only_detections_with_a_start_for_the_model_begin_there(registry, tmp_path):
    batch = batches(registry, tmp_path, batch_size=3)[0]
    task = FitTask(FitConfig("toy"), registry.create("dataset", "toys").scheme, registry)
    start = Start("synthetic-300-0", {"betas": np.ones(6)}, np.diag([1.0, -1, -1]), [48, 48], 2e-3)
    foreign = attrs.evolve(start, topology="other")
    larger = attrs.evolve(start, coefficients={"betas": [1.0]})
    points = batch.to_picture(batch.targets.points).numpy()
    found = [
        Detection(task.layer.embedding.scheme, points[k], np.ones((30, 2)), np.ones(30), start=one)
        for k, one in enumerate((foreign, start, larger))
    ]
    problem = FitProblem.from_detections(
        task.model, task.layer.embedding, found, batch.camera, task.layer.stages
    )
    own = with_detected_starts(problem, found).start
    closed = closed_form_start(problem)
    assert torch.equal(own[[0, 2]], closed[[0, 2]])
    assert (own[1, task.model.slices["betas"]] == 1).all()
    without = [attrs.evolve(detection, start=None) for detection in found]
    assert with_detected_starts(problem, without) is problem


# -- training


def test_a_run_learns_landmarks_and_starts_and_through_the_fit(registry, tmp_path):
    config = toys(
        run={"steps": 24, "batch_size": 16, "log_every": 6, "validate_every": 0},
        optimizer={"rate": 2e-3},
        fit={"warmup": 0.5, "focal": True},
        augmentation={"rotation": 0.2, "cutout": 0.0, "blur": 0.0},
    )
    report = train(config, tmp_path / "run", registry=registry)
    rows = [row for row in read_curves(tmp_path / "run" / "metrics.jsonl") if row["curve"] == "train"]
    assert rows[-1]["nll"] < rows[0]["nll"] - 0.3
    assert rows[-1]["start"] < rows[0]["start"]
    assert "vertices" not in rows[1]
    assert np.isfinite(rows[-1]["vertices"])
    metrics = report["metrics"]
    assert {"start_mm", "fit_mm", "fit_converged", "fit_iterations"} < metrics.keys()
    assert metrics["fit_converged"] > 0.5
    # the file holds what was evaluated
    checkpoint = load_checkpoint(tmp_path / "run" / "model.safetensors", registry=registry)
    layout = checkpoint.network.start.layout
    assert (layout.topology, layout.focal) == ("synthetic-300-0", True)
    assert [group.name for group in layout.groups] == ["betas", "expression"]
    task = FitTask(config.fit, checkpoint.scheme, registry)
    val = min((PackedDataset(f, checkpoint.scheme) for f in (tmp_path / "run" / "data").iterdir()), key=len)
    again = task.evaluate(checkpoint.network, EvaluationBatches(val, 16, R, checkpoint.crop).on("cpu"))
    assert again == pytest.approx({name: metrics[name] for name in again}, rel=1e-3)


@pytest.fixture
def step(registry, tmp_path):
    """A network that knows nothing yet, its task and a batch."""
    config = toys()
    parts = prepare(config, registry)
    batch = batches(registry, tmp_path, batch_size=6)[0]
    mean = batch.targets.points.mean(dim=0)
    parts.network.head.initialise(mean, torch.zeros(0, 30, 2))
    parts.network.start.initialise(parts.fit.model, mean, parts.fit.truth(batch))
    return parts.network, parts.fit, batch


def test_the_loss_of_vertices_reaches_scales_and_backbone(step):
    network, task, batch = step
    distribution = network(batch.images)
    losses = task.losses(network, distribution, batch, fitted=True)
    wanted = [distribution.mean, distribution.log_scale, *network.backbone.parameters()]
    gradients = torch.autograd.grad(losses["vertices"], wanted, allow_unused=True)
    assert all(g.isfinite().all() for g in gradients if g is not None)
    by_points, by_scale, *by_backbone = gradients
    assert (by_points.flatten(1).norm(dim=1) > 0).all()
    assert (by_scale.flatten(1).norm(dim=1) > 0).all()
    assert any(g is not None and g.norm() > 0 for g in by_backbone)
    assert losses.keys() == {"start", "vertices"}


def test_without_the_fit_landmarks_learn_from_their_likelihood_alone(step):
    network, task, batch = step
    distribution = network(batch.images)
    losses = task.losses(network, distribution, batch, fitted=False)
    assert losses.keys() == {"start"}
    wanted = [distribution.mean, distribution.log_scale]
    assert torch.autograd.grad(losses["start"], wanted, allow_unused=True) == (None, None)


def test_the_gradient_through_the_fit_is_that_of_finite_differences(step):
    network, task, batch = step
    task.layer.backward_rule = Backward()
    task.layer.fitter = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-14))
    with torch.no_grad():
        start, log_scale = (getattr(network(batch.images), name).double() for name in ("start", "log_scale"))
    batch = as_doubles(batch)
    noise = torch.randn(batch.targets.points.shape, generator=seeded(1)).double()
    seen = LandmarkDistribution(batch.targets.points + 0.01 * noise, log_scale, start=start)

    def loss(scale):
        changed = attrs.evolve(seen, log_scale=seen.log_scale.clone())
        changed.log_scale[2, 7, 1] = scale
        start = task.start(network, network.start.prediction(seen.start), batch)
        return task.vertex_errors(task.fit(network, changed, batch, start).x, batch).mean()

    scale = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    loss(scale).backward()
    with torch.no_grad():
        numeric = (loss(scale + 1e-4) - loss(scale - 1e-4)) / 2e-4
    assert scale.grad.item() == pytest.approx(numeric.item(), rel=1e-3)


def as_doubles(batch):
    model = ModelTruth(batch.model.parameters.double(), batch.model.intrinsics.double())
    targets = attrs.evolve(batch.targets, points=batch.targets.points.double())
    return attrs.evolve(
        batch, images=batch.images.double(), matrix=batch.matrix.double(), targets=targets, model=model
    )


def test_a_predicted_start_is_where_the_fit_begins(registry, tmp_path):
    train(toys(run={"steps": 1, "validate_every": 0}), tmp_path / "run", registry=registry)
    landmarker = CheckpointLandmarker(
        CheckpointLandmarker.Config(path=tmp_path / "run" / "model.safetensors", min_score=0.0)
    )
    sample = registry.create("dataset", "toys", seed=1)[0]
    low, high = sample.box[:2], sample.box[2:]
    region = Region(tuple((low + high) / 2), tuple(high - low))
    ((detection,),) = landmarker.locate([sample.image], [[region]])
    assert detection.start.topology == "synthetic-300-0"
    standing = FitSettings((Stage(("betas", "global_orient", "transl"), iterations=0),))
    pipeline = Pipeline("toy", landmarker=landmarker, settings=standing, registry=registry)
    picture = load_picture(sample.image)
    ((instance,),) = pipeline.fit([picture], [[detection]])
    # nothing moved: the mean of the landmarks is seen where the network says
    points = instance.result.landmarks().mean(dim=1, keepdim=True)
    np.testing.assert_allclose(instance.camera.project(points)[0, 0], detection.start.pixel, atol=1e-2)
    np.testing.assert_allclose(instance.parameters["betas"], detection.start.coefficients["betas"], atol=1e-5)


# -- what is refused, and what stays


def test_flips_are_refused():
    with pytest.raises(ConfigError, match="cannot be flipped where a fit is learnt"):
        toys(augmentation={"horizontal_flip": 0.5})


def test_samples_without_parameters_are_refused(registry, tmp_path):
    config = toys(data={"train": {"options": {"parameters": False}}})
    with pytest.raises(SampleError, match=r"toy-0.*parameters betas \(6\), .*found none"):
        train(config, tmp_path / "run", registry=registry)


def test_an_unknown_region_is_refused(registry):
    with pytest.raises(ConfigError, match="no region 'nose'"):
        prepare(toys(fit={"region": "nose"}), registry)


def test_what_is_packed_without_parameters_keeps_its_name(registry):
    dataset, rule = registry.create("dataset", "toys"), PackRule(1.2, 64)
    assert cache_name(dataset, rule) != cache_name(dataset, rule, groups={"betas": 6})
    assert cache_name(dataset, rule) == cache_name(dataset, rule, groups={})


# -- the example and the benchmark


def test_the_example_is_a_configuration():
    config = TrainConfig.of_layers([read_table(ROOT / "examples" / "end_to_end.toml")])
    assert config.fit.part == "face"
    assert 0 < config.fit.warmup < 1


@pytest.mark.slow
def test_the_benchmark_compares_networks_and_starts_and_goes_on(site, tmp_path):
    site.install("toy")
    write_toml(toys(run={"steps": 3, "validate_every": 0}), tmp_path / "toys.toml")
    script, report = ROOT / "benchmarks" / "end_to_end.py", tmp_path / "report.json"
    command = [sys.executable, script, "--out", tmp_path / "runs", "--report", report, "--renders", 20]
    command += ["--config", tmp_path / "toys.toml"]
    for _ in range(2):  # the second time nothing is trained
        done = subprocess.run(
            list(map(str, command)),
            env={**os.environ, "PYTHONPATH": str(site.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["networks"]
    assert [row["network"] for row in rows] == ["through", "apart"]
    for row in rows:
        whole = row["splits"]["all"]
        assert whole["crops"] == 20
        assert whole["starts"].keys() == {"predicted", "predicted, last stage", "closed form"}
        assert sum(row["splits"][name]["crops"] for name in row["splits"] if name.startswith("yaw")) == 20
    assert "through-0" not in done.stdout
