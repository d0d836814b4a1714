"""The disposable SQLite index: takes histories, answers look-ups and filters.

Never the truth: it may be deleted at any time, lives outside the tree, and says which files it covers. It
knows rows, not frames; whoever fills it decides what is current.

Spec: spec/layout.md section 7.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from tracker._codec.canonical import format_tree
from tracker._codec.digest import digest
from tracker._model.event import Created, Rule, RunEvent
from tracker._model.fold import History, Run, Stamp, State, join, run_of, still_unproven
from tracker._model.names import fold_name, run_ref, split_ref
from tracker._model.rules import Rules
from tracker._store.bulk import BARE, Bulk, PlainRow, code_of, plain_history, twin_of
from tracker.terms import RunRef, Status, WriterId

VERSION = 5
BUSY_S = 120.0
OPENING_S = 5.0
"""How long others may be waited for: when a transaction is begun, and when the file is opened."""

_SCHEMA = """
create table meta(key text primary key, value);
create table covers(path text primary key, size integer, mtime_ns integer, damaged integer) without rowid;
create table runs(
    id integer primary key, uid text, identifier text, relpath text, key text, status text, mode text,
    params text, clock integer, writer text, seq integer, pos integer, removed integer, unproven blob,
    twin text, attempts integer, by text, started_ms integer, ended_ms integer, tags text, summary text,
    name text, parent text, commit_id text, dirty integer, plain blob);
create table aliases(id integer primary key, alias text);
create table writers(writer text primary key, host text, user text) without rowid;
create table histories(id integer primary key, events blob);
create table rules(
    clock integer, writer text, seq integer, pos integer, fork text, kind text, path text, value text,
    primary key(clock, writer, seq, pos, fork)) without rowid;
