"""A pytest plugin: leave out the test files that need partfit's own plugins where these are not installed.

It is for runs against installed wheels (`tests/test_wheels.py`): `pytest -p needed_plugins`, with this folder
on the path. It also brings the hypothesis profile `wheels`, of few examples: what is tested there is that the
wheels hold everything, not the mathematics.
"""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

DEFAULT = ("partfit_anny", "partfit_mediapipe")
LEARNING = ("partfit_dense", "partfit_likelihoods", "partfit_spiralnet", "partfit_synthetic")
#: Test files and folders of the core that fit photographs or write the default models.
NEEDS = {
    "integration": DEFAULT,
    "learning": (*DEFAULT, *LEARNING),
    "test_annotations.py": DEFAULT,
    "test_docs.py": (*DEFAULT, *LEARNING),
    "test_examples.py": DEFAULT,
    "test_gltf.py": ("partfit_anny",),
    "transfer": DEFAULT,
}

settings.register_profile(
    "wheels", max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("wheels")


class LeftOut(pytest.Module):
    """A test file that is reported as skipped, and not imported."""

    def collect(self):
        missing = " and ".join(name.replace("_", "-") for name in _missing(self.path))
        pytest.skip(f"needs {missing}, which is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return LeftOut.from_parent(parent, path=module_path) if _missing(module_path) else None


def _missing(path):
    """The plugins that a test file of the core needs and that are not there."""
    tests = Path(__file__).parent
    if not path.is_relative_to(tests):
        return []
    needed = NEEDS.get(path.relative_to(tests).parts[0], ())
    return [name for name in needed if importlib.util.find_spec(name) is None]
