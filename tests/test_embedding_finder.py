"""Which embedding of a landmark scheme is taken, and what is said where there is none."""

import os
from importlib.metadata import EntryPoint

import attrs
import pytest

from partfit.embedding_files import cached_embedding_path, write_embedding
from partfit.embedding_finder import EmbeddingFinder
from partfit.errors import InputError, NoEmbeddingError, OutputError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import SkinnedModel
from partfit.pipeline import Pipeline
from partfit.registry import Registry
from partfit.testing.synthetic import synthetic_model

MODEL = synthetic_model()
SCHEME = LandmarkScheme("three", ["a", "b", "c"])


def rows(*vertices, scheme=SCHEME):
    return LandmarkEmbedding.of_vertices(scheme, MODEL.topology.name, vertices)


@pytest.fixture
def registry():
    return Registry([EntryPoint("core", "partfit.builtin", "partfit.plugins")])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path))
    path = cached_embedding_path(MODEL, "three")
    path.parent.mkdir()
    return path


class Knowing(SkinnedModel):
    """A model with an embedding of its own."""

    embedding_names = ("three",)

    def embedding(self, scheme):
        return rows(4, 5, 6)


def knowing():
    groups = MODEL.groups[:2], MODEL.groups[2:-1]
    return Knowing(MODEL.arrays, MODEL.topology, *groups)


def test_given_comes_before_own_before_transferred(registry, cache, tmp_path):
    write_embedding(rows(7, 8, 9), cache)
    write_embedding(rows(1, 2, 3), tmp_path / "given.safetensors")
    given = EmbeddingFinder(registry, [tmp_path / "given.safetensors"])
    assert given.find("three", knowing()).indices[:, 0].tolist() == [1, 2, 3]
    assert EmbeddingFinder(registry).find("three", knowing()).indices[:, 0].tolist() == [4, 5, 6]
    assert EmbeddingFinder(registry).find("three", MODEL).indices[:, 0].tolist() == [7, 8, 9]


def test_none_names_what_there_is(registry, cache):
    with pytest.raises(
        NoEmbeddingError, match=r"'tree' on the topology 'synthetic-300-0'.*Did you mean 'three'"
    ):
        EmbeddingFinder(registry, [rows(1, 2, 3)]).find("tree", MODEL)


def test_a_transferred_one_of_another_version_is_passed_over(registry, cache):
    write_embedding(rows(7, 8, 9), cache)
    newer = attrs.evolve(SCHEME, version="2")
    assert EmbeddingFinder(registry).find("three", MODEL, SCHEME).scheme.version == "1"
    with pytest.raises(NoEmbeddingError):
        EmbeddingFinder(registry).find("three", MODEL, newer)


def test_a_damaged_transferred_one_is_passed_over(registry, cache):
    cache.write_bytes(b"damaged")
    with pytest.raises(NoEmbeddingError):
        EmbeddingFinder(registry).find("three", MODEL)


def test_without_a_home_there_is_no_cache(registry, monkeypatch):
    monkeypatch.delenv("PARTFIT_CACHE", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path))
    with pytest.raises(OutputError, match="PARTFIT_CACHE"):
        cached_embedding_path(MODEL, "three")
    with pytest.raises(NoEmbeddingError):
        EmbeddingFinder(registry).find("three", MODEL)


def test_the_cache_tells_virtual_points_apart_and_keeps_to_its_folder(cache, tmp_path):
    names = ("a", "b", "c", "d", "e")
    other = SkinnedModel(
        MODEL.arrays, attrs.evolve(MODEL.topology, virtual_points=names), MODEL.groups[:2], MODEL.groups[2:-1]
    )
    assert cached_embedding_path(other, "three") != cache
    assert cached_embedding_path(MODEL, "../../three").parent == tmp_path / "embeddings"


def test_rows_beyond_the_model_are_refused(registry, cache):
    with pytest.raises(InputError, match="refers to point 10000"):
        EmbeddingFinder(registry, [rows(1, 2, 10_000)]).find("three", MODEL)


def test_only_the_lack_of_an_embedding_counts_as_none(cache):
    pytest.importorskip("partfit_anny", reason="has the recipe")

    class Broken(Knowing):
        def embedding(self, scheme):
            raise InputError("the file of the landmarks is damaged")

    broken = Broken(MODEL.arrays, MODEL.topology, MODEL.groups[:2], MODEL.groups[2:-1])
    pipeline = Pipeline(model=broken)
    assert not pipeline.has_embedding("four")
    with pytest.raises(InputError, match="damaged"):
        pipeline.has_embedding("three")
