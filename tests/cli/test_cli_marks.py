"""`tag`, `untag`, `note`, `name`, `parent`: what is recorded, what is printed, and what `log` tells of it."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call, command

from tracker import Project

TRAIN = f"train/{TENTH}"
EVAL = f"eval/{TENTH}"
GRID = f"grid/train/{ONE}"


def told_of(store: Path, call: Call, ref: str) -> dict[str, object]:
    shown: dict[str, object] = json.loads(call("-C", store, "show", ref, "--json").out)
    return shown


def test_tags_are_put_on_and_taken_off(store: Path, call: Call) -> None:
    first = call("-C", store, "tag", TRAIN, "paper", "draft")
    again = call("-C", store, "tag", TRAIN, "paper", "final", "--remove", "draft", "--remove", "none")
    listed = call("-C", store, "tag", TRAIN)
    off = call("-C", store, "untag", TRAIN, "final")

    assert first.rows == [[TENTH, "train", ".", "+paper +draft"]]
    assert again.rows == [[TENTH, "train", ".", "+final -draft"]]
    assert listed.out == "final\npaper\n"
    assert off.rows == [[TENTH, "train", ".", "-final"]]
    assert told_of(store, call, TRAIN)["tags"] == ["paper"]
    assert [told.code for told in (first, again, listed, off)] == [0] * 4


def test_what_is_so_already_is_not_recorded_again(store: Path, call: Call) -> None:
    call("-C", store, "tag", TRAIN, "paper")
    before = call("-C", store, "log").out
    told = call("-C", store, "tag", TRAIN, "paper", "--json")

    assert json.loads(told.out) == {
        "dry_run": False, "changed": 0, "runs": [{"ref": TRAIN, "added": [], "removed": []}],
    }  # fmt: skip
    assert call("-C", store, "log").out == before


def test_several_runs_by_name_and_by_a_query(store: Path, call: Call) -> None:
    named = call("-C", store, "tag", "a b", "c", "--run", TRAIN, "--run", GRID)
    plan = call("-C", store, "tag", "--where", "lr == 0.1", "paper", "--dry-run", "--json")
    before = told_of(store, call, EVAL)["tags"]
    done = call("-C", store, "tag", "--where", "lr == 0.1", "paper", "--json")

    assert [row[:3] for row in named.rows] == [[TENTH, "train", "."], [ONE, "train", "grid"]]
    assert {row[3] for row in named.rows} == {"+a b +c"}
    assert (before, json.loads(plan.out)["dry_run"]) == ([], True)
    assert json.loads(plan.out)["runs"] == json.loads(done.out)["runs"]
    assert {one["ref"] for one in json.loads(done.out)["runs"]} >= {TRAIN, EVAL}
    assert told_of(store, call, EVAL)["tags"] == ["paper"]
    tagged = {row[0] for row in call("-C", store, "ls", "'paper' in tags").rows}
    assert tagged == {one["ref"][-32:] for one in json.loads(done.out)["runs"]}
    assert call("-C", store, "untag", "--where", "'paper' in tags", "paper").code == 0
    assert call("-C", store, "ls", "'paper' in tags").rows == []


def test_a_query_that_finds_nothing_tags_nothing_and_says_which_key_no_run_has(
    store: Path, call: Call
) -> None:
    told = call("-C", store, "tag", "--where", "lrr == 1", "paper")

    assert (told.code, told.out) == (0, "")
    assert "no run has the key 'lrr'" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag"],
        ["tag", "--run", TRAIN],
        ["tag", "--where", "lr == 0.1"],
        ["tag", "--where", "lr ==", "x"],
        ["tag", "x", "--where", "lr == 1", "--run", TRAIN],
        ["tag", TRAIN, "a,b"],
        ["tag", TRAIN, "a", "--remove", "a"],
        ["untag", TRAIN],
        ["note", TRAIN, " "],
        ["name", TRAIN, ""],
        ["name", TRAIN, "x", "--remove"],
        ["parent", TRAIN, TRAIN],
        ["parent", TRAIN, GRID, "--remove"],
    ],
    ids=" ".join,
)
def test_a_wrong_question_changes_nothing(arguments: list[str], store: Path, call: Call) -> None:
    before = call("-C", store, "log").out
    told = call("-C", store, *arguments)

    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("tracker: error: ")
    assert call("-C", store, "log").out == before


def test_a_note_is_kept_with_who_when_and_where(store: Path, call: Call, spawn: Call) -> None:
    call("-C", store, "note", TRAIN, "first\twith a tab")
    piped = spawn("-C", store, "note", TRAIN, "-", input="second\nof two lines\n")
    rows = call("-C", store, "note", TRAIN).rows
    as_json = json.loads(call("-C", store, "note", TRAIN, "--json").out)

    assert (piped.code, piped.out) == (0, "")
    assert [row[2] for row in rows] == ["first\\twith a tab", "second\\nof two lines\\n"]
    assert {row[1] for row in rows} == {f"{getpass.getuser()}@{socket.gethostname()}"}
    assert [note["text"] for note in as_json] == ["first\twith a tab", "second\nof two lines\n"]
    assert {(note["user"], note["host"]) for note in as_json} == {(getpass.getuser(), socket.gethostname())}
    assert [note["time"] for note in as_json] == [row[0] for row in rows]


def test_a_name_is_given_printed_and_taken_away(store: Path, call: Call) -> None:
    given = call("-C", store, "name", TRAIN, "baseline")
    again = json.loads(call("-C", store, "name", TRAIN, "baseline", "--json").out)
    found = call("-C", store, "ls", "name == 'baseline'")

    assert given.rows == [[TENTH, "train", ".", "baseline"]]
    assert again == {"ref": TRAIN, "name": "baseline", "changed": False}
    assert call("-C", store, "name", TRAIN).out == "baseline\n"
    assert [row[:2] for row in found.rows] == [[TENTH, "train"]]
    assert json.loads(call("-C", store, "name", TRAIN, "--remove", "--json").out) == {
        "ref": TRAIN, "name": None, "changed": True,
    }  # fmt: skip
    assert call("-C", store, "name", TRAIN).out == ""


def test_a_parent_is_given_printed_and_taken_away(store: Path, call: Call) -> None:
    given = call("-C", store, "parent", TRAIN, GRID)
    circle = call("-C", store, "parent", GRID, TRAIN)

    assert given.rows == [[TENTH, "train", ".", GRID]]
    assert call("-C", store, "parent", TRAIN).out == f"{GRID}\n"
    assert circle.code == 2
    assert "cannot be its parent" in circle.err
    assert call("-C", store, "parent", TRAIN, "--remove").code == 0
    assert call("-C", store, "parent", GRID, TRAIN).code == 0


def test_the_history_tells_who_said_what(store: Path, call: Call) -> None:
    call("-C", store, "tag", TRAIN, "paper")
    call("-C", store, "note", TRAIN, "look")
    call("-C", store, "name", TRAIN, "best")
    call("-C", store, "parent", TRAIN, GRID)
    rows = call("-C", store, "log", TRAIN, "--limit", "4").rows
    events = json.loads(call("-C", store, "log", TRAIN, "--json").out)
    me = f"{getpass.getuser()}@{socket.gethostname()}"

    assert [(row[1], row[5], row[6]) for row in rows] == [
        ("parented", GRID, me),
        ("named", "best", me),
        ("noted", "look", me),
        ("tagged", "+paper", me),
    ]
    assert [event.get("by") for event in events[:4]] == [me] * 4
    assert {event.get("by") for event in events[4:]} == {None}


def test_two_command_lines_at_once_lose_nothing(store: Path, call: Call) -> None:
    lines = [command("-C", store, "tag", TRAIN, f"tag-{number}") for number in range(4)]
    processes = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for line in lines]

    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert told_of(store, call, TRAIN)["tags"] == [f"tag-{number}" for number in range(4)]


def test_a_run_that_is_executed_may_be_tagged_from_elsewhere(store: Path, call: Call, spawn: Call) -> None:
    session = Project(store).session("train", {"lr": 4.0}).start()
    told = spawn("-C", store, "tag", session.ref, "watch")
    session.done()

    assert told.code == 0
    shown = told_of(store, call, session.ref)
    assert (shown["tags"], shown["status"]) == (["watch"], "done")


def test_people_read_sentences(store: Path, on_terminal: Call) -> None:
    told = [
        on_terminal("-C", store, *line).out
        for line in (
            ["tag", TRAIN, "paper"],
            ["tag", "--where", "lr == 0.1", "paper", "--dry-run"],
            ["note", TRAIN, "look"],
            ["name", TRAIN, "best"],
            ["name", TRAIN, "--remove"],
        )
    ]

    assert told[0] == "1 of 1 runs changed\n"
    assert told[1].endswith("runs would be changed\n")
    assert told[2:] == [f"{TRAIN}: noted\n", f"{TRAIN}: name best\n", f"{TRAIN}: name taken away\n"]
