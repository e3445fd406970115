"""Settings of all tests, of the core and of the plugins."""

import os

import torch
from hypothesis import HealthCheck, settings

# a shared machine makes single examples slow at random: no deadline, and no complaint about slow data
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# the tests run in two processes on two cores
torch.set_num_threads(1)
