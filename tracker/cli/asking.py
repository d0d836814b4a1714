"""What commands that ask for runs have in common: WHERE and its options, several roots, a time that is past.

A query that cannot be read is shown with its place; of a query that finds nothing the keys that no run has.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice

from msgspec.structs import replace

from tracker.cli.command import count
from tracker.cli.complaints import UsageError, complain
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.cli.table import width_of
from tracker.cli.words import printable
from tracker.errors import QueryError
from tracker.query import COLUMNS, Compiled, FieldUse, Space, compile_query, fields_of, nearest, parse_query
from tracker.runs.batches import Selection
from tracker.runs.columns import Flat, iter_chunks
from tracker.runs.past import Past
from tracker.runs.rows import Rows, order_by, select_runs
from tracker.runs.source import Present, Source
from tracker.runs.tabular import Tabular
from tracker.runs.times import parse_time
from tracker.runs.union import UnionRuns

SAMPLE = 1_000
"""Of so many runs the keys are known to a suggestion."""

_SHOWN = 76

Run = Callable[[Namespace, Screen], int]


def add_where(parser: ArgumentParser, *, option: bool = False) -> None:
    """WHERE, as a word or as `--where`."""
    about = "only runs of which this query is true, as 'lr < 0.1' (docs/queries.md)"
    if option:
        parser.add_argument("--where", metavar="WHERE", help=about)
    else:
        parser.add_argument("where", nargs="?", metavar="WHERE", help=about)


def add_roots(parser: ArgumentParser) -> None:
    """Several stores, and a time."""
    about = "the root of a store, instead of -C; given more than once the stores are asked as one"
    parser.add_argument("--root", metavar="DIR", action="append", help=about)
    add_at(parser)


def add_at(parser: ArgumentParser) -> None:
    """A time that is past."""
    about = "as it was then: 2026-11-24, 2026-11-24T09:30:00+01:00, or Unix seconds"
    parser.add_argument("--at", metavar="TIME", help=about)


def add_order(parser: ArgumentParser) -> None:
    """How they are sorted, and how many."""
    about = "sort by a field, --sort=-F down; given more than once, the first counts most"
    parser.add_argument("--sort", metavar="F", action="append", help=about)
    parser.add_argument("--limit", metavar="N", type=count, help="at most the first N")


def asking(run: Run) -> Run:
    """A command for which a query that cannot be read is exit code 2, and a caret below its place."""

    @wraps(run)
    def wrapped(options: Namespace, screen: Screen) -> int:
        try:
            return run(options, screen)
        except QueryError as error:
            screen.bar.clear()
            code = complain(error, sys.stderr)
            sys.stderr.write(place_of(error))
            return int(code)

    return wrapped


def place_of(error: QueryError) -> str:
    """Two lines: the query, or what is around the place, and a caret below it."""
    start = max(0, min(error.column - _SHOWN // 2, len(error.text) - _SHOWN))
    shown = "".join(c if c.isprintable() else " " for c in error.text[start : start + _SHOWN])
    before = shown[: error.column - start]
    return f"  {printable(shown)}\n  {' ' * width_of(before)}^\n"


def past_ms(options: Namespace) -> int | None:
    """The time of --at in Unix ms; None without it."""
    if options.at is None:
        return None
    try:
        return parse_time(options.at)
    except ValueError as error:
        raise UsageError(f"--at: {options.at!r} is no time", str(error).partition("; ")[2]) from error


def sources_of(options: Namespace, screen: Screen) -> list[Source]:
    """The stores that are asked, now or at a time; the store is looked for before a query is read."""
    roots = getattr(options, "root", None)
    ledgers = [open_store(_at(options, root), screen) for root in roots or [options.directory]]
    until_ms = past_ms(options) if "at" in options else None
    return [Present(one) if until_ms is None else Past(one, until_ms) for one in ledgers]


def _at(options: Namespace, root: str | None) -> Namespace:
    return Namespace(**{**vars(options), "directory": root})


def collection_of(options: Namespace, sources: list[Source], narrowed: Iterable[Compiled] = ()) -> Tabular:
    """The runs that the options ask for. Raises: QueryError."""
    removed = getattr(options, "removed", False)
    sort, limit = getattr(options, "sort", None), getattr(options, "limit", None)
    selection = select_runs(options.where, relpath="", sort=None, limit=limit, removed=removed)
    for part in narrowed:
        selection = selection.narrowed(part)
    if getattr(options, "root", None):
        return UnionRuns([(source, selection) for source in sources], sort, limit)
    return Rows(sources[0], replace(selection, order=order_by(sort)))


def tell_unknown_keys(where: str | None, sources: list[Source]) -> None:
    """Of a query that found nothing: say which keys are in no run, and what was likely meant."""
    if not where or not where.strip():
        return
    every = select_runs(None, relpath="", sort=None, limit=None, removed=False)
    known: set[str] | None = None
    for use in fields_of(parse_query(where)):
        if use.space is not Space.COLUMN and _is_somewhere(use.text, sources, every):
            continue
        known = _known_keys(sources, every) if known is None else known
        hint = _hint(use, known)
        if hint:
            sys.stderr.write(printable(hint) + "\n")


def _hint(use: FieldUse, known: set[str]) -> str:
    """What is wrong with a field of a query that found nothing; "" if nothing is."""
    place = f"{use.text!r} (column {use.column + 1})"
    if use.space is Space.COLUMN:
        member = f"params.{use.text}"
        return f"{place} is no param; did you mean {member!r}?" if member in known else ""
    meant = nearest(use.text, known)
    return f"no run has the key {place}" + (f"; did you mean {meant!r}?" if meant else "")


def _is_somewhere(text: str, sources: list[Source], every: Selection) -> bool:
    there = every.narrowed(compile_query(parse_query(f"exists({text})")))
    return any(Rows(source, there) for source in sources)


def _known_keys(sources: list[Source], every: Selection) -> set[str]:
    known = set(COLUMNS)
    for source in sources:
        for chunk in iter_chunks(islice(Rows(source, replace(every, limit=SAMPLE)).iter_placed(), SAMPLE)):
            known.update(Flat(Space.PARAMS).columns(chunk.params))
            known.update(Flat(Space.METRICS).columns(chunk.summaries))
    return known
