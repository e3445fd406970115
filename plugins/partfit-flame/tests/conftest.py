import pytest

import partfit
from partfit.testing.official.flame import flame_content, write_companions, write_flame


@pytest.fixture(scope="session")
def content():
    """What a set of FLAME's files holds, of a made-up head."""
    return flame_content()


@pytest.fixture(scope="session")
def folder(content, tmp_path_factory):
    """A folder with FLAME_NEUTRAL.pkl (without chumpy), flame.npz and the files that go with them."""
    folder = tmp_path_factory.mktemp("flame")
    write_flame(folder / "FLAME_NEUTRAL.pkl", content.entries, "plain")
    write_flame(folder / "flame.npz", content.entries, "npz")
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
    path = str(folder / "flame.npz")
    return partfit.create("model", "flame", path=path, n_betas=10, n_expression=5, **companions)
