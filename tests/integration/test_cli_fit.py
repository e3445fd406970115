"""The commands on pictures, in the process and as a user would run them."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from PIL import Image

from partfit import bench, rendering
from partfit.cli import main
from partfit.files import RESULT_FORMATS


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def with_detection(detection):
    return with_content(detections=[detection])


def with_content(**content):
    return json.dumps({"schema": "partfit.landmarks/1", **content})


def complete(**changes):
    """A landmark file of one detection with all its points, and some other keys."""
    return with_detection({"points": [[100 + i % 20, 100 + i // 20] for i in range(468)], **changes})


@pytest.fixture(scope="module")
def fitted(photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    result = run(
        "fit", photo, "--out", folder, "--export-landmarks", "ibug68", "--format", "ply", "--format", "glb"
    )
    assert result.exit_code == 0, result.output
    return folder


def test_it_writes_what_it_says(fitted):
    names = {
        "astronaut-0.ply",
        "astronaut-0.glb",
        "astronaut-0.json",
        "astronaut-overlay.png",
        "partfit.toml",
    }
    assert {p.name for p in fitted.iterdir()} == names


def test_the_json_holds_the_documented_keys(fitted):
    document = json.loads((fitted / "astronaut-0.json").read_text())
    keys = (
        "schema part side image model landmarker fitter status message score box image_size frame camera "
        "parameters names rms_px iterations n_vertices landmarks hashes timings_ms"
    )
    assert set(document) == set(keys.split())
    assert document["schema"] == "partfit.result/1"
    assert document["status"] == "converged"
    assert document["image_size"] == [512, 512]
    assert np.array(document["landmarks"]["ibug68"]).shape == (68, 2)
    assert document["camera"]["principal"] == [255.5, 255.5]
    assert len(document["parameters"]["expression"]) == 52


def test_the_mesh_lies_over_the_face(fitted):
    """The mesh file, projected with the JSON's camera, falls on the landmarks of the JSON."""
    document = json.loads((fitted / "astronaut-0.json").read_text())
    mesh = trimesh.load(fitted / "astronaut-0.ply", process=False)
    assert len(mesh.vertices) == document["n_vertices"]
    camera_frame = mesh.vertices * [1, -1, -1]
    focal, principal = document["camera"]["focal"], document["camera"]["principal"]
    pixels = focal * camera_frame[:, :2] / camera_frame[:, 2:] + principal
    points = np.array(document["landmarks"]["ibug68"])
    nearest = np.linalg.norm(points[:, None] - pixels[None], axis=2).min(axis=1)
    assert nearest.max() < 3


def test_the_overlay_changes_the_face_and_nothing_else(fitted, photo):
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(fitted / "astronaut-overlay.png"))
    assert before.shape == after.shape
    changed = np.abs(before.astype(int) - after).sum(axis=2) > 20
    x0, y0, x1, y1 = np.array(json.loads((fitted / "astronaut-0.json").read_text())["box"]).astype(int)
    assert changed[y0:y1, x0:x1].mean() > 0.8
    assert changed[300:].mean() < 0.001


