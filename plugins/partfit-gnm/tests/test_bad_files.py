"""Each bad file is named with what was expected, what was found and where to get a good one."""

import numpy as np
import pytest

import partfit
from partfit.errors import ModelFileError
from partfit.testing.official.gnm import write_gnm


def changed(**changes):
    return lambda entries: {**entries, **{name: change(entries[name]) for name, change in changes.items()}}


def without(*names):
    return lambda entries: {k: v for k, v in entries.items() if k not in names}


def nan(array):
    array = array.copy()
    array.flat[7] = np.nan
    return array


KIND = "a GNM model of version 3.0 and variant 'head'"
VERTICES = "template_vertex_positions"
BAD = {
    "vertex count": (
        changed(**{VERTICES: lambda v: v[:5023]}),
        rf"shape \(17821, 3\) of '{VERTICES}', found \(5023, 3\)",
    ),
    "missing key": (without("skinning_weights"), "an entry 'skinning_weights', found only"),
    "missing names": (without("joint_names"), "an entry 'joint_names' of 4 names"),
    "missing basis": (lambda entries: entries, "an entry 'vertex_identity_basis'"),
    "dtype": (changed(**{VERTICES: lambda v: v > 0}), f"numbers in '{VERTICES}'"),
    "NaN": (changed(template_joint_positions=nan), "finite numbers in 'template_joint_positions'"),
    "face beyond": (changed(triangles=lambda t: t + 1), "whole numbers from 0 to 17820 in 'triangles'"),
    "millimetres": (
        changed(**{VERTICES: lambda v: 1000 * v}),
        "0.15 to 0.6 metres .* looks like millimetres",
    ),
    "no metres": (changed(**{VERTICES: lambda v: 5 * v}), f"0.15 to 0.6 metres of '{VERTICES}', found 1.4"),
    "weights": (changed(skinning_weights=lambda w: 2 * w), "columns of 'skinning_weights' that sum to 1"),
    "tree": (changed(joint_parent_indices=lambda p: p[::-1]), r"precede them .*found \[1, 1, 0, -1\]"),
    "names": (changed(identity_names=lambda n: n[:100]), "253 different names in 'identity_names'"),
    "version": (changed(version=lambda _: np.array("4.0")), f"{KIND}, found version 4.0 and variant 'head'"),
    "variant": (changed(variant=lambda _: np.array("body")), f"{KIND}, found version 3.0 and variant 'body'"),
    "other model": (without("version", "variant"), f"{KIND}, found no 'version' and no 'variant' among"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_named(small, tmp_path, name):
    change, message = BAD[name]
    write_gnm(tmp_path / "gnm_head.npz", change(small))
    refuses(tmp_path / "gnm_head.npz", message)


def test_a_truncated_file(small, tmp_path):
    path = tmp_path / "gnm_head.npz"
    write_gnm(path, small)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(path, "expected .*found")


def test_a_missing_file(tmp_path):
    refuses(tmp_path / "gnm_head.npz", "expected .*found")


def refuses(path, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        partfit.create("model", "gnm-head", path=str(path))
    assert str(path) in str(caught.value)
    assert "https://github.com/google/GNM" in str(caught.value)
