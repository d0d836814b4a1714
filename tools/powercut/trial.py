"""A trial: record a workload, cut the power at many moments, judge what each cut leaves."""

from __future__ import annotations

import bisect
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tools.powercut.blocklog import BlockLog, Cut, Platter, parse_log, plan_survivors
from tools.powercut.judge import FORK, Verdict, judge_files, judge_store, load_package
from tools.powercut.naive import NAIVE
from tools.powercut.oracle import Promise, read_oracle
from tools.powercut.recorder import (
    FILE_SYSTEMS,
    REPOSITORY,
    Recording,
    die_with_parent,
    enter_private_mounts,
    mounted,
    record_blocks,
)
from tools.powercut.workload import SHAPES

RUNS_PER_PROCESS = 25
WRITERS_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written, what it is judged by, and where. The seed decides the workload and the cuts."""

    fs: str
    writer: str
    judged_as: str
    states: int
    runs: int
    seed: int
    jobs: int
    only: int | None
    folder: Path

    @property
    def mount_point(self) -> Path:
        return self.folder / "mnt"

    @property
    def root(self) -> Path:
        """The same path in the recording and in every crash state, so that an index finds its store."""
        return self.mount_point / "results"

    @property
    def oracle(self) -> Path:
        return self.folder / "oracle.jsonl"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@dataclass(frozen=True, slots=True)
class PowerCut:
    """One crash state to make: its number in the plan, which seeds it, and its moment."""

    number: int
    cut: Cut


def record(plan: Plan) -> Recording:
    """Record the writers' work on a fresh disk."""
    plan.mount_point.mkdir()
    with record_blocks(plan.fs, plan.folder, plan.mount_point) as recording:
        plan.root.mkdir()
        run_writers(plan, recording)
    return recording


