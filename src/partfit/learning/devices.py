"""Torch devices by name."""

from __future__ import annotations

import torch

from partfit.errors import ConfigError


def check_device(device: str) -> None:
    """Raise ConfigError if this machine has no such device, or torch knows none of that name."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"device: expected a device of this machine, found {device!r}: {reason}."
        ) from error
