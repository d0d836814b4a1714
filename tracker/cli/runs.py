"""`ls`: the runs of a store."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from tracker._model.fold import Run, run_as_json
from tracker._model.names import run_ref
from tracker._store.relation import SeenRow
from tracker.cli.asking import (
    add_order,
    add_roots,
    add_where,
    asking,
    collection_of,
    sources_of,
    tell_unknown_keys,
)
from tracker.cli.command import Command
from tracker.cli.plots import number
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store, short_names
from tracker.cli.table import STATUS_STYLES, Columns, fit_columns
from tracker.cli.words import printable, status_words
from tracker.query import Compiled
from tracker.runs.columns import Placed
from tracker.runs.differences import Compared
from tracker.runs.source import Source
from tracker.runs.table import Table, text_of
from tracker.runs.tabular import SHORT, Tabular
from tracker.terms import RunRef, Status

_HEADINGS = ("run", "identifier", "namespace", "status", "created")
_NAMESPACE = _HEADINGS.index("namespace")
_SHORT = 12


def _arguments(parser: ArgumentParser) -> None:
    add_where(parser)
    parser.add_argument("--identifier", metavar="ID", help="only runs of this kind")
    parser.add_argument(
        "--namespace", metavar="PATH", help="only runs of just this namespace; . is the root's"
    )
    words = [str(status) for status in Status]
    about = f"only runs that are so: {', '.join(words)}"
    parser.add_argument("--status", metavar="STATUS", choices=words, help=about)
    parser.add_argument("--removed", action="store_true", help="the removed runs instead of the others")
    add_order(parser)
    about = "show these fields instead, as lr,metrics.loss,host"
    parser.add_argument("--columns", metavar="A,B", help=about)
    parser.add_argument("--all-columns", action="store_true", help="show every param in a column of its own")
    add_roots(parser)


def ls(options: Namespace, screen: Screen) -> int:
    """Print the runs that match, in order of creation unless they are sorted."""
    sources = sources_of(options, screen)
    runs = collection_of(options, sources, _iter_narrowed(options))
    if options.columns is not None or options.all_columns:
        is_empty = _print_table(_table(runs, options), screen)
    elif screen.as_json:
        is_empty = _print_json(runs, sources, screen)
    elif screen.is_terminal:
        is_empty = _show(runs, sources, options, screen)
    else:
        is_empty = _print_lines(runs, options, screen)
    if is_empty:
        tell_unknown_keys(options.where, sources)
    return 0


def _iter_narrowed(options: Namespace) -> Iterator[Compiled]:
    if options.identifier is not None:
        yield Compiled("identifier = ?", [options.identifier])
    if options.namespace is not None:
        yield Compiled("relpath = ?", [_relpath(options.namespace)])
    if options.status is not None:
        yield Compiled("status = ?", [options.status])


def _relpath(text: str) -> str:
    path = PurePosixPath(text).as_posix()
    return "" if path == "." else path


def _table(runs: Tabular, options: Namespace) -> Table:
    if options.columns is not None:
        return runs.table(split_fields(options.columns))
    short, params = runs.table(["uid", "identifier", "status", "created"]), runs.table(all=True)
    own = params.headings.index("created") + 1
    rows = zip(short.rows, params.rows, strict=True)
    return Table(short.headings + params.headings[own:], tuple(a + b[own:] for a, b in rows))


def split_fields(text: str) -> list[str]:
    """Fields with commas between them; a comma in brackets or quotes is of the field."""
    fields, depth, quote = [""], 0, ""
    for char in text:
        quote = "" if char == quote else quote or (char if char in "'\"" else "")
        depth += 0 if quote else (char == "[") - (char == "]")
        if char == "," and not depth and not quote:
            fields.append("")
        else:
            fields[-1] += char
    return [field.strip() for field in fields]


def _print_table(table: Table, screen: Screen) -> bool:
    if screen.as_json:
        screen.json(table.as_objects())
    else:
        text = _in_short if screen.is_terminal else text_of
        screen.rows(table.headings, [list(map(text, row)) for row in table.rows], {"status": STATUS_STYLES})
    return not table.rows


def _in_short(value: Any) -> str:
    """A value for a person: of a float six digits, of a time no parts of a second."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")[:19]
    return number(value) if type(value) is float else text_of(value)


