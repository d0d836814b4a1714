"""What workers did with claimed runs, and whether two did the same. Knows the log of a storm, not its making.

A log is of lines, their times by one monotonic clock: `begin` and `end` of each execution by the worker
itself, `kill` and `pause` by whoever did that to it, `silent` by a worker that finds it gave no sign of life
for long.

Spec: spec/claims.md sections 6 and 7.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct

Line = dict[str, Any]
Runs = dict[str, dict[str, Any]]


class Silence(NamedTuple):
    """A time during which a worker gave no sign of life."""

    start: float
    end: float


class Worker(Struct):
    """What befell a process that executes runs."""

    host: str
    writer: str = ""
    killed: float = float("inf")
    silences: list[Silence] = []

    def was_silent(self, asked: float, begun: float, lease_s: float) -> bool:
        """True if some silence had lasted for a lease by `begun`, and had not ended before `asked`."""
        return any(one.start + lease_s <= begun and one.end >= asked for one in self.silences)


class Execution(Struct):
    """One execution of a run: asked for, begun, and by `end` ended, asked and returned.

    `ending` is the end that was asked for, if its return is not told: it may have been recorded.
    """

    ref: str
    worker: str
    asked: float
    begun: float
    how: str = ""
    end_asked: float = float("inf")
    ended: float = float("inf")
    has_lost: bool = False
    ending: str = ""

    def may_have_failed(self, by: float) -> bool:
        """True if by then the run may have been free again, by an error or an interruption."""
        return (self.how or self.ending) in ("error", "interrupted") and self.end_asked <= by


class Log(Struct):
    """The lines of a storm in one store, read."""

    workers: defaultdict[str, Worker]
    executions: list[Execution] = []
    failed: list[str] = []
    released: int = 0


def read_log(lines: list[Line]) -> Log:
    """Understand the lines of a log."""
    log = Log(defaultdict(lambda: Worker("")))
    running: dict[tuple[str, str], Execution] = {}
    for line in lines:
        worker = log.workers[line["worker"]]
        if line["word"] == "begin":
            worker.host, worker.writer = line["host"], line["writer"]
            one = Execution(line["ref"], line["worker"], line["asked"], line["at"])
            running[line["worker"], line["ref"]] = one
            log.executions.append(one)
        elif line["word"] == "ending":
            one = running[line["worker"], line["ref"]]
            one.ending, one.end_asked, one.has_lost = line["how"], line["asked"], line["lost"]
        elif line["word"] == "end":
            one = running[line["worker"], line["ref"]]
            one.how, one.end_asked, one.ended = line["how"], line["asked"], line["at"]
            one.has_lost = line["lost"]
        elif line["word"] == "kill":
            worker.killed = line["at"]
        elif line["word"] in ("pause", "silent"):
            worker.silences.append(Silence(line["at"], line["to"]))
        elif line["word"] == "fail":
            log.failed.append(line["text"])
        elif line["word"] == "release":
            log.released += 1
    return log


def iter_broken(log: Log, runs: Runs, wanted: set[str], lease_s: float) -> Iterator[str]:
    """Everything that does not hold; `runs` are the reference's, `wanted` the refs that all worked on.

    A heartbeat may be as old as the time between two when a process falls silent, so `lease_s` is the lease
    less that time.
    """
    yield from (f"a worker failed: {text}" for text in log.failed)
    for ref in sorted(wanted):
        run = runs.get(ref)
        done = [] if run is None else [a for a in run["attempts"] if a["id"] == run["canonical"]]
        if [attempt["status"] for attempt in done] != ["done"]:
            yield f"{ref} is {'unknown' if run is None else run['status']} in the end"
    yield from _iter_twice(log, lease_s)
    yield from _iter_untold(log, lease_s)
    yield from _iter_numbers(log, runs, lease_s)
    yield from _iter_missing(log, runs)


def done_twice(runs: Runs) -> int:
    """How many runs have two attempts that are DONE."""
    return sum(sum(a["status"] == "done" for a in run["attempts"]) > 1 for run in runs.values())


def _iter_twice(log: Log, lease_s: float) -> Iterator[str]:
    """Pairs of executions of one run of which the second had no right to begin."""
    for first, second in _pairs(log):
        if first.how == "done" and first.ended <= second.asked:
            yield f"{first.ref} was done by {first.worker} and then executed by {second.worker}"
        has_ended = first.may_have_failed(second.begun)
        was_killed = log.workers[first.worker].killed <= second.begun
        # One that fell silent while it was taking the run, and went on when another had it, begins second.
        was_silent = _is_taken_over(log, first, second, lease_s) or _is_taken_over(
            log, second, first, lease_s
        )
        if not (has_ended or was_killed or was_silent):
            yield f"{first.ref} was executed by two at once: {_told(log, first)}; {_told(log, second)}"


def _is_taken_over(log: Log, one: Execution, by: Execution, lease_s: float) -> bool:
    worker, other = log.workers[one.worker], log.workers[by.worker]
    return worker.host != other.host and worker.was_silent(by.asked, by.begun, lease_s)


def _told(log: Log, one: Execution) -> str:
    worker = log.workers[one.worker]
    end = f"{one.how} {one.end_asked:.4f} {one.ended:.4f}" if one.how else f"killed {worker.killed:.4f}"
    return f"{one.worker} on {worker.host}: asked {one.asked:.4f}, begun {one.begun:.4f}, {end}"


def _pairs(log: Log) -> Iterator[tuple[Execution, Execution]]:
    by_ref: dict[str, list[Execution]] = defaultdict(list)
    for one in log.executions:
        by_ref[one.ref].append(one)
    for same in by_ref.values():
        yield from itertools.combinations(sorted(same, key=lambda one: one.begun), 2)


def _iter_untold(log: Log, lease_s: float) -> Iterator[str]:
    """Workers that were taken over and did not learn of it, or learnt of what was not so."""
    for first, second in _pairs(log):
        if second.begun < first.end_asked < float("inf") and not first.has_lost:
            yield f"{first.ref} was taken over from {first.worker} by {second.worker}, and it was not told"
    for one in log.executions:
        if one.has_lost and not log.workers[one.worker].was_silent(one.asked, one.end_asked, lease_s):
            others = "; ".join(_told(log, other) for other in log.executions if other.ref == one.ref)
            yield f"{one.worker} was told that it lost {one.ref}, and had not been silent: {others}"


def _iter_numbers(log: Log, runs: Runs, lease_s: float) -> Iterator[str]:
    """Numbers of a run's attempts that are not distinct, or do not rise though nobody was silent."""
    was_silent = {
        worker.writer
        for worker in log.workers.values()
        if any(silence.end - silence.start > lease_s for silence in worker.silences)
    }
    for ref, run in runs.items():
        numbers = [attempt["claim"] for attempt in run["attempts"]]
        writers = {attempt["id"].rpartition("-")[0] for attempt in run["attempts"]}
        if len(set(numbers)) < len(numbers) or 0 in numbers or None in numbers:
            yield f"the attempts of {ref} have the numbers {numbers}"
        elif numbers != sorted(numbers) and not writers & was_silent:
            yield f"the numbers of {ref} do not rise: {numbers}"


def _iter_missing(log: Log, runs: Runs) -> Iterator[str]:
    """Executions that were acknowledged and are not recorded."""
    told: Counter[tuple[str, str, str]] = Counter()
    for one in log.executions:
        told[one.ref, log.workers[one.worker].writer, one.how] += 1
    found = Counter(
        (ref, attempt["id"].rpartition("-")[0], attempt["status"])
        for ref, run in runs.items()
        for attempt in run["attempts"]
    )
    for key, count in told.items():
        ref, writer, how = key
        if how and found[key] < count:
            yield f"{ref} was acknowledged as {how} to {writer} {count} times and is so {found[key]} times"
