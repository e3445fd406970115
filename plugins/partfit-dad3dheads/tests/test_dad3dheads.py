"""What the data set reads of files that were written by hand, and what it says about bad ones."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import ConfigError, InputError
from partfit.learning.datasets import SampleError
from partfit_dad3dheads.annotations import Annotation
from partfit_dad3dheads.index import halves


def load(folder, indices=None, **options):
    given = {"topology": "toy", "indices": indices, **options}
    return partfit.create("dataset", "dad3dheads", root=folder.root, **given)


def published_points(content, height):
    """Where the published code puts the vertices, edge to edge: column vectors, one at a time."""
    points = []
    for vertex in content["vertices"]:
        camera = [sum(row[k] * x for k, x in enumerate([*vertex, 1])) for row in content["model_view_matrix"]]
        q = [sum(row[k] * x for k, x in enumerate(camera)) for row in content["projection_matrix"]]
        points.append([q[0] / q[3], height - q[1] / q[3]])
    return np.array(points)


def test_a_sample_is_what_the_files_say(make_folder, indices):
    folder = make_folder()
    pixels, content = folder.add("train", "one")
    dataset = load(folder, indices)
    sample = dataset[0]
    assert sample.id == "one"
    assert np.array_equal(sample.image, pixels)
    expected = published_points(content, 48)[[0, 3, 4, 11]] - 0.5
    np.testing.assert_allclose(sample.points, expected, rtol=0, atol=1e-9)
    assert sample.box.tolist() == [9.5, 5.5, 49.5, 41.5]
    assert sample.attributes == {"quality": "hq", "standard light": True, "pose": "front"}
    assert sample.visible is None
    assert sample.occlusion is None
    assert dataset.scheme.name == "toy-few"
    assert dataset.scheme.names == ("v0000", "v0003", "v0004", "v0011")


def test_the_vertices_have_the_size_of_the_models_own_and_lie_before_the_camera(make_folder, indices):
    folder = make_folder()
    _, content = folder.add("train", "one")
    sample = load(folder, indices)[0]
    vertices, (fx, fy) = np.array(content["vertices"]), np.diag(sample.intrinsics)[:2]
    between = np.linalg.norm(np.diff(vertices, axis=0), axis=1)
    found = np.linalg.norm(np.diff(sample.vertices, axis=0), axis=1)
    np.testing.assert_allclose(found, between, rtol=1e-12)  # MV's scale of 2.5 is divided out
    np.testing.assert_allclose([fx, fy], 150, rtol=1e-12)
    # the principal point (30, 25) from the bottom-left corner, of 48 rows
    np.testing.assert_allclose(sample.intrinsics[:2, 2], [29.5, 48 - 25 - 0.5], rtol=1e-12)
    np.testing.assert_allclose(sample.vertices.mean(axis=0)[2], 3.0 / 2.5, atol=0.1)
    rays = sample.vertices @ sample.intrinsics.T
    np.testing.assert_allclose(rays[[0, 3, 4, 11], :2] / rays[[0, 3, 4, 11], 2:], sample.points, atol=1e-9)


def test_a_point_drawn_by_the_published_rule_lies_in_the_pixel_it_is_drawn_in():
    """Their drawing takes the integer part: the bottom-left pixel's middle is (0.5, 0.5) of the window."""
    at_pixel = np.array([[0.5, 0.5, -1.0]])  # c of a vertex for P = (x, y, ., -z)
    projection = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -1, 0], [0, 0, -1, 0]])
    annotation = Annotation(at_pixel, np.eye(4), projection)
    assert annotation.points(10).tolist() == [[0.0, 9.0]]


numbers = st.floats(-1, 1, width=32)