create table spellings(kind text, folded text, text text, primary key(kind, folded, text)) without rowid;
"""

_ORDERS = {
    "runs_uid": "runs(uid, identifier, relpath, status, removed)",
    "runs_repeats": "runs(key) where key <> uid",
    "runs_clock": "runs(clock)",
    "runs_twins": "runs(twin) where twin is not null",
    "runs_running": "runs(id) where status = 'running'",
    "aliases_alias": "aliases(alias)",
}
"""The B-trees beside the tables."""

_SORTED = ("runs_uid", "runs_twins")
"""Those that rows come to in no order: a bulk is written without them and they are made behind it."""

BULK_BYTES = 4 << 20
"""A fill of so many bytes into an empty index is a bulk."""

_PRAGMAS = (
    "page_size = 16384",
    "journal_mode = wal",
    "synchronous = normal",
    "temp_store = memory",
    "cache_size = -32768",
)


class Cover(NamedTuple):
    """A write-once file that the rows were made of; its size and mtime matter where it is damaged."""

    path: str
    size: int
    mtime_ns: int
    damaged: bool


class Row(NamedTuple):
    """What a resume needs of a run. A removed one counts as not run: its status is PENDING."""

    status: str
    mode: str | None
    params: str | None


_COLUMNS = (
    *("id", "uid", "identifier", "relpath", "key", "status", "mode", "params"),
    *("clock", "writer", "seq", "pos", "removed", "unproven", "twin"),
    *("attempts", "by", "started_ms", "ended_ms", "tags", "summary"),
    *("name", "parent", "commit_id", "dirty"),
)
_INSERT_RUN = f"insert or replace into runs({', '.join(_COLUMNS)}) values ({', '.join('?' * len(_COLUMNS))})"


def _plain_statement(columns: Sequence[str]) -> str:
    """The statement for plain rows of these columns; what they do not have is the same for all."""
    marks = [f"?{number + 1}" for number in range(len(columns))]
    by = marks[columns.index("writer")]
    return (
        f"insert into runs({', '.join(columns)}, by, status, pos, removed, attempts) "
        f"values ({', '.join(marks)}, {by}, 'done', 0, 0, 1)"
    )


_INSERT_BARE, _INSERT_PLAIN = _plain_statement(BARE), _plain_statement(PlainRow._fields)
_STORED = "r.id, h.events, r.unproven, " + ", ".join(f"r.{name}" for name in PlainRow._fields)
"""What a history is read from: the blob of events, or the columns of a plain one."""

_FROM = "from runs r left join histories h on h.id = r.id"
_SELECT_HISTORY = f"select {_STORED} {_FROM} where uid = ? and identifier = ? and relpath = ?"
_SELECT_ROW = (
    "select case when removed then 'pending' else status end, mode, params from runs "
    "where uid = ? and identifier = ? and relpath = ?"
)
_SELECT_STATUS = _SELECT_ROW.replace(", mode, params", "")
_SELECT_DONE = (
    "select group_concat(uid, ' ') from runs "
    "where identifier = ? and relpath = ? and status = 'done' and not removed"
)
"""The B-tree of the uids holds all that these two ask for: no row is read."""

_histories_encoder = msgspec.msgpack.Encoder()
_stamps_decoder = msgspec.msgpack.Decoder(list[Stamp])
_histories_decoder = msgspec.msgpack.Decoder(tuple[bool, list[tuple[Stamp, RunEvent]]])


class _Filled(NamedTuple):
    """A run as it is to be written."""

    id: int
    run: Run
    history: History
    unproven: set[Stamp]


_NONE: set[Stamp] = set()


class Filter(Struct, frozen=True):
    """Which runs: each field that is not None must match; `uid` is a prefix."""

    relpath: str | None = None
    identifier: str | None = None
    uid: str | None = None
    key: str | None = None
    status: Status | None = None
    removed: bool | None = False

    def may_match(self, ref: RunRef) -> bool:
        """False if the run of this ref is none of those wanted, whatever its history."""
        relpath, identifier, uid = split_ref(ref)
        return (
            self.relpath in (None, relpath)
            and self.identifier in (None, identifier)
            and uid.startswith(self.uid or "")
        )

    def matches(self, run: Run) -> bool:
        """True if `run` is one of those wanted."""
        wanted = (self.relpath, self.identifier, self.key, self.status, self.removed)
        has = (run.relpath, run.identifier, run.key, run.status, run.removed)
        return all(w is None or w == h for w, h in zip(wanted, has, strict=True)) and run.uid.startswith(
            self.uid or ""
        )


class Index:
    """One SQLite file, or memory where `path` is None. One thread at a time; the ledger holds the lock.

    Raises: sqlite3.Error from any method when the file is not fit for use; the caller drops it.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.bulk: Bulk | None = None
        """There from `begin_bulk` on, until it is ended."""
        self._db = sqlite3.connect(
            path or ":memory:",
            timeout=OPENING_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        for pragma in _PRAGMAS:
            self._db.execute(f"pragma {pragma}").fetchone()
        self._make_schema()
        self._db.execute(f"pragma busy_timeout = {int(BUSY_S * 1000)}").fetchone()

    def _make_schema(self) -> None:
        if self._version() == VERSION:
            return
        with self.transaction():
            if self._version() == VERSION:
                return
            names = self._db.execute("select name from sqlite_master where type = 'table'").fetchall()
            for (name,) in names:
                self._db.execute(f'drop table "{name}"')
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._make_orders()
            self._db.execute(f"pragma user_version = {VERSION}")

    def _version(self) -> int:
        return int(self._db.execute("pragma user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and no other process writes meanwhile."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """For queries: reading, and temporary tables."""
        return self._db

    def running(self) -> list[RunRef]:
        """The runs that are recorded as RUNNING. Cost: 3 µs each."""
        found = self._db.execute("select relpath, identifier, uid from runs where status = 'running'")
        return [run_ref(*row) for row in found]

    def clear(self) -> None:
        """Forget everything; inside a transaction."""
        for table in ("covers", "runs", "histories", "rules", "spellings", "writers", "aliases", "meta"):
            self._db.execute(f"delete from {table}")

    def begin_bulk(self) -> None:
        """Expect many rows in an empty index; inside the transaction that `end_bulk` completes."""
        for name in _SORTED:
            self._db.execute(f"drop index if exists {name}")
        self.bulk = Bulk()

    def end_bulk(self) -> None:
        """Make the orders that the bulk was written without, and take in what it left."""
        bulk, self.bulk = self.bulk, None
        if bulk is not None:
            self._make_orders()
            for state in bulk.iter_left():
                self.absorb(state, bulk.clock)

    def _make_orders(self) -> None:
        for name, columns in _ORDERS.items():
            self._db.execute(f"create index if not exists {name} on {columns}")

    def covers(self) -> dict[str, Cover]:
        """Which files the rows were made of."""
        rows = self._db.execute("select path, size, mtime_ns, damaged from covers")
        return {row[0]: Cover(*row) for row in rows}

    def set_covers(self, covers: Iterable[Cover]) -> None:
        """Say that these files are in."""
        self._db.executemany("insert or replace into covers values (?, ?, ?, ?)", covers)

    def set_writer(self, writer: str, host: str, user: str) -> None:
        """Know who a writer is."""
        self._db.execute("insert or replace into writers values (?, ?, ?)", (writer, host, user))

    def clock(self) -> int:
        """The greatest clock the index has read."""
        row = self._db.execute("select value from meta where key = 'clock'").fetchone()
        return int(row[0]) if row else 0

    def absorb(self, state: State, clock: int) -> None:
        """Add histories to the rows; inside a transaction. Cost: 8 µs a run in a bulk, else about 15."""
        if self.bulk is not None:
            state = self.bulk.first_seen(state, clock)
            self._insert_plain(self.bulk)
        new: list[_Filled] = []
        old: list[_Filled] = []
        came: list[int] = []
        """Rows whose params were not known before: their aliases are not settled."""
        next_id = self._db.execute("select coalesce(max(id), 0) + 1 from runs").fetchone()[0]
        looks = next_id > 1 and self.bulk is None
        for ref, history in state.runs.items():
            known = self._known(ref) if looks else None
            unproven = state.unproven.get(ref) or _NONE
            if known is None:
                new.append(_Filled(next_id + len(new), run_of(ref, history), history, unproven))
                continue
            id_, before, doubts = known
            if unproven or doubts:
                unproven = still_unproven([(history, unproven), (before, doubts)])
            union = join(before, history)
            if not any(type(event) is Created for event in before.values()):
                came.append(id_)
            old.append(_Filled(id_, run_of(ref, union), union, unproven))
        self._insert(new)
        self._update(old)
        if came:
            self._db.execute("update meta set value = min(value, ?) where key = 'settled'", (min(came) - 1,))
        self._add_spellings({(one.run.relpath, one.run.identifier) for one in new})
        rules = ((*stamp, rule.kind, rule.path, rule.value) for stamp, rule in state.rules.items())
        self._db.executemany("insert or replace into rules values (?, ?, ?, ?, ?, ?, ?, ?)", rules)
        self._db.execute("insert or replace into meta values ('clock', max(?, ?))", (clock, self.clock()))
        if self.bulk is not None and self.bulk.is_full:
            self.end_bulk()

    def _insert_plain(self, bulk: Bulk) -> None:
        bare, whole = bulk.take_rows()
        self._db.executemany(_INSERT_BARE, bare)
        self._db.executemany(_INSERT_PLAIN, whole)
        self._add_spellings(bulk.names())

    def _add_spellings(self, names: set[tuple[str, str]]) -> None:
        """Know the names of runs by (relpath, identifier)."""
        texts = {("relpath", relpath) for relpath, _ in names} | {("identifier", name) for _, name in names}
        folded = [(kind, fold_name(text), text) for kind, text in texts]
        self._db.executemany("insert or ignore into spellings values (?, ?, ?)", folded)

    def _known(self, ref: RunRef) -> tuple[int, History, set[Stamp]] | None:
        head, _, uid = ref.rpartition("/")
        relpath, _, identifier = head.rpartition("/")
        found = self._db.execute(_SELECT_HISTORY, (uid, identifier, relpath)).fetchone()
        if found is None:
            return None
        return found[0], _stored_history(ref, found), _decode_stamps(found[2])

    def _insert(self, rows: list["_Filled"]) -> None:
        self._db.executemany(_INSERT_RUN, map(_values, rows))
        blobs = ((one.id, _encode_history(one.history, one.run.params)) for one in rows)
        self._db.executemany("insert into histories values (?, ?)", blobs)

    def _update(self, rows: list["_Filled"]) -> None:
        self._db.executemany(_INSERT_RUN, map(_values, rows))
        blobs = ((one.id, _encode_history(one.history, one.run.params)) for one in rows)
        self._db.executemany("insert or replace into histories values (?, ?)", blobs)

    def with_uid(self, uid: str, relpath: str) -> list[RunRef]:
        """The runs of a namespace that share a uid, and so a folder."""
        found = self._db.execute("select identifier from runs where uid = ? and relpath = ?", (uid, relpath))
        return [run_ref(relpath, identifier, uid) for (identifier,) in found]

    def twins(self, twin: str, identifier: str, relpath: str) -> list[str]:
        """The canonical texts of the runs whose numbers, taken as doubles, give the uid `twin`."""
        found = self._db.execute(
            "select params from runs where (twin = ? or uid = ?) and identifier = ? and relpath = ?",
            (twin, twin, identifier, relpath),
        )
        return [params for (params,) in found if params is not None]

    def spellings(self, kind: str, folded: str) -> list[str]:
        """The names of a kind ("relpath", "identifier") that are equal after folding."""
        found = self._db.execute("select text from spellings where kind = ? and folded = ?", (kind, folded))
        return [text for (text,) in found]

    def relpaths(self) -> list[str]:
        """Every namespace that has a run, "" for the root."""
        return [text for (text,) in self._db.execute("select text from spellings where kind = 'relpath'")]

    def history(self, ref: RunRef) -> tuple[History, set[Stamp]] | None:
        """The history of a run, and the stamps of its unproven events. Cost: 8 µs."""
        known = self._known(ref)
        return None if known is None else (known[1], known[2])

    def row(self, uid: str, identifier: str, relpath: str) -> Row | None:
        """The row of a run. Cost: 4 µs, whatever the number of runs."""
        found = self._db.execute(_SELECT_ROW, (uid, identifier, relpath)).fetchone()
        return None if found is None else Row._make(found)

    def status(self, uid: str, identifier: str, relpath: str) -> str | None:
        """The status in the row of a run. Cost: 2 µs, whatever the number of runs."""
        found = self._db.execute(_SELECT_STATUS, (uid, identifier, relpath)).fetchone()
        return None if found is None else found[0]

    def done(self, identifier: str, relpath: str) -> frozenset[str]:
        """The uids of the runs that are done. Cost: 0.3 µs for each row of the index."""
        (uids,) = self._db.execute(_SELECT_DONE, (identifier, relpath)).fetchone()
        return frozenset((uids or "").split())

    def repeats(self, key: str, identifier: str, relpath: str) -> list[RunRef]:
        """The refs of the repeats of a key."""
        found = self._db.execute(
            "select uid from runs where key = ? and key <> uid and identifier = ? and relpath = ?",
            (key, identifier, relpath),
        )
        return [run_ref(relpath, identifier, uid) for (uid,) in found]

    def histories(self, wanted: Filter) -> Iterator[tuple[RunRef, History, set[Stamp]]]:
        """The histories of the runs that match. Cost: 6 µs a run."""
        where, values = _where(wanted)
        for found in self._db.execute(f"select {_STORED} {_FROM}{where}", values):
            _, _, unproven, uid, identifier, relpath, *_ = found
            ref = run_ref(relpath, identifier, uid)
            yield ref, _stored_history(ref, found), _decode_stamps(unproven)

    def settle_aliases(self, rules: Rules) -> None:
        """Know the aliases of all rows under these rules, where they are not the uids.

        Cost: 1 µs a row that is new, or with other rules a row, and 15 µs where a rule is about it.
        Spec: spec/rules.md section 7.
        """
        if self._settled() == (rules.digest, self.last_id()):
            return
        with self.transaction():
            digest, upto = self._settled()
            if digest != rules.digest:
                self._db.execute("delete from aliases")
                upto = 0
            rows = self._db.execute(
                "select id, uid, params from runs where id > ? and params is not null", (upto,)
            )
            aliases = ((id_, uid, rules.alias_of(text)) for id_, uid, text in _touched(rows, rules))
            kept = ((id_, alias) for id_, uid, alias in aliases if alias not in (None, uid))
            self._db.executemany("insert or replace into aliases values (?, ?)", kept)
            settled = [("rules", rules.digest), ("settled", self.last_id())]
            self._db.executemany("insert or replace into meta values (?, ?)", settled)

    def _settled(self) -> tuple[str, int]:
        """The digest of the rules that the aliases are of, and the id of the last row that has one."""
        found = dict(self._db.execute("select key, value from meta where key in ('rules', 'settled')"))
        return found.get("rules", ""), found.get("settled", 0)

    def last_id(self) -> int:
        """As many rows as there are, or a few more. Cost: 3 µs."""
        return int(self._db.execute("select coalesce(max(id), 0) from runs").fetchone()[0])

    def aliased(self, alias: str) -> list[RunRef]:
        """The runs that have this alias and another uid. Cost: 5 µs."""
        found = self._db.execute(
            "select relpath, identifier, uid from aliases join runs using (id) where alias = ?", (alias,)
        )
        return [run_ref(*row) for row in found]

    def rules(self) -> dict[Stamp, Rule]:
        """The store's rules under their stamps."""
        rows = self._db.execute("select clock, writer, seq, pos, fork, kind, path, value from rules")
        return {
            (c, WriterId(w), s, p, f): Rule(kind, path, value) for c, w, s, p, f, kind, path, value in rows
        }


def remove_files(path: str) -> None:
    """Delete an index file and its companions; they are a cache."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            continue


def _touched(rows: Iterable[Any], rules: Rules) -> Iterator[tuple[int, str, bytes]]:
    for id_, uid, params in rows:
        text = params.encode()
        if rules.may_touch(text):
            yield id_, uid, text


def _values(one: _Filled) -> tuple[Any, ...]:
    run = one.run
    clock, writer, seq, pos, _ = run.first
    doubts = _histories_encoder.encode(sorted(one.unproven)) if one.unproven else None
    return (
        one.id, run.uid, run.identifier, run.relpath, run.key, str(run.status), run.mode, run.params,
        clock, writer, seq, pos, run.removed, doubts, twin_of(run.params), *facts_of(run),
    )  # fmt: skip


def facts_of(run: Run) -> tuple[Any, ...]:
    """What queries ask of a run beside its record: attempts, by, started_ms, ended_ms, tags, summary, name,
    parent, commit_id, dirty.
    """
    tags = msgspec.json.encode(run.tags).decode() if run.tags else None
    summary = format_tree(run.summary).decode() if run.summary else None
    said = tags, summary, run.name, run.parent
    attempt = run.attempt
    if attempt is None:
        return 0, None, None, None, *said, None, None
    times = attempt.started_ms, attempt.ended_ms
    return len(run.attempts), attempt.writer, *times, *said, *code_of(attempt.facts)


def _where(wanted: Filter) -> tuple[str, list[Any]]:
    clauses: list[str] = []
    values: list[Any] = []
    if wanted.key is not None:
        clauses.append("(uid = ? or key = ? and key <> uid)")  # as the indexes lie
        values += [wanted.key, wanted.key]
    for column in ("relpath", "identifier", "status", "removed"):
        value = getattr(wanted, column)
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(str(value) if column == "status" else value)
    if wanted.uid is not None:
        clauses.append("uid >= ? and uid < ?")
        values += [wanted.uid, wanted.uid + "g"]  # 'g' follows every hex digit
    return (" where " + " and ".join(clauses) if clauses else ""), values


def _encode_history(history: History, params: str | None) -> bytes:
    """A history without the params that the row holds already: half of its bytes."""
    items = list(history.items())
    created = [n for n, (_, event) in enumerate(items) if type(event) is Created]
    is_bare = all(items[n][1].params == params for n in created)  # type: ignore[union-attr]
    for n in created if is_bare else ():
        stamp, event = items[n]
        items[n] = stamp, Created(event.run, "", event.key, event.mode, event.ignored)  # type: ignore[union-attr]
    return _histories_encoder.encode((is_bare, items))


def _decode_stamps(stamps: bytes | None) -> set[Stamp]:
    return set() if stamps is None else set(_stamps_decoder.decode(stamps))


def _stored_history(ref: RunRef, stored: Sequence[Any]) -> History:
    """The history that the columns `_STORED` hold."""
    row = PlainRow._make(stored[3:])
    blob: bytes | None = stored[1]
    if blob is not None:
        return _decode_history(blob, row.params)
    if not isinstance(row.plain, bytes):
        raise sqlite3.DatabaseError(f"run {ref} has no history in the index")
    return plain_history(ref, row)


def _decode_history(data: bytes, params: str | None) -> History:
    is_bare, items = _histories_decoder.decode(data)
    history: History = dict(items)
    if is_bare and params is not None:
        for stamp, event in items:
            if type(event) is Created:
                history[stamp] = Created(event.run, params, event.key, event.mode, event.ignored)
    return history


def index_path(root: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """Where the index of a root lies on this host. Spec: spec/layout.md section 7."""
    base = environ.get("TRACKER_CACHE")
    if not base:
        home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(home, "tracker")
    real = os.path.realpath(root)
    name = "".join(c if c.isalnum() else "-" for c in os.path.basename(real))[:40] or "root"
    node = "".join(c if c.isalnum() else "-" for c in os.uname().nodename)[:40]
    return os.path.join(base, f"{name}-{digest(os.fsencode(real))[:16]}-{node}", "index.sqlite")


def open_index(root: str) -> Index:
    """The index of a root; in memory where its folder cannot be written or its file is unfit."""
    path = index_path(root)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return Index(path)
    except (OSError, sqlite3.Error):
        return _open_anew(path)


def _open_anew(path: str) -> Index:
    try:
        remove_files(path)
        return Index(path)
    except (OSError, sqlite3.Error):
        return Index(None)


def could_remove(path: str) -> bool:
    """Delete an index file; False if the system refuses."""
    try:
        remove_files(path)
    except OSError:
        return False
    return True
