"""The page on the fit layer is what its script makes of the measured figures, and these are as it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import partfit

ROOT = Path(__file__).parents[1]
CASES = [
    case
    for problem in json.loads((ROOT / "benchmarks" / "gradients.json").read_text())["problems"]
    for case in problem["cases"]
]


def test_the_page_is_what_its_script_makes_of_the_figures(tmp_path):
    script = ROOT / "benchmarks" / "gradients_page.py"
    subprocess.run([sys.executable, script, "--docs", tmp_path], check=True)
    assert (tmp_path / "fit-layer.md").read_text() == (ROOT / "docs" / "fit-layer.md").read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['noise_px']}px-{case['kernel']}")
def test_what_the_page_says_holds(case):
    assert case["finite_differences"] < 1e-5
    errors = {
        (row["mode"], row.get("hessian"), row.get("steps")): row["points"]["error"] for row in case["lm"]
    }
    assert errors["implicit", "full", None] < 1e-8
    if case["noise_px"]:
        assert errors["implicit", "gauss-newton", None] > 1e-3
    rounding = 1e-9
    truncated = [max(error, rounding) for (mode, _, _), error in errors.items() if mode == "truncated"]
    assert truncated == sorted(truncated, reverse=True)


@pytest.mark.parametrize("name", ["mediapipe-face", "mediapipe-hand", "partfit-dense"])
def test_the_landmarkers_have_the_inflation_that_was_measured(name):
    reports = json.loads((ROOT / "benchmarks" / "inflation.json").read_text())
    (own,) = (report for report in reports if report["landmarker"] == name)
    inflation = partfit.create("landmarker", name).inflation
    low, high = own["photographs"]["interval"]
    assert low < inflation < high
    assert inflation == pytest.approx(own["photographs"]["factor"], rel=0.05)
