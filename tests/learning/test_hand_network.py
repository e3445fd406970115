"""The example of a hand network: the same code trains it, checkpoints it and fits with it as with faces."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from partfit.cli import main
from partfit.learning.checkpoint import load_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = (
    "data.workers=1",
    "data.train.options.length=16",
    "data.val.options.length=20",
    "network.resolution=64",
    "run.samples=32",
    "run.batch_size=8",
    "run.precision='32'",
    "run.log_every=2",
    "run.validate_every=4",
    "run.save_every=4",
)


def run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("hand") / "run"
    options = [word for setting in SMALL for word in ("--set", setting)]
    run("train", EXAMPLES / "hand_network.toml", "--out", out, *options)
    return out / "model.safetensors"


def test_the_checkpoint_knows_its_part_and_side(model):
    checkpoint = load_checkpoint(model)
    assert (checkpoint.part, checkpoint.side) == ("hand", "right")
    assert len(checkpoint.scheme) == 21


def test_a_hand_is_fitted_with_it(model, tmp_path):
    given = f"checkpoint:{model}"
    options = ("--set", "landmarker.options.min_score=0.0", "--out", tmp_path)
    run("fit", EXAMPLES / "hand.png", "--part", "hand", "--landmarker", given, *options)
    report = json.loads((tmp_path / "hand-0.json").read_text())
    assert (report["part"], report["side"]) == ("hand", "right")
    assert report["landmarker"] == "checkpoint"
    assert (tmp_path / "hand-0.glb").exists()
