"""What all measurements share: where to work, the sizes, the stores already made, and how one is asked.

Floors and tracker are measured in one run, in turn, each in a fresh process and a fresh folder: trust the
ratios, not a figure alone. The median by CPU time stands for several samples.

Nothing is deleted before the end: ext4 passes over inodes that were freed in the last minutes, one by one,
and a store made just after another was removed would pay for that (measured: 20 µs a file, or 800).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tools.bench.child import Sample, call

MICRO, MILLI = 1e6, 1e3


@dataclass
class Bench:
    """What all measurements share: a folder to work in, the sizes, and the stores already made."""

    folder: Path
    runs: int | None = None
    kills: int = 20
    events: int = 1_000_000
    repeats: int = 3
    stores: dict[tuple[str, int], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def fresh(self) -> str:
        """Name a folder that does not exist yet."""
        return str(self.folder / f"store-{next(self._numbers)}")

    def sizes(self, *usual: int) -> list[int]:
        """Give the usual sizes, or the one asked for."""
        return list(usual) if self.runs is None else [self.runs]

    def store(self, kind: str, runs: int) -> str:
        """Give a store of `runs` finished runs with their files, made once."""
        if (kind, runs) not in self.stores:
            self.say(f"making {kind} with {runs} runs")
            root = self.fresh()
            create(kind, root, 0, runs, write_file=True)
            self.stores[kind, runs] = root
        return self.stores[kind, runs]

    def say(self, text: str) -> None:
        """Tell a person at a terminal what is going on; with an empty text clear the line."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text} …" if text else "\r\x1b[K", end="", file=sys.stderr, flush=True)


def create(kind: str, root: str, first: int, runs: int, *, write_file: bool) -> Sample:
    """Create runs in a fresh process; `kind` is a floor, or `tracker` with a durability and `unclaimed`."""
    if kind.startswith("tracker"):
        how = kind.partition(" ")[2] or "off"
        return call("ours", "create", how, root, first, runs, write_file)
    return call("floors", "create", kind, root, first, runs, write_file)


def ask(kind: str, question: str, *arguments: object) -> Sample:
    if kind == "tracker":
        return call("ours", question, *arguments)
    return call("floors", question, kind, *arguments)


def median(
    samples: Sequence[Sample], cost: Callable[[Sample], float] = lambda sample: sample.cpu_s
) -> Sample:
    return sorted(samples, key=cost)[len(samples) // 2]


def inner_cpu(sample: Sample) -> float:
    cpu: float = sample.answer["cpu_s"]
    return cpu
