"""claims: workers on several hosts over one list of runs; some are killed, some stopped for a lease or two.

Every worker wants all runs done and executes what it can claim. Some are on "other hosts": who they are is
replaced, so that nobody can look at their processes and their leases alone count. They log each execution
outside the store (`executions`). The judges: the reference, that log, and `verify`.

Spec: spec/claims.md sections 6 and 7.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from tools.storm import executions, judge
from tools.storm.tally import Tally
from tools.storm.ward import Acks, BrokenError, begin, read_acks, use_cache
from tracker import Durability, Project, Session, StorageError, TrackerWarning, claiming, uid
from tracker._disk import durable, host
from tracker._model import claim

LEASE_S = 1.5
RENEW_S = 0.3
RUNS_A_STORE = 2_000
HOSTS = ("here", "here", "north", "north", "south")
TROUBLE_S = 6.0
KILL_EVERY_S = 0.08
PAUSES = 0.25
LONG_RUN = 0.05
LONG_RUN_S = 0.02
NAP_S = 0.01


class Kind(NamedTuple):
    """What the file system of a store can do."""

    has_links: bool = True
    is_network: bool = False


KINDS = (Kind(), Kind(), Kind(has_links=False), Kind(is_network=True))


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Have `count` claims taken, in as many stores as that needs."""
    tally = Tally("claims", seed)
    luck = random.Random(seed)
    began = time.monotonic()
    number = 0
    while tally.cases < count:
        kind = KINDS[number % len(KINDS)]
        store = Store(folder / f"store-{number}", luck, kind, min(RUNS_A_STORE, count - tally.cases))
        store.work()
        store.hold(tally)
        number += 1
    tally.add("stores", number)
    tally.figures["claims/s"] = round(tally.cases / (time.monotonic() - began))
    return tally


class Store:
    """One store, its workers and what is done to them."""

    def __init__(self, folder: Path, luck: random.Random, kind: Kind, runs: int) -> None:
        folder.mkdir()
        self.root, self.cache, self.log = folder / "root", folder / "cache", folder / "log"
        self.luck, self.kind, self.runs = luck, kind, runs
        self.acks = Acks(self.log)
        self.living: dict[str, tuple[ForkProcess, str]] = {}
        self.paused: dict[str, tuple[float, float]] = {}
        self.count = 0
        self.failures: list[str] = []

    def work(self) -> None:
        """Let the workers work until all runs are done; for the first seconds, make trouble."""
        for where in HOSTS:
            self._send(where)
        began = time.monotonic()
        while self.living:
            time.sleep(self.luck.random() * 2 * KILL_EVERY_S)
            self._wake(time.monotonic())
            self._bury()
            if self.living and time.monotonic() - began < TROUBLE_S:
                self._trouble(self.luck.choice(sorted(self.living)))

    def _send(self, where: str) -> None:
        name = f"{self.count}"
        self.count += 1
        process = begin(_work, self.root, self.cache, self.log, name, where, self.kind, self.runs)
        self.living[name] = process, where

    def _trouble(self, name: str) -> None:
        """Kill a worker and send another, or stop one for about a lease or two."""
        process, where = self.living[name]
        if name in self.paused and self.luck.random() < 0.9:
            return
        if name not in self.paused and self.luck.random() < PAUSES:
            now = time.monotonic()
            self.paused[name] = now, now + LEASE_S * self.luck.uniform(0.3, 2.5)
            os.kill(process.pid or 0, signal.SIGSTOP)
            return
        self.acks.say("kill", worker=name, at=time.monotonic())
        process.kill()
        process.join()
        del self.living[name]
        self._note_pause(name)
        self._send(where)

    def _wake(self, now: float) -> None:
        for name in [name for name, (_, until) in self.paused.items() if until <= now]:
            self._note_pause(name)
            os.kill(self.living[name][0].pid or 0, signal.SIGCONT)

    def _note_pause(self, name: str) -> None:
        if name in self.paused:
            since, _ = self.paused.pop(name)
            self.acks.say("pause", worker=name, at=since, to=time.monotonic())

    def _bury(self) -> None:
        for name, (process, _) in list(self.living.items()):
            if not process.is_alive():
                del self.living[name]
                if process.exitcode:
                    self.failures.append(f"worker {name} ended with {process.exitcode}")

    def hold(self, tally: Tally) -> None:
        """Hold the log against the reference, and the store against both."""
        log = executions.read_log(read_acks(self.log))
        state = judge.reference_state(self.root)
        runs = judge.runs_by_ref(state)
        broken = executions.iter_broken(log, runs, _refs(self.runs), LEASE_S - RENEW_S)
        for failure in [*self.failures, *broken, *self._left(state)]:
            tally.fail(f"{self.root} ({self.kind}): {failure}")
        tally.cases += len(log.executions)
        self._count(tally, log, runs)

    def _left(self, state: judge.State) -> Iterator[str]:
        yield from judge.iter_disagreements(self.root, self.cache, state)
        try:
            code, findings = judge.verified(self.root, self.cache)
        except BrokenError as broken:
            yield str(broken)
            return
        if code not in (0, 3):
            yield f"verify ends with {code}: {findings[:3]}"

    def _count(self, tally: Tally, log: executions.Log, runs: executions.Runs) -> None:
        workers = log.workers.values()
        silent = sum(silence.end - silence.start > LEASE_S for w in workers for silence in w.silences)
        tally.add("runs", len(runs))
        tally.add("kills", sum(worker.killed < float("inf") for worker in workers))
        tally.add("kills within an execution", sum(not one.how for one in log.executions))
        tally.add("silent for longer than a lease", silent)
        tally.add("taken over from a living worker, and told", sum(one.has_lost for one in log.executions))
        tally.add("runs DONE twice", executions.done_twice(runs))
        tally.add("claims given back unused", log.released)
        tally.add("left claims", len([*self.root.glob(".tracker/claims/??/*")]))


