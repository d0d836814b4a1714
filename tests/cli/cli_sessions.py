"""What the sessions of the command line share: a store with a run of every kind, and what a command did."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tracker import Durability, ExistingRun, Project, StorageMode
from tracker._model.event import Removed
from tracker.terms import RunRef

TENTH = "a7f6c8b122de39b556aa975ba9567946"
"""The uid of {"lr":0.1}, from the vectors."""

ONE = "e7e5d32d05a4433e3d9e73d30838feb0"
"""The uid of {"lr":1}, from the vectors."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


Call = Callable[..., Result]


def fill(root: Path) -> Project:
    """Make a store with a run of every kind that people meet."""
    project = Project(root, durability=Durability.OFF)
    with project.session("train", {"lr": 0.1}) as run:
        run.path("model.pt").write_bytes(b"weights")
        run.path("sub/log.txt").write_text("ok")
    with pytest.raises(ValueError, match="too great"), project.session("train", {"lr": 2.0}):
        raise ValueError("too great\x1b[31m")
    project.session("eval", {"lr": 0.1}).start().done()
    grid = Project(root, "grid", StorageMode.PREFIX, durability=Durability.OFF)
    with grid.session("train", {"lr": 1}) as run:
        run.path("ckpt.pt").write_bytes(b"")
    project.session("train", {"lr": 0.1}, existing_run_strategy=ExistingRun.NEW).start().done()
    project.session("train", {"lr": 3.0}).start()
    project.ledger.close()
    return project


def remove(root: Path, ref: str) -> None:
    """Record that a run is removed, which no command of this release does."""
    ledger = Project(root).ledger
    ledger.append(lambda _: [Removed(RunRef(ref), "a mistake")])
    ledger.close()


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tracker", *map(str, arguments)]


def read_all(fd: int) -> bytes:
    """Read a terminal until its last process has let go, which Linux tells as EIO."""
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)
