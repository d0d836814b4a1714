"""calls: each system call that a promise rests on, refused once or answered by SIGKILL.

A writer makes itself ready and waits; strace attaches and has the Nth call of a kind fail, or kills the
process as it enters it; the writer goes on. What is refused must come as one StorageError that says where
and what to do, and the same step, done again in the same process, must succeed. The judges: what was
acknowledged is there, the store opens, nothing is damaged, and no done() under FULL returned over a file
whose fsync had failed.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import shutil
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import tracker.ledger as ledger
from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import FORK, begin, kill, use_cache
from tracker import Durability, Project, Session, StorageError

PAGE_BYTES = 1 << 16
PATIENCE_S = 60.0
TRIES = 3
NEVER = 65_535
"""The greatest `when` that strace takes."""


class Fault(NamedTuple):
    """What befalls a system call; `call` is a set of them as strace writes it."""

    call: str
    how: str

    def __str__(self) -> str:
        return f"{self.call}:{self.how}"


SYNCS = (Fault("fsync", "error=EIO"), Fault("fdatasync", "error=EIO"))
REFUSALS = (
    *SYNCS,
    Fault("write", "error=ENOSPC"),
    Fault("write", "error=EIO"),
    Fault("openat", "error=ENOSPC"),
    Fault("openat", "error=EMFILE"),
    Fault("/^mkdir", "error=ENOSPC"),
    Fault("/^rename", "error=ENOSPC"),
    Fault("/^unlink", "error=EIO"),
    Fault("/^link", "error=EIO"),
    Fault("/^link", "error=EPERM"),
    Fault("/^utime", "error=EIO"),
    Fault("write", "error=EINTR"),
    Fault("fsync", "error=EINTR"),
    Fault("fdatasync", "error=EINTR"),
    Fault("pwrite64", "error=ENOSPC"),
)
LOOKS = (Fault("close", "error=EIO"), Fault("/stat", "error=EIO"), Fault("getdents64", "error=EIO"))
"""Calls that fail on a broken disk or a file server that is gone, and change nothing."""

DEATHS = tuple(
    Fault(call, "signal=KILL")
    for call in (
        *("write", "fsync", "fdatasync", "/^rename", "/^mkdir", "openat", "/^unlink", "/^link", "/^utime"),
        "close",
    )
)


class Page:
    """Acknowledgements in memory that two processes share: to write one takes no system call."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PAGE_BYTES)
        self._end = 0

    def say(self, word: str, **fields: Any) -> None:
        line = json.dumps({"word": word, **fields}).encode() + b"\n"
        self._memory[self._end : self._end + len(line)] = line
        self._end += len(line)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in bytes(self._memory).rstrip(b"\0").splitlines()]


Step = Callable[[], object]


class Writer:
    """A writer at the moment before a scenario, with the steps that make it."""

    def __init__(self, root: Path, page: Page) -> None:
        self.root = root
        self.page = page
        self.project = Project(root, durability=Durability.FULL, provenance=False)

    def run(self, name: str, *, is_started: bool = True) -> Session:
        """A run that is to be ended, with a file that was written."""
        session = self.project.session("train", params={"name": name})
        if is_started:
            session.start()
            session.path("sub/out.bin").write_bytes(b"bytes of " + name.encode())
        return session

    def done(self, session: Session) -> Step:
        def step() -> None:
            session.done()
            self.page.say("done", ref=session.ref)

        return step


def fresh(w: Writer) -> list[Step]:
    """The first run of a store that is not there yet."""
    session = w.run("first", is_started=False)
    return [
        session.start,
        lambda: session.path("sub/out.bin"),
        lambda: session.attach_files({"me": __file__}),
        w.done(session),
    ]


def journal(w: Writer) -> list[Step]:
    """A done() that syncs the journal."""
    w.done(w.run("before"))()
    return [w.done(w.run("now"))]


def seal(w: Writer) -> list[Step]:
    """A done() that seals, and the run after it."""
    ledger.SEAL_AGAIN_S = 0.0
    w.done(w.run("before"))()
    after = w.run("after", is_started=False)
    return [w.done(w.run("now")), after.start, w.done(after)]


def dead(w: Writer) -> list[Step]:
    """The first run of a process in a store where another died."""
    process = begin(_die, w.root)
    process.join()
    session = w.run("now", is_started=False)
    return [session.start, w.done(session)]


