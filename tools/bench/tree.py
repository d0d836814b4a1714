"""W7: what a store is on disk, in inodes and bytes for each run, and what rsync makes of it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from tools.bench.bench import MICRO, MILLI, Bench, create, inner_cpu, median
from tools.bench.child import call, run_command
from tools.bench.report import Row


def w7(bench: Bench) -> list[Row]:
    """The tree: inodes and bytes of metadata per run, and rsync of it."""
    (runs,) = bench.sizes(10_000)
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
    rows += _packed_rows(bench, root, runs)
    root = bench.fresh()
    for number in range(processes):
        bench.say(f"W7 tracker, process {number + 1} of {processes}")
        create("tracker", root, number, 1, write_file=False)
    return rows + _tree_rows(f"tracker, {processes} processes of one run", root, processes, at_most=3)


def _packed_rows(bench: Bench, root: str, runs: int) -> list[Row]:
    """What lies in `.tracker`, before `pack` and after it; the runs' folders have their params beside."""
    metadata = f"{root}/.tracker"
    before = _rsync_rows(f"tracker, metadata of {runs:,} runs", metadata, bench.fresh())
    bench.say("W7 pack")
    packed = call("upkeep", "pack_store", root)
    assert packed.answer["answer"] > 0, "nothing was packed"
    each = inner_cpu(packed) / runs * MICRO
    return [
        *before,
        Row("W7", "tracker, pack", each, "µs/run", packed.answer["wall_s"] / runs * MICRO),
        *_tree_rows(f"tracker, {runs:,} runs, packed", root, runs, at_most=1),
        *_rsync_rows(f"tracker, {runs:,} packed runs", root, bench.fresh()),
        *_rsync_rows(f"tracker, metadata of {runs:,} packed runs", metadata, bench.fresh(), at_most_ms=100),
    ]


def _tree_rows(what: str, root: str, runs: int, *, at_most: int | None) -> list[Row]:
    """Count all below `root`; no output file was written, so every file is metadata.

    Beside the count stand the folders: the runs' own, which are the user's, and the store's, which are some
    260 at most however many runs there are.
    """
    files: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    size = disk = 0
    for path in Path(root).rglob("*"):
        facts = path.lstat()
        (folders if path.is_dir() else files)[_part_of(path, Path(root))] += 1
        size += 0 if path.is_dir() else facts.st_size
        disk += facts.st_blocks * 512
    inodes = files.total() / runs
    goal, met = ("", None) if at_most is None else (f"≤ {at_most}", round(inodes, 1) <= at_most)
    parts = f"{_per_run(files, runs)}; folders: {_per_run(folders, runs) or 'none'}"
    return [
        Row("W7", what, inodes, "inodes/run", goal=goal, met=met, note=parts),
        Row("W7", what, size / runs, "bytes/run", note=f"{disk / runs:,.0f} on disk, folders included"),
    ]


def _per_run(entries: Counter[str], runs: int) -> str:
    return ", ".join(f"{number / runs:.2f} {part}" for part, number in entries.most_common())


def _part_of(path: Path, root: Path) -> str:
    """Name the part of the tree that an entry lies in: one of the store's, or the runs'."""
    parts = path.relative_to(root).parts
    if parts[0] != ".tracker":
        return "of the runs"
    return parts[1] if len(parts) > 1 else "store"


def _rsync_rows(what: str, root: str, copy: str, *, at_most_ms: float | None = None) -> list[Row]:
    if shutil.which("rsync") is None:
        return []
    command = ["rsync", "-a", f"{root}/", f"{copy}/"]
    full, noop = run_command(command), median([run_command(command) for _ in range(3)])
    goal, met = "", None
    if at_most_ms is not None:
        goal, met = f"≤ {at_most_ms:.0f} ms", noop.cpu_s * MILLI <= at_most_ms
    return [
        Row("W7", f"{what}, rsync full", full.cpu_s * MILLI, "ms", full.wall_s * MILLI),
        Row("W7", f"{what}, rsync no-op", noop.cpu_s * MILLI, "ms", noop.wall_s * MILLI, goal=goal, met=met),
    ]
