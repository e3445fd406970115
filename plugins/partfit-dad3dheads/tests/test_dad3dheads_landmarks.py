"""Which vertices are landmarks, by what name, and what is known of their mesh."""

import json
import re
import shutil

import numpy as np
import pytest
import trimesh

import partfit
from partfit.errors import ConfigError, InputError, ModelFileError
from partfit.geometry.decimation import decimation_series
from partfit.meshes import write_mesh
from partfit.testing.official.flame import flame_content, write_companions, write_flame


@pytest.fixture(scope="module")
def flame_files(tmp_path_factory):
    """A model file and masks as FLAME's, of made-up content."""
    folder = tmp_path_factory.mktemp("flame")
    content = flame_content()
    write_flame(folder / "flame.pkl", content.entries)
    return {
        "mesh": folder / "flame.pkl",
        "masks": write_companions(folder, content)["FLAME_masks.pkl"],
    }


@pytest.fixture
def scheme(folder):
    """The scheme for some options."""

    def make(**options):
        return partfit.create("dataset", "dad3dheads", root=folder.root, **options).scheme

    return make


@pytest.fixture
def ball(tmp_path):
    """A sphere of 162 vertices as a mesh file; it is its own mirror image."""
    sphere = trimesh.creation.icosphere(2)
    path = tmp_path / "ball.ply"
    write_mesh(path, sphere.vertices, sphere.faces, frame="model")
    return path


