"""The command line: `python -m tools.storm KIND [--count N] [--seconds S] [--seed X] [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.storm import (
    calls,
    claims,
    copies,
    flips,
    full,
    hosts,
    kills,
    living,
    places,
    rsyncs,
    sweeps,
    writers,
)
from tools.storm.tally import Tally

KINDS: dict[str, Callable[[Path, argparse.Namespace], Tally]] = {
    "calls": lambda folder, asked: calls.storm(folder, asked.count, asked.seed),
    "claims": lambda folder, asked: claims.storm(folder, asked.count or 5_000, asked.seed),
    "copies": lambda folder, asked: copies.storm(folder, asked.count or 50, asked.seed),
    "flips": lambda folder, asked: flips.storm(folder, asked.count or 2_000, asked.seed),
    "full": lambda folder, asked: full.storm(folder, asked.count, asked.seed),
    "hosts": lambda folder, asked: hosts.storm(folder, asked.count or 1_000, asked.seed),
    "kill": lambda folder, asked: kills.storm(folder, asked.count or 200, asked.seed),
    "living": lambda folder, asked: living.storm(folder, asked.count or 50, asked.seed),
    "looks": lambda folder, asked: calls.storm(folder, asked.count, asked.seed, calls.LOOKS),
    "places": lambda folder, asked: places.storm(folder, asked.seed),
    "rsync": lambda folder, asked: rsyncs.storm(folder, asked.seconds or 60.0, asked.seed),
    "sweeps": lambda folder, asked: sweeps.storm(folder, asked.count or 500, asked.seed),
    "syncs": lambda folder, asked: calls.storm(folder, asked.count, asked.seed, calls.SYNCS),
    "writers": lambda folder, asked: writers.storm(folder, asked.count or 5_000, asked.seed),
}


WITH_FACTS = ("kill", "writers")
"""Kinds whose processes gather facts too. Elsewhere a git beside each of thousands would be measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one storm, print its tally, and give 1 if anything failed or nothing was tried."""
    asked = _parse(arguments)
    if asked.kind not in WITH_FACTS:
        os.environ["TRACKER_PROVENANCE"] = "off"
    folder = Path(tempfile.mkdtemp(prefix="tracker-storm-", dir=asked.dir))
    folder.chmod(0o755)  # another user must reach the stores below it
    try:
        tally = KINDS[asked.kind](folder, asked)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(tally.to_json()) if asked.json else tally.to_text())
    if asked.keep:
        print(f"kept: {folder}", file=sys.stderr)
    return 0 if tally.is_clean else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.storm", description="see tools/storm/README.md")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, metavar="N", help="how many; each kind has a default of its own")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long, where that is the measure")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), metavar="X")
    parser.add_argument("--dir", help="where to work; its file system is tried", metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="leave the stores, and say where they are")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
