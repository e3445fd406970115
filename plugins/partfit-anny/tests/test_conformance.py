import pytest

from partfit.testing.conformance import EmbeddingConformance, ModelConformance, RecipeConformance
from partfit_anny.embeddings import anny_face_dense, ibug68, mediapipe468
from partfit_anny.head import AnnyHead
from partfit_anny.recipe import face


class TestAnnyHead(ModelConformance):
    def make(self):
        return AnnyHead(AnnyHead.Config(n_betas=10))


class _OnAnny(EmbeddingConformance):
    def make_model(self):
        return AnnyHead()


class TestMediapipe468(_OnAnny):
    def make(self):
        return mediapipe468()


class TestIbug68(_OnAnny):
    def make(self):
        return ibug68()


class TestDense(_OnAnny):
    def make(self):
        return anny_face_dense()


class TestFaceRecipe(RecipeConformance):
    @pytest.fixture(autouse=True)
    def _landmarks(self):
        pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")

    def make(self):
        return face()
