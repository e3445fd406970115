import numpy as np
import pytest

from partfit.landmarks import LandmarkEmbedding
from partfit.testing.conformance import ModelConformance, RecipeConformance
from partfit_gnm.recipe import face


class TestGnmHead(ModelConformance):
    @pytest.fixture(autouse=True)
    def _head(self, head):
        self.head = head

    def make(self):
        return self.head


class TestRecipe(RecipeConformance):
    @pytest.fixture(autouse=True)
    def _file(self, path):
        pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")
        self.path = str(path)

    def model_options(self, side):
        return {"path": self.path, "n_betas": 12, "n_expression": 15}

    def make_embedding(self, model):
        """Any vertices of the front: no file says where MediaPipe's landmarks lie on this head."""
        front = np.flatnonzero(model.arrays.v_template[: model.topology.n_vertices, 2] > 0.02)
        scheme = self._landmarker().scheme
        rows = np.random.default_rng(0).choice(front, len(scheme), replace=False)
        return LandmarkEmbedding.of_vertices(scheme, model.topology.name, rows.tolist())

    def make(self):
        return face()
