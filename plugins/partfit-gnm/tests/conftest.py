import numpy as np
import pytest

import partfit
from partfit.testing.official.gnm import gnm_entries, write_gnm


@pytest.fixture(scope="session")
def entries():
    """The entries of a file."""
    return gnm_entries()


@pytest.fixture(scope="session")
def path(entries, tmp_path_factory):
    """A file at full size, some 160 MB; removed at the end."""
    path = tmp_path_factory.mktemp("gnm") / "gnm_head.npz"
    write_gnm(path, entries)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def double_path(entries, tmp_path_factory):
    """The same file with reals in double precision, in which the peer then computes."""
    path = tmp_path_factory.mktemp("gnm_double") / "gnm_head.npz"
    write_gnm(path, {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in entries.items()})
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def light(small):
    """The entries with bases in one byte a number, -1, 0 or 1 metre, for files that are soon written."""
    bases, rng = {"vertex_identity_basis": 253, "expression_basis": 383}, np.random.default_rng(0)
    made = {name: rng.integers(-1, 2, (n, 17821, 3), dtype=np.int8) for name, n in bases.items()}
    return {**small, **made}


@pytest.fixture(scope="session")
def head(path):
    """The model with few coefficients."""
    return partfit.create("model", "gnm-head", path=str(path), n_betas=5, n_expression=10)


@pytest.fixture(scope="session")
def small(entries):
    """The entries without the large bases, for files that are refused before these are read."""
    return {k: v for k, v in entries.items() if k not in ("vertex_identity_basis", "expression_basis")}
