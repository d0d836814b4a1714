"""Commands that ask for runs: held against the reference's state, jq, sqlite3 and the standard library."""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cli_sessions import ONE, TENTH, Call, remove
from reference import read_store

from tracker import Durability, Project


def runs_of(store: Path) -> list[dict[str, Any]]:
    found = [run for run in read_store(store)["runs"] if not run["removed"]]
    assert found
    return found


def lr(run: dict[str, Any]) -> float:
    value = json.loads(run["params"])["lr"]
    assert isinstance(value, int | float)
    return value


def test_ls_takes_a_query_a_sort_and_a_limit(store: Path, call: Call) -> None:
    every = call("-C", store, "ls").rows
    told = call("-C", store, "ls", "lr >= 1", "--sort=-lr", "--limit", "2")
    want = sorted((run for run in runs_of(store) if lr(run) >= 1), key=lr, reverse=True)[:2]

    assert [row[0] for row in told.rows] == [run["uid"] for run in want]
    assert all(row in every for row in told.rows)


def test_ls_json_with_a_query_is_of_the_reference(store: Path, call: Call) -> None:
    told = json.loads(call("-C", store, "ls", "lr < 1 and status == 'done'", "--json").out)

    assert told == [run for run in runs_of(store) if lr(run) < 1 and run["status"] == "done"]


def test_ls_shows_columns(store: Path, call: Call) -> None:
    told = call("-C", store, "ls", "--columns", "lr,status,params['no,such']")
    objects = json.loads(call("-C", store, "ls", "--columns", "uid, lr", "--json").out)
    every = call("-C", store, "ls", "--all-columns").rows

    assert [row[:2] for row in told.rows] == [[json.dumps(lr(r)), r["status"]] for r in runs_of(store)]
    assert objects == [{"uid": run["uid"], "lr": lr(run)} for run in runs_of(store)]
    assert [[row[0], row[4]] for row in every] == [[r["uid"], json.dumps(lr(r))] for r in runs_of(store)]


@pytest.mark.parametrize("command", [["ls"], ["find"], ["schema"], ["groupby", "lr", "--where"]])
def test_an_unknown_key_is_told_with_the_likely_one(command: list[str], store: Path, call: Call) -> None:
    told = call("-C", store, *command, "lrr < 1")

    assert (told.code, told.out) == (0, "")
    assert told.err == "no run has the key 'lrr' (column 1); did you mean 'lr'?\n"
    assert call("-C", store, *command, "lr > 99").err == ""


def test_what_is_known_of_every_run_is_told_from_params_of_its_name(store: Path, call: Call) -> None:
    Project(store).session("train", {"name": "resnet"}).done()

    told = call("-C", store, "ls", "name == 'resnet' or comit == 'c0ffee' or status == 'lost'")
    assert told.out == ""
    assert told.err.splitlines() == [
        "'name' (column 1) is no param; did you mean 'params.name'?",
        "no run has the key 'comit' (column 21); did you mean 'commit'?",
    ]
    assert len(call("-C", store, "ls", "params.name == 'resnet'").rows) == 1


def test_a_query_that_cannot_be_read_has_a_caret_below_its_place(store: Path, call: Call) -> None:
    told = call("-C", store, "ls", "ü == 1 and lr = 0.1")
    first, query, caret = told.err.splitlines()

    assert (told.code, told.out) == (2, "")
    assert "column 15: expected '==' to compare" in first
    assert query == "  ü == 1 and lr = 0.1"
    assert query[caret.index("^")] == "="
    assert query[: caret.index("^")].endswith("lr ")


def test_find_gives_folders_and_for_prefix_runs_their_params(store: Path, call: Call, spawn: Call) -> None:
    told = call("-C", store, "find", f"uid in ('{ONE}', '{TENTH}') and identifier == 'train'")
    paths = [Path(line) for line in told.out.splitlines()]
    ended = spawn("-C", store, "find", "-0").out

    assert [path.name for path in paths] == [TENTH, f"{ONE}_params.json"]
    assert all(path.exists() for path in paths)
    assert ended.split("\0")[:-1] == call("-C", store, "find").out.splitlines()
    counted = subprocess.run(["xargs", "-0", "-n1", "echo"], input=ended, capture_output=True, text=True)
    assert len(counted.stdout.splitlines()) == len(runs_of(store))