@st.composite
def annotations(draw):
    """MV that turns, scales, shears a little and moves; P of any pinhole camera that sees all vertices."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1e-3, 0.5, 1.0, 30.0]))
    shear = np.eye(3) + draw(st.sampled_from([0.0, 0.2])) * rng.uniform(-1, 1, (3, 3))
    model_view = np.eye(4)
    turn = Rotation.from_rotvec([draw(numbers) * 3, draw(numbers) * 3, draw(numbers) * 3]).as_matrix()
    model_view[:3, :3] = scale * turn @ shear
    model_view[:3, 3] = scale * np.array([draw(numbers), draw(numbers), -8.0])
    fx, fy, cx, cy, skew = rng.uniform([50, 50, -100, -100, -5], [3000, 3000, 1000, 1000, 5])
    projection = rng.normal(size=(4, 4))
    projection[0], projection[1] = [fx, skew, -cx, 0], [0, fy, -cy, 0]
    projection[3] = 0, 0, -1, 0
    if draw(st.booleans()):  # a camera that is turned and lies elsewhere than OpenGL's
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.05, 0.05, 3)).as_matrix()
        pose[:3, 3] = scale * rng.uniform(-0.3, 0.3, 3)
        projection = projection @ pose * rng.uniform(0.1, 5)
    return Annotation(rng.uniform(-1, 1, (7, 3)), model_view, projection), draw(st.integers(1, 4000))


@given(annotations())
def test_points_and_pinhole_camera_agree_with_the_published_formula(drawn):
    annotation, height = drawn
    content = {
        "vertices": annotation.vertices.tolist(),
        "model_view_matrix": annotation.model_view.tolist(),
        "projection_matrix": annotation.projection.tolist(),
    }
    points = annotation.points(height)
    expected = published_points(content, height) - 0.5
    np.testing.assert_allclose(points, expected, rtol=1e-9, atol=1e-6)
    vertices, K = annotation.pinhole(height)
    assert (vertices[:, 2] > 0).all()
    assert (np.diag(K) > 0).all()
    assert np.array_equal(K[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1])
    rays = vertices @ K.T
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], points, rtol=1e-9, atol=1e-6)
    # as large as the model's own: a rigid motion of it where MV does not shear, and of its volume always
    original, seen = (np.linalg.det(v[1:4] - v[0]) for v in (annotation.vertices, vertices))
    np.testing.assert_allclose(seen, original, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(annotation.rotation), 1, rtol=1e-9)


def test_a_picture_reduced_while_it_is_read_keeps_its_landmarks(make_folder, indices, monkeypatch):
    monkeypatch.setattr("partfit.images.MAX_PIXELS", 1000)
    folder = make_folder()
    _, content = folder.add("train", "one")
    sample = load(folder, indices)[0]
    assert sample.image.shape == (24, 32, 3)
    edges = published_points(content, 48)[[0, 3, 4, 11]] / 2
    np.testing.assert_allclose(sample.points, edges - 0.5, atol=1e-9)
    assert sample.box.tolist() == [4.5, 2.5, 24.5, 20.5]
    rays = sample.vertices[[0, 3, 4, 11]] @ sample.intrinsics.T
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], sample.points, atol=1e-9)


def test_all_vertices_are_landmarks_by_default(make_folder):
    folder = make_folder(vertices=5023)
    folder.add("train", "one")
    dataset = partfit.create("dataset", "dad3dheads", root=folder.root)
    assert dataset.scheme.name == "flame-head"
    assert dataset[0].points.shape == (5023, 2)


def test_the_root_may_be_the_folder_above_and_paths_relative_to_it(make_folder, indices):
    folder = make_folder("above/DAD-3DHeadsDataset")
    pixels, _ = folder.add("train", "one")
    for name, directory in (("img_path", "images/one.png"), ("annotation_path", "annotations/one.json")):
        folder.lists["train"][0][name] = f"DAD-3DHeadsDataset/train/{directory}"
    folder.write_list("train")
    for root in (folder.root, folder.root.parent):
        dataset = partfit.create("dataset", "dad3dheads", root=root, topology="toy", indices=indices)
        assert np.array_equal(dataset[0].image, pixels)


def test_of_the_withheld_test_split_the_points_are_unknown(make_folder, indices):
    folder = make_folder()
    folder.add("test", "one")
    (folder.root / "test" / "annotations" / "one.json").unlink()
    with pytest.raises(SampleError, match="'one'"):
        load(folder, indices, split="test")[0]
    (folder.root / "test" / "annotations").rmdir()
    sample = load(folder, indices, split="test")[0]
    assert sample.points.shape == (4, 2)
    assert np.isnan(sample.points).all()
    assert sample.vertices is None


def test_the_order_is_that_of_the_list(folder, indices):
    dataset = load(folder, indices)
    assert [sample.id for sample in map(dataset.__getitem__, range(3))] == ["one", "two", "three"]


# the halves of the validation split


def test_the_halves_are_equal_disjoint_and_do_not_depend_on_the_order():
    ids = [f"{i:05x}" for i in range(4312)]
    first, second = halves(ids)
    assert (len(first), len(second)) == (2156, 2156)
    assert first | second == set(ids)
    assert halves(reversed(ids)) == (first, second)
    assert 978 < sum(name in first for name in sorted(ids)[:2156]) < 1178  # 4 standard deviations


def test_the_rule_of_the_halves_stays():
    """Written down: what was tested on must not change with a version."""
    first, second = halves([f"id{i:02d}" for i in range(11)])
    assert sorted(first) == ["id00", "id01", "id03", "id06", "id07", "id10"]
    assert sorted(second) == ["id02", "id04", "id05", "id08", "id09"]


def test_the_halves_are_splits(make_folder, indices):
    folder = make_folder()
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        folder.add("val", name)
    both = [load(folder, indices, split=split) for split in ("val-a", "val-b")]
    assert [len(half) for half in both] == [3, 2]
    found = [[half[i].id for i in range(len(half))] for half in both]
    assert sorted(found[0] + found[1]) == names
    assert all(ids == sorted(ids) for ids in found)


# samples that cannot be used


def unlink(folder):
    (folder.root / "train" / "images" / "two.png").unlink()


def cut_picture(folder):
    path = folder.root / "train" / "images" / "two.png"
    path.write_bytes(path.read_bytes()[:2000])


def no_picture(folder):
    (folder.root / "train" / "images" / "two.png").write_text("GIF?")


def cut_json(folder):
    path = folder.root / "train" / "annotations" / "two.json"
    path.write_text(path.read_text()[:500])


def no_annotation(folder):
    (folder.root / "train" / "annotations" / "two.json").unlink()


def annotation(**changes):
    def change(folder):
        path = folder.root / "train" / "annotations" / "two.json"
        content = json.loads(path.read_text())
        for name, change in changes.items():
            content[name] = change(content[name]) if callable(change) else change
        path.write_text(json.dumps(content))

    return change


def without_matrix(folder):
    path = folder.root / "train" / "annotations" / "two.json"
    content = json.loads(path.read_text())
    del content["projection_matrix"]
    path.write_text(json.dumps(content))


def json_of(text):
    def change(folder):
        (folder.root / "train" / "annotations" / "two.json").write_text(text)

    return change


def entry(**changes):
    def change(folder):
        folder.lists["train"][1].update(changes)
        folder.write_list("train")

    return change


FLAT = [[150, 0, -30, 0], [150, 0, -30, 0], [0, 0, -1, 0], [0, 0, -1, 0]]
ORTHOGRAPHIC = [[150, 0, 0, 30], [0, 150, 0, 25], [0, 0, -1, 0], [0, 0, 0, 1]]
MIRRORING = [[-150, 0, -30, 0], [0, 150, -25, 0], [0, 0, -1, 0], [0, 0, -1, 0]]

BAD = {
    "missing picture": (unlink, "two.png: expected a picture, found no such file"),
    "damaged picture": (cut_picture, "found a damaged PNG"),
    "no picture": (no_picture, "found a file of no format known"),
    "missing annotation": (no_annotation, "two.json: expected an annotation"),
    "broken JSON": (cut_json, "two.json: expected JSON"),
    "nested JSON": (json_of("[" * 100_000), "two.json: expected JSON"),
    "JSON of a list": (json_of("[]"), "expected a JSON object, found a list"),
    "missing matrix": (without_matrix, "expected an entry 'projection_matrix'"),
    "NaN vertex": (
        annotation(vertices=lambda v: [[float("nan"), 0, 0], *v[1:]]),
        "vertices: expected finite",
    ),
    "null in a vertex": (annotation(vertices=lambda v: [[None, 0, 0], *v[1:]]), "vertices: expected numbers"),
    "texts": (annotation(vertices=lambda v: [["0.1", "0", "0"], *v[1:]]), "vertices: expected numbers"),
    "huge vertex": (annotation(vertices=lambda v: [[1e308, 1e308, 0], *v[1:]]), "found points that are not"),
    "huge integer": (annotation(vertices=lambda v: [[10**400, 0, 0], *v[1:]]), "vertices: expected numbers"),
    "ragged vertices": (annotation(vertices=lambda v: [[0, 0], *v[1:]]), "vertices: expected rows of one"),
    "flat vertices": (
        annotation(vertices=lambda v: v[0]),
        r"vertices: expected shape \(n, 3\).*found \(3,\)",
    ),
    "number": (annotation(vertices=1.0), "vertices: expected shape"),
    "few vertices": (annotation(vertices=lambda v: v[:11]), "expected more than 11 vertices"),
    "no vertices": (annotation(vertices=[]), "vertices: expected shape"),
    "3x4 matrix": (annotation(model_view_matrix=lambda m: m[:3]), r"model_view: expected shape \(4, 4\)"),
    "infinite matrix": (
        annotation(projection_matrix=lambda m: [[1e999] * 4, *m[1:]]),
        "projection: expected f",
    ),
    "singular MV": (annotation(model_view_matrix=np.diag([1, 0, 1, 1]).tolist()), "found a singular one"),
    "projective MV": (
        annotation(model_view_matrix=lambda m: [*m[:3], [0, 0, 1, 1]]),
        "expected the last row",
    ),
    "singular P": (annotation(projection_matrix=FLAT), "projection_matrix.*found a singular one"),
    "orthographic P": (annotation(projection_matrix=ORTHOGRAPHIC), "projection_matrix.*found a singular one"),
    "mirroring P": (annotation(projection_matrix=MIRRORING), "expected a camera that does not mirror"),
    "behind the camera": (
        annotation(vertices=lambda v: [*v[:-1], [0, 0, 1e3]], model_view_matrix=np.eye(4).tolist()),
        r"in front of the camera \(q3 > 0\), found q3 = ",
    ),
    "box outside": (entry(bbox=[64, 0, 10, 10]), "expected a box in the picture of 64 x 48"),
    "box of no area": (entry(bbox=[3, 3, 0, 10]), "bbox: expected a width and a height above 0"),
    "negative box": (entry(bbox=[30, 30, -10, -10]), "bbox: expected a width and a height above 0"),
    "NaN box": (entry(bbox=[3, 3, float("nan"), 10]), "bbox: expected a width and a height above 0"),
    "infinite box": (entry(bbox=[float("nan"), 3, 3, 10]), "expected finite box"),
    "short box": (entry(bbox=[3, 3, 10]), "bbox: expected the numbers"),
    "box of text": (entry(bbox="1234"), "bbox: expected numbers"),
    "no box": (entry(bbox=None), "bbox: expected numbers"),
    "huge box": (entry(bbox=[0, 0, 10**400, 10]), "bbox: expected numbers"),
    "long path": (entry(img_path="x" * 5000), "File name too long"),
    "path with a null": (entry(annotation_path="a\0b"), "expected"),
    "no path": (entry(img_path=None), "img_path: expected a path"),
    "path of a number": (entry(annotation_path=3), "annotation_path: expected a path"),
    "attributes": (entry(attributes=["hq"]), "attributes: expected an object"),
    "attribute": (entry(attributes={"age": ["young"]}), "attributes: expected a text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sample_is_named_and_leaves_the_others(folder, indices, kind):
    damage, message = BAD[kind]
    damage(folder)
    dataset = load(folder, indices)
    with pytest.raises(SampleError, match=f"(?s)Sample 'two': .*{message}") as caught:
        dataset[1]
    assert caught.value.sample == "two"
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    assert [dataset[0].id, dataset[2].id] == ["one", "three"]
    assert len(dataset) == 3


def test_another_number_of_vertices_than_flames_is_an_error(folder):
    with pytest.raises(SampleError, match=r"expected 5023 vertices.*found 12.*option topology"):
        load(folder, topology="flame")[0]


def test_a_grey_picture_becomes_rgb(folder, indices):
    Image.new("L", (64, 48), 7).save(folder.root / "train" / "images" / "one.png")
    assert load(folder, indices)[0].image.shape == (48, 64, 3)


# data sets that cannot be used


@pytest.mark.parametrize("name", ["img_path", "annotation_path"])
@pytest.mark.parametrize("make", ["absolute", "up", "up on Windows", "drive"])
def test_paths_that_leave_the_data_set_are_refused(folder, indices, name, make):
    """Though the files are there: a list says what lies in the data set, not what else the machine holds."""
    kept = {"img_path": "images/one.png", "annotation_path": "annotations/one.json"}[name]
    path = {
        "absolute": str(folder.root / "train" / kept),
        "up": f"train/../train/{kept}",
        "up on Windows": rf"train\..\train\{kept}",
        "drive": rf"C:\train\{kept}",
    }[make]
    folder.lists["train"][0][name] = path
    folder.write_list("train")
    dataset = load(folder, indices)
    with pytest.raises(SampleError, match=f"'one': {name}: expected a path that stays in"):
        dataset[0]
    assert dataset[1].id == "two"


def test_the_root_must_be_the_data_set(tmp_path, folder, indices):
    with pytest.raises(ConfigError, match=r"root: missing.*CC BY-NC-SA"):
        partfit.create("dataset", "dad3dheads")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for root, found in (("nowhere", "no such folder"), ("other", r"notes.txt.*CC BY-NC-SA")):
        with pytest.raises(InputError, match=found):
            partfit.create("dataset", "dad3dheads", root=tmp_path / root)
    with pytest.raises(InputError, match=r"the list val/val\.json, found.*train"):
        load(folder, indices, split="val-a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "expected JSON"),
        ("{}", "expected a list of samples, found a dict"),
        ("[]", "expected samples in the split 'train', found none"),
        ('[{"item_id": "a"}, {"img_path": "x"}]', "objects with an item_id, found none in entry 1"),
        ('["a"]', "objects with an item_id, found none in entry 0"),
        ('[{"item_id": 3}]', "objects with an item_id"),
        ('[{"item_id": "a"}, {"item_id": "a"}]', "each item_id once, found 'a' twice"),
    ],
)
def test_a_bad_list_is_an_error_of_the_data_set(folder, indices, text, message):
    (folder.root / "train" / "train.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load(folder, indices)
    assert not isinstance(caught.value, SampleError)
