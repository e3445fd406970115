"""Settings of all tests, of the core and of the plugins."""

import os

import torch
from hypothesis import HealthCheck, settings

# no deadline and no complaint about slow data: single examples may be slow for reasons outside the test
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# `make test` runs the tests in parallel processes
torch.set_num_threads(1)