def test_diff_tells_what_differs_alone(store: Path, call: Call) -> None:
    first, second = (next(r for r in runs_of(store) if lr(r) == value) for value in (0.1, 3.0))
    told = json.loads(call("-C", store, "diff", first["ref"], second["uid"], "--json").out)
    files = {file[0]: file[3] for file in first["attempts"][0]["files"]}

    assert told["runs"] == [first["ref"], second["ref"]]
    got = {(one["what"], one["name"]): one["values"] for one in told["differences"]}
    assert got == {("param", "lr"): [0.1, 3.0]} | {("file", n): [d, None] for n, d in files.items()}
    assert files


def test_schema_and_groupby_count_runs(store: Path, call: Call) -> None:
    schema = json.loads(call("-C", store, "schema", "--json").out)
    values = [lr(run) for run in runs_of(store)]
    groups = call("-C", store, "groupby", "identifier", "--max", "lr", "--min", "lr").rows

    assert [(one["key"], one["runs"], one["min"], one["max"]) for one in schema] == [
        ("lr", len(values), min(values), max(values))
    ]
    assert groups == [["eval", "1", "0.1", "0.1"], ["train", "5", "0.1", "3.0"]]


def test_exports_are_read_back(store: Path, call: Call, tmp_path: Path) -> None:
    uids = [run["uid"] for run in runs_of(store)]
    for ending in ("csv", "jsonl"):
        assert call("-C", store, "export", "--to", tmp_path / f"x.{ending}").code == 0
    with open(tmp_path / "x.csv", newline="") as file:
        assert [row["uid"] for row in csv.DictReader(file)] == uids
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(line["uid"], line["params"]["lr"]) for line in lines] == [
        (run["uid"], lr(run)) for run in runs_of(store)
    ]
    assert call("-C", store, "export", "--to", tmp_path / "x.doc").code == 2
    polars = pytest.importorskip("polars")
    pytest.importorskip("arro3.io")
    assert call("-C", store, "export", "lr < 1", "--to", tmp_path / "x.parquet").code == 0
    assert polars.read_parquet(tmp_path / "x.parquet")["lr"].to_list() == [0.1, 0.1, 0.1]
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "x.jsonl", "x.parquet", "results"}


def test_sql_answers_as_sqlite_over_the_reference(store: Path, call: Call) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("create table seen(uid, status, params)")
    rows = [(run["uid"], run["status"], run["params"]) for run in runs_of(store)]
    database.executemany("insert into seen values (?, ?, ?)", rows)
    query = "select status, count(*), sum(json_extract(params, '$.lr')) from seen group by status order by 1"
    want = [list(map(str, row)) for row in database.execute(query)]
    database.close()

    assert call("-C", store, "sql", query).rows == want
    assert json.loads(call("-C", store, "sql", "select count(*) as n from seen", "--json").out) == [{"n": 6}]


REFUSED = [
    "insert into seen(uid) values ('x')", "delete from main.runs", "update main.runs set uid = 'x'",
    "drop table main.runs", "create table x(y)", "attach database '/tmp/x.db' as x", "pragma user_version",
    "pragma user_version = 7", "select load_extension('x')", "vacuum into '/tmp/x.db'", "begin",
    "select 1; delete from main.runs", "select nothing from seen", "",
    "with x as (select 1) delete from main.runs",
]  # fmt: skip


@pytest.mark.parametrize("query", REFUSED)
def test_sql_that_would_write_is_refused_in_one_line(query: str, store: Path, call: Call) -> None:
    before = call("-C", store, "ls").out
    told = call("-C", store, "sql", query)

    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("tracker: error: sql: ")
    assert told.err.count("\n") == 1
    assert call("-C", store, "ls").out == before
    assert not Path("/tmp/x.db").exists()


def links(folder: Path) -> dict[str, Path]:
    found = [path for path in folder.rglob("*") if path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.resolve() for path in found}


