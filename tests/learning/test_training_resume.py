"""Runs of `partfit train` that are stopped and go on, in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from partfit.config import read_toml
from partfit.learning.batches import TrainingBatches, shape_statistics
from partfit.learning.curves import read_curves
from partfit.learning.packing import PackedDataset
from partfit.learning.training import prepare
from partfit.learning.training_config import TrainConfig
from partfit.registry import Registry

HERE = Path(__file__).parent
# batch statistics, dropout, flows, one in a further loss, an average: all that has a state or is random
CONFIG = """
[data]
train = {name = "blobs", options = {samples = 80, hidden = 0.2}}
val = {name = "blobs", options = {samples = 4, seed = 1, hidden = 0.2}}

[network]
resolution = 64
visibility = true
backbone = {name = "mobilenetv3_small_050", options = {drop_rate = 0.2, drop_path_rate = 0.1}}
likelihood = {name = "resll-exp"}

[[losses]]
name = "visibility"
weight = 0.5

[[losses]]
name = "resll"
weight = 0.1

[run]
steps = 24
batch_size = 6
log_every = 3
validate_every = 8
save_every = 5
threads = 1

[optimizer]
name = "adamw"
rate = 1e-3
weight_decay = 0.01
clip = 10.0
ema = 0.9

[schedule]
name = "cosine"
warmup = 0.2
"""


@attrs.frozen
class Commands:
    """A process that runs `partfit` commands in forks of itself, see `forked_commands.py`."""

    process: subprocess.Popen
    folder: Path
    environment: dict

    def start(self, *arguments):
        """Start a command; returns its process's number."""
        line = json.dumps([str(self.folder / "output.txt"), *map(str, arguments)])
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def code(self):
        """The exit code of the command that was started, when it has ended."""
        return int(self.process.stdout.readline())

    @property
    def output(self):
        return (self.folder / "output.txt").read_text()

    def train(self, out, *options):
        """Train to the end."""
        self.start("train", self.folder / "config.toml", "--out", out, *options)
        assert self.code() == 0, self.output


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "config.toml").write_text(CONFIG)
    site = folder / "site"
    info = site / "partfit_fake_blobs-1.0.0.dist-info"
    info.mkdir(parents=True)
    for module in (HERE.parent / "fake_plugins" / "blobs").glob("*.py"):
        shutil.copy(module, site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: partfit-fake-blobs\nVersion: 1.0.0\n")
    (info / "entry_points.txt").write_text("[partfit.plugins]\nblobs = fake_blobs\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PARTFIT_PLUGINS", None)
    with subprocess.Popen(
        [sys.executable, str(HERE / "forked_commands.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield Commands(process, folder, environment)


@pytest.fixture(scope="module")
def undisturbed(commands):
    """The folder of a run that was left alone."""
    commands.train(commands.folder / "undisturbed")
    return commands.folder / "undisturbed"


def wait_until(happened, seconds=60):
    """Look as often as possible whether something has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.0005)


def same_runs(one, other):
    """Whether the networks, the rows of the curves and the figures of two runs are the same, bit for bit."""
    networks = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert networks[0].keys() == networks[1].keys()
    for name, array in networks[0].items():
        np.testing.assert_array_equal(array, networks[1][name], err_msg=name)
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    assert reports[0]["calibrated"] == reports[1]["calibrated"]


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(commands, undisturbed):
    out = commands.folder / "killed"
    moments = {
        "samples are being read": lambda: list(out.glob("data/*/*shard*")),
        "the first row is written": lambda: read_curves(out / "metrics.jsonl"),
        "a state is being written": lambda: list(out.glob("state/.*.ckpt")),
        "an evaluation is written": lambda: (out / "samples.png").exists(),
        "a later state is there": lambda: (out / "state" / "step-15.ckpt").exists(),
        "all steps are done": lambda: (out / "state" / "step-24.ckpt").exists(),
    }
    killed_after = []
    for moment, happened in moments.items():
        process = commands.start("train", commands.folder / "config.toml", "--out", out, "--resume")
        wait_until(happened)
        os.kill(process, signal.SIGKILL)
        assert commands.code() == -signal.SIGKILL, f"it ended before: {moment}\n{commands.output}"
        killed_after.append(len(read_curves(out / "metrics.jsonl")))
    assert len(set(killed_after)) > 2  # it was killed in different places
    commands.train(out, "--resume")
    same_runs(out, undisturbed)
    assert not list(out.rglob("state/.*"))  # what was half written
    assert not list(out.rglob("data/*/.*"))
    # and once more, of a run that is at its end
    before = (out / "model.safetensors").read_bytes()
    commands.train(out, "--resume")
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_stop_saves_its_state_and_says_how_to_go_on(commands, undisturbed, number):
    out = commands.folder / f"stopped-{number.name}"
    process = commands.start("train", commands.folder / "config.toml", "--out", out)
    wait_until(lambda: read_curves(out / "metrics.jsonl"))
    os.kill(process, number)
    assert commands.code() == 1
    told = commands.output.splitlines()[-1]
    assert told.startswith("error: Stopped after step "), commands.output
    step = int(told.split()[4])
    assert (out / "state" / f"step-{step}.ckpt").exists()
    command = told.partition("To go on: partfit ")[2].split()
    assert command == ["train", str(out / "partfit-train.toml"), "--out", str(out), "--resume"]
    commands.start(*command)
    assert commands.code() == 0, commands.output
    same_runs(out, undisturbed)


def test_two_states_are_kept_and_hold_plain_data(undisturbed):
    states = sorted((undisturbed / "state").iterdir())
    assert [path.name for path in states] == ["step-20.ckpt", "step-24.ckpt"]
    state = torch.load(states[-1], weights_only=True)
    assert state["global_step"] == 24
    assert any(name.startswith("average.") for name in state["state_dict"])
    assert any("flow" in name for name in state["state_dict"])


def test_steps_of_the_curves(undisturbed):
    rows = read_curves(undisturbed / "metrics.jsonl")
    steps = {
        curve: [row["step"] for row in rows if row["curve"] == curve] for curve in ("train", "validation")
    }
    assert steps == {"train": list(range(3, 25, 3)), "validation": [8, 16, 24]}


def trained_by_hand(folder, config, registry):
    """Weights before and after some steps of Adam, each along the mean gradient of two batches in turn."""
    with torch.random.fork_rng():
        parts = prepare(config, registry)
    data = max((PackedDataset(path, parts.scheme) for path in (folder / "data").iterdir()), key=len)
    batches = TrainingBatches(
        data, config.run.batch_size, 64, config.crop, config.augmentation, config.run.seed
    )
    network = parts.network.train()
    network.head.initialise(
        *shape_statistics(data, config.crop, config.augmentation, 64, seed=config.run.seed)
    )
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.rate)
    for step in range(config.run.steps):
        optimizer.zero_grad()
        for batch in (batches[2 * step], batches[2 * step + 1]):
            (network.likelihood(network(batch.images), batch.targets) / 2).backward()
        optimizer.step()
    return before, {name: parameter.detach() for name, parameter in network.named_parameters()}


#: Ways to start two processes that train together.
LAUNCHERS = {
    "lightning": ("-m", "partfit"),
    "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "partfit"),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_take_steps_along_their_mean_gradient(commands, monkeypatch, launcher):
    out, file = commands.folder / f"two-{launcher}", commands.folder / "plain.toml"
    file.write_text(
        """
        data.train = {name = "blobs", options = {samples = 40}}
        data.val = {name = "blobs", options = {samples = 4, seed = 1}}
        network = {resolution = 64, backbone = {name = "resnet10t"}, likelihood = {name = "laplace"}}
        run = {steps = 3, batch_size = 4, devices = 2, threads = 1}
        optimizer.rate = 1e-5
        """
    )
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[launcher], "train", file, "--out", out],
        env=commands.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((out / "report.json").read_text())["samples"] == 3 * 4 * 2
    assert [row["step"] for row in read_curves(out / "metrics.jsonl")] == [3, 3]
    monkeypatch.syspath_prepend(commands.folder / "site")
    config = read_toml(out / "partfit-train.toml", TrainConfig)
    before, expected = trained_by_hand(out, config, Registry())
    weights = load_file(out / "model.safetensors")
    # one by one they may differ: Adam makes steps of rounding errors where there is no gradient
    squares = np.array(
        [
            [np.sum((weights[f"network.{name}"] - after.numpy()) ** 2), (after - before[name]).square().sum()]
            for name, after in expected.items()
        ]
    )
    error, change = np.sqrt(squares.sum(axis=0))
    assert error < 0.1 * change  # as great as the change with the gradient of one process alone
