from pathlib import Path

import pytest

import partfit

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


@pytest.fixture(scope="session")
def photo() -> Path:
    """A photograph with one face: NASA's portrait of Eileen Collins, public domain."""
    return PHOTO


@pytest.fixture(scope="session")
def pipeline():
    """The default pipeline."""
    return partfit.Pipeline()
