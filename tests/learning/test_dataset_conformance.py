"""A made-up data set passes the suite of data sets. Data sets with one fault each do not."""

import pickle

import attrs
import numpy as np
import pytest

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.learning.datasets import Sample
from partfit.testing.conformance import DatasetConformance, check_same_sample
from partfit.testing.datasets import BlobDataset


class BlobConformance(DatasetConformance):
    def make(self):
        return BlobDataset(BlobDataset.Config(samples=5, hidden=0.3))

    def make_embedding(self):
        return LandmarkEmbedding.of_vertices(self.make().scheme, "plate", range(12))


class TestBlobs(BlobConformance):
    pass


def suite_of(cls, **config):
    class Suite(BlobConformance):
        def make(self):
            return cls(BlobDataset.Config(**{"samples": 5, "hidden": 0.3, **config}))

    return Suite()


class Changed(BlobDataset):
    """Samples with a change."""

    def change(self, sample, index):
        return sample

    def __getitem__(self, index):
        return self.change(super().__getitem__(index), index)


class NoEnd(Changed):
    def __getitem__(self, index):
        return super().__getitem__(index % len(self))


class FromTheEnd(Changed):
    def __getitem__(self, index):
        return super().__getitem__(index + len(self) if index == -1 else index)


class OneMore(Changed):
    def __len__(self):
        return super().__len__() + 1

    def __getitem__(self, index):
        if index == self.config.samples:
            raise IndexError(index)
        return super().__getitem__(index)


class Fewer(Changed):
    def change(self, sample, index):
        return attrs.evolve(sample, points=sample.points[:-1], visible=None)


class Nameless(Changed):
    def change(self, sample, index):
        return attrs.evolve(sample, id=f"blobs-{index // 2}")


class Counting(Changed):
    reads = 0

    def change(self, sample, index):
        Counting.reads += 1
        return attrs.evolve(sample, attributes={"reads": Counting.reads})


class Shared(Changed):
    """Gives away the picture that it keeps."""

    def __init__(self, config=None):
        super().__init__(config)
        self.kept = {}

    def change(self, sample, index):
        image = self.kept.setdefault(index, sample.image)
        return attrs.evolve(sample, image=image)


class Unseeded(Changed):
    def __init__(self, config=None):
        super().__init__(config)
        self.noise = np.random.default_rng().random()

    def change(self, sample, index):
        return attrs.evolve(sample, points=sample.points + self.noise)


class OtherScheme(Changed):
    instances = 0

    def __init__(self, config=None):
        super().__init__(config)
        OtherScheme.instances += 1
        self.name = f"blobs{OtherScheme.instances}"

    @property
    def scheme(self):
        return LandmarkScheme(self.name, super().scheme.names)


class Unpicklable(Changed):
    def __init__(self, config=None):
        super().__init__(config)
        self.function = lambda: None


class SizesForCorners(Changed):
    def change(self, sample, index):
        x0, y0, x1, y1 = sample.box
        return attrs.evolve(sample, box=np.array([x0 + 30, y0 + 30, x1 + 30, y1 + 30]))


class SeenOutside(Changed):
    def change(self, sample, index):
        points = sample.points.copy()
        points[0] = -3.0, 4.0
        return attrs.evolve(sample, points=points, visible=np.ones(12, dtype=bool))


class SeenUnknown(Changed):
    def change(self, sample, index):
        points = sample.points.copy()
        points[0] = np.nan
        return attrs.evolve(sample, points=points, visible=np.ones(12, dtype=bool))


class NumbersForSight(Changed):
    def change(self, sample, index):
        return attrs.evolve(sample, visible=sample.visible.astype(int))


class AllUnknown(Changed):
    def change(self, sample, index):
        return attrs.evolve(sample, points=np.full((12, 2), np.nan), visible=None)


class OpenGL(Changed):
    def change(self, sample, index):
        K = sample.intrinsics * [[1, 1, -1], [1, -1, -1], [1, 1, 1]]
        return attrs.evolve(sample, vertices=sample.vertices * [1, -1, -1], intrinsics=K)


class HalfAPixel(Changed):
    def change(self, sample, index):
        return attrs.evolve(sample, points=sample.points + 0.5)


class Upwards(Changed):
    def change(self, sample, index):
        K = sample.intrinsics * [[1, 1, 1], [1, -1, 1], [1, 1, 1]]
        return attrs.evolve(sample, vertices=sample.vertices * [1, -1, 1], intrinsics=K)


FAULTS = {
    NoEnd: "test_there_are_samples_and_no_others",
    FromTheEnd: "test_there_are_samples_and_no_others",
    OneMore: "test_there_are_samples_and_no_others",
    Fewer: "test_points_are_those_of_the_scheme",
    AllUnknown: "test_points_are_those_of_the_scheme",
    Nameless: "test_ids_differ",
    Counting: "test_a_sample_is_the_same_each_time",
    Shared: "test_a_sample_is_the_same_each_time",
    Unseeded: "test_equal_configurations_give_equal_samples",
    OtherScheme: "test_equal_configurations_give_equal_samples",
    SizesForCorners: "test_boxes_are_around_the_landmarks",
    SeenOutside: "test_what_is_in_sight_is_in_the_picture",
    SeenUnknown: "test_what_is_in_sight_is_in_the_picture",
    NumbersForSight: "test_what_is_in_sight_is_in_the_picture",
    OpenGL: "test_the_camera_shows_the_landmarks",
    HalfAPixel: "test_the_camera_shows_the_landmarks",
    Upwards: "test_the_camera_shows_the_landmarks",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_data_set_fails(fault):
    suite = suite_of(fault)
    with pytest.raises((AssertionError, pytest.fail.Exception, IndexError)):
        getattr(suite, FAULTS[fault])()


def test_a_data_set_without_samples_fails():
    with pytest.raises(AssertionError, match="without samples"):
        suite_of(Changed, samples=0).test_there_are_samples_and_no_others()


def test_a_data_set_that_cannot_be_pickled_fails():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        suite_of(Unpicklable).test_another_process_reads_the_same()


def test_a_data_set_that_another_process_reads_otherwise_fails(tmp_path, monkeypatch):
    (tmp_path / "by_process.py").write_text(
        "import os, attrs\n"
        "from partfit.testing.datasets import BlobDataset\n"
        "class ByProcess(BlobDataset):\n"
        "    def __getitem__(self, index):\n"
        "        return attrs.evolve(super().__getitem__(index), attributes={'process': os.getpid()})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from by_process import ByProcess

    suite = suite_of(ByProcess)
    suite.test_a_sample_is_the_same_each_time()
    with pytest.raises(AssertionError, match="attributes of 'blobs-0': process"):
        suite.test_another_process_reads_the_same()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"points": np.full((12, 2), np.nan)},
        {"visible": None},
        {"box": np.array([0.0, 0, 30, 30])},
        {"parameters": {"betas": np.ones(3)}},
        {"attributes": {"hair": "long"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_samples_that_differ_are_told_apart(change):
    sample: Sample = BlobDataset()[0]
    check_same_sample(BlobDataset()[0], sample)
    with pytest.raises(AssertionError, match=next(iter(change))):
        check_same_sample(attrs.evolve(sample, **change), sample)
    with pytest.raises(AssertionError, match=next(iter(change))):
        check_same_sample(sample, attrs.evolve(sample, **change))
