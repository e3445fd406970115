import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from partfit.config import to_dict
from partfit.errors import ComponentError, ConfigError, InputError
from partfit.learning.batches import EvaluationBatches, TrainingBatches
from partfit.learning.checkpoint import load_checkpoint
from partfit.learning.curves import read_curves
from partfit.learning.datasets import SampleError
from partfit.learning.evaluation import evaluate
from partfit.learning.landmarker import CheckpointLandmarker
from partfit.learning.packing import PackedDataset, PackRule, pack
from partfit.learning.presets import preset, preset_names
from partfit.learning.states import latest_state, save_state
from partfit.learning.trainer import is_first
from partfit.learning.training import prepare, train
from partfit.learning.training_config import TrainConfig
from partfit.learning.training_module import TrainingError, TrainingModule
from partfit.registry import Registry
from partfit.testing.datasets import BlobDataset

BACKBONE = {"name": "mobilenetv3_small_050"}


@pytest.fixture
def registry(site):
    """The installed plugins, and the data sets `blobs`, `sheet` and `unreadable`."""
    site.install("blobs")
    return Registry()


def blobs(**layers):
    """A configuration of a small run on blobs, with other layers over it."""
    base = {
        "data": {
            "train": {"name": "blobs", "options": {"samples": 40}},
            "val": {"name": "blobs", "options": {"samples": 8, "seed": 1}},
        },
        "network": {"resolution": 64, "backbone": BACKBONE},
        "run": {"steps": 4, "batch_size": 8},
    }
    return TrainConfig.of_layers([base, layers])


def test_a_run_learns_and_writes_what_it_promises(registry, tmp_path):
    config = blobs(
        data={
            "train": {"options": {"samples": 64, "bad": [3, 7], "hidden": 0.3}},
            "val": {"options": {"hidden": 0.3}},
            "on_bad": "skip",
        },
        network={"visibility": True, "likelihood": {"name": "laplace"}},
        losses=[{"name": "visibility"}],
        run={"steps": 60, "batch_size": 16, "validate_every": 20, "log_every": 10},
        optimizer={"rate": 2e-3, "ema": 0.95},
        augmentation={"rotation": 0.0, "cutout": 0.0, "blur": 0.0},
        checkpoint={"part": "plate"},
    )
    report = train(config, tmp_path / "run", registry=registry)
    rows = read_curves(tmp_path / "run" / "metrics.jsonl")
    first, *_, last = (row for row in rows if row["curve"] == "train")
    assert last["loss"] < first["loss"] - 0.5
    assert report["data"]["train"] == {
        "samples": 62,
        "bad": 2,
        "bad_samples": [{"id": f"blobs-{k}", "problem": "expected blobs, found none."} for k in (3, 7)],
    }
    assert report["steps"] == 60
    assert report["samples"] == 960
    assert report["metrics"]["error_px"] < 2
    assert report["calibrated"]["rms_z"] == pytest.approx(1, abs=1e-3)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    assert (tmp_path / "run" / "samples.png").exists()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    checkpoint = load_checkpoint(tmp_path / "run" / "model.safetensors", registry=registry)
    assert checkpoint.part == "plate"
    # the file holds what was evaluated, which is the average
    data = [PackedDataset(folder, checkpoint.scheme) for folder in (tmp_path / "run" / "data").iterdir()]
    val = min(data, key=len)
    batches = EvaluationBatches(val, 16, 64, checkpoint.crop)
    again = evaluate(checkpoint.network, (batches[k] for k in range(len(batches))))
    assert again == pytest.approx(report["metrics"], rel=1e-5)


def test_a_wide_bottleneck_starts_within_the_directions_of_the_data(registry, tmp_path):
    """Shapes that only move, turn and grow have few directions, and none of the others gets any weight."""
    sheets = [{"name": "sheet", "options": {"samples": samples, "pairs": 40}} for samples in (80, 4)]
    config = TrainConfig.of_layers(
        [
            {**to_dict(blobs()), "data": {"train": sheets[0], "val": sheets[1]}},
            {"network": {"head": {"name": "linear", "options": {"rank": 70}}}},
            {"optimizer": {"rate": 1e-9}, "run": {"steps": 1}},
        ]
    )
    train(config, tmp_path, registry=registry)
    head = load_checkpoint(tmp_path / "model.safetensors", registry=registry).network.head
    deviations = head.layers[-1].maps[0].out.weight.norm(dim=0)
    assert deviations[0] > 0.1
    assert (deviations[8:] < 1e-4).all()


