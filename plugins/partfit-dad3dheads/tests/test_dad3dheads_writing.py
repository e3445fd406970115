"""Samples that are written: read back, as the published code would read them, and after an interruption."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import InputError
from partfit.learning.datasets import Sample, SampleError
from partfit.testing.conformance import check_same_sample
from partfit_dad3dheads.annotations import CAMERA_AXES
from partfit_dad3dheads.writing import annotation_of, write_dataset

LANDMARKS = [0, 2, 5]
INTRINSICS = np.array([[90.0, 0.0, 20.0], [0.0, 95.0, 11.0], [0.0, 0.0, 1.0]])


def sample(name="a", **changes):
    """A sample of 6 vertices, of which `LANDMARKS` are landmarks."""
    rng = np.random.default_rng(sum(name.encode()))
    vertices = changes.pop("vertices", np.add(rng.uniform(-0.1, 0.1, (6, 3)), [0, 0, 0.8]))
    intrinsics = changes.pop("intrinsics", INTRINSICS)
    points = np.zeros((3, 2))
    if vertices is not None:
        rays = vertices[LANDMARKS] @ intrinsics.T
        points = rays[:, :2] / rays[:, 2:]
    else:
        intrinsics = None
    facts = {
        "image": rng.integers(0, 256, (24, 40, 3), dtype=np.uint8),
        "points": points,
        "box": np.array([2.25, 3.5, 30.0, 20.75]),
        "vertices": vertices,
        "intrinsics": intrinsics,
        "attributes": {"quality": "lq", "occlusions": False},
    }
    return Sample(name, **{**facts, **changes})


def read(root, indices_folder, split="train"):
    path = Path(indices_folder) / "few.txt"
    path.write_text(" ".join(map(str, LANDMARKS)))
    return partfit.create("dataset", "dad3dheads", root=root, topology="toy", split=split, indices=path)


def test_what_is_written_is_read_back(tmp_path):
    samples = [sample(name) for name in ("a", "b.2", "c-ü")]
    path = write_dataset(samples, tmp_path / "out", "val")
    assert path == tmp_path / "out" / "val" / "val.json"
    dataset = read(tmp_path / "out", tmp_path, "val")
    assert len(dataset) == 3
    for index, original in enumerate(samples):
        check_same_sample(dataset[index], original, atol=1e-9)
    names = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*"))
    ids = ("a", "b.2", "c-ü")
    parts = [*(f"annotations/{name}.json" for name in ids), *(f"images/{name}.png" for name in ids)]
    assert names == [f"val/{part}" for part in (*parts, "val.json")]


def test_the_files_are_those_of_the_format(tmp_path):
    original = sample()
    write_dataset([original], tmp_path, "train")
    (entry,) = json.loads((tmp_path / "train" / "train.json").read_text())
    assert entry == {
        "item_id": "a",
        "annotation_path": "train/annotations/a.json",
        "img_path": "train/images/a.png",
        "bbox": [2.75, 4.0, 27.75, 17.25],
        "attributes": {"quality": "lq", "occlusions": False},
    }
    assert np.array_equal(np.asarray(Image.open(tmp_path / entry["img_path"])), original.image)
    content = json.loads((tmp_path / entry["annotation_path"]).read_text())
    assert sorted(content) == ["model_view_matrix", "projection_matrix", "vertices"]
    P, MV = np.array(content["projection_matrix"]), np.array(content["model_view_matrix"])
    camera = [MV @ [*vertex, 1] for vertex in content["vertices"]]
    np.testing.assert_allclose(camera, [[x, -y, -z, 1] for x, y, z in original.vertices], atol=1e-12)
    q = np.array([P @ c for c in camera])[LANDMARKS]
    window = np.stack([q[:, 0] / q[:, 3], 24 - q[:, 1] / q[:, 3]], axis=1)
    np.testing.assert_allclose(window - 0.5, original.points, atol=1e-9)
    np.testing.assert_allclose(P[3], [0, 0, -1, 0])
    depth = np.array([P @ c for c in camera])
    ndc = depth[:, 2] / depth[:, 3]
    assert (np.abs(ndc) < 1).all()  # between the planes, and ordered from near to far
    assert np.array_equal(np.argsort(ndc), np.argsort(original.vertices[:, 2]))


def test_a_head_is_written_in_its_own_frame_where_its_turn_is_known():
    """Its frame is y up with the face along +z, so that MV turns nothing where it looks at the camera."""
    rest = np.random.default_rng(0).uniform(-0.1, 0.1, (6, 3))
    toward = Rotation.from_rotvec([np.pi, 0, 0])
    for turn in (toward, toward * Rotation.from_rotvec([0.2, -0.7, 0.1])):
        vertices = np.add(turn.apply(rest), [0.1, 0.0, 0.7])
        parameters = {"global_orient": turn.as_rotvec(), "betas": np.ones(3)}
        annotation = annotation_of(sample(vertices=vertices, parameters=parameters))
        np.testing.assert_allclose(annotation.vertices, rest - rest.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(annotation.rotation, turn.as_matrix(), atol=1e-12)
    unknown = annotation_of(sample())
    np.testing.assert_allclose(unknown.model_view[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(unknown.rotation, CAMERA_AXES[:3, :3], atol=1e-12)


@st.composite
def cameras_and_vertices(draw):
    finite = st.floats(-1, 1)
    vertices = draw(hnp.arrays(np.float64, (6, 3), elements=finite)) * draw(
        st.sampled_from([0.05, 1.0, 300.0])
    )
    vertices[:, 2] += 2 * np.abs(vertices).max() + 0.1
    focal = draw(st.floats(20, 5000))
    skew = draw(st.sampled_from([0.0, 3.0]))
    centre = [draw(st.floats(-300, 300)), draw(st.floats(-300, 300))]
    K = np.array([[focal, skew, centre[0]], [0, focal * draw(st.floats(0.5, 2)), centre[1]], [0, 0, 1]])
    turn = draw(hnp.arrays(np.float64, 3, elements=st.floats(-3, 3)))
    x, y, w, h = (
        draw(st.floats(-30, 38)),
        draw(st.floats(-20, 22)),
        draw(st.floats(32, 90)),
        draw(st.floats(23, 90)),
    )
    return sample(
        vertices=vertices,
        intrinsics=K,
        box=np.array([x, y, x + w, y + h]),
        parameters={"global_orient": turn},
    )


@given(cameras_and_vertices())
def test_points_boxes_and_cameras_survive(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("out", numbered=True)
    write_dataset([drawn], folder, "train")
    found = read(folder, folder)[0]
    scale = np.abs(drawn.vertices).max()
    np.testing.assert_allclose(found.points, drawn.points, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.vertices, drawn.vertices, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(found.intrinsics, drawn.intrinsics, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.box, drawn.box, rtol=0, atol=1e-9)


def test_attributes_that_the_format_has_are_kept(tmp_path):
    hidden = np.zeros((24, 40), dtype=bool)
    hidden[3, 4] = True
    samples = [
        sample("a", attributes={"pose": "sided", "hair": "long"}, occlusion=hidden),
        sample("b", attributes={}, occlusion=~hidden & hidden),
        sample("c", attributes={"occlusions": True}, occlusion=hidden & ~hidden),
    ]
    write_dataset(samples, tmp_path, "test")
    dataset = read(tmp_path, tmp_path, "test")
    found = [dict(dataset[i].attributes) for i in range(3)]
    assert found == [{"pose": "sided", "occlusions": True}, {"occlusions": False}, {"occlusions": True}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": None}, "expected vertices and intrinsics to write"),
        ({"attributes": {"quality": "good"}}, "expected the attribute 'quality'"),
        ({"attributes": {"expression": 1}}, "expected the attribute 'expression'"),
        ({"vertices": np.array([[0.0, 0, -1]] * 6)}, "in front of the camera"),
    ],
)
def test_a_sample_that_cannot_be_written_is_named(tmp_path, changes, message):
    with pytest.raises(SampleError, match=f"Sample 'b': .*{message}"):
        write_dataset([sample("a"), sample("b", **changes)], tmp_path, "train")
    assert not (tmp_path / "train" / "train.json").exists()
    write_dataset([sample("a"), sample("b")], tmp_path, "train")  # mended, it goes on
    assert len(read(tmp_path, tmp_path)) == 2


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "..", "a\\b"])
def test_ids_must_be_names_of_files(tmp_path, name):
    with pytest.raises(SampleError, match="the name of a file"):
        write_dataset([sample(name)], tmp_path, "train")


def test_ids_must_differ(tmp_path):
    with pytest.raises(SampleError, match="'a': expected ids that differ"):
        write_dataset([sample("a"), sample("b"), sample("a")], tmp_path, "train")


class Counted(list):
    """Samples that say which of them were asked for."""

    def __init__(self, samples, fail_at=None):
        super().__init__(samples)
        self.asked = []
        self.fail_at = fail_at

    def __getitem__(self, index):
        if index == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append(index)
        return super().__getitem__(index)


def test_an_interrupted_writing_goes_on(tmp_path):
    samples = [sample(name) for name in "abcde"]
    with pytest.raises(KeyboardInterrupt):
        write_dataset(Counted(samples, fail_at=3), tmp_path, "train")
    with pytest.raises(InputError, match=r"the list train/train\.json"):
        read(tmp_path, tmp_path)
    with (tmp_path / "train" / ".train.jsonl").open("a") as journal:
        journal.write('{"item_id": "d", "annota')  # killed in the middle of a line
    again = Counted(samples)
    write_dataset(again, tmp_path, "train")
    assert again.asked == [0, 3, 4]
    dataset = read(tmp_path, tmp_path)
    for index, original in enumerate(samples):
        check_same_sample(dataset[index], original, atol=1e-9)
    assert not (tmp_path / "train" / ".train.jsonl").exists()


def test_a_finished_split_stays_and_can_grow(tmp_path):
    samples = [sample(name) for name in "abc"]
    write_dataset(samples[:2], tmp_path, "train")
    before = (tmp_path / "train" / "train.json").read_text()
    again = Counted(samples[:2])
    write_dataset(again, tmp_path, "train")
    assert again.asked == [0]
    assert (tmp_path / "train" / "train.json").read_text() == before
    write_dataset(samples, tmp_path, "train")
    assert len(read(tmp_path, tmp_path)) == 3


def test_other_samples_are_not_mixed_in(tmp_path):
    write_dataset([sample("a"), sample("b")], tmp_path, "train")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    moved = attrs.evolve(sample("a"), box=np.array([0.0, 0.0, 5.0, 5.0]))
    for others in ([sample("c"), sample("d")], [moved, sample("b")], [sample("a")], []):
        with pytest.raises(InputError, match="expected these samples or nothing, found 2 of other ones"):
            write_dataset(others, tmp_path, "train")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


KILLED = """
import os, signal, sys
from collections.abc import Sequence

import numpy as np
from partfit.learning.datasets import Sample
from partfit_dad3dheads.writing import write_dataset

class Samples(Sequence):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        image = np.full((8, 8, 3), index, dtype=np.uint8)
        vertices = np.array([[0.0, 0, 1], [0.1, 0, 1], [0, 0.1, 2 + index]])
        K = np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])
        facts = {"vertices": vertices, "intrinsics": K}
        return Sample(f"s{index}", image, np.zeros((1, 2)), np.array([0.0, 0, 8, 8]), **facts)

write_dataset(Samples(), sys.argv[1], "train")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_after_kill_9_the_files_are_those_of_an_undisturbed_writing(tmp_path):
    def write(folder, kill_at):
        command = [sys.executable, "-c", KILLED, str(tmp_path / folder), str(kill_at)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False
        )
        return done.returncode

    assert write("killed", 2) == -signal.SIGKILL
    assert write("killed", -1) == write("whole", -1) == 0
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*")]
    assert len(files) == 11
    assert {path.relative_to(tmp_path / "killed") for path in (tmp_path / "killed").rglob("*.*")} == set(
        files
    )
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