def _die(root: Path) -> None:
    Project(root, durability=Durability.OFF).session("train", params={"name": "dead"}).start().path("x")
    os._exit(0)


def claim(w: Writer) -> list[Step]:
    """A claim that is given back, one that is renewed, and the run that it was taken for."""
    w.done(w.run("before"))()
    session = w.run("now", is_started=False)
    return [
        lambda: _must(session.claim()),
        session.release,
        lambda: _must(session.try_start()),
        w.project.ledger.renew_claims,
        w.done(session),
    ]


def taken_over(w: Writer) -> list[Step]:
    """A run whose holder died."""
    process = begin(_die, w.root)
    process.join()
    session = w.run("dead", is_started=False)
    return [lambda: _must(session.try_start()), w.done(session)]


def _must(could: bool) -> None:
    assert could, "the run is free"


def error(w: Writer) -> list[Step]:
    """An error() with a traceback, which is an object."""
    w.done(w.run("before"))()
    session = w.run("now")

    def step() -> None:
        session.error(ValueError("it diverged"))
        w.page.say("error", ref=session.ref)

    return [step]


def indexed(w: Writer) -> list[Step]:
    """The first run of a process that must read what others sealed into its index."""
    process = begin(_seal_some, w.root)
    process.join()
    session = w.run("now", is_started=False)
    return [lambda: w.project.find("train"), session.start, w.done(session)]


def _seal_some(root: Path) -> None:
    project = Project(root, durability=Durability.OFF)
    for number in range(3):
        project.session("train", params={"sealed": number}).done()
        project.ledger.seal()


SCENARIOS: dict[str, Callable[[Writer], list[Step]]] = {
    "fresh": fresh, "journal": journal, "seal": seal, "dead": dead, "error": error, "indexed": indexed,
    "claim": claim, "taken_over": taken_over,
}  # fmt: skip


class Case(NamedTuple):
    """One fault at one call of one scenario."""

    scenario: str
    fault: Fault
    when: int

    def __str__(self) -> str:
        return f"{self.scenario}, {self.fault}:when={self.when}"


