"""Models whose files users bring, from the file to the fitted photograph, on made-up files of full size."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import partfit
from partfit.cli import main
from partfit.embedding_files import write_embedding
from partfit.model_files import write_model_file
from partfit.testing.official.flame import flame_content, write_companions, write_flame
from partfit.testing.official.mano import mano_entries, write_mano

HAND = Path(__file__).parents[2] / "examples" / "hand.png"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    """A folder with FLAME's file and its companions, made of the default head."""
    folder = tmp_path_factory.mktemp("flame")
    head = partfit.create("model", "anny-head", n_betas=120)
    embeddings = {
        name: partfit.create("embedding", f"anny-head/{name}") for name in ("ibug68", "mediapipe468")
    }
    content = flame_content(head, embeddings=embeddings)
    write_flame(folder / "flame2023.pkl", content.entries)
    write_companions(folder, content)
    return folder


def read(folder):
    return json.loads((folder / "astronaut-0.json").read_text())


def test_flame_fits_a_photograph_by_its_own_landmarks(flame, photo, tmp_path):
    assert run("convert", flame / "flame2023.pkl", tmp_path / "flame.safetensors").exit_code == 0
    options = (
        f"model.options.mediapipe_embedding={flame / 'mediapipe_landmark_embedding.npz'}",
        f"model.options.landmark_embedding={flame / 'landmark_embedding.npy'}",
        f"model.options.masks={flame / 'FLAME_masks.pkl'}",
    )
    done = run(
        *("fit", photo, "--out", tmp_path / "out", "--model", "flame", "--no-overlay", "--format", "obj"),
        *("--model-path", tmp_path / "flame.safetensors", "--export-landmarks", "ibug68"),
        *("--export-landmarks", "mediapipe468", *(word for key in options for word in ("--set", key))),
    )
    assert done.exit_code == 0, done.output
    document = read(tmp_path / "out")
    assert (document["model"], document["part"], document["n_vertices"]) == ("flame", "face", 5023)
    assert (document["status"], document["rms_px"] < 2) == ("converged", True)
    assert "jaw_pose" in document["parameters"]
    assert all(point is not None for point in document["landmarks"]["ibug68"])
    unknown = [point for point in document["landmarks"]["mediapipe468"] if point[0] is None]
    assert len(unknown) == 468 - 105
    again = run(
        *("fit", photo, "--out", tmp_path / "again", "--no-overlay", "--format", "obj"),
        *("--config", tmp_path / "out" / "partfit.toml"),
    )
    assert again.exit_code == 0, again.output
    assert read(tmp_path / "again")["parameters"] == document["parameters"]


@pytest.mark.slow
def test_flame_fits_a_photograph_from_its_file_alone(flame, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path / "cache"))
    command = ("fit", photo, "--model", "flame", "--model-path", flame / "flame2023.pkl", "--no-overlay")
    done = run(*command, "--out", tmp_path / "first")
    assert done.exit_code == 0, done.output
    assert "no embedding of mediapipe468 on flame: finding one" in done.stderr
    (kept,) = (tmp_path / "cache" / "embeddings").glob("*.safetensors")
    assert kept.with_name(f"{kept.stem}-transfer.png").exists()
    first = read(tmp_path / "first")
    assert (first["status"], first["rms_px"] < 4) == ("converged", True)
    again = run(*command, "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert "no embedding" not in again.stderr
    assert read(tmp_path / "again")["parameters"] == first["parameters"]


def test_mano_fits_both_hands_from_its_right_file(tmp_path):
    write_mano(tmp_path / "MANO_RIGHT.pkl", mano_entries(source=partfit.create("model", "anny-hand")))
    done = run(
        *("fit", HAND, "--part", "hand", "--model", "mano", "--model-path", tmp_path),
        *("--out", tmp_path / "out", "--no-overlay", "--format", "obj"),
    )
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "hand-0.json").read_text())
    assert (document["model"], document["side"], document["n_vertices"]) == ("mano", "right", 778)
    assert document["status"] == "converged"


def test_a_model_that_needs_a_file_says_so(photo, tmp_path):
    done = run("fit", photo, "--model", "flame", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "--model-path" in done.stderr
    assert "https://flame.is.tue.mpg.de" in done.stderr
    done = run("fit", photo, "--model-path", "x.pkl", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "--model-path: the model 'anny-head' reads no file" in done.stderr


def test_the_configuration_of_a_run_means_the_same_from_everywhere(flame, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(flame)
    done = run(
        *(
            "fit",
            photo,
            "--model",
            "flame",
            "--model-path",
            "flame2023.pkl",
            "--out",
            tmp_path,
            "--no-overlay",
        ),
        *("--set", "model.options.mediapipe_embedding=mediapipe_landmark_embedding.npz", "--format", "obj"),
    )
    assert done.exit_code == 0, done.output
    options = tomllib.loads((tmp_path / "partfit.toml").read_text())["model"]["options"]
    assert options["path"] == str(flame / "flame2023.pkl")
    assert options["mediapipe_embedding"] == str(flame / "mediapipe_landmark_embedding.npz")
    monkeypatch.chdir(tmp_path)
    again = partfit.Pipeline.from_config("partfit.toml")
    assert again.model.topology.name == "flame"


def test_an_embedding_of_another_model_is_refused(photo, tmp_path):
    embedding = partfit.create("embedding", "anny-hand-right/hand21")
    write_embedding(embedding, tmp_path / "hand.safetensors")
    done = run("fit", photo, "--embedding", tmp_path / "hand.safetensors", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "does not lie on the model 'anny-head'" in done.stderr


def test_a_transfer_overwrites_no_other_file(tmp_path):
    file = tmp_path / "flame.safetensors"
    write_model_file(file, {"v_template": np.zeros((3, 3))}, {})
    before = file.read_bytes()
    done = run("transfer-landmarks", "--landmarker", "mediapipe-face", "--out", file)
    assert done.exit_code == 1
    assert "this file is no embedding, and is not overwritten" in done.stderr
    assert file.read_bytes() == before


@pytest.mark.slow
def test_a_cache_that_cannot_be_used_does_not_stop_a_fit(flame, photo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path / "file"))
    command = ("fit", photo, "--model", "flame", "--model-path", flame / "flame2023.pkl", "--no-overlay")
    done = run(*command, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "cannot be kept" in done.stderr
    assert "PARTFIT_CACHE" in done.stderr
    assert read(tmp_path / "out")["status"] == "converged"


def test_a_model_of_another_part_is_doubted(photo, tmp_path):
    write_mano(tmp_path / "MANO_RIGHT.pkl", mano_entries())
    done = run("fit", photo, "--model", "mano", "--model-path", tmp_path, "--out", tmp_path / "out")
    assert "is --part hand meant?" in done.stderr


@pytest.mark.slow
def test_a_bad_transfer_is_told_where_nothing_can_be_kept(photo, tmp_path, monkeypatch):
    """The made-up head has no face: too few renders are accepted, or their landmarks do not agree."""
    write_flame(tmp_path / "flame.pkl", flame_content().entries)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path / "file"))
    done = run(
        "fit", photo, "--model", "flame", "--model-path", tmp_path / "flame.pkl", "--out", tmp_path / "o"
    )
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert "renders accepted" in done.stderr or "accepts" in done.stderr
