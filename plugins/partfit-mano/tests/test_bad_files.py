"""Each bad file is named with what was expected, what was found and where to get a good one."""

import numpy as np
import pytest

import partfit
from partfit.errors import ModelFileError
from partfit.testing.official.mano import write_mano


def nan(array):
    array = array.copy()
    array.flat[7] = np.nan
    return array


def changed(**changes):
    return lambda entries: {**entries, **{name: change(entries[name]) for name, change in changes.items()}}


def without(name):
    return lambda entries: {k: v for k, v in entries.items() if k != name}


BAD = {
    "vertex count": (
        changed(v_template=lambda v: v[:700]),
        r"shape \(778, 3\) of 'v_template', found \(700, 3\)",
    ),
    "missing key": (without("weights"), "an entry 'weights', found only: .*v_template"),
    "no template": (without("v_template"), "an entry 'v_template'"),
    "dtype": (changed(posedirs=lambda _: "lbs"), "numbers in 'posedirs', found a str"),
    "NaN": (changed(posedirs=nan), "finite numbers in 'posedirs', found 1 of 315090"),
    "face beyond": (changed(f=lambda f: f + 1), "whole numbers from 0 to 777 in 'f', found 778"),
    "weights": (changed(weights=lambda w: 2 * w), "rows of 'weights' that sum to 1"),
    "regressor": (changed(J_regressor=lambda j: 0.5 * j), "rows of 'J_regressor' that sum to 1"),
    "tree": (changed(kintree_table=lambda t: t[:, ::-1]), "parents .* in 'kintree_table', found"),
    "millimetres": (changed(v_template=lambda v: 1000 * v), "0.1 to 0.35 metres .* looks like millimetres"),
    "no metres": (changed(v_template=lambda v: 7 * v), "0.1 to 0.35 metres of 'v_template', found 1.33"),
    "components": (changed(hands_components=lambda c: c[:6]), r"shape \(45, 45\) of 'hands_components'"),
    "FLAME": (changed(v_template=lambda v: np.zeros((5023, 3))), "5023 vertices: a FLAME model"),
    "SMPL": (changed(v_template=lambda v: np.zeros((6890, 3))), r"6890 vertices: a SMPL or SMPL\+H model"),
    "side": (
        changed(v_template=lambda v: v * [1, 0, 1], hands_mean=np.zeros_like),
        "'hands_mean' bends towards its palm, found one whose side cannot be told",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_bad_content_is_named(entries, tmp_path, name, suffix):
    change, message = BAD[name]
    path = tmp_path / f"MANO_RIGHT{suffix}"
    write_mano(path, change(entries["right"]))
    refuses(path, message)


def test_the_other_hand(folder):
    refuses(folder / "MANO_LEFT.pkl", "expected a right hand, found a left hand, the other hand")


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_a_truncated_file(entries, tmp_path, suffix):
    path = tmp_path / f"MANO_RIGHT{suffix}"
    write_mano(path, entries["right"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(path, "expected .*found")


def test_a_missing_file(tmp_path):
    refuses(tmp_path / "MANO_RIGHT.pkl", "expected .*found")


def test_a_folder_without_the_files(tmp_path):
    refuses(tmp_path, "a folder with MANO_RIGHT.pkl, .npz or .safetensors, found an empty folder")
    (tmp_path / "SMPLX_NEUTRAL.npz").touch()
    refuses(tmp_path, "found SMPLX_NEUTRAL.npz")


def refuses(path, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        partfit.create("model", "mano", path=str(path))
    assert str(path) in str(caught.value)
    assert "https://mano.is.tue.mpg.de" in str(caught.value)
