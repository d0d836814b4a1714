"""SQL in pieces: constant text and the values bound in it.

A template is a constant of this package; whatever comes from a query goes through `bind`. So no text of a
query can reach SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Bound = int | float | str

_INTEGER_MAX = 2**63 - 1


class Sql(NamedTuple):
    """Text with a `?` for each of the values, in order."""

    text: str
    values: tuple[Bound, ...] = ()


def build(template: str, *pieces: Sql) -> Sql:
    """The template with a piece in place of each `{}`."""
    values = tuple(value for piece in pieces for value in piece.values)
    return Sql(template.format(*(piece.text for piece in pieces)), values)


def bind(value: Bound) -> Sql:
    """One value. An integer beyond 64 bits becomes the double that SQLite reads from its digits in JSON."""
    if isinstance(value, int) and not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
        return Sql("json_extract(?, '$')", (str(value),))
    return Sql("?", (value,))


def join(separator: str, pieces: Sequence[Sql]) -> Sql:
    """The pieces with a constant between them."""
    return Sql(
        separator.join(piece.text for piece in pieces),
        tuple(value for piece in pieces for value in piece.values),
    )
