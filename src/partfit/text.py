"""Words for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that resembles `word` most, or None if none comes near."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return matches[0] if matches else None


def one_line(error: BaseException) -> str:
    """The class and the message of an exception, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
