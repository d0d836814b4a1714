"""`main`: the command line as a whole. Parses, calls one command, gives an exit code whatever happens."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn, TextIO

from tracker.cli.command import Command
from tracker.cli.complaints import EXIT_CODES, EXPECTED, Exit, UsageError, complain, warnings_as_lines
from tracker.cli.screen import Screen
from tracker.version import VERSION

_ABOUT = "Look into a store of experiment runs: `.tracker` and the runs beside it."

GROUPS = {
    "runs": {
        "ls": "runs",
        "find": "finding",
        "status": "status",
        "schema": "finding",
        "diff": "finding",
        "groupby": "finding",
        "export": "finding",
        "view": "view",
        "sql": "sql",
    },
    "a run": {
        "show": "run",
        "log": "history",
        "logs": "logs",
        "metrics": "metrics",
        "params": "run",
        "path": "run",
        "files": "artefacts",
        "get": "artefacts",
        "lineage": "artefacts",
    },
    "what people say of runs": {
        "tag": "marks",
        "untag": "marks",
        "note": "marks",
        "name": "marks",
        "parent": "marks",
    },
    "before and after: params, sweeps, repetition": {
        "hash": "hashing",
        "todo": "todo",
        "why": "why",
        "rule": "rules",
        "rerun": "rerun",
        "drift": "drift",
    },
    "the store": {
        "rm": "keeping",
        "restore": "keeping",
        "gc": "keeping",
        "verify": "health",
        "repair": "keeping",
        "rebuild": "health",
        "merge": "merging",
        "pack": "packing",
        "unpack": "packing",
        "bundle": "bundling",
        "doctor": "doctor",
    },
    "to try it": {
        "demo": "demonstration",
    },
}
"""What the help calls a group of commands -> each command of it -> its room in this folder."""

COMMANDS = {name: room for group in GROUPS.values() for name, room in group.items()}
"""Command -> its room, in the order of the help. There it stands under its name in capitals.

A room is loaded when one of its commands is called: all of them are 30 ms that no call needs.
"""

_HEADINGS = {next(iter(group)): heading for heading, group in GROUPS.items()}


class _Grouped(RawDescriptionHelpFormatter):
    """Help in which each group of commands has a line of its own before it."""

    def _format_action(self, action: Action) -> str:
        told = super()._format_action(action)
        heading = "" if action.option_strings else _HEADINGS.get(action.dest)
        return f"\n  {heading}:\n{told}" if heading else told


_FORM: dict[str, Any] = {"allow_abbrev": False, "formatter_class": RawDescriptionHelpFormatter}


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def command_of(name: str) -> Command:
    """One of `COMMANDS`; loads its room."""
    command: Command = getattr(import_module(f"tracker.cli.{COMMANDS[name]}"), name.upper())
    return command


def make_parser(names: Iterable[str] = COMMANDS) -> ArgumentParser:
    """The parser of the command line with the commands of these names, which are all unless given."""
    form = {**_FORM, "formatter_class": _Grouped}
    parser = _Parser("tracker", description=_ABOUT, epilog=EXIT_CODES, **form)
    parser.add_argument("--version", action="version", version=f"tracker {VERSION}")
    _add_common(parser, directory=None, as_json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in map(command_of, names):
        about = f"{command.summary[0].upper()}{command.summary[1:]}."
        parser_of_it = commands.add_parser(
            command.name, help=command.summary, description=about, epilog=command.details, **_FORM
        )
        _fill(parser_of_it, command)
    return parser


def _fill(parser: ArgumentParser, command: Command) -> None:
    command.arguments(parser)
    # before or after the command: the one that is given wins over the other's default
    _add_common(parser, directory=SUPPRESS, as_json=SUPPRESS)
    parser.set_defaults(run_command=command.run)


def _add_common(parser: ArgumentParser, *, directory: object, as_json: object) -> None:
    parser.add_argument(
        "-C",
        dest="directory",
        metavar="DIR",
        default=directory,
        help="the root of the store; else the nearest one at or above the current folder",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", default=as_json, help="print JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tracker` with these arguments, or with those of the process, and give the exit code.

    Prints; raises nothing that a user could cause. The codes are those of `EXIT_CODES`.
    """
    out, err = _streams()
    with warnings_as_lines():
        try:
            code = _run(argv, out, err)
            out.flush()
        except SystemExit as error:  # argparse, after --help and --version
            code = error.code if isinstance(error.code, int) else Exit.OK
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except BrokenPipeError:
            code = Exit.PIPE_CLOSED
        except EXPECTED as error:
            code = complain(error, err)
    return _settled(out, err, code)


def _run(argv: Sequence[str] | None, out: TextIO, err: TextIO) -> int:
    called = _called(sys.argv[1:] if argv is None else argv)
    parser = make_parser(COMMANDS if called is None else [called])
    options = parser.parse_args(argv)
    if "run_command" not in options:
        parser.print_help(err)
        return Exit.USAGE
    screen = Screen(out, err, as_json=options.as_json)
    with screen.bar:
        code: int = options.run_command(options, screen)
    return code


def _called(argv: Sequence[str]) -> str | None:
    """The command that a command line calls; None if the parser must say what is wrong, or print the help."""
    words = iter(argv)
    for word in words:
        if word == "-C":
            next(words, None)
        elif word != "--json" and not word.startswith("-C"):
            return word if word in COMMANDS else None
    return None


def _streams() -> tuple[TextIO, TextIO]:
    """Standard output and error; where the shell closed one, a stream that keeps nothing."""
    return sys.stdout or _nowhere(), sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def _settled(out: TextIO, err: TextIO, code: int) -> int:
    """Leave nothing in `out` at which the interpreter could stumble on its way out."""
    try:
        out.flush()
    except BrokenPipeError:
        code = Exit.PIPE_CLOSED
        _abandon(out)
    except OSError as error:
        if code == Exit.OK:
            code = complain(error, err)
        _abandon(out)
    return int(code)


def _abandon(out: TextIO) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, out.fileno())
        os.close(null)
