"""A query as a tree of frozen data. It knows fields and literals, never SQL and never a store.

`column` is a 0-based offset into the query's text, and no part of what a node means.
"""

import enum
import keyword

from msgspec import Struct

from tracker.query.columns import COLUMNS

Value = bool | int | float | str | None
Path = tuple[str | int, ...]


class Space(enum.StrEnum):
    """Where a field lies: in the run's params, among what is known of every run, in its summary."""

    PARAMS = "params"
    COLUMN = "column"
    METRICS = "metrics"


class Op(enum.StrEnum):
    """How two values are compared."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Matching(enum.StrEnum):
    """How a text is held against a pattern or a part of it."""

    LIKE = "like"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    CONTAINS = "contains"


class Field(Struct, frozen=True):
    """A place in a run. A column's name is the first part of its path."""

    space: Space
    path: Path
    column: int = 0


class Literal(Struct, frozen=True):
    """A value as it was written; a time is Unix seconds here, the root namespace ""."""

    value: Value
    column: int = 0


class Comparison(Struct, frozen=True):
    """`field op other`."""

    field: Field
    op: Op
    other: Field | Literal


class OneOf(Struct, frozen=True):
    """`field in (literals)`; negated: the field is there and equals none."""

    field: Field
    literals: tuple[Literal, ...]
    negated: bool = False


class Member(Struct, frozen=True):
    """`literal in field`; negated: the field is there and is no list with this member."""

    literal: Literal
    field: Field
    negated: bool = False


class Exists(Struct, frozen=True):
    """`exists(field)`; a null is there."""

    field: Field


class Match(Struct, frozen=True):
    """`field.startswith(text)` and its like; false where the field is no text."""

    matching: Matching
    field: Field
    text: str


class Not(Struct, frozen=True):
    """True where its part is false."""

    part: "Expression"


class And(Struct, frozen=True):
    """True where all parts are; two or more."""

    parts: "tuple[Expression, ...]"


class Or(Struct, frozen=True):
    """True where one part is; two or more."""

    parts: "tuple[Expression, ...]"


Atom = Comparison | OneOf | Member | Exists | Match
Expression = Atom | Not | And | Or


class Query(Struct, frozen=True):
    """A whole query and the text that it was read from."""

    text: str
    root: Expression


def format_field(field: Field) -> str:
    """The field as a query names it: `lr`, `params['a.b']`, `metrics.loss`, `layers[-1]`."""
    first, *rest = field.path
    if field.space is Space.COLUMN:
        return str(first) + "".join(map(_format_part, rest))
    if field.space is Space.PARAMS and isinstance(first, str) and _is_bare(first):
        return first + "".join(map(_format_part, rest))
    return field.space + "".join(map(_format_part, field.path))


def _format_part(part: str | int) -> str:
    return f".{part}" if isinstance(part, str) and _is_name(part) else f"[{part!r}]"


def _is_bare(name: str) -> bool:
    return _is_name(name) and name not in RESERVED_NAMES


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


RESERVED_NAMES = frozenset((Space.PARAMS, Space.METRICS, *COLUMNS))
"""Names that mean no member of the params; `params.status` is the way to one that is called so."""
