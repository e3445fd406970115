"""Settings of all tests, of the core and of the plugins."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

# no deadline and no complaint about slow data: single examples may be slow for reasons outside the test
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# `make test` runs the tests in parallel processes
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Embeddings that the user transferred play no part in tests, and are left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTFIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
