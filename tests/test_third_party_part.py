"""A body part of a third party, with two sides, without any change to the core."""

import json
import tomllib
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from partfit.pipeline import Pipeline
from partfit.pipeline_config import Choice, PipelineConfig
from partfit.registry import Registry
from partfit.testing.synthetic import synthetic_model


@pytest.fixture
def registry(site):
    site.install("sided")
    own = [EntryPoint("sided", "fake_sided", "partfit.plugins")]
    return Registry([EntryPoint("core", "partfit.builtin", "partfit.plugins"), *own])


def test_both_sides_are_fitted_through_the_pipeline(registry):
    (result,) = Pipeline("flap", registry=registry)(np.zeros((240, 320, 3), np.uint8))
    bends = {flap.side: flap.parameters["hinge"].item() for flap in result}
    assert bends == pytest.approx({"left": 0.4, "right": 0.9}, abs=0.02)
    assert {flap.model.topology.name for flap in result} == {"flap-left", "flap-right"}


def test_it_is_a_part_on_the_command_line(site, tmp_path):
    site.install("sided")
    from PIL import Image

    Image.new("RGB", (320, 240)).save(tmp_path / "grey.png")
    out = tmp_path / "out"
    done = site.run("fit", str(tmp_path / "grey.png"), "--part", "flap", "--out", str(out), plugins="sided")
    assert done.returncode == 0, done.stderr
    documents = [json.loads((out / f"grey-{k}.json").read_text()) for k in range(2)]
    assert sorted(document["side"] for document in documents) == ["left", "right"]
    assert all((out / f"grey-{k}.glb").exists() for k in range(2))
    assert documents[0]["names"] == {"hinge": ["bend"]}


@pytest.mark.parametrize("model", ["flap", Choice("flap"), Choice("fake-sided:flap", {"side": "left"})])
def test_the_recipe_of_a_model_comes_before_that_of_its_part(registry, model):
    own = Pipeline("flap", model=model, registry=registry)
    assert [stage.free for stage in own.settings.stages] == [("global_orient", "transl")]
    assert own.recipe.part == "flap"
    assert own.to_config().settings == own.settings
    again = Pipeline.from_config(own.to_config(), registry)
    assert again.settings == own.settings
    assert len(Pipeline("flap", registry=registry).settings.stages) == 2
    assert Pipeline("flap/flap", registry=registry).settings == own.settings


def test_a_table_is_laid_over_the_recipe_of_its_model(registry):
    config = PipelineConfig.from_table({"part": "flap", "model": {"name": "flap"}}, registry)
    assert len(config.settings.stages) == 1
    assert len(PipelineConfig.from_table({"part": "flap"}, registry).settings.stages) == 2


def test_a_model_given_as_an_object_takes_its_recipe_too(registry):
    own = Pipeline("flap", model=registry.create("model", "flap"), registry=registry)
    assert len(own.settings.stages) == 1
    other = Pipeline("flap", model=synthetic_model(), registry=registry)
    assert len(other.settings.stages) == 2


def test_a_model_chosen_beside_a_file_takes_its_recipe(site, tmp_path):
    site.install("sided")
    from PIL import Image

    Image.new("RGB", (320, 240)).save(tmp_path / "grey.png")
    (tmp_path / "run.toml").write_text('part = "flap"\nfocal = 400.0\n')
    command = ("fit", str(tmp_path / "grey.png"), "--config", str(tmp_path / "run.toml"), "--no-overlay")
    for chosen, n_stages in (((), 2), (("--model", "flap"), 1)):
        out = tmp_path / f"out{n_stages}"
        done = site.run(*command, *chosen, "--out", str(out), plugins="sided")
        assert done.returncode == 0, done.stderr
        written = tomllib.loads((out / "partfit.toml").read_text())
        assert len(written["settings"]["stages"]) == n_stages
        assert written["focal"] == 400.0
