"""The text that params must have where a field of theirs equals a value: looked for before any JSON is read.

Params are canonical JSON, in which a value has one text. To find that text in them costs SQLite a quarter of
what it costs to parse them.

Spec: spec/canonical.md, "Form 1"; docs/queries.md section 1.
"""

from __future__ import annotations

import math

from tracker._codec.canonical import format_tree
from tracker.query.sql import Sql, bind, build
from tracker.query.tree import Comparison, Field, Literal, Op, Space

_EXACT = 2**53


def trace_of(atom: object) -> Sql | None:
    """What is true of the text of every run for which the atom is; None where nothing cheap is known.

    As in `instr(params, '"name":"b"')` for `model.name == 'b'`. Pure.
    """
    match atom:
        case Comparison(Field(Space.PARAMS, path), Op.EQ, Literal(value)) if _has_one_text(value):
            key = path[-1] if isinstance(path[-1], str) else ""
            member = format_tree({key: _shortest(value)})[1:-1].decode()
            text = member if key else member.removeprefix('"":')
            return build("instr(params, {}) > 0", bind(text))
    return None


def _has_one_text(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and (not value.is_integer() or abs(value) < _EXACT)
    return not isinstance(value, int) or abs(value) < _EXACT


def _shortest(value: bool | float | str | None) -> bool | float | str | None:
    """A whole number as an integer: its digits begin the text of the equal float, as 3 does that of 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
