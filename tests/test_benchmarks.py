"""The scripts of `benchmarks/` run, on labels made of the example pictures, and fill their page."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import partfit
from partfit import bench

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two portraits, one of them flipped, labelled with the points of their own fits."""
    folder = tmp_path_factory.mktemp("faces")
    portrait = Image.open(ROOT / "examples" / "astronaut.jpg")
    labels = []
    for name, image in {
        "a.png": portrait,
        "b.png": portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }.items():
        image.save(folder / name)
        (face,) = partfit.fit(folder / name)[0]
        labels.append({"image": name, "points": face.projected("ibug68").round().tolist()})
    (folder / "faces.json").write_text(json.dumps(labels))
    return folder / "faces.json"


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    """The rendered hand and its mirror image in turn, of which all is known."""
    folder = tmp_path_factory.mktemp("hands")
    data = ROOT / "plugins" / "partfit-mediapipe" / "tests" / "data"
    right, known = Image.open(data / "hand.png"), json.loads((data / "hand.json").read_text())
    points, points_3d = np.array(known["points"]), 100 * np.array(known["points_3d"])
    labels = []
    left = right.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for k in range(8):  # two folds of the calibration
        image, sign = (right, 1) if k % 2 else (left, -1)
        image.save(folder / f"{k}.png")
        own = points if sign == 1 else [image.width - 1, 0] + points * [-1, 1]
        labels.append(
            {
                "image": f"{k}.png",
                "keypoints": own.tolist(),
                "keypoints_3d": (points_3d * [sign, 1, 1]).tolist(),
            }
        )
    (folder / "hands.json").write_text(json.dumps(labels))
    return folder / "hands.json"


def run(script, *arguments):
    done = started(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_hands_benchmark_finds_sides_and_compares_the_fit(hands):
    report = json.loads(run("hands.py", hands))
    assert (report["hands"], report["found"], report["side_right"], report["left"]) == (8, 8, 8, 4)
    errors = report["error"]["others"]
    assert errors["hands"] == 8
    assert errors["points_percent_of_box"]["fit"] < 10
    assert errors["points_3d_mm"]["ratio"] < 1.2


@pytest.mark.slow
def test_the_reports_fill_the_page(faces, hands, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SIZES", bench.SIZES[:1])
    monkeypatch.setattr(bench, "BATCHES", (1, 2))
    monkeypatch.setattr(bench, "FITTERS_SIZE", (60, 1, 6, 4))
    speed = bench.run_benchmarks(repeats=1, picture=str(ROOT / "examples" / "astronaut.jpg"))
    reports = {
        "speed": json.dumps(speed),
        "models": run("models.py", "--repeats", 1, "--batch", 1),
        "faces": run("faces.py", faces),
        "hands": run("hands.py", hands),
        "calibration": run("calibration.py", faces, "--hands", hands),
    }
    for name, text in reports.items():
        (tmp_path / f"{name}.json").write_text(text)
    for name in ("table.py", "README.md"):
        shutil.copy(ROOT / "benchmarks" / name, tmp_path)
    files = [tmp_path / f"{name}.json" for name in reports]
    subprocess.run([sys.executable, tmp_path / "table.py", *files], check=True)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith((ROOT / "benchmarks" / "README.md").read_text().partition("<!-- measured -->")[0])
    assert "| with their Jacobian by 200 coefficients |" in page
    assert "`lm` is " in page
    assert "2 of 2 labelled faces found" in page
    assert "8 of 8 labelled hands found, with the right side: 8" in page
    assert "| 8 looks, held-out pictures |" in page


def test_the_card_of_the_dense_network_is_what_its_script_makes_of_the_figures(tmp_path):
    readme = ROOT / "plugins" / "partfit-dense" / "README.md"
    copy = shutil.copy(readme, tmp_path)
    run("dense_card.py", "--readme", copy)
    assert Path(copy).read_text() == readme.read_text()


@pytest.mark.slow
def test_likelihoods_are_compared_and_the_best_trained_longer(tmp_path):
    report = tmp_path / "report.json"
    small = [
        "data.workers=1",
        "data.train.options.length=8",
        "data.val.options.length=4",
        "network.resolution=64",
        'network.backbone.name="mobilenetv3_small_050"',
        "run.samples=8",
        "run.batch_size=4",
        "run.log_every=1",
        "run.validate_every=1",
    ]
    options = [word for setting in small for word in ("--set", setting)]
    asked = ["losses.py", "--out", tmp_path / "runs", "--seeds", "3,4", "--longer", 12, "--report", report]
    run(*asked, *options)
    figures = json.loads(report.read_text())
    assert (
        len(
            {
                tuple(row[key] for key in ("likelihood", "vertex_edge", "head", "seed"))
                for row in figures["cells"]
            }
        )
        == 24
    )
    means = {}
    for row in figures["cells"]:
        means.setdefault((row["likelihood"], row["vertex_edge"], row["head"]), []).append(
            row["metrics"]["error_px"]
        )
    for longer, head in zip(figures["longer"], ("linear", "spiral"), strict=True):
        own = {setting: errors for setting, errors in means.items() if setting[2] == head}
        expected = min(own, key=lambda setting, own=own: sum(own[setting]))
        assert (longer["likelihood"], longer["vertex_edge"], longer["head"]) == expected
        assert (longer["samples"], longer["seed"]) == (12, 3)
    run("losses_page.py", report, "--docs", tmp_path)
    page = (tmp_path / "comparing-likelihoods.md").read_text()
    assert page.count("| ResLL Exp |") == 4
    assert "All 26 runs took" in page
    # a run killed at its beginning and not yet reported goes on, the others are not trained again
    runs, first = tmp_path / "runs", figures["cells"].pop(0)
    shutil.rmtree(runs / "ngll-linear-3" / "state")
    (runs / "ngll-linear-3" / "report.json").unlink()
    report.write_text(json.dumps(figures))
    assert run(*asked, *options).split() == ["ngll-linear-3"]
    again = json.loads(report.read_text())["cells"][-1]
    assert again["metrics"] == first["metrics"]
    other = started(*asked, *options, "--set", "run.batch_size=2")
    assert other.returncode != 0
    assert "another configuration" in other.stderr