def test_mixed_precision(registry, tmp_path):
    config = blobs(run={"precision": "bf16-mixed"}, network={"likelihood": {"name": "resll-exp"}})
    report = train(config, tmp_path, registry=registry)
    assert np.isfinite(list(report["metrics"].values())).all()
    config = blobs(run={"precision": "16-mixed"})
    with pytest.raises(ConfigError, match=r"run.precision: 16-mixed needs a GPU"):
        train(config, tmp_path / "other", registry=registry)


def test_workers_change_nothing(registry, tmp_path):
    rows = []
    for workers in (0, 2):
        config = blobs(data={"workers": workers}, run={"log_every": 1})
        train(config, tmp_path / str(workers), registry=registry)
        rows.append((tmp_path / str(workers) / "metrics.jsonl").read_text())
    assert rows[0] == rows[1]


def test_runs_on_the_same_data_share_a_cache(registry, tmp_path):
    for name, rate in (("one", 1e-3), ("other", 1e-4)):
        config = blobs(data={"cache": str(tmp_path / "cache")}, optimizer={"rate": rate}, run={"steps": 1})
        train(config, tmp_path / name, registry=registry)
        packed = {path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/shard-*/images.npy")}
        assert len(list((tmp_path / "cache").iterdir())) == 2
        if name == "one":
            before = packed
    assert packed == before


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(registry, tmp_path):
    config = blobs(optimizer={"rate": 1e30}, run={"steps": 20, "save_every": 1})
    with pytest.raises(
        TrainingError, match=r"Step \d+: expected a finite (loss|gradient), found .*blobs-\d+"
    ):
        train(config, tmp_path, registry=registry)
    assert list((tmp_path / "state").glob("step-*.ckpt"))
    assert not (tmp_path / "model.safetensors").exists()


def test_a_bad_sample_stops_a_run_that_does_not_skip_it(registry, tmp_path):
    config = blobs(data={"train": {"options": {"bad": [5]}}})
    with pytest.raises(SampleError, match="blobs-5"):
        train(config, tmp_path, registry=registry)
    layer = {"data": {"on_bad": "skip"}}
    skipping = TrainConfig.of_layers([to_dict(config), layer])
    report = train(skipping, tmp_path, resume=True, registry=registry)
    assert report["data"]["train"]["samples"] == 39


def test_a_run_with_a_state_does_not_go_on_with_other_samples(registry, tmp_path, monkeypatch):
    config = blobs(data={"on_bad": "skip"}, run={"save_every": 1})
    read = BlobDataset.__getitem__

    def broken(dataset, index):
        if index == 5:
            raise SampleError("blobs-5", "not there yet.")
        return read(dataset, index)

    with monkeypatch.context() as patched:
        patched.setattr(BlobDataset, "__getitem__", broken)
        train(config, tmp_path, registry=registry)
    with pytest.raises(TrainingError, match=r"began with 39 usable samples .* there are 40"):
        train(config, tmp_path, resume=True, registry=registry)


def test_a_detector_that_finds_nothing_stops_a_run_before_its_first_step(registry, tmp_path):
    layers = {
        "data": {"val": {"options": {"samples": 12}}},
        "run": {"steps": 1},
        "checkpoint": {"detector": {"name": "brightness", "options": {"threshold": 255}}},
    }
    with pytest.raises(InputError, match=r"at least 10 pictures .* found 0"):
        train(blobs(**layers), tmp_path, registry=registry)
    assert not (tmp_path / "state").exists()
    # another one may take its place, and the part another name
    layers["checkpoint"] = {"detector": {"name": "brightness"}, "part": "plate", "weights": "float16"}
    train(blobs(**layers), tmp_path, resume=True, registry=registry)
    checkpoint = load_checkpoint(tmp_path / "model.safetensors", registry=registry)
    assert (checkpoint.part, checkpoint.regions.scale < 1) == ("plate", True)


def test_the_report_tells_how_good_the_network_is_behind_its_detector(registry, tmp_path):
    config = blobs(
        data={"val": {"options": {"samples": 12}}},
        run={"steps": 2},
        checkpoint={"detector": {"name": "brightness"}},
    )
    report = train(config, tmp_path, registry=registry)
    regions = load_checkpoint(tmp_path / "model.safetensors", registry=registry).regions
    told = report["regions"]
    assert (told["samples"], told["detected"]) == (12, 12)
    assert (told["scale"], tuple(told["shift"])) == (regions.scale, regions.shift)
    assert tuple(told["spread"]) == regions.spread
    log_scale, x, y = regions.spread
    assert min(regions.spread) > 0
    assert told["region_spread"] == pytest.approx([log_scale, x / regions.scale, y / regions.scale])
    # as the landmarker sees the regions that the detector finds
    val = registry.create("dataset", "blobs", samples=12, seed=1)
    landmarker = CheckpointLandmarker(
        CheckpointLandmarker.Config(path=tmp_path / "model.safetensors", refine=0, min_score=0)
    )
    detector, relative, pixels = registry.create("detector", "brightness"), [], []
    for k in range(12):
        sample = val[k]
        found = detector.detect([sample.image])
        ((detection,),) = landmarker.locate([sample.image], found)
        error = np.linalg.norm(detection.points - sample.points, axis=1).mean()
        x0, y0, x1, y1 = sample.box
        relative.append(error / np.sqrt((x1 - x0) * (y1 - y0)))
        pixels.append(error / regions.crop(found[0][0], config.crop, 64).size * 64)
    assert report["detector"]["error_box"] == pytest.approx(np.mean(relative), rel=1e-3)
    assert report["detector"]["error_px"] == pytest.approx(np.mean(pixels), rel=1e-3)
    assert set(report["detector"]) == {"error_box", "error_px"}


def test_a_run_without_a_detector_says_nothing_of_one(registry, tmp_path):
    config = blobs(data={"train": {"options": {"samples": 3}}}, run={"steps": 2})
    report = train(config, tmp_path, registry=registry)
    assert not {"regions", "detector"} & set(report)
    assert report["samples"] == 2 * 3  # fewer than a batch


@pytest.mark.parametrize("part", ["train", "val"])
def test_visibility_is_not_learnt_from_data_that_do_not_know_it(registry, tmp_path, part):
    sheet, visible = {"name": "sheet", "options": {"pairs": 9}}, {"name": "visible-sheet"}
    data = {"train": visible, "val": visible, part: sheet}
    config = TrainConfig.of_layers(
        [
            {**to_dict(blobs()), "data": data},
            {"network": {"visibility": True}, "losses": [{"name": "visibility"}]},
        ]
    )
    with pytest.raises(ConfigError, match=rf"network.visibility: expected data .* none in data.{part}"):
        train(config, tmp_path, registry=registry)


UNREADABLE = {"train": {"name": "unreadable"}, "val": {"name": "unreadable"}}


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ({"data": {"train": {"options": {"mirror": False}}}}, ConfigError, "cannot be flipped"),
        (
            {"data": {"val": {"options": {"pairs": 9}}}},
            ConfigError,
            r"1609 points.*sheet19.*19 points",
        ),
        ({"data": {"val": {"options": {"length": 0}}}}, ConfigError, r"data.val: expected samples"),
        ({"data": {"train": {"name": "unreadible"}}}, ComponentError, "Did you mean 'unreadable'"),
        ({"network": {"likelihood": {"name": "nlgl"}}}, ComponentError, "No loss named 'nlgl'. Did you mean"),
        (
            {"network": {"likelihood": {"name": "visibility"}}},
            ConfigError,
            "a loss that is a likelihood",
        ),
        (
            {"network": {"head": {"name": "linear", "options": {"x": 1}}}},
            ConfigError,
            "linear.x: unknown key",
        ),
        ({"network": {"backbone": {"name": "resnet51"}}}, ConfigError, "timm has no model"),
        ({"losses": [{"name": "edge-vertex"}]}, ComponentError, "No loss named 'edge-vertex'"),
        (
            {"checkpoint": {"detector": {"name": "nonsense"}}},
            ComponentError,
            "No detector named 'nonsense'",
        ),
    ],
)
def test_what_cannot_work_fails_before_a_sample_is_read(registry, tmp_path, layers, error, message):
    config = TrainConfig.of_layers([{**to_dict(blobs()), "data": UNREADABLE}, layers])
    with pytest.raises(error, match=message):
        train(config, tmp_path, registry=registry)
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test says is missing")
def test_a_device_that_is_not_there(registry, tmp_path):
    with pytest.raises(ConfigError, match="device: expected a device of this machine, found 'cuda'"):
        train(blobs(data=UNREADABLE), tmp_path / "run", device="cuda", registry=registry)
    assert not (tmp_path / "run").exists()


