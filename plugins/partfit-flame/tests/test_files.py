"""Every form of the files gives the same model; what is no FLAME file is refused with what is wrong."""

import json

import numpy as np
import pytest

import partfit
from partfit.errors import ConfigError, ModelFileError
from partfit.model_files import read_model_file, write_model_file
from partfit.testing.official.flame import write_flame
from partfit.testing.official.pickles import write_pickle

ARRAYS = ("v_template", "shapedirs", "posedirs", "lbs_weights", "joints", "joint_dirs")


def create(path, **options):
    return partfit.create("model", "flame", path=str(path), n_betas=2, n_expression=2, **options)


@pytest.mark.parametrize(
    ("variant", "name"),
    [("chumpy", "generic_model.pkl"), ("open", "flame2023_Open.pkl"), ("npz", "flame.npz")],
)
def test_all_forms_hold_the_same(folder, content, tmp_path, variant, name):
    write_flame(tmp_path / name, content.entries, variant)
    check_same(create(tmp_path / name), create(folder / "FLAME_NEUTRAL.pkl"))


def test_a_converted_file_holds_the_same(folder, tmp_path):
    path = tmp_path / "flame.safetensors"
    write_model_file(path, read_model_file(folder / "few.npz").entries, {})
    check_same(create(path), create(folder / "few.npz"))


def test_single_precision_and_any_order_in_memory_hold_the_same(folder, tmp_path):
    entries = read_model_file(folder / "few.npz").entries
    rounded = {
        k: v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float64 else v
        for k, v in entries.items()
    }
    turned = {
        k: np.asfortranarray(v.astype(np.float64)) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for k, v in rounded.items()
    }
    write_flame(tmp_path / "single.npz", rounded, "npz")
    write_flame(tmp_path / "turned.npz", turned, "npz")
    check_same(create(tmp_path / "single.npz"), create(tmp_path / "turned.npz"))


def check_same(one, other):
    for name in ARRAYS:
        assert np.array_equal(getattr(one.arrays, name), getattr(other.arrays, name)), name
    assert np.array_equal(one.topology.faces, other.topology.faces)


def test_coefficients_are_columns_of_the_file(content, folder):
    model = partfit.create("model", "flame", path=str(folder / "flame.npz"), n_betas=300, n_expression=100)
    assert np.array_equal(model.arrays.shapedirs[:5023], content.entries["shapedirs"])
    few = create(folder / "flame.npz")
    assert np.array_equal(few.arrays.shapedirs[:5023], content.entries["shapedirs"][..., [0, 1, 300, 301]])


def expression_says(n, columns, content):
    """A file of `columns` columns whose last n are said to be of expression."""
    said = {"expr_components": f"last_{n}", "n_expr": n}
    return {"shapedirs": content.entries["shapedirs"][..., -columns:], "supr_expression_metadata": said}


def test_a_file_says_which_columns_are_of_expression(content, tmp_path):
    path = tmp_path / "flame.npz"
    np.savez(path, **changed(content, **expression_says(40, 60, content)))
    dirs = create(path).arrays.shapedirs[:5023]
    assert np.array_equal(dirs, content.entries["shapedirs"][..., [340, 341, 360, 361]])
    for option, message in (
        ({"n_betas": 21}, "21 columns of shape in 'shapedirs', as n_betas asks, found 20"),
        ({"n_expression": 41}, "41 columns of expression in 'shapedirs', as n_expression asks, found 40"),
    ):
        with pytest.raises(ModelFileError, match=message):
            partfit.create("model", "flame", path=str(path), **{"n_betas": 2, "n_expression": 2, **option})


@pytest.mark.parametrize("option", ["n_betas", "n_expression"])
@pytest.mark.parametrize("value", [0, 301])
def test_too_many_or_no_coefficients(folder, option, value):
    with pytest.raises(ConfigError, match=option):
        partfit.create("model", "flame", path=str(folder / "few.npz"), **{option: value})


def test_the_path_is_asked_for():
    with pytest.raises(ConfigError, match=r"path: missing.*https://flame\.is\.tue\.mpg\.de"):
        partfit.create("model", "flame")


def changed(content, **values):
    """The entries with some changed, or left out where None."""
    entries = {**content.entries, **values}
    return {name: value for name, value in entries.items() if value is not None}


def with_nan(array):
    array = array.copy()
    array.flat[7] = np.nan
    return array


def scaled(content, factor):
    return {name: content.entries[name] * factor for name in ("v_template", "posedirs", "J")}


