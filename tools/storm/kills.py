"""kill: SIGKILL to writers at random moments, and what the store then knows of what they were told.

Each group of kills has one store. In a round one to three writers run at once, some with three threads; as
one is killed the next begins, and a reader looks on. Then the judges: nothing acknowledged is lost, the store
opens, and whatever is half-written is a run that is running or is named by `verify`. The next writers go on
with the same store. In the end one more writer is let to end by itself: what the dead left is published, and
every run is as it was, but for those that it takes up from the dead.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import Acks, BrokenError, ask, begin, kill, read_acks, use_cache
from tools.storm.workload import PACES, Pace, Writer, plain, write_in_threads
from tracker import Project, Status
from tracker._store.index import Filter
from tracker.ledger import Ledger

KILLS_A_STORE = 48
KILLS_A_ROUND = 8
LONGEST_S = 0.2
READ_EVERY_S = 0.05
TAKEN_UP = 5
THREADS = 3

Line = dict[str, Any]


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Kill `count` writers, and judge the store after each round of kills."""
    tally = Tally("kill", seed)
    luck = random.Random(seed)
    number = 0
    while tally.cases < count:
        store = Store(folder / f"store-{number}", luck, tally)
        last = min(count, tally.cases + KILLS_A_STORE)
        while tally.cases < last:
            store.kill_a_round(min(luck.randint(1, KILLS_A_ROUND), last - tally.cases))
        store.close()
        number += 1
    return tally


class Store:
    """One store and those who die over it."""

    def __init__(self, folder: Path, luck: random.Random, tally: Tally) -> None:
        folder.mkdir()
        self.root, self.cache, self.acks = folder / "root", folder / "cache", folder / "acks"
        self.luck = luck
        self.tally = tally
        self.round = 0
        self.sound: judge.State = {"runs": [], "rules": []}

    def kill_a_round(self, kills: int) -> None:
        """Start writers, kill each at some moment, put others in their place; judge when all are dead."""
        self.round += 1
        told = len(read_acks(self.acks))
        plans = [(f"{self.round}-{number}", self.luck.choice(PACES)) for number in range(kills)]
        waiting = [*plans]
        living = [self._begin(waiting.pop()) for _ in range(min(self.luck.choice((1, 2, 3)), kills))]
        reader = begin(_look_on, self.root, self.cache, self.acks)
        while living:
            # A third of the kills fall on the first moments, when the store and the journal are made.
            time.sleep(self.luck.choice((0.03, LONGEST_S, LONGEST_S)) * self.luck.random())
            victim = living.pop(self.luck.randrange(len(living)))
            self.tally.expect(kill(victim), f"{self.root} round {self.round}: a writer ended by itself")
            self.tally.cases += 1
            if waiting:
                living.append(self._begin(waiting.pop()))
        kill(reader)
        for failure in self._judge(read_acks(self.acks)[told:]):
            self.tally.fail(f"{self.root} round {self.round} of {plans}: {failure}")

    def _begin(self, plan: tuple[str, Pace]) -> ForkProcess:
        return begin(_write, self.root, self.cache, self.acks, *plan)

    def _judge(self, fresh: list[Line]) -> Iterator[str]:
        state = judge.reference_state(self.root)
        runs = judge.runs_by_ref(state)
        yield from self._broken_promises(runs)
        yield from judge.iter_disagreements(self.root, self.cache, state)
        yield from self._changed(state)
        try:
            yield from ask(_missed, self.root, self.cache, [line for line in fresh if line["word"] == "done"])
            yield from self._unnamed(runs)
        except BrokenError as broken:
            yield str(broken)
        self.sound = state

    def _broken_promises(self, runs: dict[str, judge.Run]) -> Iterator[str]:
        """Everything ever acknowledged, by the reference."""
        last = {
            line["ref"]: line["word"]
            for line in read_acks(self.acks)
            if line["word"] in ("start", "done", "error", "interrupted")
        }
        for line in read_acks(self.acks):
            if line["word"] == "fail":
                yield f"a writer failed: {line['text']}"
        for ref, word in last.items():
            status = runs[ref]["status"] if ref in runs else "unknown"
            if word != "start" and status != word:
                self.tally.add("lost")
                yield f"{ref} was acknowledged as {word} and is {status}"
            elif word == "start" and status == "unknown":
                self.tally.add("lost")
                yield f"{ref} was begun and is unknown"

    def _changed(self, state: judge.State) -> Iterator[str]:
        """What was there when all writers were dead stays as it is, whoever tidies up."""
        runs = judge.runs_by_ref(state)
        for run in self.sound["runs"]:
            if runs.get(run["ref"]) != run:
                yield f"{run['ref']} of an earlier round changed"

    def _unnamed(self, runs: dict[str, judge.Run]) -> Iterator[str]:
        """Every half-written run is running, or a finding speaks of its folder."""
        if not (self.root / ".tracker" / "ledger").is_dir():
            return  # killed while the store was made
        code, findings = judge.verified(self.root, self.cache)
        if code not in (0, 3):
            yield f"verify ends with {code}: {[f for f in findings if f.severity == 'damage'][:3]}"
        known = {judge.folder_of_run(run) for run in runs.values()}
        for folder in sorted(judge.run_folders(self.root) - known):
            if not any(folder in finding.path for finding in findings):
                self.tally.add("unnamed")
                yield f"{folder} is half-written, and neither a run nor named by verify"

    def close(self) -> None:
        """Let one writer end by itself: it publishes what the dead left, and changes no run."""
        before = judge.reference_state(self.root)
        running = [run["ref"] for run in before["runs"] if run["status"] == "running" and run["params"]]
        left = running[:TAKEN_UP]
        self.sound["runs"] = [run for run in self.sound["runs"] if run["ref"] not in left]
        self.tally.add("runs taken up from the dead", len(left))
        try:
            ask(_end_well, self.root, self.cache, self.acks, left)
            failures = [*self._judge([]), *self._left_open(before)]
        except BrokenError as broken:
            failures = [str(broken)]
        for failure in failures:
            self.tally.fail(f"{self.root} at the end: {failure}")
        self._count(judge.reference_state(self.root)["runs"])

    def _count(self, runs: list[judge.Run]) -> None:
        words = {line["ref"]: line["word"] for line in read_acks(self.acks) if "ref" in line}
        known = {judge.folder_of_run(run) for run in runs}
        self.tally.add("stores")
        self.tally.add(
            "runs acknowledged as ended",
            sum(word in ("done", "error", "interrupted") for word in words.values()),
        )
        self.tally.add("half-written runs shown as running", sum(run["status"] == "running" for run in runs))
        self.tally.add("half-written folders named by verify", len(judge.run_folders(self.root) - known))
        self.tally.add("parts", len(list(self.root.glob(".tracker/ledger/*/*.part"))))
        self.tally.add("segments", len(list(self.root.glob(".tracker/ledger/*/*.seg"))))

    def _left_open(self, before: judge.State) -> Iterator[str]:
        for journal in self.root.glob(".tracker/ledger/*/*.open"):
            # Without a whole OPEN frame it says nothing of its owner, and goes when it lay still for a day.
            if judge.reference.read_segment(journal.read_bytes(), False).frames:
                yield f"{journal.name} of a dead writer was not published"
            else:
                self.tally.add("journals without a frame")
        after = judge.runs_by_ref(judge.reference_state(self.root))
        if len(after) != len(before["runs"]) + 1:
            yield f"{len(before['runs'])} runs and one more are {len(after)}"


