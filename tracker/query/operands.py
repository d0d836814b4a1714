"""Python's syntax tree -> fields and literals, the two things that a comparison is made of."""

from __future__ import annotations

import ast
from types import EllipsisType

from tracker.query.columns import COLUMNS, Kind
from tracker.query.source import UNREADABLE, Source
from tracker.query.tree import Field, Literal, Space, Value

PARTS_MAX = 32
INTEGER_BITS_MAX = 4096
"""As deep and as long as params are at all. Spec: spec/canonical.md section 5."""


def read_operand(source: Source, node: ast.expr) -> Field | Literal:
    """A field or a literal.

    Raises: QueryError for anything else.
    """
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return read_field(source, node)
    return read_literal(source, node)


def read_field(source: Source, node: ast.expr) -> Field:
    """The field that a name with its parts means.

    Raises: QueryError for what is no field, and for a part that a column has not.
    """
    column = source.start(node)
    parts: list[str | int] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        parts.append(_part(source, node))
        node = node.value
        if len(parts) > PARTS_MAX:
            source.refuse(column, f"at most {PARTS_MAX} parts of a field, as many as params have")
    if not isinstance(node, ast.Name):
        source.refuse(source.start(node), "a field, as lr, model.name, layers[0] or params['a.b']")
    _refuse_other_spelling(source, node, node.id)
    return _placed(source, node.id, (*reversed(parts),), column)


def _placed(source: Source, name: str, parts: tuple[str | int, ...], column: int) -> Field:
    if name in (Space.PARAMS, Space.METRICS):
        if not parts or not isinstance(parts[0], str):
            source.refuse(column, f"a member of {name}, as {name}.x or {name}['x']")
        return Field(Space(name), parts, column)
    if name not in COLUMNS:
        return Field(Space.PARAMS, (name, *parts), column)
    if parts and COLUMNS[name].kind is not Kind.TAGS:
        source.refuse(column, f"{name} alone, which has no parts; the member of the params is params.{name}")
    return Field(Space.COLUMN, (name, *parts), column)


def _part(source: Source, node: ast.Attribute | ast.Subscript) -> str | int:
    if isinstance(node, ast.Attribute):
        _refuse_other_spelling(source, node, node.attr)
        return node.attr
    value = _constant(node.slice)
    if isinstance(value, bool) or not isinstance(value, str | int):
        source.refuse(source.start(node.slice), "a key in quotes or the number of an item")
    _refuse_unsayable(source, source.start(node.slice), value)
    return value


def _refuse_other_spelling(source: Source, node: ast.expr, name: str) -> None:
    """Python takes compatible letters of a name for the same; keys do not."""
    if not source.text[: source.end(node)].endswith(name):
        source.refuse(source.start(node), "a name of plain letters, or the key in quotes: params['…']")


def read_literal(source: Source, node: ast.expr) -> Literal:
    """A number, a text, True, False or None.

    Raises: QueryError for anything else, and for a value that no run can have.
    """
    column = source.start(node)
    value = _constant(node)
    if value is ...:
        source.refuse(column, _expected_instead(node))
    assert value is None or isinstance(value, bool | int | float | str)
    _refuse_unsayable(source, column, value)
    return Literal(value, column)


def _constant(node: ast.expr) -> Value | EllipsisType:
    """The value of a literal; ... if it is none."""
    is_negative = False
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        is_negative, node = not is_negative, node.operand
        if not _is_number(node) and not isinstance(node, ast.UnaryOp):
            return ...
    value = node.value if isinstance(node, ast.Constant) else ...
    if isinstance(value, bytes | complex):
        return ...
    return -value if is_negative and isinstance(value, int | float) else value


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _expected_instead(node: ast.expr) -> str:
    match node:
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return "a literal here: a number, a text, True, False or None"
        case ast.Tuple() | ast.List():
            return "one value; a list stands behind `in`"
        case ast.BinOp(_, ast.BitAnd(), _):
            return "'and' between comparisons, not '&'"
        case ast.BinOp(_, ast.BitOr(), _):
            return "'or' between comparisons, not '|'"
        case ast.BinOp() | ast.UnaryOp():
            return "a field or a literal; a query calculates nothing"
    return "a field or a literal: a number, a text, True, False or None"


def _refuse_unsayable(source: Source, column: int, value: Value) -> None:
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
        source.refuse(column, f"an integer of at most {INTEGER_BITS_MAX} bits, as params have")
    if isinstance(value, str) and UNREADABLE.search(value):
        source.refuse(column, "a text without NUL and lone surrogates")