def test_regions_are_those_of_the_flame_model(scheme, flame_files):
    """So that a network that learned them is fitted with the plugin for FLAME as it is."""
    pytest.importorskip("partfit_flame")
    mesh, masks = flame_files["mesh"], flame_files["masks"]
    model = partfit.create("model", "flame", path=mesh, masks=masks)
    for region in ("face", "head_without_neck"):
        ours = scheme(indices=masks, region=region, mesh=mesh)
        theirs = model.embedding(f"flame-{region}").scheme
        assert ours.hash == theirs.hash
        assert ours.names == theirs.names
        assert np.array_equal(ours.triangles, theirs.triangles)
    n = -(-len(model.topology.region("face")) // 2)
    ours = scheme(indices=masks, region="face", mesh=mesh, subset=n)
    theirs = model.embedding(f"flame-face-{n}").scheme
    assert (ours.name, ours.hash) == (theirs.name, theirs.hash)
    assert np.array_equal(ours.triangles, theirs.triangles)
    assert scheme(mesh=mesh).hash == model.embedding("flame-head").scheme.hash


def test_a_region_needs_no_mesh(scheme, flame_files):
    masks = flame_files["masks"]
    with_mesh = scheme(indices=masks, region="face", mesh=flame_files["mesh"])
    without = scheme(indices=masks, region="face")
    assert without.hash == with_mesh.hash
    assert len(without.triangles) == 0
    assert without.mirror is None
    assert without.positions is None


@pytest.mark.parametrize("suffix", ["npy", "txt", "json"])
def test_index_files_are_read(scheme, tmp_path, suffix):
    path = tmp_path / f"Cheeks.{suffix}"
    numbers = [7, 2, 5, 2]
    if suffix == "npy":
        np.save(path, np.array(numbers))
    else:
        path.write_text(json.dumps(numbers) if suffix == "json" else " ".join(map(str, numbers)))
    found = scheme(topology="toy", indices=path)
    assert found.name == "toy-cheeks"
    assert found.names == ("v0002", "v0005", "v0007")
    assert scheme(topology="toy", indices=path, region="left_cheek").name == "toy-left_cheek"


def test_other_indices_are_another_version(scheme, tmp_path):
    versions = set()
    for folder, text in (("a", "1 2 3"), ("b", "1 2 4")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "few.txt").write_text(text)
        versions.add(scheme(topology="toy", indices=tmp_path / folder / "few.txt").hash)
    assert len(versions) == 2


def test_subsets_are_the_levels_of_the_series(scheme, ball):
    sphere = trimesh.creation.icosphere(2)
    expected = decimation_series(np.float32(sphere.vertices), sphere.faces, 2)
    kept = expected[0].kept[expected[1].kept]
    found = scheme(topology="ball", mesh=ball, subset=41)
    assert found.name == "ball-head-41"
    assert found.names == tuple(f"v{vertex:04d}" for vertex in kept)
    assert np.array_equal(found.triangles, expected[1].faces)
    np.testing.assert_array_equal(found.positions, np.float32(sphere.vertices)[kept])
    with pytest.raises(ConfigError, match=r"the series 162, 81, 41, 21, 11, 6, 3, 2, 1, found 80"):
        scheme(topology="ball", mesh=ball, subset=80)
    whole = scheme(topology="ball", mesh=ball, subset=162)
    assert whole.name == "ball-head"
    assert whole.hash == scheme(topology="ball", mesh=ball).hash
    with pytest.raises(ConfigError, match="subset: expected the option mesh"):
        scheme(indices=None, subset=41)


def test_the_mirror_takes_each_landmark_to_its_image(scheme, ball, tmp_path):
    sphere = scheme(topology="ball", mesh=ball)
    assert sphere.mirror is not None
    np.testing.assert_allclose(sphere.positions[sphere.mirror], sphere.positions * [-1, 1, 1], atol=1e-6)
    (tmp_path / "right.txt").write_text(" ".join(map(str, np.flatnonzero(sphere.positions[:, 0] < 0.1))))
    assert scheme(topology="ball", mesh=ball, indices=tmp_path / "right.txt").mirror is None


def test_a_mesh_that_is_not_symmetric_has_no_mirror(scheme, tmp_path):
    vertices = trimesh.creation.icosphere(2).vertices.copy()
    vertices[40] += 0.2
    write_mesh(tmp_path / "dented.obj", vertices, trimesh.creation.icosphere(2).faces, frame="model")
    assert scheme(topology="dented", mesh=tmp_path / "dented.obj").mirror is None


def test_the_mesh_says_how_many_vertices_there_are(scheme, folder, ball, tmp_path):
    dataset = partfit.create("dataset", "dad3dheads", root=folder.root, topology="ball", mesh=ball)
    with pytest.raises(InputError, match="expected 162 vertices, of the topology 'ball', found 12"):
        dataset[0]
    with pytest.raises(InputError, match=r"expected the 5023 vertices of FLAME, found 162.*option topology"):
        scheme(mesh=ball)
    (tmp_path / "far.txt").write_text("3 162")
    with pytest.raises(ModelFileError, match="from 0 to 161"):
        scheme(topology="ball", mesh=ball, indices=tmp_path / "far.txt")


def test_landmarks_that_cannot_be(scheme, flame_files, tmp_path):
    masks = flame_files["masks"]
    with pytest.raises(ConfigError, match="region: expected one of boundary, eye_region, face"):
        scheme(indices=masks)
    with pytest.raises(ModelFileError, match="an entry 'chin'"):
        scheme(indices=masks, region="chin")
    with pytest.raises(ConfigError, match="indices: expected a file of vertex indices, or the option mesh"):
        scheme(topology="toy")
    contents = {
        "empty.json": ("[]", "expected vertex indices, found none"),
        "negative.txt": ("3 -1", "from 0 to 5022"),
        "large.txt": ("3 5023", "from 0 to 5022"),
        "half.txt": ("3.5", "expected vertex indices, found something else"),
        "broken.json": ("[1,", "expected vertex indices, found something else"),
        "missing.txt": (None, "expected a file that can be read"),
        "face-805.txt": ("1 2", "does not end in a hyphen and a number"),
        "two words.txt": ("1 2", "Set the option region"),
    }
    for name, (text, message) in contents.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises((ConfigError, ModelFileError), match=re.escape(message)):
            scheme(indices=tmp_path / name)


def test_a_model_file_that_is_none_is_named(scheme, folder, tmp_path):
    shutil.copy(folder.root / "train" / "train.json", tmp_path / "flame.pkl")
    with pytest.raises(ModelFileError, match=r"flame.pkl.*v_template and f"):
        scheme(mesh=tmp_path / "flame.pkl")
