"""The query language, text -> tree -> SQL: the door of this room."""

from tracker.query.compile import Compiled, compile_query
from tracker.query.fields import compile_field, parse_field
from tracker.query.hints import FieldUse, fields_of, nearest
from tracker.query.parse import parse_query
from tracker.query.tree import Field, Query, Space, format_field

__all__ = [
    "Compiled",
    "Field",
    "FieldUse",
    "Query",
    "Space",
    "compile_field",
    "compile_query",
    "fields_of",
    "format_field",
    "nearest",
    "parse_field",
    "parse_query",
]
