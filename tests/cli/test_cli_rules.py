"""`rule`, and what rules change in `hash`, `log` and `todo`.

The judges are the worked example of the page and the reference.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reference
from cli_sessions import ONE, Call

from tracker import Durability, Project
from tracker._model.rules import Rule

OLD = {"loader": {"num_workers": 4}, "lr": 0.1, "model": "tiny"}
NEW = {"device": "cuda", "ema": False, "loader": {"num_workers": 16}, "model": "tiny", "optim": {"lr": 0.1}}
NEW_UID = "14cfc557481a0455105f3faf165d920c"
WORDS = (
    ["ignore", "loader.num_workers"], ["ignore", "device"], ["absent", "ema", "false"],
    ["rename", "lr", "optim.lr"],
)  # fmt: skip


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A store with the run of the worked example."""
    project = Project(tmp_path / "example", durability=Durability.OFF, provenance=False)
    project.session("train", OLD).start().done()
    project.ledger.close()
    return tmp_path / "example"


def add_all(root: Path, call: Call) -> None:
    for words in WORDS:
        assert call("-C", root, "rule", "add", *words).code == 0


def test_rules_are_added_listed_and_read_by_the_reference(example: Path, call: Call) -> None:
    told = [call("-C", example, "rule", "add", *words) for words in WORDS]

    assert [(one.code, one.err) for one in told] == [(0, "")] * 4
    assert [one.rows for one in told] == [
        [["added", "ignore loader.num_workers", "1", "0"]],
        [["added", "ignore device", "0", "0"]],
        [["added", "absent ema false", "0", "0"]],
        [["added", "rename lr optim.lr", "1", "0"]],
    ]
    rows = call("-C", example, "rule", "list").rows
    stored = reference.read_store(example)["rules"]
    assert [row[1:] for row in rows] == [[kind, path, value or ""] for kind, path, value in stored]
    assert [row[1:] for row in rows][3] == ["rename", "lr", '"optim.lr"']
    listed = json.loads(call("-C", example, "rule", "list", "--json").out)
    assert [[one["kind"], one["path"], one["value"]] for one in listed] == stored


def test_hash_with_a_store_applies_its_rules(example: Path, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "new.json"
    file.write_text(json.dumps(NEW))
    plain = call("hash", file).out.strip()
    assert call("-C", example, "hash", file).out.strip() == plain
    add_all(example, call)
    told = call("-C", example, "hash", file)

    assert told.out.strip() == NEW_UID != plain
    assert "store's rules" in told.err
    assert call("hash", file).out.strip() == plain, "without -C no store is asked"
    facts = json.loads(call("-C", example, "hash", file, "--json").out)
    assert facts["text"] == '{"model":"tiny","optim":{"lr":0.1}}'
    assert facts["ignored"] == '{"device":"cuda","loader":{"num_workers":16}}'
    assert facts["uid"] == reference.uid(facts["text"])


def test_hash_of_a_repeat_keeps_its_member(example: Path, call: Call, tmp_path: Path) -> None:
    add_all(example, call)
    file = tmp_path / "repeat.json"
    file.write_text('{"@repeat":"0123456789abcdef","device":"cpu","lr":0.1}')
    facts = json.loads(call("-C", example, "hash", file, "--json").out)

    assert facts["text"] == '{"@repeat":"0123456789abcdef","optim":{"lr":0.1}}'


def test_a_plan_adds_nothing_and_counts_who_would_share(store: Path, call: Call) -> None:
    told = call("-C", store, "rule", "add", "ignore", "lr", "--dry-run")
    want = json.loads(call("-C", store, "rule", "add", "ignore", "lr", "--dry-run", "--json").out)

    assert told.rows == [["would be added", "ignore lr", "6", "4"]]
    assert want == {"dry_run": True, "rule": "ignore lr", "is_new": True, "changed": 6, "sharing": 4}
    assert call("-C", store, "rule", "list").out == ""


def test_a_rule_that_is_there_is_said_to_be(store: Path, call: Call) -> None:
    call("-C", store, "rule", "add", "ignore", "w")

    assert call("-C", store, "rule", "add", "ignore", "['w']").rows == [
        ["there already", "ignore w", "0", "0"]
    ]
    assert len(call("-C", store, "rule", "list").rows) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "is no rule"),
        (["forget", "a"], "is no rule"),
        (["ignore"], "is no rule"),
        (["ignore", "a", "b"], "is no rule"),
        (["absent", "a"], "is no rule"),
        (["absent", "a", "{"], "not JSON"),
        (["absent", "a", "NaN"], "NaN is not JSON"),
        (["absent", "a", '{"x":1,"x":1}'], "occurs twice"),
        (["absent", "a", "\udcff"], "not UTF-8"),
        (["ignore", "a..b"], "cannot be read as a path"),
        (["ignore", "\udcff"], "cannot be read as a path"),
        (["ignore", "['\udcff']"], "no text"),
        (["rename", "a", "a.b"], "one lies inside the other"),
    ],
)
def test_a_rule_that_is_none_is_one_line_and_nothing_is_added(
    words: list[str], said: str, store: Path, call: Call
) -> None:
    told = call("-C", store, "rule", "add", *words)

    assert (told.code, told.out) == (2, "")
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert reference.read_store(store)["rules"] == []


