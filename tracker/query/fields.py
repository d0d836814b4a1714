"""A field by itself: text -> field -> the SQL of its value, to sort, group and show by."""

from __future__ import annotations

from tracker.query.access import access, text_in_document
from tracker.query.compile import Compiled
from tracker.query.operands import read_field
from tracker.query.source import Source
from tracker.query.tree import Field


def parse_field(text: str) -> Field:
    """Read a field, as `lr`, `model.name`, `params['a.b']`, `created`. Raises: QueryError."""
    source = Source(text)
    return read_field(source, source.body)


def compile_text(field: Field) -> Compiled | None:
    """The JSON text of a field of the params or the summary as SQL, for SQLite 3.38 and later; NULL where the
    run has none. None if SQLite cannot say it.
    """
    sql = text_in_document(field)
    return None if sql is None else Compiled(sql.text, list(sql.values))


def compile_field(field: Field) -> Compiled:
    """The value of a field as SQL; NULL where the run has none."""
    sql = access(field).value
    return Compiled(sql.text, list(sql.values))
