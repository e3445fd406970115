"""Checkpoints: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json
import pickle
from importlib.metadata import EntryPoint

import attrs
import numpy as np
import pytest
import safetensors.numpy
import torch

from partfit.errors import ComponentError, InputError, ModelFileError, OutputError
from partfit.landmarks import LandmarkScheme
from partfit.learning import checkpoint as checkpoints
from partfit.learning.backbones import BackboneConfig
from partfit.learning.calibration import Calibration
from partfit.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.pipeline_config import Choice
from partfit.registry import Registry

N = 6


def make(likelihood: str = "resll") -> Checkpoint:
    rng = np.random.default_rng(0)
    scheme = LandmarkScheme(
        "dots",
        [f"dot{i}" for i in range(N)],
        "3",
        [[0, 1, 2], [2, 3, 4]],
        [[0, 1], [4, 5]],
        [1, 0, 2, 3, 5, 4],
        positions=rng.normal(size=(N, 3)),
    )
    torch.manual_seed(0)
    config = NetworkConfig(
        BackboneConfig("mobilenetv3_small_050", features="spatial", options={"drop_rate": 0.1}),
        32,
        Choice("mlp", {"hidden": [8], "squeeze": 4}),
        Choice(likelihood),
        True,
    )
    network = LandmarkNetwork(config, scheme)
    network.train()(torch.rand(4, 3, 32, 32))  # statistics of normalisation other than the first ones
    with torch.no_grad():
        for parameter in network.likelihood.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return Checkpoint(
        network,
        rng.uniform(-0.4, 0.4, (N, 2)),
        CropRule(0.07, (0.01, 0.2)),
        RegionMap(1.3, (0.02, -0.1), (0.1, 0.2, 0.3)),
        Calibration((1.1, 1.2), (3.0, 4.0), 0.02),
        "face",
        None,
        {"steps": 12, "nested": {"seeds": [1, 2]}, "rate": 1e-4},
        np.array([0, 2]),
    )


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make()


@pytest.fixture
def path(checkpoint, tmp_path):
    path = tmp_path / "net.safetensors"
    save_checkpoint(checkpoint, path)
    return path


def answers(checkpoint: Checkpoint) -> list[torch.Tensor]:
    crops = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        distribution = checkpoint.network.eval()(crops)
        found = [distribution.mean, distribution.log_scale, distribution.visibility]
        return [*found, checkpoint.network.likelihood.deviation()]


def test_what_is_read_is_what_was_written(checkpoint, path):
    found = load_checkpoint(path)
    for field in attrs.fields(Checkpoint):
        if field.name not in ("network", "shape", "boxed"):
            assert getattr(found, field.name) == getattr(checkpoint, field.name)
    np.testing.assert_array_equal(found.shape, checkpoint.shape)
    np.testing.assert_array_equal(found.boxed, checkpoint.boxed)
    assert found.network.config == checkpoint.network.config
    assert not found.network.training
    for field in attrs.fields(LandmarkScheme):
        np.testing.assert_array_equal(
            getattr(found.scheme, field.name), getattr(checkpoint.scheme, field.name)
        )
    for one, other in zip(answers(found), answers(checkpoint), strict=True):
        assert torch.equal(one, other)


def test_a_written_checkpoint_asks_for_no_pretrained_weights(checkpoint, tmp_path):
    config = checkpoint.network.config
    options = {**config.backbone.options, "pretrained_cfg_overlay": {"file": "weights.safetensors"}}
    asked = attrs.evolve(config, backbone=attrs.evolve(config.backbone, pretrained=True, options=options))
    network = make().network
    network.config = asked
    save_checkpoint(attrs.evolve(checkpoint, network=network), tmp_path / "net.safetensors")
    assert load_checkpoint(tmp_path / "net.safetensors").network.config == config


def test_half_precision_halves_the_file(checkpoint, path, tmp_path):
    half = tmp_path / "half.safetensors"
    save_checkpoint(checkpoint, half, weights="float16")
    # what is not of the weights of layers is small, but not nothing in so small a network
    assert half.stat().st_size < 0.6 * path.stat().st_size
    kinds = {n: a.dtype for n, a in safetensors.numpy.load(half.read_bytes()).items()}
    for name, module in checkpoint.network.named_modules():
        for key, value in module.named_parameters(recurse=False):
            layer = isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and key == "weight"
            assert kinds[f"network.{name}.{key}"] == (np.float16 if layer else np.float32), (name, key)
            assert layer or value.ndim < 2 or "likelihood" in name
        for key, value in module.named_buffers(recurse=False):
            kind = np.float32 if value.is_floating_point() else np.int64
            assert kinds[f"network.{name}.{key}"] == kind, (name, key)
    found = load_checkpoint(half)
    assert {value.dtype for value in found.network.parameters()} == {torch.float32}
    for one, other in zip(answers(found), answers(checkpoint), strict=True):
        torch.testing.assert_close(one, other, rtol=5e-3, atol=5e-4)


def test_weights_beyond_half_precision_stay_as_they_are(checkpoint, tmp_path):
    network = make().network
    with torch.no_grad():
        network.head.layers[-1].maps[0].out.weight[0, 0] = 1e5
    save_checkpoint(
        attrs.evolve(checkpoint, network=network), tmp_path / "net.safetensors", weights="float16"
    )
    found = load_checkpoint(tmp_path / "net.safetensors").network
    assert found.head.layers[-1].maps[0].out.weight[0, 0] == 1e5


def test_it_is_data_with_its_description_in_plain_sight(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["partfit"])
    assert (header["format"], header["version"], header["part"]) == ("partfit-checkpoint", 1, "face")
    assert header["network"]["head"] == {"name": "mlp", "options": {"hidden": [8], "squeeze": 4}}
    assert header["components"]["loss"].startswith("partfit-likelihoods ")
    assert header["scheme"]["hash"] == make().scheme.hash
    assert len(safetensors.numpy.load(content)) > 10


def test_a_missing_or_other_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nothing.safetensors: expected a checkpoint.*no such file"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(3)}, other)
    with pytest.raises(ModelFileError, match=r"holds no checkpoint.*partfit train"):
        load_checkpoint(other)
    pickled = tmp_path / "net.pt"
    pickled.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ModelFileError, match=r"found \.pt"):
        load_checkpoint(pickled)
    pickled.rename(tmp_path / "net.safetensors")
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize("part", [0.3, 0.999])
def test_a_file_that_was_cut_off_is_refused(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(path)


def rewritten(path, change) -> None:
    """The same file with another header or other arrays."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["partfit"])
    arrays = safetensors.numpy.load(content)
    change(header, arrays)
    path.write_bytes(safetensors.numpy.save(arrays, {"partfit": json.dumps(header)}))


