"""`find`, `diff`, `schema`, `export`, `groupby`: what runs there are, and what they have in common or not."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from tracker._model import names
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
from tracker.cli.command import RUN_HELP, Command
from tracker.cli.complaints import UsageError
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import printable
from tracker.runs.differences import Compared, differences_of
from tracker.runs.groups import REDUCERS
from tracker.runs.output import write_whole
from tracker.runs.source import Present
from tracker.runs.table import Table, text_of
from tracker.runs.tabular import Tabular
from tracker.terms import StorageMode


def place_of_run(root: str, row: SeenRow) -> Path:
    """The folder of a run; of one in PREFIX mode, which shares a folder, its params.json."""
    if row.mode == StorageMode.PREFIX:
        return Path(root) / names.params_path(row.relpath, row.uid, StorageMode.PREFIX)
    return Path(root) / names.folder_of(row.relpath, row.uid, StorageMode.SUBFOLDER)


def find(options: Namespace, screen: Screen) -> int:
    """Print where the runs that match lie."""
    sources = sources_of(options, screen)
    runs = collection_of(options, sources)
    places = [str(place_of_run(root, row)) for root, row in runs.iter_placed()]
    if screen.as_json:
        screen.json(places)
    elif screen.is_terminal and not options.null:
        screen.write("".join(printable(place) + "\n" for place in places))
    else:
        end = b"\0" if options.null else b"\n"
        screen.write_bytes(b"".join(os.fsencode(place) + end for place in places))
    if not places:
        tell_unknown_keys(options.where, sources)
    return 0


def _find_arguments(parser: ArgumentParser) -> None:
    add_where(parser)
    parser.add_argument("-0", dest="null", action="store_true", help="end each path with NUL, for xargs -0")
    add_order(parser)
    add_roots(parser)


def diff(options: Namespace, screen: Screen) -> int:
    """Print in what runs differ."""
    ledger = open_store(options, screen)
    runs = [choose_run(ledger, text, options.identifier) for text in (options.first, *options.others)]
    source = Present(ledger)
    table = differences_of(Compared(run.ref, source, run.ref) for run in runs)
    if screen.as_json:
        differing = [{"what": row[0], "name": row[1], "values": list(row[2:])} for row in table.rows]
        screen.json({"runs": [run.ref for run in runs], "differences": differing})
    else:
        _print(table, screen)
    return 0


def _diff_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help=RUN_HELP)
    parser.add_argument("others", metavar="B", nargs="+", help="the runs to compare it with")
    parser.add_argument("--identifier", metavar="ID", help="the runs' kind, where several share a uid")


def _print(table: Table, screen: Screen) -> None:
    if screen.as_json:
        screen.json(table.as_objects())
    else:
        screen.rows(table.headings, [list(map(text_of, row)) for row in table.rows])


def schema(options: Namespace, screen: Screen) -> int:
    """Print which keys there are."""
    sources = sources_of(options, screen)
    table = collection_of(options, sources).schema()
    _print(table, screen)
    if not table.rows:
        tell_unknown_keys(options.where, sources)
    return 0


def _schema_arguments(parser: ArgumentParser) -> None:
    add_where(parser)
    add_roots(parser)


def export(options: Namespace, screen: Screen) -> int:
    """Write the runs that match to a file."""
    ending = Path(options.to).suffix
    if ending not in (".csv", ".parquet", ".jsonl"):
        raise UsageError(f"--to {options.to!r} says no format", "end it in .csv, .parquet or .jsonl")
    sources = sources_of(options, screen)
    runs = collection_of(options, sources)
    if ending == ".csv":
        runs.to_csv(options.to)
    elif ending == ".parquet":
        runs.to_parquet(options.to)
    else:
        write_whole(options.to, _iter_lines(runs))
    count = len(runs)
    if screen.as_json:
        screen.json({"path": os.path.abspath(options.to), "runs": count})
    else:
        screen.rows(("runs", "file"), [[str(count), options.to]])
    if not count:
        tell_unknown_keys(options.where, sources)
    return 0


def _iter_lines(runs: Tabular) -> Iterator[bytes]:
    return (json.dumps(one, allow_nan=False).encode() + b"\n" for one in runs.iter_objects())


def _export_arguments(parser: ArgumentParser) -> None:
    add_where(parser)
    about = "the file: .csv, .parquet, or .jsonl; replaced as a whole if it is there"
    parser.add_argument("--to", metavar="FILE", required=True, help=about)
    add_order(parser)
    add_roots(parser)


def groupby(options: Namespace, screen: Screen) -> int:
    """Print how many runs share their keys, and numbers over them."""
    sources = sources_of(options, screen)
    runs = collection_of(options, sources)
    wanted = [(name, field) for name in REDUCERS for field in getattr(options, name) or ()]
    table = runs.group_by(options.keys).table(wanted)
    _print(table, screen)
    if not table.rows:
        tell_unknown_keys(options.where, sources)
    return 0


def _groupby_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="+", help="a field, as model.name")
    for name in REDUCERS:
        about = f"the {_WORDS[name]} of a field; may be given more than once"
        parser.add_argument(f"--{name}", metavar="F", action="append", help=about)
    add_where(parser, option=True)
    add_roots(parser)


_WORDS = {"mean": "mean", "min": "least", "max": "greatest", "median": "median", "std": "standard deviation"}

FIND = Command(
    "find",
    "the folders of the runs that match",
    """\
One path a line, or with -0 for xargs -0. A run in PREFIX mode shares its
folder; of it the path is that of its params.json. --json gives an array.

examples:
  tracker find "status=='error'"
  tracker find 'lr<0.01' -0 | xargs -0 du -sh""",
    _find_arguments,
    asking(find),
)

DIFF = Command(
    "diff",
    "in what runs differ: params, code, environment, files, host",
    """\
On a pipe one line a difference, with tabs and no heading: what, name, and the
value in each run; nothing where a run has none. Files are told by their
digests, code and environment by what was recorded of them: a commit, a diff,
an untracked file, the version of a package. --json gives an object with runs
and differences.

example:
  tracker diff a7f6 e7e5""",
    _diff_arguments,
    asking(diff),
)

SCHEMA = Command(
    "schema",
    "which params and metrics there are, and what values they take",
    """\
On a pipe one line a key, with tabs and no heading: key, types, how many runs
have it, how many have not, least, greatest, and the values if they are few.

example:
  tracker schema --json | jq -r '.[].key'""",
    _schema_arguments,
    asking(schema),
)

EXPORT = Command(
    "export",
    "the runs that match as CSV, Parquet or JSON lines",
    """\
A column for each thing that is recorded, for each param and each metric; lists
and what is mixed are JSON text. Parquet needs the extra `frame`.

example:
  tracker export --to runs.csv""",
    _export_arguments,
    asking(export),
)

GROUPBY = Command(
    "groupby",
    "how many runs share their values, and numbers over them",
    """\
On a pipe one line a group, with tabs and no heading: its keys, how many runs,
and what is asked for, in the order mean, min, max, median, std.

example:
  tracker groupby model.name --mean metrics.loss --min metrics.loss""",
    _groupby_arguments,
    asking(groupby),
)
