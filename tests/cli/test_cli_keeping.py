"""`rm`, `restore`, `gc`, `repair` and `rebuild --lost-log`: what they print, and what they leave behind.

The judges are plain files and the other commands.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call, fill

from tracker import Project

TRAIN = f"train/{TENTH}"


def shown(store: Path, call: Call, *options: str) -> list[str]:
    """The identifiers and uids that `ls` prints."""
    return [f"{row[1]}/{row[0]}" for row in call("-C", store, "ls", *options).rows]


def test_a_removed_run_is_out_of_sight_until_it_is_restored(store: Path, call: Call) -> None:
    everything = shown(store, call)
    files = sorted(
        path.relative_to(store).as_posix() for path in (store / TENTH).rglob("*") if path.is_file()
    )
    told = call("-C", store, "rm", TENTH, "--identifier", "train", "--reason", "a mistake")

    assert (told.code, told.err) == (0, "")
    assert told.rows == [[TENTH, "train", ".", "removed", "2", "0"]]
    assert shown(store, call) == [ref for ref in everything if ref != TRAIN]
    assert shown(store, call, "--removed") == [TRAIN]
    assert not (store / TENTH / "train_model.pt").exists()

    back = call("-C", store, "restore", TRAIN)

    assert back.rows == [[TENTH, "train", ".", "restored", "2", "0"]]
    assert shown(store, call) == everything
    assert sorted(p.relative_to(store).as_posix() for p in (store / TENTH).rglob("*") if p.is_file()) == files


def test_the_history_shows_removal_restoring_and_purge_with_their_reasons(store: Path, call: Call) -> None:
    call("-C", store, "rm", TRAIN, "--reason", "a mistake")
    call("-C", store, "restore", TRAIN, "--reason", "it was none")
    call("-C", store, "rm", TRAIN)
    call("-C", store, "gc", "--older-than", "0s")
    rows = call("-C", store, "log", TRAIN).rows

    assert [row[1] for row in rows[:4]] == ["purged", "removed", "restored", "removed"]
    assert [row[5] for row in rows[1:4]] == ["", "it was none", "a mistake"]


def test_json_names_files_and_what_was_kept(store: Path, call: Call) -> None:
    (one,) = json.loads(call("-C", store, "rm", TRAIN, "--json").out)

    assert one == {
        "ref": TRAIN,
        "files": [f"{TENTH}/sub/train_log.txt", f"{TENTH}/train_model.pt"],
        "kept": [],
        "is_recorded": True,
    }
    (again,) = json.loads(call("-C", store, "rm", TRAIN, "--json").out)
    assert (again["files"], again["is_recorded"]) == ([], False)


def test_several_runs_are_removed_at_once_and_named_before_the_first_is(store: Path, call: Call) -> None:
    before = shown(store, call)
    wrong = call("-C", store, "rm", TRAIN, "0" * 32)

    assert (wrong.code, wrong.out) == (1, "")
    assert shown(store, call) == before
    told = call("-C", store, "rm", TRAIN, ONE, TRAIN)
    assert [row[0] for row in told.rows] == [TENTH, ONE]


def test_a_run_that_is_executed_is_refused_and_those_before_it_are_told(store: Path, call: Call) -> None:
    session = Project(store).session("train", {"lr": 4.0}).start()
    told = call("-C", store, "rm", TRAIN, session.ref)
    session.done()

    assert told.code == 2
    assert [row[0] for row in told.rows] == [TENTH]
    assert session.ref in told.err
    assert "a process executes it" in told.err
    assert len(told.err.splitlines()) == 1


def test_a_path_that_is_taken_again_is_one_line_and_nothing_is_changed(store: Path, call: Call) -> None:
    call("-C", store, "rm", TRAIN)
    path = store / TENTH / "train_model.pt"
    path.write_bytes(b"other")
    told = call("-C", store, "restore", TRAIN)

    assert (told.code, told.out) == (2, "")
    assert f"{TENTH}/train_model.pt is taken again" in told.err
    assert path.read_bytes() == b"other"
    assert shown(store, call, "--removed") == [TRAIN]


def test_restore_of_a_run_that_is_not_removed_is_refused(store: Path, call: Call) -> None:
    told = call("-C", store, "restore", TRAIN)

    assert told.code == 2
    assert "it is not removed" in told.err


def test_gc_prints_first_and_deletes_only_what_was_removed_long_ago(store: Path, call: Call) -> None:
    call("-C", store, "rm", TRAIN)
    trash = store / ".tracker" / "trash"
    size_bytes = sum(path.stat().st_size for path in trash.rglob("*") if path.is_file())
    assert call("-C", store, "gc").rows == []
    plan = call("-C", store, "gc", "--older-than", "0s", "--dry-run")

    assert [row[:2] + row[3:] for row in plan.rows] == [["trash", TRAIN, "2", str(size_bytes)]]
    assert sum(1 for path in trash.rglob("*") if path.is_file()) == 2
    done = json.loads(call("-C", store, "gc", "--older-than", "0s", "--json").out)

    assert done["dry_run"] is False
    assert [purge["ref"] for purge in done["purged"]] == [TRAIN]
    assert [path for path in trash.rglob("*") if path.is_file()] == []
    assert "purged" in call("-C", store, "restore", TRAIN).err
    assert call("-C", store, "verify", "--full").code == 0


@pytest.mark.parametrize("span", ["14", "d", "1w", "-1d", "1.5h", "14 d", "٣d"])
def test_a_span_that_is_none_is_a_wrong_question(span: str, store: Path, call: Call) -> None:
    told = call("-C", store, "gc", f"--older-than={span}")

    assert (told.code, told.out) == (2, "")
    assert "span of time" in told.err


def test_repair_on_a_sound_store_does_nothing(store: Path, call: Call) -> None:
    assert call("-C", store, "repair").rows == []
    assert json.loads(call("-C", store, "repair", "--json").out) == {
        "dry_run": False,
        "mended": [],
        "refused": [],
    }


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_repair_prints_its_plan_and_then_does_it(tmp_path: Path, call: Call) -> None:
    root = tmp_path / "broken"
    fill(root)
    path = root / TENTH / "params.json"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"{}")
    plan = call("-C", root, "repair", "--dry-run")

    assert [row[:3] for row in plan.rows] == [["would mend", "params", f"{TENTH}/params.json"]] * 2
    assert path.read_bytes() == b"{}"
    assert call("-C", root, "verify", "--full").code == 1
    done = call("-C", root, "repair")
    assert [row[0] for row in done.rows] == ["mended"] * 2
    assert path.read_bytes() == whole
    told = call("-C", root, "verify", "--full")
    assert (told.code, [row[:2] for row in told.rows]) == (0, [["note", "quarantined"]])


@pytest.mark.unchecked_store(reason="segments are lost on purpose")
def test_a_lost_log_is_named_and_taken_back_when_that_is_asked_for(tmp_path: Path, call: Call) -> None:
    root = tmp_path / "lost"
    fill(root)
    before = [row[:4] + row[5:] for row in call("-C", root, "ls").rows if row[3] != "running"]
    for month in (root / ".tracker" / "ledger").iterdir():
        shutil.rmtree(month)
    told = json.loads(call("-C", root, "rebuild", "--json").out)

    assert (len(told["unmatched"]), told["recovered"], told["runs"]) == (5, [], 0)
    done = json.loads(call("-C", root, "rebuild", "--lost-log", "--json").out)
    assert (done["unmatched"], sorted(done["recovered"])) == ([], sorted(told["unmatched"]))
    after = [row[:4] + row[5:] for row in call("-C", root, "ls").rows]
    assert len(before) == 5
    assert sorted(after) == sorted(before)
    assert [row[0] for row in call("-C", root, "rebuild", "--lost-log").rows] == [
        "runs", "manifests_written", "manifests_kept",
    ]  # fmt: skip


def test_people_read_lines_and_a_table(store: Path, on_terminal: Call) -> None:
    removed = on_terminal("-C", store, "rm", TRAIN)
    plan = on_terminal("-C", store, "gc", "--older-than", "0s", "--dry-run")
    back = on_terminal("-C", store, "restore", TRAIN)
    nothing = on_terminal("-C", store, "repair")

    assert f"{TRAIN}: removed, 2 files to the trash" in removed.out
    assert "1 runs removed more than 0.0 s ago would be purged" in plan.out
    assert "trash" in plan.out
    assert f"{TRAIN}: restored, 2 files back in place" in back.out
    assert "nothing is to be repaired" in nothing.out
    assert [told.code for told in (removed, plan, back, nothing)] == [0] * 4
