"""`rm`, `restore`, `gc` and `repair`: runs out of sight and back, what goes for good, what is mended."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator

from msgspec import to_builtins

from tracker._model.names import split_ref
from tracker.check import repair
from tracker.cli.command import RUN_HELP, Command
from tracker.cli.complaints import Exit
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import duration, printable
from tracker.ledger import Ledger
from tracker.terms import RunRef
from tracker.trash import GRACE_S, Collected, Moved, gc, plan_gc, remove, restore

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Mover = Callable[[Ledger, RunRef, str], Moved]


def _run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    parser.add_argument("--identifier", metavar="ID", help="the runs' kind, where several share a uid")
    parser.add_argument("--reason", metavar="TEXT", default="", help="kept in the history")


def remove_runs(options: Namespace, screen: Screen) -> int:
    """Take runs out of sight, files and all."""
    return _move(options, screen, remove, "removed")


def restore_runs(options: Namespace, screen: Screen) -> int:
    """Bring removed runs back."""
    return _move(options, screen, restore, "restored")


def _move(options: Namespace, screen: Screen, mover: Mover, did: str) -> int:
    """Move all runs, named before the first is moved; tell of those that were even if one is refused."""
    ledger = open_store(options, screen)
    refs = [choose_run(ledger, text, options.identifier).ref for text in options.runs]
    moved: list[Moved] = []
    try:
        moved.extend(mover(ledger, ref, options.reason) for ref in dict.fromkeys(refs))
    finally:
        _tell(moved, screen, did)
    return Exit.OK


def _tell(moved: list[Moved], screen: Screen, did: str) -> None:
    if screen.as_json:
        screen.json([to_builtins(one) for one in moved])
    elif screen.is_terminal:
        for one in moved:
            screen.write("".join(f"{printable(line)}\n" for line in _lines(one, did)))
    else:
        screen.rows((), [_row(one, did) for one in moved])


def _row(one: Moved, did: str) -> list[str]:
    relpath, identifier, uid = split_ref(one.ref)
    said = did if one.is_recorded else "completed"
    return [uid, identifier, relpath or ".", said, str(len(one.files)), str(len(one.kept))]


def _lines(one: Moved, did: str) -> Iterator[str]:
    where = "to the trash" if did == "removed" else "back in place"
    said = did if one.is_recorded else f"was {did} already, now whole"
    yield f"{one.ref}: {said}, {len(one.files)} files {where}"
    for path in one.kept:
        yield f"    kept, as another run recorded it: {path}"


RM = Command(
    "rm",
    "runs out of sight, their files to the trash",
    """\
A removed run counts as not run; its history stays, and `restore` brings it
back until `gc` empties the trash. A run that is being executed is refused. On
a pipe one line a run, with tabs: uid, identifier, namespace, removed (or
completed, where a crash had cut a removal off), number of files moved, number
of files kept because other runs recorded them too.

examples:
  tracker rm 3f2a --reason wrong-data
  tracker ls --status error | cut -f 1 | xargs tracker rm""",
    _run_arguments,
    remove_runs,
)

RESTORE = Command(
    "restore",
    "removed runs back, files and all",
    """\
Overwrites nothing: where a path is taken again nothing is changed. A run whose
files were purged is not restored. The columns are those of `rm`.

examples:
  tracker ls --removed
  tracker restore 3f2a --reason right-after-all""",
    _run_arguments,
    restore_runs,
)


def span(text: str) -> float:
    """Seconds of a span of time such as 14d, 12h, 30m or 0s."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no span of time: give a number with s, m, h or d, as 14d")
    return float(int(match[1]) * _UNITS_S[match[2]])


def _gc_arguments(parser: ArgumentParser) -> None:
    about = "only runs that were removed so long ago: 14d, 12h, 30m, 0s; default: 14d"
    parser.add_argument("--older-than", metavar="SPAN", type=span, default=GRACE_S, help=about)
    parser.add_argument("--dry-run", action="store_true", help="print what would go, and change nothing")


def collect(options: Namespace, screen: Screen) -> int:
    """Empty the trash of what was removed long ago."""
    ledger = open_store(options, screen)
    work = plan_gc if options.dry_run else gc
    collected = work(ledger, older_than_s=options.older_than)
    if screen.as_json:
        screen.json({"dry_run": options.dry_run, **to_builtins(collected)})
        return Exit.OK
    rows = [*_iter_rows(collected, screen)]
    if screen.is_terminal:
        screen.rows(("what", "run or file", "removed", "files", "size"), rows)
        ago = duration(int(options.older_than * 1000))
        screen.write(_summary(collected, ago, dry_run=options.dry_run))
    else:
        screen.rows((), rows)
    return Exit.OK


def _iter_rows(collected: Collected, screen: Screen) -> Iterator[list[str]]:
    for purge in collected.purged:
        size = screen.size(purge.size_bytes)
        yield ["trash", purge.ref, screen.when(purge.removed_ms), str(len(purge.files)), size]
    for what, paths in (("temporary", collected.temporary), ("ghost", collected.ghosts)):
        for path in paths:
            yield [what, path, "", "1", ""]


def _summary(collected: Collected, ago: str, *, dry_run: bool) -> str:
    size = sum(purge.size_bytes for purge in collected.purged)
    verb = "would be purged" if dry_run else "purged"
    return f"{len(collected.purged)} runs removed more than {ago} ago {verb}, {size} bytes\n"


GC = Command(
    "gc",
    "the trash emptied of what was removed long ago",
    """\
The files of runs removed more than 14 days ago are deleted, once the ledger
says with a `purged` event which. So are files in the store that were never
finished, after 14 days, and journals that a sealed segment hides. On a pipe
one line each, with tabs: trash, temporary or ghost; run or file; time of
removal; number of files; bytes.

examples:
  tracker gc --dry-run
  tracker gc --older-than 30d --json | jq '.purged[].ref'""",
    _gc_arguments,
    collect,
)


def _repair_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and change nothing")


def repair_store(options: Namespace, screen: Screen) -> int:
    """Mend what can be made anew, and say what was."""
    done = repair(open_store(options, screen), screen.bar, dry_run=options.dry_run)
    code = Exit.REFUSED if done.refused else Exit.OK
    if screen.as_json:
        screen.json({"dry_run": options.dry_run, **to_builtins(done)})
        return code
    said = "would mend" if options.dry_run else "mended"
    rows = [[said, mend.code, mend.path, mend.what] for mend in done.mended]
    rows += [["refused", mend.code, mend.path, mend.what] for mend in done.refused]
    screen.rows(("", "what", "path", "how"), rows, {"": {"refused": "red"}})
    if screen.is_terminal and not rows:
        screen.write("nothing is to be repaired\n")
    return code


REPAIR = Command(
    "repair",
    "derived files mended, damaged pieces set aside",
    """\
Writes params.json, manifests and FORMAT as the ledger says they are, publishes
what dead writers left, and moves damaged manifests, objects and params to
.tracker/quarantine; deletes nothing that is nowhere else. A damaged segment
stays: what is good in it counts, and `merge` mends it from a copy. Exit code 4
if the system refused a step. On a pipe one line a step, with tabs: mended,
would mend or refused; what; path; how.

examples:
  tracker repair --dry-run
  tracker repair && tracker verify --full""",
    _repair_arguments,
    repair_store,
)
