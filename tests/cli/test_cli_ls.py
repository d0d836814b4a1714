"""`ls`: every run, in order of creation, the same from every copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from cli_sessions import ONE, TENTH, Call, remove


def test_a_pipe_gets_one_whole_line_a_run_in_order_of_creation(store: Path, call: Call) -> None:
    told = call("-C", store, "ls")

    assert (told.code, told.err) == (0, "")
    assert [row[1:4] + row[5:] for row in told.rows] == [
        ["train", ".", "done", '{"lr":0.1}'],
        ["train", ".", "error", '{"lr":2.0}'],
        ["eval", ".", "done", '{"lr":0.1}'],
        ["train", "grid", "done", '{"lr":1}'],
        ["train", ".", "done", told.rows[4][5]],
        ["train", ".", "running", '{"lr":3.0}'],
    ]
    assert [told.rows[n][0] for n in (0, 2, 3)] == [TENTH, TENTH, ONE]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row[4]) for row in told.rows)


@pytest.mark.parametrize(
    ("filters", "places"),
    [
        (["--identifier", "eval"], [2]),
        (["--namespace", "grid"], [3]),
        (["--namespace", "grid/"], [3]),
        (["--namespace", "."], [0, 1, 2, 4, 5]),
        (["--namespace", "gri"], []),
        (["--status", "error"], [1]),
        (["--status", "done", "--identifier", "train"], [0, 3, 4]),
        (["--identifier", "nobody"], []),
        (["--removed"], []),
    ],
)
def test_filters(filters: list[str], places: list[int], store: Path, call: Call) -> None:
    everything = call("-C", store, "ls").rows
    told = call("-C", store, "ls", *filters)

    assert told.code == 0
    assert told.rows == [everything[place] for place in places]


def test_a_removed_run_is_shown_when_removed_ones_are_asked_for(store: Path, call: Call) -> None:
    remove(store, f"eval/{TENTH}")

    assert TENTH not in [row[0] for row in call("-C", store, "ls", "--identifier", "eval").rows]
    assert [row[1] for row in call("-C", store, "ls", "--removed").rows] == ["eval"]


def test_json_is_the_state_as_the_reference_tells_it(store: Path, call: Call, reference: ModuleType) -> None:
    remove(store, f"eval/{TENTH}")
    told = json.loads(call("-C", store, "ls", "--json").out)
    want = reference.read_store(store)

    assert told == [run for run in want["runs"] if not run["removed"]]


def test_a_copy_elsewhere_prints_the_same_bytes(store: Path, spawn: Call, tmp_path: Path) -> None:
    copy = tmp_path / "other" / "place"
    shutil.copytree(store, copy)

    for line in (["ls"], ["ls", "--json"], ["log"], ["log", "--json"], ["show", "@latest"]):
        here, there = spawn("-C", store, *line), spawn("-C", copy, *line)
        assert here == there
        assert here.out
        assert str(store.parent) not in here.out


def test_nothing_is_printed_for_a_store_without_runs(tmp_path: Path, call: Call) -> None:
    (tmp_path / ".tracker" / "ledger").mkdir(parents=True)

    assert call("-C", tmp_path, "ls").out == ""
    assert call("-C", tmp_path, "ls", "--json").out == "[]\n"


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_reads_the_params_of_finished_runs(store: Path, spawn: Call) -> None:
    program = '.[] | select(.status == "done" and .key == .uid) | .params | fromjson | .lr'
    told = spawn("-C", store, "ls", "--json").out
    read = subprocess.run(["jq", "-c", program], input=told, capture_output=True, text=True, check=True)

    assert read.stdout.split() == ["0.1", "0.1", "1"]


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in [root, *root.rglob("*")]
    }


READERS = [
    ["ls"], ["ls", "--json"], ["show", ONE], ["log"], ["params", ONE], ["path", ONE, "new/file.txt"],
    ["path", "@latest"], ["verify"], ["verify", "--full"], ["verify", "--replay"],
]  # fmt: skip


def test_readers_write_nothing_into_the_tree(store: Path, spawn: Call) -> None:
    """As on a read-only mount (I2), whether or not the index can be kept."""
    before = snapshot(store)
    for line in READERS:
        assert spawn("-C", store, *line).code == 0
        assert spawn("-C", store, *line, env={**os.environ, "TRACKER_CACHE": os.devnull}).code == 0

    assert snapshot(store) == before


def test_a_read_only_store_is_read(store: Path, spawn: Call) -> None:
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        told = [spawn("-C", store, *line) for line in READERS]
    finally:
        for folder in folders:
            folder.chmod(0o755)

    assert [(one.code, one.err) for one in told] == [(0, "")] * len(READERS)
