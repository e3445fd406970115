"""What every pluggable object has: a kind, a configuration, and how it is built from one."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

import attrs

#: Version of the plugin interface. A spec of another major version is refused with a reason.
API_VERSION = 1


@attrs.frozen
class NoConfig:
    """The configuration of a component that has nothing to set."""


class Component(ABC):
    """Base of the classes that a plugin provides.

    A component is built from one frozen attrs object, its `Config`; `partfit.create(kind, name, **options)`
    makes that object from keyword arguments and refuses unknown ones. Subclasses that have options
    define a nested `Config`:

        class FaceDetector(Detector):
            @attrs.frozen
            class Config:
                threshold: float = 0.5

    Attributes:
        kind: The kind of component, one of `partfit.plugins.KINDS`.
        config: The configuration that the component was built from.
    """

    kind: ClassVar[str]
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config
