"""Accepted params that may not mean what their author meant: found and told, never changed.

Five kinds: a string that reads as a number, an integer that other languages round, an absolute path,
a string that is not NFC, and a numeric twin. Works on canonical text alone.

Spec: spec/canonical.md, "Warnings".
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any

from tracker._codec.canonical import MAX_EXACT_INT, REPEAT, has_long_integer, parse, twin_key
from tracker.errors import ParamsWarning


def find_warnings(text: bytes) -> list[str]:
    """Give what is doubtful in a canonical text, a line each: the path, the value, the cure.

    Cost: below 1 µs for params that are plainly in order.
    Raises: ParamsError if `text` is not canonical.
    Spec: spec/canonical.md, "Warnings".
    """
    if _is_above_doubt(text):
        return []
    tree = parse(text)
    tree.pop(REPEAT, None)  # its digits are ours
    return list(_iter_warnings("params", tree))


def find_twin_warning(text: bytes, other: bytes) -> str | None:
    """Give the line that tells `text` from its numeric twin `other`; None if they are no twins.

    Raises: ParamsError if either is not canonical.
    Spec: spec/canonical.md, "Twins".
    """
    if text == other or twin_key(text) != twin_key(other):
        return None
    for (path, ours), (_, theirs) in zip(
        _iter_leaves("params", parse(text)), _iter_leaves("params", parse(other)), strict=True
    ):
        if type(ours) is not type(theirs) or ours != theirs:
            return (
                f"{path} = {_shown(ours)} here and {_shown(theirs)} in an earlier run: as doubles they are "
                "equal, as params they are two; write the same number in both"
            )
    raise AssertionError("twins that differ in no number")


def warn_about(text: bytes, *, twins: tuple[bytes, ...] = (), stacklevel: int = 1) -> None:
    """Issue a ParamsWarning for each doubt about `text`, and for each of its numeric `twins`.

    `stacklevel` counts from the caller, as in `warnings.warn`: 1 is the line that calls this.
    """
    found: list[str | None] = [*find_warnings(text), *(find_twin_warning(text, twin) for twin in twins)]
    for message in found:
        if message is not None:
            warnings.warn(message, ParamsWarning, stacklevel=stacklevel + 1)


_NUMBER = r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_ABSOLUTE = r"/[^/]|[A-Za-z]:[\\/]|\\\\[^\\]"

# Digits, signs and the point become "0": a string that reads as a number then begins with `"0`.
_NUMBER_AS_ZERO = bytes(ord("0") if chr(i) in "0123456789+-." else i for i in range(256))


def _is_above_doubt(text: bytes) -> bool:
    """Tell at little cost that nothing in `text` is doubtful; False says only that it may be."""
    return (
        text.isascii()
        and b'"0' not in text.translate(_NUMBER_AS_ZERO)
        and not has_long_integer(text)
        and b'"/' not in text
        and b":/" not in text
        and b"\\\\" not in text
    )


def _iter_warnings(path: str, value: Any) -> Iterator[str]:
    if type(value) is dict:
        for key, item in value.items():
            if not unicodedata.is_normalized("NFC", key):
                yield f"{path} has the key {_shown(key)}, which {_NOT_NFC}"
            yield from _iter_warnings(f"{path}[{key!r}]", item)
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from _iter_warnings(f"{path}[{index}]", item)
    elif type(value) is str:
        yield from (f"{path} = {_shown(value)} {doubt}" for doubt in _iter_doubts(value))
    elif type(value) is int and abs(value) > MAX_EXACT_INT:
        yield (
            f"{path} = {_shown(value)} is beyond 2^53-1: JavaScript, R, Go and jq 1.6 show it rounded; "
            "pass a smaller one, or a string"
        )


def _iter_doubts(text: str) -> Iterator[str]:
    if re.fullmatch(_NUMBER, text):
        yield f"is a string that reads as a number; {_cure_for_number(text)}"
    if re.match(_ABSOLUTE, text):
        yield "is an absolute path, which ties the uid to one machine; pass a relative path, or a name"
    if not unicodedata.is_normalized("NFC", text):
        yield _NOT_NFC


_NOT_NFC = (
    "is not NFC: the same letters typed elsewhere give another uid; pass unicodedata.normalize('NFC', x)"
)


def _cure_for_number(text: str) -> str:
    """Name the cure; a number with an exponent and no point is most often YAML's doing."""
    mantissa, exponent, power = text.lower().partition("e")
    if exponent and "." not in mantissa:
        return f"PyYAML reads {text} as text; write {mantissa}.0e{power}"
    return "pass the number itself if one is meant"


def _iter_leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if type(value) is dict:
        for key, item in value.items():
            yield from _iter_leaves(f"{path}[{key!r}]", item)
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from _iter_leaves(f"{path}[{index}]", item)
    else:
        yield path, value


def _shown(value: str | int | float) -> str:
    """Give the value in ASCII, so that two forms of one letter look different; long ones cut."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
