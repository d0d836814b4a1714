"""writers: many processes with threads at once on one store; disjoint runs, and the same at one moment.

The judges: every run is there, and done; a run that all did at one moment is one run, with one attempt of
each and one folder; `verify --replay` is clean. And a relay: what one process was told is done, another
that is asked after that knows (0.15 ms later: a False may be 0.1 ms old), while both seal all the time.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tracker._store.journal as journal
import tracker.lookup as lookup
from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import FORK, Acks, BrokenError, begin, read_acks, use_cache
from tracker import Durability, Project

PROCESSES = 4
THREADS = 2
SHARED = 20


def storm(folder: Path, count: int, seed: int, *, durability: str = "off") -> Tally:
    """Have four processes make `count` runs each, then the same runs at one moment, then the relay."""
    tally = Tally("writers", seed)
    root, cache, acks = folder / "root", folder / "cache", folder / "acks"
    shared = max(SHARED, count // 50)
    barrier = FORK.Barrier(PROCESSES)
    began = time.monotonic()
    processes = [
        begin(_told, acks, _write, root, cache, acks, barrier, number, count, shared, durability)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.join()
    elapsed_s = time.monotonic() - began
    lines = read_acks(acks)
    made = sum(line["word"] == "done" for line in lines)
    tally.cases = made
    tally.figures |= {"processes": PROCESSES, "threads in each": THREADS, "runs/s": round(made / elapsed_s)}
    for failure in _judge(root, cache, lines, count, shared):
        tally.fail(failure)
    relay(folder, max(count // 5, 60), tally)
    return tally


def _told(acks: Path, work: Callable[..., object], *args: object) -> None:
    """Work, and say `fail` where that raises."""
    try:
        work(*args)
    except BaseException:
        Acks(acks).say("fail", text=traceback.format_exc())


def _write(
    root: Path, cache: Path, acks: Path, barrier: Any, number: int, count: int, shared: int, durability: str
) -> None:
    use_cache(cache)
    project = Project(root, durability=Durability(durability))
    told = Acks(acks)
    barrier.wait()
    threads = [
        threading.Thread(
            target=_told, args=(acks, _disjoint, project, told, number, range(thread, count, THREADS))
        )
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in range(shared):
        _at_one_moment(project, told, barrier, one)
    project.ledger.close()


def _disjoint(project: Project, told: Acks, number: int, mine: range) -> None:
    for one in mine:
        session = project.session("train", params={"process": number, "n": one}).start()
        session.path("out.bin").write_bytes(b"%d" % one)
        session.done()
        told.say("done", ref=session.ref)


def _at_one_moment(project: Project, told: Acks, barrier: Any, one: int) -> None:
    """All try to begin the same run, one begins it, and nobody goes on before it has."""
    session = project.session("shared", params={"shared": one})
    barrier.wait()
    is_mine = session.try_start()
    barrier.wait()
    if is_mine:
        session.path("out.bin").write_bytes(b"the same")
        session.done()
        told.say("done", ref=session.ref, folder=str(session.folder))


def _judge(root: Path, cache: Path, lines: list[dict[str, Any]], count: int, shared: int) -> Iterator[str]:
    yield from (f"a writer failed: {line['text']}" for line in lines if line["word"] == "fail")
    state = judge.reference_state(root)
    runs = judge.runs_by_ref(state)
    told = [line["ref"] for line in lines if line["word"] == "done"]
    yield from (
        f"{ref} is not done" for ref in sorted(set(told)) if runs.get(ref, {}).get("status") != "done"
    )
    if not len(runs) == len(told) == PROCESSES * count + shared:
        yield f"{len(runs)} runs, {len(told)} returns of done(), not {PROCESSES} times {count} and {shared}"
    yield from _judge_shared([run for run in runs.values() if run["identifier"] == "shared"], lines)
    yield from judge.iter_disagreements(root, cache, state)
    try:
        code, findings = judge.verified(root, cache)
    except BrokenError as broken:
        yield str(broken)
    else:
        if code:
            yield f"verify --replay ends with {code}: {findings[:3]}"


def _judge_shared(runs: list[judge.Run], lines: list[dict[str, Any]]) -> Iterator[str]:
    for run in runs:
        statuses = [attempt["status"] for attempt in run["attempts"]]
        if statuses != ["done"]:
            yield f"{run['ref']}: its attempts are {statuses}, where one worker was to run it once"
        folders = {line["folder"] for line in lines if line["word"] == "done" and line["ref"] == run["ref"]}
        if len(folders) != 1:
            yield f"{run['ref']}: its folder is {sorted(folders)}"


def relay(folder: Path, count: int, tally: Tally) -> None:
    """Two processes do runs in turn; each asks for the other's as soon as it was told of it."""
    root, cache, acks = folder / "relay", folder / "relay-cache", folder / "relay-acks"
    here, there = FORK.Pipe()
    processes = [
        begin(_told, acks, _ask_and_do, root, cache, acks, end, count, number)
        for number, end in enumerate((here, there))
    ]
    here.close()
    there.close()
    for process in processes:
        process.join()
    lines = read_acks(acks)
    seen = sum(line["word"] == "seen" for line in lines)
    missed = [line["ref"] for line in lines if line["word"] == "missed"]
    tally.cases += seen + len(missed)
    tally.figures |= {"relay: asked": seen + len(missed), "relay: missed": len(missed)}
    for ref in missed:
        tally.fail(f"relay: {ref} was done before another process asked, and has() was False")
    for line in lines:
        if line["word"] == "fail":
            tally.fail(f"relay: {line['text']}")
    if not seen:
        tally.fail("relay: nothing was asked")


def _ask_and_do(root: Path, cache: Path, acks: Path, other: Connection, count: int, number: int) -> None:
    """Seal at every second done(), so that the other's look falls on journals that come and go."""
    use_cache(cache)
    journal.SEGMENT_BYTES = 4_000
    project = Project(root, durability=Durability.OFF)
    told = Acks(acks)
    stop = threading.Event()
    sealing = threading.Thread(target=_keep_sealing, args=(project, stop))
    sealing.start()
    try:
        for one in range(count):
            if number == one % 2:
                session = project.session("relay", params={"n": one}).start().done()
                other.send(session.ref)
                continue
            if not other.poll(60):
                raise TimeoutError("the other process says nothing")
            ref = other.recv()
            time.sleep(1.5 * lookup.MISS_AGE_S)
            told.say("seen" if project.has("relay", {"n": one}) else "missed", ref=ref)
    finally:
        stop.set()
        sealing.join()
        project.ledger.close()


def _keep_sealing(project: Project, stop: threading.Event) -> None:
    while not stop.wait(0.0005):
        project.ledger.seal()