def _write(root: Path, cache: Path, acks: Path, name: str, pace: Pace) -> None:
    threads = random.Random(name).choice((1, 1, 1, THREADS))
    write_in_threads([Writer(root, cache, acks, f"{name}-{thread}", pace) for thread in range(threads)])


def _look_on(root: Path, cache: Path, acks: Path) -> None:
    """Read while others write and die: everything acknowledged before a look is in it."""
    use_cache(cache)
    ledger = Ledger(root)
    try:
        while True:
            told = {line["ref"] for line in read_acks(acks) if line["word"] == "done"}
            seen = {run.ref for run in ledger.find(Filter(status=Status.DONE))}
            if told - seen:
                Acks(acks).say("fail", text=f"a reader misses {sorted(told - seen)[:3]}, which are done")
            time.sleep(READ_EVERY_S)
    except BaseException:
        Acks(acks).say("fail", text=traceback.format_exc())


def _missed(root: Path, cache: Path, lines: list[Line]) -> list[str]:
    """Which of the runs acknowledged as done the package does not find."""
    use_cache(cache)
    missed = []
    for line in lines:
        *relpath, identifier, _ = line["ref"].split("/")
        if not Project(root, "/".join(relpath)).has(identifier, line["params"]):
            missed.append(f"has() does not find {line['ref']}")
    return missed


def _end_well(root: Path, cache: Path, acks: Path, left: list[str]) -> None:
    """Record one more run, and take up some of those that the dead left: their claims hold nobody back."""
    writer = Writer(root, cache, acks, "last")
    plain(writer)
    for ref in left:
        *relpath, identifier, uid = ref.split("/")
        session = Project(root, "/".join(relpath)).get(identifier, uid=uid)
        if not session.try_start():
            writer.acks.say("fail", text=f"{ref} was left by the dead, and is claimed")
            continue
        session.done()
        writer.say("done", session)
    writer.project.ledger.close()
