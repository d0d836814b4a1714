"""Workers that die, stop and wake over one list of runs: each run is executed once, unless a lease ends.

Spec: spec/claims.md sections 6 and 7.
"""

from __future__ import annotations

import os

import pytest

from tools.storm import executions
from tools.storm.bounded import run_storm
from tracker import Durability, Project
from tracker._store import segments
from tracker._store.index import open_index
from tracker.filling import fill_index
from tracker.lookup import Lookup

LEASE_S = 1.0
REF = "train/a"


@pytest.mark.storm
def test_each_run_is_executed_once_though_workers_are_killed_and_stopped():
    tally = run_storm("claims", count=2_000)

    assert tally["figures"]["kills"] > 0


# The judge finds what it is there for


def begin(worker: str, at: float, host: str = "here") -> executions.Line:
    line = {"word": "begin", "worker": worker, "ref": REF, "host": host, "writer": f"w{worker}"}
    return {**line, "asked": at - 0.1, "at": at}


def end(worker: str, at: float, how: str = "done", *, lost: bool = False) -> executions.Line:
    line = {"word": "end", "worker": worker, "ref": REF, "how": how, "lost": lost}
    return {**line, "asked": at - 0.1, "at": at}


def ending(worker: str, at: float, how: str, *, lost: bool = False) -> executions.Line:
    """What is said before the return, of which nothing is told."""
    return {**end(worker, at, how, lost=lost), "word": "ending"}


def killed(worker: str, at: float) -> executions.Line:
    return {"word": "kill", "worker": worker, "at": at}


def recorded(*attempts: tuple[str, int, str]) -> executions.Runs:
    """A run with attempts of (worker, claim, status), the last one canonical."""
    made = [{"id": f"w{worker}-1", "claim": claim, "status": status} for worker, claim, status in attempts]
    return {REF: {"status": made[-1]["status"], "canonical": made[-1]["id"], "attempts": made}}


ONCE = recorded(("1", 1, "done"))
TWICE = recorded(("1", 1, "done"), ("2", 2, "done"))
FAILED_FIRST = recorded(("1", 1, "error"), ("2", 2, "done"))
KILLED_FIRST = recorded(("1", 1, "lost"), ("2", 2, "done"))
SILENCE = {"word": "pause", "worker": "1", "at": 1.5, "to": 3.5}

CASES = {
    "once": ([begin("1", 1), end("1", 2)], ONCE, ""),
    "again after an error": (
        [begin("1", 1), end("1", 2, "error"), begin("2", 3), end("2", 4)],
        FAILED_FIRST,
        "",
    ),
    "again after a death": (
        [begin("1", 1), killed("1", 2), begin("2", 3), end("2", 4)],
        KILLED_FIRST,
        "",
    ),
    "again after an error whose return is not told": (
        [begin("1", 1), ending("1", 2, "error"), begin("2", 3), killed("1", 4), end("2", 5)],
        FAILED_FIRST,
        "",
    ),
    "again while it is being done": (
        [begin("1", 1), ending("1", 2, "done"), begin("2", 3), killed("1", 4), end("2", 5)],
        KILLED_FIRST,
        "by two at once",
    ),
    "again before its error": (
        [begin("1", 1), begin("2", 3), ending("1", 3.5, "error"), killed("1", 4), end("2", 5)],
        FAILED_FIRST,
        "by two at once",
    ),
    "taken over from one that was silent": (
        [begin("1", 1), SILENCE, begin("2", 3, "there"), end("2", 3.2), end("1", 4, lost=True)],
        TWICE,
        "",
    ),
    "taken over, told, and killed in its end": (
        [
            begin("1", 1),
            SILENCE,
            begin("2", 3, "there"),
            ending("1", 4, "done", lost=True),
            killed("1", 5),
            end("2", 6),
        ],
        KILLED_FIRST,
        "",
    ),
    "taken over and not told, and killed in its end": (
        [begin("1", 1), SILENCE, begin("2", 3, "there"), ending("1", 4, "done"), killed("1", 5), end("2", 6)],
        KILLED_FIRST,
        "it was not told",
    ),
    "taken over and not told": (
        [begin("1", 1), SILENCE, begin("2", 3, "there"), end("2", 3.2), end("1", 4)],
        TWICE,
        "it was not told",
    ),
    "told though not silent": ([begin("1", 1), end("1", 2, lost=True)], ONCE, "had not been silent"),
    "two at once": (
        [begin("1", 1), begin("2", 1.5, "there"), end("1", 2, lost=True), end("2", 2)],
        TWICE,
        "by two at once",
    ),
    "taken over on the same host, where the process can be seen": (
        [begin("1", 1), SILENCE, begin("2", 3), end("2", 3.2), end("1", 4, lost=True)],
        TWICE,
        "by two at once",
    ),
    "again though it was done": (
        [begin("1", 1), end("1", 2), begin("2", 3), end("2", 4)],
        TWICE,
        "was done by 1 and then executed by 2",
    ),
    "a done that is not recorded": ([begin("1", 1), end("1", 2)], recorded(("2", 2, "done")), "0 times"),
    "the same number twice": (
        [begin("1", 1), end("1", 2, "error"), begin("2", 3), end("2", 4)],
        recorded(("1", 1, "error"), ("2", 1, "done")),
        "the numbers [1, 1]",
    ),
    "numbers that fall": (
        [begin("1", 1), end("1", 2, "error"), begin("2", 3), end("2", 4)],
        recorded(("1", 2, "error"), ("2", 1, "done")),
        "do not rise",
    ),
    "not done in the end": ([begin("1", 1), end("1", 2, "error")], recorded(("1", 1, "error")), "in the end"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_judge_of_executions_blames_what_is_wrong_and_nothing_else(case):
    lines, runs, blamed = CASES[case]
    broken = [*executions.iter_broken(executions.read_log(lines), runs, {REF}, LEASE_S)]

    assert bool(broken) is bool(blamed), broken
    assert not blamed or any(blamed in one for one in broken), broken


def test_a_process_that_lists_late_takes_no_run_out_of_the_index_of_others(tmp_path):
    """One process lists the segments and is slow; meanwhile others seal, index and know of a run."""
    project = Project(tmp_path, durability=Durability.OFF)
    project.session("train", params={"n": 1}).done()
    project.ledger.seal()
    older = segments.list_segments(project.ledger.lookup.ledger_fd)
    second = project.session("train", params={"n": 2}).done()
    project.ledger.seal()
    other = Lookup(str(tmp_path))
    other.refresh()
    assert other.row(second.uid, "train", "").status == "done"
    slow = open_index(os.path.realpath(tmp_path))
    fill_index(slow, other.ledger_fd, older, ())
    slow.close()
    other.refresh()
    row = other.row(second.uid, "train", "")
    other.close_store()

    assert row is not None and row.status == "done"
