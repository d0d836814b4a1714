"""The floors: the least that any store of runs must do, written plainly, with no promise beyond it.

Each keeps the same runs as tracker's workload. They use the same JSON and hash libraries as tracker, so a
ratio compares stores and not parsers. None of them is a store to use: no locks, no checks, no recovery.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import msgspec
from blake3 import blake3

from tools.bench.workload import OUTPUT_NAME, Config, Figures, ask_all, config, create_runs, timed

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


def key_of(params: Config) -> tuple[str, bytes]:
    """Give the 32 hex digits that name these params, and the text they are the hash of."""
    text = _encode(params)
    return blake3(text).hexdigest(length=16), text


class Log:
    """One file, one JSON line per event; with `sync`, one fdatasync at done."""

    def __init__(self, root: Path, *, sync: bool = False) -> None:
        self._sync = sync
        self._files = root / "files"
        self._files.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def start(self, params: Config) -> str:
        key, text = key_of(params)
        line = b'{"event":"started","run":"%s","time":%d,"params":%s}\n'
        os.write(self._fd, line % (key.encode(), time.time_ns(), text))
        return key

    def file(self, run: str) -> Path:
        name = f"{run}_{OUTPUT_NAME}"
        line = b'{"event":"file","run":"%s","path":"%s"}\n'
        os.write(self._fd, line % (run.encode(), name.encode()))
        return self._files / name

    def done(self, run: str) -> None:
        os.write(self._fd, b'{"event":"done","run":"%s","time":%d}\n' % (run.encode(), time.time_ns()))
        if self._sync:
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Folders:
    """One folder per run, made at start; one JSON file in it, written at done."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._params: dict[str, bytes] = {}

    def start(self, params: Config) -> str:
        key, self._params[key] = key_of(params)
        os.mkdir(self._root / key)
        return key

    def file(self, run: str) -> Path:
        return self._root / run / OUTPUT_NAME

    def done(self, run: str) -> None:
        text = b'{"status":"done","time":%d,"file":"%s","params":%s}\n'
        body = text % (time.time_ns(), OUTPUT_NAME.encode(), self._params.pop(run))
        fd = os.open(self._root / run / "run.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, body)
        os.close(fd)

    def close(self) -> None:
        pass


class Sqlite:
    """One table in WAL mode; a transaction at start, one for the file, one at done."""

    def __init__(self, root: Path, *, synchronous: str = "NORMAL") -> None:
        self._files = root / "files"
        self._files.mkdir(parents=True, exist_ok=True)
        self._db = connect(root, synchronous)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS runs (uid TEXT PRIMARY KEY, status TEXT, params TEXT, file TEXT,"
            " started INTEGER, ended INTEGER) WITHOUT ROWID"
        )

    def start(self, params: Config) -> str:
        key, text = key_of(params)
        row = (key, text.decode(), time.time_ns())
        self._db.execute("INSERT INTO runs VALUES (?, 'running', ?, NULL, ?, NULL)", row)
        return key

    def file(self, run: str) -> Path:
        name = f"{run}_{OUTPUT_NAME}"
        self._db.execute("UPDATE runs SET file = ? WHERE uid = ?", (name, run))
        return self._files / name

    def done(self, run: str) -> None:
        self._db.execute("UPDATE runs SET status = 'done', ended = ? WHERE uid = ?", (time.time_ns(), run))

    def close(self) -> None:
        self._db.close()


def connect(root: Path, synchronous: str) -> sqlite3.Connection:
    """Open the database of the SQLite floor, each statement its own transaction."""
    db = sqlite3.connect(root / "runs.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    return db


def open_floor(kind: str, root: Path) -> Log | Folders | Sqlite:
    """Open the floor of this kind."""
    match kind:
        case "log":
            return Log(root)
        case "log+sync":
            return Log(root, sync=True)
        case "folders":
            return Folders(root)
        case "sqlite":
            return Sqlite(root)
        case "sqlite-full":
            return Sqlite(root, synchronous="FULL")
    raise ValueError(f"{kind!r} is no floor")


def create(kind: str, root: str, first: int, count: int, write_file: bool) -> Figures:
    """W1: create `count` finished runs in a floor."""
    store = open_floor(kind, Path(root))

    def work() -> int:
        created = create_runs(store, range(first, first + count), write_file=write_file)
        store.close()
        return created

    return timed(work)


def make_entries(root: str, count: int) -> Figures:
    """What the file system asks for one folder and for one small file, in CPU seconds."""
    os.makedirs(root)

    def make_folders() -> None:
        for number in range(count):
            os.mkdir(f"{root}/folder-{number}")

    def make_files() -> None:
        for number in range(count):
            fd = os.open(f"{root}/file-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, b"x" * 200)
            os.close(fd)

    return {"folder": timed(make_folders), "file": timed(make_files)}


def read_log(root: str) -> dict[str, str | None]:
    """Replay the log: done runs, each with its file."""
    files: dict[str, str | None] = {}
    done: dict[str, str | None] = {}
    with open(Path(root, "log"), "rb") as log:
        for line in log:
            event = _decode(line)
            if event["event"] == "file":
                files[event["run"]] = event["path"]
            elif event["event"] == "done":
                done[event["run"]] = files.get(event["run"])
    return done


def read_folder(root: str, key: str) -> str | None:
    """Open one run's JSON: its file if it is done."""
    try:
        fd = os.open(f"{root}/{key}/run.json", os.O_RDONLY)
    except FileNotFoundError:
        return None
    run = _decode(os.read(fd, 65536))
    os.close(fd)
    return f"{key}/{run['file']}" if run["status"] == "done" else None


def read_row(db: sqlite3.Connection, key: str) -> str | None:
    """Look one run up by primary key: its file if it is done."""
    row = db.execute("SELECT file FROM runs WHERE uid = ? AND status = 'done'", (key,)).fetchone()
    return row[0] if row else None


def scan(kind: str, root: str, count: int) -> Figures:
    """W2: ask of each of `count` configs whether it is done; the answer is how many were asked and are."""

    def work() -> tuple[int, int]:
        if kind == "log":
            done = read_log(root)
            return ask_all(lambda number: key_of(config(number))[0] in done, count)
        if kind == "folders":
            return ask_all(lambda number: read_folder(root, key_of(config(number))[0]) is not None, count)
        db = connect(Path(root), "NORMAL")
        return ask_all(lambda number: read_row(db, key_of(config(number))[0]) is not None, count)

    return timed(work)


def look_up(kind: str, root: str, number: int) -> Figures:
    """W3: is this config done, and where is its file?"""

    def work() -> str | None:
        key, _ = key_of(config(number))
        if kind == "log":
            return read_log(root).get(key)
        if kind == "folders":
            return read_folder(root, key)
        return read_row(connect(Path(root), "NORMAL"), key)

    return timed(work)


def select(root: str, lr: float, model: str) -> Figures:
    """W4: how many runs have `lr` below this and this model, in the SQLite floor."""

    def work() -> int:
        where = "json_extract(params, '$.lr') < ? and json_extract(params, '$.model.name') = ?"
        found = connect(Path(root), "NORMAL").execute(f"SELECT uid FROM runs WHERE {where}", (lr, model))
        return len(found.fetchall())

    return timed(work)


def frame(root: str) -> Figures:
    """W5: every row of the SQLite floor and every param, whatever they are called, as a DataFrame."""
    import pandas

    def work() -> tuple[int, int]:
        found = connect(Path(root), "NORMAL").execute("SELECT uid, status, started, ended, params FROM runs")
        names = ("uid", "status", "started", "ended")
        rows = [dict(zip(names, row, strict=False)) | flatten(_decode(row[-1]), "") for row in found]
        shape: tuple[int, int] = pandas.DataFrame(rows).shape
        return shape

    return timed(work)


def flatten(tree: Config, prefix: str) -> Config:
    """Leaves by their dotted names."""
    flat: Config = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if type(value) is dict else {prefix + name: value}
    return flat


def make_lines(root: str, count: int) -> Figures:
    """Replay: write a log of `count` events, `count // 3` runs of three."""
    path = Path(root)
    path.mkdir(parents=True, exist_ok=True)

    def work() -> int:
        with open(path / "log", "wb") as log:
            for number in range(count // 3):
                key, text = key_of(config(number))
                run = key.encode()
                log.write(b'{"event":"started","run":"%s","time":%d,"params":%s}\n' % (run, number, text))
                log.write(b'{"event":"file","run":"%s","path":"%s_out.txt"}\n' % (run, run))
                log.write(b'{"event":"done","run":"%s","time":%d}\n' % (run, number))
        return count // 3 * 3

    return timed(work)


def replay_lines(root: str) -> Figures:
    """Replay: read the log of `make_lines` into the state of its runs; the answer is how many are done."""
    return timed(lambda: len(read_log(root)))
