"""`doctor`: what the file system under a folder guarantees, tried out."""

from __future__ import annotations

import os
import shutil
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import asdict

from tracker.cli.command import Command
from tracker.cli.complaints import NoStoreError, UsageError
from tracker.cli.screen import Screen
from tracker.cli.selection import find_root
from tracker.cli.words import printable
from tracker.doctor import Diagnosis, Result, Verdict, examine

VERDICT_STYLES = {"ok": "green", "unknown": "dim", "degraded": "yellow", "unfit": "red"}

_HEADINGS = ("probe", "verdict", "for", "measured")
_WIDTHS = (19, 9, 8)
"""What the columns before the last take, gaps left out."""


def run_doctor(options: Namespace, screen: Screen) -> int:
    """Examine a folder, print what was found, and give the exit code that it means."""
    folder = _folder_of(options)
    diagnosis = examine(str(folder), screen.bar)
    if screen.as_json:
        screen.json(diagnosis_as_json(diagnosis))
    elif screen.is_terminal:
        _show(diagnosis, screen)
    else:
        screen.rows((), map(_cells, diagnosis.results))
    return diagnosis.exit_code


def _folder_of(options: Namespace) -> Path:
    """The folder that is named, else the root of the nearest store, else the current folder."""
    named = options.folder or options.directory
    if not named:
        try:
            return find_root(options)
        except NoStoreError:
            return Path.cwd()
    if not os.path.isdir(named):
        raise UsageError(f"{named!r} is not a folder", "name the folder of a store, or one that it may get")
    return Path(named)


def diagnosis_as_json(diagnosis: Diagnosis) -> dict[str, object]:
    """A diagnosis as one object."""
    return {
        "folder": diagnosis.folder,
        "verdict": diagnosis.verdict,
        "exit_code": diagnosis.exit_code,
        "results": [asdict(result) for result in diagnosis.results],
    }


def _cells(result: Result) -> tuple[str, ...]:
    return (result.probe, result.verdict, result.relied_on_by, result.measured, result.otherwise)


def _show(diagnosis: Diagnosis, screen: Screen) -> None:
    width = shutil.get_terminal_size().columns
    screen.write(f"{printable(diagnosis.folder)}: {diagnosis.verdict}\n\n")
    left = max(width - sum(_WIDTHS) - 2 * len(_WIDTHS), 24)
    rows = [row for result in diagnosis.results for row in _iter_rows(result, left)]
    screen.rows(_HEADINGS, rows, {"verdict": VERDICT_STYLES})
    for result in diagnosis.results:
        if result.verdict in (Verdict.DEGRADED, Verdict.UNFIT):
            text = f"{result.probe}: {result.otherwise}"
            screen.write("\n" + textwrap.fill(printable(text), width, subsequent_indent="    ") + "\n")


def _iter_rows(result: Result, left: int) -> Iterator[tuple[str, ...]]:
    """The row of a result; what is too long for its last column goes on in rows of its own."""
    first, *more = textwrap.wrap(printable(result.measured), left)
    yield (result.probe, result.verdict, result.relied_on_by, first)
    for line in more:
        yield ("", "", "", line)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="default: the root of the nearest store, else the current folder",
    )


DOCTOR = Command(
    "doctor",
    "what the file system under a folder guarantees",
    """\
Tries what a store needs of a mount, in a folder `.tracker-doctor-…` in DIR that
is gone afterwards; a store that is there is not touched. Exit code 0: ok, or
degraded, which is slower or does without; 1: unfit. On a pipe one line a probe,
with tabs: probe, verdict, what of tracker relies on it, what was measured, what
tracker does where it is missing. Between two hosts nothing is measured.

examples:
  tracker doctor /scratch/me
  tracker doctor --json | jq -r '.results[] | [.probe, .verdict] | @tsv'""",
    _arguments,
    run_doctor,
)