def test_a_view_links_each_run_below_its_values(store: Path, call: Call, tmp_path: Path) -> None:
    view = tmp_path / "by" / "lr"
    assert call("-C", store, "view", view, "--by", "lr,status").code == 0
    first = links(view)
    project = Project(store, durability=Durability.OFF)
    with project.session("train", {"lr": "a/b: c"}) as run:
        run.path("x").write_text("")
    project.ledger.close()
    told = call("-C", store, "view", view, "--by", "lr,status", "--json")

    assert len(first) == len(runs_of(store)) - 1
    assert first[f"lr=0.1/status=done/train-{TENTH[:8]}"] == store / TENTH
    assert first[f"lr=1/status=done/train-{ONE[:8]}.params.json"] == store / "grid" / f"{ONE}_params.json"
    assert not any(os.path.isabs(os.readlink(view / name)) for name in first)
    assert json.loads(told.out) == {"path": str(view), "links": len(first) + 1, "added": 1, "removed": 0}
    assert (links(view).keys() - first.keys()) == {f"lr=a_b_ c/status=done/train-{run.uid[:8]}"}
    call("-C", store, "view", view, "--by", "status", "lr < 0.2")
    assert {name.split("/")[0] for name in links(view)} == {"status=done"}


def test_a_folder_that_is_no_view_is_left_alone(store: Path, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    for place in (folder, store, store / ".tracker" / "v", folder / "thesis.tex"):
        told = call("-C", store, "view", place, "--by", "lr")
        assert (told.code, told.out) == (2, "")
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_status_counts_and_tells_who_runs(store: Path, call: Call) -> None:
    told = json.loads(call("-C", store, "status", "--json").out)
    counted: dict[str, int] = {}
    for run in runs_of(store):
        counted[run["status"]] = counted.get(run["status"], 0) + 1
    running = [run["ref"] for run in runs_of(store) if run["status"] == "running"]

    assert told["status"] == counted
    assert [one["ref"] for one in told["running"]] == running
    assert told["runs"] == len(runs_of(store))
    du = subprocess.run(["du", "-sB1", "--apparent-size", store], capture_output=True, text=True, check=True)
    assert told["store_bytes"] > 0
    assert told["files_bytes"] + told["store_bytes"] <= 4 * int(du.stdout.split()[0]) + 10**6
    assert call("-C", store, "status").rows[1] == ["runs", "6"]


def test_several_roots_are_asked_as_one(store: Path, call: Call, tmp_path: Path) -> None:
    other = tmp_path / "other"
    project = Project(other, durability=Durability.OFF)
    project.session("train", {"lr": 0.1}).done()
    project.session("train", {"lr": 9}).done()
    project.ledger.close()
    roots = ["--root", str(store), "--root", str(other)]
    merged = [(str(root), run) for root in (store, other) for run in runs_of(root)]
    merged.sort(key=lambda one: one[1]["first"])
    told = call("ls", *roots)

    assert [(row[0], row[1]) for row in told.rows] == [(root, run["uid"]) for root, run in merged]
    assert json.loads(call("ls", *roots, "--json").out) == [{"root": root, **run} for root, run in merged]
    ordered = sorted(merged, key=lambda one: -lr(one[1]))
    assert [row[1] for row in call("ls", *roots, "--sort=-lr", "--limit", "3").rows] == [
        run["uid"] for _, run in ordered[:3]
    ]
    assert len(call("find", *roots, "lr == 0.1").rows) == 4
    assert call("groupby", "lr", *roots).rows[-1] == ["9", "1"]
    assert json.loads(call("schema", *roots, "--json").out)[0]["runs"] == len(merged)


def test_a_store_is_told_as_it_was(store: Path, call: Call) -> None:
    entries = json.loads(call("-C", store, "log", "--json").out)
    middle = entries[len(entries) // 2]["at"][0] >> 16
    remove(store, f"eval/{TENTH}")
    at = f"{middle / 1000:.3f}"
    known = {entry["ref"] for entry in entries if entry["at"][0] >> 16 <= middle}
    told = json.loads(call("-C", store, "ls", "--at", at, "--json").out)
    logged = json.loads(call("-C", store, "log", "--at", at, "--json").out)

    assert {run["ref"] for run in told} == known
    assert logged == [entry for entry in entries if entry["at"][0] >> 16 <= middle]
    assert call("-C", store, "ls", "--at", "2001-01-01").out == ""
    assert len(call("-C", store, "ls", "--at", "2999-01-01").rows) == 5
    assert call("-C", store, "ls", "--at", "soon").code == 2


def test_the_columns_of_seen_are_those_that_are_documented(store: Path, call: Call) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.partition("## 10 SQL")[2], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    told = json.loads(call("-C", store, "sql", "select * from seen", "--json").out)

    assert len(told) == len(runs_of(store))
    assert set(told[0]) == documented
