import json
import os

import attrs
import numpy as np
import pytest
from safetensors.numpy import save_file

from partfit.embedding_files import cached_embedding_path, read_embedding, write_embedding
from partfit.errors import InputError, OutputError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.testing.synthetic import synthetic_model

SCHEME = LandmarkScheme(
    "three",
    ["a", "b", "c"],
    "2",
    triangles=[[0, 1, 2]],
    edges=[[0, 1]],
    mirror=[1, 0, 2],
    positions=[[0.1, 0, 0], [-0.1, 0, 0], [0, 0.1, 0]],
)
EMBEDDING = LandmarkEmbedding(SCHEME, "plane", [[0, 1], [2, 3], [4, 4]], [[0.25, 0.75]] * 3, [1.0, 0.5, 0.0])


@pytest.fixture
def file(tmp_path):
    write_embedding(EMBEDDING, tmp_path / "three.safetensors")
    return tmp_path / "three.safetensors"


def test_an_embedding_comes_back_whole(file):
    back = read_embedding(file)
    assert (back.hash, back.topology) == (EMBEDDING.hash, "plane")
    assert (back.scheme.names, back.scheme.version) == (("a", "b", "c"), "2")
    for name in ("triangles", "edges", "mirror", "positions"):
        assert np.array_equal(getattr(back.scheme, name), getattr(SCHEME, name))
    assert np.array_equal(back.reliability, [1.0, 0.5, 0.0])


def test_a_scheme_without_a_mirror_keeps_none(tmp_path):
    plain = attrs.evolve(EMBEDDING, scheme=LandmarkScheme("three", ["a", "b", "c"]))
    write_embedding(plain, tmp_path / "plain.safetensors")
    back = read_embedding(tmp_path / "plain.safetensors").scheme
    assert (back.mirror, back.positions) == (None, None)


def test_files_at_fault_are_named(file, tmp_path):
    with pytest.raises(
        InputError, match=r"gone\.safetensors: expected .*, found no such file.*transfer-landmarks"
    ):
        read_embedding(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("no embedding, but long enough for a header")
    with pytest.raises(InputError, match="no safetensors file, or a damaged one"):
        read_embedding(tmp_path / "text.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="no safetensors file, or a damaged one"):
        read_embedding(file)
    save_file({"indices": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no embedding"):
        read_embedding(tmp_path / "other.safetensors")


def test_a_changed_file_is_refused(file):
    content = file.read_bytes()
    at = content.rindex(np.array([0.25, 0.75]).tobytes())
    file.write_bytes(content[:at] + np.array([0.75, 0.25]).tobytes() + content[at + 16 :])
    with pytest.raises(InputError, match=r"expected content of the hash .* it was changed"):
        read_embedding(file)


HEADER = {
    "format": "partfit-embedding",
    "version": 1,
    "topology": "plane",
    "hash": EMBEDDING.hash,
    "scheme": {"name": "three", "names": ["a", "b", "c"], "version": "2", "mirror_scheme": None},
}
ARRAYS = {
    "indices": EMBEDDING.indices,
    "weights": EMBEDDING.weights,
    "reliability": EMBEDDING.reliability,
    "triangles": SCHEME.triangles,
    "edges": SCHEME.edges,
}


def without(values, name):
    return {key: value for key, value in values.items() if key != name}


def of_scheme(**values):
    return {**HEADER, "scheme": {**HEADER["scheme"], **values}}


@pytest.mark.parametrize(
    ("header", "arrays", "message"),
    [
        ([1], ARRAYS, "a safetensors file that holds no embedding"),
        ({**HEADER, "version": 2}, ARRAYS, "expected an embedding of version 1, found 2"),
        (without(HEADER, "scheme"), ARRAYS, "expected 'scheme' in its header, found none"),
        (without(HEADER, "hash"), ARRAYS, "expected 'hash' in its header, found none"),
        (without(HEADER, "topology"), ARRAYS, "expected 'topology' in its header, found none"),
        ({**HEADER, "hash": 5}, ARRAYS, "expected 'hash' in its header, found a value of the type int"),
        ({**HEADER, "scheme": "x"}, ARRAYS, "expected 'scheme' in its header, found a value of the type str"),
        (of_scheme(names=5), ARRAYS, "expected 'names' in its header, found a value of the type int"),
        (of_scheme(names="abc"), ARRAYS, "expected 'names' in its header, found a value of the type str"),
        (
            of_scheme(names=["a", 5, "c"]),
            ARRAYS,
            "expected only texts in 'names' in its header, found others",
        ),
        (of_scheme(names=[]), ARRAYS, r"expected shape \(0, any\) of 'indices', found \(3, 2\)"),
        (of_scheme(mirror_scheme="left"), ARRAYS, "names a mirror scheme, but has no mirror"),
        (HEADER, without(ARRAYS, "edges"), "expected an entry 'edges'"),
        (
            HEADER,
            {**ARRAYS, "indices": ARRAYS["indices"] + 0.5},
            "expected whole numbers from 0 in 'indices'",
        ),
        (HEADER, {**ARRAYS, "indices": ARRAYS["indices"][:2]}, r"expected shape \(3, any\) of 'indices'"),
        (HEADER, {**ARRAYS, "weights": ARRAYS["weights"] * np.nan}, "expected finite numbers in 'weights'"),
        (HEADER, {**ARRAYS, "weights": ARRAYS["weights"] * 2}, "one that cannot be: .* must each sum to 1"),
        (HEADER, {**ARRAYS, "weights": np.ones((3, 1))}, "one that cannot be: weights of"),
        (HEADER, {**ARRAYS, "mirror": np.array([0, 0, 0])}, "must name each of its 3 points once"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(header, arrays, message, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(ARRAYS, path, {"partfit": json.dumps(HEADER)})
    assert read_embedding(path).hash == EMBEDDING.hash
    save_file(arrays, path, {"partfit": json.dumps(header)})
    with pytest.raises(InputError, match=message):
        read_embedding(path)


def test_pipes_devices_and_folders_are_refused(file, tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", "/dev/null"):
        with pytest.raises(InputError, match="found no regular file"):
            read_embedding(path)
    with pytest.raises(InputError, match=r"a folder: give one of its files: pipe\.safetensors, three\.saf"):
        read_embedding(tmp_path)


def test_the_home_folder_may_be_written_as_a_tilde(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert read_embedding("~/three.safetensors").hash == EMBEDDING.hash


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
