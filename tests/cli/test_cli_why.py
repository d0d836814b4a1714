"""`why`: what it prints of a miss, a hit and two runs, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call

from tracker import Project
from tracker import why as room

TWIN = "numeric twin: the same number, written as integer and as float"


@pytest.fixture
def params(tmp_path: Path):
    """Write params into a file."""

    def write(text: str, name: str = "params.json") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_finished_run_is_found(store: Path, call: Call, params) -> None:
    told = call("-C", store, "why", params('{"lr": 0.1}'), "--identifier", "train")

    assert (told.code, told.err) == (0, "")
    assert told.rows[0] == ["found", TENTH, "", "", "a finished run is found"]
    assert told.rows[1][:4] == ["run", f"train/{TENTH}", "done", ""]
    assert told.rows[1][4].startswith("these params: done at 20")
    assert told.rows[2][4].startswith("a repeat of these params: done at ")
    assert ["elsewhere", f"eval/{TENTH}", "done", ""] in [row[:4] for row in told.rows]


def test_a_miss_names_the_nearest_runs_and_what_differs(store: Path, call: Call, params) -> None:
    told = call("-C", store, "why", params('{"lr":2, "ema": false}'), "--identifier", "train")
    rows = told.rows

    assert told.code == 1
    assert rows[0][0] == "not found"
    assert rows[0][4] == "it was never begun"
    assert [row[0] for row in rows[1:4]] == ["near", "field", "field"]
    fields = [row[1:] for row in rows if row[0] == "field"]
    assert ["lr", "2", "2.0", TWIN] in fields
    assert ["ema", "false", "", "not recorded"] in fields


def test_a_failed_run_says_when_and_with_what(store: Path, call: Call, params) -> None:
    told = call("-C", store, "why", params('{"lr": 2.0}'), "--identifier", "train")
    (row,) = [row for row in told.rows if row[0] == "run"]

    assert told.code == 1
    assert told.rows[0][4] == "it was begun, and is error"
    assert row[2] == "error"
    assert "error at 20" in row[4]
    assert row[4].endswith("ValueError: too great\\u001b[31m")


def test_the_rule_that_would_match_is_told_and_does(store: Path, call: Call, params) -> None:
    file = params('{"lr": 0.1, "ema": false}')
    told = call("-C", store, "why", file, "--identifier", "eval")
    (row,) = [row for row in told.rows if row[0] == "rule"]

    assert row[1] == "absent ema false"
    assert call("-C", store, "rule", "add", *row[1].split()).code == 0
    assert call("-C", store, "why", file, "--identifier", "eval").code == 0


def test_a_namespace_is_looked_at_when_it_is_named(store: Path, call: Call, params) -> None:
    file = params('{"lr": 1}')

    assert call("-C", store, "why", file, "--identifier", "train").code == 1
    assert call("-C", store, "why", file, "--identifier", "train", "--namespace", "grid").code == 0
    assert call("-C", store, "why", file, "--namespace", "../x").code == 2


def test_json_has_the_whole_answer(store: Path, call: Call, params) -> None:
    told = json.loads(call("-C", store, "why", params('{"lr": 0.5}'), "--json").out)

    assert told["is_hit"] is False
    assert (told["text"], told["ignored"], told["attempts"]) == ('{"lr":0.5}', None, [])
    assert told["compared"] == told["total"] == 5
    assert told["nearest"][0]["differences"][0]["asked"] == "0.5"


def test_the_bound_is_told(store: Path, call: Call, params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "COMPARED_MAX", 2)
    told = call("-C", store, "why", params('{"lr": 0.5}'))

    assert "the newest 2 of 5 runs were compared" in told.err


def test_two_runs_are_compared_by_uid_folder_or_file(store: Path, call: Call, params) -> None:
    want = [["field", "lr", "0.1", "1", ""]]

    assert call("-C", store, "why", f"train/{TENTH}", ONE).rows == want
    assert call("-C", store, "why", store / TENTH / "params.json", ONE).rows == want
    assert call("-C", store, "why", params('{"lr":0.1}'), ONE).rows == want
    assert call("-C", store, "why", f"train/{TENTH}", ONE).code == 1
    same = call("-C", store, "why", f"train/{TENTH}", f"eval/{TENTH}")
    assert (same.code, same.out) == (0, "")
    assert json.loads(call("-C", store, "why", f"train/{TENTH}", ONE, "--json").out) == [
        {"path": "lr", "asked": "0.1", "recorded": "1", "note": ""}
    ]


@pytest.mark.parametrize("words", [["nothing.json"], ["ffff", "params.json"], ["x!", ONE], ["."]])
def test_what_is_neither_file_nor_run_is_one_line(words: list[str], store: Path, call: Call) -> None:
    told = call("-C", store, "why", *words)

    assert told.code in (1, 2)
    assert told.out == ""
    assert len(told.err.splitlines()) == 1


def test_params_that_cannot_be_read_are_refused(store: Path, call: Call, params) -> None:
    told = call("-C", store, "why", params("[1]"))

    assert (told.code, told.out) == (2, "")


def test_people_read_a_table(store: Path, on_terminal: Call, params) -> None:
    shown = on_terminal("-C", store, "why", params('{"lr": 0.5}'))

    assert shown.code == 1
    assert "not found" in shown.out
    assert Project(store).uid({"lr": 0.5})[:4] in shown.out
