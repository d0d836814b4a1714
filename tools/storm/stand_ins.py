"""Processes and hosts that are none: ledgers of one process, each of which answers for another one.

So that a schedule of many writers, deaths and copies costs no process. What the package asks of
`tracker._disk.host` is answered here.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import msgspec

from tracker import Durability, Project, Session
from tracker._disk import host
from tracker.ledger import Ledger


class World:
    """Which process of which host acts, and which processes live: what `tracker._disk.host` is asked."""

    def __init__(self) -> None:
        self.acting = ("nowhere", 1)
        self.alive: set[int] = set()
        self._pids = itertools.count(1000)
        self._real = host._process(os.getpid())
        host.this_process = self.this_process
        host.is_dead = self.is_dead  # type: ignore[assignment]

    def begin_process(self) -> int:
        """A pid that no process had."""
        pid = next(self._pids)
        self.alive.add(pid)
        return pid

    def this_process(self) -> host.Host:
        """Who acts."""
        name, pid = self.acting
        return msgspec.structs.replace(
            self._real, host=name, boot=f"boot-{name}", pidns=1, pid=pid, pid_start=pid
        )

    def is_dead(self, owner: host.Process, me: host.Process) -> bool | None:
        """Proof on one host, silence between two."""
        return owner.pid not in self.alive if owner.boot == me.boot else None


class Writer:
    """One process, as far as the package can tell: a ledger of its own, on its host."""

    def __init__(self, world: World, tree: Path) -> None:
        self.tree = tree
        self.project = Project(tree, durability=Durability.OFF)
        self.project._ledger = Ledger(tree)
        self.ledger = self.project.ledger
        self.world = world
        self.pid = world.begin_process()
        self.running: list[Session] = []
        self._seen = 0

    def at_work(self) -> None:
        """From here on this process acts."""
        self.world.acting = (self.tree.name, self.pid)

    def has_sealed(self) -> bool:
        """True if all that was recorded is sealed, and was not at the last question."""
        journal = self.ledger._journal
        if journal is None or len(journal.sealed) == self._seen:
            return False
        self._seen = len(journal.sealed)
        return journal.is_empty

    def end(self) -> None:
        """End as a process that closes."""
        self.at_work()
        self.ledger.close()
        self.world.alive.discard(self.pid)

    def die(self) -> None:
        """End as by SIGKILL: nothing is sealed, nothing given back."""
        if self.ledger._watch is not None:
            self.ledger._watch.tell("stop")
        self.ledger._forget_after_fork()
        self.world.alive.discard(self.pid)
