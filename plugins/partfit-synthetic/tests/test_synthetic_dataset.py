"""The data set of renders: what it says of its pictures is true, and the same each time."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import partfit
from partfit.errors import ConfigError, InputError, NoEmbeddingError
from partfit.landmarks import LandmarkEmbedding
from partfit.learning.datasets import Dataset, Sample
from partfit.testing.conformance import DatasetConformance
from partfit_synthetic.dataset import SyntheticDataset

#: Heads and hands alone: what is in sight follows from the part's own mesh.
BARE = {"hair": 0.0, "glasses": 0.0, "hat": 0.0, "clothes": 0.0, "occluder": 0.0}
COVERED = {**BARE, "occluder": 1.0}
HAND = {"model": {"name": "anny-hand"}, "scheme": "hand21"}


def dataset(**options: Any) -> Dataset:
    built = partfit.create("dataset", "synthetic", **{"size": 48, "length": 20, **options})
    assert isinstance(built, Dataset)
    return built


class TestFaces(DatasetConformance):
    def make(self) -> Dataset:
        return dataset()

    def make_embedding(self) -> LandmarkEmbedding:
        return partfit.default_registry().create("embedding", "anny-head/anny-face-dense")


class TestHands(DatasetConformance):
    n_samples = 2

    def make(self) -> Dataset:
        return dataset(**HAND)


def test_seed_and_index_alone_decide_a_sample():
    a, b = dataset(seed=1, length=5), dataset(seed=1, length=20)
    assert np.array_equal(a[4].image, b[4].image)
    assert not np.array_equal(a[4].image, b[3].image)
    assert not np.array_equal(a[4].image, dataset(seed=2)[4].image)


def test_a_data_set_that_has_been_read_is_pickled_without_its_model():
    read = dataset(length=2)
    first = read[0]
    packed = pickle.dumps(read)
    assert len(packed) < 5000
    assert np.array_equal(pickle.loads(packed)[0].image, first.image)


@pytest.mark.parametrize("options", [{}, HAND], ids=["head", "hand"])
def test_parameters_give_the_vertices_in_the_cameras_frame(options: dict[str, Any]):
    read = dataset(**options)
    model = partfit.create("model", read.config.model.name)
    for sample in (read[i] for i in range(4)):
        groups = {name: torch.as_tensor(value)[None] for name, value in sample.parameters.items()}
        x = model.pack(groups, like=torch.zeros((), dtype=torch.float64))
        np.testing.assert_allclose(model.vertices(x)[0].numpy(), sample.vertices, rtol=0, atol=1e-6)
        for group in model.groups:
            if not group.rigid:
                value = sample.parameters[group.name]
                assert (value >= group.lower).all()
                assert (value <= group.upper).all()


def test_points_are_projections_and_the_box_is_around_them():
    embedding = partfit.default_registry().create("embedding", "anny-head/ibug68")
    for sample in (dataset(scheme="ibug68", seed=3)[i] for i in range(4)):
        x, y, z = embedding.apply(sample.vertices).T
        (f, _, cx), (_, g, cy), _ = sample.intrinsics
        np.testing.assert_allclose(sample.points, np.stack([f * x / z + cx, g * y / z + cy], 1), atol=1e-6)
        assert sample.box.tolist() == [*sample.points.min(0), *sample.points.max(0)]


def test_the_box_may_be_that_of_some_landmarks():
    """Of those next to the points of another scheme, whose own box is about the same."""
    read = dataset(scheme="anny-face-ears", box="ibug51", looks=BARE, views={"fill": (0.3, 0.35)})
    inner = partfit.default_registry().create("embedding", "anny-head/ibug51")
    assert read.boxed is not None
    assert dataset().boxed is None
    for sample in (read[i] for i in range(3)):
        boxed = sample.points[read.boxed]
        np.testing.assert_array_equal(sample.box, np.concatenate([boxed.min(axis=0), boxed.max(axis=0)]))
        assert sample.vertices is not None
        seen = inner.apply(sample.vertices) @ sample.intrinsics.T
        pixels = seen[:, :2] / seen[:, 2:]
        expected = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        np.testing.assert_allclose(sample.box, expected, atol=0.05 * max(np.ptp(pixels, axis=0)))
        assert 0.3 * 48 < max(np.ptp(boxed, axis=0)) < 0.35 * 48


def test_views_are_as_asked_for():
    config = {
        "yaw": 0.5,
        "pitch": 0.2,
        "roll": 0.1,
        "distance": [0.5, 0.6],
        "fill": [0.6, 0.7],
        "shift": 0.05,
    }
    read = dataset(views=config, looks=BARE, length=12)
    sides = []
    for sample in (read[i] for i in range(12)):
        assert abs(sample.attributes["yaw"]) <= 0.5
        assert 0.5 <= sample.attributes["distance"] <= 0.6
        longer = (sample.box[2:] - sample.box[:2]).max() / 48
        assert 0.6 - 1e-6 <= longer <= 0.7 + 1e-6
        assert np.abs((sample.box[:2] + sample.box[2:]) / 2 - 23.5).max() <= 0.05 * 48 + 1e-6
        sides.append(np.sign(sample.attributes["yaw"]))
    assert {-1.0, 1.0} <= set(sides)


@pytest.mark.parametrize(
    "views", [{"distance": [4.0, -0.45]}, {"distance": [4.0, 0.45]}, {"fill": [0, 0]}, {"yaw": -1.0}]
)
def test_views_that_cannot_be_are_refused(views):
    with pytest.raises(ConfigError, match=next(iter(views))):
        dataset(views=views)


def blocked_at(sample: Sample, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far before each point the part's own mesh lies, every triangle asked; 0 where it does not.

    Source: Moeller & Trumbore, Fast, Minimum Storage Ray-Triangle Intersection, 1997.
    """
    a, b, c = (sample.vertices[faces[:, k]] for k in range(3))
    before = np.zeros(len(points))
    for i, point in enumerate(points):
        along = np.cross(np.broadcast_to(point, c.shape), c - a)
        det = ((b - a) * along).sum(axis=1)
        u = (-a * along).sum(axis=1) / det
        across = np.cross(-a, b - a)
        v, t = across @ point / det, ((c - a) * across).sum(axis=1) / det
        met = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        before[i] = max(0.0, (1 - t[met].min(initial=1.0)) * np.linalg.norm(point))
    return before


