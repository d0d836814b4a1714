"""A store as it was at a time: the events up to then, folded and put into an index in memory.

The clock of the events decides, so every copy of a tree tells the same. What nobody recorded is not told: a
run whose process had been killed by then is `running` until somebody recorded that it was lost.

Spec: spec/log.md section 6; spec/events.md section 3; docs/queries.md section 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tracker._model.event import Opened, RunEvent
from tracker._model.fold import History, Run, Stamp, State, run_of
from tracker._store.index import Filter, Index
from tracker._store.objects import get_object
from tracker._store.relation import Relation
from tracker.ledger import Ledger
from tracker.runs.rows import RecordedRuns, select_runs
from tracker.terms import Digest, RunRef, WriterId

_Answer = TypeVar("_Answer")

_CHUNK_RUNS = 20_000


def history_at(history: History, until_ms: int) -> History:
    """The events of a history whose clock is at or before `until_ms`, Unix milliseconds."""
    return {stamp: event for stamp, event in history.items() if stamp[0] >> 16 <= until_ms}


class Past:
    """A store as it was. It is folded at the first question, and again when the store has changed."""

    def __init__(self, ledger: Ledger, until_ms: int) -> None:
        self._ledger = ledger
        self._until_ms = until_ms
        self._made: tuple[int, Index, Relation] | None = None

    @property
    def root(self) -> Path:
        """The folder that holds `.tracker`."""
        return self._ledger.root

    def ask(self, question: Callable[[Relation], _Answer]) -> _Answer:
        """The answer of the relation as it was. Cost: 40 µs a run, the first time."""
        with self._ledger.lock:
            generation = self._ledger.refresh()
            if self._made is None or self._made[0] != generation:
                self._made = (self._ledger.lookup.generation, *self._fold())
            return question(self._made[2])

    def run(self, ref: RunRef) -> Run | None:
        """All that was known of a run. Cost: 20 µs."""
        with self._ledger.lock:
            self._ledger.refresh()
            found = self._ledger.lookup.history(ref)
        history = {} if found is None else history_at(found[0], self._until_ms)
        return run_of(ref, history, unproven=found[1]) if found is not None and history else None

    def opened_by(self, writer: WriterId) -> Opened | None:
        """Who a writer is."""
        with self._ledger.lock:
            return self._ledger.lookup.opened_by(writer)

    def object(self, name: Digest) -> bytes:
        """The bytes kept under a digest. Raises: NotFoundError, DamagedError."""
        return get_object(self._ledger.lookup.store_fd, name)

    def events(self, wanted: Filter) -> list[tuple[Stamp, RunEvent]]:
        """The events of the runs that match now, up to the time, in order."""
        return [entry for entry in self._ledger.events(wanted) if entry[0][0] >> 16 <= self._until_ms]

    def _fold(self) -> tuple[Index, Relation]:
        index = Index(None)
        with index.transaction():
            index.begin_bulk()
            for state in self._iter_states():
                index.absorb(state, 0)
            index.end_bulk()
        relation = Relation(index.connection)
        relation.set_live(())
        for (writer,) in relation.ask("select distinct by from main.runs where by is not null")[1]:
            opened = self._ledger.lookup.opened_by(writer)
            if opened is not None:
                index.set_writer(writer, opened.host, opened.user)
        return index, relation

    def _iter_states(self) -> Iterator[State]:
        state = State()
        for ref, history, _ in self._ledger.lookup.histories(Filter(removed=None)):
            part = history_at(history, self._until_ms)
            if part:
                state.runs[ref] = part
            if len(state.runs) >= _CHUNK_RUNS:
                yield state
                state = State()
        yield state


class PastProject:
    """A namespace as it was at a time; it only tells. Get it from `Project.at`."""

    def __init__(self, ledger: Ledger, relpath: str, until_ms: int) -> None:
        self._relpath = relpath
        self._past = Past(ledger, until_ms)
        self.until_ms = until_ms

    def runs(
        self,
        where: str | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        removed: bool = False,
    ) -> RecordedRuns:
        """The runs that matched a query then, as records. Removed ones are those that were removed then.

        Raises: QueryError.
        """
        selection = select_runs(where, relpath=self._relpath, sort=sort, limit=limit, removed=removed)
        return RecordedRuns(self._past, selection)
