"""Cut the power of a recorded disk many times and see what a store still holds. See README.md."""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.powercut.judge import Failure, Verdict
from tools.powercut.recorder import FILE_SYSTEMS, Recording, enter_private_mounts
from tools.powercut.trial import Plan, iter_verdicts, record

DURABILITIES = ("full", "ledger", "off")
SHOWN_STATES = 3

SELF_TEST = (
    ("sound", "full", None),
    ("unsynced", "full", "lost-file"),
    ("unsynced-name", "full", "lost-file"),
    ("unsynced-bytes", "off", "wrong-bytes"),
    ("off", "full", "lost-run"),
    ("ledger", "full", "changed-file"),
)
"""(writer, judged as, the kind of failure that must be found; None: no failure at all)."""


@dataclass(slots=True)
class Report:
    """What was tried and what failed. A trial that tried nothing is no success."""

    plan: Plan
    elapsed_s: float = 0.0
    states: int = 0
    refused: int = 0
    promises: int = 0
    names: int = 0
    taken_up: int = 0
    verify_exits: collections.Counter[int] = field(default_factory=collections.Counter)
    failures: list[tuple[int, Failure]] = field(default_factory=list)

    def add(self, state: int, verdict: Verdict | None) -> None:
        """Count one crash state; None means that the kernel refused to mount it."""
        if verdict is None:
            self.refused += 1
            return
        self.states += 1
        self.promises += verdict.promises
        self.names += verdict.names
        self.taken_up += verdict.taken_up
        if verdict.verify_exit is not None:
            self.verify_exits[verdict.verify_exit] += 1
        self.failures += [(state, failure) for failure in verdict.failures]

    @property
    def has_tried(self) -> bool:
        """Where a tenth of the states do not mount, the tester makes disks that no power cut leaves."""
        asked = self.names if self.plan.judged_as == "off" else self.promises
        return asked > 0 and self.refused * 10 <= self.states

    @property
    def is_clean(self) -> bool:
        return self.has_tried and not self.failures

    def count_kinds(self) -> dict[str, int]:
        """Count, for each kind of failure, the states that show it."""
        return dict(collections.Counter(kind for _, kind in {(n, f.kind) for n, f in self.failures}))

    def to_json(self) -> dict[str, Any]:
        return {
            "fs": self.plan.fs,
            "writer": self.plan.writer,
            "judged_as": self.plan.judged_as,
            "seed": self.plan.seed,
            "states": self.states,
            "refused": self.refused,
            "promises": self.promises,
            "names": self.names,
            "taken_up": self.taken_up,
            "verify_exits": self.verify_exits,
            "states_per_s": round(self.states / max(self.elapsed_s, 0.001), 1),
            "failed_states": len({n for n, _ in self.failures}),
            "failed_by_kind": self.count_kinds(),
            "failures": [{"state": n, "kind": f.kind, "what": f.what} for n, f in self.failures],
        }

    def to_text(self) -> str:
        lines = [
            "{fs}, {writer} judged as {judged_as}, seed {seed}: {states} crash states tried "
            "({refused} more did not mount), {promises} promises and {names} content names checked, "
            "{failed_states} states failed; {states_per_s} states/s".format(**self.to_json())
        ]
        if self.taken_up:
            lines.append(f"  {self.taken_up} runs left RUNNING were executed to their end")
        if self.verify_exits:
            exits = ", ".join(f"{n} with {code}" for code, n in sorted(self.verify_exits.items()))
            lines.append(f"  verify ended {exits}")
        for kind, count in sorted(self.count_kinds().items()):
            lines.append(f"  {kind} in {count} states")
            first = {state: f.what for state, f in reversed(self.failures) if f.kind == kind}
            shown = sorted(first)[:SHOWN_STATES]
            lines += [f"    state {n}: " + first[n].strip().rpartition("\n")[2] for n in shown]
        if not self.has_tried:
            lines.append("  nothing was tried: nothing fell before a cut, or the states did not mount")
        return "\n".join(lines)


def try_plan(plan: Plan, *, is_recorded: bool = False) -> Report:
    """Record, unless there is a recording in the plan's folder, and judge the states."""
    recording = Recording(plan.folder) if is_recorded else record(plan)
    report = Report(plan)
    began = time.monotonic()
    for state, verdict in iter_verdicts(plan, recording):
        report.add(state, verdict)
    report.elapsed_s = time.monotonic() - began
    return report


def self_test(common: Plan, *, as_json: bool) -> bool:
    """Show that writers with a known fault are found, and a sound one is not blamed."""
    passed = True
    for writer, judged_as, expected in SELF_TEST:
        with scratch_folder() as folder:
            report = try_plan(replace(common, writer=writer, judged_as=judged_as, folder=folder))
        is_right = report.is_clean if expected is None else expected in report.count_kinds()
        passed = passed and is_right
        print_report(report, as_json=as_json)
        print(f"{'ok' if is_right else 'WRONG'}: expected {expected or 'no failure'}", file=sys.stderr)
    return passed


def print_report(report: Report, *, as_json: bool) -> None:
    print(json.dumps(report.to_json()) if as_json else report.to_text(), flush=True)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder, in memory if it can be had, that goes when the block ends."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="powercut-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools.powercut", description=__doc__)
    parser.add_argument("--fs", choices=FILE_SYSTEMS, default="ext4")
    parser.add_argument("--durability", choices=DURABILITIES, default="full")
    parser.add_argument("--states", type=int, default=200, help="crash states to make")
    parser.add_argument("--runs", type=int, default=300, help="runs to record")
    parser.add_argument(
        "--seed", type=int, help="of the workload and the cuts; random, and printed, if not given"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that judge")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--self-test", action="store_true", help="show that faulty writers are found")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the recording in a new folder")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="judge a kept recording; give its seed")
    parser.add_argument("--only", type=int, metavar="STATE", help="judge one state of the plan")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    enter_private_mounts()
    with contextlib.ExitStack() as stack:
        folder = args.keep or args.replay or stack.enter_context(scratch_folder())
        folder.mkdir(parents=True, exist_ok=folder != args.keep)
        plan = Plan(
            fs=args.fs,
            writer=args.durability,
            judged_as=args.durability,
            states=args.states,
            runs=args.runs,
            seed=random.SystemRandom().randrange(10**6) if args.seed is None else args.seed,
            jobs=args.jobs,
            only=args.only,
            folder=folder.resolve(),
        )
        if args.self_test:
            return 0 if self_test(plan, as_json=args.json) else 1
        report = try_plan(plan, is_recorded=args.replay is not None)
    print_report(report, as_json=args.json)
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
