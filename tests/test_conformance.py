"""The core's own components, and the synthetic ones that it ships for tests, pass the suites."""

from partfit.fitting import LevenbergMarquardt
from partfit.testing.conformance import EmbeddingConformance, FitterConformance, ModelConformance
from partfit.testing.synthetic import synthetic_embedding, synthetic_model


class TestSyntheticModel(ModelConformance):
    def make(self):
        return synthetic_model()


class TestSyntheticEmbedding(EmbeddingConformance):
    def make(self):
        return synthetic_embedding(synthetic_model(), 40, 3)

    def make_model(self):
        return synthetic_model()


class TestLevenbergMarquardt(FitterConformance):
    def make(self):
        return LevenbergMarquardt()
