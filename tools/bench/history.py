"""A long history in tracker's own format, made by the package's log writer and read by its reader.

Below the front door, since no user writes a million events in one go: what it uses is the plumbing that every
session and look-up goes through.
"""

from __future__ import annotations

import gc
import itertools
import os
from pathlib import Path

from tools.bench.workload import EVENTS_PER_RUN, OUTPUT_NAME, Figures, config, timed
from tracker._codec.canonical import canonical
from tracker._codec.digest import uid_of
from tracker._disk.host import new_writer_id, now_ms, this_process
from tracker._model.event import Created, Done, File, Started
from tracker._model.fold import State, absorb, attempt_id, run_of
from tracker._model.names import file_path, run_ref
from tracker._store.journal import Journal
from tracker._store.segments import iter_events, list_segments, read_chosen
from tracker.terms import StorageMode

IDENTIFIER = "train"
DIGEST = bytes(range(32))


def make(root: str, count: int) -> Figures:
    """Write a store of `count` events or just below, sealed; the answer is how many."""
    store = Path(root, ".tracker")
    ledger = store / "ledger"
    ledger.mkdir(parents=True)
    (store / "FORMAT").write_text("tracker 1\n")

    def work() -> int:
        ledger_fd = os.open(ledger, os.O_RDONLY | os.O_DIRECTORY)
        ticks = itertools.count(now_ms() << 16)
        writer = new_writer_id(now_ms(), os.urandom(10))
        journal = Journal(ledger_fd, writer, this_process(), "bench", lambda: next(ticks))
        runs = count // EVENTS_PER_RUN
        for number in range(runs):
            _record(journal, number)
        journal.seal()
        journal.close()
        os.close(ledger_fd)
        return runs * EVENTS_PER_RUN

    return timed(work)


def _record(journal: Journal, number: int) -> None:
    """Append what one run records from start to done."""
    text = canonical(config(number))
    uid = uid_of(text)
    run = run_ref("", IDENTIFIER, uid)
    time_ms = now_ms()
    mode = StorageMode.SUBFOLDER
    created = Created(run, text.decode(), uid, mode)
    begun = journal.append(lambda seq: [created, Started(run, time_ms, [], 0, mode, None)])
    attempt = attempt_id(journal.writer, begun.seq)
    path = file_path("", IDENTIFIER, uid, mode, OUTPUT_NAME, include_identifier=True)
    journal.append(lambda seq: [Done(run, attempt, time_ms, [File(OUTPUT_NAME, path, 200, DIGEST, False)])])


def replay(root: str, verify: bool) -> Figures:
    """Read a store's events into the histories of its runs; the answer is how many runs there are.

    The garbage collector is off, as it finds nothing among events and looks through all of them.
    """
    return timed(lambda: len(_read(root, verify=verify).runs))


def replay_and_fold(root: str) -> Figures:
    """Read a store's events, verified, and fold each run; the answer is how many are done."""

    def work() -> int:
        runs = _read(root, verify=True).runs
        return sum(run_of(ref, history).status == "done" for ref, history in runs.items())

    return timed(work)


def _read(root: str, *, verify: bool) -> State:
    gc.disable()
    state = State()
    ledger_fd = os.open(Path(root, ".tracker", "ledger"), os.O_RDONLY | os.O_DIRECTORY)
    for segment in read_chosen(ledger_fd, list_segments(ledger_fd), verify=verify):
        writer = segment.place.name.writer
        for frame, events, fork, proven in iter_events(segment):
            absorb(state, events, frame.clock, writer, frame.seq, fork=fork, proven=proven)
    os.close(ledger_fd)
    return state
