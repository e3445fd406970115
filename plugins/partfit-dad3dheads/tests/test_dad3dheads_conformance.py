"""The data set passes the suite of its kind: on files written by hand, and on those that it wrote itself."""

import numpy as np
import pytest

import partfit
from partfit.landmarks import LandmarkEmbedding
from partfit.testing.conformance import DatasetConformance
from partfit_dad3dheads.writing import write_dataset


class TestHandMade(DatasetConformance):
    least_in_box = 0.25

    @pytest.fixture(autouse=True)
    def _files(self, folder, indices):
        self.options = {"root": folder.root, "topology": "toy", "indices": indices}

    def make(self):
        return partfit.create("dataset", "dad3dheads", **self.options)

    def make_embedding(self):
        return LandmarkEmbedding.of_vertices(self.make().scheme, "toy", [0, 3, 4, 11])


class TestWritten(TestHandMade):
    @pytest.fixture(autouse=True)
    def _rewritten(self, _files, tmp_path):
        original = self.make()
        write_dataset([original[i] for i in range(len(original))], tmp_path / "again", "train")
        self.options = {**self.options, "root": tmp_path / "again"}


def test_it_is_registered_and_describes_itself(folder, indices):
    dataset = partfit.create("dataset", "dad3dheads", root=folder.root, topology="toy", indices=indices)
    assert dataset.kind == "dataset"
    assert np.array_equal(dataset[0].points, dataset[0].points)
