"""W7: what a store is on disk, in inodes and bytes for each run, and what rsync makes of it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from tools.bench.bench import MILLI, Bench, create, median
from tools.bench.child import run_command
from tools.bench.report import Row


def w7(bench: Bench) -> list[Row]:
    """The tree: inodes and bytes of metadata per run, and rsync of it."""
    (runs,) = bench.sizes(2000)
    processes = min(runs, 100)
    rows: list[Row] = []
    for kind in ("log", "folders", "tracker"):
        bench.say(f"W7 {kind}")
        root = bench.fresh()
        create(kind, root, 0, runs, write_file=False)
        rows += _tree_rows(
            f"{kind}, a sweep of {runs:,}", root, runs, at_most=2 if kind == "tracker" else None
        )
        rows += _rsync_rows(f"{kind}, {runs:,} runs", root, bench.fresh())
    root = bench.fresh()
    for number in range(processes):
        bench.say(f"W7 tracker, process {number + 1} of {processes}")
        create("tracker", root, number, 1, write_file=False)
    return rows + _tree_rows(f"tracker, {processes} processes of one run", root, processes, at_most=3)


def _tree_rows(what: str, root: str, runs: int, *, at_most: int | None) -> list[Row]:
    """Count all below `root`; no output file was written, so all of it is metadata."""
    inodes: Counter[str] = Counter()
    size = disk = 0
    for path in Path(root).rglob("*"):
        facts = path.lstat()
        inodes[_sort_of_entry(path, Path(root))] += 1
        size += 0 if path.is_dir() else facts.st_size
        disk += facts.st_blocks * 512
    total = inodes.total()
    parts = ", ".join(f"{number / runs:.2f} {name}" for name, number in inodes.most_common())
    goal, met = ("", None) if at_most is None else (f"≤ {at_most}", total / runs <= at_most)
    return [
        Row("W7", what, total / runs, "inodes/run", goal=goal, met=met, note=parts),
        Row("W7", what, size / runs, "bytes/run", note=f"{disk / runs:,.0f} on disk, folders included"),
    ]


def _sort_of_entry(path: Path, root: Path) -> str:
    """Name what an entry is for: the part of the store it lies in, or its place among the user's files."""
    parts = path.relative_to(root).parts
    sort = "folders" if path.is_dir() else "files"
    return f"{parts[1]} {sort}" if parts[0] == ".tracker" and len(parts) > 1 else sort


def _rsync_rows(what: str, root: str, copy: str) -> list[Row]:
    if shutil.which("rsync") is None:
        return []
    command = ["rsync", "-a", f"{root}/", f"{copy}/"]
    full, noop = run_command(command), median([run_command(command) for _ in range(3)])
    return [
        Row("W7", f"{what}, rsync {name}", sample.cpu_s * MILLI, "ms", sample.wall_s * MILLI)
        for name, sample in (("full", full), ("no-op", noop))
    ]
