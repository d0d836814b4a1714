"""`sql`: a select over the view `seen`. Nothing can be written by it."""

from __future__ import annotations

import sqlite3
from argparse import ArgumentParser, Namespace
from typing import Any

from tracker.cli.command import Command
from tracker.cli.complaints import UsageError
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.ledger import Ledger
from tracker.seen import relation_of


def sql(options: Namespace, screen: Screen) -> int:
    """Print the answer to a query in SQL."""
    headings, rows = _ask(open_store(options, screen), " ".join(options.query))
    if screen.as_json:
        screen.json([dict(zip(headings, row, strict=True)) for row in rows])
    else:
        screen.rows(headings, [list(map(_cell, row)) for row in rows])
    return 0


def _ask(ledger: Ledger, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Raises: UsageError for whatever is not one select that SQLite can answer."""
    with ledger.lock:
        relation = relation_of(ledger)
        try:
            headings, rows = relation.ask(text)
        except (sqlite3.Error, ValueError) as error:
            raise UsageError(
                f"sql: {error}", "ask with one `select` over `seen`; nothing is written"
            ) from error
    if not headings:
        raise UsageError("sql: this asks for nothing", "ask with one `select` over `seen`")
    return headings, list(rows)


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)


def _arguments(parser: ArgumentParser) -> None:
    about = "one select over the view `seen`, in SQLite's SQL; several words are one text"
    parser.add_argument("query", metavar="SELECT", nargs="+", help=about)


SQL = Command(
    "sql",
    "a select over all runs, in SQL",
    """\
The columns of `seen` are told in docs/queries.md section 10; params, tags and
summary are JSON for json_extract. Whatever would write is refused.

example:
  tracker sql 'select status, count(*) from seen group by status'""",
    _arguments,
    sql,
)