def _refs(runs: int) -> set[str]:
    return {f"train/{uid({'n': number})}" for number in range(runs)}


# A worker


def _work(root: Path, cache: Path, log: Path, name: str, where: str, kind: Kind, runs: int) -> None:
    told = Acks(log)
    try:
        use_cache(cache)
        _live_at(where, kind)
        Worker(root, told, name, where).work(runs)
    except BaseException:
        told.say("fail", worker=name, text=traceback.format_exc())
        os._exit(3)


def _live_at(where: str, kind: Kind) -> None:
    """Be a process of this host, on this kind of file system, with a short lease."""
    warnings.simplefilter("ignore", TrackerWarning)  # that a run was lost is asked for
    claiming.LEASE_S, claiming.RENEW_S = LEASE_S, RENEW_S
    claim.LEASE_S = LEASE_S  # of a claim that a kill cut short, where there are no links
    me = host.this_process()
    if where != "here":
        me = replace(me, host=where, boot=f"the boot of {where}")
    host.this_process = lambda: me
    if kind.is_network:
        host.is_network_fs = lambda path: True
    if not kind.has_links:
        durable.link = _refuse_link


def _refuse_link(existing: str, name: str, dir_fd: int) -> bool:
    raise StorageError(errno.EPERM, name, "link", "Operation not permitted", "none")


class Worker:
    """One process that wants every run done."""

    def __init__(self, root: Path, told: Acks, name: str, where: str) -> None:
        self.project = Project(root, durability=Durability.OFF)
        self.told = told
        self.name, self.where = name, where
        self.luck = random.Random(f"{root} {name}")
        self._sign_s = time.monotonic()
        self._listen_to_renewals()

    def work(self, runs: int) -> None:
        """Go over the list until nothing is left."""
        first = self.luck.randrange(50)
        left = [self.project.session("train", params={"n": (first + n) % runs}) for n in range(runs)]
        while left:
            left = [session for session in left if not session.is_done()]
            if not sum(self._try(session) for session in left):
                time.sleep(NAP_S)
        self.project.ledger.close()

    def _try(self, session: Session) -> bool:
        """Execute a run if it can be had."""
        asked = time.monotonic()
        is_claim_first = self.luck.random() < 0.2
        if not (session.claim() if is_claim_first else session.try_start()):
            return False
        if is_claim_first:
            if self.luck.random() < 0.2:
                session.release()
                self.told.say("release", worker=self.name)
                return False
            session.start()
        self._say("begin", session, asked=asked, host=self.where, writer=self.project.ledger.writer)
        self._execute(session)
        return True

    def _execute(self, session: Session) -> None:
        if self.luck.random() < LONG_RUN:
            time.sleep(self.luck.random() * LONG_RUN_S)
        if self.luck.random() < 0.05:
            session.path("out.bin").write_bytes(b"the same from everyone")
        how = self.luck.choices(("done", "error", "interrupted"), (90, 7, 3))[0]
        self._note_silence()
        asked, lost = time.monotonic(), session.lost
        self._say("ending", session, asked=asked, how=how, lost=lost)
        {"done": session.done, "error": session.error, "interrupted": session.interrupt}[how]()
        self._say("end", session, asked=asked, how=how, lost=lost)

    def _say(self, word: str, session: Session, **fields: Any) -> None:
        self.told.say(word, worker=self.name, ref=session.ref, at=time.monotonic(), **fields)

    def _listen_to_renewals(self) -> None:
        renew = claiming.Claims.renew

        def noted(claims: claiming.Claims) -> None:
            began = time.monotonic()
            renew(claims)
            self._note_silence()
            self._sign_s = began

        claiming.Claims.renew = noted  # type: ignore[assignment,method-assign]

    def _note_silence(self) -> None:
        now = time.monotonic()
        if now - self._sign_s > LEASE_S - RENEW_S:
            self.told.say("silent", worker=self.name, at=self._sign_s, to=now)
