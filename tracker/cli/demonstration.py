"""`demo`: the demonstration as a command. What it shows is its neighbour's."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracker.cli.command import Command
from tracker.cli.complaints import UsageError
from tracker.cli.demo import DEFAULT_ROOT, run_demo, why_not
from tracker.cli.screen import Screen
from tracker.project import Project


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
run, resumes, and shows what lies on disk and what the best run logged. A folder
that holds anything but a demo is refused.

example:
  tracker demo /tmp/demo && tracker -C /tmp/demo ls""",
    _demo_arguments,
    demo,
)
