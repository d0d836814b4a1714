"""A field -> the SQL that reads it: is it there, of which type, with what value.

A path of JSON is a binding. SQLite compares a quoted key with the bytes between the quotes in the document;
a key with a character that JSON escapes is found through json_each, which gives keys as they are meant.
LIMIT: SQLite ends a text of JSON at a NUL; a run's text with one is seen up to there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tracker.query.columns import COLUMNS, NUMBERS, Column, Kind
from tracker.query.sql import Sql, bind, build, join
from tracker.query.tree import Field, Path, Space

_DOCUMENTS = {Space.PARAMS: Sql("params"), Space.METRICS: Sql("summary")}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_INDEX_MAX = 2**31 - 1
"""SQLite reads an index modulo 2^32; no list has so many items."""

LAST = "last"
"""The member of a summary value that stands for it."""


class Access(NamedTuple):
    """The SQL of one field. `type` is json_type's word, NULL if the field is not there."""

    is_there: Sql
    is_number: Sql
    is_text: Sql
    type: Sql
    value: Sql
    items: Sql


def access(field: Field) -> Access:
    """How to read a field."""
    first, *rest = field.path
    if field.space is Space.COLUMN:
        column = COLUMNS[str(first)]
        if column.kind is Kind.TAGS:
            return _in_document(Sql(column.sql), tuple(rest))
        return _bool(Sql(column.sql)) if column.kind is Kind.BOOL else _whole_column(column)
    document = _DOCUMENTS[field.space]
    if field.space is Space.METRICS and not rest:
        return _either(_in_document(document, (*field.path, LAST)), _in_document(document, field.path))
    return _in_document(document, field.path)


def _whole_column(column: Column) -> Access:
    sql, is_number = Sql(column.sql), column.kind in NUMBERS
    there, never = build("{} is not null", sql), Sql("0")
    word = Sql("'real'" if is_number else "'text'")
    number, text = (there, never) if is_number else (never, there)
    return Access(there, number, text, word, sql, Sql("json_each('[]')"))


def _bool(sql: Sql) -> Access:
    """A column of 0 and 1. Its type is its value, as that of true and false in a document."""
    type_ = build("case {} when 1 then 'true' when 0 then 'false' end", sql)
    return Access(build("{} is not null", sql), Sql("0"), Sql("0"), type_, sql, Sql("json_each('[]')"))


def _in_document(document: Sql, path: Path) -> Access:
    steps = _steps(path)
    if len(steps) == 1:
        (plain,) = steps
        return _typed(
            build("json_type({}, {})", document, bind(plain)),
            build("json_extract({}, {})", document, bind(plain)),
            build("json_each({}, {})", document, bind(plain)),
        )
    return _by_steps(document, steps)


def _typed(type_: Sql, value: Sql, items: Sql) -> Access:
    return Access(
        is_there=build("{} is not null", type_),
        is_number=build("{} in ('integer', 'real')", type_),
        is_text=build("{} = 'text'", type_),
        type=type_,
        value=value,
        items=items,
    )


def text_in_document(field: Field) -> Sql | None:
    """The JSON text of a value of the params or the summary, letter by letter as it is recorded; NULL if it
    is not there. None if no path of SQLite's says it.
    """
    document = _DOCUMENTS[field.space]
    steps = _steps(field.path)
    if len(steps) > 1:
        return None
    text = build("{} -> {}", document, bind(steps[0]))
    if field.space is Space.PARAMS or len(field.path) > 1:
        return text
    (last,) = _steps((*field.path, LAST))
    return build("coalesce({} -> {}, {})", document, bind(last), text)


def _either(first: Access, second: Access) -> Access:
    """The first one where it is there, else the second. A null that is there has a type and no value."""
    type_ = build("coalesce({}, {})", first.type, second.type)
    value = build("coalesce({}, {})", first.value, second.value)
    return _typed(type_, value, build("json_each({})", value))


def _steps(path: Path) -> list[str]:
    """Paths that SQLite can follow, and between each two of them a key that it cannot say."""
    steps = ["$"]
    for part in path:
        if isinstance(part, int):
            index = min(abs(part), _INDEX_MAX)
            steps[-1] += f"[{index}]" if part >= 0 else f"[#-{index}]"
        elif _ESCAPED.search(part):
            steps += [part, "$"]
        else:
            steps[-1] += f'."{part}"'
    return steps


def _by_steps(document: Sql, steps: list[str]) -> Access:
    """One json_each for each key that a path cannot say, joined side by side: SQLite's parser stays flat."""
    sources, conditions, inside = [], [], document
    for number, (path, key) in enumerate(zip(steps[::2], steps[1::2], strict=False)):
        name = Sql(f"e{number}")
        sources.append(build("json_each({}, {}) as {}", inside, bind(path), name))
        conditions.append(build("{}.key = {}", name, bind(key)))
        inside = build("case when {}.type in ('object', 'array') then {}.value end", name, name)
    found = build("from {} where {} limit 1", join(", ", sources), join(" and ", conditions))
    if steps[-1] == "$":
        type_, value = Sql(f"{name.text}.type"), Sql(f"{name.text}.value")
    else:
        type_ = build("json_type({}, {})", inside, bind(steps[-1]))
        value = build("json_extract({}, {})", inside, bind(steps[-1]))
    value = build("(select {} {})", value, found)
    return _typed(build("(select {} {})", type_, found), value, build("json_each({})", value))
