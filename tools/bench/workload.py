"""The workload, the same for every store: configs, the loop that creates runs, the clock around it.

It knows a store only through four verbs (`start`, `file`, `done`, `close`) and must never know which one it
drives. One run is 12 nested params, marked started, one small output file registered, marked done.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

Config = dict[str, Any]
Figures = dict[str, Any]
Handle = TypeVar("Handle")

OUTPUT_NAME = "out.txt"
OUTPUT = b"loss 0.25\n" * 20

SCAN_BOUND_S = 60.0
"""A scan that takes longer is cut off: what it costs is known by then."""

EVENTS_PER_RUN = 3
"""In tracker's history: created and started in one frame, then done; as `start()` and `done()` record."""


class Store(Protocol[Handle]):
    """What a workload needs of a store. `Handle` is the store's own word for a run in progress."""

    def start(self, params: Config) -> Handle: ...

    def file(self, run: Handle) -> Path: ...

    def done(self, run: Handle) -> None: ...

    def close(self) -> None: ...


def config(number: int) -> Config:
    """Give the config `number`: 12 leaves in four groups; equal numbers give equal configs."""
    return {
        "seed": number,
        "lr": 0.001 * (1 + number % 7),
        "batch_size": 32,
        "model": {"name": "abc"[number % 3], "layers": 4, "width": 256, "dropout": 0.1},
        "optimizer": {"name": "adamw", "weight_decay": 0.01, "nesterov": False},
        "data": {"name": "grid", "fold": number % 5},
    }


def create_runs(store: Store[Any], numbers: Iterable[int], *, write_file: bool) -> int:
    """Create one finished run for each number; with `write_file` its output file is really written."""
    count = 0
    for number in numbers:
        run = store.start(config(number))
        path = store.file(run)
        if write_file:
            path.write_bytes(OUTPUT)
        store.done(run)
        count += 1
    return count


def ask_all(is_done: Callable[[int], bool], count: int) -> tuple[int, int]:
    """Ask of each of `count` numbers; give how many there was time to ask of, and how many are done."""
    end = time.monotonic() + SCAN_BOUND_S
    done = 0
    for number in range(count):
        done += is_done(number)
        if number % 256 == 0 and time.monotonic() > end:
            return number + 1, done
    return count, done


def timed(work: Callable[[], Any]) -> Figures:
    """Run `work` and give its CPU (user + system, all threads) and wall seconds, and its answer."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    answer = work()
    return {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "answer": answer}


def cpu_seconds() -> float:
    """Give the CPU time of this process so far, user + system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
