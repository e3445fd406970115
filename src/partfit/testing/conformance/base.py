"""What all suites have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from partfit.config import from_dict, to_dict


class Suite(ABC):
    """A suite about one component."""

    @abstractmethod
    def make(self) -> Any:
        """The component under test."""


class ConfiguredSuite(Suite):
    """What holds for components that are built from a `Config`."""

    def test_its_configuration_round_trips(self) -> None:
        config = self.make().config
        assert from_dict(type(config), to_dict(config)) == config
