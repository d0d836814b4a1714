"""Columns of one type each, as a data frame wants them. Pure.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tracker.runs.columns import MISSING, Missing
from tracker.runs.table import json_of

_NO_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_EXACT_MAX = 2**53
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_NUMBERS = frozenset({int, float})


class Kind(enum.Enum):
    """What a column holds."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    TEXT = "text"
    TIME = "time"
    JSON = "json"


class TypedColumn(Struct, frozen=True):
    """A name and values of one kind, None where there is none. TIME is Unix ms; JSON is canonical text."""

    name: str
    kind: Kind
    values: list[Any]

    @property
    def has_gaps(self) -> bool:
        """True if a value is None."""
        return None in self.values


def typed(name: str, values: Sequence[Any], *, is_time: bool = False) -> TypedColumn:
    """The column with the narrowest kind that loses nothing but the difference of null and nothing.

    Whole numbers among floats are floats if a double holds them; the words NaN, Infinity and -Infinity among
    numbers are those; whatever else is mixed, and lists and objects, is JSON text.

    Cost: 30 ns a value.
    """
    kinds = set(map(type, values))
    plain = [None if value is MISSING else value for value in values] if Missing in kinds else list(values)
    kinds -= {Missing, type(None)}
    if is_time:
        return TypedColumn(name, Kind.TIME, plain)
    if kinds == {str} or not kinds:
        return TypedColumn(name, Kind.TEXT, plain)
    if kinds == {bool}:
        return TypedColumn(name, Kind.BOOL, plain)
    if kinds == {int} and _fit(plain, _INT_MIN, _INT_MAX):
        return TypedColumn(name, Kind.INT, plain)
    floats = _as_floats(plain, kinds)
    if floats is not None:
        return TypedColumn(name, Kind.FLOAT, floats)
    return TypedColumn(name, Kind.JSON, [None if v is None else json_of(v) for v in plain])


def _as_floats(values: list[Any], kinds: set[type]) -> list[float | None] | None:
    """The values as doubles, if each is one; a word alone is a text."""
    if kinds == {float}:
        return values
    if float not in kinds or kinds - _NUMBERS - {str}:
        return None
    if any(type(value) is str and value not in _NO_NUMBERS for value in values):
        return None
    if not _fit([v for v in values if type(v) is int], -_EXACT_MAX, _EXACT_MAX):
        return None
    return [None if v is None else _NO_NUMBERS[v] if type(v) is str else float(v) for v in values]


def _fit(values: list[Any], low: int, high: int) -> bool:
    there = [value for value in values if value is not None]
    return not there or (low <= min(there) and max(there) <= high)
