"""`import partfit`, discovery and the light commands must load neither torch nor numpy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import partfit

HEAVY = {"torch", "numpy", "scipy", "jaxtyping", "open3d", "trimesh", "PIL"}


def _imported(*arguments: str) -> set[str]:
    """The top-level packages that a Python process imports."""
    environment = {name: value for name, value in os.environ.items() if name != "PARTFIT_PLUGINS"}
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import partfit"),
        ("-c", "import partfit; partfit.default_registry().components()"),
        ("-c", "import partfit.config, partfit.plugins"),
        ("-m", "partfit", "--help"),
        ("-m", "partfit", "--version"),
        ("-m", "partfit", "plugins"),
        ("-m", "partfit", "components"),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments: tuple[str, ...]) -> None:
    imported = _imported(*arguments)
    assert "partfit" in imported
    assert imported & HEAVY == set()


def test_the_measure_sees_heavy_imports() -> None:
    assert "numpy" in _imported("-c", "import partfit.landmarks")


def test_import_takes_little_processor_time() -> None:
    code = "import time; start = time.process_time(); import partfit; print(time.process_time() - start)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(result.stdout) < 0.15


def test_public_names_are_listed_and_unknown_ones_refused() -> None:
    assert {"Pipeline", "create", "default_registry", "fit"} <= set(dir(partfit))
    assert partfit.create.__module__ == "partfit.registry"
    with pytest.raises(AttributeError, match="module 'partfit' has no attribute 'fti'"):
        partfit.fti  # noqa: B018
