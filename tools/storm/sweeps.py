"""sweeps: several workers over one list of configs; nothing is run twice, and it ends though they are killed.

First all live: each config is executed once. Then one of them is killed at every moment, and replaced: every
config ends DONE, with one attempt that is; what was begun twice was begun by one who was killed.

The judge is a log outside the store, one line an execution, and the reference.
"""

from __future__ import annotations

import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path

from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import Acks, begin, kill, read_acks, use_cache
from tracker import Durability, Project
from tracker.grids import grid
from tracker.sweep import Sweep

WORKERS = 4
SHORT_S = 0.002
LONG_S = 0.04
KILL_EVERY_S = 1.0
PATIENCE_S = 600.0


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Go through `count` configs with four workers that live, and through twice as many with some killed."""
    tally = Tally("sweeps", seed)
    for part in ("living", "killed"):
        (folder / part).mkdir()
    living(folder / "living", count, tally)
    killed(folder / "killed", 2 * count, min(KILL_EVERY_S, count / 200), random.Random(seed), tally)
    return tally


def living(folder: Path, count: int, tally: Tally) -> None:
    """Workers that nobody kills: once each."""
    began = time.monotonic()
    workers = [_begin(folder, count, SHORT_S) for _ in range(WORKERS)]
    for worker in workers:
        worker.join(PATIENCE_S)
        tally.expect(worker.exitcode == 0, f"a worker ended with {worker.exitcode}")
    elapsed_s = time.monotonic() - began
    times = Counter(line["n"] for line in read_acks(folder / "log") if line["word"] == "begin")
    shares = Counter(line["pid"] for line in read_acks(folder / "log") if line["word"] == "begin").values()
    tally.cases += count
    tally.figures |= {
        f"living: configs of {1000 * SHORT_S:.0f} ms": count,
        "living: executed twice": sum(number > 1 for number in times.values()),
        "living: runs/s": round(count / elapsed_s),
        "living: least and most by one worker": f"{min(shares, default=0)}, {max(shares, default=0)}",
    }
    for n in range(count):
        tally.expect(times[n] == 1, f"living: config {n} was executed {times[n]} times")
    _judge(folder, count, tally)


def killed(folder: Path, count: int, every_s: float, luck: random.Random, tally: Tally) -> None:
    """Workers of which one is killed ever and again, and replaced, until one finds nothing left to do."""
    began = time.monotonic()
    workers = [_begin(folder, count, LONG_S) for _ in range(WORKERS)]
    kills = 0
    while all(worker.exitcode is None for worker in workers) and time.monotonic() < began + PATIENCE_S:
        time.sleep(every_s)
        place = luck.randrange(WORKERS)
        kills += kill(workers[place])
        workers[place] = _begin(folder, count, LONG_S)
    for worker in workers:
        worker.join(PATIENCE_S)
        tally.expect(worker.exitcode == 0, f"killed: a worker ended with {worker.exitcode}")
        worker.kill()
    lines = read_acks(folder / "log")
    begun = sum(line["word"] == "begin" for line in lines)
    tally.cases += count
    tally.figures |= {
        f"killed: configs of {1000 * LONG_S:.0f} ms": count,
        "killed: kills": kills,
        "killed: begun again after a kill": begun - count,
        "killed: seconds": round(time.monotonic() - began, 1),
    }
    tally.expect(kills > 0, "killed: nobody was killed")
    tally.expect(begun - count <= kills, f"killed: {begun} executions of {count} configs with {kills} kills")
    _judge(folder, count, tally)


def _judge(folder: Path, count: int, tally: Tally) -> None:
    """Every config is DONE, once, and nobody began it after that."""
    root = folder / "root"
    state = judge.reference_state(root)
    attempts = [run["attempts"] for run in state["runs"]]
    done = [sum(attempt["status"] == "done" for attempt in of_run) for of_run in attempts]
    tally.figures[f"{folder.name}: DONE twice"] = sum(number > 1 for number in done)
    tally.expect(len(state["runs"]) == count, f"{folder.name}: {len(state['runs'])} runs of {count} configs")
    for run, number in zip(state["runs"], done, strict=True):
        if run["status"] != "done" or number != 1:
            tally.fail(f"{folder.name}: {run['ref']} is {run['status']}, with {number} attempts DONE")
        numbers = [attempt["claim"] for attempt in run["attempts"]]
        tally.expect(numbers == sorted(set(numbers)), f"{folder.name}: {run['ref']} has claims {numbers}")
    for failure in (*_begun_after_the_end(folder), *judge.iter_disagreements(root, folder / "cache", state)):
        tally.fail(f"{folder.name}: {failure}")


def _begun_after_the_end(folder: Path) -> Iterator[str]:
    ended = set()
    for line in read_acks(folder / "log"):
        if line["word"] == "fail":
            yield f"a worker failed: {line['text']}"
        elif line["word"] == "end":
            ended.add(line["n"])
        elif line["n"] in ended:
            yield f"config {line['n']} was begun again though it was done"


def _begin(folder: Path, count: int, work_s: float) -> ForkProcess:
    return begin(_go_through, folder, count, work_s)


def _go_through(folder: Path, count: int, work_s: float) -> None:
    """One worker: until nothing is left, each execution and each end a line outside the store."""
    use_cache(folder / "cache")
    log = Acks(folder / "log")
    try:
        project = Project(folder / "root", durability=Durability.OFF)
        session_of = partial(project.session, "train")
        for session in Sweep(session_of, grid(n=range(count)), wait=True):
            n = session.params["n"]
            with session:
                log.say("begin", n=n, pid=os.getpid())
                time.sleep(work_s)
            log.say("end", n=n)
        project.ledger.close()
    except BaseException:
        log.say("fail", text=traceback.format_exc())
        raise
