"""ONNX files: another run-time gives the same answers."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from partfit.cli import main
from partfit.errors import ComponentError, OutputError
from partfit.landmarks import LandmarkScheme
from partfit.learning.backbones import BackboneConfig
from partfit.learning.calibration import Calibration
from partfit.learning.checkpoint import Checkpoint, save_checkpoint
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.learning.onnx_export import export_onnx
from partfit.pipeline_config import Choice

N, R = 9, 64


def make(name: str = "mobilenetv3_large_100", **options) -> Checkpoint:
    """A network whose answers depend on the crop as much as those of a trained one."""
    torch.manual_seed(0)
    backbone = BackboneConfig(name, features=options.pop("features", "vector"))
    scheme = LandmarkScheme("dots", [f"dot{i}" for i in range(N)])
    network = LandmarkNetwork(NetworkConfig(backbone, R, **options), scheme)
    network.train()
    for _ in range(20):
        network(torch.rand(4, 3, R, R))  # statistics of normalisation
    network.eval()
    with torch.no_grad():
        features = network.backbone(torch.rand(8, 3, R, R))
        spread = network.head(features)[..., :2].std(dim=0).mean()
        for part in network.head.layers[-1].maps:
            part.out.weight *= 0.1 / spread
    return Checkpoint(network, np.zeros((N, 2)), calibration=Calibration((1.5, 2.0), (3.0, 4.0)), part="face")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenetv3_large_100", {}),
        (
            "resnet10t",
            {
                "features": "spatial",
                "head": Choice("mlp", {"squeeze": 4, "rank": 6, "dropout": 0.5}),
                "likelihood": Choice("resll"),
                "visibility": True,
            },
        ),
    ],
)
def test_another_run_time_gives_the_same_answers(name, options, tmp_path):
    checkpoint, path = make(name, **options), tmp_path / "net.onnx"
    export_onnx(checkpoint, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["crops"]
    names = ["points", "scale", "visibility"][: 3 if options.get("visibility") else 2]
    assert [one.name for one in session.get_outputs()] == names
    generator = torch.Generator().manual_seed(5)
    for batch in (1, 2, 5):
        crops = torch.rand(batch, 3, R, R, generator=generator)
        found = session.run(None, {"crops": crops.numpy()})
        with torch.no_grad():
            distribution = checkpoint.network(crops)
            residual = checkpoint.network.likelihood.deviation()
        wanted = [distribution.mean, checkpoint.calibration.deviation(distribution, residual)]
        if options.get("visibility"):
            wanted.append(distribution.visibility.sigmoid())
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-4)
    assert np.abs(found[0][0] - found[0][1]).max() > 0.01  # they do depend on the crop


def test_the_file_says_what_it_is(tmp_path):
    checkpoint = make("resnet10t")
    export_onnx(checkpoint, tmp_path / "net.onnx")
    (entry,) = onnx.load(tmp_path / "net.onnx").metadata_props
    about = json.loads(entry.value)
    assert entry.key == "partfit"
    assert about["scheme"] == {"name": "dots", "version": "1", "hash": checkpoint.scheme.hash}
    assert (about["part"], about["crop"]["margin"]) == ("face", checkpoint.crop.margin)


def test_training_mode_is_left_as_it_was(tmp_path):
    checkpoint = make("resnet10t")
    checkpoint.network.train()
    export_onnx(checkpoint, tmp_path / "net.onnx")
    assert checkpoint.network.training


def test_the_command_line_converts_a_checkpoint(tmp_path):
    save_checkpoint(make("resnet10t"), tmp_path / "net.safetensors")
    source, target = str(tmp_path / "net.safetensors"), str(tmp_path / "new" / "net.onnx")
    done = CliRunner().invoke(main, ["convert", source, target])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{source}: wrote {target}",
        f"  crops (B, 3, {R}, {R}) to {N} landmarks dots",
    ]
    onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    done = CliRunner().invoke(main, ["convert", target, str(tmp_path / "again.onnx")])
    assert done.exit_code == 1
    assert "expected a checkpoint" in done.stderr


def test_a_network_that_onnx_cannot_express_is_refused(tmp_path):
    checkpoint = make("resnet10t")

    def counted(module, inputs, raw):  # a constant to the exporter, but not to the network
        return raw + 0.1 * int(inputs[0].shape[0] == 2)

    checkpoint.network.head.register_forward_hook(counted)
    with pytest.raises(OutputError, match=r"differ from the network's by 0\.1"):
        export_onnx(checkpoint, tmp_path / "net.onnx")
    checkpoint.network.head.register_forward_hook(lambda module, inputs, raw: torch.linalg.pinv(raw))
    with pytest.raises(OutputError, match="no form in ONNX"):
        export_onnx(checkpoint, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        export_onnx(make("resnet10t"), tmp_path / "net.bin")
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ComponentError, match=r'pip install "partfit\[export\]"'):
                export_onnx(make("resnet10t"), tmp_path / "net.onnx")
