"""`partfit bench`: figures of this machine as JSON, none of which is judged here."""

import importlib.util
import json

import pytest
from click.testing import CliRunner

from partfit import bench
from partfit.cli import main


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "speed.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "SIZES", ((60, 1, 6, 4), (30, 3, 6, 4)))
        patch.setattr(bench, "BATCHES", (1, 2))
        patch.setattr(bench, "FITTERS_SIZE", (60, 1, 6, 4))
        done = CliRunner().invoke(main, ["bench", "--repeats", "1", "--out", str(file)])
    assert done.exit_code == 0, done.output
    return json.loads(file.read_text())


def test_every_size_and_batch_has_its_figures(report):
    rows = report["fit"]
    assert {(row["landmarks"], row["batch"]) for row in rows} == {(60, 1), (60, 2), (30, 1), (30, 2)}
    assert all(value > 0 for row in rows for value in row["ms_an_item"].values())
    for row in rows:
        timed = row["ms_an_item"]
        assert row["over_products"] == pytest.approx(timed["both_stages"] / timed["products"])
    assert "picture" not in report


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("theseus", "partfit_theseus")),
    reason="needs partfit-theseus and theseus-ai",
)
def test_theseus_is_timed_beside_lm_and_has_the_same_minimum(report):
    fitters = report["fitters"]
    names = {"lm", "closed_form", "autodiff", "autodiff_thesis"}
    assert set(fitters["ms"]) == set(fitters["iterations"]) == set(fitters["cost"]) == names
    assert max(fitters["cost"].values()) < 1.001 * min(fitters["cost"].values())
    milliseconds = fitters["ms"]
    for base, row in fitters["times_as_fast"].items():
        for name, ratio in row.items():
            assert ratio == pytest.approx(milliseconds[base] / milliseconds[name])
