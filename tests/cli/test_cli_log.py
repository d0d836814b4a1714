"""`log`: events, newest first; with --follow as they come."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from cli_sessions import ONE, TENTH, Call, command

from tracker import Durability, Project
from tracker._model.event import (
    KINDS,
    Attached,
    Attachment,
    Captured,
    Created,
    Done,
    Event,
    Failed,
    File,
    Input,
    Interrupted,
    Lost,
    Named,
    Noted,
    Parented,
    Purged,
    Removed,
    Restored,
    Started,
    Summary,
    Tagged,
    Used,
)
from tracker.terms import AttemptId, RunRef

REF = RunRef(f"train/{TENTH}")


def without_facts(kinds: Iterable[str]) -> list[str]:
    """The kinds of events but for what was captured of the machine, whose place depends on its speed."""
    return [kind for kind in kinds if kind != "captured"]


def until_done(stream: IO[str], kind_of: Callable[[str], str]) -> list[str]:
    """The kinds of the events that a follower prints, up to the end of a run."""
    kinds: list[str] = []
    while "done" not in kinds:
        kinds.append(kind_of(stream.readline()))
    return without_facts(kinds)


def test_the_log_is_newest_first_and_a_line_an_event(store: Path, call: Call) -> None:
    rows = call("-C", store, "log").rows

    assert without_facts(row[1] for row in rows)[-3:] == ["done", "started", "created"]
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert {len(row) for row in rows} == {7}
    assert rows[-1][2:] == [TENTH, "train", ".", '{"lr":0.1}', ""]


def test_the_log_of_one_run_has_its_events_alone(store: Path, call: Call) -> None:
    everything = call("-C", store, "log").rows
    told = call("-C", store, "log", TENTH, "--identifier", "eval").rows

    assert told == [row for row in everything if (row[2], row[3]) == (TENTH, "eval")]
    assert without_facts(row[1] for row in told) == ["done", "started", "created"]


@pytest.mark.parametrize("limit", [0, 1, 4, 10**6])
def test_a_limit_keeps_the_newest(limit: int, store: Path, call: Call) -> None:
    everything = call("-C", store, "log", "--json").out
    told = json.loads(call("-C", store, "log", "--json", "--limit", str(limit)).out)

    assert told == json.loads(everything)[:limit]


def every_event(attempt: AttemptId) -> list[Event]:
    digest = bytes(range(32))
    file = File("f\n", f"{TENTH}/f", 3, digest, False)
    return [
        Created(REF, '{"lr":0.1}', TENTH, "subfolder"),
        Started(REF, 5, [AttemptId(f"{'0' * 32}-7")], 0, "subfolder", None),
        Attached(REF, attempt, [Attachment("f\n", f"{TENTH}/f", False)]),
        Summary(REF, attempt, {"loss": 0.5}),
        Done(REF, attempt, 6, [file]),
        Failed(REF, attempt, 7, [], "ValueError", "too\tgreat", digest),
        Interrupted(REF, attempt, 8, [], "SIGTERM", 0),
        Lost(REF, attempt, 9, "gone"),
        Tagged(REF, ["a"], ["b"]),
        Noted(REF, "look\nhere"),
        Removed(REF, "wrong"),
        Restored(REF, "right"),
        Purged(REF, [digest]),
        Captured(REF, attempt, {"argv": ["a"], "dirty": True}),
        Used(REF, attempt, [Input("raw", "/far", 3, digest, True, None)]),
        Named(REF, "first"),
        Parented(REF, None),
    ]


WANT_DETAILS = [
    '{"lr":0.1}',
    f"supersedes {'0' * 32}-7",
    "f\\n",
    "loss=0.5",
    "f\\n",
    "ValueError: too\\tgreat",
    "SIGTERM",
    "gone",
    "+a -b",
    "look\\nhere",
    "wrong",
    "right",
    "1 objects",
    "argv, dirty",
    "raw",
    "first",
    "",
]


@pytest.mark.unchecked_store(reason="the events contradict each other")
def test_every_kind_of_event_is_told(tmp_path: Path, call: Call) -> None:
    ledger = Project(tmp_path).ledger
    ledger.append(every_event)
    ledger.close()
    rows = call("-C", tmp_path, "log").rows[::-1]
    told = json.loads(call("-C", tmp_path, "log", "--json").out)[::-1]

    assert {row[1] for row in rows} == KINDS - {"rule"}
    assert [row[5] for row in rows] == WANT_DETAILS
    assert [event["event"] for event in told] == [row[1] for row in rows]
    assert told[4]["files"] == [["f\n", f"{TENTH}/f", 3, bytes(range(32)).hex(), False]]
    assert told[1]["attempt"] == told[2]["attempt"]
    assert {event["ref"] for event in told} == {REF}


@contextmanager
def following(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A follower that is killed when it has been waited for too long."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        patience = threading.Timer(60, process.kill)
        patience.start()
        try:
            yield process
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (130, "")
        finally:
            patience.cancel()
            process.kill()


def test_follow_prints_new_events_as_they_come_oldest_first(store: Path) -> None:
    with following("-C", store, "log", "--follow", "--limit", "1", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] in ("started", "captured")
        project = Project(store, durability=Durability.OFF)
        with project.session("late", {"n": 1}):
            news = [json.loads(process.stdout.readline())["event"] for _ in range(2)]
        news += until_done(process.stdout, lambda line: str(json.loads(line)["event"]))
        project.ledger.close()

    assert news == ["created", "started", "done"]


def test_follow_of_one_run_hears_nothing_of_others(store: Path) -> None:
    with following("-C", store, "log", ONE, "--follow", "--limit", "1") as process:
        assert process.stdout is not None
        assert process.stdout.readline().split("\t")[1] == "done"
        project = Project(store, durability=Durability.OFF)
        with project.session("late", {"n": 1}):
            pass
        project.ledger.append(lambda _: [Noted(RunRef(f"grid/train/{ONE}"), "seen")])
        line = process.stdout.readline()
        project.ledger.close()

    assert line.split("\t")[1:3] == ["noted", ONE]


def test_follow_hears_of_history_that_a_copy_brings(store: Path, tmp_path: Path) -> None:
    other = Project(tmp_path / "other", durability=Durability.OFF)
    with other.session("there", {"n": 1}):
        pass
    other.ledger.close()
    with following("-C", store, "log", "--follow", "--limit", "1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        for segment in (tmp_path / "other" / ".tracker" / "ledger").glob("*/*.seg"):
            target = store / ".tracker" / "ledger" / segment.parent.name
            target.mkdir(exist_ok=True)
            segment.rename(target / segment.name)
        for manifest in (tmp_path / "other" / ".tracker" / "manifests").glob("*/*.json"):
            target = store / ".tracker" / "manifests" / manifest.parent.name
            target.mkdir(exist_ok=True)
            manifest.rename(target / manifest.name)
        news = until_done(process.stdout, lambda line: line.split("\t")[1])

    assert news == ["created", "started", "done"]
