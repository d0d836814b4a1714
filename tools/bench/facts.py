"""What provenance costs in one process: its first start, later runs, and what it leaves on disk."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import msgspec

from tools.bench.ours import IDENTIFIER, started_and_done
from tools.bench.workload import config, timed
from tracker import Durability, Project, Session
from tracker._model.event import Captured, encode_events
from tracker.provenance.capture import begin


class Store:
    """A project with or without provenance, as the workload's verbs."""

    def __init__(self, root: str, *, provenance: bool) -> None:
        self._project = Project(root, durability=Durability.OFF, provenance=provenance)

    def start(self, params: dict[str, object]) -> Session:
        return self._project.session(IDENTIFIER, params=params).start()

    def done(self, run: Session) -> None:
        run.done()

    def close(self) -> None:
        self._project.ledger.close()


def blocks(root: str, blocks: int, count: int) -> dict[str, list[float]]:
    """CPU seconds of blocks of `count` runs in turn, with and without facts, once the facts are known."""
    stores = {how: Store(f"{root}-{how}", provenance=how == "with") for how in ("with", "without")}
    begin().wait(60)
    seconds: dict[str, list[float]] = {how: [] for how in stores}
    for block in range(blocks + 1):
        for how, store in stores.items():
            numbers = range(block * count, (block + 1) * count)
            seconds[how].append(timed(partial(started_and_done, store, numbers))["cpu_s"])
    for store in stores.values():
        store.close()
    return {how: taken[1:] for how, taken in seconds.items()}


def first_start(root: str, provenance: bool) -> dict[str, float]:
    """Wall and CPU seconds of the main thread in the first start of a process."""
    store = Store(root, provenance=provenance)
    cpu_s, wall_s = time.thread_time(), time.perf_counter()
    run = store.start(config(0))
    taken = {"cpu_s": time.thread_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
    store.done(run)
    store.close()
    return taken


def left_on_disk(root: str, repository: str, count: int) -> dict[str, float]:
    """What `count` runs of one process leave: objects and their bytes, bytes of facts beside them."""
    os.chdir(repository)
    store = Store(root, provenance=True)
    begin().wait(60)
    started_and_done(store, range(count))
    store.close()
    objects = [path for path in Path(root, ".tracker", "objects").rglob("*") if path.is_file()]
    (one, *_) = Project(root).find(IDENTIFIER)
    run = one.run
    assert run is not None and run.attempt is not None, "a run of the store has an attempt"
    event = encode_events([Captured(run.ref, run.attempt.id, run.attempt.facts)])
    return {
        "objects": len(objects),
        "object_bytes": sum(os.path.getsize(path) for path in objects),
        "event_bytes": len(event),
        "manifest_bytes": len(msgspec.json.encode({"facts": run.attempt.facts})),
    }
