"""`status`: a store at a glance."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from tracker._model.names import STORE, run_ref
from tracker._store.relation import SeenRow
from tracker.cli.asking import collection_of, sources_of
from tracker.cli.command import Command
from tracker.cli.screen import Screen
from tracker.cli.table import STATUS_STYLES
from tracker.cli.words import iso_time
from tracker.runs.rows import Rows
from tracker.runs.source import Source
from tracker.terms import Status


def status(options: Namespace, screen: Screen) -> int:
    """Print how many runs are how, who runs where, what was lost, and how big the store is."""
    (source,) = sources_of(options, screen)
    runs = collection_of(Namespace(where=None), [source])
    counts: Counter[str] = Counter()
    last_ms = 0
    for chunk in runs.chunks():
        counts.update(chunk.column("status"))
        for name in ("created_ms", "started_ms", "ended_ms"):
            last_ms = max([last_ms, *(ms for ms in chunk.column(name) if ms is not None)])
    known: dict[str, Any] = {
        "root": str(source.root),
        "runs": counts.total(),
        "status": {str(one): counts[one] for one in Status if counts[one]},
        "running": _those(source, "running"),
        "lost": _those(source, "lost"),
        "last_activity": iso_time(last_ms) if last_ms else None,
        "store_bytes": _size_of(source.root / STORE),
        "files_bytes": _size_of(source.root, but=source.root / STORE),
    }
    if screen.as_json:
        screen.json(known)
    else:
        _print(known, last_ms, screen)
    return 0


def _those(source: Source, word: str) -> list[dict[str, Any]]:
    wanted = collection_of(Namespace(where=f"status == {word!r}"), [source])
    assert isinstance(wanted, Rows)
    return [_one(row) for row in wanted.iter_rows()]


def _one(row: SeenRow) -> dict[str, Any]:
    since = None if row.started_ms is None else iso_time(row.started_ms)
    ref = run_ref(row.relpath, row.identifier, row.uid)
    return {"ref": ref, "host": row.host, "user": row.user, "since": since}


def _size_of(folder: Path, *, but: Path | None = None) -> int:
    """Bytes on disk of all files below; what goes meanwhile counts as nothing."""
    total = 0
    for above, folders, names in os.walk(folder):
        if but is not None and Path(above) == but.parent and but.name in folders:
            folders.remove(but.name)
        for name in names:
            try:
                total += os.lstat(os.path.join(above, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _print(known: dict[str, Any], last_ms: int, screen: Screen) -> None:
    screen.fact("root", known["root"])
    screen.fact("runs", str(known["runs"]))
    for word, number in known["status"].items():
        screen.fact(word, str(number), style=STATUS_STYLES.get(word, ""))
    for word in ("running", "lost"):
        for one in known[word]:
            place = f"{one['user']}@{one['host']}" if one["host"] else "unknown"
            screen.fact(f"{word} run", one["ref"], place, one["since"] or "")
    if last_ms:
        screen.fact("last", screen.moment(last_ms))
    screen.fact("store", screen.size(known["store_bytes"]))
    screen.fact("files", screen.size(known["files_bytes"]))


def _arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(where=None)


STATUS = Command(
    "status",
    "how many runs are how, who runs where, and how big it is",
    """\
On a pipe one fact a line, with tabs: root, runs, one line a status, one for
each run that is running or lost (ref, who, since when), time of the last
activity, bytes on disk of .tracker and of everything beside it.

example:
  tracker status --json | jq '.status'""",
    _arguments,
    status,
)
