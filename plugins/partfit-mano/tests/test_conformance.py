import pytest

import partfit
from partfit.testing.conformance import EmbeddingConformance, ModelConformance, RecipeConformance
from partfit_mano.recipe import hand


class _Mano(ModelConformance):
    options = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _files(self, folder):
        self.path = str(folder)

    def make(self):
        return partfit.create("model", "mano", path=self.path, **self.options)


class TestRight(_Mano):
    pass


class TestLeft(_Mano):
    options = {"side": "left"}  # noqa: RUF012


class TestFlatMean(_Mano):
    options = {"flat_hand_mean": True, "n_betas": 3}  # noqa: RUF012


class TestComponents(_Mano):
    options = {"pose": "pca", "n_pca": 12, "side": "left"}  # noqa: RUF012


class TestHand21(EmbeddingConformance):
    @pytest.fixture(autouse=True)
    def _files(self, folder):
        self.path = str(folder)

    def make_model(self):
        return partfit.create("model", "mano", path=self.path, side="left")

    def make(self):
        return self.make_model().embedding("hand21")


class TestRecipe(RecipeConformance):
    @pytest.fixture(autouse=True)
    def _files(self, hand_like_folder):
        pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")
        self.path = str(hand_like_folder)

    def model_options(self, side):
        return {"path": self.path, "side": side}

    def make(self):
        return hand()
