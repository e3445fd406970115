import pytest

import partfit
from partfit.models.contour import ContourEmbedding
from partfit.testing.conformance import EmbeddingConformance, ModelConformance, RecipeConformance
from partfit_flame.recipe import face


class _WithFiles:
    @pytest.fixture(autouse=True)
    def _files(self, folder, companions, flame):
        self.path, self.companions, self.flame = str(folder / "few.npz"), companions, flame

    def make_model(self):
        return self.flame


class TestFlame(_WithFiles, ModelConformance):
    def make(self):
        # without the masks there are fewer regions to decimate
        own = {name: path for name, path in self.companions.items() if name != "masks"}
        return partfit.create("model", "flame", path=self.path, n_betas=6, n_expression=4, **own)


class TestIbug68(_WithFiles, EmbeddingConformance):
    def make(self):
        embedding = self.flame.embedding("ibug68")
        assert isinstance(embedding, ContourEmbedding)
        return embedding


class TestFixedIbug68(_WithFiles, EmbeddingConformance):
    def make(self):
        options = {"path": self.path, "n_betas": 10, "n_expression": 5, "contour": "fixed", **self.companions}
        return partfit.create("model", "flame", **options).embedding("ibug68")


class TestMediapipe105(_WithFiles, EmbeddingConformance):
    def make(self):
        return self.flame.embedding("mediapipe105")


class TestMediapipe468(_WithFiles, EmbeddingConformance):
    def make(self):
        return self.flame.embedding("mediapipe468")


class TestFace(_WithFiles, EmbeddingConformance):
    def make(self):
        return self.flame.embedding("flame-face")


class TestRecipe(_WithFiles, RecipeConformance):
    @pytest.fixture(autouse=True)
    def _landmarks(self):
        pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")

    def make(self):
        return face()

    def model_options(self, side):
        return {"path": self.path, "n_betas": 30, "n_expression": 10, **self.companions}