def forged(path, change) -> None:
    """As `rewritten`, with a digest that fits: made on purpose, not damaged."""

    def change_all(header, arrays):
        change(header, arrays)
        header.pop("hash")
        header["hash"] = checkpoints._digest(header, arrays)

    rewritten(path, change_all)


@pytest.mark.parametrize(
    "option",
    [
        {"checkpoint_path": "weights"},
        {"cache_dir": "cache"},
        {"pretrained_cfg_overlay": {"file": "weights"}},
        {"pretrained_cfg": "tag"},
        {"some_file": "/etc/passwd"},
        {"nested": {"file": "../weights.pth"}},
        {"nested": [{"checkpoint_path": "weights"}]},
        {"place": "local-dir:weights"},
    ],
)
def test_a_file_cannot_make_timm_read_others(path, option, monkeypatch):
    monkeypatch.setattr("timm.create_model", None)  # it is not even asked
    forged(path, lambda header, arrays: header["network"]["backbone"]["options"].update(option))
    with pytest.raises(ModelFileError, match=rf"backbone\.options\.{next(iter(option))}.*must not make timm"):
        load_checkpoint(path)


def test_a_large_network_of_a_small_file_is_never_made(path):
    """Its backbone and head would take gigabytes; their tensors without values take nothing."""

    def change(header, arrays):
        header["network"]["head"]["options"]["hidden"] = [2**36]

    forged(path, change)
    with pytest.raises(ModelFileError, match=r"weights 'head\.\S+' of the shape \(68719476736,"):
        load_checkpoint(path)


