"""`merge`: exit codes, what a pipe and JSON get, and targets that are not there yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_sessions import TENTH, Call, fill

from tracker import Durability, Project


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A store with one run that the first has not."""
    root = tmp_path / "other"
    project = Project(root, durability=Durability.OFF)
    with project.session("train", {"lr": 0.7}) as run:
        run.path("model.pt").write_bytes(b"seven")
    project.ledger.close()
    return root


def test_a_merge_prints_what_it_took_and_does_nothing_again(store: Path, other: Path, call: Call) -> None:
    told = call("-C", store, "merge", other)
    kinds = [row[:2] for row in told.rows]

    assert told.code == 0
    assert kinds == [
        ["copied", "segment"], ["copied", "manifest"], ["copied", "file"], ["copied", "file"],
    ]  # fmt: skip
    assert {len(row) for row in told.rows} == {5}
    assert call("-C", store, "merge", other).rows == []
    assert len(call("-C", store, "ls").rows) == 7


def test_a_dry_run_tells_the_same_and_writes_nothing(store: Path, other: Path, call: Call) -> None:
    told = call("-C", store, "merge", other, "--dry-run")

    assert len(call("-C", store, "ls").rows) == 6
    assert told.rows == call("-C", store, "merge", other).rows != []


def test_json_has_the_lists_the_counts_and_the_exit_code(store: Path, other: Path, call: Call) -> None:
    told = json.loads(call("-C", store, "merge", other, "--json").out)

    assert told["exit_code"] == 0
    assert told["counts"]["copied"] == len(told["copied"]) == 4
    assert told["copied"][0].keys() == {"kind", "path", "as_path", "what"}
    assert (told["source"], told["target"]) == (str(other), str(store))
    assert told["dry_run"] is False


def test_a_folder_without_a_store_is_made_one_if_it_is_named(
    store: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    assert call("-C", new, "merge", store).code == 0
    assert call("-C", new, "ls").rows == call("-C", store, "ls").rows

    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    told = call("merge", store)
    assert (told.code, told.out) == (2, "")
    assert "-C" in told.err


def test_a_folder_inside_a_store_is_not_made_another(store: Path, other: Path, call: Call) -> None:
    told = call("-C", store / "scratch", "merge", other)

    assert (told.code, told.out) == (2, "")
    assert f"-C {store}" in told.err
    assert not (store / "scratch").exists()


def test_the_nearest_store_is_the_target(
    store: Path, other: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store / TENTH)
    assert call("merge", other).code == 0
    assert len(call("ls").rows) == 7


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_damage_in_src_is_exit_code_1_and_told(other: Path, tmp_path: Path, call: Call) -> None:
    target = tmp_path / "target"
    fill(target)
    segment = next((other / ".tracker/ledger").glob("*/*.seg"))
    data = bytearray(segment.read_bytes())
    data[-70] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(data)
    told = call("-C", target, "merge", other)

    assert told.code == 1
    assert [row[2] for row in told.rows if row[0] == "damaged"] == [segment.relative_to(other).as_posix()]
    assert call("-C", target, "verify", "--full").code == 0


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [(".", 2, "merge another copy"), ("nowhere", 1, "no store"), ("empty", 1, "no store")],
)
def test_what_is_refused_is_one_line(source: str, code: int, words: str, store: Path, call: Call) -> None:
    (store.parent / "empty").mkdir()
    place = store if source == "." else store.parent / source
    told = call("-C", store, "merge", place)

    assert (told.code, told.out) == (code, "")
    assert words in told.err
    assert told.err.count("\n") == 1


def test_a_terminal_is_told_what_needs_a_person_and_the_numbers(
    store: Path, other: Path, on_terminal: Call
) -> None:
    for root, text in ((store, "one"), (other, "two")):
        (root / "notes.txt").write_text(text)
    told = on_terminal("-C", store, "merge", other)

    assert told.code == 0
    assert "set aside" in told.out
    assert "notes.txt.from-unknown-" in told.out
    assert "4 copied" in told.out
    shutil.rmtree(other)
