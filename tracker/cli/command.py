"""A command as a value: its name, its help, its arguments and the function that does it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import NamedTuple

from tracker.cli.screen import Screen


class Command(NamedTuple):
    """One subcommand. `details` hold an example; `run` gives the exit code."""

    name: str
    summary: str
    details: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Screen], int]


RUN_HELP = "4 digits or more of a uid, a name, folder or ref, @latest, @best:METRIC or @best:-METRIC"


def add_run(parser: ArgumentParser, *, optional: bool = False) -> None:
    """The arguments that name one run."""
    parser.add_argument("run", metavar="RUN", nargs="?" if optional else None, help=RUN_HELP)
    parser.add_argument("--identifier", metavar="ID", help="the run's kind, where several share a uid")


def count(text: str) -> int:
    """A number of things, from 0 on."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ArgumentTypeError(f"{text!r} is no number; give digits, as 20")
    return int(text)
