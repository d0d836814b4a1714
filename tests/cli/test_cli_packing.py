"""`pack` and `unpack`: what they print, and what they leave behind.

The judges are plain files, GNU tar and the other commands.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_sessions import Call, fill

from tracker import Durability, Project


def packs_of(store: Path) -> list[str]:
    return sorted(
        path.relative_to(store / ".tracker").as_posix() for path in store.glob(".tracker/**/*.pack")
    )


def loose_of(store: Path) -> set[str]:
    found = [*store.glob(".tracker/ledger/*/*.seg"), *store.glob(".tracker/manifests/*/*.json")]
    return {path.relative_to(store / ".tracker").as_posix() for path in found}


@pytest.fixture
def twice(store: Path) -> Path:
    """A store of two segments or more, so that there is something to fold."""
    more(store)
    return store


def more(store: Path) -> None:
    """A further run, in a segment of its own."""
    project = Project(store, durability=Durability.OFF)
    with project.session("train", {"lr": 9.0}) as run:
        run.path("model.pt").write_bytes(b"weights")
    project.ledger.close()


def test_pack_folds_and_no_other_command_tells_a_difference(twice: Path, call: Call) -> None:
    asked = [("ls", "--json"), ("log",), ("verify", "--full")]
    before = [call("-C", twice, *line).out for line in asked]
    files = loose_of(twice)
    told = call("-C", twice, "pack")

    assert (told.code, told.err) == (0, "")
    assert [row[0] for row in told.rows] == packs_of(twice)
    assert sum(int(row[3]) for row in told.rows) == len(files) > 4
    assert [int(row[2]) for row in told.rows] == [
        (twice / ".tracker" / path).stat().st_size for path in packs_of(twice)
    ]
    assert loose_of(twice) == set()
    assert [call("-C", twice, *line).out for line in asked] == before
    assert call("-C", twice, "pack").rows == []

    back = call("-C", twice, "unpack")

    assert back.code == 0
    assert [row[0] for row in back.rows] == ["unpacked", "unpacked"]
    assert (loose_of(twice), packs_of(twice)) == (files, [])
    assert call("-C", twice, "unpack").rows == []


def test_a_dry_run_prints_the_same_and_does_nothing(twice: Path, call: Call) -> None:
    files = loose_of(twice)
    plan = call("-C", twice, "pack", "--dry-run")

    assert (loose_of(twice), packs_of(twice)) == (files, [])
    assert plan.rows == call("-C", twice, "pack").rows != []


def test_json_tells_all(twice: Path, call: Call) -> None:
    files = loose_of(twice)
    done = json.loads(call("-C", twice, "pack", "--json").out)

    assert (done["dry_run"], done["dropped"]) == (False, 0)
    assert [fold["pack"] for fold in done["folds"]] == packs_of(twice)
    assert sum(fold["members"] for fold in done["folds"]) == len(files)
    back = json.loads(call("-C", twice, "unpack", "--json").out)
    assert (back["files"], back["left"], len(back["packs"])) == (len(files), {}, 2)


def test_the_line_of_the_help_lists_a_pack(twice: Path, call: Call) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs tar")
    files = loose_of(twice)
    call("-C", twice, "pack")
    told = [
        subprocess.run(["tar", "-tf", twice / ".tracker" / path], capture_output=True, text=True, check=True)
        for path in packs_of(twice)
    ]

    assert {line for one in told for line in one.stdout.splitlines()} == files


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_pack_is_left_and_named(tmp_path: Path, call: Call) -> None:
    root = tmp_path / "broken"
    fill(root)
    more(root)
    call("-C", root, "pack")
    path = root / ".tracker" / packs_of(root)[0]
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:700] + bytes([data[700] ^ 1]) + data[701:])
    told = call("-C", root, "unpack")

    assert told.code == 1
    assert [row[0] for row in told.rows] == ["unpacked", "left"]
    assert "it is damaged: 1 of" in told.rows[1][2]
    assert path.exists()
    assert any(row[1] == "pack-damaged" for row in call("-C", root, "verify").rows)


@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_without_a_store_it_says_how_to_name_one(command: str, tmp_path: Path, call: Call) -> None:
    told = call("-C", tmp_path, command)

    assert (told.code, told.out) == (2, "")
    assert "store not found" in told.err
    assert list(tmp_path.iterdir()) == []


def test_people_read_a_table_and_a_sum(twice: Path, on_terminal: Call) -> None:
    plan = on_terminal("-C", twice, "pack", "--dry-run")
    done = on_terminal("-C", twice, "pack")
    again = on_terminal("-C", twice, "pack")
    back = on_terminal("-C", twice, "unpack")
    nothing = on_terminal("-C", twice, "unpack")

    assert "would be 2 packs" in plan.out
    assert "files are 2 packs" in done.out
    assert "manifests/" in done.out
    assert "nothing is to be packed" in again.out
    assert "files of 2 packs" in back.out
    assert "nothing is to be unpacked" in nothing.out