def test_in_sight_is_what_the_mesh_itself_does_not_hide():
    """Bare heads; within the tolerance of the surface either answer will do."""
    embedding = partfit.default_registry().create("embedding", "anny-head/ibug68")
    faces = partfit.create("model", "anny-head").topology.faces
    read = dataset(scheme="ibug68", looks=BARE, seed=7)
    hidden = 0
    for sample in (read[i] for i in range(6)):
        before = blocked_at(sample, faces, embedding.apply(sample.vertices))
        tolerance = 0.005 * np.ptp(sample.vertices, axis=0).max()
        clear, behind = before < 0.3 * tolerance, before > 2 * tolerance
        inside = ((sample.points > -0.5) & (sample.points < 47.5)).all(axis=1)
        assert np.array_equal(sample.visible[clear], inside[clear])
        assert not sample.visible[behind].any()
        hidden += int(behind.sum())
    assert hidden > 20


def test_what_stands_before_a_face_hides_landmarks_and_is_marked():
    bare, covered = dataset(looks=BARE, seed=2, length=8), dataset(looks=COVERED, seed=2, length=8)
    fewer = 0
    for one, other in ((bare[i], covered[i]) for i in range(8)):
        # the subject and the view are drawn before the things
        np.testing.assert_allclose(one.points, other.points)
        assert not one.occlusion.any()
        assert not one.attributes["occluder"]
        assert not (other.visible & ~one.visible).any()
        fewer += int(one.visible.sum() - other.visible.sum())
        x, y = np.rint(other.points[one.visible & ~other.visible]).astype(int).T
        if len(x) > 50:
            assert other.occlusion[y, x].mean() > 0.7
        x, y = np.rint(other.points[other.visible]).astype(int).T
        if len(x):
            assert other.occlusion[y, x].mean() < 0.3
    assert fewer > 500


def test_a_part_out_of_the_picture_is_not_in_sight():
    read = dataset(looks=BARE, views={"fill": [1.5, 1.6], "shift": 0.3})
    sample = read[0]
    outside = ((sample.points < -0.5) | (sample.points > 47.5)).any(axis=1)
    assert outside.sum() > 50
    assert not sample.visible[outside].any()
    assert sample.box[0] < 0 or sample.box[3] > 48


def test_pictures_are_not_blank_and_expressions_differ():
    read = dataset(looks=BARE, size=32, length=40)
    samples = [read[i] for i in range(40)]
    assert np.median([sample.image.std() for sample in samples]) > 25
    kinds = {sample.attributes["expression kind"] for sample in samples}
    assert {"broad smile", "laugh", "talk", "neutral"} <= kinds


def test_backgrounds_come_from_a_folder(tmp_path: Path):
    Image.new("RGB", (80, 60), (0, 255, 0)).save(tmp_path / "green.png")
    read = dataset(looks=BARE, backgrounds=str(tmp_path), size=64, seed=1)
    greener = sum(read[i].image[:6, :6].mean(axis=(0, 1)).argmax() == 1 for i in range(6))
    assert greener >= 4


def test_what_cannot_be_built_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="not a folder"):
        dataset(backgrounds=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="no picture"):
        dataset(backgrounds=str(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        dataset(backgrounds=str(tmp_path))
    with pytest.raises(NoEmbeddingError, match="no-such-scheme"):
        _ = dataset(scheme="no-such-scheme").scheme
    with pytest.raises(ConfigError, match="hair"):
        dataset(looks={"hair": 1.5})
    with pytest.raises(IndexError):
        dataset()[20]


def test_the_class_is_the_component():
    assert isinstance(dataset(), SyntheticDataset)
