"""`drift`: what it prints, of which runs, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from cli_sessions import TENTH, Call

from tracker import Durability, ExistingRun, Project


def test_a_store_that_agrees_prints_nothing(store: Path, call: Call) -> None:
    """A repeat that made no file, of a run that made two, does not agree; of others there is one."""
    told = call("-C", store, "drift", "lr > 0.5")

    assert (told.code, told.out, told.err) == (0, "", "")


def test_what_disagrees_is_named(store: Path, call: Call) -> None:
    told = call("-C", store, "drift")

    assert (told.code, told.err) == (1, "")
    assert told.rows[0] == ["drift", f"train/{TENTH}", "", "2"]
    assert [row[0] for row in told.rows[1:3]] == ["attempt", "attempt"]
    assert told.rows[1][1] == f"train/{TENTH}"
    files = [row for row in told.rows if row[0] == "file"]
    assert [(row[1], row[3]) for row in files] == [
        ("model.pt", "1"),
        ("model.pt", "2"),
        ("sub/log.txt", "1"),
        ("sub/log.txt", "2"),
    ]
    assert files[1][2] == "not there"


def test_as_json(store: Path, call: Call) -> None:
    project = Project(store, durability=Durability.OFF, provenance=False)
    with project.session("eval", {"lr": 0.1}, ExistingRun.NEW) as run:
        run.path("x").write_text("")
    project.ledger.close()
    told = call("-C", store, "drift", "identifier == 'eval'", "--json")

    (found,) = json.loads(told.out)
    assert (told.code, found["ref"]) == (1, f"eval/{TENTH}")
    assert [side["run"] for side in found["sides"]] == [f"eval/{TENTH}", run.ref]
    assert [content["sides"] for content in found["files"]["x"]] == [[0], [1]]


def test_a_query_that_cannot_be_read_is_a_wrong_question(store: Path, call: Call) -> None:
    assert call("-C", store, "drift", "lr <").code == 2
