"""`todo`: which configs of a sweep file are still to be run. Reads, and claims nothing."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path, PurePosixPath

from tracker._codec.canonical import canonical
from tracker._model.names import STORE
from tracker.cli.command import Command
from tracker.cli.complaints import NoStoreError, UsageError, warn
from tracker.cli.screen import Screen
from tracker.cli.selection import find_root
from tracker.cli.table import STATUS_STYLES
from tracker.cli.words import in_ascii
from tracker.errors import ParamsError
from tracker.project import Project
from tracker.sweep import Retry, Sweep
from tracker.sweepfile import SweepFile, parse_sweep
from tracker.terms import Uid

_HEADINGS = ("index", "run", "status", "params")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="SWEEP", help="a file of JSON or YAML, or - for JSON on standard input"
    )
    parser.add_argument("--identifier", metavar="ID", help="the kind of run, before what the file says")
    parser.add_argument(
        "--namespace", metavar="PATH", help="where the runs are, before what the file says; . is the root's"
    )
    words = [str(retry) for retry in Retry]
    parser.add_argument(
        "--retry",
        choices=words,
        default=str(Retry.LOST),
        help="runs that were begun and are to be run again: none, lost (also interrupted ones; the default), "
        "failed (all)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--indices", action="store_true", help="only their indices, as `sbatch --array` takes them"
    )
    form.add_argument("--count", action="store_true", help="only how many they are")
    form.add_argument("--params", action="store_true", help="only their params, one JSON object a line")


def todo(options: Namespace, screen: Screen) -> int:
    """Print what is left to run."""
    file = _read(options.file)
    identifier = options.identifier or file.identifier
    if identifier is None:
        what = f"{options.file} does not say which kind of run it is"
        raise UsageError(what, 'give --identifier, or write "identifier" into the file')
    namespace = PurePosixPath(options.namespace or file.namespace or ".")
    project = Project(_root(options), "" if namespace == PurePosixPath() else namespace)
    project.ledger.lookup.progress = screen.bar.of("reading the ledger")
    try:
        session_of = partial(project.session, identifier)
        sweep = Sweep(session_of, file.configs, retry=options.retry, uid_of=project.uid)
    except ParamsError as error:
        raise ParamsError(f"{options.file}: {error.path}", error.why) from error
    rows = [
        (one.place, one.session.uid, str(one.status), canonical(file.configs[one.place]).decode())
        for one in sweep.iter_left()
    ]
    _print(rows, options, screen)
    return 0


def _read(name: str) -> SweepFile:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return parse_sweep(data, "standard input" if name == "-" else name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"{name}: {error.strerror}", "give a file of JSON or YAML") from error
    except ImportError as error:
        cure = "pip install 'tracker-store[yaml]', or write it as JSON"
        raise UsageError(f"{name} is YAML, and PyYAML is not installed", cure) from error


def _root(options: Namespace) -> Path:
    """The store's root. One that `-C` names and is not there yet is that of a sweep that was not begun."""
    try:
        return find_root(options)
    except NoStoreError:
        named = Path(os.path.abspath(options.directory or "."))
        if not options.directory or any((above / STORE).is_dir() for above in named.parents):
            raise
        warn(f"there is no store in {options.directory} yet: all is left", sys.stderr)
        return named


Row = tuple[int, Uid, str, str]


def _print(rows: list[Row], options: Namespace, screen: Screen) -> None:
    places = [place for place, *_ in rows]
    params = [json.loads(text) for *_, text in rows] if screen.as_json else []
    if options.count:
        _say(screen, len(rows), [str(len(rows))])
    elif options.indices:
        _say(screen, places, [ranges_of(places)] if places else [])
    elif options.params:
        _say(screen, params, [in_ascii(text) for *_, text in rows])
    elif screen.as_json:
        keys = ("index", "uid", "status")
        screen.json(
            [dict(zip(keys, row, strict=False)) | {"params": p} for row, p in zip(rows, params, strict=True)]
        )
    else:
        screen.rows(_HEADINGS, ([str(cell) for cell in row] for row in rows), {"status": STATUS_STYLES})


def _say(screen: Screen, value: object, lines: list[str]) -> None:
    if screen.as_json:
        screen.json(value)
    else:
        screen.write("".join(f"{line}\n" for line in lines))


def ranges_of(numbers: list[int]) -> str:
    """Rising numbers as Slurm writes an array: 0-4,7,9-12."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


TODO = Command(
    "todo",
    "what is left to run of a sweep file",
    """\
A sweep file is JSON, or YAML if its name ends in .yaml or .yml: a list of
configs, or an object with one of
  "configs": [{"lr": 0.1}, {"lr": 0.01}]
  "grid":    {"lr": [0.1, 0.01], "seed": [1, 2]}    all combinations
  "zip":     {"lr": [0.1, 0.01], "seed": [1, 2]}    side by side
  "product": [OBJECT, ...]    "concat": [OBJECT, ...]
and perhaps "identifier" and "namespace". Prints index (from 0), uid, status and
params of what is neither done nor being executed. --indices prints 0-4,7,9-12,
or nothing at all if nothing is left; the exit code is 0 in either case. A store
that -C names need not be there yet.

examples:
  tracker -C results todo sweep.json --retry failed
  tracker todo sweep.json --indices | xargs -I{} sbatch --array={}%8 job.sh""",
    _arguments,
    todo,
)