def test_a_contradiction_is_refused_with_both_named_even_in_a_plan(store: Path, call: Call) -> None:
    call("-C", store, "rule", "add", "absent", "ema", "false")
    for more in ([], ["--dry-run"]):
        told = call("-C", store, "rule", "add", "absent", "ema", "true", *more)
        assert (told.code, told.out) == (2, "")
        assert "`absent ema false` and rule `absent ema true`" in told.err
    assert len(reference.read_store(store)["rules"]) == 1


def test_list_shows_rules_that_contradict_each_other_and_complains(store: Path, call: Call) -> None:
    ledger = Project(store).ledger
    ledger.append(lambda _: [Rule.absent("ema", value=False).event, Rule.absent("ema", value=True).event])
    ledger.close()
    told = call("-C", store, "rule", "list")

    assert told.code == 2
    assert [row[1:] for row in told.rows] == [["absent", "ema", "false"], ["absent", "ema", "true"]]
    assert "two absent values" in told.err
    assert call("-C", store, "ls").code == 0


def test_list_takes_nothing_more(store: Path, call: Call) -> None:
    assert call("-C", store, "rule", "list", "x").code == 2
    assert call("-C", store, "rule", "list", "--dry-run").code == 2
    assert call("-C", store, "rule").code == 2


def test_the_log_shows_rules_in_their_place_in_the_history_of_all(store: Path, call: Call) -> None:
    call("-C", store, "rule", "add", "absent", "ema", "false")
    project = Project(store, durability=Durability.OFF, provenance=False)
    project.session("train", {"lr": 9, "ema": False}).start().done()
    project.ledger.close()
    rows = [row for row in call("-C", store, "log").rows if row[1] != "captured"]

    assert [row[1] for row in rows[:4]] == ["done", "started", "created", "rule"]
    assert rows[3][2:6] == ["", "", "", "absent ema false"]
    (told,) = (one for one in json.loads(call("-C", store, "log", "--json").out) if one["event"] == "rule")
    assert {key: told[key] for key in ("event", "ref", "kind", "path", "value")} == {
        "event": "rule", "ref": None, "kind": "absent", "path": "ema", "value": "false",
    }  # fmt: skip
    assert "rule" not in {row[1] for row in call("-C", store, "log", "--identifier", "train").rows}
    assert "rule" not in {row[1] for row in call("-C", store, "log", ONE).rows}


def test_the_log_shows_what_was_ignored(store: Path, call: Call) -> None:
    call("-C", store, "rule", "add", "ignore", "device")
    project = Project(store, durability=Durability.OFF, provenance=False)
    project.session("train", {"lr": 9, "device": "cpu"}).start().done()
    (row,) = (row for row in call("-C", store, "log", "--limit", "4").rows if row[1] == "created")
    project.ledger.close()

    assert row[5] == '{"lr":9} ignored {"device":"cpu"}'


def test_todo_asks_by_the_rules(store: Path, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text('[{"lr": 0.1, "w": 1}, {"lr": 0.5, "w": 1}, {"lr": 0.5, "w": 2}]')
    assert call("-C", store, "todo", file, "--identifier", "train", "--indices").out == "0-2\n"
    call("-C", store, "rule", "add", "ignore", "w")

    assert call("-C", store, "todo", file, "--identifier", "train", "--indices").out == "1\n"


def test_people_read_a_sentence_and_a_table(store: Path, on_terminal: Call) -> None:
    added = on_terminal("-C", store, "rule", "add", "ignore", "lr", "--dry-run")
    on_terminal("-C", store, "rule", "add", "ignore", "w")
    listed = on_terminal("-C", store, "rule", "list")

    assert "6 runs would answer to other params" in added.out
    assert "since" in listed.out
    assert "ignore" in listed.out