def test_a_folder_holds_one_run(registry, tmp_path):
    train(blobs(run={"steps": 1}), tmp_path, registry=registry)
    with pytest.raises(ConfigError, match="holds a run already"):
        train(blobs(run={"steps": 1}), tmp_path, registry=registry)
    with pytest.raises(ConfigError, match=r"holds a run with run.steps = 1, found 2"):
        train(blobs(run={"steps": 2}), tmp_path, resume=True, registry=registry)
    train(blobs(run={"steps": 1}, data={"workers": 1}), tmp_path, resume=True, registry=registry)


def test_missing_packages_are_named_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    for module in ("training", "trainer"):
        monkeypatch.delitem(sys.modules, f"partfit.learning.{module}")
    with pytest.raises(ComponentError, match=r'lightning.pytorch.*pip install "partfit\[train\]"'):
        import partfit.learning.training  # noqa: F401


def test_the_network_and_the_losses_follow_from_the_seed(registry):
    def weights(seed):
        parts = prepare(blobs(run={"seed": seed}, losses=[{"name": "resll"}]), registry)
        return [
            torch.cat([p.flatten() for p in part.parameters()]) for part in (parts.network, *parts.losses)
        ]

    with torch.random.fork_rng():
        one, same, other = weights(1), weights(1), weights(2)
    assert len(one) == 2
    assert all(len(values) for values in one)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.filterwarnings("ignore:.*meshgrid.*")
