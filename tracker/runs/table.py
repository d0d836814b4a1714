"""A table as a value: headings and rows, and what it looks like as text, CSV and HTML. Pure.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from tracker._codec.canonical import format_tree

SHOWN_ROWS = 20
"""Rows of a table in a notebook; how many more there are is told."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Table(Struct, frozen=True):
    """Headings, and rows with one value a heading: None where a run has none, a time as a datetime in UTC."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def to_csv(self) -> str:
        """The table as CSV with a line of headings."""
        from tracker.runs.lines import iter_csv

        return "".join(iter_csv(self.headings, self.rows))

    def as_objects(self) -> list[dict[str, Any]]:
        """Each row as an object of what JSON has; a time as text."""
        return [dict(zip(self.headings, map(as_json, row), strict=True)) for row in self.rows]

    def _repr_html_(self) -> str:
        return html_of(self.headings, self.rows[:SHOWN_ROWS], len(self.rows))


def as_time(ms: int) -> datetime | int:
    """Unix milliseconds as a datetime; past the calendar as they are."""
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return ms


def as_json(value: Any) -> Any:
    """A value as JSON carries it."""
    return _iso(value) if isinstance(value, datetime) else value


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(value: Any) -> str:
    """A value as a cell of text: nothing for none, a text as it is, everything else as JSON has it."""
    if value is None:
        return ""
    if type(value) is str:
        return value
    return _iso(value) if isinstance(value, datetime) else json_of(value)


def json_of(value: Any) -> str:
    """The canonical text of a value. Spec: spec/canonical.md."""
    if value is None or type(value) is bool:
        return "null" if value is None else "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is list and not value:
        return "[]"
    return format_tree({"": value})[len('{"":') : -1].decode()


def html_of(headings: Sequence[str], rows: Sequence[Sequence[Any]], count: int) -> str:
    """A table for a notebook; nothing in it is taken for HTML."""
    head = "".join(f"<th>{_escaped(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_escaped(text_of(v))}</td>' for v in row)}</tr>" for row in rows)
    more = "" if count <= len(rows) else f"<p>{count - len(rows)} more</p>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _escaped(text: str) -> str:
    return text.translate(_ENTITIES)


_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