def test_crops_of_any_size_are_not_tried(path):
    forged(path, lambda header, arrays: header["network"].update(resolution=12000))
    with pytest.raises(ModelFileError, match="resolution: expected pixels, at most 2048, found 12000"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", ["missing", "more"])
def test_weights_that_are_missing_or_too_many_are_named(path, change):
    def apply(header, arrays):
        array = arrays["network.head.layers.0.bias"]
        if change == "missing":
            del arrays["network.head.layers.0.bias"]
        else:
            arrays["network.head.layers.0.other"] = array

    forged(path, apply)
    name = "bias' of the shape (4,), found none" if change == "missing" else "other' of the shape none, found"
    with pytest.raises(ModelFileError) as caught:
        load_checkpoint(path)
    assert name in str(caught.value)


def test_reading_draws_no_random_numbers(path):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("entry", "message"),
    [({"part": 7}, "part of a checkpoint is a name"), ({"facts": 3}, "facts of a checkpoint are a table")],
)
def test_entries_of_other_kinds_are_refused(path, entry, message):
    forged(path, lambda header, arrays: header.update(entry))
    with pytest.raises(ModelFileError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("components", [None, 3, ["loss"]])
def test_an_unknown_component_of_nowhere_is_an_error_in_words(path, components):
    def change(header, arrays):
        del header["components"]
        if components is not None:
            header["components"] = components
        header["network"]["head"]["name"] = "nonsense"

    forged(path, change)
    with pytest.raises(ComponentError, match=r"No head named 'nonsense'.*made with: nothing that it names"):
        load_checkpoint(path)


def test_a_changed_weight_is_noticed(path):
    def change(header, arrays):
        name = next(name for name in arrays if name.endswith("weight"))
        arrays[name].flat[0] += 1

    rewritten(path, change)
    with pytest.raises(ModelFileError, match="was changed"):
        load_checkpoint(path)


def test_a_changed_header_is_noticed(path):
    rewritten(path, lambda header, arrays: header["crop"].update(margin=0.3))
    with pytest.raises(ModelFileError, match="was changed"):
        load_checkpoint(path)


def test_a_later_version_is_refused(path):
    rewritten(path, lambda header, arrays: header.update(version=2))
    with pytest.raises(
        ModelFileError, match="a checkpoint of version 1, found 2: use the version of partfit"
    ):
        load_checkpoint(path)


def test_a_component_that_is_not_installed_is_named_with_where_it_came_from(path):
    core = Registry([EntryPoint("core", "partfit.builtin", "partfit.plugins")])
    with pytest.raises(ComponentError, match=r"No loss named 'resll'.*loss of partfit-likelihoods \d"):
        load_checkpoint(path, registry=core)


def test_a_failed_write_leaves_what_was_there(checkpoint, path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(attrs.evolve(checkpoint, facts={"what": object()}), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_used_is_not_written(checkpoint, tmp_path):
    network = make().network
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="finite weights, found NaN or infinity in 'backbone"):
        save_checkpoint(attrs.evolve(checkpoint, network=network), tmp_path / "net.safetensors")
    with pytest.raises(OutputError, match=r"ends in \.safetensors"):
        save_checkpoint(checkpoint, tmp_path / "net.pt")
    with pytest.raises(OutputError, match="Cannot write"):
        save_checkpoint(checkpoint, tmp_path / "nowhere" / "net.safetensors")
    for boxed in ([], [-1], [len(checkpoint.scheme)], [[0]]):
        with pytest.raises(InputError, match=r"boxed landmarks of .* indices in 0\.\."):
            attrs.evolve(checkpoint, boxed=boxed)
    with pytest.raises(InputError, match="side"):
        attrs.evolve(checkpoint, side="top")
    assert list(tmp_path.iterdir()) == []