def run_writers(plan: Plan, recording: Recording) -> None:
    """Run writer processes of all shapes, a few at once, until all runs are recorded.

    Raises: RuntimeError if one failed: its promises would be too few to mean anything.
    """
    processes = max(1, round(plan.runs / RUNS_PER_PROCESS))
    waiting = list(range(processes))
    running: list[tuple[int, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < WRITERS_AT_ONCE:
                n = waiting.pop(0)
                running.append((n, _start_writer(plan, recording, n, plan.runs // processes)))
            n, process = running.pop(0)
            if process.wait() != (-signal.SIGKILL if _shape(n) == "killed" else 0):
                raise RuntimeError(f"writer {n} ended with exit code {process.returncode}")
    finally:
        for _, process in running:
            process.kill()
            process.wait()


def _shape(n: int) -> str:
    return SHAPES[n % len(SHAPES)]


def _start_writer(plan: Plan, recording: Recording, n: int, runs: int) -> subprocess.Popen[bytes]:
    arguments = {
        "root": plan.root,
        "oracle": plan.oracle,
        "log": recording.log,
        "name": f"{plan.seed}-{n}",
        "writer": plan.writer,
        "runs": runs,
        "shape": _shape(n),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tools.powercut.workload", *(f"--{k}={v}" for k, v in arguments.items())],
        cwd=REPOSITORY,
        env={**os.environ, "TRACKER_CACHE": str(plan.cache)},
        preexec_fn=die_with_parent,
    )


def choose_power_cuts(plan: Plan, log: BlockLog, promises: Sequence[Promise]) -> list[PowerCut]:
    """Give the power cuts in the order of their moments.

    Half lie anywhere in the workload, half right after a promise, where it is youngest.
    """
    rng = random.Random(plan.seed)
    begin = first_cut(log, promises[0].moment) if promises else 0
    chosen = []
    for number in range(plan.states):
        if promises and rng.random() < 0.5:
            index = first_cut(log, rng.choice(promises).moment) + rng.choice((0, 0, 1, 2, 5))
        else:
            index = rng.randrange(begin, len(log.cuts))
        chosen.append(PowerCut(number, log.cuts[min(index, len(log.cuts) - 1)]))
    return sorted(chosen, key=lambda power_cut: power_cut.cut.position)


def first_cut(log: BlockLog, moment: int) -> int:
    """Give the index of the first cut at or after a moment."""
    return bisect.bisect_left(log.cuts, moment, key=lambda cut: cut.position)


def iter_verdicts(plan: Plan, recording: Recording) -> Iterator[tuple[int, Verdict | None]]:
    """Make and judge all crash states, in as many processes as the plan has jobs.

    Gives a state's number with its verdict, None where the kernel refused to mount it, as they come.
    Raises: EOFError if a judging process ended before its work.
    """
    log = parse_log(recording.log.read_bytes())
    promises = read_oracle(plan.oracle) if plan.oracle.exists() else []
    cuts = [c for c in choose_power_cuts(plan, log, promises) if plan.only in (None, c.number)]
    share = -(-len(cuts) // plan.jobs) or 1
    with contextlib.ExitStack() as stack:
        pipes = []
        for worker, at in enumerate(range(0, len(cuts), share)):
            judge = Judging(plan, recording, log, promises, cuts[at : at + share], worker)
            pipes.append(stack.enter_context(judge.running()))
        while pipes:
            for pipe in wait(pipes):
                answer = pipe.recv()
                if answer is None:
                    pipes.remove(pipe)
                else:
                    yield answer


@dataclass(frozen=True, slots=True)
class Judging:
    """One process's share of the crash states."""

    plan: Plan
    recording: Recording
    log: BlockLog
    promises: list[Promise]
    cuts: list[PowerCut]
    worker: int

    @contextlib.contextmanager
    def running(self) -> Iterator[Connection]:
        """Judge in a process of its own while the block runs; it answers through the pipe, last None."""
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=self._judge, args=(there,))
        process.start()
        there.close()
        try:
            yield here
        finally:
            process.terminate()
            process.join()

    def _judge(self, pipe: Connection) -> None:
        """Work through the cuts in order; the mounts are this process's own and end with it."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent()
        enter_private_mounts()
        if self.plan.writer not in NAIVE:
            load_package()
        folder = self.plan.folder / f"worker-{self.worker}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        platter = Platter(folder / "platter.img", self.recording.base, self.log)
        for power_cut in self.cuts:
            pipe.send((power_cut.number, self._judge_one(platter, power_cut, folder)))
        shutil.rmtree(folder)
        pipe.send(None)

    def _judge_one(self, platter: Platter, power_cut: PowerCut, folder: Path) -> Verdict | None:
        rng = random.Random(f"{self.plan.seed}/{power_cut.number}")
        survivors = plan_survivors(self.log, power_cut.cut, rng, FILE_SYSTEMS[self.plan.fs].sectors)
        platter.crash(power_cut.cut, survivors, folder / "disk.img")
        prepare_cache(self.plan, folder / "cache", is_ahead=rng.random() < 0.5)
        due = [promise for promise in self.promises if promise.moment <= power_cut.cut.position]
        return judge_disk(self.plan, folder / "disk.img", due)


def prepare_cache(plan: Plan, cache: Path, *, is_ahead: bool) -> None:
    """Give the judged store no index, or the finished workload's: one that knows more than the disk."""
    shutil.rmtree(cache, ignore_errors=True)
    if is_ahead and plan.cache.is_dir():
        shutil.copytree(plan.cache, cache)
    os.environ["TRACKER_CACHE"] = str(cache)


def judge_disk(plan: Plan, disk: Path, due: list[Promise]) -> Verdict | None:
    """Mount a crash state and judge it; None if the kernel refuses it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(mounted(disk, plan.fs, plan.mount_point))
        except subprocess.CalledProcessError:
            return None
        if plan.writer in NAIVE:
            return judge_files(plan.root, due)
        return judge_store(plan.root, due, plan.judged_as)
