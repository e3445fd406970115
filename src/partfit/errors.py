"""The exceptions that partfit raises. All derive from `PartfitError`."""

from __future__ import annotations

from os import PathLike


class PartfitError(Exception):
    """Base of every error that partfit raises on purpose."""


class ShapeError(PartfitError, ValueError):
    """An array has another shape than the function asks for."""

    def __init__(self, name: str, expected: str, found: tuple[int, ...]) -> None:
        super().__init__(f"{name}: expected shape {expected}, found {tuple(found)}.")


class ConfigError(PartfitError, ValueError):
    """A configuration has an unknown key, a missing key or a value of the wrong type."""


class InputError(PartfitError, ValueError):
    """An input (a picture, a landmark file, an array of landmarks) cannot be used."""


class OutputError(PartfitError, OSError):
    """A result cannot be written."""


class ComponentError(PartfitError, LookupError):
    """A named component does not exist, is claimed twice, or cannot be loaded."""


class ModelFileError(InputError):
    """A model file cannot be used: it is missing, damaged, unsafe, or not what it should be."""

    def __init__(self, path: str | PathLike[str], expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"{path}: expected {expected}, found {found}. {hint}".rstrip())
