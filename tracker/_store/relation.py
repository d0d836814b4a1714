"""The relation `seen` that queries are asked of: the rows of an index, and beside them runs that it lacks.

Knows SQL over one connection; which runs the index lacks or tells otherwise than they are now is told above.
It lives in temporary tables of the connection: the index itself is only read.

Spec: spec/layout.md section 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple


class SeenRow(NamedTuple):
    """One run as queries see it. Times are Unix milliseconds; params, tags and summary JSON texts."""

    uid: str
    identifier: str
    relpath: str
    key: str | None
    status: str
    mode: str | None
    params: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    host: str | None
    user: str | None
    tags: str | None
    summary: str | None
    attempts: int
    removed: int


class LiveRow(NamedTuple):
    """A run that takes the place of the index's row of it. `order` is that of its first event."""

    row: SeenRow
    order: tuple[int, str, int, int]


COLUMNS = SeenRow._fields
_ORDER = ("clock", "writer", "seq", "pos")

_INDEXED = """
select r.uid, r.identifier, r.relpath, r.key, r.status, r.mode, r.params, r.clock >> 16 as created_ms,
    r.started_ms, r.ended_ms, w.host, w.user, r.tags, r.summary, r.attempts, r.removed,
    r.clock, r.writer, r.seq, r.pos
from main.runs r left join main.writers w on w.writer = r.by
"""
_LIVE = f"select {', '.join(COLUMNS + _ORDER)} from temp.live"
_TABLES = (
    f"create temp table if not exists live({', '.join(COLUMNS + _ORDER)})",
    "create index if not exists temp.live_refs on live(uid, identifier, relpath)",
)
_HIDING = (
    "select 1 from temp.live l where l.uid = r.uid and l.identifier = r.identifier and l.relpath = r.relpath"
)
"""Asked with the rows: another process may have put a live run into the index since."""


class Relation:
    """`seen` over one connection. One thread at a time; the ledger holds the lock.

    Raises: sqlite3.Error where the index is not fit for use.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.mark: object = None
        """Of what the live rows were made; the owner's."""
        self._db = db
        for statement in _TABLES:
            db.execute(statement)

    def set_live(self, rows: Iterable[LiveRow]) -> None:
        """Say which runs are otherwise than in the index. Cost: 10 µs each."""
        listed = list(rows)
        self._db.execute("delete from temp.live")
        values = (row + order for row, order in listed)
        marks = ", ".join("?" * len(COLUMNS + _ORDER))
        self._db.executemany(f"insert into temp.live values ({marks})", values)
        union = f"{_INDEXED} where not exists ({_HIDING}) union all {_LIVE}"
        self._db.execute("drop view if exists temp.seen")
        self._db.execute(f"create temp view seen as {union if listed else _INDEXED}")

    def select(
        self,
        columns: Sequence[str],
        where: str,
        bindings: Sequence[Any],
        *,
        order: str = "",
        limit: int | None = None,
        offset: int = 0,
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of `seen`. `columns`, `where` and `order` are SQL made of known words; values are bound."""
        text = f"select {', '.join(columns)} from seen where {where}"
        text += f" order by {order}" if order else ""
        if limit is not None or offset:
            text += " limit ? offset ?"
            bindings = [*bindings, -1 if limit is None else limit, offset]
        return iter(self._db.execute(text, bindings))

    def ask(self, text: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The answer to a whole query that reads `seen`, with its headings. Nothing can be written by it.

        Raises: sqlite3.Error, also for a text that would write.
        """
        self._db.set_authorizer(_only_read)
        try:
            cursor = self._db.execute(text)
            headings = [column[0] for column in cursor.description or ()]
            return headings, iter(cursor.fetchall())
        finally:
            self._db.set_authorizer(None)


BY_CREATION = ", ".join(_ORDER)
"""The order of first events."""

_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)


def _only_read(action: int, first: str | None, second: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
