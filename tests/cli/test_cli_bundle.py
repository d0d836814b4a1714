"""`tracker bundle`: what it prints, its exit codes, and what comes out of the archive."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call

from tracker.cli.complaints import Exit

pytestmark = pytest.mark.unchecked_store("manifests of another ledger lie beside the bundle's")


def test_what_is_bundled_opens_with_tracker(store: Path, call: Call, tmp_path: Path) -> None:
    made = call("-C", store, "bundle", "status == 'done'", "-o", tmp_path / "x.tar.gz", "--json")
    told = json.loads(made.out)
    subprocess.run(["tar", "-xf", tmp_path / "x.tar.gz", "-C", tmp_path], check=True)
    root = tmp_path / told["folder"]
    listed = call("-C", root, "ls")

    assert (made.code, told["exit_code"], told["is_made"]) == (0, 0, True)
    assert listed.rows == call("-C", store, "ls", "status == 'done'").rows
    assert len(listed.rows) == len(told["runs"]) == 4
    assert call("-C", root, "verify", "--full").code == 0
    assert call("-C", root, "path", f"train/{TENTH}", "model.pt").code == 0


def test_on_a_pipe_a_line_is_a_run_or_what_a_person_should_know(
    store: Path, call: Call, tmp_path: Path
) -> None:
    made = call("-C", store, "bundle", "identifier == 'train'", "-o", tmp_path / "x.zip")
    rows = made.rows

    runs = [row[1] for row in rows if row[0] == "run"]

    assert made.code == 0
    assert len(runs) == 5
    assert runs == sorted(runs)
    assert f"grid/train/{ONE}" in runs
    assert [row[0] for row in rows[5:]] == ["unfinished"]
    assert rows[5][1] in runs


def test_a_file_that_changed_is_code_3_and_no_archive(store: Path, call: Call, tmp_path: Path) -> None:
    model = store / TENTH / "train_model.pt"
    sound = model.read_bytes()
    model.write_bytes(b"Weights")
    refused = call("-C", store, "bundle", "-o", tmp_path / "x.tar")
    is_made = (tmp_path / "x.tar").exists()
    allowed = call("-C", store, "bundle", "-o", tmp_path / "x.tar", "--allow-missing")
    model.write_bytes(sound)
    unfit = [row[:2] for row in refused.rows if row[0] == "unfit"]

    assert (refused.code, unfit, is_made) == (Exit.INCOMPLETE, [["unfit", f"{TENTH}/train_model.pt"]], False)
    assert (allowed.code, (tmp_path / "x.tar").exists()) == (Exit.INCOMPLETE, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], Exit.USAGE, "bundle: where to?; name the archive: -o runs.tar.gz"),
        (["-o", "x.rar"], Exit.USAGE, "its name ends in none of"),
        (["-o", "x.tar", "--author", ";"], Exit.USAGE, "it is not NAME or NAME;ORCID"),
        (["-o", "x.tar", "--license", "MIT"], Exit.USAGE, "it is no URL; give its address"),
        (["lr <", "-o", "x.tar"], Exit.USAGE, "query column"),
        (["lrr == 1", "-o", "x.tar"], Exit.NO, "no run has the key 'lrr'"),
        (["-o", "none/x.tar"], Exit.REFUSED, "a folder of this path is gone"),
    ],
)
def test_a_wrong_question_is_told_in_a_line_and_writes_nothing(
    store: Path, call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(store.parent)
    asked = call("-C", store, "bundle", *arguments)

    assert asked.code == code
    assert told in asked.err
    assert list(store.parent.iterdir()) == [store]


def test_a_dry_run_tells_and_writes_nothing(store: Path, call: Call, tmp_path: Path) -> None:
    told = json.loads(call("-C", store, "bundle", "--dry-run", "--json").out)

    assert told["dry_run"] and not told["is_made"]
    assert len(told["runs"]) == 6
    assert told["files"] > 20


def test_an_archive_is_replaced_only_when_told(store: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("precious")
    refused = call("-C", store, "bundle", "-o", tmp_path / "x.tar")
    kept = (tmp_path / "x.tar").read_text()

    assert (refused.code, kept) == (Exit.USAGE, "precious")
    assert call("-C", store, "bundle", "-o", tmp_path / "x.tar", "--force").code == 0


def test_on_a_terminal_a_person_is_told_how_it_opens(store: Path, on_terminal: Call, tmp_path: Path) -> None:
    shown = on_terminal("-C", store, "bundle", "status == 'done'", "-o", tmp_path / "x.tar", columns=200).out

    assert "bundled 4 runs, " in shown
    assert "opens with: tracker -C bundle-" in shown
    assert "events written anew" in shown


def test_a_dry_run_on_a_terminal_says_would(store: Path, on_terminal: Call) -> None:
    shown = on_terminal("-C", store, "bundle", "--dry-run", columns=200).out

    assert "would bundle 6 runs, " in shown
    assert "original segment" in shown


def test_whole_takes_other_runs_along(store: Path, call: Call, tmp_path: Path) -> None:
    words = ("-C", store, "bundle", "identifier == 'eval'", "--whole", "-o", tmp_path / "x.tar", "--json")
    told = json.loads(call(*words).out)

    assert (told["strangers"], told["anew"]) == (5, 0)
    assert told["verbatim"]
