"""What long files hashed to, by what the system tells of them: unchanged ones are not read again.

A cache beside the index, never the truth: it may be deleted at any time, and what it cannot do it does not
say. Whatever is doubtful counts as not known.

Spec: spec/sealing.md section 4.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from types import TracebackType
from typing import Self

from tracker._disk import host
from tracker._store.index import index_path, remove_files

SETTLED_S = 2
"""A file that changed less than so long ago may change again without another time stamp."""

SETTLED_ELSEWHERE_S = 60
"""The same where another host sets the time stamps: clocks differ."""

KEPT_MAX = 200_000
NAME = "sealed.sqlite"

_VERSION = 1
_BUSY_S = 0.2
_SECOND_NS = 1_000_000_000
_SCHEMA = (
    "create table if not exists sealed(id integer primary key, file blob unique, stamp blob, digest blob)"
)
_FILE, _STAMP = struct.Struct("<QQ"), struct.Struct("<Qqq")


class StatCache:
    """The cache of one root, opened when it is first asked. Leave it as a context: that writes.

    Cost: 0.5 ms to open, then 10 µs a file.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._db: sqlite3.Connection | None = None
        self._is_off = False
        self._elsewhere: dict[int, bool] = {}
        self._news: list[tuple[bytes, bytes, bytes]] = []

    def find(self, fd: int, status: os.stat_result) -> bytes | None:
        """The digest of the open file of which the system tells `status`; None where it is not known."""
        if not self._is_settled(fd, status):
            return None
        try:
            db = self._opened()
            row = None if db is None else db.execute(_SELECT, (_file(status),)).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        if row is None or row[0] != _stamp(status):
            return None
        return _digest_in(_file(status) + row[0], row[1])

    def keep(self, fd: int, before: os.stat_result, after: os.stat_result, digest: bytes) -> None:
        """Remember a digest, if the file was the same before it was read and after, and settled."""
        key = _file(before), _stamp(before)
        if key == (_file(after), _stamp(after)) and self._is_settled(fd, before):
            self._news.append((*key, digest + _sum(b"".join(key) + digest)))

    def _is_settled(self, fd: int, status: os.stat_result) -> bool:
        times = status.st_mtime_ns, status.st_ctime_ns
        age_ns = host.now_ms() * 1_000_000 - max(times)
        if self._is_elsewhere(fd, status.st_dev):
            is_fine = all(time % _SECOND_NS for time in times)
            return is_fine and age_ns > SETTLED_ELSEWHERE_S * _SECOND_NS
        return age_ns > SETTLED_S * _SECOND_NS

    def _is_elsewhere(self, fd: int, device: int) -> bool:
        """True where another host may set the time stamps, or where that cannot be told."""
        if device not in self._elsewhere:
            self._elsewhere[device] = host.is_network_fs(f"/proc/self/fd/{fd}")
        return self._elsewhere[device]

    # The file

    def _opened(self) -> sqlite3.Connection | None:
        if self._db is None and not self._is_off:
            try:
                self._db = _open(os.path.join(os.path.dirname(index_path(self._root)), NAME))
            except (OSError, sqlite3.Error):
                self._give_up()
        return self._db

    def _give_up(self) -> None:
        """Do without: files are read."""
        self._is_off = True
        if self._db is not None:
            self._db.close()
            self._db = None
        self._news.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        db = self._opened() if self._news else self._db
        if db is None:
            return
        try:
            if self._news:
                _write(db, self._news)
        except sqlite3.Error:  # another process writes: it is a cache
            self._news.clear()
        db.close()
        self._db = None


_SELECT = "select stamp, digest from sealed where file = ?"


def _open(path: str) -> sqlite3.Connection:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or the disk is full
            raise
        remove_files(path)
        return _connect(path)


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if db.execute("pragma user_version").fetchone()[0] != _VERSION:
            db.execute("pragma journal_mode = wal").fetchone()
            db.execute("begin immediate")
            db.execute("drop table if exists sealed")
            db.execute(_SCHEMA)
            db.execute(f"pragma user_version = {_VERSION}")
            db.execute("commit")
        db.execute("pragma synchronous = off")
    except BaseException:
        db.close()
        raise
    return db


def _write(db: sqlite3.Connection, news: list[tuple[bytes, bytes, bytes]]) -> None:
    db.execute("begin immediate")
    db.executemany("insert or replace into sealed(file, stamp, digest) values (?, ?, ?)", news)
    db.execute("delete from sealed where id <= (select max(id) from sealed) - ?", (KEPT_MAX,))
    db.execute("commit")


def _file(status: os.stat_result) -> bytes:
    return _FILE.pack(status.st_dev, status.st_ino)


def _stamp(status: os.stat_result) -> bytes:
    return _STAMP.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _digest_in(key: bytes, value: object) -> bytes | None:
    """A digest with its checksum, so that a flipped bit of the cache is sealed into no history."""
    if not isinstance(value, bytes) or len(value) != 36:
        return None
    digest = value[:32]
    return digest if _sum(key + digest) == value[32:] else None
