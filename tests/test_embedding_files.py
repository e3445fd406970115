import json

import attrs
import numpy as np
import pytest
from safetensors.numpy import save_file

from partfit.embedding_files import cached_embedding_path, read_embedding, read_report, write_embedding
from partfit.errors import InputError, OutputError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.testing.synthetic import synthetic_model

SCHEME = LandmarkScheme(
    "three", ["a", "b", "c"], "2", triangles=[[0, 1, 2]], edges=[[0, 1]], mirror=[1, 0, 2]
)
EMBEDDING = LandmarkEmbedding(SCHEME, "plane", [[0, 1], [2, 3], [4, 4]], [[0.25, 0.75]] * 3, [1.0, 0.5, 0.0])


@pytest.fixture
def file(tmp_path):
    write_embedding(EMBEDDING, tmp_path / "three.safetensors", {"median_mm": 0.5})
    return tmp_path / "three.safetensors"


def test_an_embedding_comes_back_whole(file):
    back = read_embedding(file)
    assert (back.hash, back.topology) == (EMBEDDING.hash, "plane")
    assert (back.scheme.names, back.scheme.version) == (("a", "b", "c"), "2")
    for name in ("triangles", "edges", "mirror"):
        assert np.array_equal(getattr(back.scheme, name), getattr(SCHEME, name))
    assert np.array_equal(back.reliability, [1.0, 0.5, 0.0])
    assert read_report(file) == {"median_mm": 0.5}


def test_a_scheme_without_a_mirror_keeps_none(tmp_path):
    plain = attrs.evolve(EMBEDDING, scheme=LandmarkScheme("three", ["a", "b", "c"]))
    write_embedding(plain, tmp_path / "plain.safetensors")
    assert read_embedding(tmp_path / "plain.safetensors").scheme.mirror is None
    assert read_report(tmp_path / "plain.safetensors") == {}


def test_files_at_fault_are_named(file, tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors: there is no such file"):
        read_embedding(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("no embedding, but long enough for a header")
    with pytest.raises(InputError, match="this is no embedding"):
        read_embedding(tmp_path / "text.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="this is no embedding"):
        read_embedding(file)
    save_file({"indices": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no embedding"):
        read_embedding(tmp_path / "other.safetensors")


def test_a_changed_file_is_refused(file):
    content = file.read_bytes()
    at = content.rindex(np.array([0.25, 0.75]).tobytes())
    file.write_bytes(content[:at] + np.array([0.75, 0.25]).tobytes() + content[at + 16 :])
    with pytest.raises(InputError, match="does not have the hash"):
        read_embedding(file)


def test_a_header_that_lacks_something_is_refused(tmp_path):
    header = {"format": "partfit-embedding", "version": 1, "topology": "plane", "hash": ""}
    save_file({"indices": np.zeros(3)}, tmp_path / "a.safetensors", {"partfit": json.dumps(header)})
    with pytest.raises(InputError, match="'scheme' is missing"):
        read_embedding(tmp_path / "a.safetensors")
    newer = {**header, "version": 2}
    save_file({"indices": np.zeros(3)}, tmp_path / "b.safetensors", {"partfit": json.dumps(newer)})
    with pytest.raises(InputError, match="expected an embedding of version 1, found 2"):
        read_embedding(tmp_path / "b.safetensors")


def test_where_it_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"\.safetensors file, found 'a\.npz'"):
        write_embedding(EMBEDDING, tmp_path / "a.npz")
    with pytest.raises(OutputError):
        write_embedding(EMBEDDING, tmp_path / "none" / "a.safetensors")


def test_the_cache_tells_models_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path))
    one, same, other = synthetic_model(seed=1), synthetic_model(seed=1), synthetic_model(seed=2)
    path = cached_embedding_path(one, "three")
    assert path == cached_embedding_path(same, "three")
    assert path.parent == tmp_path / "embeddings"
    assert path.name.startswith("synthetic-300-1-three-")
    assert path.name[-30:] != cached_embedding_path(other, "three").name[-30:]
