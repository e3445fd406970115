import attrs
import numpy as np
import pytest

import partfit
from partfit.testing.official.flame import flame_content, write_companions, write_flame


@pytest.fixture(scope="session")
def content():
    """What a set of FLAME's files holds, of a made-up head, in numbers that single precision holds too.

    The peers round what they read.
    """
    content = flame_content()
    entries = {name: rounded(value) for name, value in content.entries.items()}
    return attrs.evolve(content, entries=entries)


def rounded(value):
    reals = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32).astype(np.float64) if reals else value


@pytest.fixture(scope="session")
def folder(content, tmp_path_factory):
    """A folder with FLAME_NEUTRAL.pkl (without chumpy), flame.npz and the files that go with them.

    `few.npz` has 30 of the columns of shape and 10 of expression, and says so: it is read in no time.
    """
    folder = tmp_path_factory.mktemp("flame")
    write_flame(folder / "FLAME_NEUTRAL.pkl", content.entries, "plain")
    write_flame(folder / "flame.npz", content.entries, "npz")
    few = content.entries["shapedirs"][..., [*range(30), *range(300, 310)]]
    said = {"expr_components": "last_10", "n_expr": 10}
    np.savez(
        folder / "few.npz",
        **{**content.entries, "shapedirs": few, "supr_expression_metadata": np.array(said)},
    )
    write_companions(folder, content)
    return folder


@pytest.fixture(scope="session")
def companions(folder):
    """The options that name the other files."""
    return {
        "masks": str(folder / "FLAME_masks.pkl"),
        "landmark_embedding": str(folder / "landmark_embedding.npy"),
        "mediapipe_embedding": str(folder / "mediapipe_landmark_embedding.npz"),
    }


@pytest.fixture(scope="session")
def flame(folder, companions):
    """The model with all its files and few coefficients."""
    path = str(folder / "few.npz")
    return partfit.create("model", "flame", path=path, n_betas=10, n_expression=5, **companions)
