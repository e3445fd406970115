"""From one photograph of a face, a hand or another body part to a 3D mesh with interpretable parameters.

The names below are imported on first use: `import partfit` itself loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline, fit, stream
    from partfit.pipeline_config import Choice
    from partfit.registry import create, default_registry

    __version__: str

__all__ = ["Choice", "Pipeline", "__version__", "create", "default_registry", "fit", "stream"]

_MODULES = {
    "Choice": "partfit.pipeline_config",
    "Pipeline": "partfit.pipeline",
    "create": "partfit.registry",
    "default_registry": "partfit.registry",
    "fit": "partfit.pipeline",
    "stream": "partfit.pipeline",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("partfit")
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'partfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
