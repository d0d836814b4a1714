"""Provenance: what it adds to the first start of a process, to each run after it, and to the store."""

from __future__ import annotations

import os
import statistics
import subprocess
from pathlib import Path

from tools.bench.bench import MICRO, MILLI, Bench
from tools.bench.child import call
from tools.bench.report import Row

BLOCKS, RUNS = 15, 100
STARTS = 9
KEPT = 1000


def provenance(bench: Bench) -> list[Row]:
    """With and without, in turn."""
    bench.say("provenance")
    return [*_later(bench), *_first(bench), *_kept(bench)]


def _later(bench: Bench) -> list[Row]:
    seconds = call("facts", "blocks", bench.fresh(), BLOCKS, RUNS).answer
    us = {how: statistics.median(taken) / RUNS * MICRO for how, taken in seconds.items()}
    ratio = statistics.median(
        one / other for one, other in zip(seconds["with"], seconds["without"], strict=True)
    )
    return [
        Row("facts", "start() and done(), with provenance", us["with"], "µs/run", ratio=ratio,
            against="without", goal="≤ 1.3 × without", met=ratio <= 1.3),
        Row("facts", "start() and done(), without", us["without"], "µs/run"),
    ]  # fmt: skip


def _first(bench: Bench) -> list[Row]:
    taken: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(STARTS):
        for is_on, samples in taken.items():
            samples.append(call("facts", "first_start", bench.fresh(), is_on).answer)
    added = [
        {name: (one[name] - other[name]) * MILLI for name in one}
        for one, other in zip(taken[True], taken[False], strict=True)
    ]
    cpu, wall = (statistics.median(one[name] for one in added) for name in ("cpu_s", "wall_s"))
    least = min(one["wall_s"] for one in added)
    return [
        Row("facts", "added to the first start of a process", cpu, "ms", wall, goal="≤ 20 ms",
            met=max(cpu, wall) <= 20, note=f"wall {wall:.1f} ms, at least {least:.1f}")
    ]  # fmt: skip


def _repository(folder: str) -> str:
    """A working tree of one commit, with a change and a source file that git does not know."""
    os.makedirs(folder)
    train = Path(folder, "train.py")
    train.write_text("print('train')\n")
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"),
    ):
        subprocess.run(["git", "-C", folder, *command], check=True)
    train.write_text("print('train more')\n")
    Path(folder, "helper.py").write_text("more = 1\n")
    return folder


def _kept(bench: Bench) -> list[Row]:
    left = call("facts", "left_on_disk", bench.fresh(), _repository(bench.fresh()), KEPT).answer
    per_run = left["event_bytes"] + left["object_bytes"] / KEPT
    inodes = left["objects"] / KEPT
    return [
        Row("facts", f"inodes of {KEPT:,} runs of one process", inodes, "inodes/run", goal="≤ 0.1",
            met=inodes <= 0.1),
        Row("facts", "bytes in the ledger and in objects", per_run, "B/run", goal="≤ 500 B",
            met=per_run <= 500, note=f"and {left['manifest_bytes']} B in the manifest"),
    ]  # fmt: skip
