"""`merge`: another copy of the store taken into this one."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msgspec.structs import asdict

from tracker._model.names import LEDGER, STORE
from tracker.cli.command import Command
from tracker.cli.screen import Screen
from tracker.cli.selection import find_root
from tracker.cli.table import painted
from tracker.cli.words import printable
from tracker.ledger import Ledger
from tracker.merge import Line, MergeReport, merge
from tracker.merge.report import LISTS
from tracker.project import Project


def merge_store(options: Namespace, screen: Screen) -> int:
    """Merge SRC into the store and print what was done; 1 if something in SRC is damaged."""
    report = merge(_target(options), options.source, dry_run=options.dry_run, progress=screen.bar)
    if screen.as_json:
        screen.json(report_as_json(report))
    elif screen.is_terminal:
        _show(report, screen)
    else:
        screen.rows((), _rows(report))
    return report.exit_code


def _target(options: Namespace) -> Ledger:
    """The store that is merged into. `-C` may name a folder that is none yet: the merge makes it one.

    A folder inside a store is not made another: it is refused as every command refuses it.
    """
    named = Path(os.path.abspath(options.directory)) if options.directory else None
    if named is None or any((above / STORE / LEDGER).is_dir() for above in named.parents):
        named = find_root(options)
    return Project(named).ledger


def report_as_json(report: MergeReport) -> dict[str, object]:
    """A report as one object."""
    lists = {name: [asdict(line) for line in getattr(report, name)] for name in LISTS}
    return {
        "source": report.source, "target": report.target, "dry_run": report.dry_run,
        "exit_code": report.exit_code, "counts": report.counts(), **lists,
        "forks": report.forks, "divergent": report.divergent,
    }  # fmt: skip


def _rows(report: MergeReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (name, line.kind, line.path, line.as_path, line.what)
        for name in LISTS
        for line in getattr(report, name)
    ]
    rows += [("forks", "segment", "", "", fork) for fork in report.forks]
    return rows + [("divergent", "run", ref, "", "") for ref in report.divergent]


def _show(report: MergeReport, screen: Screen) -> None:
    """On a terminal: what a person may have to do something about, then the numbers."""
    for name in LISTS[1:]:
        for line in getattr(report, name):
            screen.write(_line_text(name, line, colour=screen.has_colour))
    for fork in report.forks:
        screen.write(f"fork {printable(fork)}\n")
    for ref in report.divergent:
        screen.write(f"divergent {printable(ref)}: done twice with other files; see `tracker show`\n")
    numbers = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in report.counts().items() if number
    )
    would = "would merge" if report.dry_run else "merged"
    screen.write(f"{would} {printable(report.source)}: {numbers or 'nothing is there'}\n")


def _line_text(name: str, line: Line, *, colour: bool) -> str:
    word = painted(name.replace("_", " "), _STYLES.get(name, ""), colour=colour)
    here = f" -> {printable(line.as_path)}" if line.as_path else ""
    return f"{word} {line.kind} {printable(line.path)}{here}\n" + (
        f"    {printable(line.what)}\n" if line.what else ""
    )


_STYLES = {"damaged": "red", "set_aside": "yellow", "repaired": "green"}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="the folder that holds the other store; only read")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, tell what would be done")


MERGE = Command(
    "merge",
    "take another copy of the store into this one; loses nothing of either",
    """\
SRC is only read, and what is here is never overwritten. Every hash is checked
before a name appears; damaged files here are mended from SRC and kept in
.tracker/quarantine; of two files of one name the one that was sealed last has
the name, the other lies beside it as NAME.from-HOST-WRITER-DIGEST. Merging
again takes only what is new; a merge that was killed is simply made again.
With -C DIR, DIR may be a folder that is no store yet.

Exit code 0: merged; 1: merged, and something in SRC is damaged. On a pipe one
line a thing, with tabs: what was done (copied, repaired, parts, set_aside,
skipped, damaged, forks, divergent), kind, path in SRC, its name here if
another, remark.

examples:
  tracker merge /mnt/cluster/results
  tracker merge ../laptop/results --dry-run --json | jq .counts""",
    _arguments,
    merge_store,
)
