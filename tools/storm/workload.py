"""What the writers of a storm do: runs of every shape through the front door, each step acknowledged.

A line `done`, `error` or `interrupted` is written when the call has returned, so from there on the run is so
whatever happens; `start` when the run is begun; `folder` before anything, with what may be found half-made.
"""

from __future__ import annotations

import os
import random
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tracker._store.journal as journal
import tracker.ledger as ledger
from tools.storm.ward import Acks, use_cache
from tracker import Durability, ExistingRun, Project, Session, StorageMode

SIZES = (0, 1, 700, 5_000, 70_000)


class Pace(NamedTuple):
    """How often a writer seals and how large its segments grow; the package's own figures, or small ones."""

    durability: str = "full"
    seal_again_s: float = ledger.SEAL_AGAIN_S
    segment_bytes: int = journal.SEGMENT_BYTES


PACES = (
    Pace("full"),
    Pace("ledger"),
    Pace("off"),
    Pace("full", seal_again_s=0.0),
    Pace("ledger", seal_again_s=0.002, segment_bytes=2_000),
    Pace("off", seal_again_s=0.0),
    Pace("off", segment_bytes=1_500),
    Pace("off", seal_again_s=0.003, segment_bytes=4_000),
)


class Writer:
    """One thread's stream of runs."""

    def __init__(self, root: Path, cache: Path, acks: Path, name: str, pace: Pace = PACES[0]) -> None:
        use_cache(cache)
        ledger.SEAL_AGAIN_S = pace.seal_again_s
        journal.SEGMENT_BYTES = pace.segment_bytes
        self.root = root
        self.project = Project(root, durability=Durability(pace.durability))
        self.acks = Acks(acks)
        self.name = name
        self.luck = random.Random(name)
        self.count = 0

    def write(self, count: int | None = None) -> None:
        """Record runs of random shapes, for ever if no count is given; say `fail` if one raises."""
        try:
            while count is None or self.count < count:
                self.count += 1
                self.luck.choice(SHAPES)(self)
        except BaseException:
            self.acks.say("fail", text=traceback.format_exc())
            os._exit(3)

    def params(self) -> dict[str, Any]:
        """Params that no other run has."""
        return {
            "writer": self.name,
            "n": self.count,
            "lr": self.luck.random(),
            "model": {"name": "mlp", "width": [64, 1]},
        }

    def session(self, identifier: str = "train", **options: Any) -> Session:
        """A session on a fresh run in one of two namespaces; its ref is noted first."""
        place = self.luck.choice((self.project, self.project, self.project.sub("grid/a")))
        options.setdefault("params", self.params())
        session = place.session(identifier, **options)
        self.acks.say("folder", ref=session.ref)
        return session

    def say(self, word: str, session: Session) -> None:
        """Acknowledge what has been returned."""
        self.acks.say(word, ref=session.ref, params=session.params, key=session.key)

    def fill(self, session: Session, name: str) -> None:
        """Write a file of the run."""
        session.path(name).write_bytes(self.luck.randbytes(self.luck.choice(SIZES)))


def plain(w: Writer) -> None:
    session = w.session().start()
    w.say("start", session)
    w.fill(session, "model.bin")
    session.done()
    w.say("done", session)


def without_start(w: Writer) -> None:
    session = w.session("search")
    session.done()
    w.say("done", session)


def with_folders(w: Writer) -> None:
    with w.session() as session:
        w.say("start", session)
        w.fill(session, "fold/0/out.bin")
        w.fill(session, "fold/1/out.bin")
    w.say("done", session)


def beside_others(w: Writer) -> None:
    session = w.session(storage_mode=StorageMode.PREFIX).start()
    w.say("start", session)
    w.fill(session, "ckpt.pt")
    session.done()
    w.say("done", session)


def attached(w: Writer) -> None:
    session = w.session()
    place = w.root / "data" / f"{w.name}-{w.count}.bin"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"input")
    session.attach_files({"input": place})
    w.say("start", session)
    session.done()
    w.say("done", session)


def failed(w: Writer) -> None:
    session = w.session().start()
    w.say("start", session)
    w.fill(session, "partial.bin")
    try:
        raise ArithmeticError(f"run {w.count} of {w.name} diverged")
    except ArithmeticError as error:
        session.error(error)
    w.say("error", session)


def interrupted(w: Writer) -> None:
    session = w.session().start()
    w.say("start", session)
    w.fill(session, "partial.bin")
    session.interrupt("SIGTERM")
    w.say("interrupted", session)


def claimed(w: Writer) -> None:
    """Claim a run, give it back, take it again, as workers of a sweep do; nobody else wants it."""
    session = w.session()
    assert session.claim(), "nobody has this run"
    session.release()
    assert session.try_start(), "nobody has this run still"
    w.say("start", session)
    session.done()
    w.say("done", session)
    assert not session.try_start(), "it is done"


def retried(w: Writer) -> None:
    session = w.session().start()
    w.say("start", session)
    session.error()
    session.start()
    session.done()
    w.say("done", session)


def repeated(w: Writer) -> None:
    params = w.params()
    for _ in range(2):
        session = w.session(params=params, existing_run_strategy=ExistingRun.NEW).start()
        w.say("start", session)
        session.done()
        w.say("done", session)


def only_a_folder(w: Writer) -> None:
    w.fill(w.session(), "scratch.bin")


def asked(w: Writer) -> None:
    """Look around, as a sweep does between two runs."""
    if w.project.has("train", w.params()):
        raise AssertionError("a run that nobody made is done")
    w.project.find("search")


SHAPES: tuple[Callable[[Writer], None], ...] = (
    *(plain, plain, plain, without_start, with_folders, beside_others, attached),
    *(failed, interrupted, claimed, retried, repeated, only_a_folder, asked),
)


def write_in_threads(writers: list[Writer], count: int | None = None) -> None:
    """Have each writer write in a thread of its own."""
    threads = [threading.Thread(target=writer.write, args=(count,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
