"""Whether what the fitter needs is installed, and the commands that install it."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from partfit.errors import ComponentError

VERSION = "0.2.3"
#: Its build imports torch; and it asks for scikit-sparse, which needs a C library and serves `cholmod` only.
INSTALL = (
    "pip install setuptools wheel pybind11 pytest scipy semantic-version==2.10.0 urdf-parser-py && "
    f"pip install --no-build-isolation --no-deps torchlie==0.1.0 torchkin==0.1.1 theseus-ai=={VERSION}"
)
#: With its extension modules, built where the variables say that their libraries are.
REBUILD = f"pip install --no-build-isolation --no-deps --no-cache-dir --force-reinstall theseus-ai=={VERSION}"
#: For each sparse solver: what it needs, the module that has it, and how to get it.
SPARSE = {
    "cholmod": (
        "scikit-sparse, which is built on SuiteSparse",
        "sksparse.cholmod",
        'apt-get install libsuitesparse-dev && pip install "scikit-sparse>=0.4.11,<0.5"',
    ),
    "lu-cuda": (
        "the CUDA extension of theseus-ai, which is built where nvcc is found, and a CUDA device",
        "theseus.extlib.cusolver_lu_solver",
        f"CUDA_HOME=/usr/local/cuda {REBUILD}",
    ),
    "baspacho": (
        "the BaSpaCho extension of theseus-ai, which is built where the library BaSpaCho is found",
        "theseus.extlib.baspacho_solver",
        f"BASPACHO_ROOT_DIR=/path/to/baspacho {REBUILD}",
    ),
}


def require_theseus() -> None:
    """Raise a ComponentError that says how to install theseus-ai, unless it is there."""
    if find_spec("theseus") is None:
        raise ComponentError(
            f"The fitter 'theseus' needs theseus-ai {VERSION}, which is not installed. Run: {INSTALL}"
        )


def require_sparse(solver: str) -> None:
    """Raise a ComponentError that says how to install what a sparse solver needs, unless it is there."""
    library, module, command = SPARSE[solver]
    found = _has(module) and (solver != "lu-cuda" or torch.cuda.is_available())
    if not found:
        raise ComponentError(
            f"linear_solver={solver!r} needs {library}, which is not there. Run: {command}\n"
            "Or choose linear_solver='cholesky-dense', which needs nothing more."
        )


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
