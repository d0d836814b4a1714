"""Literals held against the kind of a column: times become Unix seconds, statuses must be statuses. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tracker.query.columns import COLUMNS, NUMBERS, Kind
from tracker.query.hints import nearest
from tracker.query.source import Source
from tracker.query.tree import Field, Literal, Space, Value
from tracker.terms import Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUSES = [str(status) for status in Status]


def fit_literal(source: Source, field: Field, literal: Literal) -> Literal:
    """The literal as `field` is compared with it; params and metrics take any.

    Raises: QueryError at the literal, if no value of the column could ever equal it.
    """
    kind = kind_of(field)
    if kind is None:
        return literal
    if kind is Kind.TAGS:
        source.refuse(field.column, f"a membership, as 'paper' in {field.path[0]}, not a comparison")
    value = literal.value
    if value is None:
        source.refuse(literal.column, f"not exists({field.path[0]}); a column is never null")
    if kind is Kind.TIME and isinstance(value, str):
        return Literal(_seconds(source, literal.column, value), literal.column)
    if not _fits(kind, value):
        source.refuse(literal.column, f"{kind.value}, which {field.path[0]} is")
    if kind is Kind.STATUS and value not in _STATUSES:
        meant = nearest(str(value), _STATUSES)
        source.refuse(literal.column, f"a status ({', '.join(_STATUSES)}), not {value!r}", meant)
    return Literal("", literal.column) if (kind, value) == (Kind.NAMESPACE, ".") else literal


def _fits(kind: Kind, value: Value) -> bool:
    if kind is Kind.BOOL or isinstance(value, bool):
        return kind is Kind.BOOL and isinstance(value, bool)
    return isinstance(value, int | float if kind in NUMBERS else str)


def kind_of(field: Field) -> Kind | None:
    """The kind of a column; None for what may hold anything."""
    is_whole_column = field.space is Space.COLUMN and len(field.path) == 1
    return COLUMNS[str(field.path[0])].kind if is_whole_column else None


def _seconds(source: Source, column: int, text: str) -> int | float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        source.refuse(column, f"{Kind.TIME.value}, not {text!r}")
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    microseconds = (time - _EPOCH) // timedelta(microseconds=1)
    whole, rest = divmod(microseconds, 1_000_000)
    return microseconds / 1_000_000 if rest else whole
