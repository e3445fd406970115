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


class NoEmbeddingError(ComponentError):
    """Nobody has laid a landmark scheme on a model."""


class ModelFileError(InputError):
    """A model file cannot be used: it is missing, damaged, unsafe, or not what it should be."""

    def __init__(self, path: str | PathLike[str], expected: str, found: str, hint: str = "") -> None:
        super().__init__(printable(f"{path}: expected {expected}, found {found}. {hint}".rstrip()))


def printable(text: str) -> str:
    """A text from a file for a terminal: what would move the cursor or colour the screen is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
