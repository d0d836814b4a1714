"""`todo`: what is left to run of a sweep file, in each form, and nothing is made by asking."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli_sessions import Call, command

from tracker import Project
from tracker.cli.todo import ranges_of
from tracker.grids import grid

GRID = {"lr": [0.1, 2.0, 3.0, 4.0], "seed": [1, 2]}
CONFIGS = grid(GRID)
LEFT = [0, 1, 2, 3, 5, 7]
FAILED = 6
DONE = 4


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The store of a sweep of eight: one is done, one has failed, one was interrupted."""
    project = Project(tmp_path / "results")
    project.session("train", CONFIGS[DONE]).done()
    project.session("train", CONFIGS[FAILED]).start().error()
    project.session("train", CONFIGS[7]).start().interrupt("SIGTERM")
    project.ledger.close()
    return tmp_path / "results"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return written(tmp_path, {"identifier": "train", "grid": GRID})


def written(folder: Path, tree: Any, name: str = "sweep.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(tree))
    return path


def test_a_line_each_of_what_is_left(results: Path, sweep: Path, call: Call, reference: ModuleType) -> None:
    told = call("-C", results, "todo", sweep)
    texts = {place: json.dumps(CONFIGS[place], separators=(",", ":")) for place in LEFT}

    assert (told.code, told.err) == (0, "")
    assert told.rows == [
        [str(place), reference.uid(text), "interrupted" if place == 7 else "pending", text]
        for place, text in texts.items()
    ]


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["--indices"], "0-3,5,7\n"),
        (["--count"], "6\n"),
        (["--count", "--retry", "none"], "5\n"),
        (["--indices", "--retry", "none"], "0-3,5\n"),
        (["--indices", "--retry", "failed"], "0-3,5-7\n"),
        (["--indices", "--json"], "[0, 1, 2, 3, 5, 7]\n"),
        (["--count", "--json"], "6\n"),
        (["--indices", "--identifier", "eval"], "0-7\n"),
        (["--indices", "--namespace", "below"], "0-7\n"),
    ],
    ids=" ".join,
)
def test_forms(arguments: list[str], out: str, results: Path, sweep: Path, call: Call) -> None:
    told = call("-C", results, "todo", sweep, *arguments)

    assert (told.code, told.out, told.err) == (0, out, "")


def test_params_are_json_lines(results: Path, sweep: Path, call: Call) -> None:
    lines = call("-C", results, "todo", sweep, "--params").out.splitlines()
    whole = json.loads(call("-C", results, "todo", sweep, "--params", "--json").out)

    assert [json.loads(line) for line in lines] == whole == [CONFIGS[place] for place in LEFT]


def test_json_names_the_same_as_the_lines(results: Path, sweep: Path, call: Call) -> None:
    rows = call("-C", results, "todo", sweep).rows
    told = json.loads(call("-C", results, "todo", sweep, "--json").out)

    assert [list(one) for one in told] == [["index", "uid", "status", "params"]] * 6
    assert [[str(one["index"]), one["uid"], one["status"]] for one in told] == [row[:3] for row in rows]
    assert [one["params"] for one in told] == [json.loads(row[3]) for row in rows]


def test_nothing_left_is_no_line_and_exit_code_0(results: Path, tmp_path: Path, call: Call) -> None:
    file = written(tmp_path, [CONFIGS[DONE]])
    for form in ([], ["--indices"], ["--params"]):
        told = call("-C", results, "todo", file, "--identifier", "train", *form)
        assert (told.code, told.out, told.err) == (0, "", "")
    assert call("-C", results, "todo", file, "--identifier", "train", "--count").out == "0\n"


