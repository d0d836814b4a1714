"""`why`: why params are found or not, and in which fields two runs differ."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import PurePosixPath

from msgspec import to_builtins

from tracker._codec.canonical import without_repeat
from tracker._model.names import check_relpath
from tracker.cli.command import RUN_HELP, Command
from tracker.cli.complaints import Exit, warn
from tracker.cli.hashing import canonical_form, read_params
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import iso_time
from tracker.errors import NotFoundError
from tracker.ledger import Ledger
from tracker.ruling import ruling_of
from tracker.why import Attempted, Difference, Near, Why, differences, explain

_HEADINGS = ("what", "run or field", "status or asked", "recorded", "note")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "first", metavar="PARAMS", help="a JSON file, or - for standard input; beside OTHER also a RUN"
    )
    parser.add_argument("second", metavar="OTHER", nargs="?", help=f"a JSON file, or {RUN_HELP}")
    parser.add_argument(
        "--identifier", metavar="ID", help="the kind of run; without it runs of any are looked at"
    )
    parser.add_argument(
        "--namespace", metavar="PATH", default=".", help="where the runs are; default: the root's"
    )


def why(options: Namespace, screen: Screen) -> int:
    """Explain a hit or a miss, or print what differs between two runs."""
    ledger = open_store(options, screen)
    return (
        _compare(ledger, options, screen) if options.second is not None else _explain(ledger, options, screen)
    )


def _explain(ledger: Ledger, options: Namespace, screen: Screen) -> int:
    text = _params_of_file(options.first)
    namespace = PurePosixPath(options.namespace)
    relpath = "" if namespace == PurePosixPath() else check_relpath(namespace)
    told = explain(ledger, relpath, options.identifier, text, ruling_of(ledger).current())
    if screen.as_json:
        screen.json(to_builtins(told))
    else:
        screen.rows(_HEADINGS, list(_iter_rows(told)))
        screen.flush()
        if told.compared < told.total:
            warn(f"the newest {told.compared:,} of {told.total:,} runs were compared", sys.stderr)
    return Exit.OK if told.is_hit else Exit.NO


def _compare(ledger: Ledger, options: Namespace, screen: Screen) -> int:
    sides = [_text_of(ledger, name, options.identifier) for name in (options.first, options.second)]
    found = differences(*sides)
    if screen.as_json:
        screen.json([to_builtins(one) for one in found])
    else:
        screen.rows(_HEADINGS, [_difference_row(one) for one in found])
    return Exit.NO if found else Exit.OK


def _params_of_file(name: str) -> bytes:
    text = canonical_form(read_params(name))
    return without_repeat(text) or text


def _text_of(ledger: Ledger, name: str, identifier: str | None) -> bytes:
    """The canonical text that a file or a run has."""
    if name == "-" or os.path.isfile(name):
        return _params_of_file(name)
    run = choose_run(ledger, name, identifier)
    if run.params is None:
        cure = "the segment that creates it is not here: copy the tree again"
        raise NotFoundError(f"params of run {run.ref}", str(ledger.root), cure)
    return run.params.encode()


def _iter_rows(told: Why) -> Iterator[list[str]]:
    """The verdict first, then what these params answer to, then what is near."""
    if told.is_hit:
        yield ["found", told.uid, "", "", "a finished run is found"]
    else:
        yield ["not found", told.uid, "", "", _verdict(told)]
    if told.ignored is not None:
        yield ["ignored", "", told.ignored, "", "by the store's rules"]
    yield from (_attempt_row("run", one) for one in told.attempts)
    yield from (_attempt_row("elsewhere", one) for one in told.elsewhere)
    for near in told.nearest:
        yield from _near_rows(near)


def _verdict(told: Why) -> str:
    if told.attempts:
        return f"it was begun, and is {told.attempts[0].status}"
    return "the same params are there, under another name" if told.elsewhere else "it was never begun"


def _attempt_row(what: str, one: Attempted) -> list[str]:
    when = "" if one.at_ms is None else f" at {iso_time(one.at_ms)}"
    note = f"{one.how}: {one.status}{when}" + (f": {one.what}" if one.what else "")
    return [what, one.ref, one.status, "", note]


def _near_rows(near: Near) -> Iterator[list[str]]:
    count = len(near.differences)
    fields = f"{count} field{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}"
    yield ["near", near.ref, near.status, "", fields]
    yield from map(_difference_row, near.differences)
    if near.rule is not None:
        yield ["rule", near.rule, "", "", "would make the two the same run: `tracker rule add`"]


def _difference_row(one: Difference) -> list[str]:
    return ["field", one.path, one.asked or "", one.recorded or "", one.note]


WHY = Command(
    "why",
    "why params are found or not; what differs between two runs",
    """\
Of PARAMS alone: whether a finished run of them is found, what became of those
that were begun, where else the same params are, and the runs with the fewest
fields that differ; the newest 20,000 are compared. Exit code 0 if a finished
run is found, else 1. Of two: the fields that differ; exit code 0 if none do. On
a pipe one line each, with tabs: found, not found, ignored, run, elsewhere,
near, field or rule; run or path; status or the value asked for; the value
recorded; a note. Values are JSON, empty where there is none.

examples:
  tracker why params.json --identifier train
  tracker why 9f86 4c1a""",
    _arguments,
    why,
)