def test_weight_decay_is_for_weights_alone(registry, tmp_path):
    small = {"embed_dim": 24, "depths": [1, 1], "num_heads": [1, 2]}
    config = TrainConfig.of_layers(
        [
            {**to_dict(blobs()), "data": {"train": {"name": "sheet"}, "val": {"name": "sheet"}}},
            {
                "network": {
                    "backbone": {"name": "swinv2_tiny_window8_256", "options": small},
                    "head": {"name": "spiral"},
                },
                "optimizer": {"weight_decay": 0.1},
            },
        ]
    )
    parts = prepare(config, registry)
    folder = tmp_path / "packed"
    pack(parts.train, folder, PackRule.for_training(config.crop, config.augmentation, 64))
    data = PackedDataset(folder, parts.scheme)
    module = TrainingModule(
        config, parts.network, parts.losses, TrainingBatches(data, 2, 64, config.crop, config.augmentation, 0)
    )
    decay = {
        id(parameter): group["weight_decay"]
        for group in module.configure_optimizers()["optimizer"].param_groups
        for parameter in group["params"]
    }
    by_name = {name: decay.pop(id(parameter)) for name, parameter in module.network.named_parameters()}
    assert not decay
    decayed = {name for name, value in by_name.items() if value == 0.1}
    excepted = ("logit_scale", "cpb_mlp", "norm", "head.start")
    assert not [name for name in decayed if name.endswith("bias") or any(part in name for part in excepted)]
    for part in excepted:
        assert any(part in name for name in by_name)
    # and all maps that are no part of these
    linear = {
        f"{name}.weight"
        for name, layer in module.network.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and "cpb_mlp" not in name
    }
    assert decayed == linear


def test_what_a_killed_process_left_is_removed_with_the_next_state(tmp_path):
    (tmp_path / ".0123456789ab.ckpt").write_bytes(b"half")
    written = SimpleNamespace(
        global_step=7, is_global_zero=True, save_checkpoint=lambda path: path.write_bytes(b"whole")
    )
    save_state(tmp_path, written)
    assert [path.name for path in tmp_path.iterdir()] == ["step-7.ckpt"]
    assert latest_state(tmp_path).read_bytes() == b"whole"


def test_the_first_process_of_a_further_machine_is_not_the_first(monkeypatch):
    monkeypatch.delenv("NODE_RANK", raising=False)
    assert is_first()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_first()


#: Between them these have both heads, the Vertex-Edge loss and a flow; the others take longer.
QUICK = ("table-4.2/mobilenetv3-large+ve", "table-4.3/resnet50+spiral+ve")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in preset_names()]
)
def test_presets_train_at_the_full_number_of_landmarks(registry, tmp_path, name):
    layers = {
        "data": {"train": {"name": "sheet"}, "val": {"name": "sheet", "options": {"samples": 2}}},
        "network": {"resolution": 64, "backbone": {"pretrained": False}},
        "run": {"steps": 2, "batch_size": 2, "log_every": 1},
    }
    report = train(TrainConfig.of_layers([preset(name), layers]), tmp_path, registry=registry)
    assert report["network"]["landmarks"] == 1609
    rows = [row for row in read_curves(tmp_path / "metrics.jsonl") if row["curve"] == "train"]
    assert len(rows) == 2
    assert all(row["gradient"] > 0 and np.isfinite(row["loss"]) for row in rows)
    assert ("vertex-edge" in rows[0]) == name.endswith("+ve")