def test_landmarks_and_fitting_them_again(photo, tmp_path, fitted):
    assert run("landmarks", photo, "--out", tmp_path / "2d").exit_code == 0
    file = tmp_path / "2d" / "astronaut-landmarks.json"
    assert (tmp_path / "2d" / "astronaut-landmarks.png").exists()
    document = json.loads(file.read_text())
    document["detections"][0]["points"][3] = [None, None]
    document["detections"][0]["points"][4] = None
    document["detections"][0].pop("scale")
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    result = run("fit", photo, "--landmarks", edited, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    first = json.loads((fitted / "astronaut-0.json").read_text())
    again = json.loads((tmp_path / "again" / "astronaut-0.json").read_text())
    difference = np.array(first["parameters"]["transl"]) - again["parameters"]["transl"]
    assert np.abs(difference).max() < 0.05


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "expected schema 'partfit.landmarks/1', found 'list'"),
        ('{"schema": "partfit.result/1"}', "found 'partfit.result/1'"),
        ("[" * 200_000, "is not JSON"),
        (with_content(), "detections: missing"),
        (with_content(detections=5), "detections: expected a list"),
        (with_detection(5), "detections[0]: expected a table"),
        (with_content(detections=[], image_sizes=[1, 1]), 'Did you mean "image_size"?'),
        (
            with_content(detections=[], image_size=[256, 512]),
            "image_size: expected [512, 512] (width, height)",
        ),
        (with_detection({}), "detections[0].points: missing"),
        (with_detection({"points": [[1, 2]]}), "detections[0].points: expected 468 entries"),
        (with_detection({"points": [[1, 2, 3]] * 468}), "detections[0].points[0]: expected a list of 2"),
        (with_detection({"points": [["1", 2]] * 468}), "detections[0].points[0][0]: expected a number"),
        (with_detection({"points": [], "scheme": "ibug68"}), "of scheme 'ibug68'"),
        (complete(scal=[[1, 1]] * 468), 'detections[0].scal: unknown key. Did you mean "scale"?'),
        (complete(scale=[[1, 1]] * 467 + [[1, 0]]), "detections[0].scale: expected numbers > 0"),
        (complete(scale=[[1, 1]] * 9), "detections[0].scale: expected 468 entries"),
        (complete(score=None), "detections[0].score: expected a number"),
        (complete(score="high"), "detections[0].score: expected a number, found 'high'"),
        (complete(score=1.5), "score: expected a number in [0, 1], found 1.5"),
        (complete(side="up"), "detections[0].side: expected one of 'left', 'right'"),
        (
            complete(confidence=[0.5] * 467 + [1.01]),
            "detections[0].confidence[467]: expected a number in [0, 1]",
        ),
        (complete(confidence=[-0.1] * 468), "detections[0].confidence[0]: expected a number in [0, 1]"),
        (complete(confidence=[math.nan] * 468), "detections[0].confidence[0]: expected a number in [0, 1]"),
        (complete(confidence=0.5), "detections[0].confidence: expected a list"),
    ],
)
def test_wrong_landmark_files_are_named(photo, tmp_path, content, message):
    file = tmp_path / "wrong.json"
    file.write_text(content)
    result = run("fit", photo, "--landmarks", file, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert "wrong.json" in result.stderr


@pytest.fixture(scope="module")
def given_landmarks(photo, tmp_path_factory):
    """The landmark document that `partfit landmarks` writes of the photograph."""
    folder = tmp_path_factory.mktemp("landmarks")
    assert run("landmarks", photo, "--out", folder).exit_code == 0
    return json.loads((folder / "astronaut-landmarks.json").read_text())


def fit_document(document, photo, folder, *arguments):
    """Fit a landmark document to the photograph and read the first instance's JSON."""
    folder.mkdir()
    (folder / "given.json").write_text(json.dumps(document))
    result = run(
        "fit", photo, "--landmarks", folder / "given.json", "--out", folder, "--no-overlay", *arguments
    )
    assert result.exit_code == 0, result.output
    return json.loads((folder / "astronaut-0.json").read_text())


def test_a_null_row_leaves_its_landmark_out(given_landmarks, photo, tmp_path):
    """It does not matter how a landmark is left out, nor where it would have been."""
    expected = None
    for name, row in (("row", None), ("coordinate", [None, 9000.0]), ("scale", [9000.0, 9000.0])):
        document = json.loads(json.dumps(given_landmarks))
        (detection,) = document["detections"]
        detection["points"][7] = row
        if name == "scale":
            detection["scale"][7] = None
        parameters = fit_document(document, photo, tmp_path / name)["parameters"]
        expected = expected or parameters
        assert parameters == expected, name


def test_what_an_earlier_run_left_is_removed_and_nothing_else(given_landmarks, photo, tmp_path):
    two = {**given_landmarks, "detections": given_landmarks["detections"] * 2}
    folder = tmp_path / "out"
    fit_document(two, photo, folder)
    assert (folder / "astronaut-1.obj").exists()
    stale = [f"astronaut-{k}.{suffix}" for k in (0, 1) for suffix in (*RESULT_FORMATS, "json")]
    stale = [*stale, "astronaut-overlay.png", "astronaut-panel.png"]
    kept = [
        "astronaut-01.obj",
        "astronaut-1.txt",
        "astronaut-1-0.obj",
        "astronaut-1.obj.bak",
        "astronaut-12.ply",  # of no instance: there is no JSON of it
        "astronaut-2023.csv",
        "astronaut-7.json",  # of something else
        "astronaut-7.obj",
        "my-astronaut-1.obj",
        "given.json",
    ]
    (folder / "astronaut-7.json").write_text("{}")
    for name in (*stale, *kept):
        with (folder / name).open("a"):
            pass
    result = run("fit", photo, "--out", folder, "--no-overlay", "--format", "obj")
    assert result.exit_code == 0, result.output
    names = {p.name for p in folder.iterdir()}
    ours = {"astronaut-0.obj", "astronaut-0.json", "partfit.toml"}
    assert names - ours == set(kept)


def test_files_of_users_survive_a_first_fit(photo, tmp_path):
    shutil.copy(photo, tmp_path / "astronaut.jpg")
    own = ["astronaut-0.csv", "astronaut-0.ply", "astronaut-panel.png"]
    for name in own:
        (tmp_path / name).touch()
    result = run("fit", tmp_path / "astronaut.jpg", "--out", tmp_path, "--no-overlay")
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} >= set(own)
    assert "removed" not in result.stderr


