"""`doctor`: which folder it examines, its exit codes, and what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cli_sessions import Call

PROBES = 19


def test_a_folder_without_a_store_is_examined_and_left_empty(tmp_path: Path, call: Call) -> None:
    told = call("doctor", tmp_path)

    assert (told.code, told.err) == (0, "")
    assert len(told.rows) == PROBES
    assert {len(row) for row in told.rows} == {5}
    assert {row[1] for row in told.rows} <= {"ok", "degraded"}
    assert os.listdir(tmp_path) == []


def test_json_holds_words_figures_and_the_exit_code(tmp_path: Path, call: Call) -> None:
    told = call("doctor", "--json", tmp_path)
    found = json.loads(told.out)

    assert (found["folder"], found["exit_code"], told.code) == (str(tmp_path), 0, 0)
    assert len(found["results"]) == PROBES
    for result in found["results"]:
        assert set(result) == {"probe", "verdict", "measured", "relied_on_by", "otherwise", "figures"}
    figures = {result["probe"]: result["figures"] for result in found["results"]}
    assert figures["longest name"]["bytes"] == os.pathconf(tmp_path, "PC_NAME_MAX")
    assert figures["exclusive create"]["raced"] == 300


def test_the_nearest_store_is_meant_else_the_current_folder(
    store: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store / "grid")
    assert json.loads(call("doctor", "--json").out)["folder"] == str(store)

    monkeypatch.chdir(tmp_path)
    assert json.loads(call("doctor", "--json").out)["folder"] == str(tmp_path)
    assert json.loads(call("-C", store, "doctor", "--json").out)["folder"] == str(store)


def test_a_name_that_is_no_folder_is_a_wrong_question(tmp_path: Path, call: Call) -> None:
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        told = call("doctor", tmp_path / name)

        assert (told.code, told.out) == (2, "")
        assert "is not a folder; " in told.err
        assert told.err.count("\n") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a tmpfs")
def test_an_unfit_folder_is_exit_code_1(tmp_path: Path, call: Call) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=1", "none", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(mounted.stderr.decode())
    try:
        told = call("doctor", tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)

    assert told.code == 1
    assert ["writable", "unfit"] in [row[:2] for row in told.rows]


@pytest.mark.parametrize("blocked", [False, True], ids=["rich", "plain"])
def test_a_terminal_gets_a_table_in_which_nothing_is_cut(
    blocked: bool, tmp_path: Path, on_terminal: Call, call: Call, without_rich: str
) -> None:
    environ = {"PYTHONPATH": without_rich} if blocked else {}
    told = on_terminal("doctor", tmp_path, NO_COLOR="1", TRACKER_CACHE=os.devnull, **environ)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.out)
    lines = text.splitlines()

    assert told.code == 0
    assert all(len(line) <= 100 for line in lines)
    assert "…" not in text
    assert f"{tmp_path}: degraded" in lines  # behind what the bar left of its line
    assert sum(" ok " in line or " degraded " in line for line in lines) >= PROBES
    assert "cache: the index is kept in memory" in text
