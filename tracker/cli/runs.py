"""`ls`: the runs of a store."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import PurePosixPath

from tracker._model.fold import Run, run_as_json
from tracker._store.index import Filter
from tracker.cli.command import Command
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store, short_names
from tracker.cli.table import STATUS_STYLES
from tracker.ledger import Ledger
from tracker.liveness import find_as_seen
from tracker.terms import Status

_HEADINGS = ("run", "identifier", "namespace", "status", "created", "params")
_NAMESPACE = _HEADINGS.index("namespace")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--identifier", metavar="ID", help="only runs of this kind")
    parser.add_argument(
        "--namespace", metavar="PATH", help="only runs of just this namespace; . is the root's"
    )
    words = [str(status) for status in Status]
    about = f"only runs that are so now: {', '.join(words)}"
    parser.add_argument("--status", metavar="STATUS", choices=words, help=about)
    parser.add_argument("--removed", action="store_true", help="the removed runs instead of the others")


def ls(options: Namespace, screen: Screen) -> int:
    """Print the runs that match, in order of creation."""
    ledger = open_store(options, screen)
    runs = find_as_seen(ledger, _wanted(options))
    if screen.as_json:
        screen.json([run_as_json(run) for run in runs])
    elif screen.is_terminal:
        _show(ledger, runs, screen)
    else:
        screen.rows(_HEADINGS, (_row(run, run.uid, str(run.status), screen) for run in runs))
    return 0


def _wanted(options: Namespace) -> Filter:
    return Filter(
        relpath=None if options.namespace is None else _relpath(options.namespace),
        identifier=options.identifier,
        status=options.status and Status(options.status),
        removed=options.removed,
    )


def _relpath(text: str) -> str:
    path = PurePosixPath(text).as_posix()
    return "" if path == "." else path


def _show(ledger: Ledger, runs: list[Run], screen: Screen) -> None:
    short = short_names(ledger)
    headings: list[str] = [*_HEADINGS]
    rows = [_row(run, short[run.uid], status_words(run), screen) for run in runs]
    if not any(run.relpath for run in runs):
        for row in (headings, *rows):
            del row[_NAMESPACE]
    screen.rows(headings, rows, {"status": STATUS_STYLES})
    if not rows:
        screen.write("no runs\n")


def _row(run: Run, uid: str, status: str, screen: Screen) -> list[str]:
    created = screen.when(run.first[0] >> 16)
    return [uid, run.identifier, run.relpath or ".", status, created, run.params or ""]


def status_words(run: Run) -> str:
    """The status and what else a person should know at once."""
    more = {"removed": run.removed, "divergent": run.divergent}
    said = ", ".join(word for word, is_so in more.items() if is_so)
    return f"{run.status} ({said})" if said else str(run.status)


LS = Command(
    "ls",
    "all runs, in order of creation",
    """\
On a pipe one line a run, with tabs and no heading: uid, identifier, namespace
(. is the root's), status, time of creation in UTC, params. --json gives an
array of runs as in spec/events.md section 5; every copy of a tree gives
the same.

examples:
  tracker ls --identifier train --status done
  tracker ls | cut -f 1,4
  tracker ls --json | jq '.[] | .params | fromjson | .lr'""",
    _arguments,
    ls,
)
