import pytest

from partfit.testing.conformance import EmbeddingConformance, ModelConformance, RecipeConformance
from partfit_anny.embeddings import (
    anny_face_dense,
    anny_face_ears,
    hand21_left,
    hand21_right,
    ibug51,
    ibug68,
    mediapipe468,
    mediapipe478,
)
from partfit_anny.hand import AnnyHand
from partfit_anny.head import AnnyHead
from partfit_anny.recipe import face, hand


class TestAnnyHead(ModelConformance):
    def make(self):
        return AnnyHead(AnnyHead.Config(n_betas=10))


class _OnAnny(EmbeddingConformance):
    def make_model(self):
        return AnnyHead()


class TestMediapipe468(_OnAnny):
    def make(self):
        return mediapipe468()


class TestMediapipe478(_OnAnny):
    def make(self):
        return mediapipe478()


class TestIbug68(_OnAnny):
    def make(self):
        return ibug68()


class TestIbug51(_OnAnny):
    def make(self):
        return ibug51()


class TestDense(_OnAnny):
    def make(self):
        return anny_face_dense()


class TestFaceAndEars(_OnAnny):
    def make(self):
        return anny_face_ears()


class TestRightHand(ModelConformance):
    def make(self):
        return AnnyHand()


class TestLeftHand(ModelConformance):
    def make(self):
        return AnnyHand(AnnyHand.Config(side="left"))


class TestRightHand21(EmbeddingConformance):
    def make(self):
        return hand21_right()

    def make_model(self):
        return AnnyHand()


class TestLeftHand21(EmbeddingConformance):
    def make(self):
        return hand21_left()

    def make_model(self):
        return AnnyHand(AnnyHand.Config(side="left"))


class _OnMediapipe(RecipeConformance):
    @pytest.fixture(autouse=True)
    def _landmarks(self):
        pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")


class TestFaceRecipe(_OnMediapipe):
    def make(self):
        return face()


class TestHandRecipe(_OnMediapipe):
    def make(self):
        return hand()