def why_not() -> str:
    """Why this cannot be tried here; "" if it can."""
    if shutil.which("strace") is None:
        return "strace is not here"
    probe = subprocess.run(
        ["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "true"], capture_output=True
    )
    return "strace may not trace here" if probe.returncode else ""


def storm(folder: Path, count: int | None, seed: int, faults: tuple[Fault, ...] = REFUSALS + DEATHS) -> Tally:
    """Try every case there is, or `count` of them taken at random."""
    tally = Tally(f"calls: {', '.join(sorted({fault.call for fault in faults}))}", seed)
    if skipped := why_not():
        tally.figures["skipped"] = skipped
        return tally
    cases = [*_all_cases(folder, faults)]
    tally.figures["cases there are"] = len(cases)
    luck = random.Random(seed)
    chosen = cases if count is None else luck.sample(cases, min(count, len(cases)))
    for case in chosen:
        tried = Trial(folder, case)
        if not tried.is_touched:
            tally.add("calls that did not come again")
            continue
        tally.cases += 1
        tally.add(f"{case.fault}")
        tally.add("steps refused", sum(line["word"] == "refused" for line in tried.lines))
        for failure in tried.iter_failures():
            tally.fail(f"{case}: {failure}")
    return tally


def _all_cases(folder: Path, faults: tuple[Fault, ...]) -> Iterator[Case]:
    """Count the calls of each scenario by one run that nothing befalls."""
    counts: dict[tuple[str, str], int] = {}
    for scenario in SCENARIOS:
        for fault in faults:
            if (scenario, fault.call) not in counts:
                trial = Trial(folder, Case(scenario, Fault(fault.call, "error=EIO"), NEVER))
                assert not trial.is_touched and not [*trial.iter_failures()], (
                    f"{trial.case}: {[*trial.iter_failures()]}"
                )
                counts[scenario, fault.call] = trial.calls
            for when in range(1, counts[scenario, fault.call] + 1):
                yield Case(scenario, fault, when)


class Trial:
    """A case as it went: what was acknowledged, whether the fault came, and the store it left."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.case = case
        self.place = folder / "trial"
        self.root = self.place / "root"
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        page = Page()
        here, there = FORK.Pipe()
        process = begin(_act, case.scenario, self.root, self.place / "cache", page, there)
        there.close()
        log = self.place / "strace"
        try:
            assert here.poll(PATIENCE_S), f"{case}: the writer does not begin"
            here.recv()
            strace = _attach(process.pid, case, log)
            here.send("go")
            process.join(PATIENCE_S)
            self.has_hung = process.is_alive()
        finally:
            kill(process)
        strace.wait()
        self.exitcode = process.exitcode
        self.lines = page.lines()
        self.log = log.read_text(errors="replace")
        self.calls = len(re.findall(r"^(?:\d+ +)?\w+\(", self.log, re.MULTILINE))
        self.is_touched = "INJECTED" in self.log or (self.exitcode == -9 and not self.has_hung)

    def iter_failures(self) -> Iterator[str]:
        """What was not as it is promised."""
        if self.has_hung:
            yield f"the writer hangs: {self.lines[-1:]}"
        words = [line["word"] for line in self.lines]
        is_killed = "KILL" in self.case.fault.how and self.is_touched
        if not is_killed and "fail" not in words and (self.exitcode != 0 or words[-1:] != ["end"]):
            yield f"the writer ended with {self.exitcode} after {self.lines[-2:]}"
        for line in self.lines:
            if line["word"] == "fail":
                yield line["text"]
            if line["word"] == "refused":
                yield from _iter_faults_of_words(line)
        if self._returned_over_a_failed_sync("refused" in words):
            yield "done() returned although the fsync of a run's file failed"
        yield from self._judge_store()

    def _returned_over_a_failed_sync(self, was_refused: bool) -> bool:
        """False for a sync that was interrupted: Python makes the call again, and the bytes are there."""
        if "EINTR" in self.case.fault.how:
            return False
        failed = re.search(r"fsync\(\d+<([^>]*)>.*INJECTED", self.log)
        return bool(failed) and ".tracker" not in failed[1] and not was_refused  # type: ignore[index]

    def _judge_store(self) -> Iterator[str]:
        if not (self.root / ".tracker").is_dir():
            return
        state = judge.reference_state(self.root)
        runs = judge.runs_by_ref(state)
        for line in self.lines:
            status = runs[line["ref"]]["status"] if line.get("ref") in runs else "unknown"
            if line["word"] in ("done", "error") and status != line["word"]:
                yield f"{line['ref']} was acknowledged as {line['word']} and is {status}"
        yield from judge.iter_disagreements(self.root, self.place / "fresh", state)
        if (self.root / ".tracker" / "ledger").is_dir():  # else it was killed before that was made
            yield from judge.iter_damage(self.root, self.place / "fresh")


def _iter_faults_of_words(line: dict[str, Any]) -> Iterator[str]:
    """A refusal says in one line what was refused, where, and what to do."""
    text = line["text"]
    if not (line["errno"] and line["path"] and line["cure"] and line["doing"]):
        yield f"a StorageError lacks a field: {line}"
    if "\n" in text or line["cure"] not in text or line["path"] not in text:
        yield f"a StorageError does not say where and what to do: {line}"


def _attach(pid: int | None, case: Case, log: Path) -> subprocess.Popen[str]:
    call, how = case.fault
    inject = f"inject={call}:{how}:when={case.when}"
    strace = subprocess.Popen(
        ["strace", "-y", "-p", str(pid), "-o", str(log), "-e", f"trace={call}", "-e", inject],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None, "asked for"
    told = strace.stderr.readline()
    assert "attached" in told, f"strace says {told}"
    return strace


def _act(scenario: str, root: Path, cache: Path, page: Page, pipe: Connection) -> None:
    """Make the moment before, wait for the tracer, then take the steps, each again where it is refused."""
    import portalocker  # noqa: F401 - a module is not to be looked for while calls fail

    warnings.simplefilter("ignore")  # a manifest that was not written is a warning
    use_cache(cache)
    try:
        writer = Writer(root, page)
        steps = [*SCENARIOS[scenario](writer), writer.project.ledger.close]
        pipe.send("ready")
        pipe.recv()
        for step in steps:
            _take(step, page)
        page.say("end")
    except BaseException:
        page.say("fail", text=traceback.format_exc())


def _take(step: Step, page: Page) -> None:
    for _ in range(TRIES):
        try:
            step()
        except StorageError as error:
            page.say(
                "refused",
                errno=error.errno,
                path=error.path,
                doing=error.doing,
                cure=error.cure,
                text=str(error),
            )
            time.sleep(0.002)  # a look that failed is not an old look
        else:
            return
    raise RuntimeError("refused again and again, though only one call failed")
