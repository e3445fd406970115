"""The commands on pictures, in the process and as a user would run them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from PIL import Image

from partfit import bench
from partfit.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def with_detection(detection):
    return json.dumps({"schema": "partfit.landmarks/1", "detections": [detection]})


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
        "parameters rms_px iterations n_vertices landmarks hashes timings_ms"
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
    scene = trimesh.load(fitted / "astronaut-0.glb", process=False)
    (geometry,) = scene.geometry.values()
    np.testing.assert_allclose(geometry.vertices, mesh.vertices, atol=1e-6)


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
        (with_detection({}), "expected an object with `points`"),
        (with_detection({"points": [[1, 2]]}), "expected shape (468, 2), found (1, 2)"),
        (with_detection({"points": [], "scheme": "ibug68"}), "of scheme 'ibug68'"),
    ],
)
def test_wrong_landmark_files_are_named(photo, tmp_path, content, message):
    file = tmp_path / "wrong.json"
    file.write_text(content)
    result = run("fit", photo, "--landmarks", file, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "wrong.json" in result.stderr


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


def test_an_output_folder_that_is_a_file(photo, tmp_path):
    (tmp_path / "taken").write_text("")
    result = run("fit", photo, "--out", tmp_path / "taken")
    assert result.exit_code == 1
    assert "taken" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_scheme_to_export_is_refused_before_the_work(photo, tmp_path):
    result = run("fit", photo, "--out", tmp_path / "out", "--export-landmarks", "ibug86")
    assert result.exit_code == 1
    assert "anny-head/ibug68" in result.stderr


def test_a_huge_picture_is_fitted_in_bounded_memory(photo, tmp_path):
    """100 megapixels in at most 1.5 GB, whole process."""
    huge = tmp_path / "huge.jpg"
    Image.open(photo).resize((10000, 10000), Image.Resampling.BILINEAR).save(huge, quality=80)
    code = (
        "import resource, sys; from partfit.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
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
    assert all(value > 0 for row in report["fit"] for value in row["ms_a_face"].values())
    assert report["picture"]["faces"] == 1
    json.dumps(report)
