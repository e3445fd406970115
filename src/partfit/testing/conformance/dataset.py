"""The suite of data sets."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest

from partfit.config import from_dict, to_dict
from partfit.landmarks import LandmarkEmbedding
from partfit.learning.datasets import Dataset, Sample
from partfit.testing.conformance.base import ConfiguredSuite

#: Reads a data set and sends its first samples back, in a process that has imported nothing yet.
_OTHER_PROCESS = """
import pickle, sys
dataset, n = pickle.load(sys.stdin.buffer)
pickle.dump([dataset[i] for i in range(n)], sys.stdout.buffer)
"""


class DatasetConformance(ConfiguredSuite):
    """A data set: the same samples each time, in any process, whose facts agree with one another.

    Attributes:
        n_samples: How many of the first samples the suite reads; all of them must be usable.
        least_in_box: The least share of a sample's known landmarks that lies in its box.
    """

    n_samples: int = 4
    least_in_box: float = 0.5

    @abstractmethod
    def make(self) -> Dataset:
        """The data set under test."""

    def make_embedding(self) -> LandmarkEmbedding | None:
        """Where its landmarks lie on its vertices, if they do: rows over `Sample.vertices`."""
        return None

    def test_there_are_samples_and_no_others(self) -> None:
        dataset = self.make()
        n = len(dataset)
        assert n > 0, "a data set without samples is an error when it is built"
        for index in (n, n + 5, -1):
            with pytest.raises(IndexError):
                dataset[index]
        assert isinstance(dataset[n - 1], Sample)

    def test_points_are_those_of_the_scheme(self) -> None:
        dataset = self.make()
        known = 0
        for sample in self._prefix(dataset):
            assert sample.points.shape == (len(dataset.scheme), 2)
            known += np.isfinite(sample.points).all(axis=1).sum()
        assert known > 0, "no landmark of any sample is known"

    def test_ids_differ(self) -> None:
        ids = [sample.id for sample in self._prefix(self.make())]
        assert all(ids)
        assert len(set(ids)) == len(ids), f"samples share an id: {ids}"

    def test_a_sample_is_the_same_each_time(self) -> None:
        """Read again, in another order, after somebody has drawn on the picture that was read before."""
        dataset = self.make()
        first = self._prefix(dataset)
        kept = pickle.loads(pickle.dumps(first))
        for sample in first:
            if sample.image.flags.writeable:
                sample.image[:] = 0
        for index in reversed(range(len(kept))):
            check_same_sample(dataset[index], kept[index])

    def test_equal_configurations_give_equal_samples(self) -> None:
        dataset = self.make()
        again = type(dataset)(from_dict(type(dataset.config), to_dict(dataset.config)))
        assert len(again) == len(dataset)
        assert again.scheme.hash == dataset.scheme.hash
        for one, other in zip(self._prefix(again), self._prefix(dataset), strict=True):
            check_same_sample(one, other)

    def test_another_process_reads_the_same(self) -> None:
        """It is pickled as it was built, for a process that has nothing else of this one."""
        dataset = self.make()
        expected = self._prefix(dataset)
        done = subprocess.run(
            [sys.executable, "-c", _OTHER_PROCESS],
            input=pickle.dumps((dataset, len(expected))),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        for one, other in zip(pickle.loads(done.stdout), expected, strict=True):
            check_same_sample(one, other)

    def test_boxes_are_around_the_landmarks(self) -> None:
        for sample in self._prefix(self.make()):
            known = sample.points[np.isfinite(sample.points).all(axis=1)]
            inside = ((known >= sample.box[:2]) & (known <= sample.box[2:])).all(axis=1)
            assert len(known) == 0 or inside.mean() >= self.least_in_box, (
                f"sample {sample.id!r}: {inside.mean():.0%} of the landmarks lie in the box "
                f"{sample.box.tolist()}; is it x0, y0, x1, y1?"
            )

    def test_what_is_in_sight_is_in_the_picture(self) -> None:
        for sample in self._prefix(self.make()):
            if sample.visible is None:
                continue
            assert sample.visible.dtype == bool
            seen = sample.points[sample.visible]
            height, width = sample.image.shape[:2]
            inside = (seen >= -0.5) & (seen <= [width - 0.5, height - 0.5])
            assert inside.all(), f"sample {sample.id!r}: a landmark in sight is not in the picture"

    def test_the_camera_shows_the_landmarks(self) -> None:
        """Vertices lie in front of it, and those that the embedding names are seen where the points are."""
        embedding = self.make_embedding()
        dataset = self.make()
        assert embedding is None or embedding.scheme.hash == dataset.scheme.hash
        for sample in self._prefix(dataset):
            if sample.vertices is None or sample.intrinsics is None:
                continue
            K = sample.intrinsics
            assert np.array_equal(K[2], [0, 0, 1])
            assert K[1, 0] == 0
            assert (np.diag(K) > 0).all(), "focal lengths must be positive"
            assert (sample.vertices[:, 2] > 0).all(), "z grows away from the camera"
            if embedding is not None:
                rays = embedding.apply(sample.vertices) @ K.T
                known = np.isfinite(sample.points).all(axis=1)
                seen = rays[:, :2] / rays[:, 2:]
                np.testing.assert_allclose(seen[known], sample.points[known], rtol=0, atol=1e-3)

    def _prefix(self, dataset: Dataset) -> list[Sample]:
        return [dataset[index] for index in range(min(self.n_samples, len(dataset)))]


def check_same_sample(one: Sample, other: Sample, atol: float = 0.0) -> None:
    """Two samples are equal; their real numbers to `atol`."""
    for name in (field.name for field in attrs.fields(Sample)):
        _check_same(f"{name} of {other.id!r}", getattr(one, name), getattr(other, name), atol)


def _check_same(name: str, one: Any, other: Any, atol: float) -> None:
    for kind in (np.ndarray, Mapping):
        assert isinstance(one, kind) == isinstance(other, kind), f"{name}: {one} is not {other}"
    if isinstance(other, np.ndarray):
        assert one.dtype == other.dtype, name
        exact = other.dtype.kind in "bui"
        np.testing.assert_allclose(one, other, rtol=0, atol=0 if exact else atol, err_msg=name)
    elif isinstance(other, Mapping):
        assert one.keys() == other.keys(), f"{name}: {list(one)} are not {list(other)}"
        for key in other:
            _check_same(f"{name}: {key}", one[key], other[key], atol)
    else:
        assert one == other, f"{name}: {one!r} is not {other!r}"