BAD = {
    "fewer vertices": (lambda c: {"v_template": c.entries["v_template"][:5000]}, "5000 vertices"),
    "no template": (lambda c: {"v_template": None}, "'v_template'"),
    "no weights": (lambda c: {"weights": None}, "'weights'"),
    "no regressor": (lambda c: {"J_regressor": None}, "'J_regressor'"),
    "few columns": (
        lambda c: {"shapedirs": c.entries["shapedirs"][..., :15]},
        "15 columns, and no 'supr_expression_metadata'",
    ),
    "nothing but expression": (lambda c: expression_says(4, 4, c), "how many of the 4 columns"),
    "metadata of another form": (
        lambda c: {**expression_says(4, 9, c), "supr_expression_metadata": {"n_expr": 4}},
        "how many of the 9 columns",
    ),
    "texts": (lambda c: {"weights": np.full(5023, "a")}, "numbers in 'weights'"),
    "no numbers": (lambda c: {"posedirs": "none"}, "numbers in 'posedirs'"),
    "NaN": (
        lambda c: {"shapedirs": with_nan(c.entries["shapedirs"][..., :9])},
        "finite numbers in 'shapedirs'",
    ),
    "faces beyond": (lambda c: {"f": c.entries["f"] + 20}, "from 0 to 5022 in 'f'"),
    "broken faces": (lambda c: {"f": c.entries["f"] + 0.5}, "whole numbers"),
    "millimetres": (lambda c: scaled(c, 1000.0), "looks like millimetres"),
    "no metres": (lambda c: scaled(c, 17.0), "metres of 'v_template'"),
    "other joints": (
        lambda c: {"kintree_table": np.array([[0, 0, 1, 2, 3], range(5)])},
        "joints with parents",
    ),
    "bad weights": (lambda c: {"weights": 2 * c.entries["weights"]}, "sum to 1"),
    "SMPL": (lambda c: {"v_template": np.zeros((6890, 3))}, "looks like SMPL"),
    "SMPL-X": (lambda c: {"v_template": np.zeros((10475, 3))}, "looks like SMPL-X"),
    "MANO": (lambda c: {"v_template": np.zeros((778, 3))}, "looks like MANO"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(content, tmp_path, what):
    change, said = BAD[what]
    path = tmp_path / "bad.npz"
    # without the large array where something else is refused before that is read
    np.savez(path, **changed(content, **{"shapedirs": None, **change(content)}))
    with pytest.raises(ModelFileError, match=said) as caught:
        create(path)
    message = str(caught.value)
    assert str(path) in message
    assert "expected" in message
    assert "found" in message
    assert "https://flame.is.tue.mpg.de" in message


def test_a_truncated_file(folder, tmp_path):
    for name in ("FLAME_NEUTRAL.pkl", "flame.npz"):
        whole = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelFileError, match=r"https://flame\.is\.tue\.mpg\.de"):
            create(tmp_path / name)


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.pkl.*https://flame.is.tue.mpg.de"):
        create(tmp_path / "nowhere.pkl")


def test_the_masks_of_another_file(folder, tmp_path):
    path = tmp_path / "masks.pkl"
    write_pickle(path, {"face": np.array([1, 2]), "neck": np.array([3])})
    with pytest.raises(ModelFileError, match="a mask 'boundary'"):
        create(folder / "few.npz", masks=str(path))
    write_pickle(path, {name: np.array([1, 5023]) for name in ("face", "neck", "boundary")})
    with pytest.raises(ModelFileError, match="from 0 to 5022 in 'face'"):
        create(folder / "few.npz", masks=str(path))
    with pytest.raises(ModelFileError, match=r"found a model file, .*FLAME_masks\.pkl"):
        create(folder / "few.npz", masks=str(folder / "few.npz"))


@pytest.mark.parametrize(
    ("option", "name", "where"),
    [
        ("landmark_embedding", "mediapipe_landmark_embedding.npz", "DECA"),
        ("mediapipe_embedding", "landmark_embedding.npy", "https://flame.is.tue.mpg.de"),
    ],
)
def test_an_embedding_file_for_another(folder, option, name, where):
    with pytest.raises(ModelFileError, match=where):
        create(folder / "few.npz", **{option: str(folder / name)})


def test_barycentric_coordinates_must_sum_to_1(content, folder, tmp_path):
    path = tmp_path / "mediapipe.npz"
    weights = content.mediapipe["lmk_b_coords"].copy()
    weights[5] *= 2
    weights[9] *= 3  # the worst one is named
    np.savez(path, **{**content.mediapipe, "lmk_b_coords": weights})
    with pytest.raises(ModelFileError, match="sum to 1, found a sum of 3"):
        create(folder / "few.npz", mediapipe_embedding=str(path))


@pytest.mark.parametrize("suffix", ["npy", "txt", "json"])
def test_regions_from_index_files(folder, tmp_path, suffix):
    indices, path = [30, 10, 20], tmp_path / f"nose.{suffix}"
    if suffix == "npy":
        np.save(path, np.array(indices))
    else:
        path.write_text(json.dumps(indices) if suffix == "json" else "30 10\n20\n")
    assert create(folder / "few.npz", regions={"nose": str(path)}).topology.region("nose").tolist() == [
        10,
        20,
        30,
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("1 two 3", "vertex indices"), ("1 5023", "from 0 to 5022"), ("", "none"), ("1.5", "vertex indices")],
)
def test_bad_index_files(folder, tmp_path, text, said):
    path = tmp_path / "region.txt"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=said):
        create(folder / "few.npz", regions={"mine": str(path)})


def test_a_missing_index_file(folder, tmp_path):
    with pytest.raises(ModelFileError, match="nowhere"):
        create(folder / "few.npz", regions={"mine": str(tmp_path / "nowhere.json")})


def test_a_region_is_not_named_as_a_level_of_a_series(folder, tmp_path):
    np.save(tmp_path / "face.npy", np.arange(300))
    with pytest.raises(ConfigError, match=r"regions: expected names that .* found 'face-150'"):
        create(folder / "few.npz", regions={"face-150": str(tmp_path / "face.npy")})
    create(folder / "few.npz", regions={"face-a1": str(tmp_path / "face.npy")})
