"""The command line: `python -m tools.bench [--only W1,W2] [--runs N] [--json]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.bench.bench import Bench
from tools.bench.kills import w10
from tools.bench.metrics import w6
from tools.bench.million import million
from tools.bench.peers import signac
from tools.bench.provenance import provenance
from tools.bench.queries import w4, w5
from tools.bench.replay import replay
from tools.bench.report import Row, as_json, as_table, environment
from tools.bench.sealing import w9
from tools.bench.sweeps import claim, import_time, system, w1, w2, w3
from tools.bench.tree import w7

MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "W1": w1,
    "claim": claim,
    "facts": provenance,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W9": w9,
    "W10": w10,
    "replay": replay,
    "million": million,
    "signac": signac,
    "import": import_time,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; give 1 if a run was lost. Goals in µs are a person's to judge, by the load."""
    asked = _parse(arguments)
    with tempfile.TemporaryDirectory(
        prefix="tracker-bench-", dir=asked.dir, ignore_cleanup_errors=True
    ) as name:
        os.environ["TRACKER_CACHE"] = str(Path(name, "cache"))
        facts = environment(Path(name))
        bench = Bench(Path(name), asked.runs, asked.kills, asked.events, asked.repeats)
        rows = system(bench)
        for measure in asked.only:
            rows += MEASURES[measure](bench)
        bench.say("")
        # before the folder goes, which may take minutes
        print(as_json(facts, rows) if asked.json else as_table(facts, rows), flush=True)
        bench.say("cleaning up")
    bench.say("")
    return 1 if any(row.met is False for row in rows if row.workload == "W10") else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="tracker beside the floors")
    names = ", ".join(MEASURES)
    parser.add_argument(
        "--only", type=_measures, default=list(MEASURES), help=f"some of: {names}", metavar="W1,W2"
    )
    parser.add_argument("--runs", type=int, help="one size for every store, for a quick look", metavar="N")
    parser.add_argument("--kills", type=int, default=20, help="kills of W10 (%(default)s)", metavar="N")
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="events of the replay (%(default)s)", metavar="N"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="samples of each figure (%(default)s)", metavar="N"
    )
    parser.add_argument("--dir", help="where to work; its file system is measured", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args(arguments)


def _measures(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in MEASURES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(MEASURES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