def _iter_runs(runs: Tabular, sources: list[Source]) -> Iterator[tuple[Placed, Run]]:
    by_root = {str(source.root): source for source in sources}
    for root, row in runs.iter_placed():
        run = by_root[root].run(ref_of(row))
        if run is not None:
            yield (root, row), run


def _print_json(runs: Tabular, sources: list[Source], screen: Screen) -> bool:
    has_roots = len(sources) > 1
    told: list[dict[str, Any]] = [
        {**({"root": root} if has_roots else {}), **run_as_json(run)}
        for (root, _), run in _iter_runs(runs, sources)
    ]
    screen.json(told)
    return not told


def _print_lines(runs: Tabular, options: Namespace, screen: Screen) -> bool:
    """One line a run as they come, in bounded memory."""
    is_empty = True
    for placed in runs.iter_placed():
        is_empty = False
        screen.line(_cells(placed, bool(options.root), screen))
    return is_empty


def _cells(placed: Placed, has_root: bool, screen: Screen) -> list[str]:
    root, row = placed
    cells = [row.uid, row.identifier, row.relpath or ".", row.status, screen.when(row.created_ms)]
    return [*([root] if has_root else []), *cells, row.params or ""]


def ref_of(row: SeenRow) -> RunRef:
    """The ref of a row."""
    return run_ref(row.relpath, row.identifier, row.uid)


def _show(runs: Tabular, sources: list[Source], options: Namespace, screen: Screen) -> bool:
    is_plain = options.where is None and options.limit is None and not options.root
    short = short_names(open_store(options, screen)) if is_plain else {}
    headings: list[str] = [*_HEADINGS]
    found = list(_iter_runs(runs, sources))
    rows = [_row(run, short.get(run.uid, run.uid[:_SHORT]), screen) for _, run in found]
    if not any(run.relpath for _, run in found):
        for row in (headings, *rows):
            del row[_NAMESPACE]
    if options.root:
        headings.insert(0, "root")
        for row, ((root, _), _run) in zip(rows, found, strict=True):
            row.insert(0, root)
    columns = fit_columns(
        Columns(headings, rows), _params_of([one for one, _ in found]), shutil.get_terminal_size().columns
    )
    screen.rows(columns.headings, columns.rows, {"status": STATUS_STYLES})
    if not rows:
        screen.write("no runs\n")
    return not rows


def _row(run: Run, uid: str, screen: Screen) -> list[str]:
    return [uid, run.identifier, run.relpath or ".", status_words(run), screen.when(run.first[0] >> 16)]


class _Shown(Tabular):
    """Runs that were read: a table of them is of one moment."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self._placed = placed

    def __len__(self) -> int:
        return len(self._placed)

    def iter_placed(self) -> Iterator[Placed]:
        return iter(self._placed)

    def _iter_compared(self) -> Iterator[Compared]:
        return iter(())


def _params_of(placed: Sequence[Placed]) -> Columns:
    """The params in which runs differ, printable; of one run all."""
    table, own = _Shown(placed).table(), len(SHORT)
    headings = [printable(heading) for heading in table.headings[own:]]
    return Columns(headings, [[printable(text_of(value)) for value in row[own:]] for row in table.rows])


LS = Command(
    "ls",
    "the runs, in order of creation",
    """\
On a pipe one line a run, with tabs and no heading: uid, identifier, namespace
(. is the root's), status, time of creation in UTC, params; of several stores
the root before them. A terminal shows the params in which the runs differ. With
--json an array of runs as in spec/events.md section 5; every copy of a tree
gives the same.

examples:
  tracker ls --identifier train --status done
  tracker ls 'lr<0.01' --sort=-metrics.acc --limit 20
  tracker ls --columns lr,metrics.loss,duration
  tracker ls --json | jq '.[] | .params | fromjson | .lr'""",
    _arguments,
    asking(ls),
)
