"""Whom a collection asks: a store as it is now, or (in `past`) as it was.

Knows how the relation is had and kept fit; what is asked of it is told above.

Spec: docs/queries.md; spec/layout.md section 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from tracker._model.event import Opened
from tracker._model.fold import Run
from tracker._store.objects import get_object
from tracker._store.relation import Relation
from tracker.ledger import Ledger
from tracker.liveness import as_seen
from tracker.seen import relation_of
from tracker.terms import Digest, RunRef, WriterId

_Answer = TypeVar("_Answer")


class Source(Protocol):
    """The runs of one root, now or at a time."""

    @property
    def root(self) -> Path:
        """The folder that holds `.tracker`."""

    def ask(self, question: Callable[[Relation], _Answer]) -> _Answer:
        """The answer of the relation `seen`. It must be whole when the question returns."""

    def run(self, ref: RunRef) -> Run | None:
        """All that is known of a run."""

    def opened_by(self, writer: WriterId) -> Opened | None:
        """Who a writer is."""

    def object(self, name: Digest) -> bytes:
        """The bytes kept under a digest. Raises: NotFoundError, DamagedError."""


class Present:
    """A store as it is at each question."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def root(self) -> Path:
        """The folder that holds `.tracker`."""
        return self._ledger.root

    def ask(self, question: Callable[[Relation], _Answer]) -> _Answer:
        """The answer of the relation as it is now; an index that cannot give it is made anew, once."""
        with self._ledger.lock:
            try:
                return question(relation_of(self._ledger))
            except sqlite3.Error:
                self._ledger.lookup.drop_index()
                return question(relation_of(self._ledger))

    def run(self, ref: RunRef) -> Run | None:
        """All that is known of a run, LOST told from RUNNING. Cost: 20 µs, of a running one 70."""
        run = self._ledger.run(ref)
        return None if run is None else as_seen(self._ledger, run)

    def opened_by(self, writer: WriterId) -> Opened | None:
        """Who a writer is. Cost: one file read, the first time."""
        with self._ledger.lock:
            return self._ledger.lookup.opened_by(writer)

    def object(self, name: Digest) -> bytes:
        """The bytes kept under a digest. Raises: NotFoundError, DamagedError. Cost: one file read."""
        return get_object(self._ledger.lookup.store_fd, name)
