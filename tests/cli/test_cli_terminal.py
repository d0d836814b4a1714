"""What people see: tables, short uids, colours; with rich and without, and nothing of it on a pipe."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call, fill
from hypothesis import given
from hypothesis import strategies as st

from tracker import Durability, Project
from tracker.cli.table import Columns, fit_columns, width_of
from tracker.progress import Bar

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
BLOCKED = [False, True]


def seen(text: str) -> str:
    return ESCAPE.sub("", text)


def environ_of(blocked: bool, without_rich: str) -> dict[str, str]:
    return {"PYTHONPATH": without_rich} if blocked else {}


@pytest.mark.parametrize("blocked", BLOCKED, ids=["rich", "plain"])
def test_ls_is_a_table_with_short_uids_and_ages(
    blocked: bool, store: Path, on_terminal: Call, without_rich: str
) -> None:
    told = on_terminal("-C", store, "ls", **environ_of(blocked, without_rich))
    lines = seen(told.out).splitlines()

    assert told.code == 0
    assert lines[0].split() == ["run", "identifier", "namespace", "status", "created", "lr"]
    assert len(lines) == 7
    assert lines[1].split()[:4] == [TENTH[:8], "train", ".", "done"]
    assert [line.split()[-1] for line in lines[1:]] == ["0.1", "2.0", "0.1", "1", "0.1", "3.0"]
    assert re.search(r"now|\d+ s ago", lines[1])
    assert all(len(line) <= 100 for line in lines)
    starts = {
        line.index(word) for line, word in zip(lines, ["status", "done", "error", "done"], strict=False)
    }
    assert len(starts) == 1


def test_both_renderings_say_the_same(store: Path, on_terminal: Call, without_rich: str) -> None:
    for line in (["log"], ["show", ONE], ["path", ONE], ["params", ONE], ["verify"]):
        with_it = seen(on_terminal("-C", store, *line).out)
        without = seen(on_terminal("-C", store, *line, PYTHONPATH=without_rich).out)
        ages = r"now|\d+ s ago"

        assert re.sub(ages, "then", with_it) == re.sub(ages, "then", without)
        assert with_it


@pytest.mark.parametrize("blocked", BLOCKED, ids=["rich", "plain"])
def test_a_status_has_its_colour(blocked: bool, store: Path, on_terminal: Call, without_rich: str) -> None:
    told = on_terminal("-C", store, "ls", **environ_of(blocked, without_rich)).out

    assert re.search("\x1b\\[32mdone", told)
    assert re.search("\x1b\\[31merror", told)
    assert re.search("\x1b\\[36mrunning", told)


@pytest.mark.parametrize("blocked", BLOCKED, ids=["rich", "plain"])
@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_color_means_no_escape_at_all(
    environ: dict[str, str], blocked: bool, store: Path, on_terminal: Call, without_rich: str
) -> None:
    for line in (["ls"], ["log"], ["show", ONE], ["verify"], ["--help"]):
        told = on_terminal("-C", store, *line, **environ, **environ_of(blocked, without_rich))
        assert "\x1b" not in told.out
        assert told.out


@pytest.mark.parametrize("blocked", BLOCKED, ids=["rich", "plain"])
def test_a_table_is_cut_to_the_width_and_keeps_its_uids(
    blocked: bool, store: Path, on_terminal: Call, spawn: Call, without_rich: str
) -> None:
    told = on_terminal("-C", store, "log", columns=72, **environ_of(blocked, without_rich))
    lines = seen(told.out).splitlines()

    assert max(map(len, lines)) <= 72
    assert any("…" in line for line in lines)
    piped = sum(TENTH in row for row in spawn("-C", store, "log").rows)
    assert sum(TENTH[:8] in line.split() for line in lines) == piped >= 6


def test_namespaces_have_a_column_where_there_are_any(store: Path, on_terminal: Call) -> None:
    told = on_terminal("-C", store, "ls", "--identifier", "eval")

    assert "namespace" not in told.out


def many(root: Path) -> None:
    project = Project(root, durability=Durability.OFF, provenance=False)
    for lr in (0.1, 0.01):
        for name in ("resnet", "vit"):
            fixed = {"data": "iris", "layers": [64, 64], "text": "x" * 40 + name}
            project.session("train", {"lr": lr, "model": {"name": name}, **fixed}).start().done()
    project.ledger.close()


def test_ls_shows_the_params_in_which_the_runs_differ(tmp_path: Path, on_terminal: Call) -> None:
    many(tmp_path)
    lines = seen(on_terminal("-C", tmp_path, "ls", columns=130).out).splitlines()

    assert lines[0].split()[3:] == ["created", "lr", "model.name", "text"]
    assert [line.split()[-3:-1] for line in lines[1:]] == [
        ["0.1", "resnet"], ["0.1", "vit"], ["0.01", "resnet"], ["0.01", "vit"],
    ]  # fmt: skip


def test_params_without_room_for_a_column_stand_in_the_last_one(tmp_path: Path, on_terminal: Call) -> None:
    many(tmp_path)
    lines = seen(on_terminal("-C", tmp_path, "ls", columns=90).out).splitlines()

    assert lines[0].split()[3:] == ["created", "lr", "model.name", "more"]
    assert all(" text=xxxxx" in line for line in lines[1:])
    assert all(len(line) <= 90 for line in lines)


def test_of_one_run_ls_shows_every_param(tmp_path: Path, on_terminal: Call) -> None:
    many(tmp_path)
    told = seen(on_terminal("-C", tmp_path, "ls", "--limit", "1", columns=200).out).splitlines()

    assert told[0].split()[4:] == ["data", "layers", "lr", "model.name", "text"]
    assert told[1].split()[-5:-1] == ["iris", "[64,64]", "0.1", "resnet"]


def test_a_pipe_gets_the_params_as_they_were_recorded(tmp_path: Path, spawn: Call) -> None:
    many(tmp_path)

    assert [json.loads(row[5])["lr"] for row in spawn("-C", tmp_path, "ls").rows] == [0.1, 0.1, 0.01, 0.01]


@given(
    names=st.lists(st.text("abcé", min_size=1, max_size=30), max_size=6, unique=True),
    cells=st.lists(st.lists(st.text("01日", max_size=30), min_size=6, max_size=6), min_size=1, max_size=3),
    width=st.integers(20, 120),
)
def test_columns_fit_the_width_and_lose_no_value(
    names: list[str], cells: list[list[str]], width: int
) -> None:
    first = Columns(["run"], [["12345678"] for _ in cells])
    others = Columns(names, [row[: len(names)] for row in cells])
    got = fit_columns(first, others, width)

    kept = [name for name in got.headings[1:] if name in names]
    rest = [name for name in names if name not in kept]
    assert kept == [name for name in names if name in kept]
    assert len(got.headings) == 1 + len(kept) + bool(rest)
    for row, all_of_it in zip(got.rows, others.rows, strict=True):
        told = dict(zip(names, all_of_it, strict=True))
        assert list(row[1 : 1 + len(kept)]) == [told[name] for name in kept]
        if rest:
            assert row[-1] == " ".join(f"{name}={told[name]}" for name in rest if told[name])
    columns = list(zip(got.headings, *got.rows, strict=True))[: 1 + len(kept)]
    assert sum(max(map(width_of, column)) + 2 for column in columns) - 2 <= width


def test_an_empty_answer_is_a_word(store: Path, on_terminal: Call) -> None:
    assert on_terminal("-C", store, "ls", "--identifier", "nobody").out == "no runs\n"


def test_show_is_readable(store: Path, on_terminal: Call) -> None:
    lines = seen(on_terminal("-C", store, "show", f"train/{TENTH}").out).splitlines()

    assert lines[0] == f"run         train/{TENTH}"
    assert lines[1] == "status      done"
    assert re.fullmatch(r"created     \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((now|\d+ s ago)\)", lines[3])
    assert 'params      "lr":0.1' in lines
    assert f"file        model.pt  {TENTH}/train_model.pt  7 B" in lines


def test_params_end_in_a_line_feed_on_a_terminal(store: Path, on_terminal: Call) -> None:
    assert on_terminal("-C", store, "params", ONE).out == '{"lr":1}\n'


def test_json_on_a_terminal_is_indented(store: Path, on_terminal: Call, call: Call) -> None:
    told = on_terminal("-C", store, "ls", "--json").out

    assert told.startswith("[\n  {\n")
    assert json.loads(told) == json.loads(call("-C", store, "ls", "--json").out)


@pytest.mark.unchecked_store(reason="altered on purpose")
def test_verify_tells_each_finding_with_its_cure_and_a_summary(tmp_path: Path, on_terminal: Call) -> None:
    fill(tmp_path)
    (tmp_path / TENTH / "train_model.pt").write_bytes(b"weighty")
    told = on_terminal("-C", tmp_path, "verify", "--full")
    lines = seen(told.out).splitlines()

    assert told.code == 1
    assert "\x1b[31mdamage" in told.out
    assert lines[0] == f"damage file-altered {TENTH}/train_model.pt"
    assert lines[1].startswith("    ")
    assert lines[-1].startswith("full check of ")
    assert lines[-1].endswith(": 1 damage")


def test_rebuild_is_told_in_a_sentence(store: Path, on_terminal: Call) -> None:
    assert on_terminal("-C", store, "rebuild").out == "6 runs: 0 manifests written, 5 kept, and the index\n"


def test_a_killed_run_is_told_of(tmp_path: Path, on_terminal: Call, spawn: Call) -> None:
    code = (
        "import os, signal, sys, tracker; tracker.Project(sys.argv[1]).session('train', {'lr': 1}).start(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert "lost" in on_terminal("-C", tmp_path, "ls").out
    assert spawn("-C", tmp_path, "ls").rows[0][3] == "lost"
    assert len(spawn("-C", tmp_path, "ls", "--status", "lost").rows) == 1
    assert spawn("-C", tmp_path, "ls", "--status", "running").rows == []
    assert "status\tlost" in spawn("-C", tmp_path, "show", "@latest").out


# The bar


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_bar_is_silent_for_a_second_and_leaves_nothing_behind() -> None:
    err, clock = io.StringIO(), Clock()
    with Bar(err, is_on=True, clock=clock) as bar:
        for tenths in range(10):
            clock.now = tenths / 10
            bar("files", tenths, 40)
        assert err.getvalue() == ""
        for tenths in range(10, 40):
            clock.now = tenths / 10
            bar("files", tenths, 40)

    shown = err.getvalue().split("\r")
    assert "files: 25 %" in shown
    assert shown[-2:] == [" " * len("files: 97 %"), ""]


def test_the_bar_is_silent_off_a_terminal() -> None:
    err, clock = io.StringIO(), Clock()
    with Bar(err, is_on=False, clock=clock) as bar:
        for clock.now in range(10):
            bar("files", 1, 2)

    assert err.getvalue() == ""
