"""Texts that are spelled alike. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CUTOFF = 0.6


def most_alike(text: str, known: Iterable[str]) -> str | None:
    """The text of `known` that has most of `text` in its order; None if all are too unlike it."""
    close = difflib.get_close_matches(text, known, n=1, cutoff=_CUTOFF)
    return close[0] if close else None
