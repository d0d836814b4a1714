"""The relation `seen` that queries are asked of: the rows of an index, and beside them runs that it lacks.

Knows SQL over one connection; which runs the index lacks or tells otherwise than they are now is told above.
It lives in temporary tables of the connection: the index itself is only read.

Spec: spec/layout.md section 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from tracker.errors import DamagedError

HAS_JSON_TEXT = sqlite3.sqlite_version_info >= (3, 38)
"""True if SQLite gives values of a document as they are written there."""


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
    name: str | None
    parent: str | None
    commit_id: str | None
    dirty: int | None


class LiveRow(NamedTuple):
    """A run that takes the place of the index's row of it. `order` is that of its first event."""

    row: SeenRow
    order: tuple[int, str, int, int]


COLUMNS = SeenRow._fields
_ORDER = ("clock", "writer", "seq", "pos")

_INDEXED = """
select r.uid, r.identifier, r.relpath, r.key, r.status, r.mode, r.params, r.clock >> 16 as created_ms,
    r.started_ms, r.ended_ms, w.host, w.user, r.tags, r.summary, r.attempts, r.removed,
    r.name, r.parent, r.commit_id, r.dirty,
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
        self._views = ["seen"]
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
        union = f"select * from temp.others union all {_LIVE}"
        for view in ("seen", "others"):
            self._db.execute(f"drop view if exists temp.{view}")
        self._db.execute(f"create temp view others as {_INDEXED} where not exists ({_HIDING})")
        self._db.execute(f"create temp view seen as {union if listed else _INDEXED}")
        self._views = ["others", "live"] if listed else ["seen"]

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
        """Rows of `seen`. `columns`, `where` and `order` are SQL made of known words; values are bound.

        Raises: DamagedError where a run's recorded params, or what is asked in them, are not JSON.
        """
        return self._select("seen", columns, where, bindings, order, limit, offset)

    def select_first(
        self, columns: Sequence[str], where: str, bindings: Sequence[Any], limit: int
    ) -> list[tuple[Any, ...]]:
        """The first rows of `seen` in the order of creation.

        The index and what stands beside it are asked one after the other: of each SQLite goes by that order
        and stops at the last row that is wanted; of their union it would first find all.

        Raises: DamagedError, as `select`.
        """
        size = len(columns)
        named = [*columns, *_ORDER]
        parts = [self._select(view, named, where, bindings, BY_CREATION, limit) for view in self._views]
        rows = merge(*parts, key=lambda row: row[size:])
        return [row[:size] for row in islice(rows, limit)]

    def _select(
        self,
        view: str,
        columns: Sequence[str],
        where: str,
        bindings: Sequence[Any],
        order: str,
        limit: int | None,
        offset: int = 0,
    ) -> Iterator[tuple[Any, ...]]:
        text = f"select {', '.join(columns)} from {view} where {where}"
        text += f" order by {order}" if order else ""
        if limit is not None or offset:
            text += " limit ? offset ?"
            bindings = [*bindings, -1 if limit is None else limit, offset]
        try:
            yield from self._db.execute(text, bindings)
        except sqlite3.OperationalError as error:
            if "malformed JSON" not in str(error):
                raise
            cure = "see `tracker verify`"
            raise DamagedError("a run of the store", "its recorded params are not JSON", cure=cure) from error

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