def test_a_folder_can_be_its_own_output(photo, tmp_path):
    (tmp_path / "face.jpg").write_bytes(photo.read_bytes())
    for _ in range(2):
        assert run("landmarks", tmp_path, "--out", tmp_path).exit_code == 0
        assert run("fit", tmp_path, "--out", tmp_path, "--panel", "--format", "obj").exit_code == 0
    ours = ["face-0.json", "face-0.obj", "face-landmarks.json", "face-landmarks.png", "face-overlay.png"]
    names = [*ours, "face-panel.png", "face.jpg", "partfit.toml"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    # a row for each instance: photograph, overlay, front view, side view
    with Image.open(tmp_path / "face-panel.png") as panel:
        assert panel.size == (4 * rendering.PANEL_TILE, rendering.PANEL_TILE)


def test_the_focal_length_is_estimated_about_what_is_known(photo, tmp_path):
    known = focal_of(photo, tmp_path / "a")
    estimated = focal_of(photo, tmp_path / "b", "--focal-deviation", 0.3)
    assert estimated != known
    assert 0.4 * known < estimated < 2.5 * known
    assert focal_of(photo, tmp_path / "c", "--focal-deviation", 1e-6) == pytest.approx(known, rel=1e-4)
    again = focal_of(photo, tmp_path / "d", "--config", tmp_path / "b" / "partfit.toml")
    assert again == pytest.approx(estimated, rel=1e-6)


def test_uncertainty_is_drawn_and_written(photo, tmp_path):
    result = run("fit", photo, "--out", tmp_path, "--uncertainty", "--set", "settings.inflation=20.0")
    assert result.exit_code == 0
    sheet = np.array(Image.open(tmp_path / "astronaut-uncertainty.png"))
    assert sheet.shape[1] == 2 * sheet.shape[0]
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000
    found = json.loads((tmp_path / "astronaut-0.json").read_text())["uncertainty"]
    assert found["inflation"] == 20
    assert 0 < found["vertex_deviation_mm"]["median"] < found["vertex_deviation_mm"]["max"] < 50
    run("fit", photo, "--out", tmp_path, "--uncertainty", "--set", "settings.inflation=5.0")
    less = json.loads((tmp_path / "astronaut-0.json").read_text())["uncertainty"]
    assert less["vertex_deviation_mm"]["median"] < found["vertex_deviation_mm"]["median"]
    plain = run("fit", photo, "--out", tmp_path)
    assert plain.exit_code == 0
    assert not (tmp_path / "astronaut-uncertainty.png").exists()


def test_uncertainty_needs_scales(photo, tmp_path):
    result = run("fit", photo, "--out", tmp_path, "--uncertainty", "--preset", "thesis")
    assert result.exit_code == 1
    assert "settings.weighting to 'inverse_scale'" in result.stderr


def focal_of(photo, folder, *arguments):
    result = run("fit", photo, "--out", folder, "--no-overlay", "--format", "obj", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads((folder / "astronaut-0.json").read_text())["camera"]["focal"]


def test_options_override_the_configuration_file(photo, tmp_path):
    assert focal_of(photo, tmp_path / "a", "--focal", 700) == 700
    # half the diagonal over the tangent of half the angle
    expected = 256 * math.sqrt(2) / math.tan(math.radians(20))
    assert focal_of(photo, tmp_path / "b", "--field-of-view", 40) == pytest.approx(expected, rel=1e-6)
    focal_file, angle_file = tmp_path / "a" / "partfit.toml", tmp_path / "b" / "partfit.toml"
    with_angle = focal_of(photo, tmp_path / "c", "--config", focal_file, "--field-of-view", 40)
    assert with_angle == pytest.approx(expected, rel=1e-6)
    assert focal_of(photo, tmp_path / "d", "--config", angle_file, "--focal", 700) == 700
    assert focal_of(photo, tmp_path / "e", "--config", angle_file) == pytest.approx(expected, rel=1e-6)


def test_two_options_for_one_length_are_refused(photo, tmp_path):
    result = run("fit", photo, "--out", tmp_path, "--focal", 700, "--field-of-view", 40)
    assert result.exit_code == 1
    assert "either `focal` or `field_of_view`" in result.stderr
    assert run("fit", photo, "--out", tmp_path, "--field-of-view", 180).exit_code == 2


def test_the_precision_can_be_chosen(photo, tmp_path):
    arguments = ("fit", photo, "--out", tmp_path, "--no-overlay", "--format", "obj", "--dtype", "float64")
    assert run(*arguments).exit_code == 0
    assert 'dtype = "float64"' in (tmp_path / "partfit.toml").read_text()
    (number, *_) = json.loads((tmp_path / "astronaut-0.json").read_text())["parameters"]["transl"]
    assert float(np.float32(number)) != number


def test_results_that_cannot_be_written_are_named_and_the_others_finish(photo, tmp_path):
    for name in ("bad.jpg", "good.jpg"):
        (tmp_path / name).write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    (out / "bad-0.json").mkdir(parents=True)
    result = run("fit", tmp_path, "--out", out, "--no-overlay", "--format", "obj")
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert str(tmp_path / "bad.jpg") in line
    assert f"Cannot write {out / 'bad-0.json'}" in line
    assert (out / "good-0.json").is_file()


def test_a_full_disk_is_named_for_each_picture(photo, tmp_path, monkeypatch):
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_bytes(photo.read_bytes())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    result = run("fit", tmp_path, "--out", tmp_path / "out", "--no-overlay")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert [name for line in errors for name in ("one.jpg", "two.jpg") if name in line] == [
        "one.jpg",
        "two.jpg",
    ]
    assert all("No space left on device" in line for line in errors)


def test_without_open3d_the_way_out_is_named(photo, tmp_path, monkeypatch):
    rendering._open3d.cache_clear()
    monkeypatch.setitem(sys.modules, "open3d", None)  # which makes its import fail
    result = run("fit", photo, "--out", tmp_path, "--format", "obj")
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert str(photo) in line
    assert "--no-overlay" in line
    assert (tmp_path / "astronaut-0.json").exists()
    assert run("fit", photo, "--out", tmp_path, "--format", "obj", "--no-overlay").exit_code == 0


def bad_pictures(folder):
    """Files of every bad or odd kind, and which of them have a face."""
    photo = Image.open(folder / "photo.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "truncated.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:20000])
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("RGBA").save(folder / "rgba.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(folder / "rotated.jpg", exif=exif)
    photo.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", photo.size)])
    Image.new("RGB", (300, 200), (90, 120, 150)).save(folder / "nobody.png")
    return {"photo", "grey", "rgba", "cmyk", "deep", "rotated", "animated"}


def test_bad_pictures_are_named_and_the_others_finish(photo, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(photo.read_bytes())
    good = bad_pictures(folder)
    result = run("fit", folder, "--out", out)
    assert result.exit_code == 1
    assert {p.name.removesuffix("-0.json") for p in out.glob("*-0.json")} == good
    for name in ("empty.jpg", "text.png", "truncated.jpg"):
        assert any(name in line and line.startswith("error:") for line in result.stderr.splitlines()), name
    for name in ("one.png", "nobody.png"):
        assert any(name in line and "no face found" in line for line in result.stderr.splitlines()), name
    leftovers = [p.name for p in out.iterdir() if p.suffix not in (".obj", ".glb", ".json", ".png", ".toml")]
    assert leftovers == []
    written = {line.partition(": wrote ")[0] for line in result.stdout.splitlines()}
    assert {name.rpartition("/")[2].partition(".")[0] for name in written} == good
    # the rotated picture is fitted as displayed
    upright, rotated = (json.loads((out / f"{n}-0.json").read_text()) for n in ("photo", "rotated"))
    assert rotated["image_size"] == [512, 512]
    assert np.abs(np.array(upright["box"]) - rotated["box"]).max() < 6


def test_inputs_of_one_stem_do_not_overwrite_one_another(photo, tmp_path):
    for name in ("face.jpg", "face.png"):
        Image.open(photo).save(tmp_path / name)
    result = run("fit", tmp_path / "face.*", "--out", tmp_path / "out", "--no-overlay", "--format", "obj")
    assert result.exit_code == 0, result.output
    assert {p.stem for p in (tmp_path / "out").glob("*.obj")} == {"face-jpg-0", "face-png-0"}


def test_a_missing_input_is_named(tmp_path):
    result = run("fit", tmp_path / "nowhere.jpg", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "nowhere.jpg" in result.stderr


def test_a_name_that_is_too_long_is_named_and_the_others_finish(photo, tmp_path):
    result = run("landmarks", tmp_path / ("x" * 300 + ".jpg"), photo, "--out", tmp_path)
    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert (tmp_path / "astronaut-landmarks.json").exists()


def test_an_output_folder_that_is_a_file(photo, tmp_path):
    (tmp_path / "taken").write_text("")
    result = run("fit", photo, "--out", tmp_path / "taken")
    assert result.exit_code == 1
    assert "taken" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_scheme_to_export_is_refused_before_the_work(photo, tmp_path):
    result = run("fit", photo, "--out", tmp_path / "out", "--export-landmarks", "ibug86")
    assert result.exit_code == 1
    assert "Did you mean 'ibug68'?" in result.stderr


def test_a_huge_picture_is_fitted_in_bounded_memory(photo, tmp_path):
    """100 megapixels in at most 1.5 GB, whole process."""
    huge = tmp_path / "huge.jpg"
    Image.open(photo).resize((10000, 10000), Image.Resampling.BILINEAR).save(huge, quality=80)
    code = (
        "import re, sys; from partfit.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('peak', re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", str(huge), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    document = json.loads((tmp_path / "out" / "huge-0.json").read_text())
    assert document["image_size"] == [10000, 10000]
    assert 3000 < document["box"][0] < 4500
    peak_kb = int(done.stdout.split("peak ")[1])
    assert peak_kb < 1.5e6


def test_bench_reports_its_reference(monkeypatch, photo):
    monkeypatch.setattr(bench, "SIZES", bench.SIZES[:1])
    monkeypatch.setattr(bench, "BATCHES", (1, 2))
    report = bench.run_benchmarks(repeats=1, picture=str(photo))
    assert report["gemm_before"]["gflops"] > 0
    assert [row["batch"] for row in report["fit"]] == [1, 2]
    assert all(value > 0 for row in report["fit"] for value in row["ms_an_item"].values())
    assert report["picture"]["instances"] == 1
    json.dumps(report)


def test_bench_writes_its_file_and_tries_it_first(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "run_benchmarks", lambda **_: {"figures": [1.5]})
    assert json.loads(run("bench").stdout) == {"figures": [1.5]}
    assert run("bench", "--out", tmp_path / "new" / "a.json").exit_code == 0
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"figures": [1.5]}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.json"]

    def minutes_of_work(**_):
        raise AssertionError("the target must be tried first")

    monkeypatch.setattr(bench, "run_benchmarks", minutes_of_work)
    for target in (tmp_path, tmp_path / "new" / "a.json" / "b.json"):
        result = run("bench", "--out", target)
        assert result.exit_code == 1
        assert "Cannot write" in result.stderr


@pytest.mark.parametrize("command", ["fit", "landmarks"])
def test_an_input_without_pictures_does_not_stop_the_others(photo, tmp_path, command):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run(command, empty, tmp_path / "no*.jpg", photo, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"The folder {empty} holds no picture" in result.stderr
    assert "matches no file" in result.stderr
    assert any((tmp_path / "out").glob("astronaut*.json"))
    alone = run(command, empty, "--out", tmp_path / "none")
    assert alone.exit_code == 1
    assert not (tmp_path / "none").exists()
