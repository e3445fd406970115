import pytest

from partfit.testing.official.mano import mano_entries, write_mano


@pytest.fixture(scope="session")
def entries():
    """The entries of a right and of a left file."""
    return {side: mano_entries(side) for side in ("right", "left")}


@pytest.fixture(scope="session")
def folder(entries, tmp_path_factory):
    """A folder with MANO_RIGHT.pkl and MANO_LEFT.pkl."""
    folder = tmp_path_factory.mktemp("mano")
    for side, content in entries.items():
        write_mano(folder / f"MANO_{side.upper()}.pkl", content)
    return folder


@pytest.fixture(scope="session")
def hand_like_folder(tmp_path_factory):
    """A folder with a MANO_RIGHT.npz in the shape of a hand: the Anny hand in MANO's format."""
    anny = pytest.importorskip("partfit_anny.hand")
    folder = tmp_path_factory.mktemp("hand_like")
    write_mano(folder / "MANO_RIGHT.npz", mano_entries("right", anny.AnnyHand()))
    return folder
