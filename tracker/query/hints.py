"""Which fields a query names, and which known name a mistyped one is nearest to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from tracker.query.tree import And, Comparison, Expression, Field, Not, Or, Path, Query, Space, format_field


class FieldUse(Struct, frozen=True):
    """A field where a query names it; `column` is a 0-based offset into the query's text."""

    space: Space
    path: Path
    column: int

    @property
    def text(self) -> str:
        """The field as a query names it."""
        return format_field(Field(self.space, self.path))


def fields_of(query: Query) -> list[FieldUse]:
    """Every use of a field, in the order of the text."""
    found = {FieldUse(field.space, field.path, field.column) for field in _iter_fields(query.root)}
    return sorted(found, key=lambda use: use.column)


def _iter_fields(expression: Expression) -> Iterator[Field]:
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _iter_fields(part)
        case Not(part):
            yield from _iter_fields(part)
        case Comparison(field, _, Field() as other):
            yield from (field, other)
        case _:
            yield expression.field


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be; None if it is like none, or is one itself.

    A name that ends in `name` as its last part comes before one that is spelled alike.
    """
    from tracker.query.alike import most_alike

    by_folded = {text.casefold(): text for text in sorted(known, reverse=True)}
    ends = sorted((text for text in by_folded if text.endswith(f".{name.casefold()}")), key=len)
    if ends and name.casefold() not in by_folded:
        return by_folded[ends[0]]
    close = most_alike(name.casefold(), by_folded)
    found = None if close is None else by_folded[close]
    return None if found == name else found
