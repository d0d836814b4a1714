"""`rerun`: the recorded command of a run, printed or executed again, and what came out compared."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from tracker.cli.command import Command, add_run
from tracker.cli.complaints import Exit, UsageError, warn
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import printable
from tracker.liveness import as_seen
from tracker.rerun import Outcome, Prepared, prepare, print_lines, rerun
from tracker.rerun.compare import Change, Compared

_SHOWN = 12


def rerun_run(options: Namespace, screen: Screen) -> int:
    """Print or execute a run's command again; 1 if what came out is not the same."""
    if options.ignore and not options.check:
        raise UsageError("--ignore says what is not compared, and nothing is", "give --check too")
    ledger = open_store(options, screen)
    run = as_seen(ledger, choose_run(ledger, options.run, options.identifier))
    here = os.getcwd()
    prepared = prepare(ledger, run, here=here, to_print=options.to_print, to_check=options.check)
    if options.to_print:
        return _print(print_lines(ledger, prepared, options.link), prepared, screen)
    _show_plan(prepared, screen)
    links, ignore = options.link, options.ignore
    outcome = rerun(ledger, prepared, check=options.check, ignore=ignore, links=links, keep=options.keep)
    if screen.as_json:
        screen.json(plan_as_json(prepared) | outcome_as_json(outcome))
    else:
        for label, *cells in _outcome_facts(outcome):
            screen.fact(label, *cells)
    is_well = outcome.is_reproduced if options.check else not outcome.why
    return Exit.OK if is_well else Exit.NO


def _print(lines: list[str], prepared: Prepared, screen: Screen) -> int:
    _warn(prepared)
    if screen.as_json:
        screen.json(plan_as_json(prepared) | {"lines": lines})
    else:
        screen.write("".join(f"{printable(line)}\n" for line in lines))
    return Exit.OK


def _show_plan(prepared: Prepared, screen: Screen) -> None:
    """Say what is about to be executed, before it is. With --json on standard error, which is for people."""
    _warn(prepared)
    if screen.as_json:
        sys.stderr.write(f"rerun {printable(shlex.join(prepared.command(None)))}\n")
        sys.stderr.flush()
        return
    for label, *cells in _plan_facts(prepared):
        screen.fact(label, *cells)
    screen.flush()


def _warn(prepared: Prepared) -> None:
    for text in prepared.warnings:
        warn(text, sys.stderr)
    changes = [change for change in prepared.changes if change.path.startswith("packages.")]
    others = [change for change in prepared.changes if change not in changes]
    for what, some in (("packages are", changes), ("environment is", others)):
        if some:
            more = f", and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
            warn(
                f"the {what} not those of the run: {', '.join(map(_text_of, some[:_SHOWN]))}{more}",
                sys.stderr,
            )


def _text_of(change: Change) -> str:
    recorded, present = (
        "none" if value is None else str(value) for value in (change.recorded, change.present)
    )
    return f"{change.path.removeprefix('packages.')} {recorded} is now {present}"


def _plan_facts(prepared: Prepared) -> Iterator[tuple[str, ...]]:
    plan = prepared.plan
    yield "rerun", plan.ref
    yield "attempt", plan.attempt
    if plan.code is not None and prepared.repository is not None:
        yield "commit", str(plan.code.commit)
        yield "repository", prepared.repository.top or prepared.repository.folder
        yield from [("diff", plan.code.diff)] if plan.code.diff else []
        yield from (("untracked", kept.path) for kept in plan.code.untracked)
    yield "folder", plan.folder if plan.inside is None else plan.inside
    yield from (("variable", f"{name}={value}") for name, value in plan.variables.items())
    yield "command", shlex.join(prepared.command(None))


def _outcome_facts(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    if outcome.tree is not None:
        yield "tree", outcome.tree
    if outcome.compared is not None:
        yield from _compared_facts(outcome.compared)
    yield "repeat", outcome.repeat.ref, str(outcome.repeat.status)
    yield "verdict", outcome.verdict


def _compared_facts(compared: Compared) -> Iterator[tuple[str, ...]]:
    yield from (("same", name) for name in compared.same)
    for one in compared.differs:
        sides = ((one.size, one.digest), (one.repeat_size, one.repeat_digest))
        cells = [cell for size, digest in sides for cell in ("" if size is None else str(size), digest or "")]
        yield "differs", one.name, *cells
    yield from (("missing", name) for name in compared.missing)
    yield from (("extra", name) for name in compared.extra)
    yield from (("unknown", name) for name in compared.unknown)
    yield from (("ignored", name) for name in compared.ignored)


def plan_as_json(prepared: Prepared) -> dict[str, object]:
    """What is to be executed, as one object."""
    plan, repository = prepared.plan, prepared.repository
    return {
        "run": plan.ref,
        "attempt": plan.attempt,
        "commit": None if plan.code is None else plan.code.commit,
        "repository": None if repository is None else repository.top or repository.folder,
        "folder": plan.folder if plan.inside is None else plan.inside,
        "command": prepared.command(None),
        "variables": plan.variables,
        "repeat": prepared.repeat.ref,
        "warnings": prepared.warnings,
        "environment": [list(change) for change in prepared.changes],
    }


def outcome_as_json(outcome: Outcome) -> dict[str, object]:
    """What became of it, as members of the same object."""
    compared = outcome.compared
    return {
        "exit_code": outcome.exit_code,
        "status": str(outcome.repeat.status),
        "tree": outcome.tree,
        "reproducible": None if compared is None else outcome.is_reproduced,
        "verdict": outcome.verdict,
        "files": None if compared is None else _files_as_json(compared),
    }


def _files_as_json(compared: Compared) -> dict[str, object]:
    names = Compared.__struct_fields__
    members = {name: getattr(compared, name) for name in names}
    differs = [{name: getattr(one, name) for name in one.__struct_fields__} for one in compared.differs]
    return members | {"differs": differs}


def _arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--check", action="store_true", help="compare the files that come out by their digests"
    )
    parser.add_argument(
        "--ignore", metavar="PATTERN", action="append", default=[],
        help="of --check: leave out files of such names, as '*.log'; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--print", "--dry-run", dest="to_print", action="store_true",
        help="execute nothing; print shell lines that do it",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the working tree, and print where it is")
    parser.add_argument(
        "--link", metavar="PATH", action="append", default=[],
        help="a file or folder below the repository that git does not know, as data:"
        " the new tree gets a symbolic link to it; may be given again",
    )  # fmt: skip


RERUN = Command(
    "rerun",
    "execute a run's recorded command again, and compare what comes out",
    """\
This executes code that the store recorded; no other command does. The command
is shown first. It runs in a clean worktree of the recorded commit, with the
recorded diff and untracked files, and is recorded in the store as a repeat of
RUN; the worktree is removed in the end. Where no commit is recorded it runs in
its old folder, with the code as it lies there. Nothing is installed: how the
environment differs is told before. Its output goes to standard error.

Exit code 0: it ended well, with --check as the run did and with the same files;
1: it did not; 2: it cannot be rerun, and why. On a pipe one fact a line, with
tabs: what is executed, then same, missing, extra, unknown or ignored and the
name of a file, or differs with name, size and BLAKE3 of both; repeat; verdict.

examples:
  tracker rerun @latest --check --ignore '*.log'
  tracker rerun 9f86 --link data
  tracker rerun 9f86 --print | sh -e""",
    _arguments,
    rerun_run,
)
