"""Reading the asset files of this package; `head_assets` and `hand_assets` say what is in them."""

from __future__ import annotations

from importlib.resources import files

import numpy as np


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of one of this package's asset files, read-only; reals float64, integers int64."""
    with (files("partfit_anny") / "assets" / name).open("rb") as file, np.load(file) as stored:
        arrays = {key: _widened(stored[key]) for key in stored.files}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _widened(array: np.ndarray) -> np.ndarray:
    """Half precision and small integers become float64 and int64; texts stay."""
    wide = {"f": np.dtype(np.float64), "i": np.dtype(np.int64)}
    return array.astype(wide.get(array.dtype.kind, array.dtype))
