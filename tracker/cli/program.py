"""`main`: the command line as a whole. Parses, calls one command, gives an exit code whatever happens."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tracker.cli.command import Command
from tracker.cli.complaints import EXIT_CODES, EXPECTED, Exit, UsageError, complain, warnings_as_lines
from tracker.cli.demo import DEFAULT_ROOT, run_demo, why_not
from tracker.cli.doctor import DOCTOR
from tracker.cli.finding import DIFF, EXPORT, FIND, GROUPBY, SCHEMA
from tracker.cli.hashing import HASH
from tracker.cli.health import REBUILD, VERIFY
from tracker.cli.history import LOG
from tracker.cli.keeping import GC, REPAIR, RESTORE, RM
from tracker.cli.merging import MERGE
from tracker.cli.packing import PACK, UNPACK
from tracker.cli.rules import RULE
from tracker.cli.run import PARAMS, PATH, SHOW
from tracker.cli.runs import LS
from tracker.cli.screen import Screen
from tracker.cli.sql import SQL
from tracker.cli.status import STATUS
from tracker.cli.todo import TODO
from tracker.cli.view import VIEW
from tracker.cli.why import WHY
from tracker.project import Project
from tracker.version import VERSION

_ABOUT = "Look into a store of experiment runs: `.tracker` and the runs beside it."


def demo(options: Namespace, screen: Screen) -> int:
    """Run the demonstration in a folder that is new, or a demo's already."""
    folder = Path(options.folder)
    why = why_not(folder)
    if why:
        raise UsageError(f"{folder} {why}", "move it away, or name a folder that does not exist yet")
    Project(folder).ensure_folder()
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "Permission denied", str(folder))
    return run_demo(folder, json=screen.as_json, out=screen.out)


def _demo_arguments(parser: ArgumentParser) -> None:
    default = str(DEFAULT_ROOT)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=default, help="default: %(default)s")


DEMO = Command(
    "demo",
    "a grid search that is killed, resumed and asked again",
    """\
Trains small networks on Fisher's irises in FOLDER, is killed in the middle of a
run, resumes, and shows what lies on disk. A folder that holds anything but a
demo is refused.

example:
  tracker demo /tmp/demo && tracker -C /tmp/demo ls""",
    _demo_arguments,
    demo,
)

COMMANDS = (
    *(FIND, DIFF, SCHEMA, EXPORT, GROUPBY, SQL, VIEW, STATUS),
    *(LS, SHOW, LOG, PARAMS, PATH, HASH, TODO),
    *(WHY, RULE, RM, RESTORE, GC, VERIFY, REPAIR, REBUILD, MERGE, PACK, UNPACK, DOCTOR, DEMO),
)


_FORM: dict[str, Any] = {"allow_abbrev": False, "formatter_class": RawDescriptionHelpFormatter}


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def make_parser() -> ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser("tracker", description=_ABOUT, epilog=EXIT_CODES, **_FORM)
    parser.add_argument("--version", action="version", version=f"tracker {VERSION}")
    _add_common(parser, directory=None, as_json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
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
    parser = make_parser()
    options = parser.parse_args(argv)
    if "run_command" not in options:
        parser.print_help(err)
        return Exit.USAGE
    screen = Screen(out, err, as_json=options.as_json)
    with screen.bar:
        code: int = options.run_command(options, screen)
    return code


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
