"""Converters of attrs fields: what callers may pass, to what frozen objects hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """A tuple of strings."""
    return tuple(values)


def whole_numbers(values: Iterable[int]) -> tuple[int, ...]:
    """A tuple of Python's integers."""
    return tuple(int(value) for value in values)


def pair_of_floats(values: Iterable[Any]) -> tuple[float, float]:
    """Two numbers, such as x and y, or the ends of a range, as Python's."""
    first, second = values
    return float(first), float(second)


def integers(value: Any) -> np.ndarray:
    """A read-only int64 copy."""
    return _read_only(np.array(value, dtype=np.int64))


def reals(value: Any) -> np.ndarray:
    """A read-only float64 copy."""
    return _read_only(np.array(value, dtype=np.float64))


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
