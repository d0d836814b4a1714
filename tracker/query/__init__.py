"""The query language, text -> tree -> SQL: the door of this room."""

from tracker.query.columns import COLUMNS
from tracker.query.compile import Compiled, compile_query
from tracker.query.fields import compile_field, compile_text, parse_field
from tracker.query.hints import FieldUse, fields_of, nearest
from tracker.query.parse import parse_query
from tracker.query.tree import Field, Query, Space, format_field

__all__ = [
    "COLUMNS",
    "Compiled",
    "Field",
    "FieldUse",
    "Query",
    "Space",
    "compile_field",
    "compile_query",
    "compile_text",
    "fields_of",
    "format_field",
    "nearest",
    "parse_field",
    "parse_query",
]