def test_a_run_that_somebody_executes_is_not_left_and_a_lost_one_is(
    results: Path, sweep: Path, call: Call
) -> None:
    code = "; ".join(
        [
            "import sys, tracker",
            f"tracker.Project({str(results)!r}).session('train', {CONFIGS[0]!r}).start()",
            "print('ready', flush=True)",
            "sys.stdin.read()",
        ]
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert call("-C", results, "todo", sweep, "--indices").out == "1-3,5,7\n"
        process.kill()
    told = call("-C", results, "todo", sweep)

    assert told.rows[0][0] == "0"
    assert told.rows[0][2] == "lost"
    assert call("-C", results, "todo", sweep, "--indices", "--retry", "none").out == "1-3,5\n"


def test_the_namespace_of_the_file_counts(results: Path, tmp_path: Path, call: Call) -> None:
    file = written(tmp_path, {"identifier": "train", "namespace": "a/b", "configs": CONFIGS})
    assert call("-C", results, "todo", file, "--count").out == "8\n"
    project = Project(results, "a/b")
    project.session("train", CONFIGS[0]).done()
    project.ledger.close()

    assert call("-C", results, "todo", file, "--count").out == "7\n"
    assert call("-C", results, "todo", file, "--count", "--namespace", ".").out == "6\n"


def test_a_sweep_that_was_not_begun_is_all_left_and_nothing_is_made(
    sweep: Path, tmp_path: Path, call: Call
) -> None:
    told = call("-C", tmp_path / "new", "todo", sweep, "--indices")

    assert (told.code, told.out) == (0, "0-7\n")
    assert told.err == f"tracker: warning: there is no store in {tmp_path / 'new'} yet: all is left\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_folder_within_a_store_is_no_new_store(results: Path, sweep: Path, call: Call) -> None:
    told = call("-C", results / "below", "todo", sweep)

    assert (told.code, told.out) == (2, "")
    assert told.err.endswith(f": -C {results}\n")


def test_asking_writes_nothing(results: Path, sweep: Path, spawn: Call) -> None:
    def listing() -> list[tuple[str, int]]:
        return [(str(path), path.stat().st_mtime_ns) for path in sorted(results.rglob("*"))]

    before = listing()
    assert spawn("-C", results, "todo", sweep).code == 0
    assert listing() == before


def test_standard_input_is_a_file(results: Path) -> None:
    data = json.dumps({"identifier": "train", "grid": GRID}).encode()
    arguments = command("-C", results, "todo", "-", "--indices")
    told = subprocess.run(arguments, input=data, capture_output=True, check=True)

    assert told.stdout == b"0-3,5,7\n"


def test_yaml_is_a_sweep_file_too(results: Path, tmp_path: Path, call: Call) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "sweep.yaml"
    path.write_text("identifier: train\ngrid:\n  lr: [0.1, 2.0, 3.0, 4.0]\n  seed: [1, 2]\n")

    assert call("-C", results, "todo", path, "--indices").out == "0-3,5,7\n"


def test_yaml_without_its_reader_is_one_line(results: Path, tmp_path: Path, spawn: Call) -> None:
    blocked = tmp_path / "blocked" / "yaml"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('blocked for a test')\n")
    path = tmp_path / "sweep.yaml"
    path.write_text("[]")
    told = spawn("-C", results, "todo", path, env={**os.environ, "PYTHONPATH": str(blocked.parent)})

    assert (told.code, told.out) == (2, "")
    assert told.err == (
        f"tracker: error: {path} is YAML, and PyYAML is not installed; "
        "pip install 'tracker-store[yaml]', or write it as JSON\n"
    )


WRONG = [
    ("nothing.json", None, "nothing.json: No such file or directory; give a file of JSON or YAML"),
    (".", None, ".: Is a directory; give a file of JSON or YAML"),
    ("s.json", [{"a": 1}], "s.json does not say which kind of run it is; give --identifier, or write"),
    ("s.json", {"identifier": "a/b", "configs": [{"a": 1}]}, "identifier 'a/b': "),
    ("s.json", {"identifier": "t", "namespace": "../x", "configs": []}, "namespace '../x'"),
    ("s.json", {"identifier": "t", "grid": {"a": 1}}, "s.json: grid: a: give a list of values, not int 1"),
    (
        "s.json",
        {"identifier": "t", "configs": [{}, {"@repeat": "x"}]},
        "s.json: configs[1]: the key '@repeat' is reserved",
    ),
]


@pytest.mark.parametrize(("name", "tree", "text"), WRONG, ids=[text[:30] for *_, text in WRONG])
def test_a_wrong_question_is_one_line_and_exit_code_2(
    name: str, tree: Any, text: str, results: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    if tree is not None:
        written(Path(), tree, name)
    told = call("-C", results, "todo", name)

    assert (told.code, told.out) == (2, "")
    assert re.fullmatch(r"tracker: error: [^\n]+\n", told.err)
    assert text in told.err


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([3, 4], "3-4"),
        ([0, 1, 2, 3, 4, 7, 9, 10, 11, 12], "0-4,7,9-12"),
        ([0, 2], "0,2"),
    ],
)
def test_numbers_as_slurm_writes_an_array(numbers: list[int], text: str) -> None:
    assert ranges_of(numbers) == text
    assert expanded(text) == numbers


def expanded(text: str) -> list[int]:
    """What Slurm makes of it."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return [n for first, _, last in ends for n in range(int(first), int(last or first) + 1)]


def test_a_terminal_gets_a_table(results: Path, sweep: Path, on_terminal: Call) -> None:
    shown = on_terminal("-C", results, "todo", sweep, NO_COLOR="1").out.splitlines()

    assert shown[0].split() == ["index", "run", "status", "params"]
    assert shown[6].split()[0] == "7"
    assert len(shown) == 7
