"""What other programs get of a fitted part: rig or mesh, arrays, and a table of expression weights."""

import csv

import attrs
import numpy as np
import pytest
import trimesh

from partfit.errors import InputError
from partfit.exports import export_instance
from partfit.files import RESULT_FORMATS
from partfit.models import ParametricModel, SkinnedModel
from partfit.results import SaveOptions, save_result


@pytest.fixture(scope="module")
def result(pipeline, photo):
    (result,) = pipeline([photo])
    return result


def with_model(result, model):
    """The result as if its first instance had been fitted with another model of the same parameters."""
    fit = result[0].result
    fit = attrs.evolve(fit, problem=attrs.evolve(fit.problem, model=model))
    return attrs.evolve(result, instances=(attrs.evolve(result[0], result=fit),))


class Unskinned(ParametricModel):
    """A model of which nothing but its points is known."""

    def __init__(self, model):
        super().__init__()
        self._model = model

    @property
    def groups(self):
        return tuple(attrs.evolve(group, names=()) for group in self._model.groups)

    @property
    def topology(self):
        return self._model.topology

    def points(self, x):
        return self._model.points(x)


@pytest.mark.parametrize("frame", ["camera", "model"])
def test_arrays_hold_the_instance(result, photo, frame, tmp_path):
    instance = result[0]
    export_instance(tmp_path / "a.npz", result, 0, frame)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    groups = {
        name.removeprefix("parameters/"): value for name, value in arrays.items() if "parameters/" in name
    }
    assert groups.keys() == instance.parameters.keys()
    for name, value in instance.parameters.items():
        np.testing.assert_array_equal(groups[name], value)
    vertices = instance.vertices if frame == "camera" else instance.vertices_model_frame
    np.testing.assert_array_equal(arrays["vertices"], vertices)
    np.testing.assert_array_equal(arrays["faces"], instance.faces)
    # the eyes' joints lie in the middle of the eyeballs, in the frame of the vertices
    for joint, side in ((3, "left"), (4, "right")):
        eyeball = vertices[instance.model.topology.region(f"{side}_eyeball")]
        centre = (eyeball.max(axis=0) + eyeball.min(axis=0)) / 2
        np.testing.assert_allclose(arrays["joints"][joint], centre, atol=4e-3)
    np.testing.assert_array_equal(arrays["camera/focal"], instance.camera.focal[0])
    np.testing.assert_array_equal(arrays["camera/principal"], [255.5, 255.5])
    np.testing.assert_array_equal(arrays["image_size"], [512, 512])
    texts = {name: str(arrays[name]) for name in ("part", "side", "image", "model", "status", "frame")}
    assert texts == {
        "part": "face",
        "side": "",
        "image": str(photo),
        "model": "anny-head",
        "status": "converged",
        "frame": frame,
    }


def test_the_table_has_the_weights_by_name(result, photo, tmp_path):
    export_instance(tmp_path / "a.csv", result, 0, "camera")
    header, row = csv.reader((tmp_path / "a.csv").read_text().splitlines())
    assert header[:2] == ["image", "instance"]
    assert row[:2] == [str(photo), "0"]
    weights = dict(zip(header[2:], np.array(row[2:], dtype=np.float32), strict=True))
    names = result[0].model.group("expression").names
    np.testing.assert_array_equal([weights[name] for name in names], result[0].parameters["expression"])
    assert {"jawOpen", "eyeBlinkLeft", "mouthSmileRight"} <= weights.keys()


def test_without_names_the_table_is_bare_and_without_a_skin_there_is_no_rig(result, tmp_path):
    plain = with_model(result, Unskinned(result[0].model))
    options = SaveOptions(formats=RESULT_FORMATS, overlay=False)
    written, _ = save_result(plain, "a", tmp_path, options)
    assert {path.name for path in written} == {f"a-0.{suffix}" for suffix in (*RESULT_FORMATS, "json")}
    assert set(tmp_path.iterdir()) == set(written)
    assert (tmp_path / "a-0.csv").read_text().splitlines()[0] == "image,instance"
    assert "joints" not in np.load(tmp_path / "a-0.npz", allow_pickle=False)
    # the plain mesh is posed
    (geometry,) = trimesh.load(tmp_path / "a-0.glb", process=False).geometry.values()
    np.testing.assert_allclose(geometry.vertices, plain[0].vertices * [1, -1, -1], atol=1e-6)


def test_expressions_without_names_are_numbered_in_the_rig(result, tmp_path):
    model = result[0].model
    nameless = [attrs.evolve(group, names=()) for group in model.coefficients]
    other = with_model(result, SkinnedModel(model.arrays, model.topology, nameless, model.poses))
    export_instance(tmp_path / "a.glb", other, 0, "camera")
    assert b'"expression51"' in (tmp_path / "a.glb").read_bytes()


def test_all_formats_of_a_result_are_written_and_those_of_old_instances_removed(result, tmp_path):
    old = [tmp_path / f"a-1.{suffix}" for suffix in RESULT_FORMATS]
    for path in old:
        path.touch()
    (tmp_path / "a-1.json").write_text('{"schema": "partfit.result/1"}')
    options = SaveOptions(formats=RESULT_FORMATS, overlay=False)
    written, removed = save_result(result, "a", tmp_path, options)
    assert set(removed) == {*old, tmp_path / "a-1.json"}
    assert {path.name for path in written} == {f"a-0.{suffix}" for suffix in (*RESULT_FORMATS, "json")}
    assert set(tmp_path.iterdir()) == set(written)


def test_an_unknown_format_is_refused(result, tmp_path):
    with pytest.raises(InputError, match="Unknown mesh format 'stl'"):
        export_instance(tmp_path / "a.stl", result, 0, "camera")
    assert list(tmp_path.iterdir()) == []
