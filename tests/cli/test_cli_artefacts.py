"""`files`, `get`, `lineage`: what runs made and used, and whether it is as it was.

The judges are b3sum's hash of the bytes and the paths that the test itself wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import reference
from blake3 import blake3
from cli_sessions import TENTH, Call, command

from tracker import Durability, Project
from tracker._store.trash import trash_folder
from tracker.trash import remove

TRAIN = f"train/{TENTH}"


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """raw.csv -> prep -> train -> eval in a store of its own."""
    root = tmp_path / "chain"
    project = Project(root, durability=Durability.OFF, provenance=False)
    (tmp_path / "raw.csv").write_bytes(b"raw")
    with project.session("prep", {"n": 1}) as prep:
        prep.use(tmp_path / "raw.csv")
        prep.path("data.npz").write_bytes(b"prepared")
    with project.session("train", {"lr": 0.1}) as train:
        train.use(prep.path("data.npz"))
        kept = train.save("model", b"weights" * 1000)
        train.path("log.txt").write_text("fine\n")
    with project.session("eval", {"lr": 0.1}) as run:
        run.use(kept, "model")
    project.ledger.close()
    return root


def place_of(root: Path, name: str) -> Path:
    (found,) = root.glob(f"*/{name}")
    return found


# files


def test_files_are_told_with_size_digest_state_and_path(chain: Path, call: Call) -> None:
    data = b"weights" * 1000
    path = f".tracker/objects/{digest(data)[:2]}/{digest(data)[2:]}"

    assert call("-C", chain, "files", TRAIN).rows == [
        ["log.txt", "5", digest(b"fine\n"), "same", f"{TENTH}/train_log.txt"],
        ["model", "7000", digest(data), "same", path],
    ]
    told = json.loads(call("-C", chain, "files", TRAIN, "--json").out)
    assert told == reference.files(chain, TRAIN)
    facts = {"path": path, "size": 7000, "digest": digest(data)}
    assert told[1] == {"name": "model", **facts, "external": False, "state": "same"}


def test_inputs_are_told_with_the_run_that_made_them(chain: Path, call: Call) -> None:
    rows = call("-C", chain, "files", TRAIN, "--inputs").rows
    told = json.loads(call("-C", chain, "files", TRAIN, "--inputs", "--json").out)

    assert [row[:4] for row in rows] == [["prep_data.npz", "8", digest(b"prepared"), "same"]]
    assert told[0]["source"].startswith("prep/")


def test_a_state_says_what_became_of_a_file(chain: Path, call: Call) -> None:
    log = place_of(chain, "train_log.txt")
    states = []
    for change in (
        lambda: log.write_bytes(b"FINE\n"),
        lambda: log.write_bytes(b"fine\n"),
        lambda: log.write_bytes(b"fine"),
        log.unlink,
        log.mkdir,
        lambda: (log / "inner").touch(),
    ):
        change()
        states.append(call("-C", chain, "files", TRAIN).rows[0][3])

        assert reference.files(chain, TRAIN)[0]["state"] == states[-1], "the reference says otherwise"

    assert states == ["changed", "same", "changed", "missing", "changed", "changed"]


def test_of_what_was_not_sealed_nothing_is_judged(tmp_path: Path, call: Call) -> None:
    project = Project(tmp_path / "s", durability=Durability.OFF, seal="none", provenance=False)
    with project.session("train", {"lr": 0.1}) as run:
        run.path("f").write_text("x")
        run.attach_files({"gone": tmp_path / "s" / "gone"})
    sized = Project(tmp_path / "s", durability=Durability.OFF, seal="size", provenance=False)
    with sized.session("eval", {"lr": 0.1}) as run:
        run.path("f").write_text("x")
    project.ledger.close()

    assert [row[:4] for row in call("-C", tmp_path / "s", "files", TRAIN).rows] == [
        ["f", "", "", "unsealed"],
        ["gone", "", "", "missing"],
    ]
    assert [row[:4] for row in call("-C", tmp_path / "s", "files", f"eval/{TENTH}").rows] == [
        ["f", "1", "", "same"]
    ]


def test_files_of_a_removed_run_are_looked_for_in_the_trash(chain: Path, call: Call) -> None:
    project = Project(chain)
    remove(project.ledger, next(run.ref for run in project.ledger.find() if run.identifier == "train"))
    project.ledger.close()
    log = next((chain / ".tracker" / "trash").rglob("train_log.txt"))

    assert trash_folder(TRAIN) in log.as_posix()
    assert [row[3] for row in call("-C", chain, "files", TRAIN).rows] == ["same", "same"]
    assert call("-C", chain, "get", TRAIN, "log.txt").out == "fine\n"


def test_a_run_without_files_has_none(store: Path, call: Call) -> None:
    told = call("-C", store, "files", f"eval/{TENTH}")

    assert (told.code, told.out) == (0, "")
    assert json.loads(call("-C", store, "files", f"eval/{TENTH}", "--json").out) == []


# get


def test_get_gives_the_bytes_and_nothing_else(chain: Path, tmp_path: Path, call: Call) -> None:
    done = subprocess.run(command("-C", chain, "get", TRAIN, "model"), capture_output=True, check=True)
    told = call("-C", chain, "get", TRAIN, "model", "-o", tmp_path / "out")
    facts = json.loads(call("-C", chain, "get", TRAIN, "model", "--json").out)

    assert (done.stdout, done.stderr) == (b"weights" * 1000, b"")
    assert (told.code, told.out, told.err) == (0, "", "")
    assert (tmp_path / "out").read_bytes() == b"weights" * 1000
    assert facts == {
        "name": "model",
        "path": f".tracker/objects/{digest(done.stdout)[:2]}/{digest(done.stdout)[2:]}",
        "size": 7000,
        "digest": digest(done.stdout),
    }


def test_altered_bytes_are_refused_and_nothing_is_written(chain: Path, tmp_path: Path, call: Call) -> None:
    place_of(chain, "train_log.txt").write_bytes(b"FINE\n")
    (tmp_path / "out").write_text("before")
    for more in ([], ["-o", tmp_path / "out"], ["--json"]):
        told = call("-C", chain, "get", TRAIN, "log.txt", *more)
        assert (told.code, told.out) == (1, "")
        assert "sealed as 5 bytes of BLAKE3" in told.err
        assert len(told.err.splitlines()) == 1
    assert (tmp_path / "out").read_text() == "before"


def test_what_is_not_there_is_told(chain: Path, call: Call) -> None:
    place_of(chain, "train_log.txt").unlink()
    gone = call("-C", chain, "get", TRAIN, "log.txt")
    unknown = call("-C", chain, "get", TRAIN, "no such")

    assert gone.code == 4
    assert "train_log.txt" in gone.err
    assert unknown.code == 1
    assert "`tracker files` shows" in unknown.err


def test_a_terminal_gets_no_bytes(chain: Path, on_terminal: Call) -> None:
    told = on_terminal("-C", chain, "get", TRAIN, "model")

    assert told.code == 2
    assert "weights" not in told.out
    assert "-o FILE" in told.out


# lineage


def test_a_run_leads_up_and_down(chain: Path, tmp_path: Path, call: Call) -> None:
    rows = call("-C", chain, "lineage", TRAIN).rows
    prep = next(row[5] for row in rows if row[5].startswith("prep/"))
    weights = digest(b"weights" * 1000)

    assert rows == [
        ["made by", "1", TRAIN, "prep_data.npz", digest(b"prepared"), prep],
        ["made by", "2", prep, "raw.csv", digest(b"raw"), ""],
        ["used by", "1", TRAIN, "model", weights, f"eval/{TENTH}"],
    ]
    assert call("-C", chain, "lineage", TRAIN, "--depth", "1").rows == [rows[0], rows[2]]


@pytest.mark.parametrize("how", ["path", "copy", "digest"])
def test_a_file_leads_up_and_down_wherever_it_lies(chain: Path, tmp_path: Path, call: Call, how: str) -> None:
    (tmp_path / "copy").write_bytes(b"prepared")
    what = {
        "path": place_of(chain, "prep_data.npz"),
        "copy": tmp_path / "copy",
        "digest": digest(b"prepared"),
    }
    told = json.loads(call("-C", chain, "lineage", what[how], "--json").out)

    assert [(link["depth"], link["name"]) for link in told["made_by"]] == [(1, "data.npz"), (2, "raw.csv")]
    assert [(link["depth"], link["far"]) for link in told["used_by"]] == [(1, TRAIN), (2, f"eval/{TENTH}")]
    assert set(told["statuses"].values()) == {"done"}
    assert len(told["statuses"]) == 3


def test_a_folder_of_a_run_is_the_run_and_what_is_neither_is_told(
    chain: Path, tmp_path: Path, call: Call
) -> None:
    by_folder = call("-C", chain, "lineage", chain / TENTH, "--identifier", "train")

    assert by_folder.rows == call("-C", chain, "lineage", TRAIN).rows
    assert call("-C", chain, "lineage", "nothing-so").code == 2
    assert call("-C", chain, "lineage", "ab" * 32).out == ""


def test_a_file_of_no_run_is_told(chain: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "mine.txt").write_text("nobody made it")
    told = call("-C", chain, "lineage", tmp_path / "mine.txt")
    neither = call("-C", chain, "lineage", "nothing.txt")

    assert (told.code, told.out) == (0, "")
    assert told.err == f"tracker: warning: no run here made or used {tmp_path / 'mine.txt'}\n"
    assert (neither.code, neither.out) == (2, "")
    assert "'nothing.txt' names no run, and there is no such file" in neither.err


def test_people_read_a_tree(chain: Path, on_terminal: Call) -> None:
    told = on_terminal("-C", chain, "lineage", TRAIN, columns=200)
    lines = told.out.splitlines()

    assert told.code == 0
    assert lines[0] == f"{TRAIN}  done"
    assert lines[1] == "made from"
    assert lines[2].startswith("  prep_data.npz  8 B")
    assert lines[3].startswith("    raw.csv  3 B")
    assert lines[3].endswith("made by no run here")
    assert lines[4] == "used by"
    assert f"eval/{TENTH} done" in lines[5]
    none = on_terminal("-C", chain, "lineage", "ab" * 32).out.splitlines()
    assert none == ["ab" * 32, "made by", "  no run here", "used by", "  no run here"]


def test_a_circle_is_told_once(tmp_path: Path, on_terminal: Call, call: Call) -> None:
    project = Project(tmp_path / "s", durability=Durability.OFF, provenance=False)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    for used, made in (("a", "b"), ("b", "a")):
        with project.session("turn", {"n": used}) as run:
            run.use(tmp_path / used)
            run.path("out").write_text(made)
    project.ledger.close()
    told = on_terminal("-C", tmp_path / "s", "lineage", run.ref, columns=200)

    assert told.code == 0
    assert len(call("-C", tmp_path / "s", "lineage", run.ref).rows) == 4
    assert len(told.out.splitlines()) == 7
    assert "as above" in told.out


def test_names_from_a_store_cannot_command_a_terminal(tmp_path: Path, on_terminal: Call) -> None:
    odd = tmp_path / "a\x1b[31m.csv"
    odd.write_text("x")
    project = Project(tmp_path / "s", durability=Durability.OFF, provenance=False)
    with project.session("train", {"lr": 0.1}) as run:
        run.use(odd, "odd")
    project.ledger.close()
    for words in (("files", "--inputs"), ("lineage",)):
        told = on_terminal("-C", tmp_path / "s", words[0], run.ref, *words[1:], NO_COLOR="1")
        assert "\x1b" not in told.out
        assert told.code == 0
    assert os.listdir(tmp_path)


def test_the_reference_prints_the_same_files_and_says_if_one_was_changed(chain: Path, call: Call) -> None:
    asked = [sys.executable, reference.__file__, chain, "--files", TRAIN]
    same = subprocess.run(asked, capture_output=True, text=True, check=False)
    mine = json.loads(call("-C", chain, "files", TRAIN, "--json").out)
    place_of(chain, "train_log.txt").write_bytes(b"FINE\n")
    changed = subprocess.run(asked, capture_output=True, text=True, check=False)

    assert (same.returncode, same.stderr, json.loads(same.stdout)) == (0, "", mine)
    assert changed.returncode == 1
    assert [file["state"] for file in json.loads(changed.stdout)] == ["changed", "same"]
