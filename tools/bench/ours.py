"""Tracker under the same workload, and the questions asked of its stores.

The package is imported where a process uses it, at the top, so CPU from process start holds it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

from tools.bench.workload import OUTPUT_NAME, Config, Figures, ask_all, config, create_runs, timed
from tracker import Durability, Project, Session, Status
from tracker.ledger import Ledger

IDENTIFIER = "train"


class Starts(Protocol):
    """What begins runs and ends them."""

    def start(self, params: Config) -> Session: ...
    def done(self, run: Session) -> None: ...


class Tracker:
    """A project as the workload's four verbs, without provenance, which is measured for itself."""

    def __init__(self, root: Path, durability: str) -> None:
        self._project = Project(root, durability=Durability(durability), provenance=False)

    def start(self, params: Config) -> Session:
        return self._project.session(IDENTIFIER, params=params).start()

    def file(self, run: Session) -> Path:
        return run.path(OUTPUT_NAME)

    def done(self, run: Session) -> None:
        run.done()

    def close(self) -> None:
        """Seal, as the exit of a user's script does: what is put off until then is measured too."""
        self._project.ledger.close()


def create(how: str, root: str, first: int, count: int, write_file: bool) -> Figures:
    """W1: create `count` finished runs; `how` is a durability, and `unclaimed` behind it where that is so."""
    durability, _, claims = how.partition(" ")

    def work() -> int:
        store = Tracker(Path(root), durability)
        created = create_runs(store, range(first, first + count), write_file=write_file)
        store.close()
        return created

    with no_claims() if claims == "unclaimed" else nullcontext():
        return timed(work)


def claim_cost(root: str, blocks: int, count: int) -> dict[str, list[float]]:
    """CPU seconds of blocks of `count` runs, started and done, in turn with claims and without any."""
    store = Tracker(Path(root), "off")
    create_runs(store, range(count), write_file=False)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for block in range(1, 2 * blocks + 1):
        how = "with" if block % 2 else "without"
        numbers = range(block * count, (block + 1) * count)
        with nullcontext() if how == "with" else no_claims():
            figures = timed(partial(started_and_done, store, numbers))
        seconds[how].append(figures["cpu_s"])
    store.close()
    return seconds


def started_and_done(store: Starts, numbers: range) -> int:
    """Runs without a file: what a claim adds is seen best."""
    for number in numbers:
        store.done(store.start(config(number)))
    return len(numbers)


@contextmanager
def no_claims() -> Iterator[None]:
    """Have runs begin without a claim, to learn what claims cost."""
    take, Ledger.take_claim = Ledger.take_claim, lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ledger.take_claim = take  # type: ignore[method-assign]


def scan(root: str, count: int) -> Figures:
    """W2: ask `has` for each of `count` configs; the answer is how many were asked and are."""

    def work() -> tuple[int, int]:
        project = Project(root)
        return ask_all(lambda number: project.has(IDENTIFIER, config(number)), count)

    return timed(work)


def scan_sessions(root: str, count: int) -> Figures:
    """W2 as the grid-search loop writes it: a session for each config, then `is_done`."""

    def work() -> tuple[int, int]:
        project = Project(root)
        return ask_all(lambda number: project.session(IDENTIFIER, params=config(number)).is_done(), count)

    return timed(work)


def look_up(root: str, number: int) -> Figures:
    """W3: is this config done, and where is its file?"""

    def work() -> str | None:
        session = Project(root).session(IDENTIFIER, params=config(number))
        return str(session.files[OUTPUT_NAME]) if session.is_done() else None

    return timed(work)


def is_done(root: str, number: int) -> Figures:
    """Ask one question of a store; in one that no index knows, the first answer reads all of it."""
    return timed(lambda: Project(root).has(IDENTIFIER, config(number)))


def select(root: str, query: str) -> Figures:
    """W4: the uids of the runs that match; the answer is how many there are."""
    return timed(lambda: len([row.uid for row in Project(root).runs(query).iter_rows()]))


def count(root: str, query: str | None) -> Figures:
    """How many runs match."""
    return timed(lambda: len(Project(root).runs(query)))


def groups(root: str, key: str) -> Figures:
    """How many runs share each value of a field."""
    return timed(lambda: Project(root).runs().group_by(key).count().rows)


def frame(root: str) -> Figures:
    """W5: everything as a DataFrame; pandas is imported before the clock starts."""
    import pandas  # noqa: F401

    return timed(lambda: Project(root).runs().to_pandas().shape)


def write_and_tell(root: str, durability: str) -> None:
    """W10: create runs until killed; say `started UID` and `done UID` after each call has returned.

    The lines go to standard output, which is outside the store: what was said there is acknowledged.
    """
    store = Tracker(Path(root), durability)
    for number in range(1_000_000):
        run = store.start(config(number))
        tell("started", run)
        store.file(run).write_bytes(b"half")
        store.done(run)
        tell("done", run)


def tell(word: str, run: Session) -> None:
    """Acknowledge in one write, so that a kill leaves whole lines or none."""
    os.write(sys.stdout.fileno(), f"{word} {run.uid}\n".encode())


def reopen(root: str) -> dict[str, dict[str, str]]:
    """W10: open a store whose writer was killed, record one more run in it, and list what it knows."""
    project = Project(root, durability=Durability.OFF)
    found = {str(run.uid): str(run.status) for run in project.find(identifier=IDENTIFIER)}
    extra = project.session("after", params={"reopened": True}).start().done()
    reread = project.get("after", params={"reopened": True})
    assert reread.status is Status.DONE, f"run {extra.uid} is {reread.status} after reopening"
    return {"runs": found}
