"""The relation `seen` in memory, filled from run objects as spec/events.md section 5 shapes them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

import reference

from tracker.query import Compiled

COLUMNS = (
    *("uid text", "identifier text", "relpath text", "key text", "status text", "mode text", "params text"),
    *("created_ms integer", "started_ms integer", "ended_ms integer", "host text", "user text", "tags text"),
    *("summary text", "attempts integer", "name text", "parent text", "commit_id text", "dirty integer"),
)

_TOKEN = re.compile(r"'[^']*'|[\w.]+|[^\w\s]")
_KNOWN = """
case when then else end and or not in is null like exists select from where as limit 0 1 1000.0 ? ( ) ,
= < > / - coalesce json_type json_extract json_each substr instr params summary tags status identifier
relpath uid key mode host user name parent commit_id dirty attempts created_ms started_ms ended_ms
item item.type item.value
'integer' 'real' 'text' 'true' 'false' 'null' 'array' 'object' '$' '[]'
"""
_WORDS = set(_KNOWN.split())
_STEP = re.compile(r"e\d+(\.(key|type|value))?")


def make_seen(runs: Iterable[dict[str, Any]]) -> sqlite3.Connection:
    """A table `seen` of these runs."""
    database = sqlite3.connect(":memory:")
    database.execute(f"create table seen({', '.join(COLUMNS)})")
    rows = (row_of(run) for run in runs)
    database.executemany(f"insert into seen values ({', '.join('?' * len(COLUMNS))})", rows)
    return database


def row_of(run: dict[str, Any]) -> tuple[Any, ...]:
    attempt = run["attempts"][-1] if run["attempts"] else {"started": None, "ended": None}
    return (
        *(
            run["uid"],
            run["identifier"],
            run["relpath"],
            run["key"],
            run["status"],
            run["mode"],
            run["params"],
        ),
        *(run["first"][0] >> 16, attempt["started"], attempt["ended"], run["host"], run["user"]),
        *(reference.json_text(run["tags"]), reference.json_text(run["summary"]), len(run["attempts"])),
        *(run.get("name"), run.get("parent"), attempt.get("facts", {}).get("commit")),
        attempt.get("facts", {}).get("dirty"),
    )


def uids_where(database: sqlite3.Connection, compiled: Compiled) -> set[str]:
    """The uids that a query finds; its result is 0 or 1 for every row."""
    found = database.execute(f"select uid, {compiled.where} from seen", compiled.bindings).fetchall()
    assert {value for _, value in found} <= {0, 1}
    chosen = database.execute(f"select uid from seen where {compiled.where}", compiled.bindings).fetchall()
    assert {uid for (uid,) in chosen} == {uid for uid, value in found if value}
    return {uid for (uid,) in chosen}


def unknown_words(compiled: Compiled) -> list[str]:
    """What stands in the SQL and is none of its constants; also a `?` too many or too few."""
    tokens = _TOKEN.findall(compiled.where)
    unknown = [token for token in tokens if token not in _WORDS and not _STEP.fullmatch(token)]
    return unknown if tokens.count("?") == len(compiled.bindings) else [*unknown, "?"]
