"""The page on the end-to-end network is what its script writes from a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "benchmarks" / "end_to_end.json"


def written(report, folder):
    command = [sys.executable, ROOT / "benchmarks" / "end_to_end_page.py", report, "--docs", folder]
    subprocess.run(command, check=True)
    return (folder / "end-to-end.md").read_text()


def split(error, crops=10):
    starts = {
        name: {"success": 0.5, "vertex_mm": error, "iterations": 6.0, "ms": 20.0}
        for name in ("predicted", "predicted, last stage", "closed form")
    }
    return {"crops": crops, "start_mm": 9.0, "rms_z": 1.1, "robust_z": 0.9, "starts": starts}


def test_the_tables_hold_means_over_seeds(tmp_path):
    made_of = {"backbone": "tiny", "parameters": {"backbone": 1e6}, "resolution": 64, "landmarks": 30}
    facts = {"made_of": made_of, "renders": 64, "samples": 128, "warmup": 0.5}
    networks = [
        {
            "network": name,
            "seed": seed,
            "seconds": seconds,
            **facts,
            "splits": {"all": split(error + seed), "yaw 60-90": {"crops": 0}},
        }
        for seed in (0, 1)
        for name, seconds, error in (("through", 180.0, 2.0), ("apart", 120.0, 3.0))
    ]
    machine = {"processor": "one", "threads": 2, "torch": "2"}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"machine": machine, "bound_mm": 6.0, "networks": networks}))
    page = written(report, tmp_path)
    assert "| all | 10 | 3.50 | 2.50 | 50.0% | 50.0% |" in page
    assert "1.50 times as long" in page
    assert "--seeds 0,1" in page
    assert "yaw 60-90" not in page


@pytest.mark.skipif(not COMMITTED.exists(), reason="not measured yet")
def test_the_page_is_that_of_the_figures(tmp_path):
    assert written(COMMITTED, tmp_path) == (ROOT / "docs" / "end-to-end.md").read_text()
