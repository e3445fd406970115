"""A body part of a third party, with two sides, without any change to the core."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from partfit.pipeline import Pipeline
from partfit.registry import Registry


def test_both_sides_are_fitted_through_the_pipeline(site):
    site.install("sided")
    own = [EntryPoint("sided", "fake_sided", "partfit.plugins")]
    registry = Registry([EntryPoint("core", "partfit.builtin", "partfit.plugins"), *own])
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
