"""The page on cameras is what its script makes of the measured figures, and these are as it says."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = json.loads((ROOT / "benchmarks" / "camera.json").read_text())


def test_the_page_is_what_its_script_makes_of_the_figures(tmp_path):
    script = ROOT / "benchmarks" / "camera_page.py"
    subprocess.run([sys.executable, script, "--docs", tmp_path], check=True)
    assert (tmp_path / "cameras.md").read_text() == (ROOT / "docs" / "cameras.md").read_text()


def test_no_fit_failed():
    assert not any(row["failed"] for row in REPORT["distances"] + REPORT["off_centre"])


def test_distance_is_what_the_focal_length_matters_for():
    for noise in ("independent", "shared"):
        rows = [row for row in REPORT["distances"] if row["noise"] == noise and not row["deviation"]]
        for distance in {row["distance"] for row in rows if row["lens"] == "wide"}:
            by_focal = {
                row["focal"]: row for row in rows if row["lens"] == "wide" and row["distance"] == distance
            }
            exact, wrong = by_focal["exact"], by_focal["wrong"]
            assert wrong["depth_percent"] > exact["depth_percent"] + 10
            assert abs(wrong["form_mm"] - exact["form_mm"]) < 0.5


def test_a_crop_as_camera_turns_heads_that_are_off_the_axis():
    rows = {(row["noise"], row["degrees"], row["camera"]): row for row in REPORT["off_centre"]}
    for noise in ("independent", "shared"):
        assert rows[noise, 30, "crop, exact"]["rotation_deg"] > 20
        assert rows[noise, 30, "crop, exact"]["rotation_towards_deg"] < 6
        assert rows[noise, 30, "full, exact"]["rotation_deg"] < 4
